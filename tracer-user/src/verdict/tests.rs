//! Tests verdicts on series, lifetimes and waits that are made by hand.

mod at_end;

use super::*;
use crate::stats::Eldest;
use crate::verdict::cause::{Code, Patterns, Start};

const S: u64 = 1_000_000_000;

/// A site observed for 30 s with a sample each second.
struct Case {
    created: u64,
    exited: u64,
    counts: Vec<u64>,
    first_s: u64,
    last_s: u64,
    unattributed: u64,
    lifetimes: Durations,
    mean_lifetimes: Vec<(u64, u64)>,
    outlived: Durations,
    creators_end: bool,
    ages_ms: Vec<u64>,
    waits: Vec<Wait>,
    ended: bool,
    /// So many were there before the window.
    from_before: u64,
}

impl Case {
    fn new(created: u64, exited: u64, counts: impl IntoIterator<Item = u64>) -> Case {
        let (lifetimes, outlived) = (Durations::default(), Durations::default());
        Case {
            created,
            exited,
            counts: counts.into_iter().collect(),
            first_s: 0,
            last_s: 30,
            unattributed: 0,
            lifetimes,
            mean_lifetimes: Vec::new(),
            outlived,
            creators_end: false,
            // Those that did not end were created one after the other.
            ages_ms: (0..created.saturating_sub(exited)).map(|at| at % 31 * 1_000).collect(),
            waits: Vec::new(),
            ended: false,
            from_before: 0,
        }
    }

    /// The process ended at the end of the window.
    fn at_end(mut self) -> Case {
        self.ended = true;
        self
    }

    fn lifetimes(mut self, n: u64, ns: u64) -> Case {
        self.lifetimes.record_n(ns, n);
        self
    }

    fn ages(mut self, ages_s: impl IntoIterator<Item = u64>) -> Case {
        self.ages_ms = ages_s.into_iter().map(|age| age * 1_000).collect();
        self
    }

    /// So many of those from before end in each second.
    fn of_before_end(mut self, each: u64) -> Case {
        (1..self.counts.len() as u64).for_each(|s| self.outlived.record_n(s * S, each));
        self
    }

    fn created_between(mut self, first_s: u64, last_s: u64) -> Case {
        (self.first_s, self.last_s) = (first_s, last_s);
        self
    }

    fn judge(self) -> Verdict {
        let points: Vec<_> = self.counts.iter().enumerate().map(|(s, &n)| (s as u64 * S, n)).collect();
        let now_ns = points.last().map_or(0, |last| last.0);
        let mut ages: Vec<_> = self.ages_ms.iter().map(|&age| (age * S / 1_000, 1)).collect();
        ages.sort_unstable();
        let eldest = ages.last().map(|&(age_ns, _)| Eldest { age_ns, at_least: false });
        let at_least = (self.from_before > 0).then_some((now_ns, self.from_before)).into_iter().collect();
        let survival = Survival::estimate(self.lifetimes.bins(), ages.iter().copied(), []);
        judge(&Facts {
            now_ns,
            ended: self.ended,
            standing: Standing {
                window_ns: now_ns,
                live: *self.counts.last().unwrap(),
                waits: &self.waits,
                start: Start::default(),
                code: Code { module: None, patterns: &Patterns::default(), methods: &[] },
            },
            created: self.created,
            exited: self.exited,
            peak: *self.counts.iter().max().unwrap(),
            untracked: 0,
            overflow: false,
            first_created_ns: (self.created > 0).then_some(self.first_s * S),
            last_created_ns: (self.created > 0).then_some(self.last_s * S),
            unattributed_exits: self.unattributed,
            trend: Trend::of(&points),
            mean_lifetimes: &self.mean_lifetimes,
            creators_end: self.creators_end,
            outlived: Some(&self.outlived),
            entered: 0,
            at_begin: self.counts[0],
            lifetimes: &self.lifetimes,
            survival: &survival,
            living: &Ages { exact: ages, at_least, eldest },
            left_behind: None,
        })
    }
}

fn said(verdict: &Verdict) -> String {
    verdict.evidence.iter().map(|evidence| evidence.text.as_str()).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_leak_that_never_ends_is_suspect() {
    let verdict = Case::new(210, 0, (0..31).map(|s| s * 7)).ages(0..30).judge();
    assert_eq!(verdict.level, Level::Suspect);
    assert_eq!(
        said(&verdict),
        "live grew by 210 in 30 s: rose in every sample; none of the 210 created in 30 s has ended"
    );
}

#[test]
fn a_leak_of_some_is_suspect() {
    let verdict =
        Case::new(3_000, 2_900, (0..31).map(|s| 10 + s * 3)).lifetimes(2_900, S / 10).ages(0..30).judge();
    assert_eq!(verdict.level, Level::Suspect);
    assert!(
        said(&verdict).contains("29 of 100 are older than p99.9 of the finished ones (100 ms)"),
        "{}",
        said(&verdict)
    );
}

#[test]
fn rising_load_is_watched() {
    let verdict =
        Case::new(3_000, 2_900, (0..31).map(|s| 10 + s * 3)).lifetimes(2_900, 2 * S).ages([0; 100]).judge();
    assert_eq!(verdict.level, Level::Watch);
    assert!(said(&verdict).contains("rising load looks the same"), "{}", said(&verdict));
}

#[test]
fn growth_that_unseen_exits_may_explain_is_watched() {
    let case = Case { unattributed: 200, ..Case::new(210, 0, (0..31).map(|s| s * 7)) };
    assert_eq!(case.judge().level, Level::Watch);
}

#[test]
fn a_slow_leak_under_noise_shows_by_age() {
    let noise = (0..31).map(|s| 500 + (s * 7919) % 97);
    let verdict =
        Case::new(30_000, 29_400, noise).lifetimes(29_400, S / 20).ages((0..30).flat_map(|s| [s; 4])).judge();
    assert_eq!(verdict.level, Level::Suspect, "{}", said(&verdict));
}

#[test]
fn long_lived_by_design_is_healthy() {
    assert_eq!(Case::new(0, 0, [4; 31]).judge().level, Level::Healthy);
    let verdict = Case::new(4, 0, (0..31).map(|s| if s == 0 { 0 } else { 4 }))
        .created_between(0, 0)
        .ages([30; 4])
        .judge();
    assert_eq!(verdict.level, Level::Healthy, "{}", said(&verdict));
}

#[test]
fn a_burst_that_recedes_is_healthy() {
    let counts = (0..31).map(|s| if (5..9).contains(&s) { 5_000 } else { 3 });
    let verdict = Case::new(6_000, 5_997, counts).lifetimes(5_997, S).ages([1; 3]).judge();
    assert_eq!(
        (verdict.level, said(&verdict)),
        (Level::Healthy, "live rose to 5,000 and fell back to 3".into())
    );
}

#[test]
fn a_site_whose_goroutines_all_ended_is_healthy() {
    let verdict = Case::new(900, 900, [0, 2, 0]).judge();
    assert_eq!((verdict.level, said(&verdict)), (Level::Healthy, "all 900 ended".into()));
}

#[test]
fn a_short_window_does_not_tell() {
    let verdict = Case::new(9, 0, [0, 3, 6, 9]).judge();
    assert_eq!((verdict.level, verdict.needs_ns), (Level::Unknown, Some(30 * S)));
}

#[test]
fn a_burst_at_the_end_does_not_tell() {
    let counts = (0..31).map(|s| if s < 28 { 0 } else { 5_000 });
    let verdict = Case::new(5_000, 0, counts).created_between(28, 28).ages([2; 5_000]).judge();
    assert_eq!((verdict.level, verdict.needs_ns), (Level::Unknown, Some(120 * S)), "{}", said(&verdict));
}

#[test]
fn a_stable_pool_is_healthy_though_it_turns_over() {
    let counts = (0..31).map(|s| 100 + (s * 7919) % 7);
    assert_eq!(
        Case::new(400, 398, counts).lifetimes(398, 8 * S).ages((0..100).map(|i| i % 8)).judge().level,
        Level::Healthy
    );
}

fn stuck(reason: &'static str, count: u64) -> Wait {
    let frame =
        crate::report::Frame { function: "main.f".into(), file: Some("/src/f.go".into()), line: Some(9) };
    Wait { reason, count, frames: vec![frame], ..Wait::default() }
}

#[test]
fn a_wait_that_nothing_can_end_is_proven() {
    let case = Case { waits: vec![stuck("chan receive (nil chan)", 4)], ..Case::new(0, 0, [4; 31]) };
    let verdict = case.judge();
    assert_eq!(verdict.level, Level::Proven);
    assert_eq!(said(&verdict), "all 4 receive from a nil channel: nothing can end that");
    assert_eq!(verdict.cause, Some(Cause::NilChan));
    assert_eq!(
        verdict.advice.as_deref(),
        Some("the channel used at f.go:9 is nil: make it before the goroutine starts")
    );
    let nil_cases = Wait { on_nothing: true, ..stuck("select", 2) };
    assert_eq!(Case { waits: vec![nil_cases], ..Case::new(0, 0, [2; 31]) }.judge().level, Level::Proven);
    let collected = Wait { leaked: true, ..stuck("chan send", 1) };
    assert_eq!(Case { waits: vec![collected], ..Case::new(0, 0, [1; 31]) }.judge().level, Level::Proven);
}

#[test]
fn who_comes_just_before_the_end_has_not_seen_how_it_came_to_that() {
    let left_after = |seconds: usize| {
        let waits = vec![stuck("chan receive", 9)];
        Case { waits, from_before: 9, ..Case::new(0, 0, vec![9; seconds + 1]) }.at_end().judge()
    };
    let verdict = left_after(0);
    assert_eq!(verdict.level, Level::Unknown);
    assert_eq!(
        said(&verdict),
        "9 lived when the process ended, 0 ns after golife came; since when is not known"
    );
    assert_eq!(left_after(30).level, Level::Healthy);
}

#[test]
fn one_that_blocks_for_ever_may_be_meant_to() {
    let case = Case { waits: vec![stuck("select (no cases)", 1)], ..Case::new(0, 0, [1; 31]) };
    assert_eq!(case.judge().level, Level::Watch);
    let mut main = stuck("select (no cases)", 1);
    main.frames.push(crate::report::Frame { function: "runtime.main".into(), file: None, line: None });
    assert_eq!(Case { waits: vec![main], ..Case::new(0, 0, [1; 31]) }.judge().level, Level::Healthy);
}

#[test]
fn goroutines_that_have_not_moved_support_a_suspicion_only() {
    let unmoved = Wait { unmoved: Some(40), ..stuck("chan receive", 40) };
    let healthy = Case { waits: vec![unmoved.clone()], ..Case::new(0, 0, [40; 31]) };
    assert_eq!(healthy.judge().level, Level::Healthy);
    let case = Case { waits: vec![unmoved], ..Case::new(210, 0, (0..31).map(|s| 40 + s * 7)) };
    let verdict = case.judge();
    assert_eq!((verdict.level, verdict.cause), (Level::Suspect, Some(Cause::ChanReceive)));
    assert!(
        said(&verdict).ends_with("40 of 250 have been blocked at the same place for 30 s or more"),
        "{}",
        said(&verdict)
    );
}

#[test]
fn who_wants_to_send_or_a_lock_has_work() {
    let stands = |reason, unmoved_ns| {
        let wait = Wait { unmoved: Some(40), unmoved_ns: Some(unmoved_ns), ..stuck(reason, 40) };
        Case { waits: vec![wait], ..Case::new(0, 0, [40; 31]) }.judge()
    };
    let verdict = stands("chan send", 20 * S);
    assert_eq!((verdict.level, verdict.cause), (Level::Watch, Some(Cause::ChanSend)));
    assert_eq!(
        said(&verdict),
        "40 want to send and cannot: they have work, unlike workers that wait for it; \
         40 of 40 have been blocked at the same place for 20 s or more"
    );
    assert_eq!(stands("sync.Mutex.Lock", 20 * S).level, Level::Watch);
    // Goroutines that are only slow are not stuck, and neither are workers that wait for work.
    assert_eq!(stands("chan send", 10 * S).level, Level::Healthy);
    assert_eq!(stands("chan receive", 20 * S).level, Level::Healthy);
    assert_eq!(stands("sync.WaitGroup.Wait", 20 * S).level, Level::Healthy);
}

#[test]
fn whether_a_queue_moves_takes_a_while_to_tell() {
    let stands = |reason| {
        let wait = Wait { unmoved: Some(40), unmoved_ns: Some(5 * S), ..stuck(reason, 40) };
        Case { waits: vec![wait], ..Case::new(0, 0, [40; 11]) }.judge()
    };
    let verdict = stands("chan send");
    assert_eq!((verdict.level, verdict.needs_ns), (Level::Unknown, Some(30 * S)));
    assert_eq!(said(&verdict), "40 want to send and have not moved; in 10 s that may be slow or stuck");
    assert_eq!(stands("chan receive").level, Level::Healthy);
}

#[test]
fn a_slow_ramp_that_has_levelled_off_is_not_suspect() {
    let verdict = Case::new(105, 0, (0..21).map(|s| (s * 7).min(105)))
        .created_between(0, 15)
        .ages((5..20).flat_map(|s| [s; 7]))
        .judge();
    assert!(verdict.level < Level::Suspect, "{}", said(&verdict));
}

#[test]
fn goroutines_that_are_just_about_to_end_are_not_old() {
    let counts = (0..31).map(|s| if s % 5 == 0 { 300 } else { 0 });
    let verdict = Case::new(1_800, 1_500, counts).lifetimes(1_500, 2 * S).ages([2; 300]).judge();
    assert!(verdict.level <= Level::Healthy, "{}", said(&verdict));
}

#[test]
fn connections_in_use_may_become_more() {
    let growing = |reason, idle| {
        let waits = vec![Wait { reason, count: 250, seen_before: 200, idle, ..Wait::default() }];
        Case { waits, ..Case::new(210, 0, (0..31).map(|s| 40 + s * 7)) }.judge()
    };
    let verdict = growing("IO wait", 3);
    assert_eq!((verdict.level, verdict.cause), (Level::Watch, Some(Cause::Io)));
    assert!(
        said(&verdict).contains("of 200 that were there at an earlier look, 197 have run since"),
        "{}",
        said(&verdict)
    );
    // Forgotten connections are idle, and so suspect. A goroutine that sleeps in a loop runs as well, but serves no
    // connection.
    assert_eq!(growing("IO wait", 150).level, Level::Suspect);
    assert_eq!(growing("sleep", 0).level, Level::Suspect);
}

#[test]
fn thousands_of_before_hide_no_leak() {
    // Ten a second more, on top of a hundred thousand that stand.
    let verdict = Case::new(300, 0, (0..31).map(|s| 100_000 + 10 * s)).judge();
    assert_eq!(verdict.level, Level::Suspect, "{}", said(&verdict));
    // Three a second that stay, where some that stood before end.
    let case = Case::new(90, 15, (0..31).map(|s| 100_000 + s * 5 / 2)).ages((0..30).flat_map(|s| [s; 3]));
    let mut case = case;
    (1..16).for_each(|s| case.outlived.record(2 * s * S));
    let verdict = case.judge();
    assert_eq!(verdict.level, Level::Suspect, "{}", said(&verdict));
}

#[test]
fn a_short_window_tells_what_stands_and_grows() {
    // One is created each tenth of a second, on top of 4,000, of which some end.
    let grows = |ended| {
        let mut case = Case::new(50, ended, (0..6).map(|s| 4_000 + 10 * s)).created_between(0, 5);
        case.ages_ms = (0..50).map(|at| at * 100).collect();
        case.outlived.record_n(S, ended);
        case.judge()
    };
    let verdict = grows(0);
    assert_eq!(verdict.level, Level::Suspect, "{}", said(&verdict));
    assert!(said(&verdict).contains("none of those of before ended"), "{}", said(&verdict));
    assert_eq!(grows(3_000).level, Level::Unknown, "where most of those of before end");
}

#[test]
fn as_many_ends_as_stay_are_healthy() {
    let steady = Case::new(90, 90, (0..31).map(|s| 100_000 + s % 2)).ages((0..30).flat_map(|s| [s; 3]));
    let verdict = steady.of_before_end(3).judge();
    assert_eq!(verdict.level, Level::Healthy, "{}", said(&verdict));
}

#[test]
fn a_queue_that_gets_longer_does_not_excuse_itself() {
    let queue = |slower: u64| {
        let case = Case::new(300, 200, (0..31).map(|s| s * 10 / 3)).lifetimes(200, 9 * S);
        let mut case = case.ages((0..10).flat_map(|s| [s; 10]));
        case.mean_lifetimes = (1..31).map(|s| (s * S, 2 * S + s * slower)).collect();
        case.judge()
    };
    let verdict = queue(300_000_000);
    assert_eq!(verdict.level, Level::Suspect, "{}", said(&verdict));
    assert!(said(&verdict).contains("those that end have lived ever longer"), "{}", said(&verdict));
    assert!(queue(0).level < Level::Suspect);
}

#[test]
fn a_heartbeat_excuses_no_connection_that_requests_leave_behind() {
    let left = |creators_end| {
        let waits =
            vec![Wait { reason: "IO wait", count: 250, seen_before: 200, idle: 3, ..Wait::default() }];
        Case { waits, creators_end, ..Case::new(210, 0, (0..31).map(|s| 40 + s * 7)) }.judge()
    };
    assert_eq!(left(false).level, Level::Watch);
    let verdict = left(true);
    assert_eq!((verdict.level, verdict.cause), (Level::Suspect, Some(Cause::Io)));
    assert!(said(&verdict).contains("197 have run since"), "{}", said(&verdict));
}

#[test]
fn a_few_that_stay_are_no_good_news() {
    let stay = |ages: &[u64], seen_before, idle| {
        let counts = (0..31).map(|s| 1 + s % 2);
        let waits = vec![Wait { reason: "IO wait", count: 1, seen_before, idle, ..Wait::default() }];
        let case = Case::new(302, 300, counts).lifetimes(300, S / 10).ages(ages.iter().copied());
        Case { waits, ..case }.judge()
    };
    let verdict = stay(&[9, 20], 0, 0);
    assert_eq!((verdict.level, verdict.needs_ns), (Level::Unknown, Some(120 * S)), "{}", said(&verdict));
    assert!(said(&verdict).starts_with("2 stay that are twice as old"), "{}", said(&verdict));
    let single = stay(&[0, 20], 1, 1);
    assert!(said(&single).starts_with("1 stays that is twice as old"), "{}", said(&single));
    assert_eq!(stay(&[0, 20], 1, 0).level, Level::Healthy, "a single one that has run meanwhile is in use");
}

#[test]
fn lives_as_long_as_the_window_can_hide_a_leak() {
    // Of 10 a second half live on, and as many of those of before end.
    let turnover = |least: u64, most: u64| {
        let case = Case::new(300, 150, (0..31).map(|s| if s % 2 == 0 { least } else { most }));
        case.ages((0..30).flat_map(|s| [s; 5])).of_before_end(5).judge()
    };
    let verdict = turnover(100, 120);
    assert_eq!(verdict.level, Level::Unknown, "{}", said(&verdict));
    assert!(said(&verdict).contains("lives are too long for this window"), "{}", said(&verdict));
    assert_eq!(turnover(100, 104).level, Level::Healthy, "where their number stays the same, none can");
}

#[test]
fn lives_of_which_the_window_saw_only_the_shorter_ones_are_no_yardstick() {
    let old = |lived_s: u64| {
        let case = Case::new(400, 300, (0..31).map(|s| 100 + s % 2)).lifetimes(300, lived_s * S);
        case.ages((0..20).map(|s| 29 - s % 5)).of_before_end(4).judge().level
    };
    assert_eq!((old(10), old(20)), (Level::Watch, Level::Healthy));
}

#[test]
fn a_queue_that_gets_longer_is_no_rising_load() {
    let queue = |served, came| {
        let served = Some(Served { span_ns: 10 * S, served, came, still: 20 });
        let channel = waits::WaitedChannel { sends: true, served, ..waits::WaitedChannel::default() };
        let waits = vec![Wait { reason: "chan send", count: 90, channels: vec![channel], ..Wait::default() }];
        // Those that end are as old as any, so that all are young for their kind.
        let case = Case::new(300, 200, (0..31).map(|s| s * 10 / 3)).lifetimes(200, 9 * S);
        Case { waits, ..case.ages((0..10).flat_map(|s| [s; 10])) }.judge()
    };
    assert!(queue(40, 50).level < Level::Suspect, "{}", said(&queue(40, 50)));
    assert!(
        queue(0, 0).level < Level::Suspect,
        "nobody is served, so it is no queue: {}",
        said(&queue(0, 0))
    );
    let verdict = queue(10, 50);
    assert_eq!(verdict.level, Level::Suspect, "{}", said(&verdict));
    assert!(said(&verdict).contains("more come than are served"), "{}", said(&verdict));
}
