//! What the running kernel does with the instruction under a probe, and what that costs.

/// How the running kernel treats those instructions that kernels treat differently.
///
/// All kernels from 5.8 on treat the others alike: `branch_setup_xol_ops` and `push_setup_xol_ops` in
/// <https://github.com/torvalds/linux/blob/master/arch/x86/kernel/uprobes.c>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Multi-byte nops are emulated, not only the one-byte nop.
    pub emulates_long_nops: bool,
    /// A probed five-byte nop is rewritten into a call, which saves the breakpoint.
    pub optimises_nop5: bool,
}

impl Kernel {
    /// What the kernel Linux `major.minor` does.
    pub fn from_version(major: u32, minor: u32) -> Kernel {
        let recent = (major, minor) >= (6, 18);
        Kernel { emulates_long_nops: recent, optimises_nop5: recent }
    }
}

/// What it costs the target each time that it comes to a probe, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cost {
    /// The kernel replaces the five-byte nop by a call: no exception at all.
    Nop5Optimised,
    /// One exception; the kernel emulates the instruction.
    Emulated,
    /// Two exceptions: the kernel lets the CPU step over a copy of the instruction. Worth a warning.
    SingleStepped,
}
