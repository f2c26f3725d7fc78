//! Tests of what goroutines of test binaries go back to, and a naive model that keeps it for every goroutine there ever was.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{S, g_of, happened};
use crate::event::{StackCode, TestName, TestNames, TestPoint};
use crate::tracker::*;

const THREAD: u32 = 70;

/// A test binary in the making.
struct Binary {
    tracker: Tracker,
    names: TestNames,
    now: u64,
}

impl Binary {
    fn new() -> Binary {
        let mut binary =
            Binary { tracker: Tracker::new(Limits::default()), names: TestNames::default(), now: 0 };
        binary.create(1, 0);
        binary
    }

    fn happens(&mut self, what: What) {
        self.now += 1;
        self.tracker.apply(&happened(self.now, what));
    }

    fn create(&mut self, goid: u64, parent: u64) {
        let (g, stack) = (g_of(goid), StackCode::NONE);
        self.happens(What::Created { g, goid, parent, gopc: 0x1000, startpc: 0x2000, stack });
    }

    fn exit(&mut self, goid: u64) {
        self.happens(What::Exited { g: g_of(goid) });
    }

    fn reach(&mut self, point: TestPoint, goid: u64, name: &str) -> TestName {
        let name = self.names.number(name);
        self.happens(What::Test { point, goid, thread: THREAD, name });
        name
    }

    /// A test begins in a goroutine of its own.
    fn test(&mut self, goid: u64, parent: u64, name: &str) -> Origin {
        self.create(goid, parent);
        Origin::Test(TestKind::Test, self.reach(TestPoint::Test, goid, name))
    }

    fn instance(&self) -> &Instance {
        self.tracker.instances().next().unwrap()
    }

    /// The living goroutines, with what they go back to and for how long they have outlived it.
    fn living(&self) -> Vec<(u64, Origin, Option<u64>)> {
        let living = self.instance().descendants(self.now).into_iter();
        living.map(|one| (one.goid, one.origin, one.outlived_ns)).collect()
    }
}

#[test]
fn what_a_test_leads_to_goes_back_to_it() {
    let mut binary = Binary::new();
    binary.create(2, 1);
    binary.reach(TestPoint::Main, 1, "");
    binary.create(3, 1);
    let (a, b) = (binary.test(4, 1, "TestA"), binary.test(5, 1, "TestB"));
    // Both run at the same time, and what leaks is of the third generation.
    (6..9).for_each(|goid| binary.create(goid, if goid == 6 { 4 } else { goid - 1 }));
    binary.create(9, 5);
    binary.exit(6);
    binary.exit(4);
    let until_now = binary.now;
    binary.create(10, 8);
    binary.exit(7);
    let outlived = binary.now - until_now;
    let living = [
        (2, Origin::Init, None),
        (3, Origin::TestMain, None),
        (8, a, Some(outlived)),
        (9, b, None),
        (10, a, Some(outlived)),
    ];
    assert_eq!(binary.living(), living);
    binary.happens(What::ProcessExit);
    assert_eq!(binary.living().len(), 5, "as it was at the end");
    let runs = binary.instance().test_runs().unwrap();
    let counts: Vec<_> = runs.tests().map(|(_, runs)| (runs.begun, runs.ended)).collect();
    assert_eq!(counts, [(1, 1), (1, 0)]);
}

#[test]
fn subtests_and_runs_of_one_name_are_apart() {
    let mut binary = Binary::new();
    binary.reach(TestPoint::Main, 1, "");
    let outer = binary.test(2, 1, "TestA");
    let inner = binary.test(3, 2, "TestA/x");
    binary.create(4, 3);
    binary.create(5, 2);
    binary.exit(3);
    assert_eq!(binary.living(), [(4, inner, Some(0)), (5, outer, None)]);
    binary.exit(4);
    binary.exit(5);
    binary.exit(2);
    // It runs again, in the place of the run before.
    assert_eq!(binary.test(6, 1, "TestA"), outer);
    binary.create(7, 6);
    assert_eq!(binary.living(), [(7, outer, None)]);
    let counts: Vec<_> = binary.instance().test_runs().unwrap().tests().map(|(_, runs)| runs.begun).collect();
    assert_eq!(counts, [2, 1]);
}

#[test]
fn a_benchmark_function_that_runs_several_times_is_one_run() {
    let mut binary = Binary::new();
    binary.reach(TestPoint::Main, 1, "");
    // What all benchmarks are parts of runs in the main goroutine.
    binary.reach(TestPoint::Benchmark, 1, "Main");
    binary.create(2, 1);
    (0..3).for_each(|_| _ = binary.reach(TestPoint::Benchmark, 2, "BenchmarkA"));
    binary.create(3, 2);
    let runs: Vec<_> = binary.instance().test_runs().unwrap().tests().collect();
    assert_eq!((runs.len(), runs[0].1), (1, Runs { begun: 1, ended: 0 }));
    assert_eq!(runs[0].0.0, TestKind::Benchmark);
}

#[test]
fn a_test_has_ended_when_it_reports_however_long_its_goroutine_stays() {
    let mut binary = Binary::new();
    binary.reach(TestPoint::Main, 1, "");
    let test = binary.test(2, 1, "TestA");
    binary.create(3, 2);
    // Its function is entered twice where its stack has to grow first.
    (0..2).for_each(|_| _ = binary.reach(TestPoint::End, 2, ""));
    // What all tests are subtests of reports, too.
    binary.reach(TestPoint::End, 1, "");
    binary.happens(What::ProcessExit);
    assert_eq!(binary.living(), [(3, test, Some(3))]);
    let counts: Vec<_> = binary.instance().test_runs().unwrap().tests().map(|(_, runs)| runs).collect();
    assert_eq!(counts, [Runs { begun: 1, ended: 1 }]);
}

#[test]
fn a_test_within_a_bubble_is_the_same_test() {
    let mut binary = Binary::new();
    binary.reach(TestPoint::Main, 1, "");
    let test = binary.test(2, 1, "TestA");
    binary.test(3, 2, "TestA");
    binary.create(4, 3);
    binary.reach(TestPoint::End, 3, "");
    binary.exit(3);
    assert_eq!(binary.living(), [(4, test, None)]);
    binary.exit(2);
    assert_eq!(binary.living(), [(4, test, Some(0))]);
    assert_eq!(binary.instance().test_runs().unwrap().tests().next().unwrap().1, Runs { begun: 1, ended: 1 });
}

#[test]
fn examples_run_one_after_the_other_in_the_main_goroutine() {
    let mut binary = Binary::new();
    binary.reach(TestPoint::Main, 1, "");
    let first = Origin::Test(TestKind::Example, binary.reach(TestPoint::Example, 1, "ExampleA"));
    // The function is entered again once its stack has grown.
    binary.reach(TestPoint::Example, 1, "ExampleA");
    binary.create(2, 1);
    binary.reach(TestPoint::ExampleEnd, 1, "");
    binary.create(3, 1);
    let second = Origin::Test(TestKind::Example, binary.reach(TestPoint::Example, 1, "ExampleB"));
    binary.create(4, 1);
    let living = binary.living();
    assert_eq!(living[1..], [(3, Origin::TestMain, None), (4, second, None)]);
    assert_eq!((living[0].1, living[0].2.is_some()), (first, true));
    let counts: Vec<_> = binary.instance().test_runs().unwrap().tests().map(|(_, runs)| runs).collect();
    assert_eq!(counts, [Runs { begun: 1, ended: 1 }, Runs { begun: 1, ended: 0 }]);
}

#[test]
fn who_ends_within_the_grace_is_no_leak() {
    let mut binary = Binary::new();
    let test = binary.test(2, 1, "TestA");
    binary.create(3, 2);
    binary.create(4, 2);
    binary.exit(2);
    let ended = binary.now;
    binary.exit(3);
    binary.now += S;
    binary.exit(4);
    let late = binary.instance().test_runs().unwrap().ended_late().to_vec();
    let outlived_ns = Some(binary.now - ended);
    assert_eq!(late, [Descendant { goid: 4, site: SiteId(0), origin: test, outlived_ns }]);
}

#[test]
fn what_nobody_is_known_to_have_created_goes_back_to_nothing() {
    let mut binary = Binary::new();
    binary.create(2, 1);
    // The first that is heard of the tests is not their begin.
    let test = binary.test(3, 1, "TestA");
    binary.create(4, 0);
    binary.create(5, 99);
    binary.create(6, 3);
    let unknown = |goid| (goid, Origin::Unknown, None);
    assert_eq!(binary.living(), [unknown(2), unknown(4), unknown(5), (6, test, None)]);
}

#[test]
fn a_name_may_come_before_its_goroutine() {
    let mut binary = Binary::new();
    let name = binary.reach(TestPoint::Test, 2, "TestA");
    binary.create(2, 1);
    binary.create(3, 2);
    assert_eq!(binary.living(), [(3, Origin::Test(TestKind::Test, name), None)]);
}

#[test]
fn a_process_that_a_test_starts_is_known_by_it_with_all_that_descends() {
    let mut binary = Binary::new();
    let test = binary.test(2, 1, "TestA");
    binary.create(3, 2);
    binary.reach(TestPoint::Fork, 3, "");
    // Another thread is cloned meanwhile.
    binary.happens(What::Fork { child: 80, thread: 71 });
    binary.happens(What::Fork { child: 81, thread: THREAD });
    let at = |time_ns, pid, what| Event { time_ns, pid, losses: 0, what };
    binary.tracker.apply(&at(900, 81, What::Fork { child: 82, thread: 81 }));
    for pid in [80, 81, 82] {
        let created = What::Created { g: 8, goid: 1, parent: 0, gopc: 1, startpc: 1, stack: StackCode::NONE };
        binary.tracker.apply(&at(1_000, pid, created));
    }
    let by: HashMap<u32, _> = binary
        .tracker
        .instances()
        .map(|instance| (instance.pid, instance.started_by.map(|(_, of)| of)))
        .collect();
    assert_eq!([by[&7], by[&80], by[&81], by[&82]], [None, None, Some(test), Some(test)]);
}

#[test]
fn what_a_scan_removes_is_forgotten() {
    let mut binary = Binary::new();
    binary.test(2, 1, "TestA");
    (3..9).for_each(|goid| binary.create(goid, 2));
    let listed = |goid| Existing { g: g_of(goid), goid, parent: 2, gopc: 0x1000, startpc: 0x2000 };
    binary.tracker.begin_scan(7, 100);
    binary.tracker.reconcile(7, [1, 2, 3].map(listed).into_iter(), 200);
    assert_eq!(binary.living().iter().map(|one| one.0).collect::<Vec<_>>(), [3]);
}

/// One thing that happens. Indices choose one of the goroutines that live.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create(usize),
    Test(usize, u8),
    Exit(usize),
}

proptest! {
    /// Tests with subtests, many at once, whose descendants outlive them: each goes back to where it came from.
    #[test]
    fn the_model_agrees(steps in proptest::collection::vec(prop_oneof![
        4 => any::<usize>().prop_map(Step::Create),
        2 => (any::<usize>(), 0u8..4).prop_map(|(creator, name)| Step::Test(creator, name)),
        4 => any::<usize>().prop_map(Step::Exit),
    ], 0..200)) {
        let mut binary = Binary::new();
        binary.reach(TestPoint::Main, 1, "");
        // What each goroutine goes back to: the goroutine that runs the test, and what that is called.
        let mut origins: HashMap<u64, (u64, Origin)> = HashMap::from([(1, (1, Origin::TestMain))]);
        let (mut living, mut ended, mut next) = (vec![1u64], HashMap::new(), 2);
        for step in steps {
            let chosen = |at: usize| living[at % living.len()];
            match step {
                Step::Create(creator) => {
                    binary.create(next, chosen(creator));
                    origins.insert(next, origins[&chosen(creator)]);
                    living.push(next);
                    next += 1;
                }
                Step::Test(creator, name) => {
                    // Subtests have other names than what they are part of.
                    let test = binary.test(next, chosen(creator), &format!("Test{next}/{name}"));
                    origins.insert(next, (next, test));
                    living.push(next);
                    next += 1;
                }
                Step::Exit(which) => {
                    let goid = chosen(which);
                    if goid != 1 {
                        binary.exit(goid);
                        ended.insert(goid, binary.now);
                        living.retain(|of| *of != goid);
                    }
                }
            }
        }
        let mut expected: Vec<_> = living
            .iter()
            .filter(|goid| origins[goid].0 != **goid)
            .map(|goid| {
                let (runner, origin) = origins[goid];
                (*goid, origin, ended.get(&runner).map(|ended| binary.now - ended))
            })
            .collect();
        expected.sort_unstable();
        prop_assert_eq!(binary.living(), expected);
    }
}
