//! When to look into the memory of the traced processes.

use std::time::Duration;

use tokio::time::Instant;

/// How soon after records were lost the runtime's own list is compared with what the probes have seen.
const AFTER_LOSS: Duration = Duration::from_secs(3);

/// A window that is not longer has one look between the first and the last.
const SHORT: Duration = Duration::from_secs(60);
/// Looks take at most this part of the time,
const BUDGET: u32 = 100;
/// or, in a short window, the one between the first and the last of the time since.
const BUDGET_ONCE: u32 = 10;

/// When the runtime's own list is compared with what the probes have seen. Soon after the start, too: what has not moved
/// between two looks is evidence, and a leak may begin after the first.
pub(super) struct Rhythm {
    window: Option<Duration>,
    done: u32,
    last: Instant,
    urgent: bool,
    /// When to look next.
    pub(super) next: Instant,
}

impl Rhythm {
    /// For a window that begins now.
    pub(super) fn new(window: Option<Duration>) -> Rhythm {
        let now = Instant::now();
        let mut rhythm = Rhythm { window, done: 0, last: now, urgent: false, next: now };
        rhythm.next += rhythm.gap();
        rhythm
    }

    fn gap(&self) -> Duration {
        match (self.done, self.window) {
            (0, Some(window)) if window <= SHORT => window / 3,
            (0, _) => Duration::from_secs(5),
            (1, window) if window.is_none_or(|window| window > SHORT) => Duration::from_secs(10),
            _ => Duration::from_secs(60),
        }
    }

    /// Whether to look now that it is time, where the last round took so long. If not, that is put off.
    pub(super) fn is_due(&mut self, took: Duration) -> bool {
        let now = Instant::now();
        let once = self.done == 0 && self.window.is_some_and(|window| window <= SHORT);
        let affordable = self.last + took * if once { BUDGET_ONCE } else { BUDGET };
        if now < affordable && !self.urgent {
            self.next = affordable;
            return false;
        }
        self.urgent = false;
        self.done += 1;
        self.last = now;
        self.next = now + self.gap();
        true
    }

    /// Records were lost: what they would have said is in the process's memory, whatever it costs to look.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
        self.next = Instant::now() + AFTER_LOSS;
    }
}
