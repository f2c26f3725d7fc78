//! When to look into the memory of the traced processes.

use std::time::Duration;

use tokio::time::Instant;

/// How soon after records were lost the runtime's own list is compared with what the probes have seen.
const AFTER_LOSS: Duration = Duration::from_secs(3);

/// A window of this length or less has one look between the first and the last.
const SHORT: Duration = Duration::from_secs(60);
/// If a round of looks took a second, the next one begins so many seconds after it began, at the earliest. So looks
/// take at most one hundredth of the time.
const BUDGET: u32 = 100;
/// The same factor for the one look between the first and the last of a short window. It is smaller, since that look is
/// all the evidence that there is.
const BUDGET_ONCE: u32 = 10;

/// How often there is a glance between looks, where it costs little. A process that ends has its last look no longer ago
/// than that. Other than looks, glances correct nothing, and nothing is compared with them.
const GLANCES: Duration = Duration::from_millis(300);

/// When the runtime's own list is compared with what the probes have seen. That also happens soon after the start: a
/// goroutine that has not moved between two looks is evidence, and a leak may begin after the first look.
pub(super) struct Rhythm {
    window: Option<Duration>,
    done: u32,
    last: Instant,
    urgent: bool,
    /// When to look next.
    pub(super) next: Instant,
    /// When to glance next.
    pub(super) glance: Instant,
}

impl Rhythm {
    /// The rhythm of a window that begins now, with its length if that is known.
    pub(super) fn new(window: Option<Duration>) -> Rhythm {
        let now = Instant::now();
        let mut rhythm =
            Rhythm { window, done: 0, last: now, urgent: false, next: now, glance: now + GLANCES };
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

    /// Whether to look now. `took` is how long the last round took; if another one would exceed the limit, it is put
    /// off.
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

    /// Takes note of a glance that begins now.
    pub(super) fn glanced(&mut self) {
        self.glance = Instant::now() + GLANCES;
    }

    /// Puts the next glance off, since a round takes so long.
    pub(super) fn put_off_glance(&mut self, took: Duration) {
        self.glance = self.glance.max(Instant::now() + took * BUDGET);
    }

    /// Brings the next look forward, whatever it costs, since records were lost: what they would have said can still be
    /// read from the process's memory.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
        self.next = Instant::now() + AFTER_LOSS;
    }
}
