//! From a stopped goroutine's registers and stack to the calls that it is in, by the same table of frame sizes that Go's
//! own unwinder goes by: it covers what frame pointers do not, such as assembly and, before Go 1.22, system calls.

use super::stacks::is_injected;
use crate::go::{Architecture, Binary, FrameSize};

/// Calls of one stack that are looked at, not counting inlined ones. Go's own traceback shows a hundred.
const MOST_CALLS: usize = 512;
/// Places of the cache; a power of two. A program that waits at more places than this gets slower to look at.
const CACHED: usize = 8192;

/// Size of the frame in which `pushCall` and `preparePanic` save the link register:
/// <https://cs.opensource.google/go/go/+/master:src/runtime/signal_arm64.go>.
const SIGNAL_FRAME: usize = 16;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwound {
    /// At the outermost call, or after as many as are looked at.
    Ended,
    /// Where no call can be: the stack changed meanwhile, or is not Go's.
    Broken,
    /// At the end of the bytes: the stack goes on.
    GoesOn,
}

/// What is known of the calls at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    size: FrameSize,
    /// A signal called the function, not the program: [`crate::inspect::stacks::is_injected`].
    injected: bool,
}

/// Unwinds the stacks of one process.
pub(super) struct Unwinder<'binary> {
    binary: &'binary Binary,
    bias: u64,
    /// A call puts the return address into a register; the function that it calls puts it into the first word of its frame,
    /// where that is any. Otherwise the call itself pushes it, so that it lies above that function's frame.
    link_register: bool,
    /// By address, what was asked for last.
    cache: Vec<(u64, Option<Known>)>,
}

impl<'binary> Unwinder<'binary> {
    pub(super) fn new(binary: &'binary Binary, bias: u64) -> Unwinder<'binary> {
        let link_register = binary.image().architecture() == Architecture::Arm64;
        Unwinder { binary, bias, link_register, cache: vec![(u64::MAX, None); CACHED] }
    }

    fn at(&mut self, pc: u64) -> Option<Known> {
        let place = (pc ^ (pc >> 13)) as usize % CACHED;
        if self.cache[place].0 != pc {
            let function = || self.binary.function_at(pc);
            let known = self.binary.frame_size(pc).map(|size| Known {
                size,
                injected: self.link_register && function().is_some_and(|found| is_injected(&found.name)),
            });
            self.cache[place] = (pc, known);
        }
        self.cache[place].1
    }

    /// Appends the link-time addresses of the calls, innermost first, without the outermost `runtime.goexit`. `pc` is
    /// where the goroutine goes on, `lr` what [`crate::go::Layout::sched_lr`] is of, `stack` begins at its stack pointer.
    ///
    /// As `unwinder` in <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
    pub(super) fn unwind(&mut self, pc: u64, lr: u64, stack: &[u8], pcs: &mut Vec<u64>) -> Unwound {
        let word = |at: usize| stack.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word));
        let mut pc = pc.wrapping_sub(self.bias);
        let mut lr = Some(lr).filter(|lr| self.link_register && *lr != 0);
        let mut sp = 0usize;
        for _ in 0..MOST_CALLS {
            let Some(Known { size, injected }) = self.at(pc) else { return Unwound::Broken };
            let FrameSize::Bytes(size) = size else {
                // The stack of a goroutine ends in goexit, which says nothing. Other ends do.
                return Unwound::Ended;
            };
            pcs.push(pc);
            let size = size as usize;
            let (at, next) = if self.link_register { (sp, sp + size) } else { (sp + size, sp + size + 8) };
            // The function has no frame yet, or no more, or never.
            let in_register = lr.take().filter(|_| size == 0);
            let Some(to) = in_register.or_else(|| word(at)) else { return Unwound::GoesOn };
            pc = to.wrapping_sub(self.bias);
            if next == sp && in_register.is_none() {
                return Unwound::Broken;
            }
            sp = next;
            if injected {
                // The signal's handler has put the register that it then used onto the stack, in a frame of its own.
                let Some(saved) = word(sp) else { return Unwound::GoesOn };
                sp += SIGNAL_FRAME;
                lr = Some(saved);
            }
        }
        Unwound::Ended
    }
}

#[cfg(test)]
mod tests;
