//! golife beside goleak (<https://pkg.go.dev/go.uber.org/goleak>), on the same tests. `cargo xtask compare` makes the tables
//! of `docs/goleak.md` of it.
//!
//! The tests are in the fixture `goleak`. Each calls goleak, which looks only if a variable says so: after each test and its
//! cleanups (`VerifyNone`), or after all of a package (`VerifyTestMain`), both without options.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use golife::report::Report;
use serde_json::Value;

use crate::support::*;

/// What goleak prints where it finds something.
const FOUND: &str = "found unexpected goroutines";

/// What happens in the tests of a package.
struct Row {
    what: &'static str,
    package: &'static str,
    /// The test that leaks, if one does.
    leaks: Option<&'static str>,
    /// How the last test ends.
    end: &'static str,
    /// Whether golife cannot tell.
    untold: bool,
}

const fn row(what: &'static str, package: &'static str, leaks: Option<&'static str>) -> Row {
    Row { what, package, leaks, end: "", untold: false }
}

const fn exits(what: &'static str, end: &'static str) -> Row {
    Row { what, package: "exits", leaks: Some("TestLeak"), end, untold: false }
}

const ROWS: [Row; 15] = [
    row("a test leaves one goroutine behind", "one", Some("TestLeak")),
    row("one of eight parallel tests does", "parallel", Some("Test3")),
    row("the goroutine ends by itself, 1.5 s after its test", "late", Some("TestLeak")),
    row("it is in a system call", "blocked", Some("TestLeak")),
    Row { untold: true, ..row("a timer's function never returns", "timers", Some("TestLeak")) },
    Row { untold: true, ..row("it runs in a loop, and the process ends", "endless", Some("TestLeak")) },
    row("a connection of the default HTTP client stays idle", "keepalive", Some("TestGet")),
    row("it is in a program that the test has started", "children", Some("TestChild")),
    exits("a later test fails", "fail"),
    exits("a later test panics", "panic"),
    exits("a later test calls `os.Exit`", "exit"),
    exits("a later test runs into `-timeout`", "hang"),
    row("goroutines take 300 and 600 ms to end", "brief", None),
    row("the `init` of an imported package starts one for good", "inits", None),
    row("the cleanup of the parent ends what its subtests started", "cleanup", None),
];

fn directory() -> PathBuf {
    fixtures().join("goleak").canonicalize().unwrap()
}

/// Go that builds something of the module.
fn build(command: &[&str], package: &str, output: &Path) {
    let mut go = Command::new("go");
    go.args(command).arg("-o").arg(output).arg(format!("./{package}")).current_dir(directory());
    let output = go.env("GOFLAGS", "-buildvcs=false").env("CGO_ENABLED", "0").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where something compiled of the module is.
fn compiled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("goleak").join(name)
}

/// The test binary of a package, which is compiled anew.
fn test_binary(package: &str) -> PathBuf {
    let binary = compiled(&format!("{package}.test"));
    build(&["test", "-c"], package, &binary);
    binary
}

/// A run of a test binary, after what it was told.
fn run_tests(mut command: Command, environment: &[(&str, &str)]) -> Ended {
    command.current_dir(directory()).env("CHILD", compiled("child")).envs(environment.iter().copied());
    let mut running = Running::start(&mut command);
    running.close_stdin();
    running.wait()
}

/// The tests that goleak accuses, where each of them asks it.
fn accused_by_goleak(binary: &Path, environment: &[(&str, &str)]) -> BTreeSet<String> {
    let mut command = Command::new("go");
    command.args(["tool", "test2json", "-t"]).arg(binary).args(ARGUMENTS).arg("-test.v=test2json");
    let ended = run_tests(command, &[&[("GOLEAK", "tests")], environment].concat());
    let events = ended.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let accusing = events.filter(|event| event["Output"].as_str().is_some_and(|text| text.contains(FOUND)));
    accusing.filter_map(|event| event["Test"].as_str().map(str::to_owned)).collect()
}

const ARGUMENTS: [&str; 2] = ["-test.parallel=8", "-test.timeout=3s"];

/// The tests that golife accuses, themselves or by what they have started.
fn accused_by_golife(binary: &Path, environment: &[(&str, &str)]) -> BTreeSet<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = golife();
    command.args(["run", "--format", "json", "--output"]).arg(file.path());
    command.arg("--").arg(binary).args(ARGUMENTS);
    let ended = run_tests(command, environment);
    let text = fs::read_to_string(file.path()).unwrap();
    let report: Report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let tests = report.tests.iter().filter(|test| test.fails()).map(|test| test.test.clone());
    let leaking = report.processes.iter().filter(|process| !process.findings.is_empty());
    let children = leaking.filter_map(|process| Some(process.started_by.as_ref()?.test.clone()));
    tests.chain(children).collect()
}

/// What it means to accuse these tests, if only that one leaks.
fn judged(accused: &BTreeSet<String>, leaks: Option<&str>) -> String {
    let is_found = leaks.is_some_and(|test| accused.contains(test));
    let wrongly = accused.len() - usize::from(is_found);
    match (leaks, is_found, wrongly) {
        (None, _, 0) => "nothing".into(),
        (Some(_), false, 0) => "**nothing**".into(),
        (Some(_), true, 0) => "the test".into(),
        (Some(_), true, _) => format!("the test, **and {wrongly} healthy**"),
        (_, _, _) => format!("**{wrongly} healthy**"),
    }
}

/// What golife says is asserted, and what goleak says is written down.
#[test]
#[ignore = "says more of goleak than of golife: cargo xtask compare"]
fn beside_golife() {
    need_root();
    build(&["build"], "children/child", &compiled("child"));
    let mut table = String::from(
        "| what happens | goleak in each test accuses | goleak in `TestMain` | golife accuses |\n|---|---|---|---|\n",
    );
    let mut wrong = Vec::new();
    for Row { what, package, leaks, end, untold } in &ROWS {
        let binary = test_binary(package);
        let environment = [("END", *end)];
        let in_each = judged(&accused_by_goleak(&binary, &environment), *leaks);
        let mut command = Command::new(&binary);
        command.args(ARGUMENTS);
        let after_all = run_tests(command, &[("GOLEAK", "main"), ("END", end)]);
        let in_main = match (after_all.stderr.contains(FOUND), leaks) {
            (true, Some(_)) => "finds it, not the test",
            (true, None) => "**accuses**",
            (false, Some(_)) => "**nothing**",
            (false, None) => "nothing",
        };
        let by_golife = accused_by_golife(&binary, &environment);
        let right: BTreeSet<String> = leaks.iter().filter(|_| !untold).map(|&test| test.to_owned()).collect();
        if by_golife != right {
            wrong.push(format!("{what}: golife accuses {by_golife:?}, not {right:?}"));
        }
        writeln!(table, "| {what} | {in_each} | {in_main} | {} |", judged(&by_golife, *leaks)).unwrap();
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    write("GOLIFE_GOLEAK", &table);
}

fn write(variable: &str, table: &str) {
    if let Some(path) = std::env::var_os(variable) {
        fs::write(path, table).unwrap();
    }
}

/// For how long the tests ran, in ns, as they say themselves.
fn took(ended: &Ended) -> f64 {
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("tests took "));
    let number = line.and_then(|line| line.strip_suffix(" ns")).unwrap_or_else(|| panic!("{ended:?}"));
    number.parse().unwrap()
}

/// Who looks for leaks.
const WAYS: [&str; 4] = ["nobody", "tests", "main", "golife"];

/// How long tests took, by who looked. The ways take turns, so that what else the machine does meets all of them.
fn times(binary: &Path, environment: &[(&str, &str)], rounds: usize) -> BTreeMap<&'static str, Vec<f64>> {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for way in (0..rounds).flat_map(|_| WAYS) {
        let mut command = if way == "golife" { golife() } else { Command::new(binary) };
        if way == "golife" {
            command.args(["run", "--"]).arg(binary);
        }
        let goleak = if way == "golife" { "" } else { way };
        let ended = run_tests(command, &[&[("GOLEAK", goleak)], environment].concat());
        all.entry(way).or_default().push(took(&ended));
    }
    all
}

/// How many times as long tests took where somebody looked, in the middle of all rounds.
fn ratio(times: &BTreeMap<&str, Vec<f64>>, way: &str) -> f64 {
    let rounds = times[way].iter().zip(&times["nobody"]);
    let mut ratios: Vec<f64> = rounds.map(|(looked, not)| looked / not).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

#[test]
#[ignore = "measures, and is to run alone: cargo xtask compare"]
fn what_looking_costs() {
    need_root();
    let binary = test_binary("costs");
    let mut table = String::from(
        "| the tests take | goleak in each test | goleak in `TestMain` | golife |\n|---|---:|---:|---:|\n",
    );
    let kinds = [
        ("tests with 10 goroutines that are busy for 100 µs", "1000", "10", "100000"),
        ("tests with 100 goroutines that do nothing", "5000", "100", "0"),
    ];
    for (what, tests, goroutines, busy) in kinds {
        let environment = [("TESTS", tests), ("GOROUTINES", goroutines), ("BUSY_NS", busy)];
        let times = times(&binary, &environment, 11);
        let [each, main, golife] = ["tests", "main", "golife"].map(|way| ratio(&times, way));
        writeln!(table, "| {what} | × {each:.2} | × {main:.2} | × {golife:.2} |").unwrap();
    }
    const TESTS: f64 = 10.0;
    let times = times(&binary, &[("LEAK", "yes"), ("TESTS", "10")], 1);
    let more = |way: &str| (times[way][0] - times["nobody"][0]).max(0.0) / 1e9 / TESTS;
    let [each, main, golife] = ["tests", "main", "golife"].map(more);
    writeln!(table, "| 10 tests, the first of which leaks | + {each:.2} s a test | + {main:.2} s a test | + {golife:.2} s a test |")
        .unwrap();
    println!("{table}");
    write("GOLIFE_GOLEAK_COSTS", &table);
}
