//! What becomes of lifetimes as load rises: the Universal Scalability Law, fitted to what was counted hour by hour.
//!
//! Gunther, *Guerrilla Capacity Planning* (2007), has the throughput of N at the same time as X(N) = γN / (1 + α(N − 1) + βN(N − 1)):
//! α is the share in which they wait for each other (contention), β what they cost each other in pairs (coherency). With β > 0 there
//! is a knee, N* = √((1 − α) / β): of more at the same time, fewer are done. By Little's law N = λW, so that W = N / X(N) =
//! (1 + α(N − 1) + βN(N − 1)) / γ, which is linear in what is unknown: least squares with coefficients that are not negative.
//!
//! An hour in which all takes longer for another reason has a higher W and with it a higher N = λW, so that the plain fit would
//! find contention in noise. What comes from outside, λ, knows nothing of such hours: N and N² are replaced by what λ and λ²
//! tell of them (two-stage least squares). This takes for granted that load comes from outside; where callers wait for an answer
//! before they ask again, λ is no cause. Weights are those of errors in percent.
//!
//! How sure a coefficient is says the bootstrap, over blocks of neighbouring hours, since these are alike. A knee is only spoken of
//! where β is four of its errors above nothing, N* is not far beyond all that was seen, and a queue for a fixed number of places
//! explains the hours worse: that bends lifetimes, too, but throughput stays where it is.

use super::estimate::{Estimate, Z95};
use super::random::Random;

/// The fewest hours that are fitted.
pub const FEWEST: usize = 8;
/// The load must vary by this factor, from its 5 % to its 95 % quantile.
pub const LEAST_RANGE: f64 = 1.3;
/// How many of its errors a coefficient must be above nothing.
const SURE: f64 = 4.0;
/// How many times the most that were there at the same time the knee may be, to be spoken of.
const IN_SIGHT: f64 = 3.0;
/// How much the logarithmic likelihood must be better than that of a queue, times two.
const BETTER: f64 = 10.0;
/// How often hours are drawn anew.
const DRAWS: usize = 200;

/// What the hours say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// There are fewer than [`FEWEST`] hours, or fewer than three loads that differ.
    TooFew,
    /// The load varied too little to tell: by this factor.
    TooLittle(f64),
    /// Lifetimes do not depend on the load, as far as can be told: what is twice the load is twice as many. By which share they rise
    /// from the lowest load to the highest.
    Flat(Estimate),
    /// Lifetimes rise in proportion: α.
    Contention(Estimate),
    /// Lifetimes rise ever faster.
    Coherency {
        /// α, the share in which they wait for each other.
        alpha: f64,
        /// β, what they cost each other in pairs.
        beta: f64,
        /// N*, the number at the same time beyond which fewer are done.
        knee: Estimate,
    },
}

/// One hour, or any other part of a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hour {
    /// λ: how many came per second.
    pub rate: f64,
    /// W: their mean lifetime in seconds.
    pub mean_s: f64,
}

impl Hour {
    /// N: how many were there at the same time.
    fn live(&self) -> f64 {
        self.rate * self.mean_s
    }
}

impl Scaling {
    /// Judges the hours, which must be in their order. Those without a rate or a lifetime are left out. The same seed gives the
    /// same intervals.
    pub fn of(hours: &[Hour], seed: u64) -> Scaling {
        let usable = |hour: &&Hour| hour.rate > 0.0 && hour.mean_s > 0.0 && hour.live().is_finite();
        let hours: Vec<Hour> = hours.iter().filter(usable).copied().collect();
        if hours.len() < FEWEST {
            return Scaling::TooFew;
        }
        let range = range(&hours);
        if range < LEAST_RANGE {
            return Scaling::TooLittle(range);
        }
        let Some(sample) = Sample::of(&hours) else { return Scaling::TooFew };
        let draws = draws(hours.len(), seed);
        let drawn: Vec<Moments> = draws.iter().map(|draw| sample.sum(draw.iter().copied())).collect();
        coherency(&sample, &draws, &drawn).unwrap_or_else(|| contention(&sample, &drawn))
    }
}

/// By which factor the load varies, but for its highest and its lowest twentieth.
fn range(hours: &[Hour]) -> f64 {
    let mut rates: Vec<f64> = hours.iter().map(|hour| hour.rate).collect();
    rates.sort_by(f64::total_cmp);
    let cut = rates.len() / 20;
    rates[rates.len() - 1 - cut] / rates[cut]
}

/// Which of so many hours are drawn, in blocks of neighbours, [`DRAWS`] times.
fn draws(hours: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut random = Random::new(seed);
    let block = (hours as f64).cbrt().round() as usize;
    let mut draw = || {
        let mut drawn = Vec::with_capacity(hours + block);
        while drawn.len() < hours {
            let from = random.below(hours);
            drawn.extend((from..from + block).map(|at| at % hours));
        }
        drawn.truncate(hours);
        drawn
    };
    (0..DRAWS).map(|_| draw()).collect()
}

fn coherency(sample: &Sample, draws: &[Vec<usize>], drawn: &[Moments]) -> Option<Scaling> {
    let hours = sample.hours;
    let free = sample.fit(&sample.all(), [true, true])?;
    let error = spread(drawn.iter().filter_map(|draw| sample.fit(draw, [true, true])).map(|fit| fit[2]));
    if free[2] <= SURE * error {
        return None;
    }
    let [a, b, c] = sample.not_negative(&sample.all(), hours)?;
    let most = hours.iter().map(Hour::live).fold(0.0, f64::max);
    let knee = |[a, b, c]: [f64; 3]| (a > b && c > 0.0).then(|| ((a - b) / c).sqrt());
    let at = knee([a, b, c]).filter(|&knee| knee <= IN_SIGHT * most)?;
    let gain = hours.len() as f64 * (misfit_of_queue(hours) / misfit(hours, |n| curve([a, b, c], n))).ln();
    if gain < BETTER {
        return None;
    }
    let again = draws.iter().zip(drawn).filter_map(|(draw, moments)| {
        let hours: Vec<Hour> = draw.iter().map(|&at| hours[at]).collect();
        sample.not_negative(moments, &hours)
    });
    let mut knees: Vec<f64> =
        again.map(|fit| knee(fit).unwrap_or(if fit[1] >= fit[0] { 1.0 } else { f64::INFINITY })).collect();
    knees.sort_by(f64::total_cmp);
    let quantile = |q: f64| knees.get(((knees.len() - 1) as f64 * q).round() as usize).copied();
    let knee = Estimate { value: at, low: quantile(0.025)?.min(at), high: quantile(0.975)?.max(at) };
    Some(Scaling::Coherency { alpha: b / a, beta: c / a, knee })
}

fn contention(sample: &Sample, drawn: &[Moments]) -> Scaling {
    let line = |moments: &Moments| sample.fit(moments, [true, false]).filter(|fit| fit[0] > 0.0);
    let lines: Vec<[f64; 3]> = drawn.iter().filter_map(line).collect();
    let Some([a, b, _]) = line(&sample.all()) else {
        // The line would begin below nothing, which is all waiting.
        return Scaling::Contention(Estimate { value: 1.0, low: 0.0, high: 1.0 });
    };
    let error = spread(lines.iter().map(|fit| fit[1]));
    if b > SURE * error {
        let error = spread(lines.iter().map(|fit| fit[1] / fit[0]));
        return Scaling::Contention(Estimate::around(b / a, Z95 * error, 0.0));
    }
    let live = || sample.hours.iter().map(Hour::live);
    let (least, most) = (live().fold(f64::INFINITY, f64::min), live().fold(0.0, f64::max));
    let rise = (most - least) / curve([a, b, 0.0], least).max(f64::MIN_POSITIVE);
    Scaling::Flat(Estimate::around(b * rise, Z95 * error * rise, f64::NEG_INFINITY))
}

fn curve([a, b, c]: [f64; 3], n: f64) -> f64 {
    a + b * (n - 1.0) + c * n * (n - 1.0)
}

/// The weighted products of the instruments 1, λ, λ² with each other, and with 1, N − 1, N(N − 1) and W.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    instruments: [[f64; 3]; 3],
    columns: [[f64; 3]; 4],
    /// The columns as far as the instruments tell them, as the coefficients of these; `None` where that cannot be told.
    projected: Option<[[f64; 3]; 4]>,
}

impl Moments {
    fn of(instruments: [f64; 3], columns: [f64; 4], weight: f64) -> Moments {
        let times = |by: f64| instruments.map(|instrument| instrument * by * weight);
        Moments { instruments: instruments.map(times), columns: columns.map(times), projected: None }
    }

    fn add(&mut self, other: &Moments) {
        let rows = self.instruments.iter_mut().chain(&mut self.columns);
        for (row, more) in rows.zip(other.instruments.iter().chain(&other.columns)) {
            row.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }

    fn project(&self) -> Option<[[f64; 3]; 4]> {
        let mut projected = [[0.0; 3]; 4];
        for (projected, column) in projected.iter_mut().zip(self.columns) {
            *projected = solve(self.instruments, column)?;
        }
        Some(projected)
    }
}

/// The hours with what the fits need of each. All is scaled to be about 1, so that equations can be solved.
struct Sample<'a> {
    hours: &'a [Hour],
    each: Vec<Moments>,
    live: f64,
    seconds: f64,
}

impl<'a> Sample<'a> {
    /// `None` where λ and λ² are the same to all hours.
    fn of(hours: &'a [Hour]) -> Option<Sample<'a>> {
        let mean = |of: fn(&Hour) -> f64| hours.iter().map(of).sum::<f64>() / hours.len() as f64;
        let (rate, live, seconds) = (mean(|hour| hour.rate), mean(Hour::live), mean(|hour| hour.mean_s));
        let instruments = |hour: &Hour| [1.0, hour.rate / rate, (hour.rate / rate).powi(2)];
        let moments = |hour: &Hour, weight: f64| {
            let n = hour.live();
            let columns = [1.0, (n - 1.0) / live, n * (n - 1.0) / (live * live), hour.mean_s / seconds];
            Moments::of(instruments(hour), columns, weight)
        };
        let mut sample = Sample { hours, each: Vec::new(), live, seconds };
        sample.each = hours.iter().map(|hour| moments(hour, 1.0)).collect();
        // Errors are in percent of what the load tells of the lifetime.
        let told = sample.all().projected?[3];
        let weight = |hour: &Hour| {
            let told: f64 = instruments(hour).iter().zip(told).map(|(instrument, of)| instrument * of).sum();
            told.max(0.2).powi(-2)
        };
        sample.each = hours.iter().map(|hour| moments(hour, weight(hour))).collect();
        Some(sample)
    }

    fn sum(&self, hours: impl Iterator<Item = usize>) -> Moments {
        let mut sum = Moments::default();
        hours.for_each(|at| sum.add(&self.each[at]));
        Moments { projected: sum.project(), ..sum }
    }

    fn all(&self) -> Moments {
        self.sum(0..self.each.len())
    }

    /// The coefficients of 1, N − 1 and N(N − 1), the latter two where they are wanted, by two-stage least squares. `None` where
    /// the load cannot tell them apart.
    fn fit(&self, moments: &Moments, terms: [bool; 2]) -> Option<[f64; 3]> {
        let projected = moments.projected?;
        // The products of projected columns are those of their coefficients with the columns' moments.
        let product = |of: usize, with: usize| -> f64 {
            projected[of].iter().zip(moments.columns[with]).map(|(of, with)| of * with).sum()
        };
        let wanted = [true, terms[0], terms[1]];
        let (mut left, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
        for at in 0..3 {
            if wanted[at] {
                (0..3).filter(|&to| wanted[to]).for_each(|to| left[at][to] = product(at, to));
                right[at] = product(at, 3);
            } else {
                left[at][at] = 1.0;
            }
        }
        let [a, b, c] = solve(left, right)?;
        Some([a * self.seconds, b * self.seconds / self.live, c * self.seconds / (self.live * self.live)])
    }

    /// The fit with coefficients that are not negative: of those with a part of the terms, the one that fits these hours best.
    fn not_negative(&self, moments: &Moments, hours: &[Hour]) -> Option<[f64; 3]> {
        let fits = [[true, true], [true, false], [false, true], [false, false]];
        let fits = fits.into_iter().filter_map(|terms| self.fit(moments, terms));
        let fits = fits.filter(|fit| fit[0] > 0.0 && fit[1] >= 0.0 && fit[2] >= 0.0);
        let error = |fit: &[f64; 3]| misfit(hours, |n| curve(*fit, n));
        fits.min_by(|one, other| error(one).total_cmp(&error(other)))
    }
}

/// Solves three equations by elimination with pivots; `None` where they do not tell the unknown apart.
fn solve(mut left: [[f64; 3]; 3], mut right: [f64; 3]) -> Option<[f64; 3]> {
    for at in 0..3 {
        let pivot = (at..3).max_by(|&a, &b| left[a][at].abs().total_cmp(&left[b][at].abs()))?;
        let largest = left[pivot][at].abs();
        if largest.is_nan() || largest < 1e-9 {
            return None;
        }
        left.swap(at, pivot);
        right.swap(at, pivot);
        for row in at + 1..3 {
            let factor = left[row][at] / left[at][at];
            let above = left[at];
            left[row].iter_mut().zip(above).for_each(|(cell, above)| *cell -= factor * above);
            right[row] -= factor * right[at];
        }
    }
    let mut found = [0.0; 3];
    for at in (0..3).rev() {
        let known: f64 = (at + 1..3).map(|of| left[at][of] * found[of]).sum();
        found[at] = (right[at] - known) / left[at][at];
    }
    Some(found)
}

/// The mean square of the errors in percent.
fn misfit(hours: &[Hour], curve: impl Fn(f64) -> f64) -> f64 {
    let sum: f64 = hours.iter().map(|hour| (hour.mean_s / curve(hour.live()).max(1e-12) - 1.0).powi(2)).sum();
    (sum / hours.len() as f64).max(1e-12)
}

/// The misfit of the best queue for a fixed number of places: W = a(1 + (N/K)^p)^(1/p), which is flat below K, and above it N/K times as
/// long. The larger p is, the sharper it bends.
fn misfit_of_queue(hours: &[Hour]) -> f64 {
    let most = hours.iter().map(Hour::live).fold(0.0, f64::max);
    let shape = |places: f64, bend: f64| move |n: f64| (1.0 + (n / places).powf(bend)).powf(1.0 / bend);
    let of = |places: f64, bend: f64| {
        let shape = shape(places, bend);
        let shares = hours.iter().map(|hour| hour.mean_s / shape(hour.live()));
        let scale = shares.sum::<f64>() / hours.len() as f64;
        misfit(hours, |n| scale * shape(n))
    };
    let places = (0..40).map(|at| most * 2.0 * 0.9f64.powi(at));
    let all = places.flat_map(|places| [1.0, 1.5, 2.0, 3.0, 5.0, 12.0].map(|bend| of(places, bend)));
    all.fold(f64::INFINITY, f64::min)
}

/// The standard deviation.
fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let count = values.len().max(2) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests;
