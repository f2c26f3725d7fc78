//! Which locks code is going to release. A goroutine that holds a lock has the release ahead: as a deferred call, or
//! further on in a function that it is in. Both are told by the executable, which knows where a function keeps what it
//! has deferred, and what comes next in its code.

use std::collections::{HashMap, HashSet};

use super::binary::Binary;
use crate::go::functions::pclntab::{FrameSize, Function};
use crate::go::functions::pcvalue::varint;
use crate::go::plan::{self, Kernel, Next, Step};
use crate::go::runtime::versions::{self, Lock, OpenDeferForm, Operation};

/// `abi.FUNCDATA_OpenCodedDeferInfo`
const FUNCDATA_OPEN_CODED_DEFERS: u8 = 4;
/// Most deferred calls of one function that are open-coded: the compiler has a bit for each in one byte.
const MOST_OPEN_CODED: usize = 8;

/// Where a function that is in a call keeps its deferred calls, as distances in bytes from its stack pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// The byte that has a bit for each of them, which is set while it is still to be called.
    pub bits: usize,
    /// Where each of them has the pointer to its closure, in the order of the bits.
    pub closures: Vec<usize>,
}

/// What a function releases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Releases {
    /// The kinds of locks of which it may release some.
    pub locks: Vec<Lock>,
    /// The compiler made it for a deferred call of the very method that releases, so that what it has captured is the
    /// lock itself.
    pub captures_lock: bool,
}

impl Binary {
    /// Where the function that is in a call at this link-time address keeps its deferred calls. None where they are not
    /// open-coded: then there is a record for each, on the list `g._defer`.
    pub fn deferred(&self, pc: u64) -> Option<Deferred> {
        let (owner, pc) = self.owner(pc);
        let function = owner.function_at(pc)?;
        let mut table = owner.table().data_of(&function, FUNCDATA_OPEN_CODED_DEFERS)?;
        let Some(FrameSize::Bytes(size)) = owner.frame_size(pc) else { return None };
        // The outermost word is a saved frame pointer, and offsets count downwards from there.
        let end = (size as usize).checked_sub(8)?;
        let mut offset = || varint(&mut table).map(|offset| offset as usize);
        let bits = end.checked_sub(offset()?)?;
        let closures = match versions::open_defer_form(self.version()) {
            OpenDeferForm::Listed => {
                let count = offset()?.min(MOST_OPEN_CODED);
                let mut all = (0..count).map(|_| end.checked_sub(offset()?)).collect::<Option<Vec<_>>>()?;
                all.reverse();
                all
            }
            OpenDeferForm::Consecutive => {
                let first = end.checked_sub(offset()?)?;
                (0..MOST_OPEN_CODED).map(|at| first + 8 * at).collect()
            }
        };
        Some(Deferred { bits, closures })
    }

    /// What the function that begins at this link-time address releases; nothing where no function does.
    pub fn releases(&self, entry: u64) -> Releases {
        let (owner, entry) = self.owner(entry);
        let Some(function) = owner.function_at(entry).filter(|function| function.entry == entry) else {
            return Releases::default();
        };
        let mut locks: Vec<Lock> = Vec::new();
        let uses = Uses::of(owner, &function);
        for (lock, _) in uses.all().filter(|(_, operation)| *operation == Operation::Release) {
            if !locks.contains(&lock) {
                locks.push(lock);
            }
        }
        let wrapped = owner.entry_function(entry).filter(|_| owner.is_wrapper(&function));
        let wrapped = wrapped.and_then(|wrapped| versions::operation(&wrapped.function));
        Releases { locks, captures_lock: wrapped.is_some_and(|(_, what)| what == Operation::Release) }
    }

    /// The kinds of locks that a function, after the call that returns to this link-time address, goes on to release
    /// before it acquires one of the same kind, whatever way it takes. So it holds such a lock during the call. A call
    /// that acquires one itself tells nothing: what follows is the release of that one.
    pub fn goes_on_to_release(&self, pc: u64) -> Vec<Lock> {
        let (owner, pc) = self.owner(pc);
        let Some(function) = owner.function_at(pc) else { return Vec::new() };
        let uses = Uses::of(owner, &function);
        let released = |lock: &Lock| uses.comes_first(pc, *lock) == Some(Operation::Release);
        [Lock::Mutex, Lock::RwMutex, Lock::WaitGroup].into_iter().filter(released).collect()
    }
}

/// The instructions of a function, and what they do with locks.
struct Uses {
    steps: Vec<Step>,
    /// The index of the step at an address.
    at: HashMap<u64, usize>,
    /// For a step of an inlined method, or one that calls a method.
    used: HashMap<usize, (Lock, Operation)>,
}

impl Uses {
    /// Of a function with more code than is looked at, nothing is known.
    fn of(owner: &Binary, function: &Function) -> Uses {
        let code = owner.code(function.entry..function.end);
        let mut uses = Uses { steps: Vec::new(), at: HashMap::new(), used: HashMap::new() };
        if code.len() > plan::MAX_CODE {
            return uses;
        }
        let architecture = owner.image().architecture();
        uses.steps = plan::decode(architecture, function.entry, code, &|_| None, Kernel::default());
        uses.at = uses.steps.iter().enumerate().map(|(index, step)| (step.address, index)).collect();
        for (run, what) in owner.table().inlined_runs(function, versions::operation) {
            let first = uses.steps.partition_point(|step| step.address < run.start);
            let within = uses.steps[first..].iter().take_while(|step| step.address < run.end).count();
            uses.used.extend((first..first + within).map(|index| (index, what)));
        }
        let calls = uses.steps.iter().enumerate().filter_map(|(index, step)| {
            let Next::Call(Some(target)) = step.next else { return None };
            let callee = owner.function_at(target).filter(|callee| callee.entry == target)?;
            Some((index, versions::operation(&callee.name)?))
        });
        for (index, what) in calls {
            uses.used.entry(index).or_insert(what);
        }
        uses
    }

    fn all(&self) -> impl Iterator<Item = (Lock, Operation)> {
        self.used.values().copied()
    }

    /// What is done first with a lock of this kind from an address on, if it is the same on all ways there.
    fn comes_first(&self, pc: u64, lock: Lock) -> Option<Operation> {
        if !self.all().any(|(of, operation)| of == lock && operation == Operation::Release) {
            return None;
        }
        let next = *self.at.get(&pc)?;
        if next.checked_sub(1).and_then(|call| self.used.get(&call)) == Some(&(lock, Operation::Acquire)) {
            return None;
        }
        let mut open = vec![next];
        let (mut seen, mut found) = (HashSet::new(), None);
        while let Some(index) = open.pop() {
            if !seen.insert(index) {
                continue;
            }
            match self.used.get(&index) {
                Some((of, operation)) if *of == lock => {
                    if found.is_some_and(|found| found != *operation) {
                        return None;
                    }
                    found = Some(*operation);
                    continue;
                }
                _ => {}
            }
            let step = self.steps.get(index)?;
            let (next, other) = match step.next {
                Next::Following | Next::Call(_) => (Some(index + 1), None),
                Next::Jump(to) => (self.at.get(&to).copied(), None),
                Next::Branch(to) => (Some(index + 1), self.at.get(&to).copied()),
                Next::Return | Next::Stop | Next::Unknown | Next::Undecodable => (None, None),
            };
            open.extend([next, other].into_iter().flatten().filter(|next| *next < self.steps.len()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::testing::{PLAIN, Program, STRIPPED_PIE, toolchains};

    #[test]
    fn what_real_code_releases() {
        let source = include_str!("testdata/holders.go");
        for (toolchain, cpu) in toolchains().into_iter().flat_map(|of| [(of, "amd64"), (of, "arm64")]) {
            for flags in [PLAIN, STRIPPED_PIE] {
                let environment = [("GOARCH", cpu), ("CGO_ENABLED", "0")];
                let binary = Program::build_source(toolchain, source, flags, &environment).binary();
                let label = format!("{toolchain} {cpu} {flags:?}");
                for (function, locks) in [
                    ("main.(*backend).plain", vec![Lock::Mutex]),
                    ("main.(*backend).before", vec![]),
                    ("main.(*backend).again", vec![]),
                    ("main.(*backend).reads", vec![Lock::RwMutex]),
                    ("main.(*backend).deferred", vec![]),
                ] {
                    let found = binary.goes_on_to_release(wait_in(&binary, function));
                    assert_eq!(found, locks, "{function} {label}");
                }
                let wait = wait_in(&binary, "main.(*backend).deferred");
                let deferred = binary.deferred(wait).unwrap();
                assert!(!deferred.closures.is_empty(), "{label}");
                assert_eq!(binary.deferred(wait_in(&binary, "main.(*backend).plain")), None, "{label}");
                for (function, suffixes, captures_lock) in [
                    ("main.(*backend).deferred", [".deferwrap1", ".func1"], true),
                    ("main.(*backend).closure", [".func1", ".func1"], false),
                ] {
                    let closure = suffixes.iter().find_map(|suffix| {
                        binary.functions_named(&format!("{function}{suffix}")).into_iter().next()
                    });
                    let found = binary.releases(closure.unwrap().entry);
                    assert_eq!(found, Releases { locks: vec![Lock::Mutex], captures_lock }, "{label}");
                }
            }
        }
    }

    /// Where the first receive or `select` of a function returns to.
    fn wait_in(binary: &Binary, name: &str) -> u64 {
        let function = binary.functions_named(name).remove(0);
        let code = binary.code(function.entry..function.end);
        let steps =
            plan::decode(binary.image().architecture(), function.entry, code, &|_| None, Kernel::default());
        let waits = |step: &&Step| {
            let Next::Call(Some(target)) = step.next else { return false };
            let callee = binary.function_at(target).unwrap().name;
            ["runtime.chanrecv1", "runtime.selectgo"].contains(&callee.as_str())
        };
        let wait = steps.iter().find(waits).unwrap();
        wait.address + wait.size
    }
}
