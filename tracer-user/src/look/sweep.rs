//! A sweep looks at every Go process of the host from outside, without probes and without anything that the processes
//! could notice.
//!
//! One look tells what there is. Two looks tell what came, what went, and what has not moved in between. But two points
//! are no trend, so a site that grows is watched at most, never suspect.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use super::creators;
use super::{Findings, Look, MOST_TIME, SiteFindings};
use crate::go;
use crate::go::standard::is_of_program;
use crate::host::clock::now_ns;
use crate::host::{ProcessError, process};
use crate::human::{count, duration};
use crate::inspect::{Places, SiteKey};
use crate::report::{
    self, BootWindow, EvidenceKind, Finding, Frame, Goroutines, Level, Loss, Mode, Oldest, Report, Run,
    Selection, Site, Verdict,
};
use crate::targets::{Binaries, Subject, TargetError, Wanted, describe, wanted};
use crate::verdict::cause::{Code, Patterns, Start};
use crate::verdict::{Blame, Found, Standing, Wait, judge_standing};

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
    /// What the look before this one found in the same process.
    before: Option<Before>,
    at: Instant,
}

/// What is kept of an earlier look.
struct Before {
    /// Number of living goroutines of each site.
    live: HashMap<SiteKey, u64>,
    /// How long before this look that was, in ns.
    ago_ns: u64,
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
        let before: HashMap<ProcessKey, Seen> =
            std::mem::take(&mut self.seen).into_iter().map(|seen| (seen.key(), seen)).collect();
        let pids = process::all().map_err(|source| TargetError::File { path: "/proc".into(), source })?;
        for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
            let is_named = self.wanted.names_pid(pid);
            if !is_named && !self.is_wanted(pid) {
                continue;
            }
            match self.look_at(pid, &before) {
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

    fn look_at(&mut self, pid: u32, before: &HashMap<ProcessKey, Seen>) -> Result<Seen, TargetError> {
        let subject = self.binaries.subject(pid)?;
        let key = ProcessKey { pid, start_ticks: subject.process.start_ticks };
        // After an exec the process has the same id and start time, but its goroutine ids mean other goroutines.
        let before = before.get(&key).filter(|before| before.subject.binary.is_same_file(&subject.binary));
        self.untraced.extend(subject.other_runtimes().map(|other| report::Process {
            mode: Mode::Unsupported,
            detail: Some(other.to_string()),
            ..subject.describe()
        }));
        let at = Instant::now();
        let look = Look::at(&subject, before.map(|before| &before.places), at + MOST_TIME)?;
        let blame = creators::blame(&look.snapshot, &look.seen, &subject.binary);
        let Findings { sites, places, scan, states, .. } = look.findings;
        let before = before.map(|before| Before {
            live: before.sites.iter().map(|(key, site)| (*key, site.waits.live)).collect(),
            ago_ns: at.duration_since(before.at).as_nanos() as u64,
        });
        Ok(Seen { sites, blame, scan, states, places, before, at, subject })
    }
}

impl Seen {
    fn key(&self) -> ProcessKey {
        ProcessKey { pid: self.subject.process.pid, start_ticks: self.subject.process.start_ticks }
    }

    fn report(&self, patterns: &Patterns, selection: &Selection) -> report::Process {
        let binary = &self.subject.binary;
        let module = binary.build_info().module.as_deref();
        let code = Code { module, patterns, methods: binary.ending_methods() };
        let mut sites: Vec<Site> =
            self.sites.iter().map(|(key, found)| self.site(*key, found, code)).collect();
        let goroutines = Goroutines { states: Some(self.states), ..Goroutines::of(&sites) };
        sites.retain(|site| !site.system || selection.include_system);
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

    /// A site as a report has it. After one look, all goroutines count as there from the start. After two, those that
    /// only the second look found were created in between.
    fn site(&self, key: SiteKey, findings: &SiteFindings, code: Code) -> Site {
        let SiteFindings { waits: found, waiting, judged, labels } = findings;
        let binary = &self.subject.binary;
        let created = found.new.unwrap_or(0);
        let at_first =
            self.before.as_ref().map_or(found.live, |before| before.live.get(&key).copied().unwrap_or(0));
        let exited = (at_first + created).saturating_sub(found.live);
        let ago_ns = self.before.as_ref().map(|before| before.ago_ns).filter(|_| found.live > created);
        let age_ns = found.longest_wait_ns.max(ago_ns);
        let site = frame_of(key.gopc, binary.go_statement(key.gopc));
        let (blame, numbers) = &self.blame;
        let number = numbers.get(&key).copied();
        let blamed = number.and_then(|number| blame.told(number));
        let start = Start { statement: Some(&site), blamed, ..Start::default() };
        let verdict = self.judge(judged, code, start, found.live, at_first, exited);
        let number = number.filter(|_| !is_of_program(&site.function, code.module));
        Site {
            site,
            blame: number.map(|number| blame.lines(number)),
            blame_unknown: number.map(|number| blame.unknown(number, found.live)),
            dependencies: number.map(|number| blame.dependencies(number)).unwrap_or_default(),
            entry: frame_of(key.startpc, binary.entry_function(key.startpc)),
            created,
            exited,
            live: found.live,
            at_attach: at_first,
            oldest: age_ns.map(|age_ns| Oldest { age_ns, at_least: true }),
            stack_bytes: Some(found.stack_bytes),
            waiting: Some(waiting.clone()),
            labels: Some(labels.clone()),
            verdict,
            peak_live: found.live.max(at_first),
            system: binary.is_system(key.startpc),
            ..Site::default()
        }
    }

    /// Judges a site. Growth between two looks is worth a watch only, since two points are no trend.
    fn judge(
        &self,
        waits: &[Wait],
        code: Code,
        start: Start,
        live: u64,
        at_first: u64,
        exited: u64,
    ) -> Verdict {
        let ago_ns = self.before.as_ref().map(|before| before.ago_ns);
        let standing = Standing { window_ns: ago_ns.unwrap_or(0), live, waits, code, start };
        let grew = ago_ns.filter(|_| live > at_first && exited == 0 && !self.scan.cut_short);
        let growth = grew.map(|time| {
            let text =
                format!("live grew by {} in {}, and none ended", count(live - at_first), duration(time));
            Found::new(Level::Watch, EvidenceKind::Growth, text)
        });
        judge_standing(&standing, growth.into_iter().collect())
    }
}

fn frame_of(address: u64, frame: Option<go::CodeFrame>) -> Frame {
    frame.map_or_else(|| Frame::unnamed(address), |frame| Frame::from(&frame))
}
