//! The stacks of creators at the `go` statement: makes frames of the addresses that the probes keep in the kernel.
//!
//! Each stack is read from the kernel once. A number stands for the same stack as long as the probes are loaded.

use std::collections::HashMap;
use std::sync::Arc;

use tracer_ebpf::{CUT, StackCode};

use super::attachments::Attachments;
use crate::go::Binary;
use crate::inspect::is_shown;
use crate::report::{ELIDED, Frame};
use crate::targets::Subject;
use crate::tracker::StackId;

/// The stacks that were read from the kernel: return addresses, innermost first. There are at most as many as the
/// kernel has room for.
#[derive(Default)]
pub(super) struct RawStacks(HashMap<StackId, Arc<[u64]>>);

impl RawStacks {
    /// The calls of a stack from the `go` statement on, innermost first. `gopc` is the address to which that statement
    /// returns. Inlined calls are included, as Go's own traceback shows them, and [`ELIDED`] stands for outer calls
    /// that are not known. Empty if nothing of the stack is known.
    pub(super) fn frames(
        &mut self,
        attachments: &Attachments,
        subject: &Subject,
        gopc: u64,
        stack: StackId,
    ) -> Arc<[Frame]> {
        let pcs = self.pcs(attachments, stack);
        pcs.map(|pcs| name(&subject.binary, subject.bias, gopc, &pcs)).unwrap_or_default().into()
    }

    fn pcs(&mut self, attachments: &Attachments, stack: StackId) -> Option<Arc<[u64]>> {
        if let Some(known) = self.0.get(&stack) {
            return Some(known.clone());
        }
        let pcs: Arc<[u64]> = attachments.stack(StackCode(u16::try_from(stack.0).ok()?))?.into();
        self.0.insert(stack, pcs.clone());
        Some(pcs)
    }
}

/// Names the calls from the `go` statement on. The inner calls before it are the runtime's and differ between versions,
/// so they are left out.
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
    // The creators of the runtime's own goroutines consist of nothing but calls that are usually hidden, so these are
    // shown.
    let hides_all = !all.iter().any(is_shown);
    let shown = all.iter().filter(|frame| hides_all || is_shown(frame)).map(Frame::from);
    let elided = Frame { function: ELIDED.into(), ..Frame::default() };
    shown.chain(is_cut.then_some(elided)).collect()
}
