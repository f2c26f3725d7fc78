//! Merged sites as the document that `golife hist` writes.

use super::merged::{Law, Merged};
use super::{lifetime, survival_point};
use crate::report::{Estimated, EstimatedNs, HIST_SCHEMA, Hist, HistSite, Little, Scaled};
use crate::stats::Estimate;

/// The document of those sites of which goroutines live or have ended, at most `top` of them, in their order.
pub fn document(sites: &[Merged], top: usize, scale: Option<f64>) -> Hist {
    let shown = || sites.iter().filter(|site| site.is_shown());
    Hist {
        schema: HIST_SCHEMA.to_owned(),
        scale,
        hidden: shown().skip(top).count() as u64,
        sites: shown().take(top).map(|site| one(site, scale)).collect(),
    }
}

fn one(site: &Merged, scale: Option<f64>) -> HistSite {
    HistSite {
        program: site.program.clone(),
        site: site.site.clone(),
        entry: site.entry.clone(),
        level: site.level,
        created: site.created,
        ended: site.ended,
        live: site.live,
        lifetime: lifetime(&site.lifetimes),
        survival: site.survival().points().into_iter().map(survival_point).collect(),
        little: site.law().map(|law| little(&law, scale)),
    }
}

fn little(law: &Law, scale: Option<f64>) -> Little {
    let figures = &law.little;
    let scaled = |factor: f64| Scaled {
        rate_per_s: estimated(figures.rate.times(factor)),
        live: law.at_scale(factor).map(estimated),
    };
    Little {
        rate_per_s: estimated(figures.rate),
        mean_lifetime_ns: estimated_ns(figures.mean_s),
        expected: estimated(figures.expected),
        live: figures.live.map(estimated),
        residual: figures.residual.map(estimated),
        steady: figures.is_balanced(),
        growth_per_s: law.growth.map(rounded),
        scaled: scale.map(scaled),
    }
}

fn estimated(estimate: Estimate) -> Estimated {
    let end = |end: f64| end.is_finite().then(|| rounded(end));
    Estimated { value: rounded(estimate.value), low: end(estimate.low), high: end(estimate.high) }
}

fn estimated_ns(seconds: Estimate) -> EstimatedNs {
    let ns = |seconds: f64| (seconds * 1e9).round() as u64;
    EstimatedNs {
        value: ns(seconds.value),
        low: ns(seconds.low),
        high: seconds.high.is_finite().then(|| ns(seconds.high)),
    }
}

/// Rounds to six significant digits. More digits are noise in a document.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_bounds_is_null() {
        let open = Estimate { value: 2.0 / 3.0, low: f64::NEG_INFINITY, high: f64::INFINITY };
        assert_eq!(estimated(open), Estimated { value: 0.666_667, low: None, high: None });
        let mean = Estimate { value: 1e-6, low: 0.0, high: f64::INFINITY };
        assert_eq!(estimated_ns(mean), EstimatedNs { value: 1_000, low: 0, high: None });
        assert_eq!(rounded(1_234_567.8), 1_234_570.0);
    }
}
