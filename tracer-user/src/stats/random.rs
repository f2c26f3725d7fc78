//! Numbers that look random and are the same for the same seed, for what is resampled.

/// SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins the sequence of this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number between 0 and 1, never 0.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// One of `n` numbers from 0 on; 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// A time with this mean, in the unit of the mean, that does not depend on how long was waited already.
    pub fn wait(&mut self, mean: f64) -> f64 {
        -mean * self.uniform().ln()
    }

    /// A normal deviate, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// What only simulations in the library's own tests draw.
#[cfg(test)]
impl Random {
    /// A Poisson count. Large ones are rounded normal deviates.
    pub fn count(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (least, mut product, mut count) = ((-mean).exp(), self.uniform(), 0);
        while product > least {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut random = Random::new(7);
        let mut moments = |draw: &mut dyn FnMut(&mut Random) -> f64| {
            let draws: Vec<f64> = (0..20_000).map(|_| draw(&mut random)).collect();
            let mean = draws.iter().sum::<f64>() / 20_000.0;
            (mean, draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 20_000.0)
        };
        let is_near = |(mean, variance): (f64, f64), want: (f64, f64)| {
            (mean - want.0).abs() < 0.05 * want.1.sqrt() && (variance / want.1 - 1.0).abs() < 0.06
        };
        assert!(is_near(moments(&mut Random::uniform), (0.5, 1.0 / 12.0)));
        assert!(is_near(moments(&mut Random::normal), (0.0, 1.0)));
        assert!(is_near(moments(&mut |random| random.wait(3.0)), (3.0, 9.0)));
        assert!(is_near(moments(&mut |random| random.count(4.0) as f64), (4.0, 4.0)));
        assert!(is_near(moments(&mut |random| random.count(60.0) as f64), (60.0, 60.0)));
        assert!(is_near(moments(&mut |random| random.below(5) as f64), (2.0, 2.0)));
    }
}
