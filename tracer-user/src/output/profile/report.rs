//! Makes the profile of a report: the living goroutines at the stacks they are blocked in, and what happened at each
//! `go` statement.

use std::time::Duration;

use super::{Kind, ProcessName, Profile, Sample, UNKNOWN};
use crate::assemble::repeats::{Part, Repeats};
use crate::human::{clean, count, duration};
use crate::output::names::located;
use crate::report::{Frame, Level, Mode, Process, Report, Site, Waiting};

/// The sample types, in the order of [`values`].
const KINDS: [Kind; 6] = [
    Kind { name: "goroutines", unit: "count", about: "living goroutines, by the stack they are blocked in" },
    Kind {
        name: "suspects",
        unit: "count",
        about: "those of sites that are suspect or proven to leak, not ignored and not known",
    },
    Kind { name: "live_by_creation", unit: "count", about: "living goroutines, by the go statement" },
    Kind { name: "created", unit: "count", about: "goroutines created in the window, by the go statement" },
    Kind { name: "exited", unit: "count", about: "goroutines that ended in the window, by the go statement" },
    // In nanoseconds, the sum over some 107,000 goroutines that each lived a day would overflow a signed 64-bit number.
    Kind {
        name: "lifetime",
        unit: "microseconds",
        about: "time that goroutines lived, of those whose creation and end were seen, by the go statement",
    },
];

/// Most processes that are named because they were not traced.
const MOST_NAMED: usize = 20;

/// The numbers of what happened at a `go` statement.
#[derive(Clone, Copy, Debug, Default)]
struct Creations {
    live: u64,
    created: u64,
    exited: u64,
    lifetime_us: u64,
}

impl Profile {
    /// Makes a profile of one report, or of several saved ones, whose numbers are added. What reports of one process
    /// have in common counts once: see [`Repeats`].
    pub fn of_reports(reports: &[Report]) -> Profile {
        let mut profile = Profile { kinds: KINDS.into(), ..Profile::default() };
        let mut happened = Vec::new();
        if reports.len() > 1 {
            profile.gaps.push(format!(
                "sum of {} reports: who lives is from the newest report of each process",
                reports.len()
            ));
        }
        let repeats = Repeats::of(reports);
        for (number, report) in reports.iter().enumerate() {
            profile.tool = format!("golife {}", report.tool.version);
            let start = humantime::parse_rfc3339(&report.window.start).ok();
            profile.start = [profile.start, start].into_iter().flatten().min();
            if covers_time(report) {
                let duration = Duration::from_nanos(report.window.duration_ns);
                profile.duration = profile.duration.saturating_add(duration);
            }
            gaps(report, &mut profile.gaps);
            for process in &report.processes {
                let part = repeats.part(number, process);
                if part == Part::Nothing {
                    continue;
                }
                let at = profile.processes.len();
                profile.processes.push(ProcessName::of(process));
                for site in &process.sites {
                    let live = if part == Part::Whole { site.live } else { 0 };
                    blocked(at, site, live, &mut profile.samples);
                    creations(at, site, live, &mut happened);
                }
            }
        }
        // The samples of creations come last, so that the zeros are in one place if a tool lists all samples of one
        // type.
        profile.samples.append(&mut happened);
        profile
    }
}

/// Whether a report tells what happened in its window. A sweep that has looked once shows one moment, and its window is
/// only how long it took to look.
fn covers_time(report: &Report) -> bool {
    let waiting = |process: &Process| -> bool {
        let mut waiting = process.sites.iter().flat_map(|site| site.waiting.iter().flatten());
        waiting.any(|waiting| waiting.unmoved.is_some())
    };
    report.processes.iter().any(|process| match process.mode {
        Mode::Traced | Mode::Gone => true,
        Mode::Scanned => waiting(process),
        Mode::Unsupported => false,
    })
}

/// Adds to `gaps` what is missing in a report.
fn gaps(report: &Report, gaps: &mut Vec<String>) {
    let sites = || report.processes.iter().flat_map(|process| &process.sites);
    let (shown, all) = (sites().count() as u64, report.summary.sites);
    if shown < all {
        let live = sites().fold(0u64, |sum, site| sum.saturating_add(site.live));
        let (shown, all, live) = (count(shown), count(all), count(live));
        gaps.push(format!(
            "{shown} of {all} sites, {live} of {} living goroutines",
            count(report.summary.live)
        ));
    }
    let loss = &report.loss;
    let lost = [
        (loss.dropped, "records lost, so that created and exited are too low"),
        (loss.read_faults, "creations and ends that could not be read"),
        (loss.unmatched_exits, "ends of goroutines whose creation was missed"),
        (loss.untracked, "goroutines counted but not followed, for want of memory"),
        (loss.forgotten_processes, "ended processes left out, for want of room"),
        (loss.unattributed_exits, "ends of goroutines from before golife that no look had found"),
        (loss.undecodable, "records that could not be read: golife and its probes are not of the same build"),
        (loss.late, "records of processes that had already ended"),
    ];
    gaps.extend(lost.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what}: {}", count(*n))));
    let untraced = report.processes.iter().filter(|process| process.mode == Mode::Unsupported);
    gaps.extend(untraced.take(MOST_NAMED).map(|process| {
        let why = process.detail.as_deref().unwrap_or("cannot be traced");
        format!("nothing of process {}: {}", process.pid, clean(why))
    }));
    gaps.extend(report.processes.iter().filter_map(cut_short));
}

fn cut_short(process: &Process) -> Option<String> {
    let scan = process.scan.filter(|scan| scan.cut_short)?;
    let (found, took) = (count(scan.found), duration(scan.took_ns));
    let pid = process.pid;
    Some(format!("process {pid}: {found} goroutines were looked at in {took}, and there are more"))
}

/// Adds samples for the living goroutines of a site at the stacks that they are in.
fn blocked(process: usize, site: &Site, live: u64, samples: &mut Vec<Sample>) {
    let mut add = |stack: Vec<Frame>, reason: &str, live: u64| {
        if live > 0 {
            let suspects = if site.verdict.level >= Level::Suspect && !site.is_silenced() { live } else { 0 };
            let values = values(live, suspects, Creations::default());
            samples.push(Sample { reason: Some(clean(reason)), ..sample(process, site, stack, values) });
        }
    };
    // Some goroutines may have ended since they were looked at. Which ones is not known, so the smallest groups are
    // made smaller.
    let mut rest = live;
    for waiting in site.waiting.iter().flatten() {
        let here = waiting.count.min(rest);
        rest -= here;
        let mut left = here;
        for stack in &waiting.stacks {
            let these = stack.count.min(left);
            left -= these;
            add(to_entry(&stack.at, &site.entry), &waiting.reason, these);
        }
        let stack = if waiting.stacks.is_empty() {
            to_entry(&waiting.at, &site.entry)
        } else {
            // The report had no room for these stacks. Only the innermost frame and the entry function are known.
            let line = waiting.at.first().cloned();
            line.into_iter().chain([left_out(), site.entry.clone()]).collect()
        };
        add(stack, &waiting.reason, left);
    }
    // Nobody knows where the remaining goroutines are, but all are within their entry function.
    add(vec![site.entry.clone()], UNKNOWN, rest);
}

/// A frame that stands for those that a report does not have.
fn left_out() -> Frame {
    Frame { function: "(frames left out)".into(), file: None, line: None }
}

/// A stack that has the function that the goroutine runs, which is added if it is missing. Wrappers that the compiler
/// makes around this function may be further out.
fn to_entry(at: &[Frame], entry: &Frame) -> Vec<Frame> {
    let mut stack = at.to_vec();
    // The function that the compiler makes for a `go` statement is shown as that statement.
    let is_entry = |frame: &Frame| {
        let made = entry.function.strip_prefix(&frame.function);
        made.is_some_and(|rest| rest.is_empty() || rest.starts_with(".gowrap"))
    };
    if !stack.iter().any(is_entry) {
        // The report cuts stacks at this length, so there may have been more frames.
        if stack.len() >= Waiting::MOST_FRAMES {
            stack.push(left_out());
        }
        stack.push(entry.clone());
    }
    stack
}

/// Adds samples for what happened at the `go` statement of a site, one for each of the creators' stacks if they are
/// known.
fn creations(process: usize, site: &Site, live: u64, samples: &mut Vec<Sample>) {
    let mut add = |stack: &[Frame], creations: Creations| {
        let values = values(0, 0, creations);
        if values.iter().any(|value| *value > 0) {
            let stack = if stack.is_empty() { vec![site.site.clone()] } else { stack.to_vec() };
            samples.push(sample(process, site, stack, values));
        }
    };
    let lived_ns = site
        .lifetime
        .as_ref()
        .map_or(0, |lifetime| u128::from(lifetime.count) * u128::from(lifetime.mean_ns));
    let mut rest = Creations {
        live,
        created: site.created,
        exited: site.exited,
        lifetime_us: u64::try_from(lived_ns / 1000).unwrap_or(u64::MAX),
    };
    for known in site.creation_stacks.iter().flatten() {
        let here = Creations {
            live: known.live.min(rest.live),
            created: known.created.min(rest.created),
            ..Creations::default()
        };
        rest.live -= here.live;
        rest.created -= here.created;
        add(&known.frames, here);
    }
    add(&[], rest);
}

fn sample(process: usize, site: &Site, stack: Vec<Frame>, values: Vec<u64>) -> Sample {
    let mut labels = vec![("site".to_owned(), located(&site.site))];
    labels.extend(site.verdict.cause.map(|cause| ("cause".to_owned(), cause.name().to_owned())));
    labels.extend(site.silenced().map(|why| (why.to_owned(), "true".to_owned())));
    Sample {
        process,
        stack,
        values,
        reason: None,
        level: Some(site.verdict.level),
        silenced: site.is_silenced(),
        labels,
    }
}

fn values(live: u64, suspects: u64, creations: Creations) -> Vec<u64> {
    let Creations { live: live_by_creation, created, exited, lifetime_us } = creations;
    [live, suspects, live_by_creation, created, exited, lifetime_us].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::profile::testing::frame;
    use crate::report::{CreationStack, Lifetime, Loss, Summary, WaitingStack};
    use proptest::prelude::*;

    fn site() -> Site {
        Site { site: frame("main.main", 9), entry: frame("main.main.func1", 10), ..Site::default() }
    }

    fn waiting(reason: &str, count: u64, at: Vec<Frame>) -> Waiting {
        Waiting { reason: reason.into(), count, at, ..Waiting::default() }
    }

    fn profile(sites: Vec<Site>) -> Profile {
        let process = Process { pid: 7, exe: Some("/srv/api".into()), sites, ..Process::default() };
        Profile::of_reports(&[report(vec![process])])
    }

    fn report(processes: Vec<Process>) -> Report {
        let text = r#"{"schema": "golife.report/1", "tool": {"version": "0", "host": null, "kernel": null, "arch": ""},
            "window": {"start": "2026-01-02T03:04:05.000Z", "end": "2026-01-02T03:04:06.000Z", "duration_ns": 1000000000},
            "loss": {"dropped": 0, "unmatched_exits": 0, "read_faults": 0, "reconciled": 0},
            "overhead": {"probe_hits": null, "target_ns_per_hit": null, "target_cpu_ns": null, "golife_cpu_ns": null},
            "processes": []}"#;
        let mut report: Report = serde_json::from_str(text).unwrap();
        report.processes = processes;
        report
    }

    /// For each sample with a number of this type: its outermost function, wait reason and that number.
    fn numbers(profile: &Profile, kind: usize) -> Vec<(&str, Option<&str>, u64)> {
        let some = profile.samples.iter().filter(|sample| sample.values[kind] > 0);
        some.map(|sample| {
            let outermost = sample.stack.last().unwrap();
            (outermost.function.as_str(), sample.reason.as_deref(), sample.values[kind])
        })
        .collect()
    }

    #[test]
    fn the_living_are_where_they_wait_and_none_is_lost_or_invented() {
        let at = || vec![frame("main.wait", 3), frame("main.main.func1", 11)];
        let of = |live, waiting| numbers(&profile(vec![Site { live, waiting, ..site() }]), 0).len();
        assert_eq!((of(0, None), of(5, None), of(5, Some(vec![]))), (0, 1, 1));
        let groups = vec![waiting("select", 3, at()), waiting("running", 2, vec![])];
        for (live, want) in [
            (
                7,
                vec![
                    ("main.main.func1", Some("select"), 3),
                    ("main.main.func1", Some("running"), 2),
                    ("main.main.func1", Some("unknown"), 2),
                ],
            ),
            (4, vec![("main.main.func1", Some("select"), 3), ("main.main.func1", Some("running"), 1)]),
            (2, vec![("main.main.func1", Some("select"), 2)]),
        ] {
            let profile = profile(vec![Site { live, waiting: Some(groups.clone()), ..site() }]);
            assert_eq!(numbers(&profile, 0), want);
            assert_eq!((profile.total(0), profile.total(2)), (live, live));
        }
    }

    #[test]
    fn stacks_that_end_in_the_same_line_are_told_apart_and_the_rest_is_counted() {
        let by = |caller: &str| vec![frame("main.wait", 3), frame(caller, 5), frame("main.main.func1", 11)];
        let stack = |count, caller| WaitingStack { count, at: by(caller) };
        let stacks = vec![stack(50, "main.a"), stack(30, "main.b")];
        let group = Waiting { stacks, ..waiting("select", 100, by("main.a")) };
        for (live, want) in [
            (100, vec![("main.a", 50), ("main.b", 30), ("(frames left out)", 20)]),
            (60, vec![("main.a", 50), ("main.b", 10)]),
        ] {
            let profile = profile(vec![Site { live, waiting: Some(vec![group.clone()]), ..site() }]);
            let living = profile.samples.iter().filter(|sample| sample.values[0] > 0);
            let got: Vec<_> =
                living.map(|sample| (sample.stack[1].function.as_str(), sample.values[0])).collect();
            assert_eq!((got, profile.total(0)), (want, live));
        }
    }

    #[test]
    fn a_stack_ends_at_the_function_that_the_goroutine_runs() {
        let entry = frame("main.main.func1", 10);
        let names = |at: &[Frame]| -> Vec<String> {
            to_entry(at, &entry).into_iter().map(|frame| frame.function).collect()
        };
        assert_eq!(names(&[]), ["main.main.func1"]);
        assert_eq!(names(&[frame("a.F", 1)]), ["a.F", "main.main.func1"]);
        let wrapped = [frame("main.main.func1", 12), frame("main.main.gowrap1", 9)];
        assert_eq!(names(&wrapped), ["main.main.func1", "main.main.gowrap1"]);
        let deep = names(&vec![frame("a.F", 1); Waiting::MOST_FRAMES]);
        assert_eq!(deep[Waiting::MOST_FRAMES..], ["(frames left out)", "main.main.func1"]);
    }

    #[test]
    fn what_happened_is_at_the_go_statement_or_at_its_creators_stack() {
        let lifetime = Some(Lifetime { count: 4, mean_ns: 2_500, ..Lifetime::default() });
        let plain = Site { live: 3, created: 6, exited: 4, lifetime, ..site() };
        let profile_of = |site: &Site| profile(vec![site.clone()]);
        let known = profile_of(&plain);
        assert_eq!((1..6).map(|kind| known.total(kind)).collect::<Vec<_>>(), [0, 3, 6, 4, 10]);
        assert_eq!(numbers(&known, 3), [("main.main", None, 6)]);
        let stack = |function: &str, created, live| CreationStack {
            frames: vec![frame("main.main", 9), frame(function, 1)],
            created,
            live,
        };
        let stacks = vec![
            stack("main.a", 4, 2),
            stack("main.b", 1, 0),
            CreationStack { frames: vec![], created: 1, live: 0 },
        ];
        let known = profile_of(&Site { creation_stacks: Some(stacks), ..plain });
        assert_eq!(numbers(&known, 2), [("main.a", None, 2), ("main.main", None, 1)]);
        assert_eq!(numbers(&known, 3), [("main.a", None, 4), ("main.b", None, 1), ("main.main", None, 1)]);
        assert_eq!(numbers(&known, 4), [("main.main", None, 4)]);
        assert_eq!((1..6).map(|kind| known.total(kind)).collect::<Vec<_>>(), [0, 3, 6, 4, 10]);
    }

    #[test]
    fn suspects_are_those_of_suspect_sites() {
        let of = |level, live| {
            let verdict = crate::report::Verdict { level, ..Default::default() };
            Site { live, verdict, ..site() }
        };
        let known = profile(vec![
            of(Level::Proven, 1),
            of(Level::Suspect, 10),
            of(Level::Watch, 100),
            of(Level::Unknown, 1000),
        ]);
        assert_eq!((known.total(0), known.total(1)), (1111, 11));
        let ignored = profile(vec![Site { ignored: true, ..of(Level::Suspect, 10) }, of(Level::Proven, 1)]);
        assert_eq!((ignored.total(0), ignored.total(1)), (11, 1));
        let ignored = &ignored.samples[0];
        assert_eq!((ignored.level, ignored.silenced), (Some(Level::Suspect), true), "its verdict stands");
    }

    #[test]
    fn one_moment_has_no_duration() {
        let look = |mode, unmoved| {
            let waiting = Some(vec![Waiting { unmoved, ..waiting("select", 1, vec![]) }]);
            let sites = vec![Site { live: 1, waiting, ..site() }];
            Profile::of_reports(&[report(vec![Process { mode, sites, ..Process::default() }])]).duration
        };
        assert_eq!(look(Mode::Scanned, None), Duration::ZERO);
        assert_eq!(look(Mode::Scanned, Some(0)), Duration::from_secs(1));
        assert_eq!(look(Mode::Traced, None), Duration::from_secs(1));
    }

    /// Whatever judges a site, what is counted as suspect and what is drawn in red are the same goroutines.
    #[test]
    fn suspects_and_colours_follow_the_verdict() {
        let named = |level: Level, live| {
            let verdict = crate::report::Verdict { level, ..Default::default() };
            Site { live, verdict, entry: frame(&format!("main.{}", level.name()), 1), ..site() }
        };
        let each = Level::WORST_FIRST.into_iter().flat_map(|level| [(level, false), (level, true)]);
        for (level, ignored) in each {
            let profile = profile(vec![Site { ignored, ..named(level, 7) }, named(Level::Healthy, 5)]);
            let is_suspect = level >= Level::Suspect && !ignored;
            assert_eq!(profile.total(1), if is_suspect { 7 } else { 0 }, "{}", level.name());
            let mut svg = Vec::new();
            crate::output::flame::write(&profile, &mut svg).unwrap();
            let svg = String::from_utf8(svg).unwrap();
            let title = format!("main.{}", level.name());
            let drawn = svg.split("<g>").find(|drawn| drawn.contains(&format!("<title>{title} ")));
            let red =
                drawn.unwrap_or_else(|| panic!("no {title} in {svg}")).contains("fill=\"rgb(230,84,70)\"");
            assert_eq!(red, is_suspect, "{}", level.name());
        }
    }

    #[test]
    fn reports_are_added_and_what_they_lack_is_said() {
        let unsupported =
            Process { pid: 9, mode: Mode::Unsupported, detail: Some("too old".into()), ..Process::default() };
        let process = Process { pid: 7, sites: vec![Site { live: 2, ..site() }], ..Process::default() };
        let mut report = report(vec![process, unsupported]);
        let whole = Profile::of_reports(std::slice::from_ref(&report));
        assert_eq!(whole.gaps, ["nothing of process 9: too old"]);
        report.loss = Loss { dropped: 1_200, ..Loss::default() };
        report.summary = Summary { sites: 3, live: 12, ..Summary::default() };
        let mut other = report.clone();
        other.processes[0].pid = 8;
        let twice = Profile::of_reports(&[report, other]);
        assert_eq!((twice.total(0), twice.duration), (4, Duration::from_secs(2)));
        assert_eq!(twice.gaps.len(), 7, "{:?}", twice.gaps);
        assert!(twice.gaps[0].starts_with("sum of 2 reports"));
        assert_eq!(twice.gaps[1], "1 of 3 sites, 2 of 12 living goroutines");
        assert!(twice.gaps[2].starts_with("records lost") && twice.gaps[2].ends_with(": 1,200"));
    }

    proptest! {
        #[test]
        fn totals_are_the_reports(
            sites in proptest::collection::vec((0u64..50, 0u64..50, 0u64..50, proptest::option::of(proptest::collection::vec(0u64..30, 0..5)), proptest::option::of(proptest::collection::vec((0u64..30, 0u64..30), 0..5))), 0..6)
        ) {
            let sites: Vec<Site> = sites.into_iter().map(|(live, created, exited, groups, stacks)| Site {
                live, created, exited,
                waiting: groups.map(|groups| groups.into_iter().map(|count| waiting("select", count, vec![])).collect()),
                creation_stacks: stacks.map(|stacks| stacks.into_iter().map(|(created, live)| CreationStack { frames: vec![], created, live }).collect()),
                ..site()
            }).collect();
            let sum = |number: fn(&Site) -> u64| sites.iter().map(number).sum::<u64>();
            let want = [sum(|site| site.live), 0, sum(|site| site.live), sum(|site| site.created), sum(|site| site.exited), 0];
            let profile = profile(sites);
            prop_assert_eq!([0, 1, 2, 3, 4, 5].map(|kind| profile.total(kind)), want);
            prop_assert!(profile.samples.iter().all(|sample| !sample.stack.is_empty() && sample.values.len() == KINDS.len()));
        }
    }
}
