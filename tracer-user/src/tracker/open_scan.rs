//! What must be remembered while a scan is under way, and what its list may turn out to have been wrong about.

use std::collections::{HashMap, HashSet};

use super::ids::LineageId;
use super::records::Exit;

/// What must be remembered from the moment a scan begins until its list is applied.
pub(super) struct OpenScan {
    pub began_ns: u64,
    /// The goids of those that ended.
    pub ended: HashSet<u64>,
    /// The last exit on each g that nobody was known to hold: its time, and as what it was counted.
    pub unknown: HashMap<u64, (u64, Unknown)>,
    limit: usize,
}

impl OpenScan {
    /// Remembers at most `limit` exits; beyond, a goroutine may be taken for living until the next scan.
    pub fn new(began_ns: u64, limit: usize) -> OpenScan {
        OpenScan { began_ns, ended: HashSet::new(), unknown: HashMap::new(), limit }
    }

    /// A goroutine ended.
    pub fn remember_end(&mut self, goid: u64) {
        if self.has_room() {
            self.ended.insert(goid);
        }
    }

    /// An exit on a g that nobody was known to hold. One from before the scan, which only comes now, is of nobody on its
    /// list: probes of exits are in place before those of creations, and the g may have a new holder whose creation nobody
    /// saw.
    pub fn remember_unknown(&mut self, exit: Exit, how: Unknown) {
        if exit.time_ns >= self.began_ns && self.has_room() {
            self.unknown.insert(exit.g, (exit.time_ns, how));
        }
    }

    fn has_room(&self) -> bool {
        self.ended.len() + self.unknown.len() < self.limit
    }
}

/// A goroutine that was listed, and whose end was concluded from an event from before the scan's end.
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

/// What was concluded.
pub(super) enum Fate {
    /// An exit was its own. Else it is one of an unknown goroutine, counted so.
    Ended(Unknown),
    /// Its exit was lost.
    Reconciled,
}

/// What to do about known goroutines that are not on the list.
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
