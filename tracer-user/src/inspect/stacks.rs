//! Stacks, each kept once however many goroutines are in it, with the names of their frames.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::go::{Binary, Frame};

/// A stack within its [`Stacks`], counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(NonZeroU32);

impl StackId {
    /// Its place among the stacks, counted from 0.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// How much a set of stacks may hold. A hostile process can show another stack for each goroutine.
const MOST_STACKS: usize = 1 << 18;
/// Program counters of all stacks together: 8 bytes each.
const MOST_PCS: usize = 8 << 20;
/// Different program counters that get names: some 200 bytes each.
const MOST_NAMES: usize = 1 << 18;

/// Interned stacks. A stack is the link-time addresses of its calls, innermost first: where the goroutine will go on,
/// then the return addresses.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    ids: HashMap<Arc<[u64]>, StackId>,
    stacks: Vec<Arc<[u64]>>,
    pcs: usize,
    /// By address, and whether what it called was injected.
    frames: HashMap<(u64, bool), Named>,
}

impl Stacks {
    /// The number of a stack, a new one where it is not known yet. None where there is no room for it.
    pub fn intern(&mut self, pcs: &[u64]) -> Option<StackId> {
        if let Some(id) = self.ids.get(pcs) {
            return Some(*id);
        }
        if self.stacks.len() >= MOST_STACKS || self.pcs + pcs.len() > MOST_PCS {
            return None;
        }
        let stack: Arc<[u64]> = pcs.into();
        self.pcs += pcs.len();
        self.stacks.push(stack.clone());
        let id = StackId(NonZeroU32::new(self.stacks.len() as u32)?);
        self.ids.insert(stack, id);
        Some(id)
    }

    /// The number of a stack that is known: to compare with the stacks of another scan of the same binary.
    pub fn id_of(&self, pcs: &[u64]) -> Option<StackId> {
        self.ids.get(pcs).copied()
    }

    /// All of them, in the order of their places.
    pub fn ids(&self) -> impl Iterator<Item = StackId> + use<> {
        (1..=self.stacks.len() as u32).filter_map(NonZeroU32::new).map(StackId)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// The link-time addresses of a stack, innermost first.
    pub fn pcs(&self, id: StackId) -> &[u64] {
        self.stacks.get(id.index()).map_or(&[], |stack| stack)
    }

    /// Gives names to all addresses, once each.
    pub fn name(&mut self, binary: &Binary) {
        let Stacks { stacks, frames, .. } = self;
        for stack in stacks.iter() {
            let mut injected = false;
            for pc in stack.iter() {
                if frames.len() >= MOST_NAMES {
                    return;
                }
                let named = frames.entry((*pc, injected)).or_insert_with(|| Named::of(binary, *pc, injected));
                injected = named.is_injected();
            }
        }
    }

    /// The calls of a stack, innermost first. Nothing before [`Stacks::name`].
    pub fn calls(&self, id: StackId) -> impl Iterator<Item = Call<'_>> {
        let mut injected = false;
        self.pcs(id).iter().map_while(move |pc| {
            let named = self.frames.get(&(*pc, injected))?;
            injected = named.is_injected();
            let Named { offset, is_wrapper, ref frames } = *named;
            Some(Call { pc: *pc, offset, is_wrapper, frames })
        })
    }

    /// All frames of a stack, innermost first, inlined calls included. Nothing before [`Stacks::name`].
    pub fn frames(&self, id: StackId) -> impl Iterator<Item = &Frame> {
        self.calls(id).flat_map(|call| call.frames)
    }
}

/// One address of a stack: a function and what was inlined into it there.
#[derive(Clone, Copy, Debug)]
pub struct Call<'stacks> {
    /// Link-time address: where this call goes on when those further in have returned.
    pub pc: u64,
    /// Bytes from the function's entry to `pc`.
    pub offset: u64,
    /// The function only passes a call on: see [`Binary::is_wrapper`].
    pub is_wrapper: bool,
    /// Innermost first; the last is the function, the ones before it were inlined. Never empty.
    pub frames: &'stacks [Frame],
}

/// What an address means.
#[derive(Clone, Debug)]
struct Named {
    offset: u64,
    is_wrapper: bool,
    frames: Vec<Frame>,
}

impl Named {
    /// A return address stands after its call, and the call is what is shown; `sched.pc` is one, too. What a function that
    /// was injected returns to is the very instruction that was to come next, as is the first of a function
    /// (`unwinder.symPC` in <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>).
    fn of(binary: &Binary, pc: u64, injected: bool) -> Named {
        let function = binary.function_at(pc);
        let entry = function.as_ref().map_or(pc, |function| function.entry);
        let is_wrapper = function.is_some_and(|function| binary.is_wrapper(&function));
        let shown = if injected || pc == entry { pc } else { pc - 1 };
        let mut frames = binary.frames_at(shown);
        if frames.is_empty() {
            frames.push(Frame { function: format!("{pc:#x}"), file: "?".into(), line: 0, inlined: false });
        }
        Named { offset: pc - entry, is_wrapper, frames }
    }

    /// The program did not call it: a signal did.
    fn is_injected(&self) -> bool {
        self.frames.last().is_some_and(|frame| is_injected(&frame.function))
    }
}

/// Whether the program does not call this function: a signal does, wherever the program is (`isInjectedCall` in Go's
/// unwinder).
pub(super) fn is_injected(function: &str) -> bool {
    matches!(function, "runtime.sigpanic" | "runtime.asyncPreempt" | "runtime.debugCallV2")
}
