//! Traces processes that share a binary, join late, become another program, end, or lose their tracer.

use crate::support::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

fn process_of(report: &Value, pid: u32) -> &Value {
    let processes = report["processes"].as_array().expect("no processes");
    processes
        .iter()
        .find(|process| process["pid"] == pid)
        .unwrap_or_else(|| panic!("no process {pid} in {report:#}"))
}

#[test]
fn two_of_one_binary_and_a_third_that_joins() {
    need_root();
    // No other test runs the stripped binary. That matters since --exe means all processes of a binary.
    let binary = fixture("burst", Build { stripped: true, ..Build::default() });
    let mut first = ready(&binary, &["-n", "1000"]);
    let mut second = ready(&binary, &["-n", "2000"]);
    let golife = attach(&["trace", "--format", "json", "--exe", binary.to_str().unwrap()]);
    let mut third = ready(&binary, &["-n", "3000"]);
    let mut all = [&mut first, &mut second, &mut third].map(|fixture| {
        fixture.write("go");
        (fixture.pid(), truth("burst", &fixture.line()))
    });
    let report = interrupt(golife);
    check_exact(&report);
    for (pid, truth) in all.iter_mut() {
        assert_eq!(reported("burst", process_of(&report, *pid)), *truth, "process {pid}");
    }
}

#[test]
fn processes_of_one_binary_are_one_block() {
    need_root();
    // A copy, into which no other test puts probes and of which no other process runs.
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("of-one-binary");
    std::fs::copy(fixture("tiny", Build::default()), &binary).unwrap();
    let _running = [(); 3].map(|()| ready(&binary, &[]));
    let exe = binary.to_str().unwrap();
    let text = run(&["trace", "--exe", exe, "--for", "300ms"]).stdout;
    assert_eq!(text.matches("of-one-binary").count(), 1, "{text}");
    assert!(text.contains("3 processes"), "{text}");
    let text = run(&["sweep", "--exe", exe]).stdout;
    assert!(text.starts_with("3 processes") && text.matches("of-one-binary").count() == 1, "{text}");
}

#[test]
fn only_the_asked_for_process_is_traced() {
    need_root();
    let binary = fixture("burst", Build::default());
    let mut asked = ready(&binary, &["-n", "400"]);
    let mut other = ready(&binary, &["-n", "800"]);
    let golife = attach(&["trace", "--format", "json", "--pid", &asked.pid().to_string()]);
    asked.write("go");
    other.write("go");
    let truth = truth("burst", &asked.line());
    other.line();
    let report = interrupt(golife);
    assert_eq!(reported("burst", only_process(&report)), truth);
}

#[test]
fn children_of_the_same_binary_join() {
    need_root();
    let binary = fixture("forker", Build::default());
    let mut parent = ready(&binary, &["-n", "50", "-children", "3"]);
    let golife = attach(&["trace", "--format", "json", "--exe", binary.to_str().unwrap()]);
    parent.write("go");
    let children: Vec<_> = (0..3).map(|_| parent.line()).collect();
    parent.line();
    let report = interrupt(golife);
    for line in children {
        let child: Value = serde_json::from_str(&line).unwrap();
        let pid = child["pid"].as_u64().unwrap() as u32;
        assert_eq!(reported("forker", process_of(&report, pid)), truth("forker", &line), "child {pid}");
    }
}

#[test]
fn a_name_selects_processes() {
    need_root();
    let binary = fixture("tiny", Build { pie: true, ..Build::default() });
    let renamed = binary.with_file_name("golife-e2e-by-name");
    std::fs::copy(&binary, &renamed).unwrap();
    let mut fixture = ready(&renamed, &[]);
    let golife = attach(&["trace", "--format", "json", "--name", "^golife-e2e-by-n"]);
    fixture.write("go");
    let truth = truth("tiny", &fixture.line());
    let report = interrupt(golife);
    assert_eq!(reported("tiny", process_of(&report, fixture.pid())), truth);
}

/// A program that was executed from memory is found by what it was started as.
#[test]
fn a_name_is_also_what_a_program_was_started_as() {
    use std::os::unix::process::CommandExt;
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("of-another-name");
    std::fs::copy(fixture("tiny", Build::default()), &binary).unwrap();
    let fixture = ready_as(std::process::Command::new(&binary).arg0("/somewhere/started-as-this"));
    let golife = attach(&["trace", "--format", "json", "--name", "^started-as-this$"]);
    assert_eq!(only_process(&interrupt(golife))["pid"], fixture.pid());
}

/// File names, arguments and short names are bytes, and their owner chooses them: what is not UTF-8 is U+FFFD, never
/// nothing, and what controls a terminal reaches none.
#[test]
fn names_that_are_not_text() {
    need_root();
    use std::ffi::OsStr;
    use std::os::unix::{ffi::OsStrExt, process::CommandExt};
    let directory = tempfile::tempdir().unwrap();
    for build in [Build::default(), Build { pie: true, ..Build::default() }] {
        let path = directory.path().join(OsStr::from_bytes(b"sh\xffop\x1b[31m"));
        std::fs::copy(fixture("tiny", build), &path).unwrap();
        let argument = OsStr::from_bytes(b"label=\xfe\xe2\x80\xae!");
        let mut fixture =
            ready_as(std::process::Command::new(&path).arg0(OsStr::from_bytes(b"\xff")).arg(argument));
        let pid = fixture.pid().to_string();
        let golife = attach(&["trace", "--format", "json", "--pid", &pid]);
        fixture.write("go");
        let truth = truth("tiny", &fixture.line());
        let ended = stop(golife);
        let report = ended.report();
        let process = only_process(&report);
        assert_eq!(reported("tiny", process), truth);
        assert_eq!(process["command"], "\u{fffd} label=\u{fffd}\u{202e}!");
        assert!(process["exe"].as_str().unwrap().ends_with("sh\u{fffd}op\u{1b}[31m"), "{}", process["exe"]);
        assert!(!ended.stdout.contains('\u{202e}') && ended.stdout.contains("\\u202e"), "{}", ended.stdout);
        let text = run(&["sweep", "--pid", &pid]).stdout;
        assert!(text.chars().all(|char| char == '\n' || !char.is_control() && char != '\u{202e}'), "{text}");
    }
}

/// The kernel knows a process by its first thread, which does not survive an exec by another one.
#[test]
fn a_process_is_followed_through_an_exec_by_another_thread() {
    need_root();
    let mut fixture = ready(&fixture("reexec", Build::default()), &["-n", "70", "-other-thread"]);
    let golife = attach(&["trace", "--format", "json", "--pid", &fixture.pid().to_string()]);
    fixture.write("go");
    truth("reexec", &fixture.line());
    fixture.write("exec");
    assert_eq!(fixture.line(), "ready", "the second image runs");
    wait_for_probes(fixture.pid());
    fixture.write("go");
    let second = truth("reexec", &fixture.line());
    let report = interrupt(golife);
    let lives = report["processes"].as_array().unwrap().iter().map(|process| reported("reexec", process));
    let lives: Vec<Sites> = lives.collect();
    assert!(lives.contains(&second), "{second:?} in {lives:?}");
}

/// One process runs two images, one after the other, and their goroutines must not be mixed.
#[test]
fn exec_of_itself_starts_a_new_life() {
    need_root();
    let binary = fixture("reexec", Build::default());
    let mut fixture = ready(&binary, &["-n", "70"]);
    let golife = attach(&["trace", "--format", "json", "--exe", binary.to_str().unwrap()]);
    fixture.write("go");
    let first = truth("reexec", &fixture.line());
    fixture.write("exec");
    assert_eq!(fixture.line(), "ready", "the second image runs");
    fixture.write("go");
    let second = truth("reexec", &fixture.line());
    let report = interrupt(golife);
    let processes = report["processes"].as_array().unwrap();
    let lives: Vec<Sites> = processes
        .iter()
        .filter(|process| process["pid"] == fixture.pid())
        .map(|process| reported("reexec", process))
        .collect();
    assert!(lives.contains(&second), "{second:?} in {lives:?}");
    let of_first = lives.iter().flatten().find(|(line, _)| first.contains_key(line));
    let (_, counts) = of_first.unwrap_or_else(|| panic!("nothing of the first image in {lives:?}"));
    assert_eq!((counts.created, counts.exited), (70, 0), "an exec is not 70 exits of goroutines");
    assert_eq!(lives.len(), 2, "{report:#}");
}

#[test]
fn exec_of_another_program_ends_the_first() {
    need_root();
    let other = fixture("tiny", Build::default());
    let mut fixture = ready(&fixture("reexec", Build::default()), &["-image", other.to_str().unwrap()]);
    let golife = attach(&["trace", "--format", "json", "--pid", &fixture.pid().to_string()]);
    fixture.write("go");
    let first = truth("reexec", &fixture.line());
    fixture.write("exec");
    assert_eq!(fixture.line(), "ready", "the other program runs");
    fixture.write("go");
    fixture.line();
    // With nothing left to trace golife may have ended by itself.
    golife.signal(Signal::SIGINT);
    let report = golife.wait().report();
    // The report has two processes, since both images had this pid.
    let images = report["processes"].as_array().unwrap();
    let before =
        images.iter().find(|image| image["exe"].as_str().is_some_and(|exe| exe.ends_with("/reexec")));
    let sites = reported("reexec", before.unwrap_or_else(|| panic!("the first image is not in {report:#}")));
    let line = line_of("reexec", "first");
    assert_eq!((sites[&line].created, sites[&line].exited), (first[&line].created, 0));
}

#[test]
fn a_process_that_ends_leaves_its_counts() {
    need_root();
    let mut fixture = ready(&fixture("counts", Build::default()), &["-n", "10"]);
    let pid = fixture.pid();
    let golife = attach(&["trace", "--format", "json", "--for", "30s", "--pid", &pid.to_string()]);
    fixture.write("go");
    let truth = truth("counts", &fixture.line());
    fixture.close_stdin();
    fixture.wait();
    // Nothing is left to trace, so golife ends without waiting for its 30 s.
    let ended = golife.wait();
    let report = ended.report();
    let reported = reported("counts", process_of(&report, pid));
    let totals =
        |sites: &Sites| sites.iter().map(|(line, c)| (*line, c.created, c.exited)).collect::<Vec<_>>();
    assert_eq!(totals(&reported), totals(&truth));
}

/// SIGKILL is the one end that golife cannot prepare for, so the kernel must take the probes away.
#[test]
fn a_killed_golife_leaves_no_probe() {
    need_root();
    let mut fixture = ready(&fixture("burst", Build::default()), &["-n", "20000"]);
    let pid = fixture.pid();
    assert_eq!(patched_bytes(pid), 0, "before");
    let golife = attach(&["trace", "--pid", &pid.to_string()]);
    assert!(patched_bytes(pid) >= 2, "the test sees probes where there are some");
    golife.signal(Signal::SIGKILL);
    golife.wait();
    eventually("the code is as in the file again", || patched_bytes(pid) == 0);
    fixture.write("go");
    fixture.line();
    fixture.expect_alive();
}

#[test]
fn an_ended_golife_leaves_no_probe() {
    need_root();
    let mut fixture = ready(&fixture("burst", Build::default()), &[]);
    let pid = fixture.pid();
    let golife = attach(&["trace", "--format", "json", "--pid", &pid.to_string()]);
    fixture.write("go");
    std::thread::sleep(Duration::from_millis(20));
    interrupt(golife);
    assert_eq!(patched_bytes(pid), 0);
    fixture.line();
}

#[test]
fn two_golifes_see_the_same_and_the_second_says_so() {
    need_root();
    let mut fixture = ready(&fixture("counts", Build::default()), &["-n", "8"]);
    let pid = fixture.pid().to_string();
    let one = attach(&["trace", "--format", "json", "--pid", &pid]);
    let mut two = Running::start(golife().args(["trace", "--format", "json", "--pid", &pid]));
    two.wait_for_error_line("note: another golife is tracing on this host");
    two.wait_for_error_line("tracing ");
    fixture.write("go");
    let truth = truth("counts", &fixture.line());
    for golife in [one, two] {
        assert_eq!(reported("counts", only_process(&interrupt(golife))), truth);
    }
}

#[test]
fn a_binary_replaced_on_disk_is_still_the_one_that_runs() {
    need_root();
    let original = fixture("counts", Build { toolchain: Some(OLDEST), ..Build::default() });
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("counts");
    std::fs::copy(&original, &binary).unwrap();
    let mut running = ready(&binary, &["-n", "6"]);
    std::fs::remove_file(&binary).unwrap();
    std::fs::copy(fixture("tiny", Build::default()), &binary).unwrap();
    let golife = attach(&["trace", "--format", "json", "--pid", &running.pid().to_string()]);
    running.write("go");
    let truth = truth("counts", &running.line());
    let report = interrupt(golife);
    assert_eq!(reported("counts", only_process(&report)), truth);
    assert_eq!(only_process(&report)["go"]["version"], OLDEST);
}

/// A compiler truncates a binary between two runs of the program.
#[test]
fn a_binary_truncated_while_it_is_traced() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("rebuilt");
    std::fs::copy(fixture("tiny", Build::default()), &binary).unwrap();
    let golife = attach(&["trace", "--format", "json", "--exe", binary.to_str().unwrap()]);
    let mut run = ready(&binary, &[]);
    run.write("go");
    let truth = truth("tiny", &run.line());
    drop(run);
    std::fs::File::create(&binary).unwrap();
    let ended = stop(golife);
    assert!(ended.stderr.contains("is being written"), "{}", ended.stderr);
    // All that the report says of the file was read before it was truncated.
    let report = ended.report();
    assert_eq!(reported("tiny", only_process(&report)), truth);
    assert_eq!(only_process(&report)["detail"], serde_json::Value::Null, "nothing is missing");
}

/// A binary is asked for by its path after it was replaced. Processes that run have the old file, and those that start
/// from now on have the new one.
#[test]
fn a_path_also_means_what_was_started_from_it() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("updated");
    std::fs::copy(fixture("tiny", Build::default()), &binary).unwrap();
    let mut old = ready(&binary, &[]);
    std::fs::remove_file(&binary).unwrap();
    std::fs::copy(fixture("burst", Build::default()), &binary).unwrap();
    let golife = attach(&["trace", "--format", "json", "--exe", binary.to_str().unwrap()]);
    let mut new = ready(&binary, &["-n", "40"]);
    old.write("go");
    new.write("go");
    let (of_old, of_new) = (truth("tiny", &old.line()), truth("burst", &new.line()));
    let report = interrupt(golife);
    assert_eq!(reported("tiny", process_of(&report, old.pid())), of_old);
    assert_eq!(reported("burst", process_of(&report, new.pid())), of_new);
}

/// The path of its binary leads elsewhere, or nowhere, in golife's own mount namespace.
#[test]
fn a_process_in_another_mount_namespace() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    std::fs::copy(fixture("burst", Build::default()), directory.path().join("program")).unwrap();
    let tiny = fixture("tiny", Build::default());
    let script = format!(
        "mount -t tmpfs none {place} && cp {} {place}/program && exec {place}/program",
        tiny.display()
    );
    let mut hidden = Running::start(std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]));
    assert_eq!(hidden.line(), "ready");
    let exe = format!("/proc/{}/exe", hidden.pid());
    let one = attach(&["trace", "--format", "json", "--pid", &hidden.pid().to_string()]);
    let two = attach(&["trace", "--format", "json", "--exe", &exe]);
    let other = attach(&["trace", "--format", "json", "--exe", &format!("{place}/program")]);
    hidden.write("go");
    let truth = truth("tiny", &hidden.line());
    for golife in [one, two] {
        assert_eq!(reported("tiny", process_of(&interrupt(golife), hidden.pid())), truth);
    }
    let of_other = interrupt(other);
    assert_eq!(
        of_other["processes"].as_array().unwrap().len(),
        0,
        "the same path, another file: {of_other:#}"
    );
}

/// A binary whose probes send what cannot be right is not traced any more, and nothing of it is shown.
#[test]
fn records_that_do_not_fit_end_the_tracing_of_a_binary() {
    use golife::event::{Event, What};
    use golife::host::guard::Guard;
    use golife::probes::{Loading, Probes};
    use golife::report::Mode;
    use golife::targets::Binaries;
    use golife::trace::attachments::Attachments;
    use golife::trace::session::Session;
    use golife::tracker::{Limits, Tracker};
    need_root();
    let binary = fixture("tiny", Build::default());
    let mut running = ready(&binary, &[]);
    let (probes, _ring) = Probes::load(Loading { ring_bytes: Some(4096), creation_stacks: false }).unwrap();
    let mut session = Session::new(Binaries::default(), Attachments::new(probes, Guard::start()));
    session.ask_for(&std::fs::File::open(&binary).unwrap(), &binary).unwrap();
    assert!(patched_bytes(running.pid()) > 0);
    let mut tracker = Tracker::new(Limits::default());
    let wrong = What::Created {
        g: 0xc000_0000_1000,
        goid: 7,
        parent: 1,
        gopc: 0x1234,
        startpc: 0xdead_beef,
        stack: golife::event::StackCode::NONE,
    };
    tracker.apply(&Event { time_ns: 1, pid: running.pid(), losses: 0, what: wrong });
    session.bind(&mut tracker);
    assert!(session.drop_misfits(&tracker, false).is_none(), "once may be an exec that is not heard of yet");
    assert!(session.drop_misfits(&tracker, false).is_some());
    assert!(session.probed_binaries().is_empty());
    assert_eq!(patched_bytes(running.pid()), 0, "its probes are gone");
    let instance = tracker.instances().next().unwrap().id;
    let process = session.describe(&tracker).remove(&instance).unwrap().process;
    assert_eq!(process.mode, Mode::Unsupported);
    assert!(process.detail.unwrap().contains("gopc is 0x1234"));
    assert!(session.take_notices()[0].to_string().starts_with("no longer traced: "));
    assert!(running.is_alive());
}

/// Probes are put in place one after the other while goroutines come and go, so those for exits must come first.
#[test]
fn what_is_seen_to_begin_at_attach_is_seen_to_end() {
    need_root();
    let mut busy = ready(&fixture("leaky", Build::default()), &["-rate", "2000", "-for", "60s"]);
    busy.write("go");
    let pid = busy.pid().to_string();
    for _ in 0..3 {
        let report = run(&["trace", "--format", "json", "--for", "300ms", "--pid", &pid]).report();
        let loss = &report["loss"];
        assert_eq!((&loss["dropped"], &loss["reconciled"]), (&0.into(), &0.into()), "{loss}");
    }
}
