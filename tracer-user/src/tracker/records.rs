//! What one record, or one entry of the runtime's list, says of a goroutine.

use super::ids::{LineageId, StackId};
use super::lineage::LineageKey;

/// What is known of a goroutine at birth.
#[derive(Clone, Copy)]
pub(super) struct Birth {
    pub time_ns: u64,
    /// Records lost before this one.
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

/// What is known of a goroutine at its end.
#[derive(Clone, Copy)]
pub(super) struct Exit {
    pub time_ns: u64,
    /// Records lost before this one.
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
    /// Its creator's id; 0 where the runtime does not say.
    pub parent: u64,
    /// Return address of the `go` statement.
    pub gopc: u64,
    /// Entry of its function.
    pub startpc: u64,
}

impl Existing {
    pub(super) fn key(&self, parent: Option<LineageId>) -> LineageKey {
        LineageKey { parent, stack: StackId::NONE, gopc: self.gopc, startpc: self.startpc }
    }
}
