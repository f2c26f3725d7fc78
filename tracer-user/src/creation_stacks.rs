//! Creators' stacks at the `go` statement: from the addresses that the probes keep in the kernel to frames.
//!
//! Each stack is read from the kernel once. A number stands for the same stack as long as the probes are loaded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tracer_ebpf::{CUT, StackCode};

use crate::go::Binary;
use crate::inspect::is_shown;
use crate::probes::Probes;
use crate::report::Frame;
use crate::subject::Subject;
use crate::tracker::StackId;

/// Named stacks that are remembered for the next report; beyond, all are named anew.
const MOST_NAMED: usize = 1 << 16;

/// The name of the last frame of a stack whose outer calls are not known, as in Go's own tracebacks.
pub const ELIDED: &str = "...additional frames elided...";

/// What a stack means: its number and the `go` statement, in a binary at a load bias.
type Key = (StackId, u64, *const Binary, u64);

/// With its binary, so that the address in the key stays its own.
type Named = (Arc<Binary>, Rc<[Frame]>);

/// The stacks that were asked for.
#[derive(Default)]
pub struct CreationStacks {
    raw: RefCell<HashMap<StackId, Rc<[u64]>>>,
    named: RefCell<HashMap<Key, Named>>,
}

impl CreationStacks {
    /// The calls of a stack from the `go` statement on that returns to `gopc`, innermost first, inlined ones included, as
    /// Go's own traceback shows them, [`ELIDED`] in the place of outer calls that are not known. Empty where the whole stack
    /// is not.
    pub fn frames(&self, probes: &Probes, subject: &Subject, gopc: u64, stack: StackId) -> Vec<Frame> {
        let Some(pcs) = self.raw(probes, stack) else { return Vec::new() };
        let key = (stack, gopc, Arc::as_ptr(&subject.binary), subject.bias);
        let mut named = self.named.borrow_mut();
        if named.len() >= MOST_NAMED {
            named.clear();
        }
        let name = || (subject.binary.clone(), name(&subject.binary, subject.bias, gopc, &pcs).into());
        named.entry(key).or_insert_with(name).1.to_vec()
    }

    fn raw(&self, probes: &Probes, stack: StackId) -> Option<Rc<[u64]>> {
        let mut raw = self.raw.borrow_mut();
        if let Some(known) = raw.get(&stack) {
            return Some(known.clone());
        }
        let pcs: Rc<[u64]> = probes.stack(StackCode(u16::try_from(stack.0).ok()?))?.into();
        raw.insert(stack, pcs.clone());
        Some(pcs)
    }
}

/// What stands before the `go` statement is the runtime's, and another in each version.
fn name(binary: &Binary, bias: u64, gopc: u64, pcs: &[u64]) -> Vec<Frame> {
    let Some(statement) = pcs.iter().position(|&pc| pc == gopc) else { return Vec::new() };
    let is_cut = pcs.last() == Some(&CUT);
    let calls = pcs[statement..pcs.len() - usize::from(is_cut)]
        .iter()
        .map(|pc| pc.wrapping_sub(bias).wrapping_sub(1));
    let is_wrapper = |pc| binary.function_at(pc).is_some_and(|function| binary.is_wrapper(&function));
    let all: Vec<_> = calls
        .flat_map(|pc| {
            let mut frames = binary.frames_at(pc);
            frames.truncate(frames.len() - usize::from(!frames.is_empty() && is_wrapper(pc)));
            frames
        })
        .collect();
    // A goroutine of the runtime's own has nothing but what is not shown.
    let hides_all = !all.iter().any(is_shown);
    let shown = all.iter().filter(|frame| hides_all || is_shown(frame)).map(Frame::from);
    let elided = Frame { function: ELIDED.into(), ..Frame::default() };
    shown.chain(is_cut.then_some(elided)).collect()
}
