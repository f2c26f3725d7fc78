//! What fraction of a site's goroutines is still alive at each age: the Kaplan–Meier estimate.
//!
//! The lifetimes of finished goroutines alone hide the leaks, since what never ends is never among them. The living are
//! observations too: each lived *at least* as long as it is old now (such an observation is called censored). The
//! product of Kaplan and Meier takes both into account: S(t) = ∏ (1 − dᵢ/nᵢ) over the lifetimes tᵢ ≤ t, where dᵢ
//! goroutines ended at the age tᵢ, and nᵢ were observed up to that age and had not ended before.
//!
//! Goroutines that existed before tracing are left out. Their creation was not seen, and neither were those of the same
//! generation that ended early, so counting them would bias the curve towards long lives.

/// The estimate: a step function that starts at 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survival {
    /// The steps as (age in ns, fraction that lives longer), ordered by age.
    steps: Vec<(u64, f64)>,
    /// The longest observation in ns, of a finished or a living goroutine. Nothing is known of greater ages.
    observed_ns: u64,
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
            fraction *= 1.0 - ended as f64 / at_risk.max(ended) as f64;
            at_risk = at_risk.saturating_sub(ended);
            steps.push((age, fraction));
        }
        let observed_ns = [finished.last(), living.last()].into_iter().flatten().map(|&(age, _)| age).max();
        Survival { steps, observed_ns: observed_ns.unwrap_or(0) }
    }

    /// The fraction that lives longer than `age_ns`.
    pub fn at(&self, age_ns: u64) -> f64 {
        let after = self.steps.partition_point(|&(age, _)| age <= age_ns);
        after.checked_sub(1).map_or(1.0, |last| self.steps[last].1)
    }

    /// The longest observation in ns; 0 without observations.
    pub fn observed_ns(&self) -> u64 {
        self.observed_ns
    }

    /// The mean lifetime in ns, restricted to the longest observation: it is the area under the curve up to there. If
    /// the curve ends above 0, this is a lower bound of the mean. `None` without observations.
    pub fn restricted_mean_ns(&self) -> Option<u64> {
        if self.observed_ns == 0 {
            return None;
        }
        let (mut area, mut from, mut fraction) = (0.0, 0, 1.0);
        for &(age, after) in &self.steps {
            area += (age - from) as f64 * fraction;
            (from, fraction) = (age, after);
        }
        area += self.observed_ns.saturating_sub(from) as f64 * fraction;
        Some(area.round() as u64)
    }

    /// At most [`POINTS`] points of the curve as (age in ns, fraction), with the start and the last step among them.
    /// The fraction falls by about the same amount from each point to the next, so the curve keeps its shape.
    pub fn points(&self) -> Vec<(u64, f64)> {
        let mut points = vec![(0, 1.0)];
        let Some(&last) = self.steps.last() else { return points };
        let apart = (1.0 - last.1) / (POINTS - 2) as f64;
        for pair in self.steps.windows(2) {
            if points[points.len() - 1].1 - pair[0].1 >= apart && points.len() < POINTS - 1 {
                points.push(pair[0]);
            }
        }
        points.push(last);
        points
    }
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
            prop_assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1));
        }

        #[test]
        fn many_steps_give_few_points(finished in proptest::collection::vec(1u64..1_000_000, 100..400)) {
            let curve = Survival::estimate(pairs(&finished), [], []);
            let points = curve.points();
            prop_assert!(points.len() <= POINTS && points.len() > POINTS / 3);
            prop_assert!(points.last().unwrap().1.abs() < 1e-9);
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
        assert_eq!(curve.points(), [(0, 1.0)]);
    }
}
