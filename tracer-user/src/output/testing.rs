//! A report for tests of those outputs that other tools read, and what such tools are to get.

use std::time::{Duration, SystemTime};

use crate::report::{
    BlamedFrame, BootWindow, Cause, Evidence, EvidenceKind, Finding, Frame, Go, Leaked, LedBy, Level, Loss,
    Mode, Oldest, Overhead, Process, Report, Run, Selection, Site, StartedBy, StaticCheck, Test, TestKind,
    Tool, Verdict, Waiting,
};

const S: u64 = 1_000_000_000;

/// A report of these processes, over 30 s.
pub(crate) fn report(processes: Vec<Process>) -> Report {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
    let tool =
        Tool { version: "0.0.0".into(), host: Some("node-7".into()), kernel: None, arch: "x86_64".into() };
    let window = BootWindow { start_ns: 0, end_ns: 30 * S, end };
    let run = Run { tool, window, overhead: Overhead::default(), untraced: Vec::new() };
    run.report(Loss::default(), processes, &Selection::default())
}

pub(crate) fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: Some(file.into()), line: Some(line) }
}

fn site(site: Frame, entry: Frame, live: u64, verdict: Verdict) -> Site {
    let oldest = Some(Oldest { age_ns: 29 * S, at_least: false });
    Site {
        ordinal: ordinal(&site),
        site,
        entry,
        live,
        created: live + 3,
        exited: 3,
        peak_live: live,
        oldest,
        verdict,
        ..Site::default()
    }
}

/// The place of a statement among those of its function.
fn ordinal(site: &Frame) -> Option<u32> {
    let lines: &[u32] = match site.function.as_str() {
        "main.serve" => &[42, 49, 70, 80],
        "example.com/api/hub.(*Hub).Subscribe" => &[88, 95, 120],
        _ => return None,
    };
    let at = lines.iter().position(|line| Some(*line) == site.line)?;
    u32::try_from(at + 1).ok()
}

fn verdict(level: Level, cause: Option<Cause>, evidence: &str, advice: Option<&str>) -> Verdict {
    let evidence = vec![Evidence::new(EvidenceKind::Growth, evidence)];
    Verdict { level, cause, evidence, advice: advice.map(Into::into), ..Verdict::default() }
}

fn waiting(reason: &str, count: u64, at: &[Frame]) -> Option<Vec<Waiting>> {
    Some(vec![Waiting { reason: reason.into(), count, at: at.to_vec(), ..Waiting::default() }])
}

/// A program with all that a reviewer may see: a leak of its own and what follows from it, one through a library, a proven and
/// a watched one, an ignored one, and what is healthy or cannot be told; beside it, one that was not seen.
pub(crate) fn review() -> Report {
    let hub = |line| frame("example.com/api/hub.(*Hub).Subscribe", "/src/api/hub/hub.go", line);
    let run = frame("example.com/api/hub.(*Hub).Subscribe.func1", "/src/api/hub/hub.go", 89);
    let dial = frame("net/http.(*Transport).dialConn", "/go/src/net/http/transport.go", 1948);
    let read = frame("net/http.(*persistConn).readLoop", "/go/src/net/http/transport.go", 2325);
    let fetch = frame("example.com/api/client.Fetch", "/src/api/client/fetch.go", 31);
    let main = |line| frame("main.serve", "/src/api/cmd/api/main.go", line);
    let handle = frame("main.serve.func1", "/src/api/cmd/api/main.go", 50);
    let leak = Site {
        waiting: waiting("chan receive", 215, &[frame(&run.function, "/src/api/hub/hub.go", 91)]),
        ..site(
            hub(88),
            run.clone(),
            215,
            verdict(
                Level::Suspect,
                Some(Cause::ChanReceive),
                "live grew by 215 in 30 s: rose in every sample",
                Some(
                    "nothing closes or sends on the channel received from at hub.go:91: close it when the work ends",
                ),
            ),
        )
    };
    let body = verdict(
        Level::Suspect,
        Some(Cause::HttpBody),
        "none of the 40 created in 30 s has ended",
        Some(
            "a request made at fetch.go:31 got a response whose body is not closed: defer response.Body.Close()",
        ),
    );
    let through = Site {
        waiting: waiting("select", 40, std::slice::from_ref(&read)),
        blame: Some(vec![BlamedFrame { frame: fetch, count: 38, came: 38, by: LedBy::Call }]),
        blame_unknown: Some(2),
        ..site(dial, read, 40, Verdict { static_check: Some(StaticCheck::BodyClose), ..body })
    };
    let nil = verdict(
        Level::Proven,
        Some(Cause::NilChan),
        "1 waits on a nil channel",
        Some("the channel used at main.go:52 is nil: make it before the goroutine starts"),
    );
    let context = verdict(
        Level::Watch,
        Some(Cause::Context),
        "live grew by 4, then fell \"<&>\"",
        Some("the context waited for at main.go:71 is not cancelled: defer its cancel function"),
    );
    let context = Verdict { static_check: Some(StaticCheck::LostCancel), ..context };
    let follows = verdict(Level::Watch, Some(Cause::Sleep), "none of the 215 created has ended", None);
    let short = Verdict {
        needs_ns: Some(60 * S),
        ..verdict(Level::Unknown, None, "the window is too short to tell", None)
    };
    let sites = vec![
        site(main(49), handle.clone(), 1, nil),
        leak,
        through,
        site(hub(95), run.clone(), 215, follows),
        site(main(70), frame("main.serve.func2", "/src/api/cmd/api/main.go", 71), 4, context),
        site(hub(120), run.clone(), 12, short),
        site(main(42), handle.clone(), 1, verdict(Level::Healthy, None, "live stays about the same", None)),
        Site {
            ignored: true,
            ..site(main(80), handle, 9, verdict(Level::Suspect, Some(Cause::Timer), "live grew by 9", None))
        },
    ];
    let finding =
        |sites: &[usize]| Finding { level: Level::Suspect, sites: sites.to_vec(), ..Finding::default() };
    let api = Process {
        pid: 4242,
        start_time: Some("2026-01-02T03:03:00.000Z".into()),
        exe: Some("/srv/api".into()),
        command: Some("api --port 80".into()),
        go: Some(Go { module: Some("example.com/api".into()), ..Go::default() }),
        sites,
        findings: vec![finding(&[0]), finding(&[1, 3]), finding(&[2]), finding(&[4])],
        ..Process::default()
    };
    let denied = Process {
        pid: 77,
        exe: Some("/srv/old".into()),
        mode: Mode::Unsupported,
        detail: Some("Go 1.4 is too old".into()),
        ..Process::default()
    };
    let mut report = report(vec![api, denied]);
    report.loss.dropped = 3;
    report
}

/// A test of a package that ran once in a process.
pub(crate) fn test(pid: u32, package: &str, name: &str, leaked: Vec<Leaked>) -> Test {
    Test {
        package: Some(package.into()),
        test: name.into(),
        kind: TestKind::Test,
        pid,
        runs: 1,
        leaked_count: leaked.len() as u64,
        leaked,
        ..Test::default()
    }
}

/// A goroutine of `pool.work` that a test has left behind.
pub(crate) fn worker(goid: u64) -> Leaked {
    let file = "/src/m/pool/pool.go";
    Leaked {
        goid,
        site: frame("example.com/m/pool.(*Pool).Start", file, 31),
        ordinal: Some(1),
        entry: frame("example.com/m/pool.(*Pool).work", file, 40),
        waiting: waiting("chan receive", 1, &[frame("example.com/m/pool.(*Pool).work", file, 44)])
            .and_then(|waiting| waiting.into_iter().next()),
        cause: Some(Cause::ChanReceive),
        advice: Some(
            "nothing closes or sends on the channel received from at pool.go:44: close it when the work ends"
                .into(),
        ),
        outlived_ns: S + goid * 10_000_000,
        ..Leaked::default()
    }
}

/// A goroutine of the standard library that a test has left behind, and that has ended then.
pub(crate) fn connection(goid: u64) -> Leaked {
    let transport = |function: &str, line| frame(function, "/go/src/net/http/transport.go", line);
    let read = transport("net/http.(*persistConn).readLoop", 2325);
    Leaked {
        site: transport("net/http.(*Transport).dialConn", 1948),
        ordinal: Some(2),
        entry: transport("net/http.(*persistConn).readLoop", 2246),
        waiting: Some(Waiting { reason: "select".into(), count: 1, at: vec![read], ..Waiting::default() }),
        cause: Some(Cause::HttpBody),
        advice: Some("a request got a response whose body is not closed: defer response.Body.Close()".into()),
        ended: true,
        ..worker(goid)
    }
}

/// The sites of what tests have left behind, as verdicts have them.
fn left_site(leaked: &Leaked, live: u64, tests: &str) -> Site {
    let evidence = vec![Evidence::new(EvidenceKind::Test, format!("{live} of {live} outlived {tests}"))];
    let (cause, advice) = (leaked.cause, leaked.advice.clone());
    let verdict = Verdict { level: Level::Suspect, cause, evidence, advice, ..Verdict::default() };
    let waiting = leaked.waiting.clone().map(|waiting| vec![Waiting { count: live, ..waiting }]);
    Site {
        waiting,
        ordinal: leaked.ordinal,
        ..site(leaked.site.clone(), leaked.entry.clone(), live, verdict)
    }
}

/// What `go test ./...` of two packages may show: tests that leak and others that do not, in two runs of one of the packages,
/// what lives and has not leaked, and a program that a test has started.
pub(crate) fn go_tests() -> Report {
    let (pool, db) = ("example.com/m/pool", "example.com/m/db");
    let silenced = Leaked { silenced: true, ..worker(70) };
    let of = |kind, living, test| Test { kind, living, runs: 0, ..test };
    let mut tests = vec![
        test(100, pool, "TestPool", Vec::new()),
        test(100, pool, "TestPool/full", vec![worker(34), worker(35), connection(36)]),
        test(100, pool, "TestPool/idle", vec![worker(37)]),
        Test { ending: 2, ..test(100, pool, "TestResize", Vec::new()) },
        Test { unfinished: 1, living: 4, ..test(100, pool, "TestSlow", Vec::new()) },
        Test { kind: TestKind::Benchmark, runs: 3, ..test(100, pool, "BenchmarkPool", Vec::new()) },
        of(TestKind::Init, 1, test(100, pool, "init", Vec::new())),
        of(TestKind::Unknown, 1, test(100, pool, "", Vec::new())),
        test(102, pool, "TestPool/full", vec![worker(34)]),
        test(101, db, "TestKnown", vec![silenced]),
        of(TestKind::TestMain, 2, test(101, db, "TestMain", Vec::new())),
    ];
    tests.sort_by(|a, b| (&a.package, &a.test).cmp(&(&b.package, &b.test)));
    let go = Some(Go { module: Some("example.com/m".into()), ..Go::default() });
    let binary = |pid, exe: &str, sites: Vec<Site>| Process {
        pid,
        exe: Some(format!("/tmp/go-build{pid}/b001/{exe}")),
        command: Some(format!("/tmp/go-build{pid}/b001/{exe} -test.timeout=10m0s")),
        go: go.clone(),
        mode: Mode::Gone,
        findings: (0..sites.len()).filter_map(|at| Finding::alone(at, &sites[at])).collect(),
        sites,
        ..Process::default()
    };
    let grew = verdict(Level::Suspect, None, "live grew by 12 in 30 s: rose in every sample", None);
    let reap = frame("example.com/m/pool.reap", "/src/m/pool/reap.go", 9);
    let listen = frame("main.listen", "/src/m/cmd/server/main.go", 12);
    let known = Site { known: true, ..left_site(&worker(70), 1, "TestKnown") };
    let healthy = verdict(Level::Healthy, None, "live stays about the same", None);
    let server = Process {
        started_by: Some(StartedBy { pid: 101, package: Some(db.into()), test: "TestKnown".into() }),
        ..binary(200, "server", vec![site(listen.clone(), listen, 1, healthy)])
    };
    let first = vec![
        left_site(&worker(34), 3, "TestPool/full, TestPool/idle"),
        left_site(&connection(36), 0, "TestPool/full"),
        site(reap.clone(), reap, 12, grew),
    ];
    let second = vec![left_site(&worker(34), 1, "TestPool/full")];
    let processes = vec![
        binary(100, "pool.test", first),
        binary(102, "pool.test", second),
        binary(101, "db.test", vec![known]),
        server,
    ];
    Report { tests, ..report(processes) }
}

/// Compares a text with a file in `tests/golden`, or replaces the file if that was asked for: `GOLIFE_GOLDEN=update`.
#[track_caller]
pub(crate) fn golden(name: &str, got: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if std::env::var_os("GOLIFE_GOLDEN").is_some_and(|value| value == "update") {
        std::fs::write(&path, got).expect("tests/golden is writable");
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(want == got, "{name} differs; if this is meant, run with GOLIFE_GOLDEN=update:\n{got}");
}
