//! From a stopped goroutine's registers and stack to the calls that it is in, by the same table of frame sizes that Go's
//! own unwinder goes by: it covers what frame pointers do not, such as assembly and, before Go 1.22, system calls.

use crate::go::{Architecture, Binary, FrameSize};

/// Calls of one stack that are looked at, not counting inlined ones. Go's own traceback shows a hundred.
const MOST_CALLS: usize = 512;
/// Places of the cache; a power of two. A program that waits at more places than this gets slower to look at.
const CACHED: usize = 8192;

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

/// Unwinds the stacks of one process.
pub(super) struct Unwinder<'binary> {
    binary: &'binary Binary,
    bias: u64,
    link_register: bool,
    /// By address, the sizes that were asked for last.
    cache: Vec<(u64, Option<FrameSize>)>,
}

impl<'binary> Unwinder<'binary> {
    pub(super) fn new(binary: &'binary Binary, bias: u64) -> Unwinder<'binary> {
        let link_register = binary.image().architecture() == Architecture::Arm64;
        Unwinder { binary, bias, link_register, cache: vec![(u64::MAX, None); CACHED] }
    }

    fn frame_size(&mut self, pc: u64) -> Option<FrameSize> {
        let place = (pc ^ (pc >> 13)) as usize % CACHED;
        if self.cache[place].0 != pc {
            self.cache[place] = (pc, self.binary.frame_size(pc));
        }
        self.cache[place].1
    }

    /// Appends the link-time addresses of the calls, innermost first, without the outermost `runtime.goexit`. `pc` is
    /// where the goroutine goes on, `stack` begins at its stack pointer.
    pub(super) fn unwind(&mut self, pc: u64, stack: &[u8], pcs: &mut Vec<u64>) -> Unwound {
        let mut pc = pc.wrapping_sub(self.bias);
        let mut sp = 0usize;
        for _ in 0..MOST_CALLS {
            let Some(size) = self.frame_size(pc) else { return Unwound::Broken };
            let FrameSize::Bytes(size) = size else {
                // The stack of a goroutine ends in goexit, which says nothing. Other ends do.
                return Unwound::Ended;
            };
            pcs.push(pc);
            let size = size as usize;
            // On x86-64 the return address lies above the frame; elsewhere it is the frame's first word.
            let (at, next) = if self.link_register { (sp, sp + size) } else { (sp + size, sp + size + 8) };
            let Some(word) = stack.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
                return Unwound::GoesOn;
            };
            pc = u64::from_le_bytes(*word).wrapping_sub(self.bias);
            if next == sp {
                return Unwound::Broken;
            }
            sp = next;
        }
        Unwound::Ended
    }
}
