//! The inline trees: which instructions of a function came from which other functions. The format is `inlinedCall` and
//! `inlineUnwinder` in <https://cs.opensource.google/go/go/+/master:src/runtime/symtabinl.go>.

use std::ops::Range;

use super::pclntab::{CodeFrame, Function, Pclntab, printed};
use crate::go::file::image::u32_at;

/// `abi.PCDATA_InlTreeIndex`
const PCDATA_INL_TREE_INDEX: u32 = 2;
/// `abi.FUNCDATA_InlTree`
const FUNCDATA_INL_TREE: u8 = 3;
/// Calls inlined into each other that are followed. The compiler's budget allows a few dozen.
const MAX_DEPTH: usize = 256;

/// One copy of a function that the compiler put into another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlined {
    /// The function whose code holds the copy.
    pub into: Function,
    /// The link-time addresses of the copy's instructions, in order, with those of what was inlined into it. A
    /// function that is inlined twice into the same one appears as two of these.
    pub ranges: Vec<Range<u64>>,
}

/// A call that was replaced by the callee's code.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// Offset of the callee's name in the name table.
    name: u32,
    /// Offset from the function's entry of an instruction of the caller.
    parent: u32,
}

impl Pclntab {
    /// Every copy of a function of this name that the compiler inlined into a function of the same package. What
    /// golife looks for, the runtime's `newproc1`, `goexit1` and `coroexit`, is not exported and is called from
    /// package runtime alone.
    pub fn inlined_into(&self, name: &str) -> Vec<Inlined> {
        let mut found = Vec::new();
        for index in self.functions_of_package(name) {
            let Some(function) = self.function(index) else { continue };
            let Some(runs) = self.inline_runs(&function) else { continue };
            let runs: Vec<_> = runs.collect();
            if !self.tree_names(&function, runs.iter().map(|(_, call)| *call).max(), name) {
                continue;
            }
            let mut calls: Vec<i32> = runs.iter().map(|(_, call)| *call).filter(|call| *call >= 0).collect();
            calls.sort_unstable();
            calls.dedup();
            // Of an inlined call there may be no instructions but those of what was inlined into it: it is found as their
            // ancestor in the tree.
            let mut copies: Vec<(i32, Vec<Range<u64>>)> = Vec::new();
            for call in calls {
                let Some(copy) = self.ancestor_named(&function, call, name) else { continue };
                let ranges = runs.iter().filter(|(_, of)| *of == call).map(|(run, _)| {
                    function.entry + u64::from(run.start)..function.entry + u64::from(run.end)
                });
                match copies.iter_mut().find(|(of, _)| *of == copy) {
                    Some((_, so_far)) => so_far.extend(ranges),
                    None => copies.push((copy, ranges.collect())),
                }
            }
            found.extend(
                copies
                    .into_iter()
                    .map(|(_, ranges)| Inlined { into: function.clone(), ranges: joined(ranges) }),
            );
        }
        found
    }

    /// The frames of a link-time address, innermost first; the last is the function whose code it is. Empty where
    /// no Go code is. For a return address, ask for the byte before it.
    pub fn frames_at(&self, pc: u64) -> Vec<CodeFrame> {
        let Some(function) = self.function_at(pc) else { return Vec::new() };
        let mut frames = Vec::new();
        let mut at = pc;
        for _ in 0..MAX_DEPTH {
            let (file, line) = self.file_and_line(&function, at);
            let Some(call) = self.call_at(&function, at) else {
                frames.push(CodeFrame { function: function.name, file, line, inlined: false });
                break;
            };
            frames.push(CodeFrame { function: printed(self.name_at(call.name)), file, line, inlined: true });
            at = function.entry + u64::from(call.parent);
        }
        frames
    }

    /// The names of what was inlined directly into a function, and the runs of instructions that are its own.
    pub(crate) fn inlined_callees(&self, function: &Function) -> (Vec<String>, Vec<Range<u64>>) {
        let (mut names, mut own) = (Vec::new(), Vec::new());
        let Some(runs) = self.inline_runs(function) else {
            own.push(function.entry..function.end);
            return (names, own);
        };
        for (run, call) in runs {
            if call < 0 {
                own.push(function.entry + u64::from(run.start)..function.entry + u64::from(run.end));
                continue;
            }
            let mut index = call;
            for _ in 0..MAX_DEPTH {
                let Some(call) = self.call(function, index) else { break };
                match self.call_index(function, call.parent) {
                    Some(parent) => index = parent,
                    None => {
                        let name = printed(self.name_at(call.name));
                        if !names.contains(&name) {
                            names.push(name);
                        }
                        break;
                    }
                }
            }
        }
        (names, own)
    }

    /// Whether any call of a function's inline tree has this name. `last` is the highest number of a call that has
    /// instructions: the tree has no end mark, but a caller stands before what was inlined into it, and no tree has more
    /// calls than its function has bytes.
    fn tree_names(&self, function: &Function, last: Option<i32>, name: &str) -> bool {
        let last = last.unwrap_or(-1).min(i32::try_from(function.size()).unwrap_or(i32::MAX));
        let mut calls = (0..=last).map_while(|index| self.call(function, index));
        calls.any(|call| self.name_at(call.name) == name.as_bytes())
    }

    /// The nearest call at or above `index` in the tree whose callee has this name.
    fn ancestor_named(&self, function: &Function, mut index: i32, name: &str) -> Option<i32> {
        for _ in 0..MAX_DEPTH {
            let call = self.call(function, index)?;
            if self.name_at(call.name) == name.as_bytes() {
                return Some(index);
            }
            index = self.call_index(function, call.parent)?;
        }
        None
    }

    fn call_at(&self, function: &Function, pc: u64) -> Option<Call> {
        let offset = u32::try_from(pc.checked_sub(function.entry)?).ok()?;
        self.call(function, self.call_index(function, offset)?)
    }

    fn call_index(&self, function: &Function, offset: u32) -> Option<i32> {
        let table = self.record(function.index)?.pcdata(PCDATA_INL_TREE_INDEX)?;
        self.pcvalues(function, table).at(offset).filter(|index| *index >= 0)
    }

    fn inline_runs(&self, function: &Function) -> Option<impl Iterator<Item = (Range<u32>, i32)> + '_> {
        let record = self.record(function.index)?;
        record.funcdata(FUNCDATA_INL_TREE)?;
        Some(self.pcvalues(function, record.pcdata(PCDATA_INL_TREE_INDEX)?))
    }

    fn call(&self, function: &Function, index: i32) -> Option<Call> {
        let (size, name, parent) = if self.since_120() { (16, 4, 8) } else { (20, 12, 16) };
        let tree = self.data_of(function, FUNCDATA_INL_TREE)?;
        let bytes = tree.get(usize::try_from(index).ok()?.checked_mul(size)?..)?.get(..size)?;
        Some(Call { name: u32_at(bytes, name)?, parent: u32_at(bytes, parent)? })
    }
}

/// Sorts ranges and joins those that touch.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let touches = next.start <= before.end;
        if touches {
            before.end = before.end.max(next.end);
        }
        touches
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ranges_are_one() {
        assert_eq!(joined(vec![20..30, 0..10, 10..12, 25..26]), vec![0..12, 20..30]);
        assert_eq!(joined(vec![]), vec![]);
    }
}
