//! The lives of processes, one after the other on each host, and how those that stay become more in each.

use super::{ALONE, Peers, Sweep};

/// The share of the time between sweeps beyond which lifetimes are long.
const SLOW: f64 = 0.25;
/// By how much the oldest may age less than the clock, as a share.
const LATE: f64 = 0.02;
/// How many errors of a Poisson count the records of many hours are above those of a few.
const RECORD: f64 = 1.5;
/// A day in seconds.
const DAY_S: f64 = 86_400.0;

/// One life of the process on one host, without its first sweep.
#[derive(Debug)]
pub(super) struct Life {
    /// The number of the host, from 0.
    pub host: usize,
    /// When it begins to count, in seconds.
    pub from_s: f64,
    /// Whether it is the last one on its host.
    pub is_latest: bool,
    /// Whether those that end have lived so long that only the least of each day is looked at.
    pub is_slow: bool,
    /// (time in seconds, how many live beyond what rate × lifetime explains).
    pub stays: Vec<(f64, f64)>,
    explained: Vec<f64>,
    /// The mean lifetime as a share of the time between sweeps.
    lasting: f64,
    sweeps: Vec<Sweep>,
}

/// All lives on all hosts. `mean_s` is the mean lifetime in seconds of those that ended on any host.
pub(super) fn lives(hosts: &[Vec<Sweep>], mean_s: Option<f64>) -> Vec<Life> {
    let mut lives = Vec::new();
    for (host, sweeps) in hosts.iter().enumerate() {
        let each: Vec<&[Sweep]> = sweeps.chunk_by(|a, b| a.life == b.life).collect();
        let last = each.len();
        for (number, sweeps) in each.into_iter().enumerate() {
            let Some((_, sweeps)) = sweeps.split_first().filter(|(_, rest)| !rest.is_empty()) else {
                continue;
            };
            lives.push(Life::of(host, number + 1 == last, sweeps, mean_s));
        }
    }
    lives
}

impl Life {
    fn of(host: usize, is_latest: bool, sweeps: &[Sweep], mean_s: Option<f64>) -> Life {
        let between_s =
            sweeps.windows(2).map(|pair| pair[1].at_s - pair[0].at_s).fold(f64::INFINITY, f64::min);
        let lasting = mean_s.map_or(0.0, |mean_s| mean_s / between_s);
        let is_slow = lasting > SLOW;
        let explained = to_the_end(&sweeps.iter().map(|sweep| explained(sweep, mean_s)).collect::<Vec<_>>());
        let stays = match is_slow {
            true => least_of_days(sweeps),
            false => sweeps
                .iter()
                .zip(&explained)
                .map(|(sweep, of)| (sweep.at_s, sweep.live as f64 - of))
                .collect(),
        };
        let explained = if is_slow { Vec::new() } else { explained };
        let from_s = sweeps[0].at_s;
        Life { host, from_s, is_latest, is_slow, stays, explained, lasting, sweeps: sweeps.to_vec() }
    }

    /// The score of Mann and Kendall: how many later ones are more, less how many are fewer.
    pub fn score(&self) -> f64 {
        let later = |at: usize| self.stays[at + 1..].iter().map(move |&(_, stay)| (at, stay));
        let pairs = (0..self.stays.len()).flat_map(later);
        pairs
            .map(|(at, stay)| stay - self.stays[at].1)
            .filter(|change| change.abs() > 1e-9)
            .map(f64::signum)
            .sum()
    }

    /// By how many those that stay become more between two shares of the time.
    pub fn gain(&self, from: f64, to: f64) -> f64 {
        let most = (self.stays.len() - 1) as f64;
        let at = |share: f64| {
            let at = share * most;
            let (low, high) = (self.stays[at.floor() as usize].1, self.stays[at.ceil() as usize].1);
            low + (high - low) * at.fract()
        };
        at(to) - at(from)
    }

    /// By how many in the last interval.
    pub fn last_step(&self) -> f64 {
        self.stays.windows(2).last().map_or(0.0, |pair| pair[1].1 - pair[0].1)
    }

    /// How many stayed at first.
    pub fn first(&self) -> f64 {
        self.stays.first().map_or(0.0, |&(_, stay)| stay.max(0.0))
    }

    /// How long the life is, in hours.
    pub fn hours(&self) -> f64 {
        let ends = self.stays.first().zip(self.stays.last());
        ends.map_or(0.0, |(first, last)| (last.0 - first.0) / 3_600.0).max(f64::MIN_POSITIVE)
    }

    /// By how many those that are explained became more.
    pub fn explained_gain(&self) -> f64 {
        self.explained.first().zip(self.explained.last()).map_or(0.0, |(first, last)| last - first)
    }

    /// By how many those that live can be behind rate × lifetime while these change: the share that a lifetime, and as much
    /// again for those that are not alike, has of an hour, of all that is explained meanwhile.
    pub fn lag(&self) -> f64 {
        let of = |fold: fn(f64, f64) -> f64, from: f64| self.explained.iter().copied().fold(from, fold);
        if self.explained.is_empty() {
            return 0.0;
        }
        2.0 * self.lasting * (of(f64::max, 0.0) - of(f64::min, f64::INFINITY))
    }

    /// By which factor the load has grown, at most.
    pub fn load_growth(&self) -> f64 {
        let most = self.sweeps.iter().map(|sweep| sweep.load).fold(0.0, f64::max);
        let first = self.sweeps[0].load;
        if first > 0.0 { most / first } else { 1.0 }
    }

    /// By how much the records of a pool that has as many workers as were ever wanted can be more than its first ones: some errors
    /// of a Poisson count.
    pub fn record(&self) -> f64 {
        RECORD * self.first().sqrt()
    }

    /// The gain in the intervals in which neither load nor peers were more than before, and the hours of these.
    pub fn idle(&self, peers: &Peers) -> (f64, f64) {
        let (mut gain, mut hours, mut most) = (0.0, 0.0, 0.0f64);
        if self.is_slow {
            return (gain, hours);
        }
        for (pair, stays) in self.sweeps.windows(2).zip(self.stays.windows(2)) {
            most = most.max(pair[0].load);
            let before = peers.most(self.from_s, pair[0].at_s);
            if pair[1].load <= most * 0.9 && peers.most(pair[1].at_s, pair[1].at_s) <= before {
                gain += stays[1].1 - stays[0].1;
                hours += (stays[1].0 - stays[0].0) / 3_600.0;
            }
        }
        (gain, hours)
    }

    /// Whether the oldest has aged as fast as the clock in the last interval, and is from before that.
    pub fn is_ageing(&self) -> bool {
        self.sweeps.windows(2).last().is_some_and(|pair| ages(&pair[0], &pair[1]))
    }

    /// The share of the intervals in which fewer lived at the end.
    pub fn falls(&self) -> f64 {
        let pairs = self.sweeps.windows(2);
        let count = pairs.len().max(1) as f64;
        pairs.filter(|pair| pair[1].live < pair[0].live).count() as f64 / count
    }

    /// Whether they become more in each of the last three intervals and more than twice as many, whatever load has grown by, and the
    /// oldest ages. Where it is not known who comes and goes (`is_counted`), that cannot be said.
    pub fn grows_alone(&self, is_counted: bool) -> bool {
        let Some(last) = self.sweeps.len().checked_sub(4).map(|from| &self.sweeps[from..]) else {
            return false;
        };
        let gain = self.recent_gain();
        let Some(stays) = self.stays.len().checked_sub(4).map(|from| &self.stays[from..]) else {
            return false;
        };
        let is_even = stays.windows(2).all(|pair| pair[1].1 - pair[0].1 > 0.5);
        let before = stays[0].1.max(0.0);
        let load = last[0].load.max(f64::MIN_POSITIVE);
        let growth = last.iter().map(|sweep| sweep.load / load).fold(1.0, f64::max);
        let is_more =
            gain >= ALONE + self.hidden_by_chance() && gain > before * growth + 2.0 * RECORD * before.sqrt();
        is_counted && is_more && is_even && last[1..].windows(2).all(|pair| ages(&pair[0], &pair[1]))
    }

    /// Whether many want to send or want a lock, more than those that come and go can be, for two intervals: they do not become
    /// fewer, and the oldest ages. Where it is not known who comes and goes (`is_counted`), that cannot be said.
    pub fn is_stuck(&self, is_counted: bool) -> bool {
        let Some(last) = self.sweeps.len().checked_sub(3).map(|from| &self.sweeps[from..]) else {
            return false;
        };
        let passing = self.lately_explained() + self.hidden_by_chance();
        let least = last.iter().map(|sweep| sweep.wanting).min().unwrap_or(0) as f64;
        is_counted && least >= ALONE + passing && last.windows(2).all(|pair| ages(&pair[0], &pair[1]))
    }

    /// The most that are explained in the last three intervals.
    fn lately_explained(&self) -> f64 {
        self.explained.iter().rev().take(4).copied().fold(0.0, f64::max)
    }

    /// Four times the error of a difference of two Poisson counts of those that are explained, twice as large as if each came for
    /// itself.
    fn hidden_by_chance(&self) -> f64 {
        4.0 * 2.0 * (2.0 * self.lately_explained()).sqrt()
    }

    /// By how many those that stay became more in the last three intervals.
    pub fn recent_gain(&self) -> f64 {
        let last = &self.stays[self.stays.len().saturating_sub(4)..];
        last.first().zip(last.last()).map_or(0.0, |(first, last)| last.1 - first.1)
    }
}

/// Whether the oldest of the earlier sweep is there in the later one.
fn ages(earlier: &Sweep, later: &Sweep) -> bool {
    let passed_s = later.at_s - earlier.at_s;
    earlier.live > 0 && later.oldest_s >= earlier.oldest_s + passed_s * (1.0 - LATE)
}

/// How many live by Little's law, rate × mean lifetime. Where few have ended on this host, it is the mean of all hosts.
fn explained(sweep: &Sweep, mean_s: Option<f64>) -> f64 {
    let Some(flow) = sweep.flow.filter(|flow| flow.seconds > 0.0) else { return 0.0 };
    let own = (flow.ended >= 30).then(|| flow.lifetime_s / flow.ended as f64);
    // Only those that end are traffic: whoever came and stays is what is looked for.
    own.or(mean_s).map_or(0.0, |mean_s| flow.ended.min(flow.created) as f64 / flow.seconds * mean_s)
}

/// What is explained is the mean of the time before each sweep. At its end it is half a step further.
fn to_the_end(means: &[f64]) -> Vec<f64> {
    let step = |at: usize| match at {
        0 if means.len() > 1 => means[1] - means[0],
        0 => 0.0,
        at => means[at] - means[at - 1],
    };
    means.iter().enumerate().map(|(at, mean)| (mean + step(at) / 2.0).max(0.0)).collect()
}

/// The least number of each whole day, at the day's end.
fn least_of_days(sweeps: &[Sweep]) -> Vec<(f64, f64)> {
    let first = sweeps[0].at_s;
    let day = |sweep: &Sweep| ((sweep.at_s - first) / DAY_S) as u64;
    let whole = sweeps.last().map_or(0, day);
    let days = sweeps.chunk_by(|a, b| day(a) == day(b)).filter(|sweeps| day(&sweeps[0]) < whole);
    let least = |sweeps: &[Sweep]| sweeps.iter().map(|sweep| sweep.live).min().unwrap_or(0) as f64;
    days.map(|sweeps| (first + DAY_S * (day(&sweeps[0]) + 1) as f64, least(sweeps))).collect()
}
