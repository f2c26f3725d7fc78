//! A sweep looks at every Go process of the host from outside, without probes and without anything that the processes
//! could notice.
//!
//! One look tells what there is. A second one tells what has not moved in between. Between the two there are glances,
//! which only see who is there, and with them it is known who comes and stays. That is no whole history, so a site that
//! grows is watched at most, never suspect.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use super::creators;
use super::sightings::{Sightings, Tally};
use super::{Findings, Look, MOST_TIME, SiteFindings};
use crate::go;
use crate::go::standard::is_of_program;
use crate::host::clock::now_ns;
use crate::host::{ProcessError, process};
use crate::human::{count, duration};
use crate::inspect::{Depth, Places, SiteKey, WalkLimits};
use crate::report::{
    self, BootWindow, EvidenceKind, Finding, Frame, Goroutines, Level, Loss, Mode, Oldest, Report, Run,
    Selection, Site, Verdict,
};
use crate::stats::balance::chance;
use crate::targets::{Binaries, Subject, TargetError, Wanted, describe, wanted};
use crate::verdict::cause::{Code, Patterns, Start};
use crate::verdict::{Blame, Found, Standing, Wait, judge_standing};

/// Number of glances between two looks that make growth plain: they cut the time into as many parts, and one more.
pub const GLANCES: u32 = 15;
/// A site is watched whose growth chance would bring about more rarely than this.
const CHANCE: f64 = 1.0 / 64.0;

/// Looks at every process that is wanted, once or several times.
pub struct Sweep<'a> {
    wanted: &'a Wanted,
    patterns: &'a Patterns,
    binaries: Binaries,
    start_ns: u64,
    /// What the last look found, process by process.
    seen: Vec<Seen>,
    untraced: Vec<report::Process>,
    forbidden: u64,
}

/// Identifies a process: another one that gets the same id later has another start time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ProcessKey {
    pid: u32,
    start_ticks: u64,
}

/// A process, and what one look found in it.
struct Seen {
    subject: Subject,
    scan: report::Scan,
    states: report::States,
    places: Places,
    sites: HashMap<SiteKey, SiteFindings>,
    /// Whom to blame for the sites, and the number that each of them has there.
    blame: (Blame, HashMap<SiteKey, usize>),
    /// Who was there at this look, at those before it, and at the glances.
    sightings: Sightings,
    /// How long before this look the one before it was, in ns; none if this is the first.
    ago_ns: Option<u64>,
    at: Instant,
}

impl<'a> Sweep<'a> {
    /// A sweep over the processes that are wanted. The window of its report begins now. `patterns` are the user's own.
    pub fn new(wanted: &'a Wanted, patterns: &'a Patterns) -> Sweep<'a> {
        Sweep {
            wanted,
            patterns,
            binaries: Binaries::default(),
            start_ns: now_ns(),
            seen: Vec::new(),
            untraced: Vec::new(),
            forbidden: 0,
        }
    }

    /// Looks at all processes, and compares them with what the look before has found.
    ///
    /// # Errors
    /// `/proc` cannot be listed, or a process that was named by its id does not exist or cannot be looked into.
    pub fn look(&mut self) -> Result<(), TargetError> {
        self.untraced.clear();
        self.forbidden = 0;
        let mut before: HashMap<ProcessKey, Seen> =
            std::mem::take(&mut self.seen).into_iter().map(|seen| (seen.key(), seen)).collect();
        let pids = process::all().map_err(|source| TargetError::File { path: "/proc".into(), source })?;
        for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
            let is_named = self.wanted.names_pid(pid);
            if !is_named && !self.is_wanted(pid) {
                continue;
            }
            match self.look_at(pid, &mut before) {
                Ok(seen) => self.seen.push(seen),
                Err(error) if is_named => return Err(error),
                Err(error) if error.is_not_go() => {}
                Err(error) if error.is_permission() => self.forbidden += 1,
                Err(error) => self.untraced.push(describe::unsupported(pid, &error)),
            }
        }
        let is_missing = |pid: &&u32| self.seen.iter().all(|seen| seen.subject.process.pid != **pid);
        match self.wanted.pids.iter().find(is_missing) {
            Some(pid) => Err(ProcessError::NoSuchProcess(*pid).into()),
            None => Ok(()),
        }
    }

    /// Sees who is there in the processes that the last look has found, and nothing more. What cannot be seen whole, as
    /// of a process that has ended, is left out.
    pub fn glance(&mut self) {
        for seen in &mut self.seen {
            let limits = WalkLimits { time: MOST_TIME, ..WalkLimits::default() };
            match seen.subject.scan(limits, Depth::States) {
                Ok(snapshot) if snapshot.cut_short.is_none() && snapshot.unreadable == 0 => {
                    seen.sightings.add(&snapshot);
                }
                _ => {}
            }
        }
    }

    /// Number of processes that this user may not look into. It is not known whether they are Go programs.
    pub fn forbidden(&self) -> u64 {
        self.forbidden
    }

    /// What the last look found, as a report of processes with the mode `scanned`.
    pub fn report(&self, selection: &Selection) -> Report {
        let run = Run {
            tool: describe::tool(),
            window: BootWindow { start_ns: self.start_ns, end_ns: now_ns(), end: SystemTime::now() },
            overhead: report::Overhead::default(),
            untraced: self.untraced.clone(),
        };
        let processes = self.seen.iter().map(|seen| seen.report(self.patterns, selection)).collect();
        run.report(Loss::default(), processes, selection)
    }

    /// Whether the selectors match the process, and it may be a Go program.
    fn is_wanted(&mut self, pid: u32) -> bool {
        match self.wanted.find(pid, &mut self.binaries, wanted::Search::Libraries) {
            Ok(file) => file.is_some(),
            Err(error) => {
                self.forbidden += u64::from(matches!(error, ProcessError::Permission { .. }));
                false
            }
        }
    }

    fn look_at(&mut self, pid: u32, before: &mut HashMap<ProcessKey, Seen>) -> Result<Seen, TargetError> {
        let subject = self.binaries.subject(pid)?;
        let key = ProcessKey { pid, start_ticks: subject.process.start_ticks };
        // After an exec the process has the same id and start time, but its goroutine ids mean other goroutines.
        let before = before.remove(&key).filter(|before| before.subject.binary.is_same_file(&subject.binary));
        self.untraced.extend(subject.other_runtimes().map(|other| report::Process {
            mode: Mode::Unsupported,
            detail: Some(other.to_string()),
            ..subject.describe()
        }));
        let at = Instant::now();
        let look = Look::at(&subject, before.as_ref().map(|before| &before.places), at + MOST_TIME)?;
        let blame = creators::blame(&look.snapshot, &look.seen, &subject.binary);
        let ago_ns = before.as_ref().map(|before| at.duration_since(before.at).as_nanos() as u64);
        let mut sightings = before.map(|before| before.sightings).unwrap_or_default();
        sightings.add(&look.snapshot);
        let Findings { sites, places, scan, states, .. } = look.findings;
        Ok(Seen { sites, blame, scan, states, places, sightings, ago_ns, at, subject })
    }
}

impl Seen {
    fn key(&self) -> ProcessKey {
        ProcessKey { pid: self.subject.process.pid, start_ticks: self.subject.process.start_ticks }
    }

    fn report(&self, patterns: &Patterns, selection: &Selection) -> report::Process {
        let binary = &self.subject.binary;
        let module = binary.module();
        let code = Code { module, patterns, methods: binary.ending_methods() };
        let (tallies, all_gone) = (self.sightings.tallies(), SiteFindings::default());
        let site = |(key, tally)| self.site(key, self.sites.get(&key).unwrap_or(&all_gone), &tally, code);
        let mut sites: Vec<Site> = tallies.into_iter().map(site).collect();
        let goroutines = Goroutines { states: Some(self.states), ..Goroutines::of(&sites) };
        sites.retain(|site| !site.system || selection.include_system);
        sites.iter_mut().for_each(|site| selection.silence(site));
        let detail = if self.scan.cut_short {
            "too many goroutines to look at all of them in time"
        } else {
            "memory read, no probes"
        };
        report::Process {
            mode: Mode::Scanned,
            detail: Some(detail.into()),
            scan: Some(self.scan),
            goroutines,
            findings: sites.iter().enumerate().filter_map(|(at, site)| Finding::alone(at, site)).collect(),
            sites,
            ..self.subject.describe()
        }
    }

    /// A site as a report has it. Those that the first look has seen were there from the start, and those that only a
    /// later look or a glance has seen were created in between. More may have come and gone unseen.
    fn site(&self, key: SiteKey, found: &SiteFindings, tally: &Tally, code: Code) -> Site {
        let SiteFindings { waits, waiting, judged, labels } = found;
        let binary = &self.subject.binary;
        let since_first = self.ago_ns.filter(|_| tally.remained > 0);
        let age_ns = waits.longest_wait_ns.max(since_first);
        let site = frame_of(key.gopc, binary.go_statement(key.gopc));
        let (blame, numbers) = &self.blame;
        let number = numbers.get(&key).copied();
        let blamed = number.and_then(|number| blame.told(number));
        let start = Start { statement: Some(&site), blamed, ..Start::default() };
        let verdict = self.judge(judged, code, start, waits.live, tally);
        let number = number.filter(|_| !is_of_program(&site.function, code.module));
        Site {
            site,
            ordinal: binary.go_ordinal(key.gopc),
            blame: number.map(|number| blame.lines(number)),
            blame_unknown: number.map(|number| blame.unknown(number, waits.live)),
            dependencies: number.map(|number| blame.dependencies(number)).unwrap_or_default(),
            entry: frame_of(key.startpc, binary.entry_function(key.startpc)),
            created: tally.came,
            exited: tally.went,
            live: waits.live,
            at_attach: tally.at_first,
            oldest: age_ns.map(|age_ns| Oldest { age_ns, at_least: true }),
            stack_bytes: Some(waits.stack_bytes),
            waiting: Some(waiting.clone()),
            labels: Some(labels.clone()),
            verdict,
            peak_live: waits.live.max(tally.at_first),
            system: binary.is_system(key.startpc),
            ..Site::default()
        }
    }

    /// Judges a site by what its goroutines do, and by whether they become more.
    fn judge(&self, waits: &[Wait], code: Code, start: Start, live: u64, tally: &Tally) -> Verdict {
        let standing = Standing { window_ns: self.ago_ns.unwrap_or(0), live, waits, code, start };
        let growth = self.ago_ns.filter(|_| !self.scan.cut_short).and_then(|time_ns| growth(tally, time_ns));
        judge_standing(&standing, growth.into_iter().collect())
    }
}

/// The finding that within this time, in ns, more came to stay than left, again and again.
fn growth(tally: &Tally, time_ns: u64) -> Option<Found> {
    let (up, down) = tally.up_and_down();
    if tally.stayed <= tally.left || chance(up, down) > CHANCE {
        return None;
    }
    let of_before = match (tally.at_first - tally.remained, tally.at_first) {
        (_, 0) => String::new(),
        (0, _) => ", none of those of before is gone".into(),
        (gone, all) => format!(", {} of the {} of before are gone", count(gone), count(all)),
    };
    let (stayed, time, parts) = (count(tally.stayed), duration(time_ns), tally.parts);
    let fewer = if down > 0 { format!(", fewer in {down}") } else { String::new() };
    let text = format!(
        "{stayed} came within {time} and stayed{of_before}: in {up} of {parts} parts of that time more stayed than went{fewer}"
    );
    Some(Found::new(Level::Watch, EvidenceKind::Growth, text))
}

fn frame_of(address: u64, frame: Option<go::CodeFrame>) -> Frame {
    frame.map_or_else(|| Frame::unnamed(address), |frame| Frame::from(&frame))
}
