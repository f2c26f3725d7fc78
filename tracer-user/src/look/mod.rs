//! One look into a process finds all its goroutines, and what those of each site wait for. The larger the process, the
//! longer it takes, so the engine makes it on a thread of its own.

pub mod ancestry;
mod connections;
mod creators;
pub mod dump;
pub mod family;
pub mod filter;
mod io;
mod labels;
mod later;
mod parked;
mod seen;
mod serves;
mod sightings;
mod states;
mod survey;
pub mod sweep;
mod waited_on;
pub mod wall;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::go::Binary;
use crate::inspect::queues::Queue;
use crate::inspect::{
    self, Depth, Group, Places, SiteKey, SiteWaits, Snapshot, StackId, WalkError, WalkLimits,
};
use crate::report;
use crate::targets::Subject;
use crate::verdict::Wait;
use crate::verdict::waits::stands_out;
pub use creators::Seen;
use survey::Survey;

/// The longest time that a look at all processes together may take.
pub const MOST_TIME: Duration = Duration::from_secs(5);

/// Most stacks of a look that are kept beside the most frequent one of each group, some kilobytes each.
const MOST_STACKS: usize = 1024;

/// Everything that a look found, goroutine by goroutine, and the findings that follow from it.
pub struct Look {
    /// All goroutines.
    pub snapshot: Snapshot,
    /// The calls that creators of goroutines are still in.
    pub seen: Seen,
    /// The part that is kept after the look.
    pub findings: Findings,
}

/// What is kept of a look.
pub struct Findings {
    /// The findings for each site.
    pub sites: HashMap<SiteKey, SiteFindings>,
    /// Where each goroutine was, to be compared with a later look.
    pub places: Places,
    /// The numbers of the scan, for the report.
    pub scan: report::Scan,
    /// How many goroutines were in which state.
    pub states: report::States,
    /// How long the look took.
    pub took: Duration,
}

/// What the goroutines of a site do.
#[derive(Default)]
pub struct SiteFindings {
    /// The numbers and groups from the scan.
    pub waits: SiteWaits,
    /// The same groups as a report shows them.
    pub waiting: Vec<report::Waiting>,
    /// The same groups as a verdict needs them.
    pub judged: Vec<Wait>,
    /// The profiler labels that most of them carry, as a report shows them.
    pub labels: Vec<report::CountedLabel>,
}

impl Findings {
    /// A process as a report has it, with what the last look into it has found; if there was none, as it was.
    pub fn described(last: Option<&Findings>, process: report::Process) -> report::Process {
        let Some(Findings { scan, states, .. }) = last else { return process };
        let goroutines = report::Goroutines { states: Some(*states), ..process.goroutines };
        report::Process { scan: Some(*scan), goroutines, ..process }
    }
}

impl Look {
    /// Looks at a process until `deadline` at most; the time to find names comes on top of that. With the places of an
    /// `earlier` look, the findings say which goroutines have not moved since.
    ///
    /// # Errors
    /// The goroutines cannot be listed: see [`WalkError`].
    pub fn at(subject: &Subject, earlier: Option<&Places>, deadline: Instant) -> Result<Look, WalkError> {
        let start = Instant::now();
        let (snapshot, scan) = scan(subject, deadline)?;
        let binary = &*subject.binary;
        let survey = Survey::of(&snapshot, binary, earlier);
        let mut room = MOST_STACKS;
        let by_site = inspect::by_site(&snapshot, binary, earlier, &survey.apart());
        let mut labels = labels::by_site(&snapshot);
        let groups = by_site.values().flat_map(|site| &site.groups);
        let io = io::of(subject, &snapshot, groups.flat_map(|group| group.goids.iter().copied()));
        let places = Places::of(&snapshot, earlier).with_groups(&by_site);
        let states = states::of(&snapshot);
        let sites = by_site.into_iter().map(|(key, waits)| {
            let mut groups: Vec<(Wait, report::Waiting)> = Vec::new();
            for group in &waits.groups {
                let queues = survey.queues(group, &snapshot, binary);
                let judged = survey.wait(group, &queues, &snapshot, binary);
                let found = waiting(group, &queues, &mut room, &snapshot, binary);
                groups.push((judged, with_io(found, &io)));
            }
            // What grows comes first, since it is what a person wants to see of a site whose goroutines do several things.
            groups.sort_by_key(|(judged, _)| judged.grown.and_then(stands_out).is_none());
            let (judged, waiting) = groups.into_iter().unzip();
            let labels = labels.remove(&key).unwrap_or_default();
            (key, SiteFindings { waits, waiting, judged, labels })
        });
        let sites = sites.collect();
        let seen = Seen::of(&snapshot, binary);
        let took = start.elapsed();
        let scan = report::Scan { took_ns: took.as_nanos() as u64, ..scan };
        Ok(Look { seen, snapshot, findings: Findings { sites, places, scan, states, took } })
    }
}

/// Reads the goroutines of a process until `deadline` at most; the time to find names comes on top of that. Returns them
/// with the numbers of the scan.
///
/// # Errors
/// The goroutines cannot be listed: see [`WalkError`].
pub fn scan(subject: &Subject, deadline: Instant) -> Result<(Snapshot, report::Scan), WalkError> {
    let start = Instant::now();
    let limits = WalkLimits { time: deadline.saturating_duration_since(start), ..WalkLimits::default() };
    let snapshot = subject.scan(limits, Depth::Objects)?.checked()?;
    let Snapshot { listed, unreadable, torn, cut_short, .. } = snapshot;
    let scan = report::Scan {
        took_ns: start.elapsed().as_nanos() as u64,
        found: snapshot.goroutines.len() as u64,
        listed,
        unreadable,
        torn,
        cut_short: cut_short.is_some(),
        before_end_ns: None,
    };
    Ok((snapshot, scan))
}

/// A group of goroutines as a report shows it. `room` is how many stacks beyond the first of a group may still be kept
/// in this look.
fn waiting(
    group: &Group,
    queues: &[Queue],
    room: &mut usize,
    snapshot: &Snapshot,
    binary: &Binary,
) -> report::Waiting {
    let mut stacks: Vec<report::WaitingStack> = Vec::new();
    for &(stack, count) in group.stacks.iter().take(1 + *room) {
        let at = at_and_callers(snapshot, stack, binary);
        match stacks.iter_mut().find(|known| known.at == at) {
            // The two stacks differ only in the runtime's own calls, which are not shown.
            Some(known) => known.count += count,
            None => stacks.push(report::WaitingStack { count, at }),
        }
    }
    *room -= stacks.len().saturating_sub(1);
    let at = stacks.first().map(|first| first.at.clone()).unwrap_or_default();
    if stacks.iter().all(|stack| stack.count == group.count) {
        stacks.clear();
    }
    report::Waiting {
        reason: group.state.to_owned(),
        count: group.count,
        at,
        stacks,
        goids: group.goids.clone(),
        unmoved: group.unmoved,
        compared: group.unmoved.map(|_| group.known.all),
        leaked: group.leaked,
        grown: group.grown.map(|grown| grown.by),
        connection: connections::of_number(group.apart).map(connections::reported),
        on: queues.iter().map(|queue| waited_on::named(queue, binary)).collect(),
        io: None,
        io_alike: None,
    }
}

/// Adds what one of the goroutines waits for that has the other end which most of them have. `io` is known by goid.
fn with_io(waiting: report::Waiting, io: &HashMap<u64, report::Io>) -> report::Waiting {
    let known = || waiting.goids.iter().filter_map(|goid| io.get(goid));
    let alike = |one: &report::Io| {
        known().filter(|other| (&other.kind, &other.remote) == (&one.kind, &one.remote)).count() as u64
    };
    let most = known().map(|one| (alike(one), one)).rev().max_by_key(|(alike, _)| *alike);
    let (io_alike, io) = most.map(|(alike, io)| (alike, io.clone())).unzip();
    report::Waiting { io, io_alike, ..waiting }
}

/// The frame that goroutines wait at and its callers, as a report has them.
fn at_and_callers(snapshot: &Snapshot, stack: StackId, binary: &Binary) -> Vec<report::Frame> {
    let frames = snapshot.stacks.at_and_callers(stack, binary);
    frames.take(report::Waiting::MOST_FRAMES).map(report::Frame::from).collect()
}
