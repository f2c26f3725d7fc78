//! What hosts say of a function's `go` statements becomes findings: one for each bug, not for each host.

pub mod points;
pub mod state;
mod statement;
pub mod together;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use golife::output::rules;
use golife::report::Cause;
use golife::stats::pooled::Leak;
use sha2::{Digest, Sha256};

pub use points::{Point, Points};

/// Ms of an hour.
const HOUR: f64 = 3_600_000.0;
/// Most samples of one life of a process from which its growth is told.
const SAMPLES: usize = 64;
/// Growth per hour that is added for ranking, so that what does not grow, or of which it is not known, has its place, too.
const STILL: f64 = 0.1;
/// The smallest stack that Go gives a goroutine, in bytes.
const SMALLEST_STACK: f64 = 2048.0;
/// Most hosts of a finding that are remembered.
const HOSTS: usize = 64;

/// When each service of each host was swept last, in ms since 1970, by (host, service).
pub type LastSweeps = HashMap<(String, String), i64>;

/// A bug, by all hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// See [`id`].
    pub id: String,
    /// Path of the program's module.
    pub module: Option<String>,
    /// The function with the `go` statement.
    pub function: String,
    /// Its source file, by the newest sweep.
    pub file: Option<String>,
    /// Its line, by the newest sweep.
    pub line: Option<i64>,
    /// Which `go` statement of the function it is.
    pub ordinal: Option<i64>,
    /// The service on most hosts.
    pub service: String,
    /// The cause, by its name in a report.
    pub cause: Option<String>,
    /// The frame that most go back to.
    pub blame: Option<String>,
    /// Whether a host has proven it.
    pub is_proven: bool,
    /// Number of hosts whose last sweep has it.
    pub hosts: u64,
    /// Number of goroutines on all of them.
    pub live: u64,
    /// Number on the median host.
    pub live_median: u64,
    /// Number on the host with the most.
    pub live_max: u64,
    /// Growth per hour on the median host; `None` where no host has two sweeps of one life of a process.
    pub growth_per_h: Option<f64>,
    /// Bytes of their stacks on all hosts that know it; `None` if no host does.
    pub bytes: Option<u64>,
    /// The version of the first sweep that has it.
    pub since_version: Option<String>,
    /// When it was first seen, in ms since 1970, within the sweeps that were asked for.
    pub first_ms: i64,
    /// When it was seen last.
    pub last_ms: i64,
    /// The host with the most, and one of its processes.
    pub example: (String, i64),
    /// The versions that have it.
    pub versions: BTreeSet<String>,
    /// Some of the hosts that have it.
    pub on: BTreeSet<String>,
}

impl Finding {
    /// What ends it, in general.
    pub fn advice(&self) -> &'static str {
        rules::rule(cause(self.cause.as_deref())).remedy
    }

    /// By how much it comes before others: bytes × growth × hosts, where each host counts as the median one does, so that a host
    /// with a huge count does not outrank a bug on many.
    pub fn rank(&self) -> f64 {
        let hosts = self.hosts as f64;
        let each = self.bytes.map_or(SMALLEST_STACK, |bytes| bytes as f64 / self.live.max(1) as f64);
        let bytes = each * self.live_median as f64 * hosts;
        bytes * (self.growth_per_h.unwrap_or(0.0).max(0.0) + STILL) * hosts
    }
}

/// The cause of this name in a report.
pub fn cause(name: Option<&str>) -> Option<Cause> {
    Cause::ALL.into_iter().find(|cause| Some(cause.name()) == name)
}

/// The id of a finding: the first 12 hexadecimal digits of SHA-256 over module, function, statement and cause, each in UTF-8, with
/// a zero byte between them. The statement is its ordinal in decimal digits, or, where no host knows it, `?` and the function that
/// its goroutines run. What is not known is empty.
pub fn id(module: Option<&str>, function: &str, statement: &str, cause: Option<&str>) -> String {
    let text = [module.unwrap_or_default(), function, statement, cause.unwrap_or_default()].join("\0");
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// What is known of one statement on one host, in the order of time.
#[derive(Clone, Debug)]
pub struct HostSeries<'a> {
    /// The host.
    pub host: &'a str,
    /// Its sweeps.
    pub points: Vec<&'a Point>,
}

/// A `go` statement, whether it leaks or not.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The findings of it, by their ids: what leaks in the last sweeps of its hosts.
    pub findings: Vec<Finding>,
    /// The name of the statement in an id.
    pub statement: String,
    /// All that was seen of it, in the order of time.
    pub points: Vec<Point>,
}

/// Judges the statements of one function. What hosts call suspect or proven is a finding; of others, `together` may say by all
/// hosts' series that they leak all the same.
pub fn of_function(
    points: Vec<Point>,
    last: &LastSweeps,
    together: &dyn Fn(&[HostSeries<'_>]) -> Option<Leak>,
) -> Vec<Seen> {
    let mut statements: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for (name, point) in statement::names(&points).into_iter().zip(points) {
        statements.entry(name).or_default().push(point);
    }
    let judged = statements.into_iter().map(|(statement, mut points)| {
        points.sort_by_key(|point| point.time_ms);
        let findings = findings(&statement, &points, last, together);
        Seen { findings, statement, points }
    });
    judged.collect()
}

fn findings(
    statement: &str,
    points: &[Point],
    last: &LastSweeps,
    together: &dyn Fn(&[HostSeries<'_>]) -> Option<Leak>,
) -> Vec<Finding> {
    let mut hosts: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    for point in points {
        hosts.entry(&point.host).or_default().push(point);
    }
    let series: Vec<HostSeries<'_>> =
        hosts.into_iter().map(|(host, points)| HostSeries { host, points }).collect();
    let is_last =
        |point: &Point| last.get(&(point.host.clone(), point.service.clone())) == Some(&point.time_ms);
    let mut now: Vec<&Point> = points.iter().filter(|point| is_last(point) && point.leaks()).collect();
    if now.is_empty()
        && let Some(leak) = together(&series)
    {
        // Of a leak on single hosts, the one is named that is sure.
        let is_its = |point: &Point| match leak {
            Leak::Everywhere { .. } => true,
            Leak::OnHosts { host, .. } => series.get(host).is_some_and(|series| series.host == point.host),
        };
        now = points.iter().filter(|point| is_last(point) && point.live > 0 && is_its(point)).collect();
    }
    // A cause that one host could not tell is that of the others.
    let is_told = |cause: &Option<String>| cause.as_deref().is_some_and(|cause| cause != Cause::Other.name());
    let usual =
        most(now.iter().filter(|point| is_told(&point.cause)).map(|point| point.cause.clone())).flatten();
    let cause_of = |point: &Point| match is_told(&point.cause) {
        true => point.cause.clone(),
        false => usual.clone().or_else(|| point.cause.clone()),
    };
    let mut by_cause: BTreeMap<Option<String>, Vec<&Point>> = BTreeMap::new();
    for point in now {
        by_cause.entry(cause_of(point)).or_default().push(point);
    }
    by_cause.into_iter().filter_map(|(cause, now)| finding(statement, cause, &now, points, &series)).collect()
}

fn finding(
    statement: &str,
    cause: Option<String>,
    now: &[&Point],
    all: &[Point],
    series: &[HostSeries<'_>],
) -> Option<Finding> {
    let mut live: BTreeMap<&str, u64> = BTreeMap::new();
    for point in now {
        let sum = live.entry(&point.host).or_default();
        *sum = sum.saturating_add(point.live);
    }
    let mut counts: Vec<u64> = live.values().copied().collect();
    counts.sort_unstable();
    let most_on = now.iter().max_by_key(|point| point.live)?;
    let newest = now.iter().max_by_key(|point| point.time_ms)?;
    let hers = series.iter().filter(|series| live.contains_key(series.host));
    let mut growth: Vec<f64> = hers.filter_map(|series| growth_per_h(&series.points)).collect();
    let mut bytes: Option<u64> = None;
    for more in now.iter().filter_map(|point| point.stack_bytes) {
        bytes = Some(bytes.unwrap_or(0).saturating_add(more));
    }
    let is_its = |point: &&Point| point.leaks() && (point.cause == cause || point.cause.is_none());
    let first = all.iter().find(is_its).unwrap_or(newest);
    let module = newest.module.clone();
    Some(Finding {
        id: id(module.as_deref(), &newest.function, statement, cause.as_deref()),
        module,
        function: newest.function.clone(),
        file: newest.file.clone(),
        line: newest.line,
        ordinal: statement.parse().ok(),
        service: most(now.iter().map(|point| point.service.clone()))?,
        blame: most(now.iter().filter_map(|point| point.blame.clone())),
        is_proven: now.iter().any(|point| point.level == "proven"),
        hosts: live.len() as u64,
        live: golife::human::sum(counts.iter().copied()),
        live_median: counts[(counts.len() - 1) / 2],
        live_max: counts[counts.len() - 1],
        growth_per_h: median(&mut growth),
        bytes,
        since_version: first.version.clone(),
        first_ms: first.time_ms,
        last_ms: newest.time_ms,
        example: (most_on.host.clone(), most_on.pid),
        versions: all.iter().filter(is_its).filter_map(|point| point.version.clone()).collect(),
        on: live.keys().take(HOSTS).map(|host| (*host).to_owned()).collect(),
        cause,
    })
}

/// What stays the same in one life of a process: service, version, number of processes, and when the youngest started, or which
/// process it is.
type Life<'a> = (&'a str, Option<&'a str>, i64, Option<i64>);

/// The median change per hour between any two sweeps of one life of a process (Theil and Sen). Sweeps belong to one life while
/// build and number of processes stay, and, where that is one, the process.
pub fn growth_per_h(points: &[&Point]) -> Option<f64> {
    let mut lives: HashMap<Life<'_>, Vec<(i64, u64)>> = HashMap::new();
    for point in points {
        let pid = point.started_ms.or((point.processes == 1).then_some(point.pid));
        let life = (point.service.as_str(), point.version.as_deref(), point.processes, pid);
        lives.entry(life).or_default().push((point.time_ms, point.live));
    }
    let mut slopes = Vec::new();
    for life in lives.values() {
        let step = life.len().div_ceil(SAMPLES).max(1);
        let samples: Vec<_> = life.iter().rev().step_by(step).collect();
        for (at, (late, after)) in samples.iter().enumerate() {
            for (early, before) in samples[at + 1..].iter().filter(|(early, _)| early < late) {
                slopes.push((*after as f64 - *before as f64) * HOUR / (late - early) as f64);
            }
        }
    }
    median(&mut slopes)
}

fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// What there is most of; of equals, the least.
fn most<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, u64> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}
