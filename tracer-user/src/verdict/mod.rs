//! Judges whether a site leaks. There is one small struct for each finding, behind one trait, and [`judge`] asks them
//! all.
//!
//! Findings judge what was measured, such as growth, ages compared with the site's own lifetimes, or creation without
//! end, and say so in words and numbers. If too little was seen, the verdict is `unknown`, and says how long a window
//! would be enough.

mod ageing;
mod at_end;
mod blame;
pub mod cause;
pub mod cycle;
mod endless;
pub mod findings;
mod growth;
mod hopeless;
mod outlived;
mod stuck;
pub mod waits;

use crate::human::{count, duration};
use crate::report::{Cause, Evidence, EvidenceKind, Level, Served, Verdict};
use crate::stats::{Ages, Balance, Durations, Survival, Trend};
pub use blame::{Blame, Origin, SeenCalls};
use cause::Explanation;
pub use outlived::{LeftBehind, Parked};
pub use waits::{Member, Wait, WaitsFor};

/// What is known about a site when it is judged.
pub struct Facts<'report> {
    /// The time until which it was observed, in ns of boot time.
    pub now_ns: u64,
    /// Whether its process ended at that time.
    pub ended: bool,
    /// What the living goroutines do, and for how long the site was observed.
    pub standing: Standing<'report>,
    /// Number of creations that were seen.
    pub created: u64,
    /// Number of exits that were seen.
    pub exited: u64,
    /// The most goroutines that lived at the same time.
    pub peak: u64,
    /// Number of goroutines that were only counted, not followed, because of the memory budget.
    pub untracked: u64,
    /// Whether this is the row that many sites share.
    pub overflow: bool,
    /// Time of the first creation that was seen, in ns of boot time.
    pub first_created_ns: Option<u64>,
    /// Time of the last creation that was seen, in ns of boot time.
    pub last_created_ns: Option<u64>,
    /// Number of exits in this process of goroutines that were created before tracing and that no scan had seen. They
    /// may have been of any site.
    pub unattributed_exits: u64,
    /// How the number of living goroutines developed.
    pub trend: Trend,
    /// The mean lifetimes of those that ended right before each of some samples, as (boot time in ns, lifetime in ns).
    pub mean_lifetimes: &'report [(u64, u64)],
    /// Whether the goroutines that create these end themselves, as those that serve a request do.
    pub creators_end: bool,
    /// When goroutines from before the window ended, in ns from its begin; `None` if that is not known.
    pub outlived: Option<&'report Durations>,
    /// How many goroutines lived when the window began whose creation had been seen.
    pub entered: u64,
    /// How many goroutines lived when the window began.
    pub at_begin: u64,
    /// The lifetimes of the goroutines that ended.
    pub lifetimes: &'report Durations,
    /// The Kaplan–Meier estimate of survival, from the finished lifetimes and the ages of the living.
    pub survival: &'report Survival,
    /// The ages of the living goroutines.
    pub living: &'report Ages,
    /// What the tests of a test binary have left behind here; `None` where the process runs no tests.
    pub left_behind: Option<&'report LeftBehind>,
}

/// What is known about a site's goroutines without their history.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'report> {
    /// For how long they were observed, in ns.
    pub window_ns: u64,
    /// Number of living goroutines.
    pub live: u64,
    /// What they do; empty if nobody looked.
    pub waits: &'report [Wait],
    /// The program's code.
    pub code: cause::Code<'report>,
    /// Where they come from.
    pub start: cause::Start<'report>,
}

impl Standing<'_> {
    /// Why the goroutines do not end, and what to do about it.
    fn cause(&self) -> Option<Explanation> {
        cause::of(self.waits, self.code, &self.start)
    }
}

impl Facts<'_> {
    /// The 99.9th percentile of the finished lifetimes in ns; none if there are too few of them.
    fn longest_usual_ns(&self) -> Option<u64> {
        (self.lifetimes.count() >= ENOUGH).then(|| self.lifetimes.quantile(0.999)).flatten()
    }

    /// Who was born in the window and stayed, and who of before went, of those that got older than this in the window.
    fn balance(&self, least_ns: u64) -> Balance {
        let window_ns = self.standing.window_ns;
        let older: u64 = self.living.exact.iter().filter(|&&(age, _)| age > window_ns).map(|&(_, n)| n).sum();
        let went = self.exited.saturating_sub(self.lifetimes.count()) + self.entered.saturating_sub(older);
        let timed = self.outlived.map_or(0, Durations::count);
        let gone = self.outlived.into_iter().flat_map(Durations::bins);
        let ages = self.living.exact.iter().copied();
        Balance::of(window_ns, least_ns, ages, gone, went.saturating_sub(timed))
    }

    /// How many ended that were seen to live longer than this.
    fn ended_older(&self, least_ns: u64) -> u64 {
        let ended = self.lifetimes.bins().chain(self.outlived.into_iter().flat_map(Durations::bins));
        ended.filter(|&(lived, _)| lived > least_ns).map(|(_, n)| n).sum()
    }

    /// Whether enough is known of how the goroutines usually behave: by the time that they were watched for, by those
    /// that ended, or by those of before, which did not end.
    fn knows_usual(&self) -> bool {
        let of_before = self.at_begin >= 10 && self.balance(0).went * 2 <= self.at_begin;
        self.trend.samples >= Trend::FEWEST || self.lifetimes.count() >= ENOUGH || of_before
    }

    /// Whether those that end live ever longer, as in a queue that gets longer. Early in the window only short lives can
    /// have been seen whole, so the mean rises by itself until it is as old as the longest lives.
    fn lives_lengthen(&self) -> bool {
        let Some(longest) = self.lifetimes.quantile(0.99) else { return false };
        let from = self.now_ns.saturating_sub(self.standing.window_ns).saturating_add(longest);
        let late = self.mean_lifetimes.partition_point(|&(time, _)| time < from);
        let trend = Trend::of(&self.mean_lifetimes[late..]);
        let lengthened = trend.slope_per_s * trend.span_ns as f64 / 1e9;
        trend.samples >= Trend::FEWEST && trend.z >= 3.1 && lengthened >= trend.lowest as f64 / 4.0
    }

    /// Whether the goroutines queue for something that serves them, but more slowly than they come.
    fn queue_gets_longer(&self) -> bool {
        let of_channel = |wait: &Wait| wait.channels.first().and_then(|channel| channel.served);
        let served =
            |wait: &Wait| wait.lock.as_ref().and_then(|lock| lock.served).or_else(|| of_channel(wait));
        let mut all = self.standing.waits.iter().filter_map(served);
        // Where some have waited all the time, both numbers are known.
        all.any(|Served { served, came, still, .. }| {
            still > 0 && served > 0 && came as f64 - served as f64 >= 3.7 * ((came + served) as f64).sqrt()
        })
    }

    /// The numbers of connections, if the goroutines serve connections that are in use: at most a tenth of those that
    /// an earlier look has seen have been idle since. A leaked connection, in contrast, is used by nobody.
    fn connections_in_use(&self) -> Option<ConnectionsInUse> {
        let sum = |number: fn(&Wait) -> u64| self.standing.waits.iter().map(number).sum();
        let (known, idle): (u64, u64) = (sum(|wait| wait.seen_before), sum(|wait| wait.idle));
        let cause = self.standing.cause().map(|explanation| explanation.cause);
        let in_use = cause == Some(Cause::Io) && known >= 10 && idle * 10 <= known;
        in_use.then_some(ConnectionsInUse { known, busy: known.saturating_sub(idle) })
    }

    /// Whether goroutines were created in the first half of the window and in its last third.
    fn creation_goes_on(&self) -> bool {
        let window_ns = self.standing.window_ns;
        let start = self.now_ns.saturating_sub(window_ns);
        let early = self.first_created_ns.is_some_and(|first| first <= start + window_ns / 2);
        let late = self.last_created_ns.is_some_and(|last| last >= start + window_ns / 3 * 2);
        early && late
    }
}

/// So many lifetimes tell what is usual.
const ENOUGH: u64 = 100;

/// Numbers of goroutines that serve connections in use.
struct ConnectionsInUse {
    /// How many of them an earlier look has seen as well.
    known: u64,
    /// How many of those have done something since.
    busy: u64,
}

/// What a finding says of a site.
#[derive(Clone, Debug)]
pub struct Found {
    /// How bad it is.
    pub level: Level,
    /// Why.
    pub evidence: Evidence,
}

impl Found {
    /// A finding of this level, with the words and numbers that say why.
    pub fn new(level: Level, kind: EvidenceKind, text: impl Into<String>) -> Found {
        Found { level, evidence: Evidence::new(kind, text) }
    }
}

/// Something that may be wrong with a site. `Seen` is what it is found from: the site's whole history, or what its
/// goroutines do now.
trait Finding<Seen> {
    /// How bad it is, and why; `None` if there is nothing wrong.
    fn check(&self, seen: &Seen) -> Option<Found>;
}

/// The findings that need to know only what the living goroutines do.
const OF_STANDING: [&dyn for<'seen> Finding<Standing<'seen>>; 2] = [&hopeless::Hopeless, &stuck::Stuck];
/// The findings that need the history of the site.
const OF_HISTORY: [&dyn for<'seen> Finding<Facts<'seen>>; 5] =
    [&outlived::Outlived, &at_end::AtEnd, &growth::Growth, &ageing::Ageing, &endless::Endless];

/// Judges a site by all findings.
pub fn judge(facts: &Facts) -> Verdict {
    if facts.overflow {
        let text = "many sites share this row: raise --max-sites to tell them apart";
        return Verdict { evidence: vec![Evidence::new(EvidenceKind::Overflow, text)], ..Verdict::default() };
    }
    let history = OF_HISTORY.iter().filter_map(|finding| finding.check(facts));
    let mut verdict = conclude(&facts.standing, history.collect()).unwrap_or_else(|| without_finding(facts));
    if facts.untracked > 0 {
        // Nobody knows whether those ended, so the site cannot be called healthy.
        verdict.level = if verdict.level == Level::Healthy { Level::Unknown } else { verdict.level };
        let text = format!("{} more were counted, not followed: memory budget", count(facts.untracked));
        verdict.evidence.push(Evidence::new(EvidenceKind::Untracked, text));
    }
    verdict
}

/// Judges goroutines by what they do, and by what else was `found`. Without any finding the verdict is the default one,
/// `unknown`.
pub fn judge_standing(standing: &Standing, found: Vec<Found>) -> Verdict {
    conclude(standing, found).unwrap_or_default()
}

/// Makes one verdict of all findings, with the evidence of the worst first. None without any finding.
fn conclude(standing: &Standing, found: Vec<Found>) -> Option<Verdict> {
    let mut all: Vec<_> = OF_STANDING.iter().filter_map(|finding| finding.check(standing)).collect();
    all.extend(found);
    all.sort_by_key(|found| std::cmp::Reverse(found.level));
    let level = all.first()?.level;
    let evidence = all.into_iter().map(|found| found.evidence).collect();
    let mut verdict = Verdict { level, evidence, ..Verdict::default() };
    if level >= Level::Watch {
        verdict.evidence.extend(not_moved(standing));
        if let Some(Explanation { cause, advice, beside, static_check }) = standing.cause() {
            verdict.evidence.extend(beside.map(|text| Evidence::new(EvidenceKind::Mixed, text)));
            verdict.cause = Some(cause);
            verdict.advice = Some(advice);
            verdict.static_check = static_check;
        }
    }
    Some(verdict)
}

/// The evidence that goroutines were at the same place in an earlier scan as now. It supports a suspicion, but is no
/// finding of its own, since workers without work do not move either.
fn not_moved(standing: &Standing) -> Option<Evidence> {
    let Standing { waits, live, window_ns, .. } = *standing;
    let unmoved: u64 = waits.iter().filter_map(|wait| wait.unmoved).sum();
    let least = waits.iter().filter_map(|wait| wait.unmoved_ns).min().unwrap_or(window_ns);
    let (n, of, least) = (count(unmoved), count(live.max(unmoved)), duration(least.min(window_ns)));
    let text = format!("{n} of {of} have been blocked at the same place for {least} or more");
    (unmoved > 1).then(|| Evidence::new(EvidenceKind::Unmoved, text))
}

/// The verdict on a site without a finding: it is healthy, or too little was seen.
fn without_finding(facts: &Facts) -> Verdict {
    let healthy = |kind, text: String| Verdict {
        level: Level::Healthy,
        evidence: vec![Evidence::new(kind, text)],
        ..Verdict::default()
    };
    let (window, live) = (duration(facts.standing.window_ns), facts.standing.live);
    if live == 0 && facts.untracked == 0 {
        return healthy(EvidenceKind::Ended, format!("all {} ended", count(facts.exited)));
    }
    if let Some(tests) = facts.left_behind.filter(|_| facts.ended) {
        return of_tests(tests, live);
    }
    if let Some(left) = at_end::left(facts) {
        return left_at_end(facts, left);
    }
    if let Some((needs_ns, text)) = too_short(facts) {
        let evidence = vec![Evidence::new(EvidenceKind::Short, text)];
        return Verdict { evidence, needs_ns: Some(needs_ns), ..Verdict::default() };
    }
    let trend = &facts.trend;
    if trend.lowest == trend.highest {
        healthy(EvidenceKind::Steady, format!("live stayed at {} for {window}", count(live)))
    } else if facts.peak > 2 * live.max(5) {
        healthy(
            EvidenceKind::Receded,
            format!("live rose to {} and fell back to {}", count(facts.peak), count(live)),
        )
    } else {
        let (low, high) = (count(trend.lowest), count(trend.highest));
        healthy(EvidenceKind::Steady, format!("live stayed between {low} and {high} for {window}"))
    }
}

/// The verdict on goroutines of a test binary that lived when it ended, where no test has left any behind.
fn of_tests(tests: &LeftBehind, live: u64) -> Verdict {
    if tests.unseen > 0 {
        let unseen = count(tests.unseen);
        let text = format!(
            "{unseen} had outlived a test when the process ended, and whether they were blocked nobody could see"
        );
        return Verdict { evidence: vec![Evidence::new(EvidenceKind::Left, text)], ..Verdict::default() };
    }
    let live = count(live.max(tests.others));
    let text = format!("{live} lived when the process ended, and none had outlived a test and was blocked");
    Verdict {
        level: Level::Healthy,
        evidence: vec![Evidence::new(EvidenceKind::Left, text)],
        ..Verdict::default()
    }
}

/// Who came less than this before the end of a process has not seen how the goroutines that were there came about.
const SHORT_NS: u64 = 1_000_000_000;

/// The verdict on goroutines without a finding that lived when their process ended. A longer window is not to be had.
fn left_at_end(facts: &Facts, left: u64) -> Verdict {
    let live = count(facts.standing.live);
    let is_known = facts.living.at_least.is_empty();
    let (level, text) = match left {
        0 if !is_known => {
            (Level::Unknown, format!("{live} lived when the process ended; since when is not known"))
        }
        0 => {
            (Level::Healthy, format!("{live} lived when the process ended, no longer than others that ended"))
        }
        1..5 => (Level::Healthy, format!("{live} lived when the process ended, as many a program keeps")),
        _ if facts.standing.waits.is_empty() => (
            Level::Unknown,
            format!("{live} lived when the process ended; what they waited for is not known"),
        ),
        _ if !is_known && facts.standing.window_ns < SHORT_NS => {
            let window = duration(facts.standing.window_ns);
            let text = format!(
                "{live} lived when the process ended, {window} after golife came; since when is not known"
            );
            (Level::Unknown, text)
        }
        _ => (
            Level::Healthy,
            format!("{live} lived when the process ended, created early or at one time, as a pool is"),
        ),
    };
    Verdict { level, evidence: vec![Evidence::new(EvidenceKind::Left, text)], ..Verdict::default() }
}

/// If the window is too short to judge the site, the window in ns that may be long enough, and why.
fn too_short(facts: &Facts) -> Option<(u64, String)> {
    const SECOND: u64 = 1_000_000_000;
    let window_ns = facts.standing.window_ns;
    let window = duration(window_ns);
    if facts.trend.samples < Trend::FEWEST {
        let needs = window_ns.saturating_mul(Trend::FEWEST as u64) / facts.trend.samples.max(1) as u64;
        return Some((
            round_up(needs.max(30 * SECOND)),
            format!("window of {window} is too short for a trend"),
        ));
    }
    if let Some(wants) = stuck::may_be_stuck(&facts.standing) {
        let text = format!("{wants} and have not moved; in {window} that may be slow or stuck");
        return Some((30 * SECOND, text));
    }
    let age = facts.first_created_ns.map(|first| facts.now_ns.saturating_sub(first));
    let is_young = facts.exited == 0 && age.is_some_and(|age| age < window_ns / 4);
    let may_grow =
        facts.exited == 0 && facts.created > 1 && facts.trend.grown > 0 && facts.creation_goes_on();
    let needs = round_up(window_ns.saturating_mul(4));
    if is_young && facts.created > 1 {
        let age = duration(age.unwrap_or_default());
        return Some((
            needs,
            format!("none of the {} ended yet; the first was created {age} ago", count(facts.created)),
        ));
    }
    if may_grow {
        return Some((needs, format!("none of the {} created in {window} ended yet", count(facts.created))));
    }
    outliers(facts).or_else(|| may_hide(facts)).map(|text| (needs, text))
}

/// Says so if goroutines stay that are much older than those that end, but too few for a finding.
fn outliers(facts: &Facts) -> Option<String> {
    // So few lifetimes tell something of what is usual.
    const SOME: u64 = 4;
    let longest = facts.lifetimes.max_ns().filter(|_| facts.lifetimes.count() >= SOME)?;
    let Balance { stayed, went, .. } = facts.balance(longest.saturating_mul(2));
    // A single one that has run between two looks does something.
    let waits = facts.standing.waits;
    let runs = waits.iter().any(|wait| wait.seen_before > 0) && waits.iter().all(|wait| wait.idle == 0);
    let few = stayed == 0 || went * 2 >= stayed || (stayed == 1 && runs);
    let stay =
        if stayed == 1 { "1 stays that is".into() } else { format!("{} stay that are", count(stayed)) };
    (!few).then(|| format!("{stay} twice as old as any that ended became: too few to tell"))
}

/// Says so if a leak of a tenth of those created would not be noticed beside those that come and go by chance, since
/// they live about as long as the window. What could only be a few is few, and so is what leaves their number steady.
fn may_hide(facts: &Facts) -> Option<String> {
    const FEW: f64 = 10.0;
    let balance = facts.balance(facts.standing.window_ns / 8);
    let most = balance.most_leaked();
    let (created, window) = (facts.created, duration(facts.standing.window_ns));
    let varies = facts.trend.highest.saturating_sub(facts.trend.lowest) as f64 >= FEW;
    (varies && most >= FEW && most * 10.0 >= created as f64).then(|| {
        let (stayed, went, most) = (count(balance.stayed), count(balance.went), count(most as u64));
        format!(
            "{stayed} created in {window} stayed and {went} of before ended: lives are too long for this window to tell whether up to {most} leaked"
        )
    })
}

/// Rounds a window in ns up to one that a person would type; a day at most.
fn round_up(ns: u64) -> u64 {
    const STEPS_S: [u64; 10] = [30, 60, 120, 300, 600, 1_800, 3_600, 4 * 3_600, 12 * 3_600, 24 * 3_600];
    let ns = ns.div_ceil(1_000_000_000);
    STEPS_S.into_iter().find(|&step| step >= ns).unwrap_or(24 * 3_600) * 1_000_000_000
}

#[cfg(test)]
mod tests;
