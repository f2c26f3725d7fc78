//! What goes wrong is said: what failed, on what, why, what to do; with the exit code of the contract.

use crate::support::*;
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

/// 4: nothing could be traced.
const NOTHING: i32 = 4;
/// 2: wrong usage.
const USAGE: i32 = 2;
/// 1: failed.
const FAILED: i32 = 1;

#[test]
fn no_such_process() {
    run(&["trace", "--pid", "999999999", "--for", "1s"])
        .expect_error(NOTHING, &["999999999", "no such process"]);
}

#[test]
fn no_target_at_all() {
    run(&["trace"]).expect_error(USAGE, &["--pid"]);
}

#[test]
fn an_unknown_option() {
    run(&["trace", "--pdi", "1"]).expect_error(USAGE, &["--pdi"]);
}

#[test]
fn no_process_of_that_name() {
    need_root();
    run(&["trace", "--name", "^no-such-program-anywhere$", "--for", "1s"])
        .expect_error(NOTHING, &["no-such-program"]);
}

#[test]
fn a_pattern_that_is_none() {
    run(&["trace", "--name", "(", "--for", "1s"]).expect_error(USAGE, &["("]);
}

#[test]
fn no_such_binary() {
    need_root();
    run(&["trace", "--exe", "/no/such/file", "--for", "1s"])
        .expect_error(NOTHING, &["/no/such/file", "no such file"]);
}

#[test]
fn not_a_go_program() {
    need_root();
    let sleep = Running::start(Command::new("sleep").arg("60"));
    let pid = sleep.pid().to_string();
    run(&["trace", "--pid", &pid, "--for", "1s"]).expect_error(NOTHING, &["sleep", "not a Go program"]);
}

#[test]
fn not_an_elf_file() {
    need_root();
    run(&["trace", "--exe", "/etc/passwd", "--for", "1s"]).expect_error(NOTHING, &["/etc/passwd", "ELF"]);
}

/// A changed copy of a Go binary.
fn broken(name: &str, change: impl FnOnce(&mut fs::File)) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::copy(fixture("tiny", Build::default()), &path).unwrap();
    change(&mut fs::OpenOptions::new().write(true).open(&path).unwrap());
    (directory, path)
}

/// Traces a binary that is not running.
#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let path = path.to_str().unwrap();
    let mut all = vec![path];
    all.extend(words);
    run(&["trace", "--exe", path, "--for", "1s"]).expect_error(NOTHING, &all);
}

#[test]
fn truncated_elf() {
    need_root();
    let (_directory, path) = broken("truncated", |file| file.set_len(5000).unwrap());
    refused(&path, &[]);
    let (_directory, path) = broken("empty", |file| file.set_len(0).unwrap());
    refused(&path, &[]);
}

#[test]
fn elf_of_another_width_or_architecture() {
    need_root();
    let (_directory, path) = broken("width", |file| {
        file.seek(SeekFrom::Start(4)).unwrap();
        file.write_all(&[1]).unwrap();
    });
    refused(&path, &["32-bit"]);
    let (_directory, path) = broken("architecture", |file| {
        file.seek(SeekFrom::Start(18)).unwrap();
        file.write_all(&183u16.to_le_bytes()).unwrap();
    });
    refused(&path, &["aarch64"]);
}

#[test]
fn a_real_32_bit_go_program() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("main.go");
    fs::write(&source, "package main\nfunc main() { select {} }\n").unwrap();
    let binary = directory.path().join("i386");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).args([&binary, &source]).env("GOARCH", "386").env("CGO_ENABLED", "0");
    assert!(go.status().unwrap().success());
    refused(&binary, &["32-bit"]);
}

/// golife as a user without any capability.
fn as_nobody(args: &[&str]) -> Ended {
    // The test's own directories may be closed to others: run a copy.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("golife");
    fs::copy(env!("CARGO_BIN_EXE_golife"), &copy).unwrap();
    let mut golife = Running::start(Command::new(copy).args(args).uid(65534).gid(65534).current_dir("/"));
    golife.close_stdin();
    golife.wait()
}

#[test]
fn without_permission() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    as_nobody(&["trace", "--pid", &pid, "--for", "1s"]).expect_error(NOTHING, &["permi", "root", "CAP_"]);
}

#[test]
fn doctor_without_permission_names_each_capability() {
    need_root();
    let ended = as_nobody(&["doctor"]);
    assert_eq!(ended.status.code(), Some(FAILED), "{ended:?}");
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"] {
        assert!(ended.stdout.contains(capability), "{capability} in {ended:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    // Said at the start, not after a long trace.
    run(&["trace", "--pid", &pid, "--for", "30s", "--output", "/no/such/directory/report"])
        .expect_error(FAILED, &["/no/such/directory/report", "no such file or directory"]);
}

#[test]
fn run_of_a_program_that_does_not_exist() {
    need_root();
    let ended = run(&["run", "--", "/no/such/program"]);
    assert!(matches!(ended.status.code(), Some(NOTHING | 127)), "{ended:?}");
    assert!(ended.stderr.contains("/no/such/program"), "{ended:?}");
}

#[test]
fn run_of_a_program_that_is_no_go_program() {
    need_root();
    run(&["run", "--", "/bin/true"]).expect_error(NOTHING, &["true", "not a Go program"]);
}

#[test]
fn a_process_that_ends_while_golife_attaches() {
    need_root();
    // Whenever it ends: a clear word, or a report; never a panic, never a hang.
    for wait in [0, 2, 5, 10, 20, 40] {
        let mut fixture = ready(&fixture("tiny", Build::default()), &[]);
        let pid = fixture.pid().to_string();
        let golife = Running::start(golife().args(["trace", "--pid", &pid, "--for", "2s"]));
        std::thread::sleep(std::time::Duration::from_millis(wait));
        fixture.close_stdin();
        fixture.wait();
        let ended = golife.wait();
        assert!(matches!(ended.status.code(), Some(0 | NOTHING)), "after {wait} ms: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "after {wait} ms: {ended:?}");
    }
}

#[test]
fn a_saved_report_that_is_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "{\"schema\": 7").unwrap();
    let path = file.path().to_str().unwrap();
    run(&["hist", path]).expect_error(FAILED, &[path]);
    run(&["hist", "/no/such/report"]).expect_error(FAILED, &["/no/such/report", "no such file"]);
}
