//! The facts about a goroutine that are needed to find out what it waits on, and which locks it holds.

use super::walk::StackExtent;

/// A goroutine that waits on something.
pub(super) struct Waiter {
    /// Its index among the goroutines of the snapshot.
    pub(super) index: usize,
    /// Address of its `runtime.g`.
    pub(super) g: u64,
    /// Address of the first `runtime.sudog` of its list `g.waiting`; 0 if the list is empty.
    pub(super) sudog: u64,
    /// Whether it waits for a `sync.Cond`.
    pub(super) on_cond: bool,
    /// The part of its stack that is in use: the stack pointer, and the address where the stack ends.
    pub(super) used_stack: StackExtent,
}

/// A goroutine that may hold a lock.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    /// Its index among the goroutines of the snapshot.
    pub(super) index: u32,
    /// Its stack pointer.
    pub(super) sp: u64,
    /// Where its stack ends.
    pub(super) end: u64,
    /// `g._defer`: the record of the call that it has deferred last; 0 if there is none.
    pub(super) deferred: u64,
}
