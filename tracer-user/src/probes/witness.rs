//! Shows when probes are off. The kernel says so only after a grace period of 50 to 100 ms; but it puts its breakpoints
//! into whoever maps the file, and takes them out of there first.

use std::fs::File;

use memmap2::{Mmap, MmapOptions};

const PAGE: u64 = 4096;

/// A page of a probed file that golife has mapped like a program, though it never executes it.
pub(super) struct Witness {
    page: Mmap,
    /// The place of the probed instruction in the page, in bytes.
    at: usize,
    /// The byte that is there without a probe.
    own: u8,
}

impl Witness {
    /// Maps the page with an instruction that has no probe yet, by its offset in the file in bytes. `None` if that is not
    /// possible.
    pub(super) fn new(file: &File, offset: u64) -> Option<Witness> {
        let at = usize::try_from(offset % PAGE).ok()?;
        let mut options = MmapOptions::new();
        // The kernel probes private mappings alone.
        // SAFETY: nothing refers to the page's bytes but `now`, which reads one of them as it is at that moment.
        let page =
            unsafe { options.offset(offset - offset % PAGE).len(PAGE as usize).map_copy_read_only(file) };
        let mut witness = Witness { page: page.ok()?, at, own: 0 };
        witness.own = witness.now();
        Some(witness)
    }

    /// Whether there is a probe.
    pub(super) fn sees_probe(&self) -> bool {
        self.now() != self.own
    }

    fn now(&self) -> u8 {
        // SAFETY: the place is in the page, which is mapped as long as this value lives. The file is as long as its
        // program's code, and under a lease, or it is not shortened while a process runs it. The kernel may change the
        // byte at any time, so it is read as it is.
        unsafe { self.page.as_ptr().add(self.at).read_volatile() }
    }
}
