//! What must be remembered while a scan is under way, and which conclusions from its list may turn out to be wrong.

use std::collections::{HashMap, HashSet};

use super::ids::LineageId;
use super::records::Exit;

/// What must be remembered from the moment a scan begins until its list is applied.
pub(super) struct OpenScan {
    pub began_ns: u64,
    /// The goids of goroutines that ended.
    pub ended: HashSet<u64>,
    /// The last exit on each g that nobody was known to hold, by g: its time, and what it was counted as.
    pub unknown: HashMap<u64, (u64, Unknown)>,
    limit: usize,
}

impl OpenScan {
    /// Remembers at most `limit` exits. Without those beyond, a goroutine may be taken for living until the next scan.
    pub fn new(began_ns: u64, limit: usize) -> OpenScan {
        OpenScan { began_ns, ended: HashSet::new(), unknown: HashMap::new(), limit }
    }

    /// Remembers that a goroutine ended.
    pub fn remember_end(&mut self, goid: u64) {
        if self.has_room() {
            self.ended.insert(goid);
        }
    }

    /// Remembers an exit on a g that nobody was known to hold. One from before the scan, which comes only now, is left
    /// out, since it is of nobody on the list: probes of exits are in place before those of creations, so the g may
    /// have a new holder whose creation nobody saw.
    pub fn remember_unknown(&mut self, exit: Exit, how: Unknown) {
        if exit.time_ns >= self.began_ns && self.has_room() {
            self.unknown.insert(exit.g, (exit.time_ns, how));
        }
    }

    fn has_room(&self) -> bool {
        self.ended.len() + self.unknown.len() < self.limit
    }
}

/// A listed goroutine whose end was concluded from an event from before the end of the scan.
pub(super) struct Early {
    pub lineage: LineageId,
    pub flags: u16,
    pub fate: Fate,
}

/// What a scan knew of a goroutine whose creation record came after all.
pub(super) struct OfScan {
    pub parent_counted: bool,
    /// The lineage of its creator.
    pub creator: Option<LineageId>,
}

/// What was concluded about the end of a goroutine.
pub(super) enum Fate {
    /// An exit was taken for its own. If it was not, the exit is one of an unknown goroutine, and is counted as this.
    Ended(Unknown),
    /// Its exit was taken for lost.
    Reconciled,
}

/// What to do with known goroutines that are not on the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Keep,
    Remove,
}

/// What the exit of a goroutine that is not in the table was counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Untracked,
    Unattributed,
    Unmatched,
}
