//! Goroutines stand in a queue that does not move.

use super::{Finding, Standing, cause};
use crate::human::count;
use crate::report::{Cause, Evidence, EvidenceKind, Level};

/// So many in a queue are no coincidence.
const MANY: u64 = 5;
/// For so long at least, in ns: whoever is served late is not stuck.
const LONG_NS: u64 = 15_000_000_000;

/// Who waits to receive may be a worker without work, however long that takes. Who wants to send, or wants a lock, has work
/// and cannot go on: no program means its goroutines to stand like that, though one may be slow. So they are watched, also
/// where they no longer grow in number.
pub(super) struct Stuck;

impl Finding<Standing<'_>> for Stuck {
    fn check(&self, standing: &Standing) -> Option<(Level, Evidence)> {
        let (mut sends, mut locks) = (0, 0);
        for wait in standing.waits.iter().filter(|wait| wait.unmoved_ns >= Some(LONG_NS)) {
            match cause::of_wait(wait, standing.module) {
                Cause::ChanSend => sends += wait.unmoved.unwrap_or(0),
                Cause::Mutex => locks += wait.unmoved.unwrap_or(0),
                _ => {}
            }
        }
        let wants = match (sends, locks) {
            (sends, 0) if sends >= MANY => format!("{} want to send", count(sends)),
            (0, locks) if locks >= MANY => format!("{} want a lock", count(locks)),
            (sends, locks) if sends + locks >= MANY => {
                format!("{} want to send and {} want a lock", count(sends), count(locks))
            }
            _ => return None,
        };
        let text = format!("{wants} and cannot: they have work, unlike workers that wait for it");
        Some((Level::Watch, Evidence::new(EvidenceKind::Stuck, text)))
    }
}
