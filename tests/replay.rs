//! Makes reports of recorded events: bytes as the kernel writes them are decoded, tracked, judged and written, and the
//! result is compared with `tests/golden/`. Needs no root.
//!
//! After a change of the reports that is meant, run `GOLIFE_GOLDEN=update cargo test --test replay`, and read the diff.

#[path = "replay/record.rs"]
mod record;

use golife::assemble::merged;
use golife::assemble::repeats::Repeats;
use golife::event::{StackCode, TestPoint};
use golife::human;
use golife::output::hist::{self, Hist};
use golife::output::text::{self, Text};
use golife::output::{flame, folded, json, pprof, profile::Profile, saved};
use golife::report::{Report, Selection, Sort, Top};
use golife::tracker::{Existing, Limits, Lost};
use record::{DIAL, LEAK, MS, POOL, READ, Recording, S, SERVE, g_of, golden, plain};

fn text(report: &Report, table: bool) -> String {
    plain(|out| text::write(report, &Text { width: 100, table, sort: Sort::Verdict }, out))
}

fn json(report: &Report) -> String {
    plain(|out| json::write(report, out))
}

/// A server that handles requests, runs a pool, and leaks a subscriber now and then.
fn server() -> Recording {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    (0..4).for_each(|worker| run.create(MS * (1 + worker), 10 + worker, 1, POOL));
    let mut goid = 100;
    for at in 0..3_000u64 {
        let now = 10 * MS * at + 5 * MS;
        run.create(now, goid, 1, SERVE);
        run.exit(now + 2 * MS + (at * 7919 % 97) * MS / 10, goid);
        if at % 14 == 0 {
            run.create(now + MS, goid + 1, goid, LEAK);
        }
        goid += 2;
    }
    run
}

#[test]
fn a_leaking_site_is_named() {
    let report = server().report(30 * S);
    golden("leak.txt", &text(&report, false));
    golden("leak-trace.txt", &text(&report, true));
    golden("leak.json", &json(&report));
    let again = saved::read(&json(&report)).expect("a report that was written can be read");
    assert_eq!(again, report);
}

/// A test binary in which two tests run at the same time and a third has a subtest. One leaves a goroutine behind that is
/// blocked at the end, one that has ended by then, and one that was about to end; `init` and `TestMain` keep what they start.
fn test_binary() -> Recording {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    run.create(MS, 2, 1, POOL);
    run.reach(2 * MS, TestPoint::Main, 1, "");
    run.create(3 * MS, 3, 1, POOL);
    for (at, goid, name) in [(4, 10, "TestLeak"), (5, 11, "TestClean"), (6, 12, "TestOuter")] {
        run.create(at * MS, goid, 1, SERVE);
        run.reach(at * MS + MS / 2, TestPoint::Test, goid, name);
    }
    run.create(7 * MS, 13, 12, SERVE);
    run.reach(8 * MS, TestPoint::Test, 13, "TestOuter/inner");
    (20..24).for_each(|goid| run.create((goid - 10) * MS, goid, 10, LEAK));
    run.create(15 * MS, 30, 11, LEAK);
    run.create(16 * MS, 40, 13, LEAK);
    // Within the grace, and long after it.
    run.exit(17 * MS, 10);
    run.exit(30 * MS, 20);
    run.exit(2 * S, 21);
    run.park(22, true, "chan receive");
    run.park(23, false, "runnable");
    // What a test still runs for has not leaked.
    run.exit(2 * S + MS, 30);
    run.exit(2 * S + 2 * MS, 11);
    run.exit(2 * S + 3 * MS, 13);
    run.process_exit(2 * S + 4 * MS);
    run
}

#[test]
fn what_outlives_its_test_has_leaked_and_nothing_else() {
    let report = test_binary().report(3 * S);
    golden("test-binary.txt", &text(&report, true));
    golden("test-binary.json", &json(&report));
    assert_eq!(saved::read(&json(&report)).expect("it can be read"), report);
    let leaked = |name: &str| report.tests.iter().find(|test| test.test == name).unwrap().leaked_count;
    assert_eq!(["TestLeak", "TestClean", "TestOuter", "TestOuter/inner"].map(leaked), [3, 0, 0, 0]);
}

/// What was not asked for is still said to be there.
#[test]
fn a_leak_that_is_too_young_to_be_shown_is_said() {
    let selection = Selection { min_age_ns: Some(3_600 * S), ..Selection::default() };
    let text = text(&server().report_with(30 * S, &selection), false);
    assert!(text.contains("not shown: 1 suspect, by --min-age or --top"), "{text}");
}

#[test]
fn a_leak_in_a_dependency_is_blamed_on_the_program() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    for at in 0..200u64 {
        let (now, goid) = (140 * MS * at, 100 + 10 * at);
        // One in four of those that dial is created at the pool's statement. All creators have ended when the
        // connection has its reader.
        run.create(now, goid, 1, if at % 4 == 0 { POOL } else { SERVE });
        run.create(now + MS, goid + 1, goid, DIAL);
        run.exit(now + 2 * MS, goid);
        run.create(now + 3 * MS, goid + 2, goid + 1, READ);
        run.exit(now + 4 * MS, goid + 1);
    }
    golden("blame.txt", &text(&run.report(30 * S), true));
}

#[test]
fn a_line_that_led_to_few_is_not_blamed() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    run.create(0, 2, 1, SERVE);
    (0..88u64).for_each(|at| run.create(300 * MS * at, 100 + at, if at < 6 { 2 } else { 1 }, DIAL));
    let report = run.report(30 * S);
    let text = text(&report, false);
    assert!(text.contains("blame      unknown for 82 of 88: leaks --creation-stacks"), "{text}");
    assert!(!text.contains("main.go:42"), "{text}");
    let site = report.processes[0].sites.iter().find(|site| site.created == 88).expect("the site");
    let counts: Vec<_> = site.blame.iter().flatten().map(|line| (line.frame.line, line.count)).collect();
    assert_eq!((&counts[..], site.blame_unknown), (&[(Some(42), 6)][..], Some(82)));
}

/// A server whose requests leave something of a library behind.
fn unclosed() -> Recording {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    for at in 0..100u64 {
        let (now, goid) = (280 * MS * at, 100 + 10 * at);
        // Each request leaves a connection with its reader behind, and each second one a subscriber of the program's own.
        run.create(now, goid, 1, SERVE);
        run.create(now + MS, goid + 1, goid, DIAL);
        run.create(now + 2 * MS, goid + 2, goid + 1, READ);
        if at % 2 == 0 {
            run.create(now + 3 * MS, goid + 3, goid, LEAK);
        }
        run.exit(now + 4 * MS, goid);
    }
    run
}

#[test]
fn one_mistake_is_one_finding() {
    let report = unclosed().report(30 * S);
    let process = &report.processes[0];
    let named = |sites: &[usize]| -> Vec<String> {
        sites.iter().map(|&at| process.sites[at].site.function.clone()).collect()
    };
    let findings: Vec<_> = process.findings.iter().map(|finding| named(&finding.sites)).collect();
    assert_eq!(
        findings,
        [
            vec!["github.com/x/rpc.newConn", "github.com/x/rpc.(*Client).dial"],
            vec!["example.com/api/hub.(*Hub).Subscribe"]
        ]
    );
    assert_eq!(process.findings[0].blamed.as_ref().map(|line| line.function.as_str()), Some("main.serve"));
    let counts = report.summary.findings.expect("they are counted");
    assert_eq!((report.summary.suspect, counts.suspect), (3, 2));
    let text = text(&report, false);
    assert!(text.contains("1 more statement follows from it, live 100:"), "{text}");
    assert!(text.contains("suspect 2   healthy 1   (3 sites are 2 findings)"), "{text}");
    assert_eq!(text.matches("suspect  ").count(), 2, "{text}");
}

#[test]
fn what_is_silenced_leaves_the_rest_of_a_finding() {
    let silenced = |pattern| {
        let ignore = vec![regex::Regex::new(pattern).expect("a pattern")];
        let report = unclosed().report_with(30 * S, &Selection { ignore, ..Selection::default() });
        let process = &report.processes[0];
        let live = |sites: &[usize]| sites.iter().map(|&at| process.sites[at].live).collect::<Vec<_>>();
        let findings = process.findings.iter().map(|finding| live(&finding.sites)).collect::<Vec<_>>();
        (findings, report.summary.suspect, text(&report, true))
    };
    let (findings, suspect, text) = silenced(r"rpc\.newConn$");
    assert_eq!((findings, suspect), (vec![vec![100], vec![50]], 2), "what follows from it is not silenced");
    assert!(text.ends_with("\n1 site is silenced by --ignore\n"), "{text}");
    assert_eq!((text.matches("  ignored\n").count(), text.matches("suspect  ").count()), (1, 5), "{text}");
    let (findings, suspect, text) = silenced(r"^main\.serve$");
    assert_eq!((findings, suspect), (vec![vec![50]], 1), "both are blamed on it");
    assert!(
        text.ends_with("\n3 sites are silenced by --ignore\n"),
        "the statement itself is one of them: {text}"
    );
}

#[test]
fn creation_stacks_name_the_call() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    for at in 0..200u64 {
        run.called_from(match at % 10 {
            0 => StackCode(2),
            1 => StackCode::LOST,
            _ => StackCode(1),
        });
        run.create(140 * MS * at, 100 + at, 1, DIAL);
    }
    let report = run.report(30 * S);
    golden("creation-stacks.txt", &text(&report, false));
    let site = report.processes[0].sites.iter().find(|site| site.created == 200).expect("the site");
    let stacks = site.creation_stacks.as_ref().expect("its stacks");
    let counts: Vec<_> = stacks.iter().map(|stack| (stack.frames.len(), stack.created, stack.live)).collect();
    assert_eq!(counts, [(3, 160, 160), (0, 20, 20), (2, 20, 20)]);
}

#[test]
fn a_burst_is_healthy() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    for at in 0..5_000u64 {
        run.create(5 * S + at * MS / 10, 10 + at, 1, SERVE);
        run.exit(5 * S + at * MS / 10 + 800 * MS + at * MS / 7, 10 + at);
    }
    golden("burst.txt", &text(&run.report(30 * S), true));
}

#[test]
fn what_cannot_be_told_is_no_good_news() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    (0..9).for_each(|at| run.create(at * 300 * MS, 10 + at, 1, LEAK));
    run.create(MS, 100, 1, SERVE);
    run.exit(2 * MS, 100);
    let text = text(&run.report(3 * S), false);
    assert!(text.contains("cannot tell yet after 3 s: 1 of 2 sites, 10 created, 1 ended"), "{text}");
    assert!(text.contains("unknown  hub.(*Hub).Subscribe.func1") && text.contains("try --for 30s"), "{text}");
    assert!(!text.contains("no leak found"), "{text}");
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    run.create(MS, 7, 1, SERVE);
    run.process_exit(3 * S);
    run.create(20 * S, 1, 0, 0x1000);
    run.create(20 * S + MS, 7, 1, SERVE);
    run.exit(20 * S + 5 * MS, 7);
    golden("pid-reuse.json", &json(&run.report(30 * S)));
}

#[test]
fn an_exec_ends_what_ran_before() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    (2..6).for_each(|goid| run.create(goid * MS, goid, 1, SERVE));
    run.exec(10 * S);
    run.create(10 * S + MS, 1, 0, 0x1000);
    run.create(10 * S + 2 * MS, 3, 1, POOL);
    run.exit(10 * S + 4 * MS, 3);
    golden("exec.json", &json(&run.report(30 * S)));
    golden("exec.txt", &text(&run.report(30 * S), true));
}

#[test]
fn a_lost_creation_is_an_unmatched_exit() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    (2..50).for_each(|goid| run.create(goid * 100 * MS, goid, 1, SERVE));
    run.lost(20 * S, Lost { created: 2, ..Lost::default() });
    (2..52).for_each(|goid| run.exit(20 * S + goid * MS, goid));
    let report = run.report(30 * S);
    assert_eq!((report.loss.dropped, report.loss.unmatched_exits), (2, 2));
    golden("lost-creation.txt", &text(&report, true));
}

#[test]
fn a_lost_exit_is_found_by_a_scan() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    (2..50).for_each(|goid| run.create(goid * 100 * MS, goid, 1, SERVE));
    (2..47).for_each(|goid| run.exit(10 * S + goid * MS, goid));
    run.lost(12 * S, Lost { exited: 3, ..Lost::default() });
    let phantoms = run.report(13 * S).processes[0].goroutines.live;
    let list = vec![Existing { g: g_of(1), goid: 1, parent: 0, gopc: 0x1000, startpc: 0x1000 }];
    run.reconcile(14 * S, 15 * S, list);
    let report = run.report(30 * S);
    assert_eq!((phantoms, report.processes[0].goroutines.live, report.loss.reconciled), (3, 0, 3));
    golden("lost-exit.txt", &text(&report, true));
}

#[test]
fn records_that_say_nothing_or_come_too_late_are_said() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    run.garbage(S);
    run.garbage(2 * S);
    run.process_exit(3 * S);
    // This exit is older than the end of the process, so it belongs to the process that has ended.
    run.late_exit(4 * S, 3 * S - MS, 1);
    let report = run.report(30 * S);
    assert_eq!((report.loss.undecodable, report.loss.late), (2, 1));
    let text = text(&report, true);
    assert!(text.contains("2 records that could not be read"), "{text}");
    assert!(text.contains("1 records of processes that had already ended"), "{text}");
    let again = saved::read(&json(&report)).expect("its own report");
    assert_eq!(again.loss, report.loss);
}

#[test]
fn coroutines_are_short_and_many() {
    let mut run = Recording::new(4242);
    run.create(0, 1, 0, 0x1000);
    for at in 0..20_000u64 {
        run.create(MS + at * MS, 10 + at, 1, SERVE);
        run.exit(MS + at * MS + 900 + at % 400, 10 + at);
    }
    let report = run.report(30 * S);
    golden("iter-pull.txt", &text(&report, true));
    let sites = merged::merge(std::slice::from_ref(&report)).expect("its own histograms");
    golden(
        "iter-pull-hist.txt",
        &plain(|out| hist::write(&sites, &Hist { width: 100, top: 1, scale: None }, out)),
    );
}

#[test]
fn sites_beyond_the_limit_share_a_row() {
    let mut run = Recording::new(4242);
    for site in 0..10_050u64 {
        run.create(site * MS, 1 + site, 0, 0x10_0000 + site * 16);
        run.exit(site * MS + 3 * MS, 1 + site);
    }
    let selection =
        Selection { sort: Sort::Created, top: Some(Top::OfEachProcess(3)), ..Selection::default() };
    let report = run.report_with(30 * S, &selection);
    assert_eq!(report.summary.sites, 10_001);
    assert_eq!((report.summary.created, report.summary.exited), (10_050, 10_050));
    golden("sites.txt", &text(&report, true));
    golden("sites.json", &json(&report));
}

#[test]
fn goroutines_from_before_have_an_age_of_at_least() {
    let mut run = Recording::existing(4242);
    let old = |goid| Existing { g: g_of(goid), goid, parent: 1, gopc: LEAK, startpc: LEAK + 0x800 };
    run.adopt(S / 2, S, (2..1_000).map(old).collect());
    for at in 0..200u64 {
        run.create(S + at * 140 * MS, 2_000 + at, 1, LEAK);
        if at % 4 == 0 {
            run.exit(S + at * 140 * MS, 2 + at);
        }
    }
    golden("adopted.txt", &text(&run.report(30 * S), false));
}

#[test]
fn several_processes_are_told_apart() {
    let mut run = server();
    run.of(77).create(100 * MS, 1, 0, 0x1000);
    for at in 0..300 {
        run.create(200 * MS + at * 90 * MS, 10 + at, 1, SERVE);
        run.exit(200 * MS + at * 90 * MS + 40 * MS, 10 + at);
    }
    run.process_exit(29 * S);
    golden("processes.txt", &text(&run.report(30 * S), true));
}

/// What existed before belongs to the sum: `before + created = ended + live`.
#[test]
fn a_table_adds_up() {
    let mut run = Recording::existing(4242);
    let old = |goid| Existing { g: g_of(goid), goid, parent: 1, gopc: LEAK, startpc: LEAK + 0x800 };
    run.adopt(S / 2, S, (2..1_000).map(old).collect());
    (0..41).for_each(|at| run.create(S + at, 2_000 + at, 1, LEAK));
    (0..47).for_each(|at| run.exit(2 * S + at, 2 + at));
    let text = text(&run.report(30 * S), true);
    let row = text.lines().find(|line| line.contains("hub.go:88") && line.contains(" 992 ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..5], ["992", "998", "41", "47"], "{text}");
    assert!(text.contains("live  before  created  ended"), "{text}");
}

#[test]
fn a_histogram_shows_what_ended_and_what_lives() {
    let report = server().report(30 * S);
    let saved = saved::read(&json(&report)).expect("a saved report");
    let one = merged::merge(std::slice::from_ref(&saved)).expect("its histograms");
    let other = later(&report, 30, 60);
    let two = merged::merge(&[saved, other]).expect("both reports' histograms");
    assert_eq!(two[0].lifetimes.count(), 2 * one[0].lifetimes.count());
    assert_eq!(two[0].lifetimes.max_ns(), one[0].lifetimes.max_ns());
    let hist = Hist { width: 100, top: 10, scale: Some(2.0) };
    golden("hist.txt", &plain(|out| hist::write(&one, &hist, out)));
    let document = golife::assemble::hist::document(&one, usize::MAX, Some(2.0));
    golden("hist.json", &plain(|out| golife::output::json::write(&document, out)));
    assert_eq!(golife::assemble::hist::document(&one, 1, None).hidden, 2);
}

/// The report as if it covered other seconds of the same hour.
fn later(report: &Report, from: u64, to: u64) -> Report {
    let mut report = report.clone();
    let time = |seconds: u64| format!("2026-01-02T03:{:02}:{:02}.000Z", 10 + seconds / 60, seconds % 60);
    (report.window.start, report.window.end) = (time(from), time(to));
    report
}

#[test]
fn what_reports_of_one_process_have_in_common_counts_once() {
    let mut report = server().report(30 * S);
    report.processes[0].start_time = Some("2026-01-02T03:00:00.004Z".into());
    let leak = |reports: &[Report]| {
        let sites = merged::merge(reports).expect("its own histograms");
        let found = sites.into_iter().find(|site| site.site.line == Some(88)).expect("the leak");
        (found.created, found.live, found.ages.count(), found.rows)
    };
    let found = |reports: &[Report]| {
        let found = Repeats::of(reports).found;
        found.iter().map(|repeat| (repeat.report, repeat.of, repeat.within)).collect::<Vec<_>>()
    };
    let profiled = |reports: &[Report]| Profile::of_reports(reports).total(0);
    let (first, second) = (later(&report, 0, 30), later(&report, 30, 60));
    let (created, live, ages, _) = leak(std::slice::from_ref(&first));
    let all = profiled(std::slice::from_ref(&first));
    // One after the other: what happened is added, who lives is not.
    let mut both = [first.clone(), second];
    // The two runs of golife do not agree on the millisecond.
    both[1].processes[0].start_time = Some("2026-01-02T03:00:00.011Z".into());
    assert_eq!((leak(&both), found(&both)), ((2 * created, live, 2 * ages, 1), vec![]));
    both[0].processes[0].sites.iter_mut().for_each(|site| site.live += 1_000);
    assert_eq!((leak(&both).1, profiled(&both)), (live, all), "who lived in the older report is not asked");
    // The same one twice, and one that is a part of another.
    let same = [first.clone(), first.clone()];
    assert_eq!(
        (leak(&same), found(&same), profiled(&same)),
        ((created, live, ages, 1), vec![(1, 0, true)], all)
    );
    let part = [later(&report, 5, 20), first.clone()];
    assert_eq!((leak(&part), found(&part)), ((created, live, ages, 1), vec![(0, 1, true)]));
    // What overlaps cannot be told apart.
    let half = [first.clone(), later(&report, 20, 50)];
    assert_eq!((leak(&half).1, found(&half)), (live, vec![(1, 0, false)]));
    // One that ended before anybody saw when it started.
    let mut unseen = same.clone();
    unseen.iter_mut().for_each(|report| report.processes[0].start_time = None);
    assert_eq!((leak(&unseen), found(&unseen)), ((created, live, ages, 1), vec![(1, 0, true)]));
    // Another process, and one that is not known to be the same.
    let mut others = [first.clone(), first];
    for start in [Some("2026-01-02T03:00:09.000Z".into()), None] {
        others[1].processes[0].start_time = start;
        assert_eq!((leak(&others), found(&others)), ((2 * created, 2 * live, 2 * ages, 2), vec![]));
    }
}

/// Every number of a saved report, one after the other, becomes one that cannot be.
#[test]
fn a_saved_report_with_absurd_numbers_keeps_its_sites_or_is_refused() {
    let document: serde_json::Value = serde_json::from_str(&json(&server().report(30 * S))).expect("its own");
    let mut numbers = Vec::new();
    pointers(&document, String::new(), &mut numbers);
    assert!(numbers.len() > 100);
    for number in numbers {
        for absurd in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let mut damaged = document.clone();
            *damaged.pointer_mut(&number).expect("it is there") = absurd.into();
            let Ok(report) = saved::read(&damaged.to_string()) else { continue };
            let reports = [report.clone(), report];
            let hist = Hist { width: 100, top: 10, scale: Some(2.0) };
            let Ok(sites) = merged::merge(&reports) else { continue };
            let text = plain(|out| hist::write(&sites, &hist, out));
            for site in ["main.serve.func1", "hub.(*Hub).Subscribe.func1", "main.startPool.func1"] {
                assert!(text.contains(site), "{number} = {absurd}: {site} is not in\n{text}");
            }
            let profile = Profile::of_reports(&reports);
            for write in [pprof::write, folded::write, flame::write] {
                write(&profile, &mut std::io::sink()).expect("it is written");
            }
        }
    }
}

/// The JSON pointers of all numbers in a document.
fn pointers(value: &serde_json::Value, at: String, numbers: &mut Vec<String>) {
    match value {
        serde_json::Value::Number(_) => numbers.push(at),
        serde_json::Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| pointers(item, format!("{at}/{index}"), numbers));
        }
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| pointers(field, format!("{at}/{name}"), numbers));
        }
        _ => {}
    }
}

#[test]
fn a_budget_that_is_used_up_is_said() {
    let mut run = Recording::new(4242).limits(Limits { max_goroutines: 100, ..Limits::default() });
    (0..300u64).for_each(|at| run.create(at * 50 * MS, 1 + at, 1, LEAK));
    golden("budget.txt", &text(&run.report(30 * S), true));
}

#[test]
fn a_hostile_name_cannot_control_the_terminal() {
    let mut run = server();
    run.command = "api \x1b]0;owned\x07\n--port 80".into();
    let report = run.report(30 * S);
    assert!(text(&report, true).chars().all(|char| char == '\n' || !char.is_control()));
    assert_eq!(human::width("π"), 1);
}

#[test]
fn narrow_terminals_get_narrow_lines() {
    let report = server().report(30 * S);
    let narrow =
        plain(|out| text::write(&report, &Text { width: 60, table: false, sort: Sort::Verdict }, out));
    let longest = narrow.lines().map(human::width).max().unwrap_or(0);
    assert!(longest <= 60, "{longest} columns:\n{narrow}");
    golden("narrow.txt", &narrow);
    // Where there is less room, text still breaks between words; only the line of counts is what it is.
    let narrow =
        plain(|out| text::write(&report, &Text { width: 44, table: false, sort: Sort::Verdict }, out));
    let longest = narrow.lines().map(human::width).max().unwrap_or(0);
    assert!(longest <= 44, "{longest} columns:\n{narrow}");
}
