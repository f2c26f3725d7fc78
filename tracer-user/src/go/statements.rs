//! Which `go` statement of its function one is. Lines move with every change of a file, but the first statement of a
//! function stays its first, so that is what a site is told by from one build to the next.
//!
//! Counted are the calls of `runtime.newproc` in the code of the function, executed or not, by line and then by address.
//! What the compiler has thrown away counts for nothing: neither code that can never run nor functions without a caller.
//! Up to Go 1.27 the compiler inlines no function that has a `go` statement. Should one do so, the statement belongs to the
//! function that was inlined, and each copy is counted by itself, so that a statement has one number in all its copies
//! unless the compiler has thrown a part of one of them away.

use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::{Mutex, PoisonError};

use crate::go::file::budget::Budget;
use crate::go::functions::pclntab::{Function, Pclntab};
use crate::go::functions::pcvalue::PcValues;
use crate::go::plan::{self, Kernel, Next};

/// What a `go` statement calls.
const NEWPROC: &str = "runtime.newproc";
/// Bytes of code that are decoded of one function. The largest of real programs that have `go` statements have 100 kB.
const MOST_OF_FUNCTION: u64 = 1 << 18;
/// Bytes of code that are decoded of one binary.
const MOST_OF_BINARY: u64 = 1 << 24;

/// The `go` statements of the functions of one binary that were asked about. The code of each is read once.
#[derive(Default)]
pub(super) struct Statements(Mutex<Known>);

struct Known {
    /// By the address of the function, the addresses that the calls of its statements return to, each with its number.
    functions: HashMap<u64, HashMap<u64, u32>>,
    budget: Budget,
}

impl Default for Known {
    fn default() -> Known {
        let budget = Budget::new("the code of functions with go statements", MOST_OF_BINARY);
        Known { functions: HashMap::new(), budget }
    }
}

impl Statements {
    /// Which `go` statement of its function one is whose call returns to this link-time address, from 1. None where the call is
    /// none of a `go` statement, where the code is not in the file, and where there is more of it than in any real program.
    pub(super) fn ordinal(&self, table: &Pclntab, returns_to: u64) -> Option<u32> {
        let function = table.function_at(returns_to)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { functions, budget } = &mut *known;
        let statements = functions.entry(function.entry).or_insert_with(|| {
            let is_small = function.size() <= MOST_OF_FUNCTION && budget.spend(function.size()).is_ok();
            if is_small { count(table, &function) } else { HashMap::new() }
        });
        statements.get(&returns_to).copied()
    }
}

/// The addresses that the calls of a function's statements return to, each with its number.
fn count(table: &Pclntab, function: &Function) -> HashMap<u64, u32> {
    let code = table.image.bytes(function.entry..function.end).unwrap_or_default();
    let architecture = table.image.architecture();
    let steps = plan::decode(architecture, function.entry, code, &|_| None, Kernel::default());
    let is_statement = |step: &&plan::Step| match step.next {
        Next::Call(Some(target)) => table.function_at(target).is_some_and(|to| is_newproc(&to.name)),
        _ => false,
    };
    let (mut lines, mut copies) =
        (Along::new(table.lines(function)), Along::new(table.inlined_calls(function)));
    let calls = steps.iter().filter(is_statement).map(|step| {
        let offset = u32::try_from(step.address - function.entry).unwrap_or(u32::MAX);
        let (copy, line) = (copies.at(offset).unwrap_or(-1), lines.at(offset).unwrap_or(0));
        Call { copy, line, returns_to: step.address + step.size }
    });
    numbered(calls.collect())
}

/// Whether a function is the one that makes goroutines, or what the linker puts in between where that is too far away for
/// a call on arm64.
fn is_newproc(name: &str) -> bool {
    name == NEWPROC || name.strip_prefix(NEWPROC).is_some_and(|rest| rest.contains("-tramp"))
}

/// The numbers of instructions that are asked for in the order of their addresses, so that a table is read once.
struct Along<'t>(Option<Peekable<PcValues<'t>>>);

impl<'t> Along<'t> {
    fn new(values: Option<PcValues<'t>>) -> Along<'t> {
        Along(values.map(Iterator::peekable))
    }

    /// The number at an offset, which is not before the last one that was asked for.
    fn at(&mut self, offset: u32) -> Option<i32> {
        let runs = self.0.as_mut()?;
        while runs.next_if(|(run, _)| run.end <= offset).is_some() {}
        runs.peek().map(|(_, value)| *value)
    }
}

/// A call of `runtime.newproc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    /// The innermost inlined call that its code came from; -1 for code of the function itself.
    copy: i32,
    line: i32,
    returns_to: u64,
}

/// The place of each call among those of the same copy, by line and then by address, from 1.
fn numbered(mut calls: Vec<Call>) -> HashMap<u64, u32> {
    calls.sort_unstable();
    let copies = calls.chunk_by(|one, next| one.copy == next.copy);
    copies.flat_map(|copy| copy.iter().map(|call| call.returns_to).zip(1..)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::testing::{PLAIN, Program, STRIPPED_PIE, toolchains};

    #[test]
    fn each_copy_of_an_inlined_function_is_counted_by_itself() {
        let call = |copy, line, returns_to| Call { copy, line, returns_to };
        // Two statements of its own, the later one first in the code, and between them two copies of a function with two
        // statements of one line.
        let calls = vec![
            call(-1, 20, 0x10),
            call(3, 7, 0x20),
            call(3, 7, 0x28),
            call(0, 7, 0x30),
            call(0, 7, 0x38),
            call(-1, 12, 0x40),
        ];
        let numbers = numbered(calls);
        assert_eq!([0x40, 0x10].map(|pc| numbers[&pc]), [1, 2]);
        assert_eq!([0x20, 0x28, 0x30, 0x38].map(|pc| numbers[&pc]), [1, 2, 1, 2]);
        assert!(numbered(Vec::new()).is_empty());
    }

    #[test]
    fn several_instructions_have_the_number_of_their_run() {
        // 5 for ten bytes, 6 for ten more.
        let mut along = Along::new(Some(PcValues::new(&[12, 10, 2, 10, 0], 1, 40)));
        assert_eq!(
            [3, 9, 9, 10, 19, 20].map(|at| along.at(at)),
            [5, 5, 5, 6, 6, 0].map(|n| (n > 0).then_some(n))
        );
        assert_eq!(Along::new(None).at(0), None);
    }

    #[test]
    fn statements_of_real_code() {
        const UNOPTIMISED: &[&str] = &["-gcflags=all=-N -l"];
        const FAR: &[&str] = &["-ldflags=-debugtramp=2"];
        let ways = [
            (PLAIN, "amd64"),
            (STRIPPED_PIE, "amd64"),
            (UNOPTIMISED, "amd64"),
            (PLAIN, "arm64"),
            (STRIPPED_PIE, "arm64"),
            (FAR, "arm64"),
        ];
        let source = include_str!("testdata/statements.go");
        let line = |mark: &str| {
            let at = source.lines().position(|line| line.ends_with(&format!("// {mark}")));
            1 + u32::try_from(at.unwrap()).unwrap()
        };
        for (toolchain, (flags, cpu)) in
            toolchains().into_iter().flat_map(|toolchain| ways.map(|way| (toolchain, way)))
        {
            let environment = [("GOARCH", cpu), ("CGO_ENABLED", "0")];
            let binary = Program::build_source(toolchain, source, flags, &environment).binary();
            let found = |name: &str| {
                let functions = binary.functions_named(name);
                let mut found: Vec<(u32, u32)> = (functions.iter())
                    .flat_map(|function| function.entry..function.end)
                    .filter_map(|pc| Some((binary.go_ordinal(pc)?, binary.go_statement(pc)?.line)))
                    .collect();
                found.sort_unstable();
                found
            };
            let about = format!("{toolchain} {cpu} {flags:?}");
            let numbers = |marks: &[&str]| -> Vec<(u32, u32)> {
                (1..).zip(marks.iter().map(|mark| line(mark))).collect()
            };
            let many = ["loop", "never", "pair", "pair", "method", "value", "last"];
            assert_eq!(found("main.many"), numbers(&many), "{about}");
            assert_eq!(found("main.many.func1"), numbers(&["closure"]), "{about}");
            assert_eq!(found("main.none"), [], "{about}");
            // One for each shape.
            assert_eq!(found("main.shaped[...]"), [(1, line("shaped")), (1, line("shaped"))], "{about}");
        }
    }
}
