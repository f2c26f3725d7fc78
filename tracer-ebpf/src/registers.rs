//! The registers of each CPU architecture: which one Go uses for what, and how to read one.

use aya_ebpf::bindings::pt_regs;

/// Where Go keeps the current g (ABIInternal): R14 on x86-64, R28 on arm64.
#[cfg(bpf_target_arch = "x86_64")]
pub const G_REGISTER: u64 = 14;
#[cfg(bpf_target_arch = "aarch64")]
pub const G_REGISTER: u64 = 28;

/// Where a function has its first two arguments (ABIInternal): RAX and RBX on x86-64, R0 and R1 on arm64.
#[cfg(bpf_target_arch = "x86_64")]
pub const ARGUMENTS: [u64; 2] = [0, 3];
#[cfg(bpf_target_arch = "aarch64")]
pub const ARGUMENTS: [u64; 2] = [0, 1];

/// A general register by its number in the instruction set. `read_volatile` keeps each access a plain load at a
/// constant offset: the verifier refuses a computed one in the context.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub fn register(regs: *const pt_regs, number: u64) -> u64 {
    macro_rules! load {
        ($field:ident) => {
            // SAFETY: the context of a uprobe is the interrupted registers.
            unsafe { core::ptr::read_volatile(&raw const (*regs).$field) }
        };
    }
    match number {
        0 => load!(rax),
        1 => load!(rcx),
        2 => load!(rdx),
        3 => load!(rbx),
        5 => load!(rbp),
        6 => load!(rsi),
        7 => load!(rdi),
        8 => load!(r8),
        9 => load!(r9),
        10 => load!(r10),
        11 => load!(r11),
        12 => load!(r12),
        13 => load!(r13),
        14 => load!(r14),
        15 => load!(r15),
        _ => 0,
    }
}

/// The same: `regs[number]` would be a computed offset.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub fn register(regs: *const pt_regs, number: u64) -> u64 {
    macro_rules! load {
        ($($index:literal)*) => {
            match number {
                // SAFETY: the context of a uprobe is the interrupted registers.
                $($index => unsafe { core::ptr::read_volatile(&raw const (*regs).regs[$index]) },)*
                _ => 0,
            }
        };
    }
    load!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
}
