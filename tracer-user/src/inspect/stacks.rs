//! Stacks with the names of their frames. Each stack is kept once, however many goroutines have it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::go::{Binary, CodeFrame};

/// The number of a stack within its [`Stacks`], counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(NonZeroU32);

impl StackId {
    /// Its index among the stacks, counted from 0.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Most stacks in a set. There is a limit because a hostile process can show another stack for each goroutine.
const MOST_STACKS: usize = 1 << 18;
/// Most program counters of all stacks together: 8 bytes each.
const MOST_PCS: usize = 8 << 20;
/// Most different program counters that get names: some 200 bytes each.
const MOST_NAMES: usize = 1 << 18;

/// How the names of files end in which cgo writes the functions that call C.
const OF_CGO: &str = "_cgo_gotypes.go";

/// Interned stacks. A stack is the list of the link-time addresses of its calls, innermost first: the address where the
/// goroutine will go on, then the return addresses.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    ids: HashMap<Arc<[u64]>, StackId>,
    stacks: Vec<Arc<[u64]>>,
    pcs: usize,
    /// The key is an address, and whether a signal called the function that is next further in ([`is_injected`]).
    frames: HashMap<(u64, bool), Named>,
}

impl Stacks {
    /// Returns the number of a stack, a new number if the stack is not known yet. None if there is no room for another
    /// one.
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

    /// Returns the number of a stack that is known, such as one from another scan of the same binary. None if it is not
    /// known.
    pub fn id_of(&self, pcs: &[u64]) -> Option<StackId> {
        self.ids.get(pcs).copied()
    }

    /// The numbers of all stacks, in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = StackId> + use<> {
        (1..=self.stacks.len() as u32).filter_map(NonZeroU32::new).map(StackId)
    }

    /// Number of stacks.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there is no stack.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// The link-time addresses of a stack, innermost first.
    pub fn pcs(&self, id: StackId) -> &[u64] {
        self.stacks.get(id.index()).map_or(&[], |stack| stack)
    }

    /// Looks up the name of each address once, as far as there is room.
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

    /// The calls of a stack, innermost first. Empty before [`Stacks::name`] was called.
    pub fn calls(&self, id: StackId) -> impl Iterator<Item = Call<'_>> + Clone {
        let mut injected = false;
        self.pcs(id).iter().map_while(move |pc| {
            let named = self.frames.get(&(*pc, injected))?;
            injected = named.is_injected();
            let Named { offset, is_wrapper, ref frames, ref statement } = *named;
            Some(Call { pc: *pc, offset, is_wrapper, frames, statement: statement.as_deref() })
        })
    }

    /// The frames of a stack that somebody has written ([`Call::written`]), innermost first. In a stack that is else
    /// wholly of the standard library, the function that the compiler has made for a `go` statement of the program
    /// stands for that statement. All frames if there is none of these.
    pub fn written<'a>(
        &'a self,
        id: StackId,
        binary: &Binary,
    ) -> impl Iterator<Item = &'a CodeFrame> + Clone + use<'a> {
        let foreign = |frame: &CodeFrame| !binary.is_standard(frame);
        let is_alone = !self.calls(id).flat_map(Call::written).any(foreign);
        let statement =
            self.calls(id).filter_map(|call| call.statement).filter(|frame| foreign(frame)).last();
        let statement = statement.filter(|_| is_alone);
        let written = self.calls(id).flat_map(Call::written).chain(statement);
        let any = written.clone().next().is_some();
        written.chain(self.calls(id).filter(move |_| !any).flat_map(|call| call.frames))
    }

    /// All frames of a stack, innermost first, inlined calls included. Empty before [`Stacks::name`] was called.
    pub fn frames(&self, id: StackId) -> impl Iterator<Item = &CodeFrame> {
        self.calls(id).flat_map(|call| call.frames)
    }
}

/// One address of a stack: a function, and what was inlined into it at this address.
#[derive(Clone, Copy, Debug)]
pub struct Call<'stacks> {
    /// Link-time address at which this call goes on when the calls further in have returned.
    pub pc: u64,
    /// Bytes from the function's entry to `pc`.
    pub offset: u64,
    /// The function only passes a call on: see [`Binary::is_wrapper`].
    pub is_wrapper: bool,
    /// The frames, innermost first. The last one is the function itself, and those before it were inlined. Never empty.
    pub frames: &'stacks [CodeFrame],
    /// The `go` or `defer` statement for which the compiler has made the function, if it has, and if it says where: as a
    /// frame of the function that has the statement.
    pub statement: Option<&'stacks CodeFrame>,
}

impl<'stacks> Call<'stacks> {
    /// The frames that somebody has written, innermost first: without the functions that the compiler and cgo have made
    /// to pass a call on.
    pub fn written(self) -> impl Iterator<Item = &'stacks CodeFrame> + Clone {
        let is_made = move |frame: &CodeFrame| {
            let passes_on = !frame.inlined && self.is_wrapper;
            passes_on || frame.is_generated() || frame.file.ends_with(OF_CGO)
        };
        self.frames.iter().filter(move |frame| !is_made(frame))
    }
}

/// What is known about an address.
#[derive(Clone, Debug)]
struct Named {
    offset: u64,
    is_wrapper: bool,
    frames: Vec<CodeFrame>,
    statement: Option<Box<CodeFrame>>,
}

impl Named {
    /// Looks up the frames at an address. A return address, and `sched.pc` is one too, points after its call, but it is
    /// the call that is to be shown: so the address before it is looked up. Not so for the address that an injected
    /// function returns to, which is the very instruction that was to come next, nor for the first one of a function
    /// (`unwinder.symPC` in <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>).
    fn of(binary: &Binary, pc: u64, injected: bool) -> Named {
        let function = binary.function_at(pc);
        let entry = function.as_ref().map_or(pc, |function| function.entry);
        let is_wrapper = function.is_some_and(|function| binary.is_wrapper(&function));
        let shown = if injected || pc == entry { pc } else { pc - 1 };
        let mut frames = binary.frames_at(shown);
        let made = frames.last().filter(|made| is_wrapper && !made.inlined && !made.is_generated());
        let statement = made.map(|made| {
            Box::new(CodeFrame { function: of_statement(&made.function).to_owned(), ..made.clone() })
        });
        if frames.is_empty() {
            frames.push(CodeFrame {
                function: format!("{pc:#x}"),
                file: "?".into(),
                line: 0,
                inlined: false,
            });
        }
        Named { offset: pc - entry, is_wrapper, frames, statement }
    }

    /// Whether a signal called the function, not the program.
    fn is_injected(&self) -> bool {
        self.frames.last().is_some_and(|frame| is_injected(&frame.function))
    }
}

/// The function that has the statement for which the compiler has made this one: `main.f` of `main.f.gowrap1`, as these
/// are called since Go 1.22.
fn of_statement(made: &str) -> &str {
    let number = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let parts = made.rsplit_once(".gowrap").or_else(|| made.rsplit_once(".deferwrap"));
    parts.filter(|(_, rest)| number(rest)).map_or(made, |(function, _)| function)
}

/// Whether this is a function that the program never calls itself: a signal calls it, wherever the program is at that
/// time. The list is that of `isInjectedCall` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
pub(super) fn is_injected(function: &str) -> bool {
    matches!(function, "runtime.sigpanic" | "runtime.asyncPreempt" | "runtime.debugCallV2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_has_made_was_written_by_nobody() {
        let frame = |function: &str, file: &str, inlined| CodeFrame {
            function: function.into(),
            file: file.into(),
            line: 1,
            inlined,
        };
        let written = |is_wrapper, frames: &[CodeFrame]| -> Vec<String> {
            let call = Call { pc: 0, offset: 0, is_wrapper, frames, statement: None };
            call.written().map(|frame| frame.function.clone()).collect()
        };
        let embedded = frame("example.com/tls.(*conn).Read", "<autogenerated>", false);
        assert_eq!(written(false, &[embedded]), [""; 0]);
        let passed_on = [frame("main.work", "main.go", true), frame("main.main.gowrap1", "main.go", false)];
        assert_eq!(written(true, &passed_on), ["main.work"]);
        assert_eq!(written(false, &passed_on), ["main.work", "main.main.gowrap1"]);
        assert_eq!(of_statement("main.main.gowrap12"), "main.main");
        assert_eq!(of_statement("main.gowrapper"), "main.gowrapper");
        assert_eq!(written(false, &[frame("main._Cfunc_sleep", "/tmp/_cgo_gotypes.go", false)]), [""; 0]);
    }
}
