//! What a service can carry, from what was counted hour by hour. It holds no query and no word for the user.
//!
//! Goroutines that stay are told from those that come and go: a pool that was filled once obeys no law of queues, and twice the load
//! does not make it twice as large. Where what comes and goes is not in balance (see [`golife::stats::little`]), nothing is forecast.

mod forecast;
mod growth;
mod season;

use golife::stats::Estimate;
use golife::stats::little::{Interval, Little};
use golife::stats::usl::{Hour, Scaling};

pub use forecast::{Forecast, WhatIf};
pub use growth::{Growth, Runway};
pub use season::NextWeek;

/// One hour in ms.
pub const HOUR_MS: i64 = 3_600_000;
/// The same hours give the same intervals.
const SEED: u64 = 1;
/// A site that nothing has left stays as it is if it grew by no more than this factor in the last third of the time.
const STAYS: f64 = 1.1;

/// What all hosts counted of one site in an hour.
#[derive(Clone, Copy, Debug, Default)]
pub struct SiteHour {
    /// Its start in ms since 1970.
    pub hour_ms: i64,
    /// How many hosts swept.
    pub hosts: f64,
    /// How many lived, in the mean over the sweeps.
    pub live: f64,
    /// How many came per second.
    pub rate: f64,
    /// How many ended within the windows of the sweeps.
    pub exited: f64,
    /// How many lifetimes were measured.
    pub ended: f64,
    /// Their sum in seconds.
    pub lifetime_s: f64,
    /// Whether counts are too low.
    pub is_at_least: bool,
}

/// What all hosts held of one group in an hour.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupHour {
    /// Its start in ms since 1970.
    pub hour_ms: i64,
    /// How many hosts swept.
    pub hosts: f64,
    /// How many lived on all of them, in the mean over the sweeps.
    pub live: f64,
    /// How many lived on one host: half of the hosts had no more.
    pub live_p50: f64,
    /// The same for 95 % of the hosts.
    pub live_p95: f64,
    /// The most on one host.
    pub live_max: f64,
    /// Bytes of stacks on all hosts.
    pub stack: Option<f64>,
    /// The most on one host.
    pub stack_max: Option<f64>,
    /// The least that a control group may use, in bytes.
    pub limit: Option<f64>,
}

/// Whether what is counted is that of a steady state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The residual is within its error.
    Steady,
    /// It is beyond its error: not stationary, or leaking.
    NotSteady,
    /// Nothing comes and goes.
    Still,
    /// Counts are incomplete, so that there is nothing to hold the living against.
    Incomplete,
    /// There are too few hours.
    TooShort,
}

/// What is known of a group.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Number of hours with sweeps.
    pub hours: usize,
    /// Number of hosts: the median of the last day's hours.
    pub hosts: f64,
    /// L: how many live, in the mean.
    pub live: f64,
    /// How many of these stay for good.
    pub standing: f64,
    /// λ: how many come per second, in the mean.
    pub rate: f64,
    /// Little's law for those that come and go.
    pub little: Option<Little>,
    /// Whether it holds.
    pub balance: Balance,
    /// The hour in which most lived.
    pub peak: GroupHour,
    /// What becomes of lifetimes as a host's load rises, if the counts can tell.
    pub scaling: Option<Scaling>,
    /// By how much the living grow.
    pub growth: Growth,
    /// How many live at once in the week to come, at most.
    pub next_week: NextWeek,
    /// Bytes of stacks on a host, in the mean over hosts and hours.
    pub stack_host: Option<f64>,
    /// The most on one host.
    pub stack_max: Option<f64>,
    /// The least that a control group may use, in bytes.
    pub limit: Option<f64>,
    /// When the fullest host reaches it.
    pub runway: Runway,
}

impl Capacity {
    /// Judges a group by its sites and its hours, which must be in their order. `None` without an hour.
    pub fn of(sites: &[Vec<SiteHour>], hours: &[GroupHour]) -> Option<Capacity> {
        let peak = *hours.iter().max_by(|a, b| a.live.total_cmp(&b.live))?;
        let (standing, flowing): (Vec<_>, Vec<_>) = sites.iter().partition(|site| stays(site, hours));
        let flow = sum(flowing.into_iter(), hours);
        let count = hours.len() as f64;
        let stays: f64 = standing.iter().flat_map(|site| site.iter()).map(|hour| hour.live).sum();
        let is_at_least = flow.iter().any(|hour| hour.is_at_least);
        let parts: Vec<Interval> = flow.iter().map(interval).collect();
        let little = Little::of_intervals(&parts);
        let comes = flow.iter().any(|hour| hour.live > 0.0 || hour.rate > 0.0);
        let balance = match &little {
            _ if !comes => Balance::Still,
            _ if is_at_least => Balance::Incomplete,
            Some(little) if little.is_balanced() == Some(false) => Balance::NotSteady,
            Some(_) => Balance::Steady,
            None if parts.len() < golife::stats::little::BATCHES => Balance::TooShort,
            // They come, and none ends.
            None => Balance::NotSteady,
        };
        let scaling = (little.is_some() && !is_at_least).then(|| {
            let per_host = flow.iter().filter(|hour| hour.ended > 0.0 && hour.hosts > 0.0);
            let per_host = per_host
                .map(|hour| Hour { rate: hour.rate / hour.hosts, mean_s: hour.lifetime_s / hour.ended });
            Scaling::of(&per_host.collect::<Vec<_>>(), SEED)
        });
        let limit = hours.iter().rev().find_map(|hour| hour.limit);
        let stacks: f64 = hours.iter().filter_map(|hour| hour.stack).sum();
        let hosts: f64 = hours.iter().filter(|hour| hour.stack.is_some()).map(|hour| hour.hosts).sum();
        Some(Capacity {
            hours: hours.len(),
            hosts: last_hosts(hours),
            live: hours.iter().map(|hour| hour.live).sum::<f64>() / count,
            standing: stays / count,
            rate: flow.iter().map(|hour| hour.rate).sum::<f64>() / count,
            little,
            balance,
            peak,
            scaling,
            growth: Growth::of(hours),
            next_week: NextWeek::of(hours, balance),
            stack_host: (hosts > 0.0).then(|| stacks / hosts),
            stack_max: hours.iter().filter_map(|hour| hour.stack_max).reduce(f64::max),
            limit,
            runway: Runway::of(hours, limit, balance),
        })
    }

    /// Peak ÷ mean of the living.
    pub fn peak_to_mean(&self) -> Option<f64> {
        (self.live > 0.0).then(|| self.peak.live / self.live)
    }

    /// L of those that come and go, with its interval if there is one.
    pub fn flowing(&self) -> Estimate {
        let value = (self.live - self.standing).max(0.0);
        let live = self.little.and_then(|little| little.live);
        live.unwrap_or(Estimate { value, low: value, high: value })
    }
}

/// Whether a site's goroutines stay for good and become no more: none has ended, none has come in the last third of the time, and
/// then there are as many as before.
fn stays(site: &[SiteHour], hours: &[GroupHour]) -> bool {
    let (Some(first), Some(last)) = (hours.first(), hours.last()) else { return false };
    let third = (last.hour_ms - first.hour_ms) / 3;
    let per_host = |from: i64, to: i64| {
        let part = || site.iter().filter(move |hour| (from..=to).contains(&hour.hour_ms));
        part().map(|hour| hour.live).sum::<f64>() / part().map(|hour| hour.hosts).sum::<f64>().max(1.0)
    };
    let late = last.hour_ms - third;
    let (before, after) = (per_host(late - third, late), per_host(late, last.hour_ms));
    let comes = site.iter().any(|hour| hour.exited > 0.0 || hour.ended > 0.0)
        || site.iter().any(|hour| hour.hour_ms > late && hour.rate > 0.0);
    !comes && after <= before * STAYS
}

/// All sites together, hour by hour. Hours in which none of them was there are hours, too.
fn sum<'a>(sites: impl Iterator<Item = &'a Vec<SiteHour>>, hours: &[GroupHour]) -> Vec<SiteHour> {
    let mut sums: Vec<SiteHour> = hours
        .iter()
        .map(|hour| SiteHour { hour_ms: hour.hour_ms, hosts: hour.hosts, ..SiteHour::default() })
        .collect();
    for hour in sites.flatten() {
        let Ok(at) = sums.binary_search_by_key(&hour.hour_ms, |sum| sum.hour_ms) else { continue };
        let sum = &mut sums[at];
        sum.live += hour.live;
        sum.rate += hour.rate;
        sum.exited += hour.exited;
        sum.ended += hour.ended;
        sum.lifetime_s += hour.lifetime_s;
        sum.is_at_least |= hour.is_at_least;
    }
    sums
}

fn interval(hour: &SiteHour) -> Interval {
    let seconds = HOUR_MS as f64 / 1e3;
    Interval {
        seconds,
        created: (hour.rate * seconds).round() as u64,
        live: hour.live,
        ended: hour.ended as u64,
        lifetime_s: hour.lifetime_s,
    }
}

fn last_hosts(hours: &[GroupHour]) -> f64 {
    let mut hosts: Vec<f64> = hours.iter().rev().take(24).map(|hour| hour.hosts).collect();
    hosts.sort_by(f64::total_cmp);
    hosts.get(hosts.len() / 2).copied().unwrap_or(0.0)
}
