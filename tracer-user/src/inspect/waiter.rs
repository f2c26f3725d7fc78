//! A goroutine that waits on something, as far as it is needed to find out on what.

/// A goroutine that waits on something.
pub(super) struct Waiter {
    /// Its place among the goroutines of the snapshot.
    pub(super) index: usize,
    /// Address of its `runtime.g`.
    pub(super) g: u64,
    /// Address of the first `sudog` of its list; 0 where it does not say.
    pub(super) sudog: u64,
    /// Whether it waits for a `sync.Cond`.
    pub(super) on_cond: bool,
    /// The part of its stack that is in use: from its stack pointer to its end.
    pub(super) used_stack: (u64, u64),
}
