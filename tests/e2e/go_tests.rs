//! Checks what tests leave behind: each goroutine is found, with the test that led to it, and nobody else is accused.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use golife::go::releases::RELEASES;
use golife::report::{Level, Report, TestKind};
use marks::{Runs, check, directory, living, named, ran};

use crate::support::*;

#[path = "go_tests/marks.rs"]
mod marks;

/// The toolchains that are tested: the oldest and the newest, or with `GOLIFE_GO_VERSIONS=all` in the environment all.
fn toolchains() -> Vec<&'static str> {
    match std::env::var("GOLIFE_GO_VERSIONS").as_deref() {
        Ok("all") => RELEASES.to_vec(),
        _ => vec![OLDEST, NEWEST],
    }
}

/// Go in the directory of a package, so that it does the same on every machine.
fn go(toolchain: &str, package: &str) -> Command {
    let mut go = Command::new("go");
    set_up(&mut go, toolchain, package);
    go
}

fn set_up(command: &mut Command, toolchain: &str, package: &str) {
    command
        .current_dir(directory(package))
        .env("GOTOOLCHAIN", toolchain)
        .env("GOFLAGS", "-buildvcs=false")
        .env("CGO_ENABLED", "0");
    if toolchain.starts_with("go1.19.") {
        // Its module index does not find the standard library of a toolchain that was fetched as a module.
        command.env("GODEBUG", "goindex=0");
    }
}

/// The test binary of a package, which is compiled once.
fn compiled(toolchain: &str, package: &str, race: bool) -> PathBuf {
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let name = format!("{package}{}.test", if race { "-race" } else { "" });
    let binary = built().join(toolchain).join(name);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.insert(binary.clone()) {
        let mut go = go(toolchain, package);
        go.args(["test", "-c", "-vet=off"]);
        if race {
            go.arg("-race").env("CGO_ENABLED", "1");
        }
        let output = go.arg("-o").arg(&binary).arg(".").output().expect("cannot run go");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    binary
}

fn built() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-tests")
}

/// What was seen of a run.
struct Observed {
    ended: Ended,
    report: Report,
}

/// Runs a command under golife to its end.
#[track_caller]
fn observe(
    flags: &[&str],
    program: &Path,
    arguments: &[&str],
    set_up: impl FnOnce(&mut Command),
) -> Observed {
    need_root();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut golife = golife();
    golife.args(["run", "--format", "json", "--output"]).arg(file.path()).args(flags);
    golife.arg("--").arg(program).args(arguments);
    set_up(&mut golife);
    let mut running = Running::start(&mut golife);
    running.close_stdin();
    let ended = running.wait();
    let text = fs::read_to_string(file.path()).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    Observed { ended, report }
}

/// Runs the test binary of a package.
#[track_caller]
fn observe_binary(toolchain: &str, package: &str, arguments: &[&str], flags: &[&str]) -> Observed {
    let binary = compiled(toolchain, package, false);
    let arguments = [&["-test.v"], arguments].concat();
    observe(flags, &binary, &arguments, |golife| set_up(golife, toolchain, package))
}

/// Runs the test binary of a package, and checks its exit code and what is said of it.
#[track_caller]
fn check_binary(toolchain: &str, package: &str, arguments: &[&str], code: i32) -> Report {
    let Observed { ended, report } = observe_binary(toolchain, package, arguments, &["--fail-on", "suspect"]);
    assert_eq!(ended.status.code(), Some(code), "{toolchain}: {ended:?}");
    check(package, &report, &ran(&ended.stdout));
    report
}

#[test]
fn every_kind_of_test_function() {
    for toolchain in toolchains() {
        check_binary(toolchain, "kinds", &[], 3);
        check_binary(toolchain, "kinds", &["-test.run=Nothing"], 0);
    }
}

#[test]
fn tests_that_run_twenty_times_in_any_order() {
    let shuffled = ["-test.count=20", "-test.shuffle=on"];
    let report = check_binary(NEWEST, "kinds", &shuffled, 3);
    assert_eq!(named(&report, "TestCases/full").leaked_count, 20);
}

#[test]
fn benchmarks() {
    let arguments = ["-test.run=None", "-test.bench=.", "-test.benchtime=5x"];
    let Observed { ended, report } = observe_binary(NEWEST, "kinds", &arguments, &["--fail-on", "suspect"]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    // Each runs with one round first. What only has parts runs no more.
    let runs = [
        ("BenchmarkLeak", 2),
        ("BenchmarkParts", 1),
        ("BenchmarkParts/healthy", 2),
        ("BenchmarkParts/leak", 2),
    ];
    let runs: Runs = runs.into_iter().map(|(name, runs)| (name.to_owned(), runs)).collect();
    check("kinds", &report, &runs);
}

/// One of eight tests that run the same statements at the same time, a hundred times out of a hundred.
#[test]
fn one_of_eight_in_parallel() {
    for toolchain in toolchains() {
        let report = check_binary(toolchain, "parallel", &["-test.count=100", "-test.parallel=8"], 3);
        assert_eq!(named(&report, "Test5").leaked_count, 100);
    }
}

#[test]
fn who_ends_what_it_has_started_is_not_accused() {
    for toolchain in toolchains() {
        check_binary(toolchain, "healthy", &["-test.parallel=8"], 0);
    }
    // Here each of them is the last of its process.
    for test in ["Server", "SlowCleanup", "Table", "Chain", "OfGo"] {
        check_binary(NEWEST, "healthy", &[&format!("-test.run=^Test{test}$"), "-test.count=5"], 0);
    }
}

#[test]
fn code_outside_of_tests_keeps_goroutines() {
    for toolchain in toolchains() {
        let report = check_binary(toolchain, "kept", &[], 0);
        assert_eq!(living(&report, TestKind::Init, "init"), 2, "{:#?}", report.tests);
        assert_eq!(living(&report, TestKind::TestMain, "TestMain"), 2, "{:#?}", report.tests);
    }
}

#[test]
fn what_runs_at_the_end_is_ending() {
    for toolchain in toolchains() {
        let report = check_binary(toolchain, "ending", &[], 0);
        let runs = named(&report, "TestRuns");
        assert_eq!((runs.ending, runs.living), (1, 0), "{:#?}", report.tests);
        let timers: u64 = report.tests.iter().map(|test| test.living).sum();
        assert_eq!(timers, 1, "what a timer starts is shown: {:#?}", report.tests);
    }
}

/// However a process ends, what had leaked by then is found, and the test that ended it is not accused.
#[test]
fn processes_that_end_in_the_middle_of_a_test() {
    for toolchain in toolchains() {
        for (test, code) in [("TestExit", 7), ("TestPanic", 2), ("TestHang", 2)] {
            let run = format!("-test.run=TestLeak|{test}");
            let report = check_binary(toolchain, "ends", &[&run, "-test.timeout=2s"], code);
            let ended_by = named(&report, test);
            assert_eq!((ended_by.unfinished, ended_by.living), (1, 1), "{ended_by:#?}");
            assert_eq!(named(&report, "TestLeak").unfinished, 0, "{:#?}", report.tests);
        }
    }
}

/// A test is over when it has said so, and its goroutine ends a little later, which on a busy machine can be too late.
#[test]
fn the_last_test_of_a_process() {
    need_root();
    let binary = compiled(NEWEST, "ends", false);
    let mut decided = 0;
    for round in 1..=15 {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut golife = Command::new("taskset");
        golife.args(["-c", "0", env!("CARGO_BIN_EXE_golife"), "run", "--format", "json", "--output"]);
        golife.arg(file.path()).arg("--").arg(&binary).args(["-test.v", "-test.run=TestSlow"]);
        let mut running = Running::start(golife.env("GOMAXPROCS", "4"));
        running.close_stdin();
        let ended = running.wait();
        assert_eq!(ended.status.code(), Some(0), "{round}: {ended:?}");
        let report: Report = serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).unwrap();
        let process = &report.processes[0];
        if process.scan.is_some() {
            check("ends", &report, &ran(&ended.stdout));
            decided += 1;
        } else {
            // The only CPU was busy for longer than memory is kept, so nobody can say that nothing leaks.
            let level = |level| process.sites.iter().filter(|site| site.verdict.level == level).count();
            assert!(level(Level::Unknown) > 0, "{round}: {process:#?}");
        }
    }
    assert!(decided >= 10, "{decided} of 15");
}

#[test]
fn the_race_detector() {
    let binary = compiled(NEWEST, "ends", true);
    let arguments = ["-test.v", "-test.run=TestLeak|TestRace"];
    let Observed { ended, report } = observe(&[], &binary, &arguments, |_| {});
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("WARNING: DATA RACE"), "{ended:?}");
    check("ends", &report, &ran(&ended.stdout));
}

#[test]
fn a_leak_that_ends_after_the_grace() {
    for toolchain in toolchains() {
        let report = check_binary(toolchain, "late", &[], 3);
        let [leaked] = &named(&report, "TestLate").leaked[..] else { panic!("{:#?}", report.tests) };
        assert!(leaked.ended, "{leaked:#?}");
        // It sleeps for 1.5 s, and the test may have ended a little before or after it began to.
        assert!(leaked.outlived_ns > 1_000_000_000, "{leaked:#?}");
        assert!(!named(&report, "TestBrief").fails());
    }
}

#[test]
fn thousands_of_subtests() {
    let report = check_binary(NEWEST, "many", &[], 3);
    assert_eq!(named(&report, "TestMany/123").leaked_count, 1);
}

/// What golife keeps of a test that has ended is little, so that there may be many.
#[test]
fn memory_for_thousands_of_subtests() {
    need_root();
    let binary = compiled(NEWEST, "many", false);
    let peak = |cases: u64| {
        let mut golife = golife();
        golife.args(["run", "--"]).arg(&binary).arg(format!("-cases={cases}"));
        let mut running = Running::start(&mut golife);
        running.close_stdin();
        let mut peak = 0;
        while running.is_alive() {
            let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            peak = peak.max(number.unwrap_or_default());
            thread::sleep(Duration::from_millis(2));
        }
        let ended = running.wait();
        assert!(ended.stderr.contains("TestMany/123"), "{ended:?}");
        peak
    };
    let (few, many) = (peak(500), peak(20_500));
    // In KiB, for a name, what became of it, and the sums.
    assert!(many < few + 20_000, "{few} KiB with few, and {many} KiB with 20,000 more");
}

/// Without flags, go test knows the packages and builds what it runs.
#[test]
fn go_test_of_several_packages() {
    const PACKAGES: [&str; 4] = ["healthy", "kept", "kinds", "parallel"];
    let packages = PACKAGES.map(|package| format!("./{package}"));
    let arguments = [
        &["test", "-v", "-count=1", "-vet=off", "-parallel=8"][..],
        &packages.each_ref().map(String::as_str),
    ]
    .concat();
    let observed =
        observe(&["--fail-on", "suspect"], Path::new("go"), &arguments, |golife| set_up(golife, NEWEST, "."));
    let Observed { ended, report } = observed;
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let mut from = 0;
    for package in PACKAGES {
        // Packages are printed one after the other, in their order.
        let end = format!("\nok  \tgolife.test/testing/{package}\t");
        let length = ended.stdout[from..].find(&end).unwrap_or_else(|| panic!("no {package} in {ended:?}"));
        check(package, &report, &ran(&ended.stdout[from..from + length]));
        from += length + end.len();
    }
    let packages: BTreeSet<_> = report.tests.iter().filter_map(|test| test.package.as_deref()).collect();
    assert_eq!(packages.len(), PACKAGES.len(), "{packages:?}");
}

/// What reads the output of go test must find it as it is without golife.
#[test]
fn the_output_of_go_test_json_stays_intact() {
    let arguments = ["test", "-json", "-count=1", "-vet=off", "./kinds"];
    let Observed { ended, .. } =
        observe(&[], Path::new("go"), &arguments, |golife| set_up(golife, NEWEST, "."));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let plain = go(NEWEST, ".").args(arguments).output().unwrap();
    let events = |output: &str| -> Vec<_> {
        let parse = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            ["Action", "Package", "Test"].map(|field| event[field].as_str().map(str::to_owned))
        };
        output.lines().map(parse).collect()
    };
    assert_eq!(events(&ended.stdout), events(std::str::from_utf8(&plain.stdout).unwrap()));
}

/// A golife for each test binary, as go test runs it.
#[test]
fn go_test_with_golife_as_exec() {
    need_root();
    let golife = env!("CARGO_BIN_EXE_golife");
    let exec = format!("{golife} run --fail-on suspect --");
    for (package, code) in [("kinds", 1), ("healthy", 0)] {
        let output =
            go(NEWEST, package).args(["test", "-count=1", "-vet=off", "-exec", &exec, "."]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(said.contains("TestCases/full"), code == 1, "{said}");
        assert!(!said.contains("TestCases/empty"), "{said}");
    }
}

/// gotestsum starts go test, and that the test binaries.
#[test]
fn gotestsum_passes_on_what_leaks() {
    let bin = built().join("bin");
    let output = Command::new("go")
        .args(["install", "gotest.tools/gotestsum@v1.13.0"])
        .env("GOBIN", &bin)
        .env("GOFLAGS", "")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let arguments = ["--format=standard-verbose", "--", "-count=1", "-vet=off", "./kinds"];
    let observed = observe(&["--fail-on", "suspect"], &bin.join("gotestsum"), &arguments, |golife| {
        set_up(golife, NEWEST, ".");
    });
    assert_eq!(observed.ended.status.code(), Some(3), "{:?}", observed.ended);
    check("kinds", &observed.report, &ran(&observed.ended.stdout));
}

#[test]
fn children_of_a_test_are_named_by_it() {
    let child = built().join("child");
    let output = go(NEWEST, "children").args(["build", "-o"]).arg(&child).arg("./child").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let binary = compiled(NEWEST, "children", false);
    for (children, expected) in [("none", 0), ("tests", 2), ("go", 2), ("all", 2)] {
        let flags = ["--children", children];
        let Observed { ended, report } = observe(&flags, &binary, &["-test.v"], |golife| {
            golife.env("CHILD", &child);
        });
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        check("children", &report, &ran(&ended.stdout));
        let is_child = |exe: &Option<String>| exe.as_deref() == child.to_str();
        let children: Vec<_> = report.processes.iter().filter(|process| is_child(&process.exe)).collect();
        assert_eq!(children.len(), expected, "{children:#?}");
        for process in children {
            let leaks = process.command.as_deref().unwrap().contains("-leak");
            let by = process.started_by.as_ref().unwrap_or_else(|| panic!("{process:#?}"));
            let test = if leaks { "TestLeaking" } else { "TestHealthy" };
            assert_eq!(
                (by.test.as_str(), by.package.as_deref()),
                (test, Some("golife.test/testing/children"))
            );
            assert_eq!(process.findings.len(), usize::from(leaks), "{process:#?}");
        }
    }
}
