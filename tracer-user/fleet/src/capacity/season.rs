//! How many will live at once in the week to come. Days and weeks have their rhythm, which is told from growth by MSTL, a
//! decomposition of a series into several seasons, a trend and a rest (<https://arxiv.org/abs/2107.13462>).
//!
//! The trend goes on as a straight line, and what is left of whole days, drawn at random, makes a thousand weeks to come. The most
//! that live in each of them have a median and an interval.

use golife::stats::Estimate;
use golife::stats::random::Random;

use super::growth::{Line, line};
use super::{Balance, GroupHour, HOUR_MS};

const DAY: usize = 24;
const WEEK: usize = 7 * DAY;
/// Fewest and most weeks that are looked at. Of fewer, the intervals are too narrow.
const WEEKS: (usize, usize) = (3, 8);
/// At most this share of the hours may be missing. What is missing lies on a line between its neighbours.
const MISSING: f64 = 0.1;
/// So many weeks are made.
const DRAWN: usize = 1000;
/// The same hours give the same interval.
const SEED: u64 = 5;
/// What 95 % of a normal distribution are within, in standard deviations.
const NORMAL: f64 = 1.96;

/// What is said of the week to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NextWeek {
    /// There are fewer than three weeks of hours.
    TooShort,
    /// More than a tenth of the hours is missing.
    Gaps,
    /// It is not a steady state, so nothing is forecast.
    NotSteady,
    /// So many live at once.
    Peak {
        /// The most, on all hosts together.
        live: Estimate,
        /// The start of the hour in which that is likeliest, in ms since 1970.
        hour_ms: i64,
    },
}

impl NextWeek {
    /// What follows these hours, which must be in their order.
    pub fn of(hours: &[GroupHour], balance: Balance) -> NextWeek {
        let Some((series, share)) = series(hours) else { return NextWeek::TooShort };
        if balance == Balance::NotSteady {
            return NextWeek::NotSteady;
        }
        if share > MISSING {
            return NextWeek::Gaps;
        }
        let end_ms = hours.last().map_or(0, |hour| hour.hour_ms) + HOUR_MS;
        match Rhythm::of(&series) {
            Some(rhythm) => {
                let (live, hour) = rhythm.peak();
                NextWeek::Peak { live, hour_ms: end_ms + hour as i64 * HOUR_MS }
            }
            None => NextWeek::TooShort,
        }
    }
}

/// The living of whole weeks, hour by hour up to the newest, and the share of hours that was missing.
fn series(hours: &[GroupHour]) -> Option<(Vec<f64>, f64)> {
    let (first, last) = (hours.first()?, hours.last()?);
    let span = usize::try_from((last.hour_ms - first.hour_ms) / HOUR_MS + 1).ok()?;
    let weeks = (span / WEEK).min(WEEKS.1);
    if weeks < WEEKS.0 {
        return None;
    }
    let start_ms = last.hour_ms - (weeks * WEEK - 1) as i64 * HOUR_MS;
    let at = |hour: &GroupHour| (hour.hour_ms - start_ms) as f64 / HOUR_MS as f64;
    let mut series = Vec::with_capacity(weeks * WEEK);
    let mut next = 0;
    let mut missing = 0;
    for position in 0..weeks * WEEK {
        let position = position as f64;
        while hours.get(next).is_some_and(|hour| at(hour) < position) {
            next += 1;
        }
        let after = &hours[next.min(hours.len() - 1)];
        let is_there = at(after) == position;
        missing += usize::from(!is_there);
        let before = &hours[next.saturating_sub(1)];
        let part = (position - at(before)) / (at(after) - at(before)).max(1.0);
        series.push(if is_there { after.live } else { before.live + part * (after.live - before.live) });
    }
    Some((series, missing as f64 / (weeks * WEEK) as f64))
}

/// What comes back each week, and what does not.
struct Rhythm {
    /// The hours of a week, as they are without growth.
    season: Vec<f64>,
    /// What grows, over the number of the hour.
    line: Line,
    /// What is left of each hour.
    rest: Vec<f64>,
    /// Whether these are logarithms. Load swings by a share of itself, unless nobody lives at times.
    is_log: bool,
}

impl Rhythm {
    fn of(series: &[f64]) -> Option<Rhythm> {
        let is_log = series.iter().all(|live| *live > 0.0);
        let series: Vec<f64> = series.iter().map(|live| if is_log { live.ln() } else { *live }).collect();
        // Seasons are the same in each week and not smoothed, since there are few weeks, and what happens once is no season.
        let mut each = stlrs::Stl::params();
        each.seasonal_degree(0).robust(true);
        let always = 10 * series.len() + 1;
        let mut parameters = stlrs::Mstl::params();
        parameters.stl_params(each).seasonal_lengths(&[always, always]);
        let parts = parameters.fit(&series, &[DAY, WEEK]).ok()?;
        let season: Vec<f64> =
            (0..series.len()).map(|at| parts.seasonal().iter().map(|of| of[at]).sum()).collect();
        let without: Vec<f64> = series.iter().zip(&season).map(|(live, season)| live - season).collect();
        let days = without.chunks_exact(DAY).enumerate();
        let middle = (DAY as f64 - 1.0) / 2.0;
        let means =
            days.map(|(day, hours)| ((day * DAY) as f64 + middle, hours.iter().sum::<f64>() / DAY as f64));
        let line = line(&means.collect::<Vec<_>>(), WEEK / DAY - 1)?;
        let weeks = (series.len() / WEEK) as f64;
        // What is left is too small, since seasons were fitted to it, and those have an error, too: as of the mean of as many.
        let wider = ((1.0 + 1.0 / weeks) / (1.0 - 1.0 / weeks)).sqrt();
        let rest = without.iter().enumerate().map(|(at, live)| wider * (live - line.at(at as f64)));
        let rest = rest.collect();
        Some(Rhythm { season: season[series.len() - WEEK..].to_vec(), line, rest, is_log })
    }

    /// The most that live at once in the week to come, and the hour of it in which that is likeliest.
    fn peak(&self) -> (Estimate, usize) {
        let begin = self.rest.len();
        let expected: Vec<f64> = self
            .season
            .iter()
            .enumerate()
            .map(|(at, season)| season + self.line.at((begin + at) as f64))
            .collect();
        let mut random = Random::new(SEED);
        let mut peaks: Vec<f64> = (0..DRAWN)
            .map(|_| {
                let off = random.normal() * self.line.half_at((begin + WEEK / 2) as f64) / NORMAL;
                let days = expected.chunks_exact(DAY).map(|hours| {
                    let day = random.below(self.rest.len() / DAY) * DAY;
                    hours
                        .iter()
                        .zip(&self.rest[day..])
                        .map(|(hour, rest)| hour + rest)
                        .fold(f64::MIN, f64::max)
                });
                let most = off + days.fold(f64::MIN, f64::max);
                if self.is_log { most.exp() } else { most.max(0.0) }
            })
            .collect();
        peaks.sort_by(f64::total_cmp);
        let part = |share: f64| peaks[((DRAWN as f64 * share) as usize).min(DRAWN - 1)];
        let likeliest = (0..WEEK).max_by(|a, b| expected[*a].total_cmp(&expected[*b]));
        (Estimate { value: part(0.5), low: part(0.025), high: part(0.975) }, likeliest.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    /// A service with day and night, quiet weekends and growth. `noise` is that of an hour, and of a whole day beside it.
    fn hours(weeks: usize, growth: f64, noise: f64, random: &mut Random) -> Vec<GroupHour> {
        let mut of_day = 0.0;
        let hour = |at: usize| {
            if at.is_multiple_of(DAY) {
                of_day = noise / 2.0 * random.normal();
            }
            let day = 0.5 * ((at % DAY) as f64 / DAY as f64 * TAU).sin();
            let weekend = if at / DAY % 7 >= 5 { -0.4 } else { 0.0 };
            let growth = growth * at as f64 / WEEK as f64;
            let live = (7.0 + day + weekend + growth + of_day + noise * random.normal()).exp();
            GroupHour { hour_ms: at as i64 * HOUR_MS, live: live.round(), ..GroupHour::default() }
        };
        (0..weeks * WEEK).map(hour).collect()
    }

    fn most(hours: &[GroupHour]) -> f64 {
        hours.iter().map(|hour| hour.live).fold(0.0, f64::max)
    }

    fn next(hours: &[GroupHour]) -> NextWeek {
        NextWeek::of(hours, Balance::Steady)
    }

    #[test]
    fn the_peak_of_week_five_follows_from_four_weeks() {
        let mut random = Random::new(11);
        let (mut within, mut near) = (0, 0);
        for seed in 0..200 {
            let growth = [0.0, 0.03, 0.08, -0.02][seed % 4];
            let noise = [0.01, 0.03, 0.05][seed % 3];
            let all = hours(5, growth, noise, &mut random);
            let (known, coming) = all.split_at(4 * WEEK);
            let NextWeek::Peak { live, hour_ms } = next(known) else { panic!("no peak") };
            within += usize::from((live.low..=live.high).contains(&most(coming)));
            near += usize::from((live.value / most(coming) - 1.0).abs() < 0.1);
            let hour = (hour_ms / HOUR_MS) as usize;
            assert!((4 * WEEK..5 * WEEK).contains(&hour) && hour / DAY % 7 < 5, "hour {hour}");
        }
        assert!(near >= 190, "{near} of 200 within 10 %");
        assert!((184..=198).contains(&within), "{within} of 200 within the interval of 95 %");
    }

    #[test]
    fn what_is_too_short_has_gaps_or_leaks_is_not_forecast() {
        let mut random = Random::new(2);
        let month = hours(4, 0.0, 0.02, &mut random);
        assert_eq!(next(&[]), NextWeek::TooShort);
        assert_eq!(next(&month[..3 * WEEK - 1]), NextWeek::TooShort);
        assert_eq!(NextWeek::of(&month, Balance::NotSteady), NextWeek::NotSteady);
        let without = |every: usize| {
            let all = month.iter().enumerate();
            all.filter(|(at, _)| at % every != 1).map(|(_, hour)| *hour).collect::<Vec<_>>()
        };
        assert_eq!(next(&without(8)), NextWeek::Gaps);
        let (NextWeek::Peak { live: few, .. }, NextWeek::Peak { live: all, .. }) =
            (next(&without(20)), next(&month))
        else {
            panic!("no peak")
        };
        assert!((few.value / all.value - 1.0).abs() < 0.02, "{few:?} {all:?}");
    }

    #[test]
    fn nights_without_anybody() {
        let hours: Vec<GroupHour> = (0..4 * WEEK)
            .map(|at| GroupHour {
                hour_ms: at as i64 * HOUR_MS,
                live: if (8..20).contains(&(at % DAY)) { 100.0 } else { 0.0 },
                ..GroupHour::default()
            })
            .collect();
        let NextWeek::Peak { live, .. } = next(&hours) else { panic!("no peak") };
        assert!((live.value - 100.0).abs() < 1.0 && live.low < 100.1 && live.high < 102.0, "{live:?}");
    }
}
