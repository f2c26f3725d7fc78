//! The finding that goroutines wait in a queue that does not move.

use std::fmt;

use super::{Finding, Found, Standing, Wait, cause};
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
pub(super) fn may_be_stuck(standing: &Standing) -> Option<Wanting> {
    let is_short = standing.window_ns < TOLD_BY_NS;
    is_short.then(|| wants(standing, standing.window_ns / 4)).flatten()
}

/// What goroutines want that have not moved for at least this long, if they are many.
fn wants(standing: &Standing, least_ns: u64) -> Option<Wanting> {
    let unmoved = |wait: &Wait| match wait.unmoved_ns >= Some(least_ns) {
        true => wait.unmoved.unwrap_or(0),
        false => 0,
    };
    Some(Wanting::of(standing, unmoved)).filter(|wanting| wanting.all() >= MANY)
}

/// What goroutines want at this moment that have work and cannot go on; `None` if there is no such goroutine.
pub(super) fn wanting(standing: &Standing) -> Option<Wanting> {
    Some(Wanting::of(standing, |wait| wait.count)).filter(|wanting| wanting.all() > 0)
}

/// How many goroutines have work and cannot go on.
pub(super) struct Wanting {
    to_send: u64,
    locks: u64,
}

impl Wanting {
    fn of(standing: &Standing, number: impl Fn(&Wait) -> u64) -> Wanting {
        let mut wanting = Wanting { to_send: 0, locks: 0 };
        for wait in standing.waits {
            match cause::of_wait(wait, standing.code) {
                Cause::ChanSend => wanting.to_send += number(wait),
                Cause::Mutex => wanting.locks += number(wait),
                _ => {}
            }
        }
        wanting
    }

    pub(super) fn all(&self) -> u64 {
        self.to_send + self.locks
    }
}

impl fmt::Display for Wanting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to_send, locks) = (count(self.to_send), count(self.locks));
        match (self.to_send, self.locks) {
            (_, 0) => write!(f, "{to_send} want to send"),
            (0, _) => write!(f, "{locks} want a lock"),
            _ => write!(f, "{to_send} want to send and {locks} want a lock"),
        }
    }
}
