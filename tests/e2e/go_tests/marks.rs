//! What the sources of the fixture `testing` say that its tests leave behind, and what a report says.
//!
//! A comment behind a `go` statement names the test, what the goroutine waits for, and the function that it runs:
//! `// leaks: TestPool/full, chan send, TestPool.func1`. Each run of the test leaves one.

use std::{collections::BTreeMap, fs, path::PathBuf};

use golife::report::{Leaked, Report, Test, TestKind};

use crate::support::fixtures;

/// The module's path.
pub const MODULE: &str = "golife.test/testing";

/// The directory of a package.
pub fn directory(package: &str) -> PathBuf {
    fixtures().join("testing").join(package).canonicalize().unwrap()
}

/// A goroutine that a test leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    package: String,
    test: String,
    kind: TestKind,
    line: u32,
    entry: String,
    reason: String,
}

/// How often each test ran, by its name.
pub type Runs = BTreeMap<String, u64>;

/// The tests that ran, from what a test binary prints with `-test.v`. Benchmarks say less there, and are left out.
pub fn ran(stdout: &str) -> Runs {
    let mut runs = Runs::new();
    for name in stdout.lines().filter_map(|line| line.strip_prefix("=== RUN ")) {
        *runs.entry(name.trim().to_owned()).or_default() += 1;
    }
    assert!(!runs.is_empty(), "no test ran: {stdout}");
    runs
}

/// What tests that ran so often leave behind, by the marks of their package.
pub fn expected(package: &str, runs: &Runs) -> BTreeMap<Leak, u64> {
    let path = directory(package).join(format!("{package}_test.go"));
    let source = fs::read_to_string(path).unwrap();
    let marks = source.lines().zip(1..).filter_map(|(text, line)| {
        let (_, mark) = text.split_once("// leaks: ")?;
        let [test, reason, entry] = mark.split(", ").collect::<Vec<_>>()[..] else {
            panic!("not TEST, REASON, FUNCTION: {mark}")
        };
        let leak = Leak {
            package: format!("{MODULE}/{package}"),
            test: test.into(),
            kind: kind(test),
            line,
            entry: format!("{MODULE}/{package}.{entry}"),
            reason: reason.into(),
        };
        Some((leak, *runs.get(test)?))
    });
    marks.collect()
}

/// The kind of function that has such a name.
fn kind(test: &str) -> TestKind {
    // What a fuzz function runs for each input is a subtest.
    let kinds = [
        ("Benchmark", TestKind::Benchmark),
        ("Example", TestKind::Example),
        ("Fuzz", if test.contains('/') { TestKind::Test } else { TestKind::Fuzz }),
        ("Test", TestKind::Test),
    ];
    kinds.into_iter().find(|(begin, _)| test.starts_with(begin)).unwrap_or_else(|| panic!("{test}")).1
}

/// What a report says that tests have left behind.
pub fn leaked(tests: &[Test]) -> BTreeMap<Leak, u64> {
    let mut found = BTreeMap::new();
    for test in tests {
        let listed = test.leaked.len() as u64;
        assert_eq!(listed, test.leaked_count.min(Test::MOST_LEAKED as u64), "{test:#?}");
        for leaked in &test.leaked {
            *found.entry(leak(test, leaked)).or_default() += 1;
        }
        assert!(test.runs > 0 || test.leaked.is_empty(), "what is no test does not leak: {test:#?}");
    }
    found
}

fn leak(test: &Test, leaked: &Leaked) -> Leak {
    // Where it has ended, nobody need have looked in time.
    let reason = match &leaked.waiting {
        Some(waiting) => waiting.reason.as_str(),
        None if leaked.ended => "sleep",
        None => "",
    };
    let file = leaked.site.file.as_deref().unwrap_or_default();
    assert!(file.ends_with("_test.go"), "{leaked:#?}");
    assert!(!leaked.silenced, "{leaked:#?}");
    Leak {
        package: test.package.clone().unwrap_or_default(),
        test: test.test.clone(),
        kind: test.kind,
        line: leaked.site.line.unwrap_or_default(),
        entry: leaked.entry.function.clone(),
        reason: reason.into(),
    }
}

/// Checks that the tests of a package ran as often as they say, and have left behind what the marks say, and no more.
#[track_caller]
pub fn check(package: &str, report: &Report, runs: &Runs) {
    let path = format!("{MODULE}/{package}");
    let tests: Vec<Test> =
        report.tests.iter().filter(|test| test.package.as_ref() == Some(&path)).cloned().collect();
    let is_test =
        |test: &&Test| !matches!(test.kind, TestKind::TestMain | TestKind::Init | TestKind::Unknown);
    let found: Runs = tests.iter().filter(is_test).map(|test| (test.test.clone(), test.runs)).collect();
    assert_eq!(found, *runs, "runs in {package}");
    assert_eq!(leaked(&tests), expected(package, runs), "leaks in {package}: {tests:#?}");
}

/// The number of goroutines that lived, of all tests and other code of this kind and name.
pub fn living(report: &Report, kind: TestKind, name: &str) -> u64 {
    let named = report.tests.iter().filter(|test| test.kind == kind && test.test == name);
    named.map(|test| test.living).sum()
}

/// The only entry with this name.
#[track_caller]
pub fn named<'a>(report: &'a Report, name: &str) -> &'a Test {
    let named: Vec<_> = report.tests.iter().filter(|test| test.test == name).collect();
    let [only] = named[..] else { panic!("not one {name} in {:#?}", report.tests) };
    only
}
