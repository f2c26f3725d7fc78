//! `golife run --mode`: where there are no probes, looks tell what can be told, and say what cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::errors::as_nobody;
use crate::support::*;

/// A directory that everybody may write.
fn open_to_all() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

fn copy(name: &str, directory: &Path) -> PathBuf {
    let binary = directory.join(name);
    fs::copy(fixture(name, Build::default()), &binary).unwrap();
    binary
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The site of a process at a line.
#[track_caller]
fn site(process: &Value, line: u64) -> &Value {
    let sites = process["sites"].as_array().expect("no sites");
    let found = sites.iter().find(|site| site["site"]["line"] == line);
    found.unwrap_or_else(|| panic!("no site at line {line} in {process:#}"))
}

/// In a CI container there are no capabilities. What grows is found, and said is how.
#[test]
fn a_leak_is_found_without_any_capability() {
    need_root();
    let directory = open_to_all();
    let (binary, output) = (copy("ending", directory.path()), directory.path().join("report.json"));
    let (exe, to) = (binary.to_str().unwrap(), output.to_str().unwrap());
    let args = ["run", "--fail-on", "watch", "--format", "json", "--output", to, "--", exe];
    let ended = as_nobody(&[&args[..], &["-live", "8s", "-every", "40ms", "-workers", "30"]].concat());
    ended.expect_error(3, &["permission denied", "CAP_BPF", "Without probes", "--mode traced"]);
    assert_eq!(ended.stderr.matches("Without probes").count(), 1, "{ended:?}");
    let report = read(&output);
    let process = only_process(&report);
    assert_eq!(process["mode"], "scanned", "{process:#}");
    assert!(process["ended"].is_string() && process["detail"].as_str().unwrap().contains("no probes"));
    assert!(process["scan"]["before_end_ns"].as_u64().is_some_and(|before| before > 0), "{process:#}");
    let leak = site(process, line_of("ending", "receive"));
    assert_eq!(leak["verdict"]["level"], "watch", "{leak:#}");
    assert_eq!(leak["verdict"]["cause"], "chan-receive", "{leak:#}");
    assert_eq!(leak["waiting"][0]["reason"], "chan receive", "{leak:#}");
    let workers = site(process, line_of("ending", "worker"));
    assert_eq!(
        (&workers["verdict"]["level"], &workers["live"]),
        (&"unknown".into(), &30.into()),
        "{workers:#}"
    );
    assert!(report["overhead"]["probe_hits"].is_null() && report["overhead"]["golife_cpu_ns"].is_u64());
}

/// What waits for nothing is proven by one look, also in a test binary. Which test has left it is not guessed.
#[test]
fn what_nobody_can_end_is_proven_but_no_test_is_blamed() {
    need_root();
    let directory = open_to_all();
    fs::write(directory.path().join("go.mod"), "module example.com/leaking\n\ngo 1.21\n").unwrap();
    let source = r#"package leaking

import (
    "testing"
    "time"
)

func TestLeak(t *testing.T) {
    var never chan int
    for n := 0; n < 3; n++ {
        go func() { <-never }()
    }
    time.Sleep(3 * time.Second)
}
"#;
    fs::write(directory.path().join("leak_test.go"), source).unwrap();
    let binary = directory.path().join("leaking.test");
    let built = Command::new("go")
        .args(["test", "-c", "-o", binary.to_str().unwrap()])
        .current_dir(directory.path())
        .env("GOFLAGS", "-buildvcs=false")
        .status();
    assert!(built.unwrap().success());
    let output = directory.path().join("report");
    let args = ["run", "--mode", "scanned", "--fail-on", "suspect", "--output", output.to_str().unwrap()];
    let program = ["--", binary.to_str().unwrap()];
    let ended = as_nobody(&[&args[..], &["--format", "json"], &program].concat());
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(!ended.stderr.contains("permission denied"), "probes were not asked for: {ended:?}");
    let report = read(&output);
    let process = only_process(&report);
    let leak = site(process, 11);
    assert_eq!((&leak["verdict"]["level"], &leak["live"]), (&"proven".into(), &3.into()), "{leak:#}");
    assert_eq!(report["tests"], Value::Array(Vec::new()));
    assert_eq!(as_nobody(&[&args[..], &program].concat()).status.code(), Some(3));
    let text = fs::read_to_string(&output).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("which test has left what behind is not known"), "{text}");
}

#[test]
fn traced_alone_starts_nothing_without_probes() {
    need_root();
    let directory = open_to_all();
    let started = directory.path().join("started");
    let ended = as_nobody(&["run", "--mode", "traced", "--", "touch", started.to_str().unwrap()]);
    ended.expect_error(4, &["cannot load the probes: permission denied", "CAP_BPF"]);
    assert!(!started.exists() && !ended.stderr.contains("Without probes"), "{ended:?}");
}

/// Who may not even read a program may not look at its process either.
#[test]
fn what_may_not_be_looked_at_is_said_with_the_remedy() {
    need_root();
    let directory = open_to_all();
    let binary = copy("ending", directory.path());
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o711)).unwrap();
    let ended = as_nobody(&["run", "--mode", "scanned", "--", binary.to_str().unwrap(), "-live", "1s"]);
    ended.expect_error(4, &["cannot look at 1 process", "nothing was traced", "CAP_SYS_PTRACE"]);
}

/// A fork is not taken for a process with its parent's goroutines.
#[test]
fn children_are_looked_at_each_for_itself() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("report.json");
    let binary = fixture("ending", Build::default());
    let exe = binary.display();
    let script = format!(
        "{exe} -live 4s -sends 7 & {exe} -live 4s -sends 9 & wait; for n in $(seq 40); do {exe} -live 60ms; done"
    );
    let to = output.to_str().unwrap();
    let ended =
        run(&["run", "--mode", "scanned", "--format", "json", "--output", to, "--", "sh", "-c", &script]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report = read(&output);
    let processes = report["processes"].as_array().unwrap();
    let sends = processes.iter().filter(|process| process["command"].as_str().unwrap().contains("-sends"));
    let mut sends: Vec<_> =
        sends.map(|process| site(process, line_of("ending", "send"))["live"].as_u64()).collect();
    sends.sort_unstable();
    assert_eq!(sends, [Some(7), Some(9)]);
    let missed = report["loss"]["missed_processes"].as_u64().unwrap();
    let short = processes.len() as u64 - 2 + missed;
    assert!(0 < short && short <= 40, "{short} of 40, of which {missed} were not looked at");
}

#[test]
fn a_go_program_that_starts_others_is_not_counted_twice() {
    need_root();
    let mut golife = golife();
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("report.json");
    golife.args(["run", "--mode", "scanned", "--format", "json", "--output", output.to_str().unwrap(), "--"]);
    golife.arg(fixture("forker", Build::default())).args(["-n", "50", "-children", "3"]);
    let mut golife = Running::start(&mut golife);
    assert_eq!(golife.line(), "ready");
    // What lives for a moment may never be noticed, so the parent lives for longer.
    std::thread::sleep(Duration::from_secs(2));
    golife.write("go");
    for _ in 0..4 {
        golife.line();
    }
    golife.close_stdin();
    assert_eq!(golife.wait().status.code(), Some(0));
    let report = read(&output);
    let processes = report["processes"].as_array().unwrap().len() as u64;
    let missed = report["loss"]["missed_processes"].as_u64().unwrap();
    assert!((1..=4).contains(&(processes + missed)), "{report:#}");
}

#[test]
fn exit_codes_and_signals_pass_as_with_probes() {
    need_root();
    let binary = fixture("ending", Build::default());
    let exe = binary.to_str().unwrap();
    for (how, code) in [("return", 0), ("panic", 2), ("kill", 137)] {
        let ended = run(&["run", "--mode", "scanned", "--", exe, "-live", "1s", "-end", how]);
        assert_eq!(ended.status.code(), Some(code), "{how}: {ended:?}");
    }
    let none = run(&["run", "--mode", "scanned", "--", "/bin/true"]);
    none.expect_error(4, &["/bin/true is not a Go program"]);
    let mut golife = Running::start(golife().args(["run", "--mode", "scanned", "--", exe, "-live", "60s"]));
    golife.wait_for_error_line("looking at ");
    golife.signal(Signal::SIGTERM);
    assert_eq!(golife.wait().status.code(), Some(143));
}
