//! What fraction of a site's goroutines is still alive at each age: the Kaplan–Meier estimate.
//!
//! The lifetimes of finished goroutines alone hide the leaks, since what never ends is never among them. The living are
//! observations too: each lived *at least* as long as it is old now (such an observation is called censored). The
//! product of Kaplan and Meier takes both into account: S(t) = ∏ (1 − dᵢ/nᵢ) over the lifetimes tᵢ ≤ t, where dᵢ
//! goroutines ended at the age tᵢ, and nᵢ were observed up to that age and had not ended before.
//!
//! How sure the fraction is says Greenwood's formula: Var S(t) = S(t)² ∑ dᵢ / (nᵢ (nᵢ − dᵢ)). Its interval is made on the scale
//! of log(−log S), where it stays between 0 and 1: Kalbfleisch and Prentice, *The Statistical Analysis of Failure Time Data*
//! (2002), section 1.4.
//!
//! Goroutines that existed before tracing are left out. Their creation was not seen, and neither were those of the same
//! generation that ended early, so counting them would bias the curve towards long lives.

use super::estimate::{Estimate, Z95};

/// The estimate: a step function that starts at 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survival {
    /// The steps, ordered by age.
    steps: Vec<Step>,
    /// The longest observation in ns, of a finished or a living goroutine. Nothing is known of greater ages.
    observed_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    age_ns: u64,
    /// The fraction that lives longer.
    fraction: f64,
    /// dᵢ / (nᵢ (nᵢ − dᵢ)): infinite where all ended that were there.
    term: f64,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Age in ns.
    pub age_ns: u64,
    /// The fraction that lives longer than this age, with its interval.
    pub fraction: Estimate,
}

/// The most points that a report shows of a curve.
pub const POINTS: usize = 32;

impl Survival {
    /// Estimates the curve from (duration in ns, count) pairs, with each list ordered by duration. `finished` are the
    /// lifetimes of those that ended, and `living` the ages of those that live. `entered` are the ages that some of all
    /// these had when they were first observed: they could not have been seen to end before that age (left truncation).
    /// Those who are not in `entered` were observed from birth.
    pub fn estimate(
        finished: impl IntoIterator<Item = (u64, u64)>,
        living: impl IntoIterator<Item = (u64, u64)>,
        entered: impl IntoIterator<Item = (u64, u64)>,
    ) -> Survival {
        let finished: Vec<_> = finished.into_iter().filter(|&(_, n)| n > 0).collect();
        let living: Vec<_> = living.into_iter().filter(|&(_, n)| n > 0).collect();
        let total = |list: &[(u64, u64)]| list.iter().fold(0u64, |sum, &(_, n)| sum.saturating_add(n));
        let entered: Vec<_> = entered.into_iter().filter(|&(_, n)| n > 0).collect();
        let all = total(&finished).saturating_add(total(&living));
        let mut at_risk = all.saturating_sub(total(&entered));
        let mut entering = entered.iter().peekable();
        let mut censored = living.iter().peekable();
        let mut fraction = 1.0;
        let mut steps = Vec::with_capacity(finished.len());
        for &(age, ended) in &finished {
            while let Some(&&(_, n)) = entering.peek().filter(|&&&(from, _)| from < age) {
                at_risk = at_risk.saturating_add(n);
                entering.next();
            }
            // One that was last seen alive at exactly this age is still at risk at this age.
            while let Some(&&(_, n)) = censored.peek().filter(|&&&(seen, _)| seen < age) {
                at_risk = at_risk.saturating_sub(n);
                censored.next();
            }
            let (died, there) = (ended as f64, at_risk.max(ended) as f64);
            fraction *= 1.0 - died / there;
            at_risk = at_risk.saturating_sub(ended);
            steps.push(Step { age_ns: age, fraction, term: died / (there * (there - died)) });
        }
        let observed_ns = [finished.last(), living.last()].into_iter().flatten().map(|&(age, _)| age).max();
        Survival { steps, observed_ns: observed_ns.unwrap_or(0) }
    }

    /// The fraction that lives longer than `age_ns`.
    pub fn at(&self, age_ns: u64) -> f64 {
        let after = self.steps.partition_point(|step| step.age_ns <= age_ns);
        after.checked_sub(1).map_or(1.0, |last| self.steps[last].fraction)
    }

    /// The longest observation in ns; 0 without observations.
    pub fn observed_ns(&self) -> u64 {
        self.observed_ns
    }

    /// The mean lifetime in ns, restricted to the longest observation: it is the area under the curve up to there. If
    /// the curve ends above 0, this is a lower bound of the mean. `None` without observations.
    pub fn restricted_mean_ns(&self) -> Option<u64> {
        self.area().map(|(area, _)| area.round() as u64)
    }

    /// The restricted mean in ns with its interval, for independent lives. Its variance is ∑ Aᵢ² dᵢ / (nᵢ (nᵢ − dᵢ)), where Aᵢ is the
    /// area under the curve beyond tᵢ: Klein and Moeschberger, *Survival Analysis* (2003), section 4.5. The interval is made on
    /// a logarithmic scale. Nothing bounds it from above if the curve ends above 0. `None` without observations.
    ///
    /// `total_ns` is the sum of all durations, `ended` how many of them are lifetimes. Where these are fewer than 10, their spread
    /// tells too little. Then the interval also holds that of exponential lives, which takes only the number of ends into
    /// account.
    pub fn mean(&self, ended: u64, total_ns: f64) -> Option<Estimate> {
        let (value, variance) = self.area()?;
        let factor = if value > 0.0 { (Z95 * variance.sqrt() / value).exp() } else { 1.0 };
        let mut mean = Estimate { value, low: value / factor, high: value * factor };
        if ended < 10 {
            let ends = Estimate::of_count(ended);
            let high = if ends.low > 0.0 { total_ns / ends.low } else { f64::INFINITY };
            mean = mean.wider(Estimate { value, low: total_ns / ends.high, high });
        }
        if self.steps.last().is_none_or(|step| step.fraction > 1e-9) {
            mean.high = f64::INFINITY;
        }
        Some(mean)
    }

    /// The area under the curve up to the longest observation in ns, with its variance in ns².
    fn area(&self) -> Option<(f64, f64)> {
        if self.observed_ns == 0 {
            return None;
        }
        let (mut area, mut variance, mut until) = (0.0, 0.0, self.observed_ns);
        for step in self.steps.iter().rev() {
            area += until.saturating_sub(step.age_ns) as f64 * step.fraction;
            // After a step to 0 there is no area, however unsure it is.
            if area > 0.0 && step.term.is_finite() {
                variance += area * area * step.term;
            }
            until = until.min(step.age_ns);
        }
        Some((area + until as f64, variance))
    }

    /// At most [`POINTS`] points of the curve, with the start and the last step among them. The fraction falls by about
    /// the same amount from each point to the next, so the curve keeps its shape. Where the curve reaches 0, nothing is left from
    /// which the interval could be told, so its upper end stays where it was.
    pub fn points(&self) -> Vec<Point> {
        let start = Point { age_ns: 0, fraction: Estimate { value: 1.0, low: 1.0, high: 1.0 } };
        let mut points = vec![start];
        let Some(&last) = self.steps.last() else { return points };
        let apart = (1.0 - last.fraction) / (POINTS - 2) as f64;
        let (mut sum, mut at, mut shown) = (0.0, start, 1.0);
        for (number, step) in self.steps.iter().enumerate() {
            let is_last = number + 1 == self.steps.len();
            sum += step.term;
            at = Point { age_ns: step.age_ns, fraction: interval(step.fraction, sum, at.fraction.high) };
            let room = points.len() < POINTS - 1 && shown - step.fraction >= apart;
            if is_last || room {
                points.push(at);
                shown = step.fraction;
            }
        }
        points
    }
}

/// The interval of a fraction, from the sum in Greenwood's formula. `most` is the upper end for a shorter age.
fn interval(fraction: f64, sum: f64, most: f64) -> Estimate {
    if fraction <= 0.0 || fraction >= 1.0 || !sum.is_finite() {
        return Estimate { value: fraction, low: fraction.min(1.0), high: most.max(fraction) };
    }
    let spread = (Z95 * sum.sqrt() / fraction.ln().abs()).exp();
    Estimate { value: fraction, low: fraction.powf(spread), high: fraction.powf(1.0 / spread).min(most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of the estimate, computed observation by observation.
    fn brute(finished: &[u64], living: &[u64], age: u64) -> f64 {
        let mut ends: Vec<u64> = finished.iter().copied().filter(|&end| end <= age).collect();
        ends.sort_unstable();
        ends.dedup();
        ends.iter().fold(1.0, |fraction, &end| {
            let ended = finished.iter().filter(|&&other| other == end).count() as f64;
            let at_risk = finished.iter().chain(living).filter(|&&other| other >= end).count() as f64;
            fraction * (1.0 - ended / at_risk)
        })
    }

    fn pairs(values: &[u64]) -> Vec<(u64, u64)> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().map(|value| (value, 1)).fold(
            Vec::new(),
            |mut pairs: Vec<(u64, u64)>, (value, n)| {
                match pairs.last_mut().filter(|last| last.0 == value) {
                    Some(last) => last.1 += n,
                    None => pairs.push((value, n)),
                }
                pairs
            },
        )
    }

    proptest! {
        #[test]
        fn equals_the_definition(finished in proptest::collection::vec(1u64..50, 0..60), living in proptest::collection::vec(1u64..60, 0..60)) {
            let curve = Survival::estimate(pairs(&finished), pairs(&living), []);
            for age in 0..60 {
                prop_assert!((curve.at(age) - brute(&finished, &living, age)).abs() < 1e-9);
            }
            let points = curve.points();
            prop_assert!(points.len() <= POINTS);
            prop_assert!(points.windows(2).all(|pair| pair[0].age_ns <= pair[1].age_ns));
            for pair in points.windows(2) {
                let (before, after) = (pair[0].fraction, pair[1].fraction);
                prop_assert!(before.value >= after.value && before.high >= after.high);
                prop_assert!(after.low <= after.value && after.value <= after.high && after.low >= 0.0);
            }
        }

        #[test]
        fn many_steps_give_few_points(finished in proptest::collection::vec(1u64..1_000_000, 100..400)) {
            let curve = Survival::estimate(pairs(&finished), [], []);
            let points = curve.points();
            prop_assert!(points.len() <= POINTS && points.len() > POINTS / 3);
            prop_assert!(points.last().unwrap().fraction.value.abs() < 1e-9);
        }
    }

    proptest! {
        /// Each life is the age from which it is observed, for how long it is observed from then on, and whether it
        /// ended then.
        #[test]
        fn who_enters_late_was_not_at_risk_before(
            lives in proptest::collection::vec((0u64..40, 1u64..40, any::<bool>()), 1..80)
        ) {
            let ages = |wanted: bool| lives.iter().filter(move |life| life.2 == wanted).map(|&(from, more, _)| from + more);
            let (finished, living): (Vec<u64>, Vec<u64>) = (ages(true).collect(), ages(false).collect());
            let entered: Vec<u64> = lives.iter().map(|life| life.0).filter(|&from| from > 0).collect();
            let curve = Survival::estimate(pairs(&finished), pairs(&living), pairs(&entered));
            let mut fraction = 1.0;
            for age in 1..80 {
                let ended = finished.iter().filter(|&&end| end == age).count() as f64;
                let at_risk = lives.iter().filter(|&&(from, more, _)| from < age && from + more >= age).count() as f64;
                fraction *= 1.0 - if ended > 0.0 { ended / at_risk } else { 0.0 };
                prop_assert!((curve.at(age) - fraction).abs() < 1e-9, "age {age}: {} for {fraction}", curve.at(age));
            }
        }
    }

    /// The textbook example: the remission data of Freireich et al. (1963) in weeks, for the group that was given 6-MP.
    #[test]
    fn the_textbook_example() {
        let ended = [(6, 3), (7, 1), (10, 1), (13, 1), (16, 1), (22, 1), (23, 1)];
        let censored =
            [(6, 1), (9, 1), (10, 1), (11, 1), (17, 1), (19, 1), (20, 1), (25, 1), (32, 2), (34, 1), (35, 1)];
        let curve = Survival::estimate(ended, censored, []);
        for (week, want) in [
            (5, 1.0),
            (6, 0.857),
            (7, 0.807),
            (10, 0.753),
            (13, 0.690),
            (16, 0.627),
            (22, 0.538),
            (23, 0.448),
        ] {
            assert!((curve.at(week) - want).abs() < 0.0006, "week {week}: {}", curve.at(week));
        }
        assert_eq!(curve.observed_ns(), 35);
        // The standard errors of the same book, by Greenwood's formula: 0.0764 at 6 weeks, 0.1346 at 23.
        let point = |week| curve.points().into_iter().find(|point| point.age_ns == week).unwrap().fraction;
        for (week, error) in [(6, 0.0764), (23, 0.1346)] {
            let got = point(week);
            let scale = got.value * got.value.ln().abs();
            let on_scale = ((got.low.ln() / got.value.ln()).ln()) / Z95 * scale;
            assert!((on_scale - error).abs() < 0.0003, "week {week}: {on_scale}");
        }
        // R's survfit with conf.type = "log-log" says 0.620 to 0.952 at 6 weeks, 0.188 to 0.680 at 23.
        for (week, low, high) in [(6, 0.620, 0.952), (23, 0.188, 0.680)] {
            let got = point(week);
            assert!((got.low - low).abs() < 0.001 && (got.high - high).abs() < 0.001, "week {week}: {got:?}");
        }
    }

    #[test]
    fn without_the_living_the_mean_is_the_mean() {
        let curve = Survival::estimate([(10, 1), (20, 2), (50, 1)], [], []);
        assert_eq!(curve.restricted_mean_ns(), Some(25));
        assert_eq!(Survival::estimate([], [], []).restricted_mean_ns(), None);
    }

    #[test]
    fn only_the_living_all_survive() {
        let curve = Survival::estimate([], [(100, 5)], []);
        assert_eq!((curve.at(1_000), curve.restricted_mean_ns()), (1.0, Some(100)));
        assert_eq!(curve.points().len(), 1);
        assert_eq!(curve.points()[0].fraction.value, 1.0);
        assert!(curve.mean(0, 500.0).unwrap().high.is_infinite());
    }
}
