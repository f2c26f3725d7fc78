//! Which test each goroutine of a test binary goes back to.
//!
//! A test runs in a goroutine of its own, whose id and name a probe tells before it does anything. Whatever that goroutine
//! creates goes back to the test, and so does whatever that creates: each goroutine goes back to what its creator does, at the
//! moment of its creation. So of several tests that run at the same time, each has its own, also where all run the same code.
//!
//! A test has ended when its goroutine reports it: package `testing` waits for subtests there, runs what was given to `Cleanup`,
//! reports, and then tells whoever waits (`tRunner` in <https://cs.opensource.google/go/go/+/master:src/testing/testing.go>). The
//! goroutine itself may end later, even after the process; that of a benchmark is all there is to tell its end. Examples all run
//! in the main goroutine, one after the other, between their begin and their end.

use std::collections::{BTreeMap, HashMap};

use super::ids::SiteId;
use super::lineage::Lineages;
use super::table::Table;
use crate::event::{TestName, TestPoint};

/// The main goroutine, in each program.
const MAIN: u64 = 1;

/// Most goroutines that outlived their tests and ended later that are kept of a process, and most of those that were there at
/// its end.
const MOST_KEPT: usize = 1 << 16;

/// Most different tests of a process that are kept. What more there are goes back to nothing that is known.
const MOST_TESTS: usize = 1 << 16;

/// What a goroutine of a test binary goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// What packages do before `main`.
    Init,
    /// `TestMain`, or what else runs before the first test and after the last one.
    TestMain,
    /// A test, a benchmark, a fuzz function or an example.
    Test(TestKind, TestName),
    /// It is not known.
    Unknown,
}

/// The kinds of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TestKind {
    /// A test function or a subtest.
    Test,
    /// A benchmark function or a part of one.
    Benchmark,
    /// A fuzz function.
    Fuzz,
    /// An example.
    Example,
}

/// How often a test ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How often it began.
    pub begun: u64,
    /// How often it ended.
    pub ended: u64,
}

/// A goroutine that goes back to something that is known, when it ended or at the end of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its id.
    pub goid: u64,
    /// Its site.
    pub site: SiteId,
    /// What it goes back to.
    pub origin: Origin,
    /// For how long it has outlived its test, in ns; `None` where that has not ended, or it goes back to none.
    pub outlived_ns: Option<u64>,
}

/// One run of a test, or all that goes back to something else.
#[derive(Clone, Copy, Debug)]
struct Run {
    origin: Origin,
    /// The goroutine that runs it; 0 for what is no test.
    runner: u64,
    ended_ns: Option<u64>,
    /// How many others live that go back to it.
    living: u64,
}

/// An index into the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RunId(u32);

const INIT: RunId = RunId(0);
const TEST_MAIN: RunId = RunId(1);
const UNKNOWN: RunId = RunId(2);

/// The tests of a process, and what goes back to them.
pub struct TestRuns {
    /// From how many ns on goroutines are remembered that outlive their test by so much and end then.
    grace_ns: u64,
    runs: Vec<Run>,
    free: Vec<RunId>,
    /// What each living goroutine goes back to.
    runs_of: HashMap<u64, RunId>,
    /// What the main goroutine is busy with.
    main: RunId,
    tests: BTreeMap<(TestKind, TestName), Runs>,
    ended_late: Vec<Descendant>,
    at_end: Option<Vec<Descendant>>,
    /// What threads are about to start processes for.
    forking: HashMap<u32, RunId>,
}

impl TestRuns {
    /// Nothing has run yet. The goroutines that live go back to what packages did before `main` if it begins now.
    pub(super) fn new(grace_ns: u64, begins: bool, table: &Table) -> TestRuns {
        let run = |origin| Run { origin, runner: 0, ended_ns: None, living: 0 };
        let mut runs = TestRuns {
            grace_ns,
            runs: [Origin::Init, Origin::TestMain, Origin::Unknown].map(run).into(),
            free: Vec::new(),
            runs_of: HashMap::new(),
            main: TEST_MAIN,
            tests: BTreeMap::new(),
            ended_late: Vec::new(),
            at_end: None,
            forking: HashMap::new(),
        };
        let first = if begins { INIT } else { UNKNOWN };
        table.iter().filter(|known| known.goid != MAIN).for_each(|known| runs.enter(known.goid, first));
        runs
    }

    /// Each test, and how often it ran.
    pub fn tests(&self) -> impl Iterator<Item = ((TestKind, TestName), Runs)> {
        self.tests.iter().map(|(&test, &runs)| (test, runs))
    }

    /// The goroutines that outlived their tests by the grace or more and ended after that.
    pub fn ended_late(&self) -> &[Descendant] {
        &self.ended_late
    }

    /// The living goroutines, at the boot time `now_ns` or at the end of the process, in the order of their ids. Those that run
    /// tests are none.
    pub(super) fn living(&self, table: &Table, lineages: &Lineages, now_ns: u64) -> Vec<Descendant> {
        if let Some(at_end) = &self.at_end {
            return at_end.clone();
        }
        let descendant = |(&goid, &id): (&u64, &RunId)| {
            let run = self.run(id);
            if run.runner == goid {
                return None;
            }
            let site = lineages.site(table.get(goid)?.lineage);
            let outlived_ns = run.ended_ns.map(|ended| now_ns.saturating_sub(ended));
            Some(Descendant { goid, site, origin: run.origin, outlived_ns })
        };
        let mut living: Vec<_> = self.runs_of.iter().filter_map(descendant).collect();
        living.sort_unstable_by_key(|one| one.goid);
        living
    }

    /// Takes note that a goroutine was created.
    pub(super) fn created(&mut self, goid: u64, parent: u64) {
        // The record of a test may come before that of its goroutine's birth.
        if !self.runs_of.contains_key(&goid) {
            self.enter(goid, self.run_of(parent));
        }
    }

    /// Takes note that a goroutine ended.
    pub(super) fn exited(&mut self, goid: u64, site: SiteId, time_ns: u64) {
        let Some(id) = self.runs_of.remove(&goid) else { return };
        let run = &mut self.runs[id.0 as usize];
        if run.runner == goid {
            return self.end(id, time_ns);
        }
        run.living = run.living.saturating_sub(1);
        let Run { origin, ended_ns: Some(ended_ns), .. } = *run else { return };
        let outlived_ns = time_ns.saturating_sub(ended_ns);
        if outlived_ns >= self.grace_ns && self.ended_late.len() < MOST_KEPT {
            self.ended_late.push(Descendant { goid, site, origin, outlived_ns: Some(outlived_ns) });
        }
        self.free_if_over(id);
    }

    /// Takes note that a goroutine has come to a point of the tests, on this thread.
    pub(super) fn reached(&mut self, point: TestPoint, goid: u64, thread: u32, name: TestName, time_ns: u64) {
        let kind = match point {
            TestPoint::Main => return,
            TestPoint::Fork => {
                self.forking.insert(thread, self.run_of(goid));
                return;
            }
            TestPoint::ExampleEnd => return self.end_example(time_ns),
            TestPoint::End => {
                let id = self.run_of(goid);
                if goid != MAIN && self.run(id).runner == goid {
                    self.finish(id, time_ns);
                }
                return;
            }
            TestPoint::Test => TestKind::Test,
            TestPoint::Benchmark => TestKind::Benchmark,
            TestPoint::Fuzz => TestKind::Fuzz,
            TestPoint::Example => TestKind::Example,
        };
        let origin = Origin::Test(kind, name);
        let is_example = kind == TestKind::Example;
        // What all tests are subtests of runs in the main goroutine.
        if is_example != (goid == MAIN) {
            return;
        }
        // A function is entered twice where its stack has to grow first, a benchmark runs its function several times, and within
        // a test `synctest.Test` runs another of its name.
        let current = self.run(self.run_of(goid));
        if current.origin == origin && current.ended_ns.is_none() {
            return;
        }
        if is_example {
            self.end_example(time_ns);
        }
        let id = self.begin(kind, name, goid);
        if is_example {
            self.main = id;
        } else if let Some(before) = self.runs_of.insert(goid, id) {
            match self.run(before).runner == goid {
                true => self.end(before, time_ns),
                false => self.leave(before),
            }
        }
    }

    /// What a thread starts a process for that was about to.
    pub(super) fn forked(&mut self, thread: u32) -> Option<Origin> {
        self.forking.remove(&thread).map(|id| self.run(id).origin)
    }

    /// Takes note of the end of the process.
    pub(super) fn end_all(&mut self, table: &Table, lineages: &Lineages, time_ns: u64) {
        let mut living = self.living(table, lineages, time_ns);
        living.truncate(MOST_KEPT);
        self.at_end = Some(living);
        (self.runs_of, self.forking) = Default::default();
    }

    /// Forgets goroutines that the table does not have any more.
    pub(super) fn retain(&mut self, table: &Table) {
        let gone: Vec<u64> =
            self.runs_of.keys().filter(|&&goid| table.get(goid).is_none()).copied().collect();
        for goid in gone {
            if let Some(id) = self.runs_of.remove(&goid)
                && self.run(id).runner != goid
            {
                self.leave(id);
            }
        }
    }

    fn run(&self, id: RunId) -> &Run {
        &self.runs[id.0 as usize]
    }

    /// What a goroutine is busy with.
    fn run_of(&self, goid: u64) -> RunId {
        match goid {
            MAIN => self.main,
            _ => self.runs_of.get(&goid).copied().unwrap_or(UNKNOWN),
        }
    }

    fn enter(&mut self, goid: u64, id: RunId) {
        self.runs_of.insert(goid, id);
        self.runs[id.0 as usize].living += 1;
    }

    fn leave(&mut self, id: RunId) {
        let run = &mut self.runs[id.0 as usize];
        run.living = run.living.saturating_sub(1);
        self.free_if_over(id);
    }

    fn begin(&mut self, kind: TestKind, name: TestName, runner: u64) -> RunId {
        let has_room = self.tests.len() < MOST_TESTS || self.tests.contains_key(&(kind, name));
        if !has_room {
            return UNKNOWN;
        }
        self.tests.entry((kind, name)).or_default().begun += 1;
        let run = Run { origin: Origin::Test(kind, name), runner, ended_ns: None, living: 0 };
        match self.free.pop() {
            Some(id) => {
                self.runs[id.0 as usize] = run;
                id
            }
            None => {
                self.runs.push(run);
                RunId(self.runs.len() as u32 - 1)
            }
        }
    }

    /// Takes note that the goroutine of a run is gone, or does something else.
    fn end(&mut self, id: RunId, time_ns: u64) {
        self.finish(id, time_ns);
        // The goroutine's id is not used again, but the place of this run may be.
        self.runs[id.0 as usize].runner = 0;
        self.free_if_over(id);
    }

    /// Takes note that a run is over, if it was not.
    fn finish(&mut self, id: RunId, time_ns: u64) {
        let run = &mut self.runs[id.0 as usize];
        if run.ended_ns.is_some() {
            return;
        }
        run.ended_ns = Some(time_ns);
        if let Origin::Test(kind, name) = run.origin
            && let Some(runs) = self.tests.get_mut(&(kind, name))
        {
            runs.ended += 1;
        }
    }

    fn end_example(&mut self, time_ns: u64) {
        let example = std::mem::replace(&mut self.main, TEST_MAIN);
        if example != TEST_MAIN && self.run(example).ended_ns.is_none() {
            self.end(example, time_ns);
        }
    }

    /// Gives the place of a run to another when it has ended, and nothing that goes back to it lives.
    fn free_if_over(&mut self, id: RunId) {
        let Run { ended_ns, living, runner, .. } = *self.run(id);
        if ended_ns.is_some() && living == 0 && runner == 0 && !self.forking.values().any(|of| *of == id) {
            self.free.push(id);
        }
    }
}
