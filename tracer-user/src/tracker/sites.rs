//! What is known of each creation site: of the goroutines that one `go` statement made with one entry function.

use std::borrow::Cow;

use super::ids::SiteId;
use crate::stats::Durations;

/// One creation site of one process instance.
///
/// `created + at_attach = exited + live + reconciled + untracked` is true at any time.
///
/// Counts are of the time since tracing began, but what cannot be subtracted is of the current epoch.
/// [`SiteCounts::window`] has what reports show.
#[derive(Clone, Debug, Default)]
pub struct SiteCounts {
    /// Return address of the `go` statement (`runtime.g.gopc`); 0 in an overflow row.
    pub gopc: u64,
    /// Entry of the goroutines' function (`runtime.g.startpc`); 0 in an overflow row.
    pub startpc: u64,
    /// Whether this row stands for all sites beyond the limit of sites.
    pub overflow: bool,
    /// Creations that were seen, and those that a later scan found to have been missed.
    pub created: u64,
    /// Exits that were seen of goroutines created here, also of those that existed at attach.
    pub exited: u64,
    /// Goroutines that live, as far as is known.
    pub live: u64,
    /// The most goroutines that lived at the same time in this epoch.
    pub peak: u64,
    /// Goroutines of this site that existed before tracing.
    pub at_attach: u64,
    /// Goroutines that a scan found gone although no exit was seen.
    pub reconciled: u64,
    /// Goroutines that were counted but not followed, because the memory budget was used up. Whether they live is not
    /// known.
    pub untracked: u64,
    /// Boot time in ns of the first creation that was seen in this epoch.
    pub first_created_ns: Option<u64>,
    /// Boot time in ns of the last creation that was seen in this epoch.
    pub last_created_ns: Option<u64>,
    /// The creation sites of the creators of goroutines that were created in this epoch.
    pub parents: Parents,
    /// Lifetimes of goroutines that ended in this epoch and whose creation and exit were both seen.
    pub lifetimes: Durations,
    /// For how long goroutines went on living that a scan had found, until they ended: from that scan on, which is least
    /// their lifetime. Of this epoch.
    pub outlived: Durations,
    /// Samples of the live count over time.
    pub series: Series,
    /// Number and sum in ns of [`SiteCounts::lifetimes`] at the last sample.
    pub(super) sampled: (u64, u128),
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

    /// Takes the sample that is due at this tick.
    pub(super) fn sample(&mut self, tick: Tick) {
        let (count, sum_ns) = (self.lifetimes.count(), self.lifetimes.sum_ns());
        let (ended, lived_ns) = (count - self.sampled.0, sum_ns.saturating_sub(self.sampled.1));
        self.sampled = (count, sum_ns);
        let mean_ns = if ended > 0 { (lived_ns / u128::from(ended)) as f32 } else { f32::NAN };
        self.series.sample(tick, self.live, mean_ns);
    }

    /// Creations in the time that reports cover.
    pub fn created_in_window(&self) -> u64 {
        // A record that comes late may take back a count from before the window, so the difference could be negative.
        self.created.saturating_sub(self.earlier.as_ref().map_or(0, |earlier| earlier.window.created))
    }

    /// What reports show. It covers the time since tracing began or, where there are epochs, since the begin of the
    /// epoch before the current one.
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
                outlived: Some(&self.outlived),
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
            outlived: None,
            entered: &begin.ages,
        }
    }

    /// Begins another epoch. `ages` are those of the living goroutines whose creation was seen, as (age in ns, count),
    /// and `samples` is how many samples the timeline drops.
    pub(super) fn begin_epoch(&mut self, ages: Vec<(u64, u64)>, samples: u32) {
        self.series.drop_first(samples);
        self.sampled = (0, 0);
        self.outlived = Durations::default();
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

/// A site in the time that reports cover, which is called the window. With the site's `live` and `untracked`,
/// `created + at_begin = exited + live + reconciled + untracked` is true.
#[derive(Clone, Debug)]
pub struct SiteWindow<'a> {
    /// Creations that were seen, and those that a later scan found to have been missed.
    pub created: u64,
    /// Exits that were seen.
    pub exited: u64,
    /// Goroutines that existed when the window began.
    pub at_begin: u64,
    /// Goroutines that a scan found gone although no exit was seen.
    pub reconciled: u64,
    /// The most goroutines that lived at the same time.
    pub peak: u64,
    /// Boot time in ns of the first creation that was seen.
    pub first_created_ns: Option<u64>,
    /// Boot time in ns of the last creation that was seen.
    pub last_created_ns: Option<u64>,
    /// The creation sites of the creators.
    pub parents: Cow<'a, Parents>,
    /// Lifetimes of goroutines whose creation and exit were both seen, and that ended in the window.
    pub lifetimes: Cow<'a, Durations>,
    /// When goroutines from before the window ended, in ns from the scan that had found them; `None` where there are
    /// epochs, since the window begins later than that.
    pub outlived: Option<&'a Durations>,
    /// The ages that goroutines had when the window began, as (age in ns, count): those that lived then and whose
    /// creation had been seen. They are observed from that age on.
    pub entered: &'a [(u64, u64)],
}

impl SiteWindow<'_> {
    /// Whether the site had any goroutine in the window.
    pub fn is_used(&self) -> bool {
        self.created + self.at_begin > 0
    }
}

/// The epoch before the current one, and what had been counted when it began and when it ended.
#[derive(Clone, Debug)]
pub(super) struct Earlier {
    /// The counts when it began, which is when the window begins.
    window: Mark,
    /// The counts when it ended.
    epoch: Mark,
    peak: u64,
    first_created_ns: Option<u64>,
    last_created_ns: Option<u64>,
    parents: Parents,
    lifetimes: Durations,
}

/// What was counted up to one moment.
#[derive(Clone, Debug, Default)]
struct Mark {
    created: u64,
    exited: u64,
    at_attach: u64,
    live: u64,
    reconciled: u64,
    untracked: u64,
    /// Ages of the living goroutines whose creation was seen, as (age in ns, count).
    ages: Vec<(u64, u64)>,
}

/// The creation sites of creators, with how many goroutines these made. Only the first [`Parents::MOST`] sites are told
/// apart.
#[derive(Clone, Debug, Default)]
pub struct Parents {
    known: Vec<(SiteId, u64)>,
    others: u64,
}

impl Parents {
    /// How many sites are told apart.
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

    /// The creators' sites with the number of goroutines that these made, most first.
    pub fn by_count(&self) -> Vec<(SiteId, u64)> {
        let mut sorted = self.known.clone();
        sorted.sort_by_key(|&(site, count)| (std::cmp::Reverse(count), site));
        sorted
    }

    /// How many goroutines were made by creators from sites that are not told apart.
    pub fn others(&self) -> u64 {
        self.others
    }
}

/// The times at which live counts were sampled. They are the same for all sites, so a site keeps counts only.
///
/// There are at most [`Timeline::MOST`] samples: when they are used up, every second one is dropped and the pace
/// halves. Where there are epochs, the samples of the last two are kept.
#[derive(Clone, Debug)]
pub struct Timeline {
    times_ns: Vec<u64>,
    /// How many of the samples are from before the current epoch.
    before_epoch: usize,
    stride: u64,
    ticks: u64,
}

/// What one tick means for every series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// It means nothing, since the pace is slower than the ticks.
    Skip,
    /// A sample is taken, which has this index.
    Sample(u32),
    /// The samples with odd indices are dropped, and then one is taken, which has this index.
    HalveAndSample(u32),
}

impl Timeline {
    /// The most samples that are kept.
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

    /// Begins another epoch: drops the samples of the epoch before the one that ends. Returns how many these were.
    pub(super) fn begin_epoch(&mut self) -> u32 {
        let gone = self.before_epoch;
        self.times_ns.drain(..gone);
        self.before_epoch = self.times_ns.len();
        gone as u32
    }

    /// The boot times of the samples in ns.
    pub fn times_ns(&self) -> &[u64] {
        &self.times_ns
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline { times_ns: Vec::new(), before_epoch: 0, stride: 1, ticks: 0 }
    }
}

/// The live counts of a site at the times of the [`Timeline`], from its first goroutine on.
#[derive(Clone, Debug, Default)]
pub struct Series {
    first: u32,
    live: Vec<u32>,
    /// The mean lifetime in ns of those that ended since the sample before; NaN if none did.
    lived_ns: Vec<f32>,
}

impl Series {
    pub(crate) fn sample(&mut self, tick: Tick, live: u64, mean_ns: f32) {
        let (Tick::Sample(index) | Tick::HalveAndSample(index)) = tick else { return };
        if self.live.is_empty() {
            self.first = index;
        }
        self.live.push(u32::try_from(live).unwrap_or(u32::MAX));
        self.lived_ns.push(mean_ns);
    }

    /// Drops every second sample, as the timeline does. Series that are no longer sampled have to follow it, too.
    pub(crate) fn halve(&mut self) {
        keep_even(&mut self.live, self.first);
        keep_even(&mut self.lived_ns, self.first);
        self.first = self.first.div_ceil(2);
    }

    /// Drops what belongs to the first `samples` samples of the timeline, which the timeline has dropped.
    fn drop_first(&mut self, samples: u32) {
        let own = (samples.saturating_sub(self.first) as usize).min(self.live.len());
        self.live.drain(..own);
        self.lived_ns.drain(..own);
        self.first = self.first.saturating_sub(samples);
    }

    /// The live count at every sample of `timeline` from `from_ns` to `until_ns`, as (boot time in ns, count). It is 0
    /// before the site was known.
    pub fn points(&self, timeline: &Timeline, from_ns: u64, until_ns: u64) -> Vec<(u64, u64)> {
        let before = std::iter::repeat_n(0, self.first as usize);
        let known = self.live.iter().map(|&live| u64::from(live));
        let points = timeline.times_ns.iter().copied().zip(before.chain(known));
        points.filter(|&(time, _)| (from_ns..=until_ns).contains(&time)).collect()
    }

    /// The mean lifetime of those that ended right before each sample of `timeline` at which any had, as (boot time in
    /// ns, lifetime in ns).
    pub fn lifetimes(&self, timeline: &Timeline) -> Vec<(u64, u64)> {
        let times = timeline.times_ns.iter().copied().skip(self.first as usize);
        let known = times.zip(&self.lived_ns).filter(|(_, mean)| !mean.is_nan());
        known.map(|(time, &mean)| (time, mean as u64)).collect()
    }
}

/// Keeps the elements at even places, where the first element of `list` is at place `first`.
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
                series.sample(tick, second * 10, f32::NAN);
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
