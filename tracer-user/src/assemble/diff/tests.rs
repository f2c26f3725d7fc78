//! Checks what is called a change, and what is not.

use std::time::SystemTime;

use super::*;
use crate::report::{BootWindow, Go, Hdr, Lifetime, Loss, Overhead, Run, Selection, Tool, Verdict};

const S: u64 = 1_000_000_000;

fn report(seconds: u64, processes: Vec<Process>) -> Report {
    let window = BootWindow { start_ns: 0, end_ns: seconds * S, end: SystemTime::UNIX_EPOCH };
    let run = Run { tool: Tool::default(), window, overhead: Overhead::default(), untraced: Vec::new() };
    run.report(Loss::default(), processes, &Selection::default())
}

fn process(exe: &str, sites: Vec<Site>) -> Process {
    let go = Some(Go { module: Some("x.io/api".into()), ..Go::default() });
    Process { go, exe: Some(format!("/srv/{exe}")), sites, ..Process::default() }
}

/// A site in ten seconds.
fn site(function: &str, ordinal: Option<u32>, line: u32, created: u64, live: u64, level: Level) -> Site {
    Site {
        site: Frame { function: function.into(), file: Some("/src/hub.go".into()), line: Some(line) },
        ordinal,
        created,
        live,
        created_per_s: Some(created as f64 / 10.0),
        verdict: Verdict { level, ..Verdict::default() },
        ..Site::default()
    }
}

fn diff(old: &Report, new: &Report) -> Diff {
    let mut comparison = Comparison::of([old, new]);
    for (side, report) in [old, new].into_iter().enumerate() {
        for (process, of) in report.processes.iter().enumerate() {
            of.sites.iter().for_each(|site| comparison.add(side, process, site).unwrap());
        }
    }
    comparison.finish(["old".into(), "new".into()])
}

fn of_sites(old: Vec<Site>, new: Vec<Site>) -> Diff {
    diff(&report(10, vec![process("api", old)]), &report(10, vec![process("api", new)]))
}

fn changes(diff: &Diff) -> Vec<(&str, Change, bool)> {
    diff.sites.iter().map(|site| (site.site.function.as_str(), site.change, site.regression)).collect()
}

#[test]
fn statements_are_the_same_wherever_their_lines_are() {
    use Level::Healthy;
    let old = vec![
        site("f", Some(1), 10, 50, 4, Healthy),
        site("f", Some(2), 20, 50, 4, Healthy),
        site("g", None, 30, 50, 4, Healthy),
        site("h", Some(1), 40, 50, 4, Healthy),
        site("gone", Some(1), 50, 5, 0, Healthy),
    ];
    let new = vec![
        site("f", Some(1), 110, 50, 4, Healthy),
        site("f", Some(2), 10, 50, 4, Healthy),
        site("g", Some(3), 30, 50, 4, Healthy),
        site("h", None, 40, 50, 4, Healthy),
        site("new", Some(1), 60, 5, 0, Healthy),
    ];
    let found = of_sites(old, new);
    assert_eq!(changes(&found), [("new", Change::New, false), ("gone", Change::Gone, false)]);
    assert_eq!(found.summary, Changes { new: 1, gone: 1, same: 4, ..Changes::default() });
    let moved = of_sites(vec![site("g", None, 30, 5, 4, Healthy)], vec![site("g", None, 31, 5, 4, Healthy)]);
    assert_eq!(moved.summary, Changes { new: 1, gone: 1, ..Changes::default() }, "nothing else tells them");
}

#[test]
fn verdicts_decide_before_numbers_do() {
    use Level::{Healthy, Suspect, Unknown, Watch};
    let pair = |name: &str, old, new| [(name.to_owned(), old), (name.to_owned(), new)];
    let all = [
        pair("worse", Watch, Suspect),
        pair("better", Suspect, Healthy),
        pair("untold", Unknown, Suspect),
        pair("same", Suspect, Suspect),
    ];
    let side = |at: usize, live| {
        all.iter().map(|pair| site(&pair[at].0, Some(1), 1, 50, live, pair[at].1)).collect::<Vec<_>>()
    };
    let found = of_sites(side(0, 100), side(1, 100));
    assert_eq!(changes(&found), [("worse", Change::Worse, true), ("better", Change::Better, false)]);
    // Many more of them live, whatever the verdict is.
    let found = of_sites(side(0, 100), side(1, 1_000));
    let worse = |name| (name, Change::Worse, true);
    assert_eq!(
        changes(&found),
        [worse("same"), worse("untold"), worse("worse"), ("better", Change::Better, false)]
    );
    let mut silenced = side(1, 100);
    silenced.iter_mut().for_each(|site| site.known = true);
    silenced.push(Site { ignored: true, ..site("new", Some(1), 1, 9, 9, Suspect) });
    let found = of_sites(side(0, 100), silenced);
    assert_eq!((found.summary.worse, found.summary.new, found.summary.regressions), (1, 1, 0));
    let found = of_sites(Vec::new(), vec![site("new", Some(1), 1, 9, 9, Watch)]);
    assert_eq!(changes(&found), [("new", Change::New, true)], "a new leak");
}

#[test]
fn counts_are_compared_by_time_and_process() {
    use Level::Healthy;
    let one = |created, live| site("f", Some(1), 1, created, live, Healthy);
    let old = report(10, vec![process("api", vec![one(1_000, 50)])]);
    // Twice as many processes for three times as long, of which each does the same.
    let third = |created, live| Site { created_per_s: Some(created as f64 / 30.0), ..one(created, live) };
    let two = |created, live| {
        report(
            30,
            vec![process("api", vec![third(created, live)]), process("api", vec![third(created, live)])],
        )
    };
    let same = diff(&old, &two(3_000, 50));
    assert_eq!((same.summary.same, same.tests, same.sites.len()), (1, 2, 0));
    let more = diff(&old, &two(6_000, 50));
    assert_eq!(changes(&more), [("f", Change::Changed, false)]);
    let [live, created] = more.sites[0].differences[..] else { panic!("{more:?}") };
    assert_eq!((live.measure, live.significant, live.p), (Measure::Live, false, Some(1.0)));
    assert!(created.measure == Measure::Created && created.significant && created.p < Some(1e-9));
    let seen = more.sites[0].new.as_ref().unwrap();
    assert_eq!((seen.created, seen.created_per_s), (12_000, Some(200.0)));
    // Significant, but no large difference.
    assert_eq!(diff(&old, &two(3_900, 50)).summary.same, 1);
    // A large difference, but of few.
    assert_eq!(of_sites(vec![one(2, 1)], vec![one(6, 3)]).summary.same, 1);
    assert_eq!(changes(&of_sites(vec![one(90, 90)], vec![one(90, 9)])), [("f", Change::Better, false)]);
}

#[test]
fn a_program_that_is_done_sooner_has_not_created_more() {
    let whole = |seconds: f64, created: u64| {
        let rated = Some(created as f64 / seconds);
        let site = Site { created_per_s: rated, ..site("f", Some(1), 1, created, 0, Level::Healthy) };
        let ended = Some("2026-01-01T00:00:09Z".into());
        let mut process = Process { mode: Mode::Gone, ended, ..process("api", vec![site]) };
        process.goroutines.at_attach = Some(0);
        report(10, vec![process])
    };
    assert_eq!(diff(&whole(9.0, 500), &whole(1.0, 500)).summary.same, 1);
    let more = diff(&whole(9.0, 500), &whole(9.0, 1_000));
    assert_eq!(more.summary.changed, 1);
    assert_eq!(more.sites[0].new.as_ref().unwrap().created_per_s, None);
    // One that still runs is compared by time.
    let mut runs = whole(9.0, 500);
    runs.processes[0].ended = None;
    assert_eq!(diff(&runs, &whole(1.0, 500)).summary.changed, 1);
}

#[test]
fn lifetimes_are_compared_by_rank() {
    let lives = |each_ns: u64| {
        let mut durations = Durations::default();
        (0..100).for_each(|at| durations.record(each_ns + at * 1_000_000));
        let [min_ns, max_ns, mean_ns] =
            [durations.min_ns(), durations.max_ns(), durations.mean_ns()].map(Option::unwrap);
        let hdr = Hdr::from(durations.clone());
        let lifetime = Some(Lifetime { count: 100, min_ns, max_ns, mean_ns, hdr, ..Lifetime::default() });
        vec![Site { lifetime, ..site("f", Some(1), 1, 100, 0, Level::Healthy) }]
    };
    assert_eq!(of_sites(lives(S), lives(S)).summary.same, 1);
    let longer = of_sites(lives(S), lives(2 * S));
    assert_eq!(changes(&longer), [("f", Change::Changed, false)]);
    assert_eq!(longer.sites[0].differences[0].measure, Measure::Lifetime);
    assert_eq!(of_sites(lives(2 * S), lives(S)).summary.changed, 1);
    assert_eq!(of_sites(lives(S), lives(S + S / 4)).summary.same, 1, "longer, but not by much");
    assert_eq!(of_sites(lives(1_000), lives(9_000_000)).summary.same, 1, "a busy machine does that");
}

#[test]
fn what_the_files_do_not_show_is_counted() {
    let mut old = report(10, Vec::new());
    old.summary.sites = 7;
    let other = Site { other: true, ..site("other", None, 0, 9, 9, Level::Unknown) };
    let new = report(10, vec![process("api", vec![other, site("f", Some(1), 1, 9, 0, Level::Healthy)])]);
    let found = diff(&old, &new);
    assert_eq!((found.old.hidden, found.new.hidden, found.new.unnamed), (7, 0, 1));
    assert_eq!(changes(&found), [("f", Change::New, false)]);
}

#[test]
fn programs_of_one_module_are_told_apart() {
    use Level::Healthy;
    let main = |live| vec![site("main.main", Some(1), 1, live, live, Healthy)];
    let two = |a, b| report(10, vec![process("a", main(a)), process("b", main(b))]);
    let found = diff(&two(100, 10), &two(100, 500));
    assert_eq!(changes(&found), [("main.main", Change::Worse, true)]);
    assert_eq!(found.sites[0].program.as_deref(), Some("x.io/api (b)"));
    // One that is called another name is the same.
    let named = |name| report(10, vec![process(name, main(100))]);
    assert_eq!(diff(&named("api-1"), &named("api-2 (deleted)")).summary.same, 1);
    // Where the program was not there, nothing is known of how many there were.
    let found = diff(&report(10, Vec::new()), &named("api"));
    assert_eq!((found.sites[0].change, found.sites[0].differences.len(), found.tests), (Change::New, 0, 0));
    // Sweeps do not see all creations.
    let scanned = |created| {
        let sites = vec![Site { created_per_s: None, ..site("f", Some(1), 1, created, 5, Healthy) }];
        report(10, vec![Process { mode: Mode::Scanned, ..process("api", sites) }])
    };
    assert_eq!(diff(&scanned(1), &scanned(1_000)).summary.same, 1);
}
