//! Merges the sites of several reports, and applies Little's law to them.

use std::collections::BTreeMap;

use crate::report::{Frame, Report, Site};
use crate::stats::durations::HdrError;
use crate::stats::{Durations, Survival};

/// A site, merged from one or more reports.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// The `go` statement.
    pub site: Frame,
    /// The function that its goroutines run.
    pub entry: Frame,
    /// The lifetimes of the goroutines that ended.
    pub lifetimes: Durations,
    /// The ages of the living goroutines whose creation was seen.
    pub ages: Durations,
    /// Number of goroutines created, in all reports together.
    pub created: u64,
    /// Number of living goroutines, in all reports together.
    pub live: u64,
    /// For how long the site was observed in all reports together, in seconds.
    pub observed_s: f64,
    /// Number of rows of reports that it was merged from.
    pub rows: u64,
}

/// Little's law for one site: in a steady state, live = rate × mean lifetime.
/// <https://en.wikipedia.org/wiki/Little%27s_law>
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Little {
    /// Creations per second.
    pub rate: f64,
    /// Mean lifetime in seconds. It is the area under the survival curve, so that the living count as well.
    pub mean_s: f64,
    /// Whether the mean is a lower bound, because some goroutines were still alive at the longest age that was
    /// observed.
    pub at_least: bool,
    /// The number of living goroutines that the law gives: rate × mean.
    pub expected: f64,
    /// The number of living goroutines that was observed: the mean over the merged rows.
    pub observed: f64,
}

/// Merges the sites of reports that have program, `go` statement and entry function in common. Those with most finished
/// lifetimes come first.
///
/// # Errors
/// A histogram in a report cannot be decoded: see [`HdrError`].
pub fn merge(reports: &[Report]) -> Result<Vec<Merged>, HdrError> {
    let mut merged: BTreeMap<_, Merged> = BTreeMap::new();
    for report in reports {
        for process in &report.processes {
            let module = process.go.as_ref().and_then(|go| go.module.clone());
            let program = module.or_else(|| process.exe.clone());
            for site in &process.sites {
                let key = (program.clone(), site.site.clone(), site.entry.clone());
                merged.entry(key).or_default().add(site, report.window.duration_ns)?;
            }
        }
    }
    let mut merged: Vec<_> = merged.into_values().collect();
    merged.sort_by_key(|site| std::cmp::Reverse((site.lifetimes.count(), site.live)));
    Ok(merged)
}

impl Merged {
    fn add(&mut self, site: &Site, window_ns: u64) -> Result<(), HdrError> {
        (self.site, self.entry) = (site.site.clone(), site.entry.clone());
        if let Some(lifetime) = &site.lifetime {
            let read = lifetime.hdr.durations()?.into_owned();
            let exact = read.with_exact(Some(lifetime.min_ns), Some(lifetime.max_ns), Some(lifetime.mean_ns));
            self.lifetimes.merge(&exact);
        }
        if let Some(hdr) = &site.living_hdr {
            self.ages.merge(hdr.durations()?.as_ref());
        }
        self.created = self.created.saturating_add(site.created);
        self.live = self.live.saturating_add(site.live);
        self.observed_s += match site.created_per_s {
            Some(rate) if rate > 0.0 => site.created as f64 / rate,
            _ => window_ns as f64 / 1e9,
        };
        self.rows += 1;
        Ok(())
    }

    /// Rate, mean and what follows from them; `None` if nothing was created, or there is no mean lifetime.
    pub fn little(&self) -> Option<Little> {
        if self.created == 0 || self.observed_s <= 0.0 {
            return None;
        }
        let survival = Survival::estimate(self.lifetimes.bins(), self.ages.bins(), []);
        let mean_s = survival.restricted_mean_ns()? as f64 / 1e9;
        let rate = self.created as f64 / self.observed_s;
        let observed = self.live as f64 / self.rows.max(1) as f64;
        let at_least = survival.at(survival.observed_ns()) > 1e-9;
        Some(Little { rate, mean_s, at_least, expected: rate * mean_s, observed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_site_obeys_littles_law() {
        // 40 are created each second for 30 s, and each lives 2 s, so that 80 live at any time.
        let mut site = Merged { created: 1_200, live: 80, observed_s: 30.0, rows: 1, ..Merged::default() };
        site.lifetimes.record_n(2_000_000_000, 1_120);
        (0..80).for_each(|at| site.ages.record(at * 25_000_000));
        let little = site.little().unwrap();
        assert!((little.expected - 80.0).abs() < 1.0 && !little.at_least, "{little:?}");
    }
}
