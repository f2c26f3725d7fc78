//! Makes a report from the goroutine table: addresses get names, and numbers are judged.
//!
//! What the table does not know, such as names and what a look has found, is handed in as plain values: one
//! [`Described`] for each process instance.

pub mod alike;
mod blame;
mod creation_stacks;
pub mod diff;
mod findings;
mod go_tests;
pub mod hist;
pub mod hosts;
pub mod merged;
pub mod repeats;

use std::collections::HashMap;
use std::sync::Arc;

use crate::go::standard::is_of_program;
use crate::report::{
    BootWindow, CountedFrame, CountedLabel, CreationStack, Frame, Goroutines, Hdr, Lifetime, Loss, Mode,
    Oldest, Process, Report, Run, Selection, Site, StartedBy, SurvivalPoint, Test, Verdict, Waiting,
};
use crate::stats::survival::Point;
use crate::stats::{Ages, Durations, Survival, Trend};
use crate::tracker::{
    Instance, InstanceId, LineageId, Origin, SiteCounts, SiteId, SiteWindow, StackId, TestNames, Tracker,
};
use crate::verdict::cause::{Code, Patterns, Start};
use crate::verdict::{self, Blame, Facts, LeftBehind, Parked, SeenCalls, Standing, Wait};
use findings::Reported;

/// What is known about a process instance beside its goroutines.
#[derive(Default)]
pub struct Described<'a> {
    /// Whether it is not to be in the report.
    pub is_left_out: bool,
    /// The process as the report shows it, except for `pid`, `ended`, `sites` and of `goroutines` all but the states, which
    /// are filled in from the table. If the process has ended, so is the mode, unless it is `unsupported`.
    pub process: Process,
    /// Path of the program's main module.
    pub module: Option<&'a str>,
    /// The program's methods whose names say that they end something, by their full names; sorted.
    pub methods: &'a [String],
    /// Its sites, in the order of their [`SiteId`]s. Sites that are missing have no names.
    pub sites: Vec<DescribedSite<'a>>,
    /// The creators' stacks; `None` if nobody asked for them.
    pub creation_stacks: Option<&'a CreationStacks>,
    /// The calls that the creators of each lineage were in when golife looked; `None` if it did not look.
    pub seen_calls: Option<&'a HashMap<LineageId, SeenCalls>>,
    /// Import path of the package whose tests it runs; `None` if it runs none, or it is not known.
    pub package: Option<&'a str>,
    /// What goroutines were doing that tests may have left behind, by their ids; `None` if golife did not look.
    pub parked: Option<&'a HashMap<u64, Parked>>,
}

/// The frames of each creation stack of a site, innermost first, beginning with its `go` statement; empty if they are
/// not known.
pub type CreationStacks = HashMap<(SiteId, StackId), Arc<[Frame]>>;

/// What is known about a creation site beside its goroutines.
#[derive(Clone, Copy, Default)]
pub struct DescribedSite<'a> {
    /// The `go` statement; `None` if it is not known.
    pub site: Option<&'a Frame>,
    /// Which `go` statement of its function it is, from 1; `None` if it is not known.
    pub ordinal: Option<u32>,
    /// The function that its goroutines run; `None` if it is not known.
    pub entry: Option<&'a Frame>,
    /// Whether its goroutines are the runtime's own, by the rule of `isSystemGoroutine` in
    /// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
    pub is_system: bool,
    /// What the last look has found; `None` if there was no look.
    pub looked: Option<Looked<'a>>,
}

/// What a look has found out about a site's goroutines.
#[derive(Clone, Copy, Default)]
pub struct Looked<'a> {
    /// What they wait for, as a report shows it.
    pub waiting: &'a [Waiting],
    /// What they wait for, as a verdict needs it.
    pub waits: &'a [Wait],
    /// The profiler labels that most of them carry.
    pub labels: &'a [CountedLabel],
    /// Size of all their stacks together, in bytes.
    pub stack_bytes: u64,
}

/// The end of a message that says that goroutines ended whose creation was not seen: what this means.
pub const MISSED: &str = "so golife has missed a place where this program creates goroutines: counts and lifetimes \
    are incomplete; please report this with the program's Go version and how it was built";

/// Makes a report of the state that `tracker` has at the end of the window. Instances that are not in `described`
/// appear as processes that cannot be traced. `patterns` are the user's own, and `names` those of tests.
pub fn report(
    tracker: &Tracker,
    described: &HashMap<InstanceId, Described>,
    names: &TestNames,
    patterns: &Patterns,
    run: &Run,
    selection: &Selection,
) -> Report {
    let missing = tracker.loss();
    let lost = missing.lost;
    let mut loss = Loss {
        dropped: lost.created + lost.exited + lost.process,
        read_faults: lost.read_faults,
        undecodable: lost.undecodable,
        late: missing.late,
        forgotten_processes: missing.forgotten,
        ..Loss::default()
    };
    let (mut processes, mut tests) = (Vec::new(), Vec::new());
    let context = Context { tracker, names, patterns, window: &run.window, selection };
    for instance in tracker.instances() {
        let gaps = instance.gaps();
        loss.unmatched_exits += gaps.unmatched_exits;
        loss.unattributed_exits += gaps.unattributed_exits;
        loss.reconciled += gaps.corrected;
        loss.untracked += instance.untracked();
        loss.without_creators += gaps.without_creators;
        loss.without_stack += gaps.without_stack;
        let all = described;
        processes.push(match described.get(&instance.id) {
            Some(described) if described.is_left_out => continue,
            Some(described) => {
                let (mut process, mut own) = context.process(instance, described);
                process.started_by = instance.started_by.and_then(|by| started_by(tracker, by, all, names));
                tests.append(&mut own);
                process
            }
            None => Process { pid: instance.pid, mode: Mode::Unsupported, ..Process::default() },
        });
    }
    tests.sort_by(|a, b| (&a.package, a.kind, &a.test, a.pid).cmp(&(&b.package, b.kind, &b.test, b.pid)));
    Report { tests, ..run.report(loss, processes, selection) }
}

/// The test that has started a process.
fn started_by(
    tracker: &Tracker,
    (by, origin): (InstanceId, Origin),
    described: &HashMap<InstanceId, Described>,
    names: &TestNames,
) -> Option<StartedBy> {
    let package = described.get(&by).and_then(|described| described.package);
    let pid = tracker.instance(by)?.pid;
    Some(StartedBy { pid, package: package.map(Into::into), test: go_tests::name(origin, names).1 })
}

/// What the report of each process needs.
struct Context<'a> {
    tracker: &'a Tracker,
    names: &'a TestNames,
    patterns: &'a Patterns,
    window: &'a BootWindow,
    selection: &'a Selection,
}

impl Context<'_> {
    /// A process, and the tests that ran in it.
    fn process(&self, instance: &Instance, described: &Described) -> (Process, Vec<Test>) {
        let Context { tracker, names, patterns, window, selection } = *self;
        let mut process = Process { pid: instance.pid, ..described.process.clone() };
        if process.mode == Mode::Unsupported {
            // What the records say about such a process cannot be believed.
            return (process, Vec::new());
        }
        if tracker.misses_creations(instance) {
            let text = format!(
                "{} goroutines ended whose creation was not seen, {MISSED}",
                instance.gaps().unmatched_exits
            );
            process.detail.get_or_insert(text);
        }
        process.start_time =
            process.start_time.or_else(|| instance.start_ns.map(|start| window.calendar(start)));
        if let Some(ended) = instance.ended {
            process.mode = Mode::Gone;
            process.ended = Some(window.calendar(ended.time_ns));
        }
        let now_ns = instance.ended.map_or(window.end_ns, |ended| ended.time_ns);
        let living = instance.living(now_ns);
        let nobody = Ages::default();
        let blame = blame::of(instance, described);
        let code = Code { module: described.module, patterns, methods: described.methods };
        let tests = go_tests::Tests::of(instance, described, names, tracker.grace_ns(), now_ns);
        let mut stacks = described.creation_stacks.map(|stacks| creation_stacks::by_site(instance, stacks));
        let mut reported = Vec::new();
        for (at, site) in instance.sites().iter().enumerate() {
            let counts = site.window();
            if !counts.is_used() {
                continue;
            }
            let id = SiteId(at as u32);
            let living = living.get(at).unwrap_or(&nobody);
            let blame = &blame;
            let left_behind = tests.as_ref().map(|tests| tests.at(id));
            let observed = Observed {
                tracker,
                instance,
                described,
                code,
                id,
                site,
                counts,
                living,
                blame,
                now_ns,
                window,
                left_behind,
            };
            let creation_stacks = stacks.as_mut().map(|stacks| stacks.remove(&id).unwrap_or_default());
            let waits = observed.looked().map(|looked| looked.waits).unwrap_or_default();
            let mut site = observed.site(creation_stacks);
            selection.silence(&mut site);
            reported.push(Reported { id, site, living, waits });
        }
        let totals = Goroutines::of(reported.iter().map(|reported| &reported.site));
        let at_attach = totals.at_attach.filter(|_| !instance.has_unknown_goroutines());
        let states = process.goroutines.states.filter(|_| instance.ended.is_none());
        process.goroutines = Goroutines { at_attach, states, ..totals };
        reported.retain(|reported| !reported.site.system || selection.include_system);
        let watched_ns = now_ns.saturating_sub(instance.first_seen_ns.max(window.start_ns));
        process.findings = findings::of(&reported, instance, described.module, watched_ns);
        let tests = tests.as_ref().map(|tests| tests.report(instance, described, code, names, &reported));
        process.sites = reported.into_iter().map(|reported| reported.site).collect();
        (process, tests.unwrap_or_default())
    }
}

/// One site as the tracker knows it, with all else that is known about it.
struct Observed<'a> {
    tracker: &'a Tracker,
    instance: &'a Instance,
    described: &'a Described<'a>,
    code: Code<'a>,
    id: SiteId,
    site: &'a SiteCounts,
    /// The site's counts in the time that the report covers.
    counts: SiteWindow<'a>,
    living: &'a Ages,
    blame: &'a Blame,
    now_ns: u64,
    window: &'a BootWindow,
    /// What tests have left behind here; `None` if the process runs none.
    left_behind: Option<&'a LeftBehind>,
}

impl<'a> Observed<'a> {
    /// `creation_stacks` are those of the site; `None` if nobody asked for them.
    fn site(&self, creation_stacks: Option<Vec<CreationStack>>) -> Site {
        let (site, counts, window) = (self.site, &self.counts, self.window);
        let about = self.described.site(self.id);
        let living = self.living.exact.iter().copied();
        let survival = Survival::estimate(counts.lifetimes.bins(), living, counts.entered.iter().copied());
        let window_ns = self.now_ns.saturating_sub(self.instance.first_seen_ns.max(window.start_ns));
        let parents = counts.parents.by_count().into_iter().filter_map(|(parent, count)| {
            let counts = self.instance.sites().get(parent.0 as usize)?;
            Some(CountedFrame { frame: self.described.go_statement(parent, counts), count })
        });
        let looked = self.looked();
        let statement = self.described.go_statement(self.id, site);
        let number = self.id.0 as usize;
        let is_own = site.overflow || is_of_program(&statement.function, self.described.module);
        Site {
            waiting: looked.map(|looked| looked.waiting.to_vec()),
            labels: looked.map(|looked| looked.labels.to_vec()),
            stack_bytes: looked.map(|looked| looked.stack_bytes),
            site: statement,
            ordinal: about.ordinal.filter(|_| !site.overflow),
            blame: (!is_own).then(|| self.blame.lines(number)),
            blame_unknown: (!is_own).then(|| self.blame.unknown(number, site.live)),
            dependencies: if is_own { Vec::new() } else { self.blame.dependencies(number) },
            entry: match (site.overflow, about.entry) {
                (true, _) => other_sites(),
                (false, Some(entry)) => entry.clone(),
                (false, None) => Frame::unnamed(site.startpc),
            },
            created: counts.created,
            exited: counts.exited,
            live: site.live,
            at_attach: counts.at_begin,
            oldest: self
                .living
                .eldest
                .map(|eldest| Oldest { age_ns: eldest.age_ns, at_least: eldest.at_least }),
            lifetime: lifetime(&counts.lifetimes),
            survival: survival.points().into_iter().map(survival_point).collect(),
            parents: parents.collect(),
            verdict: self.judge(
                &survival,
                window_ns,
                looked.map(|looked| looked.waits).unwrap_or_default(),
                creation_stacks.as_deref(),
            ),
            peak_live: counts.peak,
            created_per_s: (window_ns > 0).then(|| rounded(counts.created as f64 * 1e9 / window_ns as f64)),
            first_created: counts.first_created_ns.map(|time| window.calendar(time)),
            last_created: counts.last_created_ns.map(|time| window.calendar(time)),
            restricted_mean_ns: survival.restricted_mean_ns(),
            living_hdr: hdr_of(&self.living.exact),
            reconciled: counts.reconciled,
            untracked: site.untracked,
            other: site.overflow,
            system: about.is_system && !site.overflow,
            creation_stacks,
            ignored: false,
            known: false,
        }
    }

    /// What the last look has found. It does not hold for a row that many sites share.
    fn looked(&self) -> Option<Looked<'a>> {
        let looked = self.described.site(self.id).looked;
        looked.filter(|_| !self.site.overflow)
    }

    /// Whether at least half of the creators that are known are of sites whose goroutines end, as those that serve a
    /// request do and those that wait for connections do not.
    fn creators_end(&self) -> bool {
        let parents = self.counts.parents.by_count();
        let all: u64 = parents.iter().map(|&(_, n)| n).sum();
        let ends = |site: SiteId| {
            self.instance.sites().get(site.0 as usize).is_some_and(|site| site.window().exited > 0)
        };
        let of_ending: u64 = parents.iter().filter(|&&(site, _)| ends(site)).map(|&(_, n)| n).sum();
        of_ending > 0 && of_ending * 2 >= all
    }

    fn judge(
        &self,
        survival: &Survival,
        window_ns: u64,
        waits: &[Wait],
        creation_stacks: Option<&[CreationStack]>,
    ) -> Verdict {
        let (site, counts, instance) = (self.site, &self.counts, self.instance);
        let series = instance.series_of(self.id, self.tracker.timeline(), self.now_ns);
        verdict::judge(&Facts {
            now_ns: self.now_ns,
            ended: instance.ended.is_some(),
            standing: Standing {
                window_ns,
                live: site.live,
                waits,
                code: self.code,
                start: Start {
                    statement: self.described.site(self.id).site,
                    called: creation_stacks.and_then(|stacks| called(stacks, site.live, self.code.module)),
                    blamed: self.blame.told(self.id.0 as usize),
                },
            },
            created: counts.created,
            exited: counts.exited,
            peak: counts.peak,
            untracked: site.untracked,
            overflow: site.overflow,
            first_created_ns: counts.first_created_ns,
            last_created_ns: counts.last_created_ns,
            unattributed_exits: instance.gaps().unattributed_exits,
            trend: Trend::of(&series),
            mean_lifetimes: &site.series.lifetimes(self.tracker.timeline()),
            creators_end: self.creators_end(),
            outlived: counts.outlived,
            entered: counts.entered.iter().map(|&(_, n)| n).sum(),
            at_begin: counts.at_begin,
            lifetimes: &counts.lifetimes,
            survival,
            living: self.living,
            left_behind: self.left_behind,
        })
    }
}

impl<'a> Described<'a> {
    fn site(&self, id: SiteId) -> DescribedSite<'a> {
        self.sites.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// The `go` statement of a site, or a frame that stands for it if it has no name.
    fn go_statement(&self, id: SiteId, counts: &SiteCounts) -> Frame {
        match self.site(id).site {
            _ if counts.overflow => other_sites(),
            Some(site) => site.clone(),
            None => Frame::unnamed(counts.gopc),
        }
    }
}

/// The function through which the main module came to more than half of the living goroutines of a site, of which so
/// many live.
fn called<'stacks>(
    stacks: &'stacks [CreationStack],
    live: u64,
    module: Option<&str>,
) -> Option<&'stacks str> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for CreationStack { frames, live, .. } in stacks {
        let own = frames.iter().position(|frame| is_of_program(&frame.function, module));
        if let Some(called) = own.and_then(|own| frames[..own].last()) {
            *counts.entry(&called.function).or_default() += live;
        }
    }
    counts.into_iter().find(|(_, count)| *count > live.saturating_sub(*count)).map(|(called, _)| called)
}

fn other_sites() -> Frame {
    Frame { function: "(other sites)".into(), file: None, line: None }
}

fn hdr_of(bins: &[(u64, u64)]) -> Option<Hdr> {
    let mut durations = Durations::default();
    bins.iter().for_each(|&(ns, n)| durations.record_n(ns, n));
    (durations.count() > 0).then(|| durations.into())
}

/// Rounds to six digits after the point. More digits are noise in a document.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A point of a curve, as a report has it.
fn survival_point(point: Point) -> SurvivalPoint {
    let fraction = point.fraction;
    SurvivalPoint {
        at_ns: point.age_ns,
        fraction: rounded(fraction.value),
        low: Some(rounded(fraction.low)),
        high: Some(rounded(fraction.high)),
    }
}

/// The lifetimes as a report has them; `None` if no goroutine has ended.
fn lifetime(durations: &Durations) -> Option<Lifetime> {
    let [p50_ns, p90_ns, p99_ns, p999_ns] = durations.quantiles([0.5, 0.9, 0.99, 0.999])?;
    Some(Lifetime {
        count: durations.count(),
        min_ns: durations.min_ns()?,
        mean_ns: durations.mean_ns()?,
        p50_ns,
        p90_ns,
        p99_ns,
        p999_ns,
        max_ns: durations.max_ns()?,
        hdr: durations.clone().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_called_is_what_led_to_most() {
        let frame = |function: &str| Frame { function: function.into(), ..Frame::default() };
        let stack = |live, calls: &[&str]| CreationStack {
            frames: calls.iter().map(|call| frame(call)).collect(),
            live,
            ..CreationStack::default()
        };
        let stacks = [
            stack(4, &["x.io/kafka.start", "x.io/kafka.NewReader", "main.other"]),
            stack(3, &["x.io/kafka.start", "x.io/kafka.New", "main.main"]),
            stack(3, &["x.io/kafka.start", "x.io/kafka.New", "main.serve"]),
        ];
        assert_eq!(called(&stacks, 10, None), Some("x.io/kafka.New"));
        assert_eq!(called(&stacks, 12, None), None, "half is no majority");
    }
}
