//! Merges the sites of several reports, and applies Little's law to them.

use std::collections::BTreeMap;

use super::repeats::{Part, Repeats};
use crate::report::{Frame, Level, Report, Site, Sort};
use crate::stats::durations::HdrError;
use crate::stats::little::Interval;
use crate::stats::{Durations, Estimate, Little, Survival};

/// A site, merged from one or more reports.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// The main module of its program, or else the path of the executable; `None` where neither is known.
    pub program: Option<String>,
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
    /// Number of goroutines that ended or were found gone, in all reports together.
    pub ended: u64,
    /// Number of living goroutines, in the newest report of each process.
    pub live: u64,
    /// For how long the site was observed in all reports together, in seconds.
    pub observed_s: f64,
    /// Number of rows of reports that say who lives.
    pub rows: u64,
    /// Number of those rows whose process was running, and how many lived in them. Who lives when a process ends says nothing of
    /// a steady state.
    pub running: (u64, u64),
    /// What was counted in each report, by its number.
    pub parts: BTreeMap<usize, Interval>,
    /// The worst verdict in those rows.
    pub level: Level,
}

/// Little's law for one site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// Its figures. The mean lifetime is the area under the survival curve, so that the living count as well.
    pub little: Little,
    /// By how many the living become more per second, for a site that is judged to leak: it has no steady state, and what the law
    /// gives means nothing.
    pub growth: Option<f64>,
}

impl Law {
    /// How many would live, in the mean, with so many times the rate; `None` where the site has no steady state.
    pub fn at_scale(&self, factor: f64) -> Option<Estimate> {
        self.growth.is_none().then(|| self.little.at_scale(factor)).flatten()
    }
}

/// Merges the sites of whole reports: see [`Merging`].
///
/// # Errors
/// A histogram in a report cannot be decoded: see [`HdrError`].
pub fn merge(reports: &[Report]) -> Result<Vec<Merged>, HdrError> {
    Ok(Merging::of(reports)?.finish())
}

/// Merges the sites of reports that have program, `go` statement and entry function in common, one site after the other.
/// What reports of one process have in common counts once: see [`Repeats`].
pub struct Merging<'a> {
    reports: &'a [Report],
    repeats: Repeats,
    merged: BTreeMap<(Option<&'a str>, Frame, Frame), Merged>,
}

impl<'a> Merging<'a> {
    /// Begins with the sites that are in these reports. Others of theirs can be added.
    ///
    /// # Errors
    /// A histogram of a site cannot be decoded: see [`HdrError`].
    pub fn of(reports: &'a [Report]) -> Result<Merging<'a>, HdrError> {
        let mut merging = Merging { reports, repeats: Repeats::of(reports), merged: BTreeMap::new() };
        for (number, report) in reports.iter().enumerate() {
            for (at, process) in report.processes.iter().enumerate() {
                process.sites.iter().try_for_each(|site| merging.add(number, at, site))?;
            }
        }
        Ok(merging)
    }

    /// Adds a site of a report and of a process in it, both by their numbers.
    ///
    /// # Errors
    /// A histogram of the site cannot be decoded: see [`HdrError`].
    pub fn add(&mut self, report: usize, process: usize, site: &Site) -> Result<(), HdrError> {
        let window_ns = self.reports.get(report).map_or(0, |report| report.window.duration_ns);
        let Some(process) = self.reports.get(report).and_then(|report| report.processes.get(process)) else {
            return Ok(());
        };
        let part = self.repeats.part(report, process);
        if part == Part::Nothing {
            return Ok(());
        }
        let module = process.go.as_ref().and_then(|go| go.module.as_deref());
        let key = (module.or(process.exe.as_deref()), site.site.clone(), site.entry.clone());
        let program = key.0;
        let merged = self.merged.entry(key).or_default();
        merged.program = program.map(str::to_owned);
        merged.add(site, window_ns, part)?;
        if part == Part::Whole && process.ended.is_none() {
            merged.running = (merged.running.0 + 1, merged.running.1.saturating_add(site.live));
        }
        let counted = merged.parts.entry(report).or_default();
        counted.seconds += observed_s(site, window_ns);
        counted.created = counted.created.saturating_add(site.created);
        counted.ended =
            counted.ended.saturating_add(site.lifetime.as_ref().map_or(0, |lifetime| lifetime.count));
        Ok(())
    }

    /// The merged sites. Those with most finished lifetimes come first.
    pub fn finish(self) -> Vec<Merged> {
        let mut merged: Vec<_> = self.merged.into_values().collect();
        merged.sort_by_key(|site| std::cmp::Reverse((site.lifetimes.count(), site.live)));
        merged
    }
}

/// Sorts sites as [`Sort::order`] does those of a report, as far as the numbers are still there.
pub fn sort(sites: &mut [Merged], by: Sort) {
    let number = |site: &Merged| match by {
        Sort::Verdict => site.level.max(Level::Healthy) as u64,
        Sort::Live => site.live,
        Sort::Created => site.created,
        Sort::Exited => site.ended,
        Sort::Age => site.ages.max_ns().unwrap_or(0),
        Sort::Lifetime => site.lifetimes.quantiles([0.99]).map_or(0, |[p99_ns]| p99_ns),
        Sort::Rate | Sort::Name => 0,
    };
    let rate = |site: &Merged| match by {
        Sort::Rate if site.observed_s > 0.0 => site.created as f64 / site.observed_s,
        _ => 0.0,
    };
    let live = |site: &Merged| if by == Sort::Name { 0 } else { site.live };
    sites.sort_by(|a, b| {
        let first = number(b).cmp(&number(a)).then(rate(b).total_cmp(&rate(a)));
        let second = live(b).cmp(&live(a));
        first.then(second).then_with(|| (&a.site, &a.entry).cmp(&(&b.site, &b.entry)))
    });
}

impl Merged {
    fn add(&mut self, site: &Site, window_ns: u64, part: Part) -> Result<(), HdrError> {
        (self.site, self.entry) = (site.site.clone(), site.entry.clone());
        if let Some(lifetime) = &site.lifetime {
            self.lifetimes.merge(&lifetime.durations()?);
        }
        if let Some(hdr) = &site.living_hdr {
            self.ages.merge(hdr.durations()?.as_ref());
        }
        self.created = self.created.saturating_add(site.created);
        self.ended = self.ended.saturating_add(site.exited).saturating_add(site.reconciled);
        self.observed_s += observed_s(site, window_ns);
        if part == Part::Whole {
            self.live = self.live.saturating_add(site.live);
            self.rows += 1;
            self.level = self.level.max(site.verdict.level);
        }
        Ok(())
    }

    /// Whether there is anything to show: a goroutine that lives or has ended.
    pub fn is_shown(&self) -> bool {
        self.lifetimes.count() > 0 || self.live > 0
    }

    /// The fraction that lives longer than each age.
    pub fn survival(&self) -> Survival {
        Survival::estimate(self.lifetimes.bins(), self.ages.bins(), [])
    }

    /// Rate, mean and what follows from them; `None` if nothing was created, or there is no mean lifetime.
    pub fn law(&self) -> Option<Law> {
        let total_ns = (self.lifetimes.sum_ns() + self.ages.sum_ns()) as f64;
        let mean_s = self.survival().mean(self.lifetimes.count(), total_ns)?.times(1e-9);
        let (looks, live) = self.running;
        let mut little = Little::of_counts(self.created, self.observed_s, mean_s, Some((live, looks)))?;
        let parts: Vec<Interval> = self.parts.values().copied().collect();
        if let Some(spread) = Little::of_intervals(&parts) {
            little = Little::of(spread.rate, mean_s, little.live);
        }
        let net = self.created.saturating_sub(self.ended) as f64 / self.observed_s;
        let growth = Some(net).filter(|net| self.level >= Level::Suspect && *net > 0.0);
        Some(Law { little, growth })
    }
}

/// For how long a site was observed in one report, in seconds.
fn observed_s(site: &Site, window_ns: u64) -> f64 {
    match site.created_per_s {
        Some(rate) if rate > 0.0 => site.created as f64 / rate,
        _ => window_ns as f64 / 1e9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_come_in_the_order_that_was_asked_for() {
        let site = |name: &str, live, created, observed_s| {
            let site = Frame { function: name.into(), ..Frame::default() };
            Merged { site, live, created, observed_s, ..Merged::default() }
        };
        let mut sites = [site("b", 1, 9, 9.0), site("c", 3, 5, 1.0), site("a", 2, 7, 7.0)];
        let mut order = |by| {
            sort(&mut sites, by);
            sites.iter().map(|site| site.site.function.as_str()).collect::<String>()
        };
        let got = [Sort::Live, Sort::Created, Sort::Rate, Sort::Name, Sort::Verdict].map(&mut order);
        assert_eq!(got, ["cab", "bac", "cab", "abc", "cab"]);
    }

    #[test]
    fn a_steady_site_obeys_littles_law() {
        // 40 are created each second for 30 s, and each lives 2 s, so that 80 live at any time.
        let mut site = Merged { created: 1_200, live: 80, observed_s: 30.0, rows: 1, ..Merged::default() };
        site.running = (1, 80);
        site.lifetimes.record_n(2_000_000_000, 1_120);
        (0..80).for_each(|at| site.ages.record(at * 25_000_000));
        let law = site.law().unwrap();
        assert!((law.little.expected.value - 80.0).abs() < 1.0 && !law.little.is_at_least(), "{law:?}");
        let scaled = law.at_scale(2.0).unwrap();
        assert!((151.0..152.0).contains(&scaled.low) && (169.0..170.0).contains(&scaled.high), "{scaled:?}");
        site.running = (1, 240);
        assert_eq!(site.law().unwrap().at_scale(2.0), None, "three times as many live as the law gives");
        site.running = (0, 0);
        let law = site.law().unwrap();
        assert!(law.little.live.is_none() && law.at_scale(1.0).is_some(), "the process has ended: {law:?}");
    }

    #[test]
    fn reports_that_differ_make_the_rate_less_sure() {
        let mut site = Merged { created: 1_200, observed_s: 60.0, ..Merged::default() };
        site.lifetimes.record_n(2_000_000_000, 1_200);
        let width = |site: &Merged| {
            let rate = site.law().unwrap().little.rate;
            assert!((rate.value - 20.0).abs() < 1e-9);
            rate.high - rate.low
        };
        let poisson = width(&site);
        for (report, created) in [100, 300, 100, 300, 150, 250].into_iter().enumerate() {
            let part = Interval { seconds: 10.0, created, ended: created, ..Interval::default() };
            site.parts.insert(report, part);
        }
        assert!(width(&site) > 3.0 * poisson);
    }

    #[test]
    fn a_leak_grows_and_has_no_steady_state() {
        let leak =
            Merged { created: 300, ended: 60, live: 240, observed_s: 30.0, rows: 1, ..Merged::default() };
        let mut leak = Merged { level: Level::Suspect, ..leak };
        (0..240).for_each(|at| leak.ages.record(at * 125_000_000));
        let law = leak.law().unwrap();
        assert_eq!((law.growth, law.at_scale(2.0)), (Some(8.0), None));
        leak.level = Level::Healthy;
        assert_eq!(leak.law().unwrap().growth, None, "a pool that fills");
    }
}
