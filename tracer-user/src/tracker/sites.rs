//! What is known of each creation site: the goroutines that one `go` statement made with one entry function.

use std::borrow::Cow;

use super::ids::SiteId;
use crate::stats::Durations;

/// One creation site of one process instance.
///
/// `created + at_attach = exited + live + reconciled + untracked` at any time.
///
/// Counts are of the time since tracing began; what cannot be subtracted is of the current epoch. [`SiteCounts::window`] has
/// what reports show.
#[derive(Clone, Debug, Default)]
pub struct SiteCounts {
    /// Return address of the `go` statement (`runtime.g.gopc`); 0 in an overflow row.
    pub gopc: u64,
    /// Entry of the goroutines' function (`runtime.g.startpc`); 0 in an overflow row.
    pub startpc: u64,
    /// Whether this row stands for all sites beyond the limit of sites.
    pub overflow: bool,
    /// Creations seen, and those that a later scan found to be missed.
    pub created: u64,
    /// Exits seen, of goroutines created here, also of those that existed at attach.
    pub exited: u64,
    /// Goroutines that live, as far as known.
    pub live: u64,
    /// The most that lived at the same time, in this epoch.
    pub peak: u64,
    /// Goroutines of this site that existed before tracing.
    pub at_attach: u64,
    /// Goroutines that a scan found gone although no exit was seen.
    pub reconciled: u64,
    /// Goroutines that were counted but not followed, for want of memory budget: whether they live is not known.
    pub untracked: u64,
    /// Boot time in ns of the first creation that was seen in this epoch.
    pub first_created_ns: Option<u64>,
    /// Boot time in ns of the last creation that was seen in this epoch.
    pub last_created_ns: Option<u64>,
    /// Where the creators of this epoch's were created.
    pub parents: Parents,
    /// Lifetimes of those that ended in this epoch and whose creation and exit were both seen.
    pub lifetimes: Durations,
    /// Live counts over time.
    pub series: Series,
    /// What was before this epoch; `None` in the first one.
    pub(super) earlier: Option<Box<Earlier>>,
}

impl SiteCounts {
    pub(crate) fn add_live(&mut self) {
        self.live += 1;
        self.peak = self.peak.max(self.live);
    }

    pub(crate) fn saw_creation(&mut self, time_ns: u64) {
        self.created += 1;
        self.first_created_ns = Some(self.first_created_ns.map_or(time_ns, |first| first.min(time_ns)));
        self.last_created_ns = Some(self.last_created_ns.map_or(time_ns, |last| last.max(time_ns)));
    }

    /// Creations in the time that reports cover.
    pub fn created_in_window(&self) -> u64 {
        // Records that come late may take a count back that was made before.
        self.created.saturating_sub(self.earlier.as_ref().map_or(0, |earlier| earlier.window.created))
    }

    /// What reports show: since tracing began or, where there are epochs, since the begin of the last but one.
    pub fn window(&self) -> SiteWindow<'_> {
        let Some(earlier) = &self.earlier else {
            return SiteWindow {
                created: self.created,
                exited: self.exited,
                at_begin: self.at_attach,
                reconciled: self.reconciled,
                peak: self.peak,
                first_created_ns: self.first_created_ns,
                last_created_ns: self.last_created_ns,
                parents: Cow::Borrowed(&self.parents),
                lifetimes: Cow::Borrowed(&self.lifetimes),
                entered: &[],
            };
        };
        let begin = &earlier.window;
        let mut lifetimes = earlier.lifetimes.clone();
        lifetimes.merge(&self.lifetimes);
        let mut parents = earlier.parents.clone();
        parents.merge(&self.parents);
        SiteWindow {
            created: self.created_in_window(),
            exited: self.exited.saturating_sub(begin.exited),
            at_begin: self.at_attach.saturating_sub(begin.at_attach) + begin.live + begin.untracked,
            reconciled: self.reconciled.saturating_sub(begin.reconciled),
            peak: self.peak.max(earlier.peak),
            first_created_ns: earlier.first_created_ns.or(self.first_created_ns),
            last_created_ns: self.last_created_ns.or(earlier.last_created_ns),
            parents: Cow::Owned(parents),
            lifetimes: Cow::Owned(lifetimes),
            entered: &begin.ages,
        }
    }

    /// Another epoch begins, while goroutines of these ages (ns, count) live whose creation was seen. `samples`: how many
    /// samples of the timeline go.
    pub(super) fn begin_epoch(&mut self, ages: Vec<(u64, u64)>, samples: u32) {
        self.series.drop_first(samples);
        let mark = Mark {
            created: self.created,
            exited: self.exited,
            at_attach: self.at_attach,
            live: self.live,
            reconciled: self.reconciled,
            untracked: self.untracked,
            ages,
        };
        self.earlier = Some(Box::new(Earlier {
            window: self.earlier.take().map(|earlier| earlier.epoch).unwrap_or_default(),
            epoch: mark,
            peak: std::mem::replace(&mut self.peak, self.live),
            first_created_ns: self.first_created_ns.take(),
            last_created_ns: self.last_created_ns.take(),
            parents: std::mem::take(&mut self.parents),
            lifetimes: std::mem::take(&mut self.lifetimes),
        }));
    }
}

/// A site in the time that reports cover. `created + at_begin = exited + live + reconciled + untracked`.
#[derive(Clone, Debug)]
pub struct SiteWindow<'a> {
    /// Creations seen, and those that a later scan found to be missed.
    pub created: u64,
    /// Exits seen.
    pub exited: u64,
    /// Goroutines that existed at its begin.
    pub at_begin: u64,
    /// Goroutines that a scan found gone although no exit was seen.
    pub reconciled: u64,
    /// The most that lived at the same time.
    pub peak: u64,
    /// Boot time in ns of the first creation that was seen.
    pub first_created_ns: Option<u64>,
    /// Boot time in ns of the last creation that was seen.
    pub last_created_ns: Option<u64>,
    /// Where the creators were created.
    pub parents: Cow<'a, Parents>,
    /// Lifetimes of those whose creation and exit were both seen, the latter in the window.
    pub lifetimes: Cow<'a, Durations>,
    /// The ages (ns, count) at its begin of those who lived then and whose creation had been seen: they are observed from that
    /// age on.
    pub entered: &'a [(u64, u64)],
}

impl SiteWindow<'_> {
    /// Whether there was anything.
    pub fn is_used(&self) -> bool {
        self.created + self.at_begin > 0
    }
}

/// The epoch before the current one, and what was counted when it began.
#[derive(Clone, Debug)]
pub(super) struct Earlier {
    /// When it began, which is when the time begins that reports cover.
    window: Mark,
    /// When it ended.
    epoch: Mark,
    peak: u64,
    first_created_ns: Option<u64>,
    last_created_ns: Option<u64>,
    parents: Parents,
    lifetimes: Durations,
}

/// What was counted at one time.
#[derive(Clone, Debug, Default)]
struct Mark {
    created: u64,
    exited: u64,
    at_attach: u64,
    live: u64,
    reconciled: u64,
    untracked: u64,
    /// Ages of the living whose creation was seen: (ns, count).
    ages: Vec<(u64, u64)>,
}

/// Creation sites of the creators, with counts: the first [`Parents::MOST`] of them, then a rest.
#[derive(Clone, Debug, Default)]
pub struct Parents {
    known: Vec<(SiteId, u64)>,
    others: u64,
}

impl Parents {
    /// How many are told apart.
    pub const MOST: usize = 8;

    pub(crate) fn count(&mut self, parent: SiteId) {
        if let Some((_, count)) = self.known.iter_mut().find(|(site, _)| *site == parent) {
            *count += 1;
        } else if self.known.len() < Self::MOST {
            self.known.push((parent, 1));
        } else {
            self.others += 1;
        }
    }

    fn merge(&mut self, other: &Parents) {
        for &(site, count) in &other.known {
            match self.known.iter().position(|(known, _)| *known == site) {
                Some(at) => self.known[at].1 += count,
                None if self.known.len() < Self::MOST => self.known.push((site, count)),
                None => self.others += count,
            }
        }
        self.others += other.others;
    }

    /// The creators' sites, most goroutines first.
    pub fn by_count(&self) -> Vec<(SiteId, u64)> {
        let mut sorted = self.known.clone();
        sorted.sort_by_key(|&(site, count)| (std::cmp::Reverse(count), site));
        sorted
    }

    /// Goroutines of creators from yet other sites.
    pub fn others(&self) -> u64 {
        self.others
    }
}

/// When live counts were sampled: one clock for all sites, so that a site keeps counts only.
///
/// At most [`Timeline::MOST`] samples: when they are used up, every second one goes and the pace halves. Where there are
/// epochs, those of the last two are kept.
#[derive(Clone, Debug)]
pub struct Timeline {
    times_ns: Vec<u64>,
    /// How many of them are from before the current epoch.
    before_epoch: usize,
    stride: u64,
    ticks: u64,
}

/// What one tick means for every series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// Nothing: the pace is slower than the ticks.
    Skip,
    /// A sample with this index.
    Sample(u32),
    /// First drop the odd ones, then a sample with this index.
    HalveAndSample(u32),
}

impl Timeline {
    /// How many samples are kept.
    pub const MOST: usize = 64;

    pub(crate) fn tick(&mut self, now_ns: u64) -> Tick {
        let due = self.ticks.is_multiple_of(self.stride);
        self.ticks += 1;
        if !due {
            return Tick::Skip;
        }
        let halve = self.times_ns.len() == Self::MOST;
        if halve {
            keep_even(&mut self.times_ns, 0);
            self.before_epoch = self.before_epoch.div_ceil(2);
            self.stride *= 2;
        }
        self.times_ns.push(now_ns);
        let index = self.times_ns.len() as u32 - 1;
        if halve { Tick::HalveAndSample(index) } else { Tick::Sample(index) }
    }

    /// Another epoch begins: the samples of the last but one go. Returns how many.
    pub(super) fn begin_epoch(&mut self) -> u32 {
        let gone = self.before_epoch;
        self.times_ns.drain(..gone);
        self.before_epoch = self.times_ns.len();
        gone as u32
    }

    /// Boot times of the samples in ns.
    pub fn times_ns(&self) -> &[u64] {
        &self.times_ns
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline { times_ns: Vec::new(), before_epoch: 0, stride: 1, ticks: 0 }
    }
}

/// The live counts of a site at the times of the [`Timeline`]; nothing before its first goroutine.
#[derive(Clone, Debug, Default)]
pub struct Series {
    first: u32,
    live: Vec<u32>,
}

impl Series {
    pub(crate) fn sample(&mut self, tick: Tick, live: u64) {
        let (Tick::Sample(index) | Tick::HalveAndSample(index)) = tick else { return };
        if self.live.is_empty() {
            self.first = index;
        }
        self.live.push(u32::try_from(live).unwrap_or(u32::MAX));
    }

    /// Follows the timeline's halving; also for series that are no longer sampled.
    pub(crate) fn halve(&mut self) {
        keep_even(&mut self.live, self.first);
        self.first = self.first.div_ceil(2);
    }

    /// The timeline has dropped so many of its samples, the first ones.
    fn drop_first(&mut self, samples: u32) {
        let own = samples.saturating_sub(self.first) as usize;
        self.live.drain(..own.min(self.live.len()));
        self.first = self.first.saturating_sub(samples);
    }

    /// (boot time in ns, live) for every sample of `timeline` from `from_ns` to `until_ns`; 0 live before the site was known.
    pub fn points(&self, timeline: &Timeline, from_ns: u64, until_ns: u64) -> Vec<(u64, u64)> {
        let before = std::iter::repeat_n(0, self.first as usize);
        let known = self.live.iter().map(|&live| u64::from(live));
        let points = timeline.times_ns.iter().copied().zip(before.chain(known));
        points.filter(|&(time, _)| (from_ns..=until_ns).contains(&time)).collect()
    }
}

/// Keeps the elements at even places of the whole, of which `list` begins at place `first`.
fn keep_even<T>(list: &mut Vec<T>, first: u32) {
    let mut place = first;
    list.retain(|_| {
        place += 1;
        !place.is_multiple_of(2)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_stays_short_and_keeps_its_times() {
        let (mut timeline, mut early, mut late) = (Timeline::default(), Series::default(), Series::default());
        for second in 0..1_000u64 {
            let tick = timeline.tick(second);
            let all = if second < 501 { vec![&mut early] } else { vec![&mut early, &mut late] };
            for series in all {
                if matches!(tick, Tick::HalveAndSample(_)) {
                    series.halve();
                }
                series.sample(tick, second * 10);
            }
            assert!(timeline.times_ns().len() <= Timeline::MOST);
        }
        let points = early.points(&timeline, 0, u64::MAX);
        assert!(points.len() > 30 && points.iter().all(|&(time, live)| live == time * 10));
        let points = late.points(&timeline, 400, u64::MAX);
        assert!(
            points.iter().all(|&(time, live)| live == if time < 501 { 0 } else { time * 10 }),
            "{points:?}"
        );
        assert!(points.len() > 10);
    }

    #[test]
    fn a_ninth_parent_is_one_of_the_others() {
        let mut parents = Parents::default();
        for site in 0..10 {
            parents.count(SiteId(site));
        }
        parents.count(SiteId(7));
        assert_eq!(parents.by_count()[0], (SiteId(7), 2));
        assert_eq!((parents.by_count().len(), parents.others()), (8, 2));
    }
}
