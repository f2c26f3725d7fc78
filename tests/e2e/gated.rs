//! Checks `golife run -- go test`: every test binary is seen from its first goroutine on, and nothing is different for the
//! tests, whatever golife does.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::*;
use nix::sys::signal::Signal;
use serde_json::Value;

/// A command in the module of the fixture, with an environment in which nothing is said to `go`.
fn gated(command: &[&str]) -> Command {
    let (program, arguments) = command.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(fixtures().join("gated"));
    command.env("GOENV", "off").env_remove("GOFLAGS").env_remove("WANT_GOFLAGS");
    command
}

/// The same under golife, with its report on standard error as JSON.
fn observed(flags: &[&str], command: &[&str]) -> Command {
    let golife = [&[env!("CARGO_BIN_EXE_golife"), "run", "--ring-bytes", ROOMY], flags, &["--"], command];
    gated(&golife.concat())
}

fn run_to_end(command: &mut Command) -> Ended {
    let mut running = Running::start(command);
    running.close_stdin();
    running.wait()
}

/// Runs a command under golife to its end, with success. Returns the report and all that was said.
#[track_caller]
fn report_of(command: &[&str], set: impl Fn(&mut Command)) -> (Value, Ended) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut golife = observed(&["--format", "json", "--output", path], command);
    set(&mut golife);
    let ended = run_to_end(&mut golife);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    (report, ended)
}

/// The processes whose executable ends like this, removed or not.
fn processes<'report>(report: &'report Value, end: &str) -> Vec<&'report Value> {
    let is_it = |process: &&Value| {
        process["exe"].as_str().is_some_and(|exe| exe.trim_end_matches(" (deleted)").ends_with(end))
    };
    report["processes"].as_array().unwrap().iter().filter(is_it).collect()
}

#[track_caller]
fn check_seen_whole(report: &Value, package: &str, site: &str, created: u64) {
    let [process] = processes(report, &format!("/{package}.test"))[..] else { panic!("{report:#}") };
    assert_eq!(process["goroutines"]["at_attach"], 0, "{process:#}");
    let sites = process["sites"].as_array().unwrap();
    let file = format!("{package}_test.go");
    let line = line_with(&format!("gated/{package}/{file}"), &format!("site: {site}"));
    let of = |matches: &dyn Fn(&Value) -> bool| {
        let found = sites.iter().find(|site| matches(site)).unwrap_or_else(|| panic!("{process:#}"));
        (found["created"].as_u64().unwrap(), found["exited"].as_u64().unwrap())
    };
    let own =
        of(&|site| site["site"]["line"] == line && site["site"]["file"].as_str().unwrap().ends_with(&file));
    assert_eq!(own, (created, created), "{process:#}");
    // The goroutine with the id 1.
    assert_eq!(of(&|site| site["entry"]["function"] == "runtime.main"), (1, 0), "{process:#}");
}

#[test]
fn test_binaries_are_seen_from_their_first_goroutine_on() {
    need_root();
    for toolchain in ["local", OLDEST, NEWEST] {
        // The go command of a toolchain that another one chooses is found at its exec.
        let root = gated(&["go", "env", "GOROOT"]).env("GOTOOLCHAIN", toolchain).output().unwrap();
        let go = format!("{}/bin/go", String::from_utf8(root.stdout).unwrap().trim());
        let local = |golife: &mut Command| _ = golife.env("GOTOOLCHAIN", "local");
        let (report, ended) = report_of(&[&go, "test", "-count=1", "./..."], local);
        check_exact(&report);
        check_seen_whole(&report, "first", "seven", 7);
        check_seen_whole(&report, "second", "five", 5);
        // What a test starts of Go's own tools is none of what was asked for, also where that is the same file.
        assert_eq!(processes(&report, "/bin/go").len(), 1, "{report:#}");
        assert!(report["toolchain_processes"].as_u64().unwrap() > 0, "{report:#}");
        assert!(ended.stderr.contains("note: 2 test binaries were seen"), "{ended:?}");
        let joined =
            ended.stderr.lines().filter(|line| line.starts_with("tracing ") && line.contains(".test"));
        assert_eq!(joined.count(), 0, "nobody needs a line for each: {ended:?}");
    }
}

#[test]
fn tests_find_the_environment_that_they_have_without_golife() {
    need_root();
    let go_test = ["go", "test", "-count=1", "-json", "./..."];
    let events = |stdout: &str| {
        let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
        let ends = events.filter(|event| ["pass", "fail", "skip"].iter().any(|end| event["Action"] == *end));
        ends.map(|end| format!("{} {} {}", end["Action"], end["Package"], end["Test"]))
            .collect::<BTreeSet<_>>()
    };
    let plain = events(&run_to_end(&mut gated(&go_test)).stdout);
    assert!(plain.iter().any(|line| line.contains("TestEnvironment")), "{plain:?}");
    let (_, ended) = report_of(&go_test, |_| {});
    assert_eq!(events(&ended.stdout), plain);
    // What was set stays, be it in the environment or in Go's own file.
    let with_tag = |set: &dyn Fn(&mut Command)| events(&report_of(&go_test, set).1.stdout);
    let tagged =
        with_tag(&|golife| _ = golife.env("GOFLAGS", "-tags=tagged").env("WANT_GOFLAGS", "-tags=tagged"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "GOFLAGS=-tags=tagged\n").unwrap();
    let from_file = with_tag(&|golife| _ = golife.env("GOENV", file.path()));
    assert!(tagged.iter().any(|line| line.contains("TestTagged")), "{tagged:?}");
    assert_eq!((tagged.len(), tagged), (plain.len() + 1, from_file));
}

#[test]
fn who_says_exec_has_it() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let [script, log] = ["exec.sh", "log"].map(|name| directory.path().join(name));
    fs::write(&script, format!("#!/bin/sh\necho ran >> {}\nexec \"$@\"\n", log.display())).unwrap();
    let exec = format!("-exec=sh {}", script.display());
    let quoted = format!("'{exec}'");
    let on_command_line = ["go", "test", "-count=1", &exec, "./first"];
    let in_flags = ["go", "test", "-count=1", "./first"];
    for (command, flags) in [(&on_command_line[..], None), (&in_flags[..], Some(&quoted))] {
        let _ = fs::remove_file(&log);
        let (report, ended) = report_of(command, |golife| {
            golife.env("LINGER", "yes");
            if let Some(flags) = flags {
                golife.env("GOFLAGS", flags).env("WANT_GOFLAGS", flags);
            }
        });
        assert_eq!(fs::read_to_string(&log).unwrap(), "ran\n", "{ended:?}");
        assert!(ended.stderr.contains("note: -exec is yours"), "{ended:?}");
        assert_eq!(processes(&report, "/first.test").len(), 1, "it is found at its exec: {report:#}");
    }
}

#[test]
fn where_no_test_runs_that_is_said() {
    need_root();
    let ended = run_to_end(&mut observed(&[], &["go", "test", "-count=1", "-run=^$", "./nowhere/..."]));
    assert!(ended.stderr.contains("golife: no test binary was seen, so no test was observed\n"), "{ended:?}");
    // What go has cached it does not look for where golife runs the tests; it does where golife cannot.
    let go_test = ["go", "test", "./first"];
    let cached = |ended: &Ended| ended.stdout.contains("(cached)");
    run_to_end(&mut gated(&go_test));
    assert!(cached(&run_to_end(&mut gated(&go_test))));
    let ended = run_to_end(&mut observed(&[], &go_test));
    assert!(!cached(&ended) && ended.stderr.contains("note: 1 test binary was seen\n"), "{ended:?}");
    let ended = run_to_end(&mut observed(&["--children", "none"], &go_test));
    assert!(cached(&ended), "{ended:?}");
    assert!(ended.stderr.contains("no test was observed; results that go calls (cached)"), "{ended:?}");
}

#[test]
fn children_says_which_processes_are_traced() {
    need_root();
    // It reads until there is no more, and so it is there when golife hears of its exec.
    let command = ["sh", "-c", "sleep 0.5 | gofmt; ls"];
    let with = |children: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let flags = ["--format", "json", "--output", path, "--children", children];
        let ended = run_to_end(&mut observed(&flags, &command));
        let report: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let modes = |end: &str| {
            processes(&report, end).iter().map(|process| process["mode"].to_string()).collect::<Vec<_>>()
        };
        (modes("/gofmt"), modes("sh"), report["toolchain_processes"].as_u64().unwrap(), ended)
    };
    let (go, sh, tools, ended) = with("tests");
    assert_eq!((go.len(), sh.len(), tools), (0, 0, 1), "{ended:?}");
    ended.expect_error(4, &["started only Go's own tools: --children go shows them"]);
    let (go, sh, tools, ended) = with("none");
    assert_eq!((go.len(), sh.len(), tools), (0, 0, 0), "{ended:?}");
    let (go, sh, tools, ended) = with("go");
    assert_eq!((go.len(), sh.len(), tools), (1, 0, 0), "{ended:?}");
    let (go, sh, tools, ended) = with("all");
    assert_eq!((go.len(), sh, tools), (1, vec!["\"unsupported\"".to_owned()], 0), "{ended:?}");
    let text = run_to_end(&mut observed(&[], &["go", "test", "-count=1", "./second"])).stderr;
    assert!(text.contains(" of Go's own tools: --children go shows them\n"), "{text}");
}

/// A shell under golife that becomes a program by golife's launcher when it reads a line.
fn waits_for_a_line(program: &str) -> Running {
    let script = format!("echo ready; read _; exec \"$0\" {program}");
    let mut golife = Running::start(&mut observed(&[], &["sh", "-c", &script, env!("CARGO_BIN_EXE_golife")]));
    assert_eq!(golife.line(), "ready");
    golife
}

#[test]
fn who_waits_goes_on_without_golife() {
    need_root();
    for is_killed in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("touched");
        let mut golife = waits_for_a_line(&format!("/usr/bin/touch {}", file.display()));
        // It accepts nobody any more, but whoever comes can connect.
        golife.signal(Signal::SIGSTOP);
        golife.write("go");
        let waits = format!("golife\0/usr/bin/touch\0{}\0", file.display());
        eventually("the launcher runs", || {
            let is_it = |entry: fs::DirEntry| {
                fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.ends_with(waits.as_bytes()))
            };
            fs::read_dir("/proc").unwrap().any(|entry| entry.is_ok_and(is_it))
        });
        assert!(!file.exists(), "it waits for golife");
        if is_killed {
            golife.signal(Signal::SIGKILL);
        }
        eventually("it goes on", || file.exists());
        golife.signal(Signal::SIGKILL);
    }
}

/// How many descriptors a process has, and how many of them lead to removed files.
fn descriptors(pid: u32) -> (usize, usize) {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    let links: Vec<_> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    (links.len(), links.iter().filter(|link| link.ends_with(".test (deleted)")).count())
}

#[test]
fn removed_test_binaries_are_closed() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("first.test");
    let compiled = gated(&["go", "test", "-c", "-o", binary.to_str().unwrap(), "./first"]).status().unwrap();
    assert!(compiled.success());
    // Those of one round are there at the same time.
    let script = r#"
        echo ready
        while read count; do
            for i in $(seq $count); do
                cp first.test $i.test
                "$0" ./$i.test -test.run Spawn
                rm $i.test
            done
            echo done
        done"#;
    let mut command = observed(&[], &["sh", "-c", script, env!("CARGO_BIN_EXE_golife")]);
    let mut golife = Running::start(command.current_dir(directory.path()));
    assert_eq!(golife.line(), "ready");
    let mut round = |count: &str| {
        golife.write(count);
        while golife.line() != "done" {}
        eventually("all are closed", || descriptors(golife.pid()).1 == 0);
        let mut fewest = usize::MAX;
        // Probes are taken off on threads of their own.
        eventually("the number stays", || {
            let now = descriptors(golife.pid()).0;
            std::mem::replace(&mut fewest, now) == now
        });
        fewest
    };
    let before = round("1");
    let after = round("20");
    assert!(after < before + 20, "{before} descriptors after 1 test binary, {after} after 20 more");
    golife.close_stdin();
    let ended = golife.wait();
    assert!(ended.stderr.contains("first") && !ended.stderr.contains("panicked"), "{ended:?}");
}

#[test]
fn what_go_run_builds_is_seen_from_its_first_goroutine_on() {
    need_root();
    let (report, _) = report_of(&["go", "run", "./tiny"], |golife| _ = golife.current_dir(fixtures()));
    let [process] = processes(&report, "/tiny")[..] else { panic!("{report:#}") };
    assert_eq!(process["goroutines"]["at_attach"], 0, "{process:#}");
}
