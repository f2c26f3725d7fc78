//! Go's tests as test cases, in a suite for each package as `go test` has them, with what package-level code keeps.

use std::collections::BTreeMap;

use super::{Case, Outcome, Suite, WIDTH};
use crate::assemble::alike::{self, Alike, Program};
use crate::human::clean;
use crate::output::go_tests::{GoTest, Group, Told};
use crate::output::left_behind::{block, goroutines, lived, outlived, what};
use crate::output::names::processes;
use crate::output::sources::Sources;
use crate::report::{Level, Process, Report, Sort, TestKind};

/// Most kinds of goroutines that the message of a failure names.
const KINDS: usize = 3;

/// The suites of the packages under test, in the order of their paths. Of their programs they have what is not told of the tests
/// and is to be acted on, or would be if it were not silenced.
pub(super) fn suites(report: &Report, programs: &[Program], sources: &Sources) -> Vec<Suite> {
    let tests = GoTest::all(report);
    let told = Told::of(report);
    let mut packages: BTreeMap<String, (Suite, Vec<u32>)> = BTreeMap::new();
    for test in &tests {
        let (suite, pids) =
            packages.entry(name(test)).or_insert_with_key(|name| (Suite::named(name), Vec::new()));
        pids.extend(&test.pids);
        if test.is_test() || test.fails() {
            suite.cases.push(case(report, test));
        }
        suite.out.extend(kept(test));
    }
    for (suite, pids) in packages.values_mut() {
        // A test may start its own binary once more, and no test runs in that.
        let own = programs.iter().filter(|program| program.pids.iter().any(|pid| pids.contains(pid)));
        let own: Vec<u32> = own.flat_map(|program| program.pids.iter().copied()).collect();
        pids.extend(own);
        pids.sort_unstable();
        pids.dedup();
        suite.who = processes(pids);
        for program in &as_one(report, &suite.name, pids) {
            let sites = program.sites.iter().filter(|alike| !told.has(&alike.site) && is_of_note(alike));
            // Some pages tell cases apart by class and name alone, and a statement may leak in the tests of several packages.
            let class = &suite.name;
            let case = |alike| Case { class: class.clone(), ..Case::new(report, program, alike, sources) };
            suite.cases.extend(sites.map(case));
        }
        suite.tell_apart();
    }
    packages.into_values().map(|(suite, _)| suite).collect()
}

/// The processes of a package under test as one program, though `go test` builds another file each time.
fn as_one(report: &Report, package: &str, pids: &[u32]) -> Vec<Program> {
    let processes = report.processes.iter().filter(|process| pids.contains(&process.pid)).cloned();
    let named = |process| Process { exe: Some(package.into()), build_id: None, ..process };
    alike::programs(&processes.map(named).collect::<Vec<_>>(), Sort::Verdict)
}

/// Whether tests ran in a program, which a suite of [`suites`] is about then.
pub(super) fn has_tests(report: &Report, program: &Program) -> bool {
    report.tests.iter().any(|test| program.pids.contains(&test.pid))
}

/// The name of the package, or else something to call it.
fn name(test: &GoTest) -> String {
    let unknown = || format!("tests of {}", processes(&test.pids));
    test.package.filter(|package| !package.is_empty()).map_or_else(unknown, clean)
}

/// Whether a site is worth a case beside those of the tests.
fn is_of_note(alike: &Alike) -> bool {
    alike.site.is_silenced() || alike.site.verdict.level >= Level::Watch
}

fn case(report: &Report, test: &GoTest) -> Case {
    // One that is silenced has run, so it is not skipped: the site has a case of its own.
    let about = [
        (test.silenced, "outlived it, silenced by --ignore or --baseline"),
        (test.ending, "still ran at the end of the process: not counted"),
    ];
    let about = about.into_iter().filter(|(n, _)| *n > 0);
    let mut about: String = about.map(|(n, text)| format!("{} {text}\n", goroutines(n))).collect();
    if test.unfinished > 0 {
        about += "it had not ended when the process did, or golife stopped: what it started is not counted\n";
    }
    let outcome = match about.is_empty() {
        _ if test.fails() => failure(report, test),
        true => Outcome::Passed,
        false => Outcome::Told(about),
    };
    let named = if test.name.is_empty() { "goroutines of no known test".into() } else { clean(test.name) };
    Case { class: name(test), name: named, file: None, line: None, ordinal: None, outcome }
}

fn failure(report: &Report, test: &GoTest) -> Outcome {
    let groups = Group::of(test.leaked.iter().copied());
    let more = if groups.len() > KINDS { "; and others" } else { "" };
    let kinds: Vec<String> = groups.iter().take(KINDS).map(|group| what(group).join(", ")).collect();
    let message = format!("{}: {}{more}", outlived(test), kinds.join("; "));
    let cause = groups.iter().flat_map(|group| &group.leaked).find_map(|leaked| leaked.cause);
    Outcome::Failed {
        kind: cause.map_or("leak", |cause| cause.name()),
        message,
        text: block(report, test, WIDTH),
    }
}

/// What is no test but has started goroutines that live, a line for each; `None` if none does.
fn kept(test: &GoTest) -> Option<String> {
    let who = match test.kind {
        TestKind::Init => "started by init and kept",
        TestKind::TestMain => "started by TestMain and kept",
        TestKind::Unknown => "that no test is known to have led to",
        TestKind::Test | TestKind::Benchmark | TestKind::Fuzz | TestKind::Example => return None,
    };
    let lived = lived(test);
    (lived > 0).then(|| format!("{} {who}\n", goroutines(lived)))
}
