//! `golife run --user`: the program is that user's, and everything is seen of it all the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::errors::as_nobody;
use crate::support::*;

/// The id of the user nobody and that of its group, and all that it is in.
fn nobody() -> (u32, u32, BTreeSet<u32>) {
    let of = |option: &str| {
        let output = Command::new("id").args([option, "nobody"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(|id| id.parse().unwrap()).collect()
    };
    let (uid, gid, groups): (Vec<u32>, Vec<u32>, BTreeSet<u32>) =
        (of("-u"), of("-g"), of("-G").into_iter().collect());
    (uid[0], gid[0], groups)
}

/// A directory that everybody may write, with a copy of a fixture that everybody may execute.
fn open_to_all(name: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let binary = directory.path().join(name);
    fs::copy(fixture(name, Build::default()), &binary).unwrap();
    (directory, binary)
}

/// The numbers of a line of a process's status.
fn ids(pid: u32, line: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    found.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_program_is_the_users_and_all_of_it_is_counted() {
    need_root();
    let (directory, binary) = open_to_all("tiny");
    let (uid, gid, groups) = nobody();
    for user in ["nobody", &uid.to_string()] {
        let output = directory.path().join("report.json");
        // golife is in more groups than the user.
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--groups=0,4,5", env!("CARGO_BIN_EXE_golife"), "run", "--user", user]);
        setpriv.args(["--format", "json", "--output", output.to_str().unwrap(), "--"]).arg(&binary);
        let mut golife = Running::start(setpriv.env("HOME", "/root").env("USER", "root"));
        assert_eq!(golife.line(), "ready");
        golife.wait_for_error_line("tracing ");
        let mut children = fs::read_dir(format!("/proc/{}/task", golife.pid())).unwrap().flat_map(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()).collect::<Vec<_>>()
        });
        let is_program = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary);
        let pid = children.find(is_program).expect("golife has started it");
        assert_eq!(ids(pid, "Uid:"), [uid; 4]);
        assert_eq!(ids(pid, "Gid:"), [gid; 4]);
        assert_eq!(ids(pid, "Groups:").into_iter().collect::<BTreeSet<_>>(), groups);
        assert_eq!(ids(golife.pid(), "Uid:"), [0; 4], "golife itself stays root");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environment: BTreeSet<&[u8]> = environment.split(|byte| *byte == 0).collect();
        for variable in ["USER=nobody", "LOGNAME=nobody", "HOME=/nonexistent"] {
            assert!(environment.contains(variable.as_bytes()), "{variable} in {environment:?}");
        }
        golife.write("go");
        let truth = truth("tiny", &golife.line());
        golife.close_stdin();
        assert_eq!(golife.wait().status.code(), Some(0));
        let report = read(&output);
        check_exact(&report);
        let process = only_process(&report);
        assert_eq!(reported("tiny", process), truth);
        assert_eq!(process["mode"], "gone", "{process:#}");
    }
}

#[test]
fn what_it_writes_is_the_users_and_its_memory_is_read_at_the_end() {
    need_root();
    let (directory, binary) = open_to_all("ending");
    let (uid, gid, _) = nobody();
    let (written, output) = (directory.path().join("written"), directory.path().join("report.json"));
    let script = format!("touch {} && exec {} -live 1s -sends 12", written.display(), binary.display());
    let ended = run(&[
        "run",
        "--user",
        "nobody",
        "--format",
        "json",
        "--output",
        output.to_str().unwrap(),
        "--",
        "sh",
        "-c",
        &script,
    ]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let metadata = fs::metadata(written).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (uid, gid));
    let report = read(&output);
    let process = only_process(&report);
    assert_eq!(process["scan"]["before_end_ns"], 0, "{process:#}");
    let line = line_of("ending", "send");
    let sites = process["sites"].as_array().unwrap();
    let send = sites.iter().find(|site| site["site"]["line"] == line).unwrap();
    assert_eq!(send["waiting"][0]["reason"], "chan send", "{send:#}");
}

#[test]
fn who_has_called_sudo_is_the_user() {
    need_root();
    let uid = |args: &[&str], caller: &str| {
        let mut golife = golife();
        golife.arg("run").args(args).args(["--", "id", "-u"]).env("SUDO_USER", caller).current_dir("/");
        let mut running = Running::start(&mut golife);
        running.close_stdin();
        let ended = running.wait();
        assert!(!ended.stderr.contains("cannot"), "{ended:?}");
        (ended.stdout.trim().parse::<u32>().unwrap(), ended.stderr.contains("who has called sudo"))
    };
    let (nobody, _, _) = nobody();
    assert_eq!(uid(&[], "nobody"), (nobody, true));
    assert_eq!(uid(&["--user", "root"], "nobody"), (0, false));
    assert_eq!(uid(&[], "root"), (0, false));
    assert_eq!(uid(&[], ""), (0, false));
}

#[test]
fn a_user_that_cannot_be_is_refused_with_a_remedy() {
    need_root();
    let args = |user| ["run", "--mode", "scanned", "--user", user, "--", "id", "-u"];
    run(&args("no-such-user")).expect_error(4, &["there is no user no-such-user", "getent"]);
    as_nobody(&args("root")).expect_error(4, &["cannot run programs as root", "with sudo", "--user"]);
    let (uid, _, _) = nobody();
    let ended = as_nobody(&args("nobody"));
    assert_eq!(ended.stdout.trim(), uid.to_string(), "{ended:?}");
    // Root of a container may lack what it needs.
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--bounding-set=-setuid", env!("CARGO_BIN_EXE_golife")]).args(args("nobody"));
    let mut running = Running::start(&mut setpriv);
    running.close_stdin();
    running.wait().expect_error(4, &["CAP_SETUID", "--user root"]);
    // A program that the user may not execute.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("closed");
    fs::copy("/bin/true", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let ended = run(&["run", "--user", "nobody", "--", program.to_str().unwrap()]);
    ended.expect_error(4, &["as nobody", "permission denied"]);
}

#[test]
fn a_program_that_sudo_hides_is_explained() {
    need_root();
    let mut golife = golife();
    golife.args(["run", "--", "no-such-program-anywhere"]).env("SUDO_USER", "nobody");
    let mut running = Running::start(&mut golife);
    running.close_stdin();
    running
        .wait()
        .expect_error(4, &["not found in PATH", "secure_path", "sudo env \"PATH=$PATH\" golife run"]);
}
