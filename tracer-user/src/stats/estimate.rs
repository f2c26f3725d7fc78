//! A number that was estimated, with its 95 % interval, and what such intervals are made of.

/// The normal score of a two-sided 95 % interval.
pub const Z95: f64 = 1.959_963_984_540_054;
/// The probability beyond each end of such an interval.
const TAIL: f64 = 0.025;

/// An estimate with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The most likely value, in the unit of what is estimated.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval; infinite where nothing bounds it.
    pub high: f64,
}

impl Estimate {
    /// The mean of a Poisson count, by the exact interval of Garwood (1936):
    /// <https://en.wikipedia.org/wiki/Poisson_distribution#Confidence_interval>. From 1,000 on, it is approximated as Wilson
    /// and Hilferty did, to 0.01 %.
    pub fn of_count(count: u64) -> Estimate {
        let value = count as f64;
        if count > 1_000 {
            let bound = |n: f64, z: f64| n * (1.0 - 1.0 / (9.0 * n) + z / (3.0 * n.sqrt())).powi(3);
            return Estimate { value, low: bound(value, -Z95), high: bound(value + 1.0, Z95) };
        }
        // At most n are counted with this probability less often, the larger the mean is.
        let solve = |most: u64, chance: f64| {
            let (mut from, mut to) = (0.0, 2.0 * most as f64 + 10.0);
            for _ in 0..60 {
                let mean = (from + to) / 2.0;
                *(if poisson(most, mean) > chance { &mut from } else { &mut to }) = mean;
            }
            (from + to) / 2.0
        };
        let low = count.checked_sub(1).map_or(0.0, |fewer| solve(fewer, 1.0 - TAIL));
        Estimate { value, low, high: solve(count, TAIL) }
    }

    /// A value with the half width of its interval on either side, none of it below `least`.
    pub fn around(value: f64, half: f64, least: f64) -> Estimate {
        Estimate { value, low: (value - half).max(least), high: value + half }
    }

    /// A positive value with the half width of its interval, which is made on a logarithmic scale: what is positive is seldom far
    /// above its mean, and never far below.
    pub fn within_factor(value: f64, half: f64) -> Estimate {
        let factor = if value > 0.0 { (half / value).exp() } else { 1.0 };
        Estimate { value, low: value / factor, high: value * factor }
    }

    /// All three, times a factor that is not negative.
    pub fn times(self, factor: f64) -> Estimate {
        let high = if self.high.is_finite() { self.high * factor } else { self.high };
        Estimate { value: self.value * factor, low: self.low * factor, high }
    }

    /// The product of two independent estimates that are not negative. On a logarithmic scale the distances to the ends add up
    /// as variances do: the method MOVER of Zou and Donner (2008).
    pub fn product(self, other: Estimate) -> Estimate {
        let value = self.value * other.value;
        let away = |a: f64, b: f64| (b / a).ln();
        let end = |one: f64, two: f64| away(self.value, one).hypot(away(other.value, two));
        if value <= 0.0 {
            return Estimate { value: 0.0, low: 0.0, high: self.high * other.high };
        }
        let low =
            if self.low > 0.0 && other.low > 0.0 { value * (-end(self.low, other.low)).exp() } else { 0.0 };
        Estimate { value, low, high: value * end(self.high, other.high).exp() }
    }

    /// The difference of two independent estimates, by MOVER again.
    pub fn minus(self, other: Estimate) -> Estimate {
        let value = self.value - other.value;
        let low = value - (self.value - self.low).hypot(other.high - other.value);
        let high = value + (self.high - self.value).hypot(other.value - other.low);
        Estimate { value, low, high }
    }

    /// The same value with an interval that holds both.
    pub fn wider(self, other: Estimate) -> Estimate {
        Estimate { value: self.value, low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// The probability that a normal deviate is larger than `z`.
pub fn normal_tail(z: f64) -> f64 {
    libm::erfc(z / std::f64::consts::SQRT_2) / 2.0
}

/// The probability of at most `most`, where `mean` are expected.
fn poisson(most: u64, mean: f64) -> f64 {
    if mean <= 0.0 {
        return 1.0;
    }
    let n = most as f64;
    let mut term = (n * mean.ln() - mean - libm::lgamma(n + 1.0)).exp();
    let mut sum = 0.0;
    for k in (0..=most).rev() {
        sum += term;
        term *= k as f64 / mean;
    }
    sum.min(1.0)
}

/// The 97.5 % quantile of Student's t distribution, by the expansion of Abramowitz and Stegun, 26.7.5: to 0.1 % from 4 degrees of
/// freedom on. Below that the tables' values are taken.
pub fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 4] = [f64::INFINITY, 12.706_2, 4.302_65, 3.182_45];
    if let Some(&value) = TABLE.get(freedom) {
        return value;
    }
    let (z, n) = (Z95, freedom as f64);
    let odd = |powers: [f64; 5]| powers.iter().rev().fold(0.0, |sum, c| sum * z * z + c) * z;
    z + odd([1.0, 1.0, 0.0, 0.0, 0.0]) / (4.0 * n)
        + odd([3.0, 16.0, 5.0, 0.0, 0.0]) / (96.0 * n.powi(2))
        + odd([-15.0, 17.0, 19.0, 3.0, 0.0]) / (384.0 * n.powi(3))
        + odd([-945.0, -1_920.0, 1_482.0, 776.0, 79.0]) / (92_160.0 * n.powi(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() < 6e-4 * b.abs().max(1.0)
    }

    #[test]
    fn the_table_of_garwood() {
        for (count, low, high) in [
            (0, 0.0, 3.689),
            (1, 0.025_3, 5.572),
            (5, 1.623, 11.668),
            (10, 4.795, 18.390),
            (100, 81.364, 121.627),
        ] {
            let got = Estimate::of_count(count);
            assert!(is_near(got.low, low) && is_near(got.high, high), "{count}: {got:?}");
        }
        // The approximation goes on where the sum ends.
        let (exact, near) = (Estimate::of_count(1_000), Estimate::of_count(1_001));
        assert!((near.low - exact.low - 1.0).abs() < 0.1 && (near.high - exact.high - 1.0).abs() < 0.1);
    }

    #[test]
    fn the_table_of_student() {
        for (freedom, want) in [(1, 12.706), (3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (1_000, 1.962)]
        {
            assert!((student(freedom) - want).abs() < 2e-3, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn intervals_are_combined_as_errors_are() {
        let one = Estimate::around(10.0, 3.0, 0.0);
        let two = Estimate::around(4.0, 4.0, 0.0);
        assert_eq!(one.minus(two), Estimate { value: 6.0, low: 1.0, high: 11.0 });
        assert_eq!(one.product(two).low, 0.0, "the second may be nothing");
        let product = one.product(Estimate::around(1.0, 0.0, 0.0));
        assert!((product.low - 7.0).abs() < 1e-9 && (product.high - 13.0).abs() < 1e-9);
        let open = Estimate { high: f64::INFINITY, ..one };
        assert!(open.product(one).high.is_infinite() && open.times(0.0).low.abs() < 1e-9);
        assert_eq!(one.minus(open).low, f64::NEG_INFINITY);
    }
}
