//! The fields of one `runtime.g`, and what of them has to be the same before and after its stack was read.

use super::walk::{G, bytes_needed};
use crate::go::{Layout, Status, image};

/// A goroutine, and what is needed to look further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) goroutine: G,
    /// Where it goes on, and its stack pointer then.
    pub(super) pc: u64,
    pub(super) sp: u64,
    /// Where that function returns to, where it has not put that on the stack.
    pub(super) lr: u64,
    /// `g.waiting`
    pub(super) waiting: u64,
    /// `g.labels`
    pub(super) labels: u64,
    pub(super) locked: bool,
}

impl Stopped {
    /// Reads the fields from the start of a `runtime.g`, as [`G::parse`].
    #[inline(always)]
    pub(super) fn parse(address: u64, bytes: &[u8], layout: &Layout) -> Option<Stopped> {
        let word = |offset: u16| image::u64_at(bytes, offset.into());
        let goroutine = G::parse(address, bytes, layout)?;
        let (sp, pc, lr) = registers(bytes, layout)?;
        let (waiting, labels) = (word(layout.waiting)?, word(layout.labels)?);
        Some(Stopped { goroutine, pc, sp, lr, waiting, labels, locked: word(layout.lockedm)? != 0 })
    }

    /// Up to the end of the last field that [`Stopped::parse`] reads.
    pub(super) fn bytes_needed(layout: &Layout) -> usize {
        let Layout { waiting, labels, lockedm, syscallsp, syscallpc, sched_sp, sched_pc, sched_lr, .. } =
            *layout;
        let all = [waiting, labels, lockedm, syscallsp, syscallpc, sched_sp, sched_pc, sched_lr];
        let last = all.into_iter().max();
        bytes_needed(layout).max(usize::from(last.unwrap_or(0)) + 8)
    }

    /// Its stack may change under the reader, and where its stack pointer is nobody knows.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.goroutine.status, Status::Running | Status::CopyStack)
    }

    /// Its stack holds still until its status changes.
    pub(super) fn holds_still(&self) -> bool {
        !self.is_moving() && self.goroutine.stack.0 <= self.sp && self.sp < self.goroutine.stack.1
    }

    /// What must be the same before and after its stack was read.
    pub(super) fn identity(&self) -> Identity {
        Identity { goid: self.goroutine.goid, status: self.goroutine.status, sp: self.sp, pc: self.pc }
    }
}

/// What must be the same before and after a stack was read.
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

/// Stack pointer, program counter and return address of a `g` that does not run. In a system call they are saved elsewhere:
/// Go's unwinder looks in the same order.
#[inline(always)]
fn registers(bytes: &[u8], layout: &Layout) -> Option<(u64, u64, u64)> {
    let word = |offset: u16| image::u64_at(bytes, offset.into());
    match word(layout.syscallsp)? {
        0 => Some((word(layout.sched_sp)?, word(layout.sched_pc)?, word(layout.sched_lr)?)),
        sp => Some((sp, word(layout.syscallpc)?, 0)),
    }
}
