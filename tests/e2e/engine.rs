//! Tries the engine without its commands: several engines in one process, and one for a long time.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use golife::report::{Report, Selection};
use golife::targets::Selectors;
use golife::trace::{Ending, Happened, Notice, Settings, Targets, Tracer};
use serde_json::Value;

use crate::support::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn of_process(pid: u32) -> Settings {
    Settings::new(Targets::Selectors(Selectors { pids: vec![pid], ..Selectors::default() }))
}

async fn start(settings: Settings) -> Tracer {
    Tracer::start(settings).await.unwrap_or_else(|error| panic!("{error}: {:?}", error.notices))
}

/// The notices without the one that there is because other tests trace at the same time.
fn own(mut notices: Vec<Notice>) -> Vec<Notice> {
    notices.retain(|notice| *notice != Notice::AnotherTracer);
    notices
}

/// The counts of the only process in a report.
fn counts(report: &Report, fixture: &str) -> Sites {
    let report: Value = serde_json::to_value(report).unwrap();
    check_exact(&report);
    reported(fixture, only_process(&report))
}

#[test]
fn two_engines_one_after_the_other() {
    need_root();
    let binary = fixture("tiny", Build::default());
    let mut fixture = ready(&binary, &[]);
    runtime().block_on(async {
        let first = start(of_process(fixture.pid())).await;
        assert_eq!((first.process_count(), first.builds().len()), (1, 1));
        assert!(patched_bytes(fixture.pid()) > 0);
        let Ending { report, notices, .. } = first.stop(&Selection::default()).await.unwrap();
        assert_eq!(patched_bytes(fixture.pid()), 0, "none is left");
        assert_eq!((report.summary.created, own(notices)), (0, vec![]));
        let second = start(of_process(fixture.pid())).await;
        fixture.write("go");
        let truth = truth("tiny", &fixture.line());
        let Ending { report, .. } = second.stop(&Selection::default()).await.unwrap();
        assert_eq!(counts(&report, "tiny"), truth);
    });
    assert_eq!(patched_bytes(fixture.pid()), 0);
    fixture.expect_alive();
}

#[test]
fn two_engines_side_by_side() {
    need_root();
    let binary = fixture("counts", Build::default());
    let mut fixture = ready(&binary, &["-n", "60"]);
    let alone = {
        let mut probe = ready(&binary, &["-n", "60"]);
        probe.write("go");
        truth("counts", &probe.line())
    };
    runtime().block_on(async {
        let settings = Settings { interval: Duration::from_millis(50), ..of_process(fixture.pid()) };
        let (mut one, mut two) = (start(settings.clone()).await, start(settings.clone()).await);
        let dropped = start(settings).await;
        fixture.write("go");
        let truth = truth("counts", &fixture.line());
        assert_eq!(truth, alone);
        drop(dropped);
        assert!(patched_bytes(fixture.pid()) > 0, "the others' are still there");
        // Both engines go on by turns, and neither waits for the other.
        let (mut of_one, mut of_two) = (0, 0);
        while of_one.min(of_two) < 5 {
            tokio::select! {
                happened = one.next() => of_one += u32::from(matches!(happened.unwrap(), Happened::Interval)),
                happened = two.next() => of_two += u32::from(matches!(happened.unwrap(), Happened::Interval)),
            }
        }
        assert_eq!(counts(&one.report(&Selection::default()), "counts"), truth);
        drop(one);
        assert!(patched_bytes(fixture.pid()) > 0, "the other's are still there");
        let Ending { report, .. } = two.stop(&Selection::default()).await.unwrap();
        assert_eq!(counts(&report, "counts"), truth);
    });
    assert_eq!(patched_bytes(fixture.pid()), 0);
    fixture.expect_alive();
}

#[test]
fn an_engine_says_when_all_is_over() {
    need_root();
    let mut fixture = ready(&fixture("tiny", Build::default()), &["-code", "3"]);
    runtime().block_on(async {
        let settings = Settings { interval: Duration::from_millis(20), ..of_process(fixture.pid()) };
        let mut engine = start(settings).await;
        fixture.write("go");
        fixture.line();
        fixture.close_stdin();
        let over = async {
            loop {
                match engine.next().await.unwrap() {
                    Happened::AllGone => break,
                    Happened::Interval => {}
                    Happened::Notice(Notice::AnotherTracer) => {}
                    Happened::Notice(notice) => panic!("{notice}"),
                }
            }
        };
        tokio::time::timeout(limit(), over).await.expect("the engine says so");
    });
}

/// An engine that runs for long judges by its last epochs.
#[test]
fn reports_cover_the_last_epochs() {
    need_root();
    let mut busy = ready(&fixture("leaky", Build::default()), &["-rate", "200", "-for", "60s"]);
    busy.write("go");
    runtime().block_on(async {
        let epoch = Some(Duration::from_millis(800));
        let interval = Duration::from_millis(100);
        let mut engine = start(Settings { epoch, interval, ..of_process(busy.pid()) }).await;
        let mut longest = 0;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let mut last = None;
        while let Ok(happened) = tokio::time::timeout_at(deadline, engine.next()).await {
            if matches!(happened.unwrap(), Happened::Interval) {
                let report = engine.report(&Selection::default());
                longest = longest.max(report.window.duration_ns);
                for site in report.processes.iter().flat_map(|process| &process.sites) {
                    let (there, gone) = (site.created + site.at_attach, site.exited + site.reconciled);
                    assert_eq!(there, gone + site.live + site.untracked, "{site:#?}");
                }
                last = Some(report);
            }
        }
        let summary = last.expect("a report").summary;
        assert!((800_000_000..3_000_000_000).contains(&longest), "{longest} ns");
        // 200 leak in a second, and as many end.
        assert!(summary.live > 500, "who leaked before is still there: {summary:?}");
        assert!(summary.created < 2 * summary.live, "of the last epochs alone: {summary:?}");
    });
}

/// How much this process holds: file descriptors, mappings, and memory in kB.
fn held() -> (usize, usize, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (
        fs::read_dir("/proc/self/fd").unwrap().count(),
        fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
        memory.trim().trim_end_matches(" kB").parse().unwrap(),
    )
}

fn run_short(binary: &Path, times: u32) {
    for _ in 0..times / 4 {
        let one = || {
            let mut command = Command::new(binary);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        for mut child in [one(), one(), one(), one()] {
            child.wait().unwrap();
        }
    }
}

/// This needs a process of its own, since other tests open files as well. `an_engine_forgets` starts it.
#[test]
#[ignore = "an_engine_forgets runs it"]
fn ten_thousand_short_processes() {
    need_root();
    const BINARIES: usize = 100;
    const EACH: u32 = 100;
    let original = fixture("tiny", Build::default());
    let directory = tempfile::tempdir().unwrap();
    let binaries: Vec<_> =
        (0..BINARIES).map(|at| directory.path().join(format!("golife-short-{at}"))).collect();
    for binary in &binaries {
        fs::copy(&original, binary).unwrap();
    }
    let (warm, after, report) = runtime().block_on(async {
        let names = vec![regex::Regex::new("^golife-short-").unwrap()];
        // An engine needs a process to begin with, so a copy of the first binary waits from the start.
        let waiting = ready(&binaries[0], &[]);
        let selectors = Selectors { names, ..Selectors::default() };
        let settings =
            Settings { interval: Duration::from_millis(100), ..Settings::new(Targets::Selectors(selectors)) };
        let mut engine = start(settings).await;
        drop(waiting);
        let mut warm = None;
        for (at, binary) in binaries.iter().enumerate() {
            if at == 10 {
                warm = Some(held());
            }
            // Short processes end before probes are in place, so the first one of each binary waits for the probes.
            let first = ready(binary, &[]);
            while patched_bytes(first.pid()) == 0 {
                let _ = tokio::time::timeout(Duration::from_millis(5), engine.next()).await;
            }
            let binary = binary.clone();
            let mut running = tokio::task::spawn_blocking(move || run_short(&binary, EACH));
            loop {
                tokio::select! {
                    _ = engine.next() => {}
                    ended = &mut running => break ended.unwrap(),
                }
            }
            drop(first);
        }
        // After this time everything that is to be let go has been let go.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        while tokio::time::timeout_at(deadline, engine.next()).await.is_ok() {}
        let after = held();
        (warm.unwrap(), after, engine.report(&Selection::default()))
    });
    let seen = report.processes.len() as u64 + report.loss.forgotten_processes;
    assert!(seen > 9_000, "{seen} of 10,000 were seen");
    assert!(report.processes.len() < 400, "{}", report.processes.len());
    println!("descriptors, mappings, kB: {warm:?} after 1,000 processes, {after:?} after 10,000");
    assert!(after.0 <= warm.0 + 8, "descriptors: {warm:?} {after:?}");
    assert!(after.1 <= warm.1 + 40, "mappings: {warm:?} {after:?}");
    assert!(after.2 <= warm.2 + 8_192, "memory: {warm:?} {after:?}");
}

#[test]
fn an_engine_forgets() {
    need_root();
    let itself = std::env::current_exe().unwrap();
    let output = Command::new(itself)
        .args(["--ignored", "--exact", "--nocapture", "engine::ten_thousand_short_processes"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}
