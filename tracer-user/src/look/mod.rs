//! One look into a process: all its goroutines, and what those of each site wait for. Made on a thread of its own,
//! since it takes as long as the process is large.

pub mod dump;
mod survey;
pub mod sweep;
mod waited_on;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::go::Binary;
use crate::inspect::{
    self, Depth, Group, Places, SiteKey, SiteWaits, Snapshot, StackId, WalkError, WalkLimits,
};
use crate::report;
use crate::targets::Subject;
use crate::verdict::Wait;
use survey::Survey;

/// The longest that looking at all processes takes, together.
pub const MOST_TIME: Duration = Duration::from_secs(5);

/// Stacks of a look that are kept beside the commonest one of each place, some kilobytes each.
const MOST_STACKS: usize = 1024;

/// How long golife listens before it compares the runtime's list with its own. A goroutine that has reported its end is on
/// the list until its thread has run a few more instructions, and the thread may just have lost its CPU.
const SETTLE: Duration = Duration::from_millis(50);

/// Everything that was found, goroutine by goroutine, and what it comes to.
pub struct Look {
    /// Everything.
    pub snapshot: Snapshot,
    /// What is kept of it.
    pub findings: Findings,
}

/// What a look comes to.
pub struct Findings {
    /// By site.
    pub sites: HashMap<SiteKey, SiteFindings>,
    /// For a later look.
    pub places: Places,
    /// Its numbers, for the report.
    pub scan: report::Scan,
    /// How long it took.
    pub took: Duration,
}

/// What the goroutines of a site do.
pub struct SiteFindings {
    /// In numbers.
    pub waits: SiteWaits,
    /// As a report shows it.
    pub waiting: Vec<report::Waiting>,
    /// As a verdict needs it.
    pub judged: Vec<Wait>,
}

impl Look {
    /// Looks at a process until `deadline` at most; the time that naming takes comes on top. With an earlier look's
    /// places, says which goroutines have not moved since.
    pub fn at(subject: &Subject, earlier: Option<&Places>, deadline: Instant) -> Result<Look, WalkError> {
        let start = Instant::now();
        let time = deadline.saturating_duration_since(start);
        let limits = WalkLimits { time, ..WalkLimits::default() };
        let snapshot = subject.scan(limits, Depth::Objects)?;
        let (binary, survey) = (&*subject.binary, Survey::of(&snapshot));
        let mut room = MOST_STACKS;
        let sites = inspect::by_site(&snapshot, binary, earlier).into_iter().map(|(key, waits)| {
            let waiting = waits
                .groups
                .iter()
                .map(|group| waiting(group, &mut room, &survey, &snapshot, binary))
                .collect();
            let judged = survey.waits(&waits, &snapshot, binary);
            (key, SiteFindings { waits, waiting, judged })
        });
        let sites = sites.collect();
        let places = Places::of(&snapshot, earlier);
        let took = start.elapsed();
        let Snapshot { listed, unreadable, torn, cut_short, .. } = snapshot;
        let scan = report::Scan {
            took_ns: took.as_nanos() as u64,
            found: snapshot.goroutines.len() as u64,
            listed,
            unreadable,
            torn,
            cut_short: cut_short.is_some(),
        };
        Ok(Look { snapshot, findings: Findings { sites, places, scan, took } })
    }

    /// As [`Look::at`], for a comparison with what the probes have seen.
    pub fn settled(
        subject: &Subject,
        earlier: Option<&Places>,
        deadline: Instant,
    ) -> Result<Look, WalkError> {
        thread::sleep(SETTLE);
        Look::at(subject, earlier, deadline)
    }
}

/// `room`: for how many stacks beyond the first of a group there still is.
fn waiting(
    group: &Group,
    room: &mut usize,
    survey: &Survey,
    snapshot: &Snapshot,
    binary: &Binary,
) -> report::Waiting {
    let mut stacks: Vec<report::WaitingStack> = Vec::new();
    for &(stack, count) in group.stacks.iter().take(1 + *room) {
        let at = at_and_callers(snapshot, stack, binary);
        match stacks.iter_mut().find(|known| known.at == at) {
            // They differ in the runtime's own calls, which are not shown.
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
        leaked: group.leaked,
        on: waited_on::of_group(survey.queues(), group, snapshot, binary),
    }
}

/// The frame that goroutines wait at and those that called it, as a report has them.
fn at_and_callers(snapshot: &Snapshot, stack: StackId, binary: &Binary) -> Vec<report::Frame> {
    let frames = snapshot.stacks.at_and_callers(stack, binary);
    frames.take(report::Waiting::MOST_FRAMES).map(report::Frame::from).collect()
}
