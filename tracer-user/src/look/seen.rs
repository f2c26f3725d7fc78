//! A process as several looks in a row have seen it, without probes: what its goroutines do at the last one, who came and
//! who went. It is shared by those who look at all processes twice, and those who look at some again and again.

use std::collections::HashMap;
use std::time::Instant;

use super::later::Later;
use super::sightings::{Sightings, Tally};
use super::{Findings, Look, MOST_TIME, SiteFindings, creators};
use crate::go;
use crate::go::standard::is_of_program;
use crate::host::RunningProcess;
use crate::human::{count, duration};
use crate::inspect::{Depth, Places, SiteKey, WalkError, WalkLimits};
use crate::report::{
    self, Evidence, EvidenceKind, Finding, Frame, Goroutines, Level, Mode, Oldest, Selection, Site, Verdict,
};
use crate::stats::balance::chance;
use crate::targets::Subject;
use crate::verdict::cause::{Code, Patterns, Start};
use crate::verdict::{Blame, Found, Standing, judge_standing};

/// A site is watched whose growth chance would bring about more rarely than this.
const CHANCE: f64 = 1.0 / 64.0;

/// Identifies a process: another one that gets the same id later has another start time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProcessKey {
    pid: u32,
    start_ticks: u64,
}

/// A process, and what one look found in it.
pub(super) struct Seen {
    /// The process.
    pub(super) subject: Subject,
    scan: report::Scan,
    states: report::States,
    places: Places,
    sites: HashMap<SiteKey, SiteFindings>,
    /// Whom to blame for the sites, and the number that each of them has there.
    blame: (Blame, HashMap<SiteKey, usize>),
    /// Who was there at this look, at those before it, and at the glances.
    sightings: Sightings,
    /// The same since later begins, for who is looked at from the start on.
    later: Option<Later>,
    first: Instant,
    at: Instant,
}

impl ProcessKey {
    pub(super) fn of(process: &RunningProcess) -> ProcessKey {
        ProcessKey { pid: process.pid, start_ticks: process.start_ticks }
    }
}

/// Further runtimes of a process, which are not looked at, as a report has them.
pub(super) fn others(subject: &Subject) -> impl Iterator<Item = report::Process> + '_ {
    subject.other_runtimes().map(|other| report::Process {
        mode: Mode::Unsupported,
        detail: Some(other.to_string()),
        ..subject.describe()
    })
}

impl Seen {
    /// Looks at a process, and compares it with what the look before has found in the same one. That is used up, unless the
    /// look fails.
    ///
    /// # Errors
    /// The goroutines cannot be listed: see [`WalkError`].
    pub(super) fn at(subject: Subject, before: Option<&mut Seen>) -> Result<Seen, WalkError> {
        let at = Instant::now();
        let look = Look::at(&subject, before.as_ref().map(|before| &before.places), at + MOST_TIME)?;
        let blame = creators::blame(&look.snapshot, &look.seen, &subject.binary);
        let first = before.as_ref().map_or(at, |before| before.first);
        let (mut sightings, mut later) = before
            .map(|before| (std::mem::take(&mut before.sightings), before.later.take()))
            .unwrap_or_default();
        sightings.add(&look.snapshot, at);
        if let Some(later) = &mut later {
            later.add(&look.snapshot, at);
        }
        let Findings { sites, places, scan, states, .. } = look.findings;
        Ok(Seen { sites, blame, scan, states, places, sightings, later, first, at, subject })
    }

    /// Judges growth by the later part of the time alone from now on: see [`Later`].
    pub(super) fn with_later_begins(self) -> Seen {
        Seen { later: Some(Later::new(self.at)), ..self }
    }

    /// Sees who is there, and nothing more. What cannot be seen whole is left out.
    pub(super) fn glance(&mut self) {
        let limits = WalkLimits { time: MOST_TIME, ..WalkLimits::default() };
        match self.subject.scan(limits, Depth::States) {
            Ok(snapshot) if snapshot.cut_short.is_none() && snapshot.unreadable == 0 => {
                let now = Instant::now();
                self.sightings.add(&snapshot, now);
                if let Some(later) = &mut self.later {
                    later.add(&snapshot, now);
                }
            }
            _ => {}
        }
    }

    pub(super) fn key(&self) -> ProcessKey {
        ProcessKey::of(&self.subject.process)
    }

    /// When the last look began.
    pub(super) fn at_time(&self) -> Instant {
        self.at
    }

    /// Takes the last look for the first from now on. How long the living have been seen is kept.
    pub(super) fn begin_anew(&mut self) {
        self.sightings.begin_anew();
        self.first = self.at;
    }

    /// Forgets what only a further look would need.
    pub(super) fn conclude(&mut self) {
        self.places = Places::default();
    }

    /// What the last look has found, as a report has it.
    pub(super) fn report(&self, patterns: &Patterns, selection: &Selection) -> report::Process {
        let binary = &self.subject.binary;
        let module = binary.module();
        let code = Code { module, patterns, methods: binary.ending_methods() };
        let (tallies, all_gone) = (self.sightings.tallies(), SiteFindings::default());
        let grown = self.grown();
        let site = |(key, tally)| {
            let growth = grown.get(&key).cloned();
            self.site(key, self.sites.get(&key).unwrap_or(&all_gone), &tally, growth, code)
        };
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
    fn site(
        &self,
        key: SiteKey,
        found: &SiteFindings,
        tally: &Tally,
        growth: Option<Found>,
        code: Code,
    ) -> Site {
        let SiteFindings { waits, waiting, judged, labels } = found;
        // A glance may have seen more of them than the last look, or that they are gone.
        let live = (tally.at_first + tally.came).saturating_sub(tally.went);
        let binary = &self.subject.binary;
        let seen_for = self.sightings.seen_for(tally, self.at).map(|seen| seen.as_nanos() as u64);
        let age_ns = waits.longest_wait_ns.max(seen_for.filter(|seen_ns| *seen_ns > 0));
        let site = frame_of(key.gopc, binary.go_statement(key.gopc));
        let (blame, numbers) = &self.blame;
        let number = numbers.get(&key).copied();
        let blamed = number.and_then(|number| blame.told(number));
        let start = Start { statement: Some(&site), blamed, ..Start::default() };
        let standing = Standing {
            window_ns: self.since_first_ns().unwrap_or(0),
            live: waits.live,
            waits: judged,
            code,
            start,
        };
        let verdict = match live {
            0 if tally.went > 0 => all_ended(tally.went),
            _ => judge_standing(&standing, growth.into_iter().collect()),
        };
        let number = number.filter(|_| !is_of_program(&site.function, code.module));
        Site {
            site,
            ordinal: binary.go_ordinal(key.gopc),
            blame: number.map(|number| blame.lines(number)),
            blame_unknown: number.map(|number| blame.unknown(number, live)),
            dependencies: number.map(|number| blame.dependencies(number)).unwrap_or_default(),
            entry: frame_of(key.startpc, binary.entry_function(key.startpc)),
            created: tally.came,
            exited: tally.went,
            live,
            at_attach: tally.at_first,
            oldest: age_ns.map(|age_ns| Oldest { age_ns, at_least: true }),
            stack_bytes: Some(waits.stack_bytes),
            waiting: Some(if live == 0 { Vec::new() } else { waiting.clone() }),
            labels: Some(labels.clone()),
            verdict,
            peak_live: live.max(tally.at_first),
            system: binary.is_system(key.startpc),
            ..Site::default()
        }
    }

    /// How long the first look was before the last, in ns; `None` if there was but one.
    fn since_first_ns(&self) -> Option<u64> {
        let since_ns = self.at.duration_since(self.first).as_nanos() as u64;
        Some(since_ns).filter(|&since_ns| since_ns > 0)
    }

    /// The sites of which more came to stay than left.
    fn grown(&self) -> HashMap<SiteKey, Found> {
        let (tallies, time_ns) = match &self.later {
            Some(later) => (later.tallies(), Some(later.span().as_nanos() as u64)),
            None => (self.sightings.tallies(), self.since_first_ns()),
        };
        let Some(time_ns) = time_ns.filter(|_| !self.scan.cut_short) else { return HashMap::new() };
        tallies.iter().filter_map(|(key, tally)| Some((*key, growth(tally, time_ns)?))).collect()
    }
}

/// The verdict on a site of which all that were ever seen are gone.
fn all_ended(went: u64) -> Verdict {
    let text = format!("all {} that were seen have ended", count(went));
    let evidence = vec![Evidence::new(EvidenceKind::Ended, text)];
    Verdict { level: Level::Healthy, evidence, ..Verdict::default() }
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
