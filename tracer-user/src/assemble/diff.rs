//! Compares two reports, `go` statement by `go` statement.
//!
//! A statement is the same one in both if program, function and number among the statements of the function are the same, so
//! that moved lines change nothing; where the number is not known in one of them, it is the line that tells. A statement that is
//! added before others of its function moves those on.
//!
//! Created goroutines are compared as counts over the time that the processes were watched, or over the processes where all were
//! seen from start to end, living ones as counts over the processes, lifetimes by their ranks; see [`crate::stats::compare`].
//! Creations come in bursts more often than chance has it, so a difference counts only if it is a large one, too, and what is
//! rare by chance has to be rarer the more is tested (Bonferroni). Loads that differ make differences that are none of the
//! program's. How many are created and how long they live is also the work's and the machine's doing: one and the same command
//! has created 1.9 times as many from one run to the next. So that alone is neither worse nor better.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use crate::report::{
    Cause, Change, Changes, Compared, DIFF_SCHEMA, Diff, Difference, Frame, Level, Measure, Mode, Process,
    Report, Seen, Site, SiteDiff,
};
use crate::stats::durations::HdrError;
use crate::stats::{Durations, compare};

/// How rarely chance may bring about any significant difference at all.
const CHANCE: f64 = 0.01;
/// From how many times as many on a difference is a large one.
const LARGE: f64 = 1.5;
/// From which share of pairs on lifetimes are longer by much.
const LONGER: f64 = 0.6;
/// By how much medians of lifetimes in ns differ at least where they differ by much: a busy machine makes lives longer by some
/// milliseconds, and short ones many times as long.
const NOTICED_NS: u64 = 10_000_000;

/// Two reports that are compared, to which the sites are added one by one.
pub struct Comparison<'a> {
    reports: [&'a Report; 2],
    /// The modules of which a report has several executables.
    several: HashSet<&'a str>,
    /// For each report and process the most goroutines that a site has created, and the seconds in which it did so.
    watched: [Vec<(u64, f64)>; 2],
    /// For each program and function the statements in the old report and in the new one.
    functions: BTreeMap<(Option<String>, String), [Vec<Statement>; 2]>,
    unnamed: [u64; 2],
    /// How many sites were added.
    added: [u64; 2],
}

/// A statement in one report, with all functions that it starts, in all processes of a program.
#[derive(Clone, Debug, Default)]
struct Statement {
    site: Frame,
    ordinal: Option<u32>,
    level: Level,
    cause: Option<Cause>,
    /// Whether a part of it is neither ignored nor known.
    counts: bool,
    created: u64,
    live: u64,
    lifetimes: Durations,
}

/// How much of a program was watched in one report.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    processes: u64,
    /// For how many seconds, all processes together; `None` if creations of one were not all seen.
    seconds: Option<f64>,
    /// Whether all of them were seen from their start to their end.
    whole: bool,
}

impl Watched {
    /// What creations are counted over in both reports: processes, where all were seen whole, since one that is done sooner has
    /// not created more; else seconds. `None` where creations were not all seen.
    fn spans(both: [Watched; 2]) -> Option<[f64; 2]> {
        let [Some(before), Some(now)] = both.map(|watched| watched.seconds) else { return None };
        let is_whole = both.iter().all(|watched| watched.whole);
        Some(if is_whole { both.map(|watched| watched.processes as f64) } else { [before, now] })
    }
}

impl<'a> Comparison<'a> {
    /// The comparison of an old report with a new one. Sites that are in them are not looked at: they are to be added.
    pub fn of(reports: [&'a Report; 2]) -> Comparison<'a> {
        let mut several = HashSet::new();
        for report in reports {
            let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for process in &report.processes {
                if let (Some(module), Some(name)) = (module(process), file_name(process)) {
                    names.entry(module).or_default().insert(name);
                }
            }
            several.extend(names.into_iter().filter(|(_, names)| names.len() > 1).map(|(module, _)| module));
        }
        let watched = reports.map(|report| {
            let window_s = report.window.duration_ns as f64 / 1e9;
            vec![(0, window_s); report.processes.len()]
        });
        Comparison { reports, several, watched, functions: BTreeMap::new(), unnamed: [0, 0], added: [0, 0] }
    }

    /// Adds a site of the old report (0) or the new one (1) and of a process in it, by its number.
    ///
    /// # Errors
    /// The lifetimes of the site cannot be decoded: see [`HdrError`].
    pub fn add(&mut self, side: usize, process: usize, site: &Site) -> Result<(), HdrError> {
        let Some(of) = self.reports[side].processes.get(process) else { return Ok(()) };
        self.added[side] += 1;
        if site.other {
            self.unnamed[side] += 1;
            return Ok(());
        }
        let watched = &mut self.watched[side][process];
        // Rates are rounded, which matters least where most were created.
        if let Some(rate) = site.created_per_s.filter(|rate| *rate > 0.0 && site.created > watched.0) {
            *watched = (site.created, site.created as f64 / rate);
        }
        let key = (self.program(of), site.site.function.clone());
        let statements = &mut self.functions.entry(key).or_default()[side];
        let is_same = |known: &Statement| match (known.ordinal, site.ordinal) {
            (None, None) => known.site.line == site.site.line,
            (known, ordinal) => known == ordinal,
        };
        let at = statements.iter().position(is_same).unwrap_or(statements.len());
        if at == statements.len() {
            statements.push(Statement {
                site: site.site.clone(),
                ordinal: site.ordinal,
                ..Statement::default()
            });
        }
        statements[at].add(site)
    }

    /// The program that a process runs: the same one in both reports.
    fn program(&self, process: &Process) -> Option<String> {
        match (module(process), file_name(process)) {
            (Some(module), Some(name)) if self.several.contains(module) => Some(format!("{module} ({name})")),
            (Some(module), _) => Some(module.to_owned()),
            (None, _) => process.exe.clone(),
        }
    }

    /// How much of each program was watched in one of the reports.
    fn watched(&self, side: usize) -> BTreeMap<Option<String>, Watched> {
        let mut programs: BTreeMap<Option<String>, Watched> = BTreeMap::new();
        for (process, (_, seconds)) in self.reports[side].processes.iter().zip(&self.watched[side]) {
            if process.mode == Mode::Unsupported {
                continue;
            }
            let seconds = Some(*seconds).filter(|_| process.mode != Mode::Scanned);
            let is_whole = process.goroutines.at_attach == Some(0) && process.ended.is_some();
            let nothing = Watched { processes: 0, seconds: Some(0.0), whole: true };
            let sum = programs.entry(self.program(process)).or_insert(nothing);
            sum.processes += 1;
            sum.whole &= is_whole;
            sum.seconds = sum.seconds.zip(seconds).map(|(sum, seconds)| sum + seconds);
        }
        programs
    }

    /// What has changed. `paths` are what the two reports are called.
    pub fn finish(mut self, paths: [String; 2]) -> Diff {
        let [old_watched, new_watched] = [0, 1].map(|side| self.watched(side));
        let mut sites = Vec::new();
        for ((program, _), [old, new]) in std::mem::take(&mut self.functions) {
            let watched = [&old_watched, &new_watched].map(|watched| watched.get(&program).copied());
            let pairs = pairs(old, new).into_iter();
            sites.extend(pairs.map(|pair| compared(program.clone(), pair, watched)));
        }
        let is_test = |difference: &&Difference| difference.p.is_some();
        let tests = sites.iter().flat_map(|site| &site.differences).filter(is_test).count() as u64;
        let most = CHANCE / tests.max(1) as f64;
        for difference in sites.iter_mut().flat_map(|site| &mut site.differences) {
            difference.significant &= difference.p.is_none_or(|p| p < most);
        }
        let mut summary = Changes::default();
        sites.retain_mut(|site| decide(site, &mut summary));
        let rank = |site: &SiteDiff| {
            let seen = site.new.as_ref().or(site.old.as_ref());
            let worst = seen.map(|seen| (seen.level, seen.live)).unwrap_or_default();
            (!site.regression, site.change, Reverse(worst), site.site.clone())
        };
        sites.sort_by_cached_key(rank);
        let [old, new] = [0, 1].map(|side| {
            let (report, path) = (self.reports[side], paths[side].clone());
            let is_seen = |process: &&Process| process.mode != Mode::Unsupported;
            Compared {
                path,
                start: report.window.start.clone(),
                duration_ns: report.window.duration_ns,
                processes: report.processes.iter().filter(is_seen).count() as u64,
                unnamed: self.unnamed[side],
                hidden: report.summary.sites.saturating_sub(self.added[side]),
            }
        });
        Diff { schema: DIFF_SCHEMA.into(), old, new, summary, chance: CHANCE, tests, sites }
    }
}

fn module(process: &Process) -> Option<&str> {
    process.go.as_ref().and_then(|go| go.module.as_deref())
}

fn file_name(process: &Process) -> Option<&str> {
    let exe = process.exe.as_deref()?;
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    Path::new(exe).file_name().and_then(|name| name.to_str())
}

impl Statement {
    fn add(&mut self, site: &Site) -> Result<(), HdrError> {
        if site.verdict.level >= self.level {
            (self.level, self.cause) = (site.verdict.level, site.verdict.cause.or(self.cause));
        }
        self.counts |= !site.is_silenced();
        self.created = self.created.saturating_add(site.created);
        self.live = self.live.saturating_add(site.live);
        if let Some(lifetime) = &site.lifetime {
            self.lifetimes.merge(&lifetime.durations()?);
        }
        Ok(())
    }

    fn seen(&self, watched: Option<Watched>) -> Seen {
        let seconds = watched.and_then(|watched| watched.seconds).filter(|seconds| *seconds > 0.0);
        Seen {
            level: self.level,
            cause: self.cause,
            silenced: !self.counts,
            created: self.created,
            created_per_s: seconds.map(|seconds| (self.created as f64 / seconds * 1e6).round() / 1e6),
            live: self.live,
            p50_ns: self.lifetimes.quantile(0.5),
        }
    }
}

/// The statements of a function in the old report with those in the new one.
fn pairs(old: Vec<Statement>, mut new: Vec<Statement>) -> Vec<(Option<Statement>, Option<Statement>)> {
    let mut pairs = Vec::new();
    let by_ordinal = |a: &Statement, b: &Statement| a.ordinal.is_some() && a.ordinal == b.ordinal;
    let by_line = |a: &Statement, b: &Statement| {
        (a.ordinal.is_none() || b.ordinal.is_none()) && a.site.line == b.site.line
    };
    let mut take = |old: Statement, is_same: &dyn Fn(&Statement, &Statement) -> bool| match new
        .iter()
        .position(|new| is_same(&old, new))
    {
        Some(at) => {
            pairs.push((Some(old), Some(new.swap_remove(at))));
            None
        }
        None => Some(old),
    };
    let rest: Vec<_> = old.into_iter().filter_map(|old| take(old, &by_ordinal)).collect();
    let gone: Vec<_> = rest.into_iter().filter_map(|old| take(old, &by_line)).collect();
    pairs.extend(gone.into_iter().map(|old| (Some(old), None)));
    pairs.extend(new.into_iter().map(|new| (None, Some(new))));
    pairs
}

/// Compares what was seen of a statement. `significant` only says of each difference whether it is a large one, until it is
/// known how many there are; nor is the change known yet.
fn compared(
    program: Option<String>,
    (old, new): (Option<Statement>, Option<Statement>),
    watched: [Option<Watched>; 2],
) -> SiteDiff {
    let mut differences = Vec::new();
    let nothing = Statement::default();
    let (was, is) = (old.as_ref().unwrap_or(&nothing), new.as_ref().unwrap_or(&nothing));
    let is_told = was.level != Level::Unknown && is.level != Level::Unknown;
    if old.is_some() && new.is_some() && is_told && was.level != is.level {
        let worse = is.level > was.level;
        differences.push(Difference { measure: Measure::Verdict, worse, p: None, significant: true });
    }
    let counted = |measure, [was, is]: [u64; 2], [was_over, is_over]: [f64; 2]| {
        let p = compare::rates(was, was_over, is, is_over).filter(|_| was > 0 || is > 0)?;
        let (was, is) = (was as f64 / was_over, is as f64 / is_over);
        Some(Difference { measure, worse: is > was, p: Some(p), significant: is_large(was, is) })
    };
    if let [Some(before), Some(now)] = watched {
        let processes = [before, now].map(|watched| watched.processes as f64);
        differences.extend(counted(Measure::Live, [was.live, is.live], processes));
        let bins = |statement: &Statement| statement.lifetimes.bins().collect::<Vec<_>>();
        let [before_ns, now_ns] = [was, is].map(|of| of.lifetimes.quantile(0.5).unwrap_or(0));
        let is_large = is_large(before_ns as f64, now_ns as f64) && before_ns.abs_diff(now_ns) >= NOTICED_NS;
        differences.extend(compare::ranks(&bins(was), &bins(is)).map(|ranks| Difference {
            measure: Measure::Lifetime,
            worse: ranks.longer > 0.5,
            p: Some(ranks.p),
            significant: is_large && (ranks.longer >= LONGER || ranks.longer <= 1.0 - LONGER),
        }));
        let spans = Watched::spans([before, now]);
        differences
            .extend(spans.and_then(|spans| counted(Measure::Created, [was.created, is.created], spans)));
    }
    let is_whole = watched.iter().flatten().all(|watched| watched.whole);
    let named = new.as_ref().or(old.as_ref()).unwrap_or(&nothing);
    SiteDiff {
        change: if old.is_none() { Change::New } else { Change::Gone },
        regression: false,
        program,
        site: named.site.clone(),
        ordinal: named.ordinal,
        old: old.as_ref().map(|old| old.seen(watched[0].filter(|_| !is_whole))),
        new: new.as_ref().map(|new| new.seen(watched[1].filter(|_| !is_whole))),
        differences,
    }
}

/// Whether two numbers differ so much that it is worth a word.
fn is_large(was: f64, is: f64) -> bool {
    is >= was * LARGE || was >= is * LARGE
}

/// Decides what the change is, and counts it. False if there is none.
fn decide(site: &mut SiteDiff, summary: &mut Changes) -> bool {
    if site.old.is_some() && site.new.is_some() {
        // They are in the order of what they mean.
        let Some(first) = site.differences.iter().find(|difference| difference.significant) else {
            summary.same += 1;
            return false;
        };
        site.change = match first.measure {
            Measure::Lifetime | Measure::Created => Change::Changed,
            Measure::Verdict | Measure::Live if first.worse => Change::Worse,
            Measure::Verdict | Measure::Live => Change::Better,
        };
    }
    let level = site.new.as_ref().filter(|new| !new.silenced).map(|new| new.level);
    site.regression = match site.change {
        Change::Worse => level.is_some(),
        Change::New => level >= Some(Level::Watch),
        Change::Gone | Change::Better | Change::Changed => false,
    };
    *match site.change {
        Change::Worse => &mut summary.worse,
        Change::New => &mut summary.new,
        Change::Gone => &mut summary.gone,
        Change::Better => &mut summary.better,
        Change::Changed => &mut summary.changed,
    } += 1;
    summary.regressions += u64::from(site.regression);
    true
}

#[cfg(test)]
mod tests;
