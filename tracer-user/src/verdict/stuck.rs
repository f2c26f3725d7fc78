//! The finding that goroutines wait in a queue that does not move.

use super::{Finding, Found, Standing, cause};
use crate::human::count;
use crate::report::{Cause, EvidenceKind, Level};

/// Fewest goroutines in such a queue that are taken for no coincidence.
const MANY: u64 = 5;
/// How long at least each of them has waited, in ns: a goroutine that is only served late is not stuck.
const LONG_NS: u64 = 15_000_000_000;
/// A window of this length has two looks that far apart, in ns.
const TOLD_BY_NS: u64 = 20_000_000_000;

/// A goroutine that waits to receive may be a worker without work, however long it waits. One that wants to send or
/// wants a lock has work and cannot go on. No program wants its goroutines to stay like that, though a program may be
/// slow. So such goroutines are watched, even if they do not grow in number.
pub(super) struct Stuck;

impl Finding<Standing<'_>> for Stuck {
    fn check(&self, standing: &Standing) -> Option<Found> {
        let wants = wants(standing, LONG_NS)?;
        let text = format!("{wants} and cannot: they have work, unlike workers that wait for it");
        Some(Found::new(Level::Watch, EvidenceKind::Stuck, text))
    }
}

/// What goroutines want in a queue that has not moved for as long as they were watched, if that was too short to tell
/// whether it will.
pub(super) fn may_be_stuck(standing: &Standing) -> Option<String> {
    let is_short = standing.window_ns < TOLD_BY_NS;
    is_short.then(|| wants(standing, standing.window_ns / 4)).flatten()
}

/// What goroutines want that have not moved for at least this long, if they are many.
fn wants(standing: &Standing, least_ns: u64) -> Option<String> {
    let (mut sends, mut locks) = (0, 0);
    for wait in standing.waits.iter().filter(|wait| wait.unmoved_ns >= Some(least_ns)) {
        match cause::of_wait(wait, standing.code) {
            Cause::ChanSend => sends += wait.unmoved.unwrap_or(0),
            Cause::Mutex => locks += wait.unmoved.unwrap_or(0),
            _ => {}
        }
    }
    match (sends, locks) {
        (sends, 0) if sends >= MANY => Some(format!("{} want to send", count(sends))),
        (0, locks) if locks >= MANY => Some(format!("{} want a lock", count(locks))),
        (sends, locks) if sends + locks >= MANY => {
            Some(format!("{} want to send and {} want a lock", count(sends), count(locks)))
        }
        _ => None,
    }
}
