//! From the tracker's state to a report: names for addresses, judgements for numbers.

use std::time::{Duration, SystemTime};

use super::blame::Blame;
use super::{
    CountedFrame, Frame, Goroutines, Lifetime, Loss, Mode, Oldest, Overhead, Process, Report, SCHEMA,
    Selection, Site, Summary, SurvivalPoint, Tool, Waiting, WindowOf, creation_stacks,
};
use crate::go::standard::is_of_program;
use crate::stats::{Ages, Durations, Survival, Trend};
use crate::tracker::SiteId;
use crate::tracker::{Instance, SiteCounts, StackId, Tracker};
use crate::verdict::{self, Facts, Standing, Wait};

/// Where a report learns what the tracker does not know: names and files behind pids and addresses.
pub trait Sources {
    /// The process: all but `mode`, `ended`, `goroutines` and `sites` of a traced one is taken over. A mode other than
    /// `traced` is kept.
    fn process(&self, instance: &Instance) -> Process;
    /// The `go` statement that returns to this address.
    fn creation_site(&self, instance: &Instance, gopc: u64) -> Option<Frame>;
    /// The function that begins at this address.
    fn entry(&self, instance: &Instance, startpc: u64) -> Option<Frame>;
    /// Whether the stacks of creators are looked at.
    fn has_creation_stacks(&self) -> bool {
        false
    }
    /// The calls of a creation stack, innermost first, from the `go` statement on that returns to `gopc`; empty where it
    /// is not known.
    fn creation_stack(&self, _instance: &Instance, _gopc: u64, _stack: StackId) -> Vec<Frame> {
        Vec::new()
    }
    /// What the living goroutines of a site wait for, and the size of their stacks in bytes, as of the last scan; `None`
    /// where nothing looked.
    fn waiting(&self, _instance: &Instance, _gopc: u64, _startpc: u64) -> Option<(Vec<Waiting>, u64)> {
        None
    }
    /// The same for the verdict; empty where nothing looked.
    fn waits(&self, _instance: &Instance, _gopc: u64, _startpc: u64) -> Vec<Wait> {
        Vec::new()
    }
    /// Path of the program's main module.
    fn module(&self, _instance: &Instance) -> Option<&str> {
        None
    }
    /// Whether goroutines of this entry are the runtime's own, by the rule of `runtime.isSystemGoroutine`.
    fn is_system(&self, instance: &Instance, startpc: u64) -> bool;
}

/// What it means that goroutines end which were not seen being created.
pub const MISSED: &str = "so golife has missed a place where this program creates goroutines: counts and lifetimes \
    are incomplete; please report this with the program's Go version and how it was built";

/// The time that a report covers, and how boot time relates to the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Boot time (`CLOCK_BOOTTIME`) in ns when tracing began.
    pub start_ns: u64,
    /// Boot time in ns of the report.
    pub end_ns: u64,
    /// The calendar's time at `end_ns`.
    pub end: SystemTime,
}

impl Window {
    /// RFC 3339 of a boot time, to the millisecond.
    pub fn calendar(&self, boot_ns: u64) -> String {
        let time = if boot_ns <= self.end_ns {
            self.end.checked_sub(Duration::from_nanos(self.end_ns - boot_ns))
        } else {
            self.end.checked_add(Duration::from_nanos(boot_ns - self.end_ns))
        };
        humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
    }
}

/// What only the run knows.
#[derive(Clone, Debug)]
pub struct Run {
    /// What makes the report.
    pub tool: Tool,
    /// The time it covers.
    pub window: Window,
    /// What tracing cost.
    pub overhead: Overhead,
    /// Processes that are not traced, with the reason.
    pub untraced: Vec<Process>,
}

/// Freezes the state of `tracker` at the window's end.
pub fn build(tracker: &Tracker, sources: &dyn Sources, run: &Run, selection: &Selection) -> Report {
    let window = &run.window;
    let lost = tracker.loss();
    let mut loss = Loss {
        dropped: lost.created + lost.exited + lost.process,
        read_faults: lost.read_faults,
        forgotten_processes: tracker.forgotten(),
        undecodable: lost.undecodable,
        late: tracker.late(),
        ..Loss::default()
    };
    let mut summary = Summary::default();
    let mut processes = Vec::new();
    for instance in tracker.instances() {
        loss.unmatched_exits += instance.unmatched_exits;
        loss.unattributed_exits += instance.unattributed_exits;
        loss.reconciled += instance.corrected;
        loss.untracked += instance.untracked();
        loss.without_creators += instance.lineages().cut();
        loss.without_stack += instance.lineages().without_stack();
        let process = process(tracker, instance, sources, window, selection);
        process.sites.iter().for_each(|site| summary.add(site));
        processes.push(process);
    }
    processes.extend(run.untraced.iter().cloned());
    assemble(run, loss, summary, processes, selection)
}

/// The report of processes that were only scanned.
pub fn of_scanned(run: &Run, mut processes: Vec<Process>, selection: &Selection) -> Report {
    let mut summary = Summary::default();
    processes.iter().flat_map(|process| &process.sites).for_each(|site| summary.add(site));
    processes.extend(run.untraced.iter().cloned());
    assemble(run, Loss::default(), summary, processes, selection)
}

fn assemble(
    run: &Run,
    loss: Loss,
    summary: Summary,
    mut processes: Vec<Process>,
    selection: &Selection,
) -> Report {
    let window = &run.window;
    selection.apply(&mut processes);
    Report {
        schema: SCHEMA.into(),
        tool: run.tool.clone(),
        window: WindowOf {
            start: window.calendar(window.start_ns),
            end: window.calendar(window.end_ns),
            duration_ns: window.end_ns.saturating_sub(window.start_ns),
        },
        loss,
        overhead: run.overhead,
        summary,
        processes,
    }
}

fn process(
    tracker: &Tracker,
    instance: &Instance,
    sources: &dyn Sources,
    window: &Window,
    selection: &Selection,
) -> Process {
    let mut process = sources.process(instance);
    process.pid = instance.pid;
    if process.mode == Mode::Unsupported {
        // What its records say is not to be believed.
        return process;
    }
    if tracker.misses_creations(instance) {
        let text =
            format!("{} goroutines ended whose creation was not seen, {MISSED}", instance.unmatched_exits);
        process.detail.get_or_insert(text);
    }
    process.start_time = process.start_time.or_else(|| instance.start_ns.map(|start| window.calendar(start)));
    if let Some((time, _)) = instance.ended {
        process.mode = Mode::Gone;
        process.ended = Some(window.calendar(time));
    }
    let now_ns = instance.ended.map_or(window.end_ns, |(time, _)| time);
    let living = instance.living(now_ns);
    let none = Ages::default();
    let blame = Blame::of(instance, sources);
    let mut stacks = sources.has_creation_stacks().then(|| creation_stacks::by_site(instance, sources));
    let mut totals = Goroutines { at_attach: Some(0), ..Goroutines::default() };
    for (at, counts) in instance.sites().iter().enumerate().filter(|(_, counts)| counts.is_used()) {
        let is_system = !counts.overflow && sources.is_system(instance, counts.startpc);
        if is_system {
            totals.system += counts.live;
        } else {
            totals.live += counts.live;
            totals.created += counts.created;
            totals.exited += counts.exited;
            totals.at_attach = totals.at_attach.map(|sum| sum + counts.at_attach);
        }
        if !is_system || selection.include_system {
            let living = living.get(at).unwrap_or(&none);
            let id = SiteId(at as u32);
            let observed = Observed { tracker, instance, id, counts, living, blame: &blame, now_ns, window };
            let creation_stacks = stacks.as_mut().map(|stacks| stacks.remove(&id).unwrap_or_default());
            process.sites.push(Site { system: is_system, creation_stacks, ..observed.site(sources) });
        }
    }
    totals.at_attach = totals.at_attach.filter(|_| !instance.has_unknown_goroutines());
    process.goroutines = totals;
    process
}

/// One site as the tracker knows it.
struct Observed<'tracker> {
    tracker: &'tracker Tracker,
    instance: &'tracker Instance,
    id: SiteId,
    counts: &'tracker SiteCounts,
    living: &'tracker Ages,
    blame: &'tracker Blame,
    now_ns: u64,
    window: &'tracker Window,
}

impl Observed<'_> {
    fn site(&self, sources: &dyn Sources) -> Site {
        let (counts, window) = (self.counts, self.window);
        let survival = Survival::estimate(counts.lifetimes.bins(), self.living.exact.iter().copied());
        let window_ns = self.now_ns.saturating_sub(self.instance.first_seen_ns.max(window.start_ns));
        let parents = counts.parents.by_count().into_iter().filter_map(|(parent, count)| {
            let frame = self.creation_site(sources, self.instance.sites().get(parent.0 as usize)?);
            Some(CountedFrame { frame, count })
        });
        // Of an ended process, or of many sites in one row, nobody can say it any more.
        let seen = self.instance.ended.is_none() && !counts.overflow;
        let (waiting, stack_bytes) =
            seen.then(|| sources.waiting(self.instance, counts.gopc, counts.startpc)).flatten().unzip();
        let waits = match seen {
            true => sources.waits(self.instance, counts.gopc, counts.startpc),
            false => Vec::new(),
        };
        let site = self.creation_site(sources, counts);
        let module = sources.module(self.instance);
        let is_own = counts.overflow || is_of_program(&site.function, module);
        Site {
            waiting,
            stack_bytes,
            site,
            blame: (!is_own).then(|| self.blame.counted(self.id)),
            entry: match counts.overflow {
                true => other_sites(),
                false => {
                    sources.entry(self.instance, counts.startpc).unwrap_or_else(|| unnamed(counts.startpc))
                }
            },
            created: counts.created,
            exited: counts.exited,
            live: counts.live,
            at_attach: counts.at_attach,
            oldest: self
                .living
                .eldest
                .map(|oldest| Oldest { age_ns: oldest.age_ns, at_least: oldest.at_least }),
            lifetime: Lifetime::of(&counts.lifetimes),
            survival: survival.points().into_iter().map(SurvivalPoint::from).collect(),
            parents: parents.collect(),
            verdict: self.judge(&survival, window_ns, &waits, module),
            peak_live: counts.peak,
            created_per_s: (window_ns > 0).then(|| rounded(counts.created as f64 * 1e9 / window_ns as f64)),
            first_created: counts.first_created_ns.map(|time| window.calendar(time)),
            last_created: counts.last_created_ns.map(|time| window.calendar(time)),
            restricted_mean_ns: survival.restricted_mean_ns(),
            living_hdr: hdr_of(&self.living.exact),
            reconciled: counts.reconciled,
            untracked: counts.untracked,
            other: counts.overflow,
            ..Site::default()
        }
    }

    fn creation_site(&self, sources: &dyn Sources, counts: &SiteCounts) -> Frame {
        if counts.overflow {
            return other_sites();
        }
        sources.creation_site(self.instance, counts.gopc).unwrap_or_else(|| unnamed(counts.gopc))
    }

    fn judge(
        &self,
        survival: &Survival,
        window_ns: u64,
        waits: &[Wait],
        module: Option<&str>,
    ) -> verdict::Verdict {
        let (counts, instance) = (self.counts, self.instance);
        let series = instance.series_of(self.id, self.tracker.timeline(), self.now_ns);
        verdict::judge(&Facts {
            now_ns: self.now_ns,
            standing: Standing {
                window_ns,
                live: counts.live,
                waits,
                module,
                blamed: self.blame.most(self.id),
            },
            created: counts.created,
            exited: counts.exited,
            peak: counts.peak,
            untracked: counts.untracked,
            overflow: counts.overflow,
            first_created_ns: counts.first_created_ns,
            last_created_ns: counts.last_created_ns,
            unattributed_exits: instance.unattributed_exits,
            trend: Trend::of(&series),
            lifetimes: &counts.lifetimes,
            survival,
            living: self.living,
        })
    }
}

fn unnamed(address: u64) -> Frame {
    Frame { function: format!("{address:#x}"), file: None, line: None }
}

fn other_sites() -> Frame {
    Frame { function: "(other sites)".into(), file: None, line: None }
}

fn hdr_of(bins: &[(u64, u64)]) -> Option<String> {
    let mut durations = Durations::default();
    bins.iter().for_each(|&(ns, n)| durations.record_n(ns, n));
    durations.to_base64()
}

/// To six digits after the point: what is beyond is noise in a document.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl From<(u64, f64)> for SurvivalPoint {
    fn from((at_ns, fraction): (u64, f64)) -> Self {
        SurvivalPoint { at_ns, fraction: rounded(fraction) }
    }
}

impl Lifetime {
    /// `None` where nothing ended.
    pub fn of(durations: &Durations) -> Option<Lifetime> {
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
            hdr: durations.to_base64()?,
        })
    }
}
