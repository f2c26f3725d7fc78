//! Finds the calls that a stopped goroutine is in from its registers and its stack. It uses the table of frame sizes
//! that Go's own unwinder uses: that covers what frame pointers do not, such as assembly and, before Go 1.22, system
//! calls.

use super::stacks::is_injected;
use crate::go::{Architecture, Binary, FrameSize};

/// Most calls of one stack that are looked at, not counting inlined ones. Go's own traceback shows a hundred.
const MOST_CALLS: usize = 512;
/// Entries of the cache; a power of two. A program whose goroutines are at more addresses than this takes longer to
/// look at.
const CACHED: usize = 8192;

/// Bytes of the frame in which `pushCall` and `preparePanic` save the link register:
/// <https://cs.opensource.google/go/go/+/master:src/runtime/signal_arm64.go>.
const SIGNAL_FRAME: usize = 16;

/// How an attempt to unwind a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwound {
    /// It reached the outermost call, or as many calls as are looked at.
    Ended,
    /// It came to an address where no call can be: the stack changed meanwhile, or is not Go's.
    Broken,
    /// It came to the end of the bytes, and the stack goes on.
    GoesOn,
}

/// What is known about an address within a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    size: FrameSize,
    /// Whether a signal called the function, not the program, as [`crate::inspect::stacks::is_injected`] says. Only
    /// looked up on CPUs with a link register.
    injected: bool,
}

/// Unwinds the stacks of one process.
pub(super) struct Unwinder<'binary> {
    binary: &'binary Binary,
    bias: u64,
    /// Whether the CPU has a link register. If so, a call puts the return address there, and the called function saves
    /// it in the first word of its frame if it has one. If not, the call itself pushes it, so that it lies above the
    /// called function's frame.
    link_register: bool,
    /// For each slot the address that was last looked up, and what is known about it.
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

    /// Appends the link-time addresses of the calls to `pcs`, innermost first, without the outermost `runtime.goexit`.
    /// `pc` is where the goroutine goes on, `lr` its saved link register ([`crate::go::Layout::sched_lr`]), and `stack`
    /// begins at its stack pointer.
    ///
    /// This follows `unwinder` in <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
    pub(super) fn unwind(&mut self, pc: u64, lr: u64, stack: &[u8], pcs: &mut Vec<u64>) -> Unwound {
        let word = |at: usize| stack.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word));
        let mut pc = pc.wrapping_sub(self.bias);
        let mut lr = Some(lr).filter(|lr| self.link_register && *lr != 0);
        let mut sp = 0usize;
        for _ in 0..MOST_CALLS {
            let Some(Known { size, injected }) = self.at(pc) else { return Unwound::Broken };
            let FrameSize::Bytes(size) = size else {
                // The outermost function has no size. For a goroutine that is `runtime.goexit`, which tells nothing and
                // is left out.
                return Unwound::Ended;
            };
            pcs.push(pc);
            let size = size as usize;
            let (at, next) = if self.link_register { (sp, sp + size) } else { (sp + size, sp + size + 8) };
            // Here the function has no frame: not yet, no longer, or never. Its return address is then still in the
            // register.
            let in_register = lr.take().filter(|_| size == 0);
            let Some(to) = in_register.or_else(|| word(at)) else { return Unwound::GoesOn };
            pc = to.wrapping_sub(self.bias);
            if next == sp && in_register.is_none() {
                return Unwound::Broken;
            }
            sp = next;
            if injected {
                // The signal's handler overwrote the link register, after it had saved it on the stack in a frame of
                // its own.
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
