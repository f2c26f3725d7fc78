//! Lifetime histograms in the terminal, and what Little's law makes of them.
//!
//! Takes any number of reports: sites of the same program, `go` statement and entry function are merged. A lifetime is
//! binned by powers of ten in steps of 1, 2 and 5; the living, who have none yet, are a row of their own.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::style::{BOLD, DIM, paint};
use super::text::{function, located};
use crate::human::{count, duration, fill, rate, shorten, width, wrap};
use crate::report::{Frame, Report, Site};
use crate::stats::Survival;
use crate::stats::durations::{Durations, HdrError};

/// How histograms are written.
#[derive(Clone, Copy, Debug)]
pub struct Hist {
    /// Columns of the terminal.
    pub width: usize,
    /// At most this many sites.
    pub top: usize,
    /// Also show what becomes of it at this many times the rate.
    pub scale: Option<f64>,
}

/// A site, merged from one or more reports.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// The `go` statement.
    pub site: Frame,
    /// What its goroutines run.
    pub entry: Frame,
    /// Finished lifetimes.
    pub lifetimes: Durations,
    /// Ages of the living whose creation was seen.
    pub ages: Durations,
    /// Created, of all reports together.
    pub created: u64,
    /// Living, of all reports together.
    pub live: u64,
    /// For how long it was observed, all reports together, in seconds.
    pub observed_s: f64,
    /// How many rows it was merged from.
    pub rows: u64,
}

/// Little's law for one site: in a steady state, live = rate × mean lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Little {
    /// Creations for each second.
    pub rate: f64,
    /// Mean lifetime in seconds: the area under the survival curve, the living included.
    pub mean_s: f64,
    /// Whether the mean is a lower bound: some were still alive at the longest observation.
    pub at_least: bool,
    /// Rate × mean.
    pub expected: f64,
    /// What was observed, the mean over the merged rows.
    pub observed: f64,
}

/// Merges the sites of reports, most lifetimes first.
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
            let read = Durations::from_base64(&lifetime.hdr)?;
            let exact = read.with_exact(Some(lifetime.min_ns), Some(lifetime.max_ns), Some(lifetime.mean_ns));
            self.lifetimes.merge(&exact);
        }
        if let Some(hdr) = &site.living_hdr {
            self.ages.merge(&Durations::from_base64(hdr)?);
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

    /// Rate, mean and what follows from them; `None` where nothing was created.
    pub fn little(&self) -> Option<Little> {
        if self.created == 0 || self.observed_s <= 0.0 {
            return None;
        }
        let survival = Survival::estimate(self.lifetimes.bins(), self.ages.bins());
        let mean_s = survival.restricted_mean_ns()? as f64 / 1e9;
        let rate = self.created as f64 / self.observed_s;
        let observed = self.live as f64 / self.rows.max(1) as f64;
        let at_least = survival.at(survival.observed_ns()) > 1e-9;
        Some(Little { rate, mean_s, at_least, expected: rate * mean_s, observed })
    }
}

/// Writes a histogram for each site.
pub fn write(sites: &[Merged], hist: &Hist, out: &mut dyn Write) -> io::Result<()> {
    let shown: Vec<_> = sites.iter().filter(|site| site.lifetimes.count() + site.live > 0).collect();
    if shown.is_empty() {
        return writeln!(out, "no goroutine lives or has ended");
    }
    for (at, site) in shown.iter().take(hist.top).enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        one(site, hist, out)?;
    }
    if shown.len() > hist.top {
        let all = count(shown.len() as u64);
        writeln!(
            out,
            "\n{}",
            paint(DIM, format_args!("{} of {all} sites: see --top", count(hist.top as u64)))
        )?;
    }
    Ok(())
}

fn one(site: &Merged, hist: &Hist, out: &mut dyn Write) -> io::Result<()> {
    let columns = hist.width.max(60);
    let name = shorten(&function(&site.entry), columns);
    writeln!(out, "{}", paint(BOLD, name))?;
    for part in wrap(&format!("created at {}", located(&site.site)), columns - 2) {
        writeln!(out, "  {part}")?;
    }
    bars(site, columns, out)?;
    let law = site.little().map(|little| law(&little, hist.scale));
    for parts in quantiles(&site.lifetimes).into_iter().chain(law.into_iter().flatten()) {
        for line in fill(&parts, columns - 2) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

/// Most rows of one histogram; where steps of 1, 2 and 5 give more, the steps are powers of ten.
const ROWS: usize = 24;

fn bars(site: &Merged, columns: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = buckets(&site.lifetimes, &[1, 2, 5]);
    if rows.len() > ROWS {
        rows = buckets(&site.lifetimes, &[1]);
    }
    let mut rows: Vec<_> =
        rows.into_iter().map(|(from, to, n)| (format!("{} – {}", duration(from), duration(to)), n)).collect();
    if site.live > 0 {
        rows.push(("still living".into(), site.live));
    }
    let labels = rows.iter().map(|(label, _)| width(label)).max().unwrap_or(0);
    let counts = rows.iter().map(|&(_, n)| width(&count(n))).max().unwrap_or(0);
    let room = columns.saturating_sub(labels + counts + 7).clamp(10, 60);
    let most = rows.iter().map(|&(_, n)| n).max().unwrap_or(1);
    for (label, n) in &rows {
        let bar = bar(*n, most, room);
        let pad = room - width(&bar);
        writeln!(out, "  {label:>labels$}  {}{:pad$}  {:>counts$}", bar, "", count(*n))?;
    }
    let most = count(most);
    writeln!(
        out,
        "  {:>labels$}  {}",
        "",
        paint(DIM, format_args!("bars are logarithmic, the longest is {most}"))
    )
}

/// (from, to, count) in ns for every step from the shortest to the longest lifetime.
fn buckets(lifetimes: &Durations, steps: &[u64]) -> Vec<(u64, u64, u64)> {
    let (Some(min), Some(max)) = (lifetimes.min_ns(), lifetimes.max_ns()) else { return Vec::new() };
    let edges = || (0..19u32).flat_map(|power| steps.iter().map(move |step| step * 10u64.pow(power)));
    let first = edges().take_while(|&edge| edge <= min).last().unwrap_or(0);
    let edges: Vec<u64> = std::iter::once(first).chain(edges().skip_while(|&edge| edge <= first)).collect();
    let mut rows: Vec<_> =
        edges.windows(2).take_while(|pair| pair[0] <= max).map(|pair| (pair[0], pair[1], 0)).collect();
    for (ns, n) in lifetimes.bins() {
        let at = rows.partition_point(|&(from, _, _)| from <= ns).saturating_sub(1);
        if let Some(row) = rows.get_mut(at) {
            row.2 += n;
        }
    }
    rows
}

/// A bar of `n` where `most` fills the room, on a logarithmic scale, to an eighth of a column. One is visible, none is
/// nothing.
fn bar(n: u64, most: u64, room: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    if n == 0 {
        return String::new();
    }
    let share = ((n + 1) as f64).ln() / ((most + 1) as f64).ln();
    let eighths = ((share * room as f64 * 8.0).round() as usize).clamp(1, room * 8);
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    bar
}

fn quantiles(lifetimes: &Durations) -> Option<Vec<String>> {
    let [p50, p90, p99, p999] = lifetimes.quantiles([0.5, 0.9, 0.99, 0.999])?.map(duration);
    let (n, max) = (count(lifetimes.count()), duration(lifetimes.max_ns()?));
    let names = [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)];
    let named = names.into_iter().map(|(name, value)| format!("{name} {value}"));
    Some(std::iter::once(format!("{n} ended")).chain(named).collect())
}

fn law(little: &Little, scale: Option<f64>) -> Vec<Vec<String>> {
    let mean = duration((little.mean_s * 1e9) as u64);
    let least = if little.at_least { "≥ " } else { "" };
    let expected = |scale: f64| format!("{least}{} live", amount(little.expected * scale));
    let now = format!("{} × mean {least}{mean} (with the living) = {}", rate(little.rate), expected(1.0));
    let mut lines = vec![vec![now, format!("observed {}", amount(little.observed))]];
    if let Some(scale) = scale {
        let more = format!("{} × mean {least}{mean} = {}", rate(little.rate * scale), expected(scale));
        lines.push(vec![format!("at {scale}x: {more}")]);
    }
    lines
}

/// A number of goroutines that need not be whole.
fn amount(n: f64) -> String {
    match n {
        n if n >= 9.95 || n == 0.0 => count(n.round() as u64),
        n if n < 0.05 => "< 0.1".into(),
        n => format!("{n:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(values: &[u64]) -> Durations {
        let mut durations = Durations::default();
        values.iter().for_each(|&ns| durations.record(ns));
        durations
    }

    #[test]
    fn buckets_are_one_two_five() {
        let rows = buckets(&durations(&[1_500, 1_600, 30_000]), &[1, 2, 5]);
        let edges = [
            (1_000, 2_000, 2),
            (2_000, 5_000, 0),
            (5_000, 10_000, 0),
            (10_000, 20_000, 0),
            (20_000, 50_000, 1),
        ];
        assert_eq!(rows, edges);
    }

    #[test]
    fn every_lifetime_is_in_a_bucket() {
        let values: Vec<u64> = (0..40).map(|power| 3u64.pow(power)).collect();
        for steps in [&[1, 2, 5][..], &[1]] {
            let rows = buckets(&durations(&values), steps);
            assert_eq!(rows.iter().map(|row| row.2).sum::<u64>(), 40);
        }
    }

    #[test]
    fn bars_grow_with_counts_and_never_vanish() {
        assert_eq!(bar(0, 100, 10), "");
        assert!(!bar(1, 1_000_000, 10).is_empty());
        assert_eq!(width(&bar(100, 100, 10)), 10);
    }

    #[test]
    fn a_steady_site_obeys_littles_law() {
        // 40 a second for 30 s, each lives 2 s: 80 at any time.
        let mut site = Merged { created: 1_200, live: 80, observed_s: 30.0, rows: 1, ..Merged::default() };
        site.lifetimes.record_n(2_000_000_000, 1_120);
        (0..80).for_each(|at| site.ages.record(at * 25_000_000));
        let little = site.little().unwrap();
        assert!((little.expected - 80.0).abs() < 1.0 && !little.at_least, "{little:?}");
        assert_eq!(amount(little.expected * 2.0).len(), 3);
    }
}
