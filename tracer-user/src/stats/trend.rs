//! Does a series rise? The Mann–Kendall test says whether, the Theil–Sen slope says how fast.
//!
//! Both look at pairs of samples only (later higher or lower, by how much for each second), so neither a burst nor a
//! missing sample moves them much, and nothing is assumed about how live counts are distributed.

/// What a series of live counts does over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trend {
    /// Samples.
    pub samples: usize,
    /// Time from the first to the last in ns.
    pub span_ns: u64,
    /// Last count minus first count.
    pub grown: i64,
    /// Last count minus the one after two thirds of the time: whether it still goes on.
    pub grown_lately: i64,
    /// Last count minus the one after five sixths of the time.
    pub grown_at_end: i64,
    /// Steps from one sample to the next that rose.
    pub rises: usize,
    /// Steps that fell.
    pub falls: usize,
    /// Lowest count.
    pub lowest: u64,
    /// Highest count.
    pub highest: u64,
    /// Mann–Kendall's normal score with continuity correction: above 2.33 a rise is no chance (one-sided, 1 %).
    pub z: f64,
    /// Theil–Sen: the median change for each second.
    pub slope_per_s: f64,
}

impl Trend {
    /// Too few samples for any trend.
    pub const FEWEST: usize = 8;

    /// Examines (time in ns, count) pairs, ordered by time.
    pub fn of(points: &[(u64, u64)]) -> Trend {
        let (Some(&first), Some(&last)) = (points.first(), points.last()) else { return Trend::default() };
        let counts = || points.iter().map(|&(_, count)| count);
        let lowest = counts().min().unwrap_or(0);
        let highest = counts().max().unwrap_or(0);
        let change = |from: u64, to: u64| to as i64 - from as i64;
        // By time: samples need not be equally far apart.
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

    /// Whether the rise is real: enough samples, no chance, large enough to matter, and still going on near the end.
    pub fn is_growth(&self) -> bool {
        const SURE: f64 = 2.33;
        let large = self.grown >= 5 && self.grown as f64 >= 0.01 * self.highest as f64;
        // A third of the time should have a third of the growth; a quarter of that is enough.
        let lasting = self.grown_lately * 12 >= self.grown;
        // Where there is enough of it to expect more than chance in every part, a sixth of the time should have some, too:
        // else it has levelled off.
        let is_dense = self.grown >= 60 && self.samples >= 12;
        let lasting = lasting && (!is_dense || self.grown_at_end * 24 >= self.grown);
        self.samples >= Self::FEWEST && self.z >= SURE && self.slope_per_s > 0.0 && large && lasting
    }
}

/// (S ∓ 1) / √Var(S), with the variance corrected for ties.
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
        // Gilbert (1987), table 16.2: n = 22 would be long; five values by hand: S = 8, Var = 5·4·15/18 = 16.67.
        let trend = trend([1, 3, 2, 5, 9]);
        assert!((trend.z - 7.0 / 16.666_667_f64.sqrt()).abs() < 1e-6, "{}", trend.z);
        assert!((trend.slope_per_s - 2.0).abs() < 1e-9, "{}", trend.slope_per_s);
        assert_eq!((trend.rises, trend.falls, trend.grown), (3, 1, 8));
    }

    #[test]
    fn ties_lower_the_variance() {
        // S = 3 of 6 pairs (three tied): Var = (4·3·13 − 3·2·11) / 18 = 5.
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
