//! Whether two samples differ by more than chance: counts over times, and durations.

/// Counts of more together than this are compared by the normal approximation, which is as good then.
const MOST_EXACT: u64 = 1_000;
/// Samples smaller than this are too small for the normal approximation of the rank test.
const LEAST: u64 = 10;

/// The two-sided p-value that two counts of independent events come from the same rate, where the first was counted over the
/// time `old_time` and the second over `new_time`, both in any unit. Given their sum, the second is binomial if both are
/// Poisson counts: <https://en.wikipedia.org/wiki/Poisson_distribution#Comparing_two_rates>. Up to 1,000 events the tail is
/// summed, and doubled; beyond that, the normal approximation with continuity correction is taken. `None` without a time.
pub fn rates(old: u64, old_time: f64, new: u64, new_time: f64) -> Option<f64> {
    let is_time = |time: f64| time > 0.0 && time.is_finite();
    if !(is_time(old_time) && is_time(new_time)) {
        return None;
    }
    let all = old.checked_add(new)?;
    let share = new_time / (old_time + new_time);
    if all > MOST_EXACT {
        let (mean, variance) = (all as f64 * share, all as f64 * share * (1.0 - share));
        return Some(two_sided((new as f64 - mean).abs() - 0.5, variance));
    }
    let log_factorial = |n: u64| libm::lgamma(n as f64 + 1.0);
    let probability = |k: u64| {
        let ways = log_factorial(all) - log_factorial(k) - log_factorial(all - k);
        (ways + k as f64 * share.ln() + (all - k) as f64 * (-share).ln_1p()).exp()
    };
    let up_to: f64 = (0..=new).map(probability).sum();
    let from: f64 = (new..=all).map(probability).sum();
    Some((2.0 * up_to.min(from)).min(1.0))
}

/// What a rank test says of two samples of durations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranks {
    /// The two-sided p-value that both are of the same distribution.
    pub p: f64,
    /// How likely a duration of the second is longer than one of the first, ties counted half: 0.5 where none is longer.
    pub longer: f64,
}

/// The rank test of Mann and Whitney on two histograms, as (duration, count) in ascending order, by the normal approximation
/// with continuity correction and the correction for ties, which bins are:
/// <https://en.wikipedia.org/wiki/Mann%E2%80%93Whitney_U_test>. `None` where one has fewer than 10.
pub fn ranks(old: &[(u64, u64)], new: &[(u64, u64)]) -> Option<Ranks> {
    let count = |bins: &[(u64, u64)]| bins.iter().fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
    if count(old) < LEAST || count(new) < LEAST {
        return None;
    }
    let (old_all, new_all) = (count(old) as f64, count(new) as f64);
    let all = old_all + new_all;
    let mut old = old.iter().copied().peekable();
    let (mut below, mut wins, mut ties) = (0.0, 0.0, 0.0);
    let mut tie = |of_old: f64, of_new: f64, below: &mut f64| {
        wins += of_new * (*below + of_old / 2.0);
        let same = of_old + of_new;
        ties += same * same * same - same;
        *below += of_old;
    };
    for &(duration, of_new) in new {
        while let Some((_, shorter)) = old.next_if(|(at, _)| *at < duration) {
            tie(shorter as f64, 0.0, &mut below);
        }
        let same = old.next_if(|(at, _)| *at == duration).map_or(0, |(_, n)| n);
        tie(same as f64, of_new as f64, &mut below);
    }
    old.for_each(|(_, longer)| tie(longer as f64, 0.0, &mut below));
    let pairs = old_all * new_all;
    let variance = pairs / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    let p = two_sided((wins - pairs / 2.0).abs() - 0.5, variance);
    Some(Ranks { p, longer: wins / pairs })
}

/// The p-value of a distance from the mean of a normal distribution.
fn two_sided(distance: f64, variance: f64) -> f64 {
    if distance <= 0.0 || variance <= 0.0 {
        return 1.0;
    }
    libm::erfc(distance / (2.0 * variance).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-4 * b.abs()
    }

    #[test]
    fn rates_are_compared_by_the_binomial_test() {
        // 1 of 10 by an even coin: 2 × (1 + 10) / 1024.
        assert!(is_near(rates(9, 1.0, 1, 1.0).unwrap(), 22.0 / 1024.0));
        assert!(is_near(rates(1, 1.0, 9, 1.0).unwrap(), 22.0 / 1024.0));
        // Nothing in three times the time: (3/4)^n is the chance of that.
        assert!(is_near(rates(0, 3.0, 4, 1.0).unwrap(), 2.0 * 0.25f64.powi(4)));
        assert_eq!(rates(0, 1.0, 0, 5.0), Some(1.0));
        assert_eq!(rates(50, 10.0, 5, 1.0), Some(1.0), "the same rate");
        assert_eq!((rates(1, 0.0, 1, 1.0), rates(1, 1.0, 1, f64::NAN)), (None, None));
    }

    #[test]
    fn the_approximation_goes_on_where_the_sum_ends() {
        for (old, new) in [(520, 480), (540, 460), (560, 440)] {
            let (exact, near) =
                (rates(old, 1.0, new, 1.0).unwrap(), rates(old + 1, 1.0, new + 1, 1.0).unwrap());
            assert!((exact - near).abs() < 0.1 * exact, "{old} {new}: {exact} {near}");
        }
        assert!(rates(1 << 60, 1.0, 1 << 59, 1.0).unwrap() < 1e-9);
        assert!((rates(1_000_000, 1.0, 1_000_000, 1.0).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn chance_is_as_rare_as_the_test_says() {
        // Each count of a Poisson distribution, by its probability: the share of p below 5 % is 5 % at most.
        let mean = 30.0f64;
        let probability = |n: u64| (n as f64 * mean.ln() - mean - libm::lgamma(n as f64 + 1.0)).exp();
        let mut rejected = 0.0;
        for old in 0..120 {
            for new in 0..120 {
                if rates(old, 1.0, new, 1.0).unwrap() < 0.05 {
                    rejected += probability(old) * probability(new);
                }
            }
        }
        assert!((0.01..=0.05).contains(&rejected), "{rejected}");
    }

    #[test]
    fn durations_are_compared_by_their_ranks() {
        let same = ranks(&[(1, 10), (2, 10)], &[(1, 20), (2, 20)]).unwrap();
        assert_eq!((same.p, same.longer), (1.0, 0.5));
        let apart = ranks(&[(1, 10)], &[(5, 6), (9, 4)]).unwrap();
        assert!(apart.longer == 1.0 && apart.p < 1e-4, "{apart:?}");
        let shorter = ranks(&[(5, 6), (9, 4)], &[(1, 10)]).unwrap();
        assert_eq!((shorter.longer, shorter.p), (0.0, apart.p));
        // U = 68.5, mean 50, variance 100/12 × (21 − (4³ − 4 + 6 × (2³ − 2)) / (20 × 19)), by hand.
        let old: Vec<_> = (1..=10).map(|at| (at, 1)).collect();
        let new = [(4, 1), (5, 1), (6, 1), (7, 3), (8, 1), (9, 1), (10, 1), (12, 1)];
        let found = ranks(&old, &new).unwrap();
        let variance: f64 = 100.0 / 12.0 * (21.0 - (60.0 + 6.0 * 6.0) / 380.0);
        assert!(is_near(found.p, libm::erfc((68.5 - 50.0 - 0.5) / (2.0 * variance).sqrt())), "{found:?}");
        assert_eq!(found.longer, 0.685);
        assert_eq!(ranks(&[(1, 9)], &[(5, 100)]), None);
    }
}
