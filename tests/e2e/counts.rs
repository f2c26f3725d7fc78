//! Checks that not one goroutine is counted too many or too few, whatever starts and ends it, and however the program
//! was compiled.

use crate::support::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Traces a fixture and compares every site.
#[track_caller]
fn exact(name: &str, build: Build, args: &[&str]) -> Value {
    let (truth, reported, report) = trace(name, build, args);
    assert_eq!(reported, truth, "{name} as {build:?}");
    check_exact(&report);
    report
}

/// Has golife start a fixture, so that nothing can be missed at all, and compares every site.
#[track_caller]
fn exact_run(name: &str, build: Build, args: &[&str]) -> Value {
    need_root();
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut golife = Running::start(
        golife()
            .args(["run", "--format", "json", "--ring-bytes", ROOMY, "--output"])
            .arg(output.path())
            .arg("--")
            .arg(fixture(name, build))
            .args(args)
            .arg("-now"),
    );
    let truth = truth(name, &golife.line());
    let ended = golife.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(output.path()).unwrap()).unwrap();
    let process = only_process(&report);
    assert_eq!(reported(name, process), truth, "{name} as {build:?}");
    check_exact(&report);
    let entry = |site: &&Value| site["entry"]["function"] == "runtime.main";
    let main = process["sites"].as_array().unwrap().iter().find(entry);
    assert_eq!(main.unwrap_or_else(|| panic!("no runtime.main in {process:#}"))["created"], 1);
    report
}

const PLAIN: Build = Build {
    toolchain: None,
    stripped: false,
    pie: false,
    unoptimised: false,
    experiment: "",
    way: Way::Usual,
};
const STRIPPED_PIE: Build = Build { stripped: true, pie: true, ..PLAIN };

#[test]
fn every_way_to_start_and_end() {
    exact("counts", PLAIN, &[]);
}

#[test]
fn stripped() {
    exact("counts", Build { stripped: true, ..PLAIN }, &[]);
}

#[test]
fn position_independent() {
    exact("counts", Build { pie: true, ..PLAIN }, &[]);
}

#[test]
fn stripped_and_position_independent() {
    exact("counts", STRIPPED_PIE, &[]);
}

#[test]
fn unoptimised() {
    exact("counts", Build { unoptimised: true, ..PLAIN }, &[]);
}

#[test]
fn oldest_go() {
    exact("counts", Build { toolchain: Some(OLDEST), ..PLAIN }, &[]);
}

#[test]
fn oldest_go_stripped_and_position_independent() {
    exact("counts", Build { toolchain: Some(OLDEST), ..STRIPPED_PIE }, &[]);
}

#[test]
fn newest_go() {
    exact("counts", Build { toolchain: Some(NEWEST), ..PLAIN }, &[]);
}

#[test]
fn newest_go_stripped_and_position_independent() {
    exact("counts", Build { toolchain: Some(NEWEST), ..STRIPPED_PIE }, &[]);
}

#[test]
fn from_the_first_instruction_on() {
    exact_run("counts", PLAIN, &[]);
}

#[test]
fn from_the_first_instruction_on_oldest_go() {
    exact_run("counts", Build { toolchain: Some(OLDEST), ..PLAIN }, &[]);
}

#[test]
fn from_the_first_instruction_on_newest_go_stripped_pie() {
    exact_run("counts", Build { toolchain: Some(NEWEST), ..STRIPPED_PIE }, &[]);
}

/// Traces by the means of an older kernel, which this one still has: with a perf event for each probe, and on the
/// oldest with one ring for all CPUs.
#[track_caller]
fn exact_as_on(release: &str, build: Build) {
    need_root();
    let mut fixture = ready(&fixture("counts", build), &[]);
    let mut golife = Running::start(golife().env("GOLIFE_KERNEL", release).args([
        "trace",
        "--format",
        "json",
        "--ring-bytes",
        ROOMY,
        "--pid",
        &fixture.pid().to_string(),
    ]));
    golife.wait_for_error_line("tracing ");
    fixture.write("go");
    let truth = truth("counts", &fixture.line());
    let report = interrupt(golife);
    assert_eq!(reported("counts", only_process(&report)), truth, "as on Linux {release}: {build:?}");
    check_exact(&report);
}

#[test]
fn as_on_linux_5_10() {
    exact_as_on("5.10.0-46", PLAIN);
    exact_as_on("5.10.0-46", Build { toolchain: Some(OLDEST), ..STRIPPED_PIE });
}

#[test]
fn as_on_linux_6_1() {
    exact_as_on("6.1.0-56", PLAIN);
}

/// A function whose prologue grows the stack is entered twice. That cannot happen to `runtime.newproc1`, which runs on
/// the stack of the thread. It can happen to `runtime.goexit1` and `runtime.coroexit`, so their probes come after the
/// prologue.
#[test]
fn stacks_that_grow_at_a_start_and_at_an_end() {
    exact("deep", PLAIN, &[]);
    exact("deep", Build { toolchain: Some(OLDEST), ..PLAIN }, &["-n", "60"]);
}

#[test]
fn burst_of_200_000() {
    exact("burst", PLAIN, &[]);
}

#[test]
fn burst_of_200_000_from_the_first_instruction_on() {
    exact_run("burst", PLAIN, &[]);
}

/// Checks coroutines, which are all created at one place in the standard library and never reach goexit.
#[track_caller]
fn coroutines(build: Build) {
    let (_, _, report) = trace("pull", build, &["-n", "100"]);
    check_exact(&report);
    let sites = only_process(&report)["sites"].as_array().unwrap();
    let is_pull =
        |site: &&Value| site["site"]["function"].as_str().is_some_and(|name| name.starts_with("iter.Pull"));
    let sum =
        |field: &str| sites.iter().filter(is_pull).map(|site| site[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("created"), sum("exited"), sum("live")), (300, 200, 100), "{sites:#?}");
}

#[test]
fn coroutines_of_iter_pull() {
    coroutines(PLAIN);
}

#[test]
fn coroutines_of_iter_pull_unoptimised() {
    coroutines(Build { unoptimised: true, ..PLAIN });
}

#[test]
fn coroutines_of_iter_pull_newest_go_stripped() {
    coroutines(Build { toolchain: Some(NEWEST), stripped: true, ..PLAIN });
}

#[test]
fn parents_are_creation_sites_of_creators() {
    let report = exact("counts", PLAIN, &["-n", "5"]);
    let line = line_of("counts", "grandchild");
    let sites = only_process(&report)["sites"].as_array().unwrap();
    let site =
        sites.iter().find(|site| site["site"]["line"] == line && site["site"]["function"] == "main.child");
    let parents = &site.unwrap()["parents"];
    assert_eq!(parents[0]["line"], line_of("counts", "child"), "{parents:#}");
    assert_eq!(parents[0]["count"], 15, "{parents:#}");
}

#[test]
fn names_are_as_go_prints_them() {
    let report = exact("counts", PLAIN, &["-n", "3"]);
    let sites = only_process(&report)["sites"].as_array().unwrap();
    let entry = |site: &str| {
        let line = line_of("counts", site);
        let found = sites.iter().find(|site| site["site"]["line"] == line).unwrap();
        (
            found["site"]["function"].as_str().unwrap().to_owned(),
            found["entry"]["function"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(entry("parent").0, "main.main");
    assert_eq!(entry("child").0, "main.parent");
    assert_eq!(entry("inlined").0, "main.spawn", "the statement is in the inlined function");
    // Statements with arguments, or of methods, are entered through the compiler's own wrapper.
    for site in ["stay", "parent"] {
        assert_eq!(entry(site).1, format!("main.{site}"));
    }
}

#[test]
fn forced_loss_is_counted_exactly() {
    need_root();
    let mut fixture = ready(&fixture("burst", PLAIN), &["-n", "20000"]);
    let pid = fixture.pid().to_string();
    let golife = attach(&["trace", "--format", "json", "--ring-bytes", "4096", "--pid", &pid]);
    fixture.write("go");
    let truth = truth("burst", &fixture.line());
    let report = interrupt(golife);
    let happened: u64 = truth.values().map(|counts| counts.created + counts.exited).sum();
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{report:#}"));
    let dropped = number(&report["loss"]["dropped"]);
    let hits = number(&report["overhead"]["probe_hits"]);
    let goroutines = &only_process(&report)["goroutines"];
    assert!(dropped > 0, "the ring is too small for a burst: {report:#}");
    // The runtime may start some goroutines of its own while the fixture works.
    assert!((happened..happened + 20).contains(&hits), "{hits} hits, the fixture counts {happened}");
    assert!(number(&goroutines["created"]) <= 20_004 + 20);
    for site in only_process(&report)["sites"].as_array().unwrap() {
        // This is `null` if none of the goroutines that were created was seen to end.
        let finished = site["lifetime"].as_object().map_or(0, |lifetime| number(&lifetime["count"]));
        assert!(finished <= number(&site["exited"]), "no lifetime without its exit: {site:#}");
    }
}

/// Traces goroutines that are started and end on four Ps for three seconds, as fast as they can but for pauses, with rings of so
/// many bytes, and does something with golife meanwhile. Returns what the program counts, and the report.
fn under_churn(pause: &str, ring_bytes: &str, meanwhile: impl FnOnce(&Running)) -> (Sites, Value) {
    let flags = ["-procs", "4", "-for", "3s", "-batch", "20", "-pause", pause];
    let mut fixture = ready(&fixture("churn", PLAIN), &flags);
    let pid = fixture.pid().to_string();
    let golife = attach(&["trace", "--format", "json", "--ring-bytes", ring_bytes, "--pid", &pid]);
    fixture.write("go");
    std::thread::sleep(Duration::from_millis(300));
    meanwhile(&golife);
    let truth = truth("churn", &fixture.line());
    (truth, interrupt(golife))
}

/// The hits of an [`under_churn`] are those that the program counts, give or take what the runtime starts for itself.
#[track_caller]
fn check_hits(truth: &Sites, report: &Value) {
    let happened: u64 = truth.values().map(|counts| counts.created + counts.exited).sum();
    let hits = report["overhead"]["probe_hits"].as_u64().unwrap();
    assert!(
        (happened..happened + 20).contains(&hits),
        "{hits} hits, the fixture counts {happened}: {report:#}"
    );
}

/// A `g` goes from one goroutine to the next, and from one CPU to another. Were the records of one CPU put before those that
/// led to them, exits would be without creations, or end the wrong goroutine.
#[test]
fn each_exit_is_that_of_its_goroutine_on_whichever_cpu() {
    need_root();
    let (truth, report) = under_churn("1ms", ROOMY, |_| ());
    check_exact(&report);
    assert_eq!(reported("churn", only_process(&report)), truth);
    check_hits(&truth, &report);
    for site in only_process(&report)["sites"].as_array().unwrap() {
        assert_eq!(site["reconciled"], 0, "{site:#}");
        let lifetimes = site["lifetime"].as_object().map_or(&Value::Null, |lifetime| &lifetime["count"]);
        if site["site"]["function"] == "main.main.func1" {
            assert_eq!((lifetimes, &site["live"]), (&site["exited"], &Value::from(0)), "{site:#}");
        }
    }
}

#[test]
fn what_a_stopped_golife_loses_is_counted_exactly() {
    need_root();
    let (truth, report) = under_churn("0s", "65536", |golife| {
        golife.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1_500));
        golife.signal(Signal::SIGCONT);
    });
    assert!(report["loss"]["dropped"].as_u64().unwrap() > 1_000, "{report:#}");
    check_hits(&truth, &report);
}

#[test]
fn a_ring_that_is_too_small_grows() {
    need_root();
    let small = 64 << 10;
    let (truth, report) = under_churn("0s", &small.to_string(), |_| ());
    let rings = &report["overhead"]["rings"];
    if rings["kind"] == "per_cpu" {
        let bytes = rings["bytes"].as_u64().unwrap();
        assert!((3 * small..16 * small).contains(&bytes), "{report:#}");
    }
    check_hits(&truth, &report);
}

#[test]
fn fixtures_tell_the_truth() {
    // This runs without golife, since a fixture whose own counts are wrong could not test anything.
    let output = Command::new(fixture("counts", PLAIN)).arg("-now").output().unwrap();
    let truth = truth("counts", std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(truth.len(), 17);
    assert!(truth.values().all(|counts| counts.created == counts.exited + counts.live));
}
