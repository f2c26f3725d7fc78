//! The paths through a function, instruction by instruction. A function has some hundred instructions, so it is fast
//! enough to ask what can be reached from where for every question about "on all paths" and "once".

use super::body::Body;
use super::error::PlanError;
use super::step::{CallTargets, Next, Step};

/// Which instruction can follow which.
pub(super) struct Graph {
    /// The instructions that can come after each instruction; none where the path ends.
    successors: Vec<[Option<usize>; 2]>,
    /// Whether control leaves the function after each instruction, other than by a crash.
    leaves: Vec<bool>,
    addresses: Vec<u64>,
}

impl Graph {
    /// Connects the instructions of a body.
    ///
    /// A call of a function that never returns ends the path. Without that, what stands behind a call of `throw` would
    /// seem to be run, and some of it would look like a loop. A jump to the function's entry ends the path, too: it is
    /// how the function starts again after its stack was grown.
    pub(super) fn new(body: &Body, steps: &[Step], calls: &CallTargets) -> Result<Graph, PlanError> {
        let undecodable = |address| PlanError::Undecodable { function: body.function.to_owned(), address };
        let addresses: Vec<u64> = steps.iter().map(|step| step.address).collect();
        let end = body.entry.saturating_add(body.code.len() as u64);
        let mut graph =
            Graph { successors: vec![[None; 2]; steps.len()], leaves: vec![false; steps.len()], addresses };
        if steps.is_empty() {
            return Err(PlanError::NoBody);
        }
        // What cannot be reached may be padding, so only what can be is looked at.
        let mut seen = vec![false; steps.len()];
        let mut open = vec![0];
        while let Some(index) = open.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let step = &steps[index];
            let following =
                || (index + 1 < steps.len()).then_some(index + 1).ok_or(undecodable(step.address));
            let mut leaves = false;
            let mut to = |target: u64| {
                if target == body.entry {
                    Ok(None)
                } else if (body.entry..end).contains(&target) {
                    graph.addresses.binary_search(&target).map(Some).map_err(|_| undecodable(target))
                } else {
                    leaves = true;
                    Ok(None)
                }
            };
            let next = match step.next {
                Next::Following => [Some(following()?), None],
                Next::Jump(target) => [to(target)?, None],
                Next::Branch(target) => [Some(following()?), to(target)?],
                Next::Call(Some(target)) if calls(target).is_some_and(|name| never_returns(&name)) => {
                    [None, None]
                }
                Next::Call(_) => [Some(following()?), None],
                Next::Return => {
                    leaves = true;
                    [None, None]
                }
                Next::Stop => [None, None],
                Next::Unknown => {
                    return Err(PlanError::IndirectJump {
                        function: body.function.to_owned(),
                        address: step.address,
                    });
                }
                Next::Undecodable => return Err(undecodable(step.address)),
            };
            graph.leaves[index] = leaves;
            graph.successors[index] = next;
            open.extend(next.into_iter().flatten());
        }
        Ok(graph)
    }

    /// The instructions that can come after this one.
    pub(super) fn after(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        self.successors[index].into_iter().flatten()
    }

    /// Whether every run of `first` is followed by exactly one run of `then`, before the function is left or `first` runs
    /// again, and whether `then` never runs otherwise. Paths that end in a crash do not count.
    pub(super) fn passed_once_after(&self, first: usize, then: usize) -> bool {
        if first == then {
            return false;
        }
        let only_after = !self.reach([0], first)[then];
        let missed = self.reach(self.after(first), then);
        let always =
            !missed[first] && !self.leaves.iter().zip(&missed).any(|(leaves, missed)| *leaves && *missed);
        let again = first != then && self.reach(self.after(then), first)[then];
        only_after && always && !again
    }

    /// Whether the instruction at `address` can be reached, and cannot be reached from itself.
    pub(super) fn passed_at_most_once(&self, address: u64) -> bool {
        let Ok(index) = self.addresses.binary_search(&address) else { return false };
        let nowhere = self.addresses.len();
        self.reach([0], nowhere)[index] && !self.reach(self.after(index), nowhere)[index]
    }

    /// For each instruction, whether it is one of `starts` or can be reached from them on a path without `avoid`.
    fn reach(&self, starts: impl IntoIterator<Item = usize>, avoid: usize) -> Vec<bool> {
        let mut seen = vec![false; self.addresses.len()];
        let mut open: Vec<usize> = starts.into_iter().collect();
        while let Some(index) = open.pop() {
            if index == avoid || std::mem::replace(&mut seen[index], true) {
                continue;
            }
            open.extend(self.after(index));
        }
        seen
    }
}

/// Whether a runtime function never comes back to where it was called: it crashes the program or, like `morestack`,
/// enters the caller again.
fn never_returns(name: &str) -> bool {
    const EXACT: [&str; 8] = [
        "runtime.throw",
        "runtime.fatal",
        "runtime.fatalthrow",
        "runtime.fatalpanic",
        "runtime.gopanic",
        "runtime.badsystemstack",
        "runtime.abort",
        "runtime.block",
    ];
    const PREFIXES: [&str; 4] = ["runtime.panic", "runtime.goPanic", "runtime.throw", "runtime.morestack"];
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
