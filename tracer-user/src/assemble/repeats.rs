//! Several reports of one process: which of their numbers may be added. Counts and lifetimes are of a time, so they add
//! up unless another report covers that time, too. Who lives is of a moment, so only the newest report says it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::report::{Process, Report};

/// What of a process in one report is added to what other reports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    Whole,
    /// What happened, but not who lives: a newer report says that.
    Happened,
    /// Nothing: another report covers the same time and maybe more.
    Nothing,
}

/// Two reports whose times have something in common, of a process that is in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Number of the report that repeats something.
    pub report: usize,
    /// Number of the report that says the same.
    pub of: usize,
    /// Id of the process; the first of several.
    pub pid: u32,
    /// Whether nothing is counted twice, because all of the time is in the other report. Otherwise the times only
    /// overlap.
    pub within: bool,
}

/// What several reports have in common.
#[derive(Debug)]
pub struct Repeats {
    parts: HashMap<(usize, u32), Part>,
    /// Which reports repeat what is in others, one entry for each pair of reports.
    pub found: Vec<Repeat>,
}

/// How far the starts of one process may be apart in two reports: calendars are corrected now and then.
const NEAR: Duration = Duration::from_secs(1);

/// A process in one report, with the report's time.
#[derive(Clone, Copy)]
struct Seen {
    report: usize,
    /// When the process started; `None` if it ended before anybody looked.
    started: Option<SystemTime>,
    from: SystemTime,
    to: SystemTime,
}

impl Seen {
    fn of(number: usize, report: &Report, process: &Process) -> Option<Seen> {
        let time = |text: &str| humantime::parse_rfc3339(text).ok();
        Some(Seen {
            report: number,
            started: process.start_time.as_deref().and_then(time),
            from: time(&report.window.start)?,
            to: time(&report.window.end)?,
        })
    }

    /// The same process in other reports.
    fn others<'a>(&self, seen: &'a [Seen]) -> impl Iterator<Item = &'a Seen> {
        let one = *self;
        seen.iter().filter(move |other| other.report != one.report && one.is_same_process(other))
    }

    /// Whether two processes with one id are one. If nobody knows when they started, they are where the reports are of
    /// the very same time.
    fn is_same_process(&self, other: &Seen) -> bool {
        match (self.started, other.started) {
            (Some(one), Some(other)) => {
                one.max(other).duration_since(one.min(other)).unwrap_or_default() <= NEAR
            }
            (None, None) => (self.from, self.to) == (other.from, other.to),
            _ => false,
        }
    }

    /// The same process in a report that covers all of the time.
    fn covered_by<'a>(&self, seen: &'a [Seen]) -> Option<&'a Seen> {
        self.others(seen).find(|other| self.is_within(other))
    }

    /// Whether the other report covers all of the time; of two that cover the same time, the first does.
    fn is_within(&self, other: &Seen) -> bool {
        let equal = (self.from, self.to) == (other.from, other.to);
        other.from <= self.from && self.to <= other.to && (!equal || other.report < self.report)
    }
}

impl Repeats {
    /// Compares reports by the times that they cover and the processes in them: host, id and start.
    pub fn of(reports: &[Report]) -> Repeats {
        let mut by_pid: HashMap<(Option<&str>, u32), Vec<Seen>> = HashMap::new();
        for (number, report) in reports.iter().enumerate() {
            for process in &report.processes {
                let known = by_pid.entry((report.tool.host.as_deref(), process.pid)).or_default();
                // After an exec there are several of one process in a report.
                if known.last().is_none_or(|last| last.report != number) {
                    known.extend(Seen::of(number, report, process));
                }
            }
        }
        let mut repeats = Repeats { parts: HashMap::new(), found: Vec::new() };
        for ((_, pid), seen) in by_pid {
            for one in &seen {
                repeats.compare(pid, one, &seen);
            }
        }
        repeats.found.sort_unstable_by_key(|repeat| (repeat.report, repeat.of, repeat.pid));
        repeats.found.dedup_by_key(|repeat| (repeat.report, repeat.of));
        repeats
    }

    fn compare(&mut self, pid: u32, one: &Seen, seen: &[Seen]) {
        let others = || one.others(seen);
        let part = if let Some(other) = one.covered_by(seen) {
            self.found.push(Repeat { report: one.report, of: other.report, pid, within: true });
            Part::Nothing
        } else {
            let earlier =
                others().filter(|other| other.report < one.report && other.covered_by(seen).is_none());
            let overlapping = earlier.filter(|other| one.from < other.to && other.from < one.to);
            let repeat = |other: &Seen| Repeat { report: one.report, of: other.report, pid, within: false };
            self.found.extend(overlapping.map(repeat));
            if others().any(|other| other.to > one.to) { Part::Happened } else { Part::Whole }
        };
        self.parts.insert((one.report, pid), part);
    }

    /// What of a process is added, by the number of its report.
    pub fn part(&self, report: usize, process: &Process) -> Part {
        self.parts.get(&(report, process.pid)).copied().unwrap_or(Part::Whole)
    }
}
