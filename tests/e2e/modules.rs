//! Traces Go code that is not in a process's executable: libraries that a host in another language loads, two of them
//! at a time, and plugins that are loaded later.

use crate::support::*;
use std::process::Command;

const LIBRARY: Build = Build {
    toolchain: None,
    stripped: false,
    pie: false,
    unoptimised: false,
    experiment: "",
    way: Way::Library,
};

fn python(library: &std::path::Path) -> Running {
    ready_as(Command::new("python3").arg(fixtures().join("loader/main.py")).arg(library))
}

#[test]
fn a_library_in_python_is_found_and_named() {
    need_root();
    let library = fixture("counts", LIBRARY);
    let mut host = python(&library);
    let pid = host.pid().to_string();
    let golife = attach(&["trace", "--format", "json", "--ring-bytes", ROOMY, "--pid", &pid]);
    host.write("go");
    let truth = truth("counts", &host.line());
    let report = interrupt(golife);
    let process = only_process(&report);
    assert_eq!(reported("counts", process), truth);
    check_exact(&report);
    assert_eq!(process["library"], library.to_str().unwrap());
    assert!(process["exe"].as_str().unwrap().contains("python"));

    let dump = run(&["dump", "--pid", &pid]);
    assert_eq!(dump.stdout.matches("created by main.main").count(), 50, "{dump:?}");
    assert!(dump.stdout.contains("[syscall, locked to thread]"), "what C has called, {dump:?}");
    let sweep = run(&["sweep", "--pid", &pid, "--format", "json"]).report();
    assert_eq!(
        only_process(&sweep)["goroutines"]["live"],
        process["goroutines"]["live"].as_u64().unwrap() + 1
    );
}

#[test]
fn a_library_that_is_loaded_later_is_traced_by_its_path() {
    need_root();
    let library = fixture("counts", LIBRARY);
    let path = library.to_str().unwrap();
    let before = python(&library);
    let golife = attach(&["trace", "--format", "json", "--ring-bytes", ROOMY, "--exe", path]);
    let mut host = python(&library);
    host.write("go");
    let truth = truth("counts", &host.line());
    let report = interrupt(golife);
    check_exact(&report);
    let processes = report["processes"].as_array().unwrap();
    let of = |pid: u32| processes.iter().find(|process| process["pid"] == pid).unwrap();
    assert_eq!(reported("counts", of(host.pid())), truth);
    assert_eq!(of(before.pid())["mode"], "traced", "it had loaded the library before");
}

#[test]
fn a_host_without_go_is_told_so() {
    need_root();
    let host = Running::start(Command::new("python3").arg("-c").arg("import time; time.sleep(1000)"));
    let pid = host.pid().to_string();
    let words = ["not a Go program", "no library that is Go", "--exe"];
    run(&["trace", "--pid", &pid, "--for", "1s"]).expect_error(4, &words);
    run(&["dump", "--pid", &pid]).expect_error(4, &words);
}

/// Two libraries are two runtimes. The numbers must be those of one, although both have probes.
#[test]
fn two_runtimes_in_one_process_are_not_mixed() {
    need_root();
    let (first, second) = (fixture("counts", LIBRARY), fixture("busy", LIBRARY));
    let mut host = Command::new(loader());
    // Neither runtime knows of the other's signals.
    host.args([&first, &second]).env("GODEBUG", "asyncpreemptoff=1");
    let mut host = ready_as(&mut host);
    let pid = host.pid().to_string();
    let both = ["--exe", first.to_str().unwrap(), "--exe", second.to_str().unwrap()];
    let args = [&["trace", "--format", "json", "--ring-bytes", ROOMY, "--pid", &pid][..], &both].concat();
    let golife = attach(&args);
    host.write("go");
    let truth = truth("counts", &host.line());
    let ended = stop(golife);
    let report = ended.report();
    check_exact(&report);
    let process = only_process(&report);
    // Which of the two is looked at depends on the order of their addresses.
    let (seen, other) = (reported("counts", process), reported("busy", process));
    assert!(seen == truth && other.is_empty() || seen.is_empty() && other.len() == 2, "{process:#}");
    assert!(ended.stderr.contains("another Go runtime"), "{ended:?}");
}
