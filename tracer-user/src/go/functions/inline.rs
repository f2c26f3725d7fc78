//! The inline trees: which instructions of a function came from which other functions. The format is `inlinedCall` and
//! `inlineUnwinder` in <https://cs.opensource.google/go/go/+/master:src/runtime/symtabinl.go>.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::pclntab::{CodeFrame, Function, Pclntab, printed};
use super::pcvalue::PcValues;
use crate::go::file::budget::{Budget, TooMuch};
use crate::go::file::image::u32_at;

/// `abi.PCDATA_InlTreeIndex`
const PCDATA_INL_TREE_INDEX: u32 = 2;
/// `abi.FUNCDATA_InlTree`
const FUNCDATA_INL_TREE: u8 = 3;
/// Calls inlined into each other that are followed. The compiler's budget allows a few dozen.
const MAX_DEPTH: usize = 256;
/// Runs of instructions and calls that are read of the functions of a package. Those of package runtime have some
/// 100,000s.
const MAX_RUNS: u64 = 1 << 22;
/// Bytes of code whose numbers are looked up to name one instruction with all calls that it is in.
const MAX_LOOKED_UP: u64 = 1 << 26;

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
    ///
    /// # Errors
    /// The inline trees are larger than any real program's.
    pub fn inlined_into(&self, name: &str) -> Result<Vec<Inlined>, TooMuch> {
        let mut found = Vec::new();
        let mut budget = Budget::new("the inline trees of its function table", MAX_RUNS);
        for index in self.functions_of_package(name) {
            let Some(Range { start: entry, end }) = self.range(index) else { continue };
            // It gets its name only if there is a copy in it: few have one.
            let function = Function { name: String::new(), entry, end, index };
            let Some(tree) = Tree::of(self, &function, &mut budget)? else { continue };
            if !tree.has(name, &mut budget)? {
                continue;
            }
            // Of an inlined call there may be no instructions but those of what was inlined into it: it is found as their
            // ancestor in the tree.
            let (mut known, mut copies) = (HashMap::new(), BTreeMap::<i32, Vec<Range<u64>>>::new());
            for (run, call) in &tree.runs {
                let is_wanted = |call: &Call| self.is_named(call.name, name.as_bytes(), false);
                if let Some(copy) = tree.nearest(*call, is_wanted, &mut known) {
                    let range = entry + u64::from(run.start)..entry + u64::from(run.end);
                    copies.entry(copy).or_default().push(range);
                }
            }
            found.extend(
                copies.into_values().filter_map(|ranges| {
                    Some(Inlined { into: self.function(index)?, ranges: joined(ranges) })
                }),
            );
        }
        Ok(found)
    }

    /// The frames of a link-time address, innermost first; the last is the function whose code it is. Empty where
    /// no Go code is. For a return address, ask for the byte before it.
    pub fn frames_at(&self, pc: u64) -> Vec<CodeFrame> {
        let Some(function) = self.function_at(pc) else { return Vec::new() };
        let mut frames = Vec::new();
        let mut at = pc;
        // Each call is looked up in the numbers of all instructions of the function. The largest real ones have 1 MB.
        let deepest = (MAX_LOOKED_UP / function.size().max(1)).clamp(1, MAX_DEPTH as u64);
        for depth in 1..=deepest {
            let (file, line) = self.file_and_line(&function, at);
            let Some(call) = self.call_at(&function, at).filter(|_| depth < deepest) else {
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
        let mut budget = Budget::new("the inline tree of a function", MAX_RUNS);
        let Ok(Some(tree)) = Tree::of(self, function, &mut budget) else {
            own.push(function.entry..function.end);
            return (names, own);
        };
        let mut known = HashMap::new();
        for (run, call) in &tree.runs {
            if *call < 0 {
                own.push(function.entry + u64::from(run.start)..function.entry + u64::from(run.end));
                continue;
            }
            let is_outermost = |call: &Call| tree.call_index(call.parent).is_none();
            let outermost = tree.nearest(*call, is_outermost, &mut known);
            if let Some(call) = outermost.and_then(|index| self.call(function, index)) {
                let name = printed(self.name_at(call.name));
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        (names, own)
    }

    /// The runs of instructions that were inlined into a function from one of which `meaning` knows something, each with
    /// that. Where several of the calls that a run belongs to are known, the innermost one counts.
    pub(crate) fn inlined_runs<T>(
        &self,
        function: &Function,
        meaning: impl Fn(&str) -> Option<T>,
    ) -> Vec<(Range<u64>, T)> {
        let mut budget = Budget::new("the inline tree of a function", MAX_RUNS);
        let Ok(Some(tree)) = Tree::of(self, function, &mut budget) else { return Vec::new() };
        let of_call = |call: &Call| meaning(&printed(self.name_at(call.name)));
        let mut known = HashMap::new();
        let meant = tree.runs.iter().filter_map(|(run, call)| {
            let nearest = tree.nearest(*call, |call| of_call(call).is_some(), &mut known)?;
            let range = function.entry + u64::from(run.start)..function.entry + u64::from(run.end);
            Some((range, of_call(&self.call(function, nearest)?)?))
        });
        meant.collect()
    }

    /// The number of the innermost inlined call that each instruction of a function belongs to, negative for the function's
    /// own. None where nothing was inlined into it.
    pub(crate) fn inlined_calls(&self, function: &Function) -> Option<PcValues<'_>> {
        let record = self.record(function.index)?;
        record.funcdata(FUNCDATA_INL_TREE)?;
        Some(self.pcvalues(function, record.pcdata(PCDATA_INL_TREE_INDEX)?))
    }

    fn call_at(&self, function: &Function, pc: u64) -> Option<Call> {
        let offset = u32::try_from(pc.checked_sub(function.entry)?).ok()?;
        self.call(function, self.call_index(function, offset)?)
    }

    fn call_index(&self, function: &Function, offset: u32) -> Option<i32> {
        let table = self.record(function.index)?.pcdata(PCDATA_INL_TREE_INDEX)?;
        self.pcvalues(function, table).at(offset).filter(|index| *index >= 0)
    }

    fn call(&self, function: &Function, index: i32) -> Option<Call> {
        let (size, name, parent) = if self.since_120() { (16, 4, 8) } else { (20, 12, 16) };
        let tree = self.data_of(function, FUNCDATA_INL_TREE)?;
        let bytes = tree.get(usize::try_from(index).ok()?.checked_mul(size)?..)?.get(..size)?;
        Some(Call { name: u32_at(bytes, name)?, parent: u32_at(bytes, parent)? })
    }
}

/// The inline tree of a function, with its runs of instructions: which call each of them belongs to.
struct Tree<'t> {
    table: &'t Pclntab,
    function: &'t Function,
    /// Runs of instructions as offsets from the function's entry, without gaps, each with the number of its call.
    runs: Vec<(Range<u32>, i32)>,
}

impl<'t> Tree<'t> {
    /// None where nothing was inlined into the function.
    fn of(
        table: &'t Pclntab,
        function: &'t Function,
        budget: &mut Budget,
    ) -> Result<Option<Tree<'t>>, TooMuch> {
        let Some(calls) = table.inlined_calls(function) else { return Ok(None) };
        let mut runs = Vec::new();
        for run in calls {
            budget.spend(1)?;
            runs.push(run);
        }
        Ok(Some(Tree { table, function, runs }))
    }

    /// Whether any call has this name. The tree has no end mark, but a caller stands before what was inlined into it, and
    /// no tree has more calls than its function has bytes.
    fn has(&self, name: &str, budget: &mut Budget) -> Result<bool, TooMuch> {
        let last = self.runs.iter().map(|(_, call)| *call).max().unwrap_or(-1);
        let last = last.min(i32::try_from(self.function.size()).unwrap_or(i32::MAX));
        budget.spend(u64::try_from(last).unwrap_or(0))?;
        let mut calls = (0..=last).map_while(|index| self.table.call(self.function, index));
        Ok(calls.any(|call| self.table.is_named(call.name, name.as_bytes(), false)))
    }

    fn call_index(&self, offset: u32) -> Option<i32> {
        let at = self.runs.partition_point(|(run, _)| run.end <= offset);
        self.runs.get(at).map(|(_, call)| *call).filter(|call| *call >= 0)
    }

    /// The nearest call at or above `index` that is wanted. `known` has the answers so far, so that each call is asked
    /// once, however many instructions it has and however many calls are below it.
    fn nearest(
        &self,
        index: i32,
        is_wanted: impl Fn(&Call) -> bool,
        known: &mut HashMap<i32, Option<i32>>,
    ) -> Option<i32> {
        let mut path = Vec::new();
        let mut next = Some(index).filter(|index| *index >= 0);
        let found = loop {
            let Some(index) = next.filter(|_| path.len() < MAX_DEPTH) else { break None };
            if let Some(answer) = known.get(&index) {
                break *answer;
            }
            path.push(index);
            let Some(call) = self.table.call(self.function, index) else { break None };
            if is_wanted(&call) {
                break Some(index);
            }
            next = self.call_index(call.parent);
        };
        known.extend(path.into_iter().map(|index| (index, found)));
        found
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
