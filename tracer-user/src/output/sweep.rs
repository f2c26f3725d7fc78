//! Shows a sweep to people: each process with what most of its goroutines wait for.

use std::io::{self, Write};

use super::names::{located, place, process_name, unmoved};
use super::style::{BOLD, DIM, of_level, paint};
use crate::human::{bytes, clean, count, duration, fill, wrap};
use crate::report::{Level, Mode, Process, Report, Site};

/// Most sites of each process that are shown.
const SITES: usize = 5;
/// Most places of each site that are shown at which its goroutines wait.
const PLACES: usize = 3;
/// The column at which the text of a site begins.
const INDENT: usize = 14;

/// Writes the report of a sweep for a terminal of `width` columns.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write(report: &Report, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let (mut live, mut scanned) = (0, 0);
    for process in &report.processes {
        heading(process, width, out)?;
        let mut sites: Vec<&Site> = process.sites.iter().collect();
        sites.sort_by_key(|site| std::cmp::Reverse((site.verdict.level, site.live)));
        for found in sites.iter().take(SITES) {
            site(found, width, out)?;
        }
        if sites.len() > SITES {
            let rest = sites[SITES..].iter().map(|site| site.live).sum();
            writeln!(
                out,
                "{}",
                paint(DIM, format_args!("{:>12}  at {} other sites", count(rest), sites.len() - SITES))
            )?;
        }
        writeln!(out)?;
        live += process.goroutines.live;
        scanned += u64::from(process.mode == Mode::Scanned);
    }
    let plural = if scanned == 1 { "process" } else { "processes" };
    let took = duration(report.window.duration_ns);
    writeln!(out, "{} Go {plural}, {} goroutines, in {took}", count(scanned), count(live))
}

fn heading(process: &Process, width: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", process_name(process, width))?;
    if process.mode != Mode::Scanned {
        return Ok(());
    }
    let totals = &process.goroutines;
    let mut parts = vec![format!("{} goroutines", count(totals.live))];
    if totals.created + totals.exited > 0 {
        parts.push(format!("{} came, {} went", count(totals.created), count(totals.exited)));
    }
    parts.push(format!("{} of the runtime", count(totals.system)));
    for line in fill(&parts, width) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn site(site: &Site, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut about = vec![format!("created at {}", located(&site.site))];
    about.extend(site.oldest.map(|oldest| format!("oldest at least {}", duration(oldest.age_ns))));
    about.extend(site.stack_bytes.map(|stacks| format!("stacks {}", bytes(stacks))));
    for (at, line) in fill(&about, width.saturating_sub(INDENT)).into_iter().enumerate() {
        let number = if at == 0 { count(site.live) } else { String::new() };
        writeln!(out, "{}  {line}", paint(BOLD, format_args!("{number:>12}")))?;
    }
    for waiting in site.waiting.iter().flatten().take(PLACES) {
        let at = waiting.at.first().map(|frame| format!(" at {}", place(frame))).unwrap_or_default();
        let unmoved = unmoved(waiting).map(|unmoved| format!(", {unmoved}")).unwrap_or_default();
        writeln!(out, "{:INDENT$}{} {}{at}{unmoved}", "", count(waiting.count), clean(&waiting.reason))?;
    }
    if site.verdict.level > Level::Healthy {
        for evidence in &site.verdict.evidence {
            let level = paint(of_level(site.verdict.level), site.verdict.level.name());
            writeln!(out, "{:INDENT$}{level} {}", "", clean(&evidence.text))?;
        }
        let advice = site.verdict.advice.iter().map(|advice| format!("do {}", clean(advice)));
        for line in advice.flat_map(|advice| wrap(&advice, width.saturating_sub(INDENT))) {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    Ok(())
}
