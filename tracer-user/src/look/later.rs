//! Who came and stayed in the later part of the time that a process is looked at.
//!
//! Whoever looks at a process from its start on sees nobody leave of those that were there at first, since nobody was. So
//! what lives long but ends would seem to grow, until as many end as begin. What is judged is therefore the time from a
//! later begin on, which is between a quarter and the half of the whole.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::sightings::{Sightings, Tally};
use crate::inspect::{SiteKey, Snapshot};

/// When the first later begin is, after the first look.
const FIRST: Duration = Duration::from_millis(500);

/// The goroutines of one process, from two later begins on.
pub(super) struct Later {
    first: Instant,
    last: Instant,
    /// When the next begin is, after the first look.
    next: Duration,
    /// The earlier of two begins, by which is judged, and the later one, which takes its place at the next.
    begins: [(Instant, Sightings); 2],
}

impl Later {
    /// For a process that is looked at for the first time.
    pub fn new(now: Instant) -> Later {
        let begin = || (now, Sightings::default());
        Later { first: now, last: now, next: FIRST, begins: [begin(), begin()] }
    }

    /// Takes in what a further look has found.
    pub fn add(&mut self, snapshot: &Snapshot, now: Instant) {
        self.last = now;
        if now.duration_since(self.first) >= self.next {
            self.next = now.duration_since(self.first) * 2;
            self.begins.swap(0, 1);
            self.begins[1] = (now, Sightings::default());
        }
        self.begins.iter_mut().for_each(|(_, sightings)| sightings.add(snapshot, now));
    }

    /// The time from the begin by which is judged to the last look or glance.
    pub fn span(&self) -> Duration {
        self.last.duration_since(self.begins[0].0)
    }

    /// What the looks since that begin tell of each site.
    pub fn tallies(&self) -> HashMap<SiteKey, Tally> {
        self.begins[0].1.tallies()
    }
}
