//! Draws histograms of lifetimes in the terminal, and shows what follows from them by Little's law.
//!
//! The sites may be merged from any number of reports. Lifetimes are put into bins that grow in steps of 1, 2 and 5
//! within each power of ten. The living have no lifetime yet, so they are a row of their own.

use std::io::{self, Write};

use super::names::{function, located};
use super::style::{BOLD, DIM, paint};
use crate::assemble::merged::{Law, Merged};
use crate::human::{count, duration, fill, rate, shorten, width, wrap};
use crate::stats::{Durations, Estimate};

/// How histograms are written.
#[derive(Clone, Copy, Debug)]
pub struct Hist {
    /// Columns of the terminal.
    pub width: usize,
    /// The most sites that are shown.
    pub top: usize,
    /// If given, also show how many goroutines would live at this many times the rate of creation.
    pub scale: Option<f64>,
}

/// What stands in brackets.
const INTERVALS: &str = "[ ] are 95 % intervals, as far as goroutines come and go each for itself";

/// Writes a histogram for each site.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write(sites: &[Merged], hist: &Hist, out: &mut dyn Write) -> io::Result<()> {
    let shown: Vec<_> = sites.iter().filter(|site| site.is_shown()).collect();
    if shown.is_empty() {
        return writeln!(out, "no goroutine lives or has ended");
    }
    for (at, site) in shown.iter().take(hist.top).enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        one(site, hist, out)?;
    }
    if shown.iter().take(hist.top).any(|site| site.law().is_some()) {
        writeln!(out)?;
        for line in wrap(INTERVALS, hist.width.max(36)) {
            writeln!(out, "{}", paint(DIM, line))?;
        }
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
    let columns = hist.width.max(36);
    let name = shorten(&function(&site.entry), columns);
    writeln!(out, "{}", paint(BOLD, name))?;
    for part in wrap(&format!("created at {}", located(&site.site)), columns - 2) {
        writeln!(out, "  {part}")?;
    }
    bars(site, columns, out)?;
    let law = site.law().map(|found| law(&found, site, hist.scale));
    for parts in quantiles(&site.lifetimes).into_iter().chain(law.into_iter().flatten()) {
        for line in fill(&parts, columns - 2) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

/// Most rows of one histogram. If steps of 1, 2 and 5 give more rows, the steps are powers of ten.
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

/// Bins of lifetimes as (from, to, count), with the bounds in ns, without gaps from the shortest to the longest
/// lifetime. `steps` are the bounds within a power of ten.
fn buckets(lifetimes: &Durations, steps: &[u64]) -> Vec<(u64, u64, u64)> {
    let (Some(min), Some(max)) = (lifetimes.min_ns(), lifetimes.max_ns()) else { return Vec::new() };
    // A saved report may say anything, so the last bin ends with the longest time that there is.
    let edges = || {
        let edges = (0..19u32).flat_map(|power| steps.iter().map(move |step| step * 10u64.pow(power)));
        edges.chain([u64::MAX])
    };
    let first = edges().take_while(|&edge| edge <= min).last().unwrap_or(0);
    let edges: Vec<u64> = std::iter::once(first).chain(edges().skip_while(|&edge| edge <= first)).collect();
    let mut rows: Vec<(u64, u64, u64)> =
        edges.windows(2).take_while(|pair| pair[0] <= max).map(|pair| (pair[0], pair[1], 0)).collect();
    for (ns, n) in lifetimes.bins() {
        let at = rows.partition_point(|&(from, _, _)| from <= ns).saturating_sub(1);
        if let Some(row) = rows.get_mut(at) {
            row.2 = row.2.saturating_add(n);
        }
    }
    rows
}

/// A bar for `n` on a logarithmic scale, precise to an eighth of a column, of which `most` fills the room. Even a
/// single one is visible; only zero has no bar.
fn bar(n: u64, most: u64, room: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    if n == 0 {
        return String::new();
    }
    let share = (n as f64).ln_1p() / (most as f64).ln_1p();
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

fn law(law: &Law, site: &Merged, scale: Option<f64>) -> Vec<Vec<String>> {
    let little = &law.little;
    let observed = little.live.map_or_else(
        || format!("{} lived at the end", count(site.live)),
        |live| format!("observed {}", ranged(live, amount)),
    );
    if let Some(growth) = law.growth {
        let grows = |scale: f64| format!("grows by {} and never settles", rate(growth * scale));
        let created = |scale: f64| ranged(little.rate.times(scale), rate);
        let now = vec![format!("{} created: {}", created(1.0), grows(1.0)), observed];
        let then =
            scale.map(|scale| vec![format!("at {scale}x: {} created: {}", created(scale), grows(scale))]);
        return std::iter::once(now).chain(then).collect();
    }
    let least = if little.is_at_least() { "≥ " } else { "" };
    let mean = format!("mean {least}{}", ranged(little.mean_s, |seconds| duration((seconds * 1e9) as u64)));
    let given = |scale: f64, live: Estimate| {
        format!("{} × {mean} = {least}{} live", ranged(little.rate.times(scale), rate), ranged(live, amount))
    };
    let steady = little.is_balanced() != Some(false);
    let residual = little.residual.map(|residual| {
        let said = format!("residual {}", ranged(residual, signed));
        if steady { said } else { format!("{said}: not stationary, or leaking") }
    });
    let mut lines =
        vec![vec![given(1.0, little.expected)], std::iter::once(observed).chain(residual).collect()];
    if let Some(scale) = scale {
        let then = law.at_scale(scale).map(|live| given(scale, live));
        lines.push(vec![format!(
            "at {scale}x: {}",
            then.unwrap_or_else(|| "no forecast, since there is no steady state".into())
        )]);
    }
    lines
}

/// An estimate with its 95 % interval, unless that is no longer than what is shown of its value.
fn ranged(estimate: Estimate, text: impl Fn(f64) -> String) -> String {
    let value = text(estimate.value);
    let (low, high) = (text(estimate.low), text(estimate.high));
    match (estimate.low.is_finite(), estimate.high.is_finite()) {
        (true, true) if low == value && high == value => value,
        (true, true) => format!("{value} [{low} – {high}]"),
        (true, false) if low == value => value,
        (true, false) => format!("{value} [≥ {low}]"),
        (false, _) => format!("{value} [≤ {high}]"),
    }
}

/// A number of goroutines as text. As it can be a mean, it need not be a whole number.
fn amount(n: f64) -> String {
    match n {
        n if n >= 9.95 || n == 0.0 => count(n.round() as u64),
        n if n < 0.05 => "< 0.1".into(),
        n => format!("{n:.1}"),
    }
}

/// A difference between numbers of goroutines as text.
fn signed(n: f64) -> String {
    match n {
        n if n.abs() < 0.05 => "0".into(),
        n if n < 0.0 => format!("−{}", amount(-n)),
        n => amount(n),
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
        let values: Vec<u64> = (0..41).map(|power| 3u64.pow(power)).collect();
        for steps in [&[1, 2, 5][..], &[1]] {
            let rows = buckets(&durations(&values), steps);
            assert_eq!(rows.iter().map(|row| row.2).sum::<u64>(), 41);
            let longest = durations(&[u64::MAX - 1]);
            assert_eq!(buckets(&longest, steps).iter().map(|row| row.2).sum::<u64>(), 1);
        }
    }

    #[test]
    fn bars_grow_with_counts_and_never_vanish() {
        assert_eq!(bar(0, 100, 10), "");
        assert!(!bar(1, 1_000_000, 10).is_empty());
        assert_eq!(width(&bar(100, 100, 10)), 10);
    }
}
