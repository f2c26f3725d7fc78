//! Whether a series rises, by the Mann–Kendall test, and how fast, by the Theil–Sen slope.
//!
//! Both look only at pairs of samples: whether the later one is higher, and by how much per second. So neither a burst
//! nor a missing sample moves them much, and nothing is assumed about how live counts are distributed.

/// How a series of live counts develops over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trend {
    /// Number of samples.
    pub samples: usize,
    /// Time from the first sample to the last, in ns.
    pub span_ns: u64,
    /// The last count minus the first.
    pub grown: i64,
    /// The last count minus the one after two thirds of the time: this tells whether a rise still goes on.
    pub grown_lately: i64,
    /// The last count minus the one after five sixths of the time.
    pub grown_at_end: i64,
    /// Number of steps from one sample to the next at which the count rose.
    pub rises: usize,
    /// Number of steps from one sample to the next at which the count fell.
    pub falls: usize,
    /// The lowest count.
    pub lowest: u64,
    /// The highest count.
    pub highest: u64,
    /// The normal score of the Mann–Kendall test, with continuity correction. A rise with a score above 2.33 is not due
    /// to chance, with 99 % confidence (one-sided).
    pub z: f64,
    /// The Theil–Sen slope: the median of the changes per second between all pairs of samples.
    pub slope_per_s: f64,
}

impl Trend {
    /// The fewest samples from which a trend can be told.
    pub const FEWEST: usize = 8;

    /// Examines (time in ns, count) pairs, which must be ordered by time.
    pub fn of(points: &[(u64, u64)]) -> Trend {
        let (Some(&first), Some(&last)) = (points.first(), points.last()) else { return Trend::default() };
        let counts = || points.iter().map(|&(_, count)| count);
        let lowest = counts().min().unwrap_or(0);
        let highest = counts().max().unwrap_or(0);
        let change = |from: u64, to: u64| to as i64 - from as i64;
        // The count is looked up by time, since samples need not be equally far apart.
        let at = |fraction: f64| {
            let time = first.0 + ((last.0 - first.0) as f64 * fraction) as u64;
            points[points.partition_point(|&(earlier, _)| earlier <= time).saturating_sub(1)].1
        };
        let mut trend = Trend {
            samples: points.len(),
            span_ns: last.0 - first.0,
            grown: change(first.1, last.1),
            grown_lately: change(at(2.0 / 3.0), last.1),
            grown_at_end: change(at(5.0 / 6.0), last.1),
            rises: points.windows(2).filter(|pair| pair[1].1 > pair[0].1).count(),
            falls: points.windows(2).filter(|pair| pair[1].1 < pair[0].1).count(),
            lowest,
            highest,
            ..Trend::default()
        };
        if lowest == highest {
            return trend;
        }
        let mut score = 0i64;
        let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
        for (at, &(early, before)) in points.iter().enumerate() {
            for &(late, after) in &points[at + 1..] {
                score += change(before, after).signum();
                if late > early {
                    slopes.push(change(before, after) as f64 * 1e9 / (late - early) as f64);
                }
            }
        }
        trend.z = normal_score(score, points);
        if !slopes.is_empty() {
            let middle = slopes.len() / 2;
            trend.slope_per_s = *slopes.select_nth_unstable_by(middle, f64::total_cmp).1;
        }
        trend
    }

    /// Whether the rise is real: there are enough samples, it is not due to chance, and it still goes on near the end.
    /// How much there was before does not matter.
    pub fn is_growth(&self) -> bool {
        const SURE: f64 = 2.33;
        // A third of the time should bring a third of the growth. A quarter of that is enough.
        let lasting = self.grown_lately * 12 >= self.grown;
        // With enough growth and samples to expect more than chance in every part, the last sixth of the time should
        // bring some, too. Otherwise the series has levelled off.
        let is_dense = self.grown >= 60 && self.samples >= 12;
        let lasting = lasting && (!is_dense || self.grown_at_end * 24 >= self.grown);
        self.samples >= Self::FEWEST && self.z >= SURE && self.slope_per_s > 0.0 && self.grown >= 5 && lasting
    }
}

/// The score (S ∓ 1) / √Var(S), with the variance corrected for ties, as in Gilbert, *Statistical Methods for
/// Environmental Pollution Monitoring* (1987), chapter 16.
fn normal_score(score: i64, points: &[(u64, u64)]) -> f64 {
    let weight = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut counts: Vec<u64> = points.iter().map(|&(_, count)| count).collect();
    counts.sort_unstable();
    let ties: f64 = counts.chunk_by(|a, b| a == b).map(|tied| weight(tied.len() as f64)).sum();
    let variance = (weight(points.len() as f64) - ties) / 18.0;
    if variance <= 0.0 { 0.0 } else { (score - score.signum()) as f64 / variance.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(counts: impl IntoIterator<Item = u64>) -> Trend {
        let points: Vec<_> =
            counts.into_iter().enumerate().map(|(s, n)| (s as u64 * 1_000_000_000, n)).collect();
        Trend::of(&points)
    }

    #[test]
    fn a_worked_example() {
        // Five values that can be worked by hand, since the 22 of Gilbert's table 16.2 are too many: S = 8, Var =
        // 5·4·15/18 = 16.67.
        let trend = trend([1, 3, 2, 5, 9]);
        assert!((trend.z - 7.0 / 16.666_667_f64.sqrt()).abs() < 1e-6, "{}", trend.z);
        assert!((trend.slope_per_s - 2.0).abs() < 1e-9, "{}", trend.slope_per_s);
        assert_eq!((trend.rises, trend.falls, trend.grown), (3, 1, 8));
    }

    #[test]
    fn ties_lower_the_variance() {
        // S = 3 of 6 pairs, and three values are tied: Var = (4·3·13 − 3·2·11) / 18 = 5.
        assert!((trend([1, 1, 1, 4]).z - 2.0 / 5f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_steady_rise_is_growth() {
        assert!(trend((0..30).map(|s| 100 + 7 * s)).is_growth());
        assert!(trend((0..30).map(|s| 1_000 + 3 * s + (s * 7919) % 11)).is_growth());
    }

    #[test]
    fn two_samples_at_the_end_are_one() {
        let mut points: Vec<_> = (0..12).map(|s| (s * 1_000_000_000, s * 20)).collect();
        points.push((11_000_000_001, 220));
        points.push((11_000_000_002, 220));
        assert!(Trend::of(&points).is_growth());
    }

    #[test]
    fn what_recedes_or_stays_is_not() {
        assert!(!trend((0..30).map(|s| if (5..10).contains(&s) { 5_000 } else { 3 })).is_growth());
        assert!(!trend((0..30).map(|_| 40)).is_growth());
        assert!(!trend((0..30).map(|s| 40 + (s * 7919) % 11)).is_growth());
        assert!(!trend((0..30).map(|s| if s < 3 { 0 } else { 100 })).is_growth(), "a pool that was started");
        assert!(!trend((0..30).map(|s| (s * 10).min(100))).is_growth(), "a pool that filled up");
        assert!(!trend((0..21).map(|s| (s * 7).min(15 * 7))).is_growth(), "one that filled up slowly");
        assert!(!trend((0..30).map(|s| if s < 28 { 0 } else { 900 })).is_growth(), "a burst at the end");
        assert!(!trend([0, 10, 20]).is_growth(), "too few");
    }
}
