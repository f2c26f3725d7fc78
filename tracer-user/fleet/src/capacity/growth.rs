//! By how much a group grows in a week, and when that reaches the limit of its memory. Days are compared with days, so that day and
//! night are no growth, and they are counted back from the newest hour, so that all of them are whole.

use golife::stats::Estimate;
use golife::stats::estimate::student;

use super::{Balance, GroupHour, HOUR_MS};

const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK: f64 = 7.0;
/// What is further away than this many days is not spoken of.
const FURTHEST: f64 = 3650.0;

/// By how much the living grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// There is less than a week of data, of so many days.
    TooShort(f64),
    /// So many more in a week.
    Weekly(Estimate),
}

/// When the fullest host reaches the limit of its memory by its stacks alone, as it grows now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Runway {
    /// There is no limit, or stacks are not known.
    NoLimit,
    /// There is less than a week of data.
    TooShort,
    /// It is not a steady state, so nothing is forecast.
    NotSteady,
    /// It has been reached.
    Reached,
    /// It is not reached: no growth is told from none, or it takes longer than ten years.
    Never,
    /// It is reached then, in ms since 1970.
    At {
        /// The most likely moment.
        ms: i64,
        /// The first moment that the growth's interval allows.
        earliest_ms: i64,
        /// The last one.
        latest_ms: i64,
    },
}

impl Growth {
    /// The growth over the hours, which must be in their order.
    pub fn of(hours: &[GroupHour]) -> Growth {
        let points = days(hours, |day| {
            let sum: f64 = day.iter().map(|hour| hour.live).sum();
            let time: f64 = day.iter().map(|hour| hour.hour_ms as f64).sum();
            Some((time / day.len() as f64, sum / day.len() as f64))
        });
        match line(&points, 0) {
            Some(line) => Growth::Weekly(line.daily(WEEK)),
            None => Growth::TooShort(span_days(hours)),
        }
    }
}

impl Runway {
    /// The runway of a group with this limit in bytes.
    pub fn of(hours: &[GroupHour], limit: Option<f64>, balance: Balance) -> Runway {
        let (Some(limit), Some(last)) = (limit, hours.last()) else { return Runway::NoLimit };
        if hours.iter().all(|hour| hour.stack_max.is_none()) {
            return Runway::NoLimit;
        }
        if last.stack_max.is_some_and(|most| most >= limit) {
            return Runway::Reached;
        }
        if balance == Balance::NotSteady {
            return Runway::NotSteady;
        }
        // Each day's fullest hour.
        let points = days(hours, |day| {
            let known = day.iter().filter_map(|hour| Some((hour.hour_ms as f64, hour.stack_max?)));
            known.max_by(|a, b| a.1.total_cmp(&b.1))
        });
        let Some(line) = line(&points, 0) else { return Runway::TooShort };
        let daily = line.daily(1.0);
        let rest = limit - line.at(last.hour_ms as f64);
        if daily.low <= 0.0 || rest / daily.value > FURTHEST {
            return Runway::Never;
        }
        let when =
            |daily: f64| last.hour_ms + ((rest.max(0.0) / daily).min(FURTHEST * 10.0) * DAY_MS as f64) as i64;
        Runway::At { ms: when(daily.value), earliest_ms: when(daily.high), latest_ms: when(daily.low) }
    }
}

/// A point for each whole day. There are none unless there is a week of them.
fn days(hours: &[GroupHour], point: impl Fn(&[GroupHour]) -> Option<(f64, f64)>) -> Vec<(f64, f64)> {
    let Some(last) = hours.last() else { return Vec::new() };
    if span_days(hours) < WEEK {
        return Vec::new();
    }
    let whole = span_days(hours) as i64;
    let day = |hour: &GroupHour| (last.hour_ms - hour.hour_ms) / DAY_MS;
    hours.chunk_by(|a, b| day(a) == day(b)).filter(|part| day(&part[0]) < whole).filter_map(point).collect()
}

fn span_days(hours: &[GroupHour]) -> f64 {
    let span =
        hours.last().zip(hours.first()).map_or(0, |(last, first)| last.hour_ms - first.hour_ms + HOUR_MS);
    span as f64 / DAY_MS as f64
}

/// A straight line through points, by least squares, with its error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    middle: (f64, f64),
    slope: f64,
    /// Half of the 95 % interval of the slope, and of the height in the middle.
    half: (f64, f64),
}

/// `None` where too few points are left of which anything is told. So many numbers were fitted to the points beside the line.
pub(super) fn line(points: &[(f64, f64)], fitted: usize) -> Option<Line> {
    let n = points.len() as f64;
    let freedom = points.len().checked_sub(2 + fitted).filter(|freedom| *freedom >= 2)?;
    let middle = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let spread: f64 = points.iter().map(|p| (p.0 - middle.0).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - middle.0) * (p.1 - middle.1)).sum::<f64>() / spread;
    let left: f64 = points.iter().map(|p| (p.1 - middle.1 - slope * (p.0 - middle.0)).powi(2)).sum();
    let scatter = student(freedom) * (left / freedom as f64).sqrt();
    Some(Line { middle, slope, half: (scatter / spread.sqrt(), scatter / n.sqrt()) })
}

impl Line {
    /// How much it rises in so many days.
    fn daily(&self, days: f64) -> Estimate {
        let day = DAY_MS as f64 * days;
        Estimate::around(self.slope * day, self.half.0 * day, f64::NEG_INFINITY)
    }

    /// How high it is at a time.
    pub(super) fn at(&self, time: f64) -> f64 {
        self.middle.1 + self.slope * (time - self.middle.0)
    }

    /// Half of the 95 % interval of that.
    pub(super) fn half_at(&self, time: f64) -> f64 {
        (self.half.0 * (time - self.middle.0)).hypot(self.half.1)
    }
}
