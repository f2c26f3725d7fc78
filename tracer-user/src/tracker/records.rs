//! What one record, or one entry of the runtime's list, says about a goroutine.

use super::ids::{LineageId, StackId};
use super::lineage::LineageKey;

/// What a record says about a goroutine at its creation.
#[derive(Clone, Copy)]
pub(super) struct Birth {
    pub time_ns: u64,
    /// How many records had been lost before this one, modulo 2³².
    pub losses: u32,
    pub g: u64,
    pub goid: u64,
    pub parent: u64,
    pub gopc: u64,
    pub startpc: u64,
    pub stack: StackId,
}

impl Birth {
    pub fn key(&self, parent: Option<LineageId>) -> LineageKey {
        LineageKey { parent, stack: self.stack, gopc: self.gopc, startpc: self.startpc }
    }
}

/// What a record says about a goroutine at its end.
#[derive(Clone, Copy)]
pub(super) struct Exit {
    pub time_ns: u64,
    /// How many records had been lost before this one, modulo 2³².
    pub losses: u32,
    pub g: u64,
}

/// A goroutine on the runtime's list (`runtime.allgs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Address of its `runtime.g`.
    pub g: u64,
    /// Its id.
    pub goid: u64,
    /// The id of its creator; 0 where the runtime does not say.
    pub parent: u64,
    /// Return address of the `go` statement in the memory of the process.
    pub gopc: u64,
    /// Entry of its function in the memory of the process.
    pub startpc: u64,
}

impl Existing {
    pub(super) fn key(&self, parent: Option<LineageId>) -> LineageKey {
        LineageKey { parent, stack: StackId::NONE, gopc: self.gopc, startpc: self.startpc }
    }
}
