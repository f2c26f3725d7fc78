//! The fields of one `runtime.g` that a scan needs, and those of them that must be the same before and after its stack
//! was read.

use super::walk::{G, bytes_needed};
use crate::go::{Layout, Status, image};

/// A goroutine, and what is needed to read its stack, its labels and what it waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) goroutine: G,
    /// The address at which it will go on.
    pub(super) pc: u64,
    /// Its stack pointer when it goes on.
    pub(super) sp: u64,
    /// The return address of the function at `pc`, if that function has not put it on the stack. It matters on CPUs
    /// with a link register only.
    pub(super) lr: u64,
    /// `g.waiting`: address of the first `runtime.sudog` of what it waits on; 0 if there is none.
    pub(super) waiting: u64,
    /// `g._defer`: address of the record of the call that it deferred last; 0 if there is none. Calls that are
    /// open-coded have no record.
    pub(super) deferred: u64,
    /// `g.labels`: address of its profiler labels; 0 if it has none.
    pub(super) labels: u64,
    /// Whether it is locked to its thread.
    pub(super) locked: bool,
}

impl Stopped {
    /// Reads the fields from `bytes`, which begin where the `runtime.g` begins. None in the same cases as for
    /// [`G::parse`].
    #[inline(always)]
    pub(super) fn parse(address: u64, bytes: &[u8], layout: &Layout) -> Option<Stopped> {
        let word = |offset: u16| image::u64_at(bytes, offset.into());
        let goroutine = G::parse(address, bytes, layout)?;
        let (sp, pc, lr) = registers(bytes, layout)?;
        let (waiting, labels) = (word(layout.waiting)?, word(layout.labels)?);
        // In all versions `_defer` is the field before `m`.
        let deferred = word(layout.m.checked_sub(8)?)?;
        let locked = word(layout.lockedm)? != 0;
        Some(Stopped { goroutine, pc, sp, lr, waiting, deferred, labels, locked })
    }

    /// Number of bytes from the start of a `runtime.g` to the end of the last field that [`Stopped::parse`] reads.
    pub(super) fn bytes_needed(layout: &Layout) -> usize {
        let Layout { waiting, labels, lockedm, syscallsp, syscallpc, sched_sp, sched_pc, sched_lr, .. } =
            *layout;
        let all = [waiting, labels, lockedm, syscallsp, syscallpc, sched_sp, sched_pc, sched_lr];
        let last = all.into_iter().max();
        bytes_needed(layout).max(usize::from(last.unwrap_or(0)) + 8)
    }

    /// Whether its stack may change while it is read, and its stack pointer is not known.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.goroutine.status, Status::Running | Status::CopyStack)
    }

    /// Whether its stack stays as it is until its status changes.
    pub(super) fn holds_still(&self) -> bool {
        !self.is_moving() && self.goroutine.stack.low <= self.sp && self.sp < self.goroutine.stack.end
    }

    /// The part of it that must be the same before and after its stack was read.
    pub(super) fn identity(&self) -> Identity {
        Identity { goid: self.goroutine.goid, status: self.goroutine.status, sp: self.sp, pc: self.pc }
    }
}

/// What must be the same before and after a stack was read. If anything differs, the stack may be a mixture of two
/// states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    goid: u64,
    status: Status,
    sp: u64,
    pc: u64,
}

impl Identity {
    pub(super) fn parse(bytes: &[u8], layout: &Layout) -> Option<Identity> {
        let status = Status::from_raw(image::u32_at(bytes, layout.atomicstatus.into())?)?;
        let (sp, pc, _) = registers(bytes, layout)?;
        Some(Identity { goid: image::u64_at(bytes, layout.goid.into())?, status, sp, pc })
    }
}

/// Stack pointer, program counter and link register of a `g` that does not run. In a system call they are saved in
/// other fields, which are tried first, as Go's unwinder does: `initAt` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
#[inline(always)]
fn registers(bytes: &[u8], layout: &Layout) -> Option<(u64, u64, u64)> {
    let word = |offset: u16| image::u64_at(bytes, offset.into());
    match word(layout.syscallsp)? {
        0 => Some((word(layout.sched_sp)?, word(layout.sched_pc)?, word(layout.sched_lr)?)),
        sp => Some((sp, word(layout.syscallpc)?, 0)),
    }
}
