//! Processes that end by themselves: what their goroutines waited for is known all the same, and nothing is harmed by
//! that.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::*;

/// The processes of a report that ran this program.
fn of_program<'a>(report: &'a Value, program: &Path) -> Vec<&'a Value> {
    let processes = report["processes"].as_array().expect("no processes");
    processes.iter().filter(|process| process["exe"] == program.to_str().unwrap()).collect()
}

/// The site of a process on the line that is marked so in the fixture.
#[track_caller]
fn site<'a>(process: &'a Value, mark: &str) -> &'a Value {
    let line = line_of("ending", mark);
    let sites = process["sites"].as_array().expect("no sites");
    let found = sites.iter().find(|site| {
        site["site"]["line"] == line
            && site["site"]["file"].as_str().is_some_and(|file| file.contains("ending"))
    });
    found.unwrap_or_else(|| panic!("no site {mark} in {process:#}"))
}

/// A copy that no other test runs.
fn copy(directory: &Path, name: &str) -> PathBuf {
    let binary = directory.join(name);
    std::fs::copy(fixture("ending", Build::default()), &binary).unwrap();
    binary
}

/// Checks that it is known what the goroutines waited for, and why they did not end.
#[track_caller]
fn is_explained(process: &Value, mark: &str, reason: &str, cause: &str) {
    let site = site(process, mark);
    assert_eq!(site["waiting"][0]["reason"], reason, "{process:#}");
    assert_eq!(site["verdict"]["cause"], cause, "{site:#}");
    assert!(site["verdict"]["advice"].is_string(), "{site:#}");
}

/// However a process ends, its exit code is what it was.
#[test]
fn who_ends_is_explained_however_it_ends() {
    need_root();
    let binary = fixture("ending", Build::default());
    for (how, code) in [("return", 0), ("exit", 0), ("panic", 2), ("kill", 137)] {
        let exe = binary.to_str().unwrap();
        let mut golife = golife();
        let output = tempfile::NamedTempFile::new().unwrap();
        golife.args(["run", "--format", "json", "--output", output.path().to_str().unwrap(), "--", exe]);
        let mut running = Running::start(golife.args(["-sends", "40", "-workers", "40", "-end", how]));
        running.close_stdin();
        let ended = running.wait();
        assert_eq!(ended.status.code(), Some(code), "{how}: {ended:?}");
        let report: Value = serde_json::from_slice(&std::fs::read(output.path()).unwrap()).unwrap();
        let process = only_process(&report);
        is_explained(process, "send", "chan send", "chan-send");
        assert_eq!(site(process, "send")["verdict"]["level"], "suspect", "{process:#}");
        for healthy in ["worker", "signal"] {
            assert_eq!(site(process, healthy)["verdict"]["level"], "healthy", "{process:#}");
        }
        assert_eq!(process["scan"]["before_end_ns"], 0, "{process:#}");
        let held = Duration::from_nanos(process["held_ns"].as_u64().expect("it was held"));
        // The limit is the keeper's; golife hears of it a little later.
        assert!(held < Duration::from_millis(150), "{held:?}");
    }
}

#[test]
fn a_hundred_that_live_five_milliseconds() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let binary = copy(directory.path(), "short-lived");
    let exe = binary.to_str().unwrap();
    let output = directory.path().join("report.json");
    // An unoptimised golife needs a while to read a program that it sees for the first time.
    let script = format!("{exe} -live 2s; for n in $(seq 100); do {exe} -sends 12; done");
    let ended =
        run(&["run", "--format", "json", "--output", output.to_str().unwrap(), "--", "sh", "-c", &script]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(output).unwrap()).unwrap();
    let processes = of_program(&report, &binary);
    assert_eq!(processes.len(), 101);
    // The other tests of this run use the same CPUs, so a process may have ended before golife could turn to it.
    let (missed, seen): (Vec<_>, Vec<_>) = processes.iter().partition(|process| process["scan"].is_null());
    assert!(missed.len() <= 5, "{missed:#?}");
    for process in missed {
        let site = site(process, "send");
        assert!(site["waiting"].is_null() && site["verdict"]["cause"].is_null(), "{process:#}");
    }
    for process in seen.iter().filter(|process| process["command"].as_str().unwrap().contains("sends")) {
        is_explained(process, "send", "chan send", "chan-send");
    }
}

#[test]
fn a_leak_is_told_in_ci() {
    need_root();
    let exe = fixture("ending", Build::default());
    let args =
        ["run", "--fail-on", "suspect", "--", exe.to_str().unwrap(), "-live", "700ms", "-workers", "30"];
    assert_eq!(run(&args).status.code(), Some(0), "workers are no leak");
    let leaks = [&args[..], &["-every", "10ms"]].concat();
    let ended = run(&leaks);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(ended.stderr.contains("had ended when the process did"), "{ended:?}");
}

/// A test binary lives for a moment below a tool that has started a hundred others.
#[test]
fn a_test_that_leaks() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("go.mod"), "module example.com/leaking\n\ngo 1.21\n").unwrap();
    let source = r#"package leaking

import (
    "testing"
    "time"
)

func TestLeak(t *testing.T) {
    results := make(chan int)
    for n := 0; n < 50; n++ {
        go func() { results <- 1 }()
    }
    <-results
    // An unoptimised golife needs a while to read a program that it sees for the first time.
    time.Sleep(2 * time.Second)
}
"#;
    std::fs::write(directory.path().join("leak_test.go"), source).unwrap();
    let output = directory.path().join("report.json");
    let mut golife = golife();
    golife.args(["run", "--format", "json", "--output", output.to_str().unwrap(), "--"]);
    let mut running = Running::start(
        golife.args(["go", "test", "-count=1", "./..."]).current_dir(directory.path()).env("GOFLAGS", ""),
    );
    running.close_stdin();
    let ended = running.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(output).unwrap()).unwrap();
    let sites =
        report["processes"].as_array().unwrap().iter().flat_map(|process| process["sites"].as_array());
    let leak = sites
        .flatten()
        .find(|site| site["site"]["function"].as_str().is_some_and(|name| name.ends_with("leaking.TestLeak")))
        .unwrap_or_else(|| panic!("no leak in {report:#}"));
    assert_eq!(leak["live"], 49, "{leak:#}");
    assert_eq!(leak["waiting"][0]["reason"], "chan send", "{leak:#}");
    assert_eq!(leak["verdict"]["cause"], "chan-send", "{leak:#}");
    assert_eq!(leak["verdict"]["level"], "suspect", "{leak:#}");
}

/// Whether golife has a process that keeps memory.
fn has_keeper(golife: &Running) -> bool {
    let pid = golife.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().any(|child| {
        std::fs::read_to_string(format!("/proc/{child}/comm"))
            .is_ok_and(|comm| comm.trim() == "golife-keeper")
    })
}

/// Only what `golife run` starts is kept. Others have had a look not long before their end.
#[test]
fn others_are_never_held() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let binary = copy(directory.path(), "never-held");
    let exe = binary.to_str().unwrap();
    for by in ["--pid", "--exe"] {
        let mut running = Running::start(
            std::process::Command::new(&binary).args(["-live", "4s", "-every", "20ms", "-until", "2s"]),
        );
        let pid = running.pid().to_string();
        let golife = attach(&["trace", "--format", "json", by, if by == "--pid" { &pid } else { exe }]);
        assert!(!has_keeper(&golife));
        running.close_stdin();
        running.wait();
        // With nothing left, a golife that was given an id ends by itself.
        let report = if by == "--pid" { golife.wait().report() } else { interrupt(golife) };
        let process = only_process(&report);
        assert!(process["held_ns"].is_null(), "{process:#}");
        is_explained(process, "receive", "chan receive", "chan-receive");
        assert!(process["scan"]["before_end_ns"].as_u64().is_some_and(|before| before > 0), "{process:#}");
    }
    let output = directory.path().join("report.json");
    let ended = run(&["run", "--no-hold", "--format", "json", "-o", output.to_str().unwrap(), "--", exe]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(output).unwrap()).unwrap();
    assert!(only_process(&report)["held_ns"].is_null(), "{report:#}");
}

/// Whether the memory of a process that ran this program is still there: then nobody may write the file.
fn is_in_use(binary: &Path) -> bool {
    let opened =
        OpenOptions::new().write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(binary);
    opened.is_err_and(|error| error.kind() == ErrorKind::ExecutableFileBusy)
}

/// While golife is stopped or gone, processes end as ever, and their memory goes.
#[test]
fn a_stopped_or_killed_golife_holds_nothing() {
    need_root();
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        let directory = tempfile::tempdir().unwrap();
        let binary = copy(directory.path(), "held");
        let script = format!("{0} -live 1ms; echo ready; {0} -live 2s -sends 9; echo $?", binary.display());
        let mut golife = attach(&["run", "--", "sh", "-c", &script]);
        assert_eq!(golife.line(), "ready");
        std::thread::sleep(Duration::from_millis(700));
        assert!(has_keeper(&golife));
        golife.signal(signal);
        assert_eq!(golife.line(), "0", "its parent hears of the end");
        eventually("the memory is let go", || !is_in_use(&binary));
        if signal == Signal::SIGSTOP {
            golife.signal(Signal::SIGCONT);
            assert_eq!(golife.wait().status.code(), Some(0));
        }
    }
}
