//! The same goroutine blocked at the same place, scan after scan.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::inspect::{Blocked, Snapshot};

/// Where each goroutine of a process was last seen to wait, and since when. A few dozen bytes each.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// By goroutine: what it did, in short, and when it was first seen to do so, in ns.
    seen: HashMap<u64, (u64, u64)>,
}

impl Sightings {
    /// Takes a further scan, made at `now_ns`. What has ended or moved is forgotten.
    pub fn update(&mut self, snapshot: &Snapshot, now_ns: u64) {
        let before = std::mem::take(&mut self.seen);
        let waiting = snapshot.goroutines.iter().filter(|goroutine| goroutine.waits());
        self.seen = waiting
            .map(|goroutine| {
                let does = what(snapshot, goroutine);
                let since = before.get(&goroutine.goid).filter(|(did, _)| *did == does).map(|(_, since)| *since);
                (goroutine.goid, (does, since.unwrap_or(now_ns)))
            })
            .collect();
    }

    /// For how many ns, at least, a goroutine has not moved; 0 where it was seen once.
    pub fn still_ns(&self, goid: u64, now_ns: u64) -> u64 {
        self.seen.get(&goid).map_or(0, |(_, since)| now_ns.saturating_sub(*since))
    }
}

/// A fingerprint of wait reason, stack and objects.
fn what(snapshot: &Snapshot, goroutine: &Blocked) -> u64 {
    let mut hasher = DefaultHasher::new();
    goroutine.reason.hash(&mut hasher);
    goroutine.stack.map(|stack| snapshot.stacks.pcs(stack)).hash(&mut hasher);
    for object in snapshot.objects(goroutine) {
        object.address().hash(&mut hasher);
    }
    hasher.finish()
}
