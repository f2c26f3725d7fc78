//! What single goroutines were doing, of those that a test may have left behind.

use std::collections::HashMap;

use super::{Look, at_and_callers};
use crate::go::{Binary, Status};
use crate::report;
use crate::verdict::Parked;

/// Most goroutines of a look of which this is kept, some hundred bytes each.
const MOST: usize = 10_000;

impl Look {
    /// What these goroutines were doing, as far as the look has found them.
    pub fn parked(&self, binary: &Binary, goids: impl Iterator<Item = u64>) -> HashMap<u64, Parked> {
        let snapshot = &self.snapshot;
        let parked = |goid: u64| {
            let goroutine = &snapshot.goroutines[snapshot.index_of(goid)?];
            let waiting = report::Waiting {
                reason: goroutine.state().to_owned(),
                count: 1,
                at: goroutine.stack.map(|stack| at_and_callers(snapshot, stack, binary)).unwrap_or_default(),
                goids: vec![goid],
                ..report::Waiting::default()
            };
            let is_blocked = goroutine.waits() || goroutine.status == Status::Syscall;
            Some((goid, Parked { is_blocked, waiting }))
        };
        goids.take(MOST).filter_map(parked).collect()
    }
}
