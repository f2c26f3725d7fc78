//! Writes the report for people: first the findings to act on, then a line about the rest, then what tracing cost and
//! what is missing.

use std::io::{self, Write};

use super::blamed;
use super::finding::{Shown, found, hidden, silenced, together};
use super::go_tests::Told;
use super::left_behind;
use super::lines::{self, INDENT};
use super::names::{
    function, holds_thread, labels, located, place, processes, program_name, starts_program, unmoved,
};
use super::style::{BOLD, DIM, of_level, paint};
use super::waited_on;
use crate::assemble::alike::{self, Alike, Program};
use crate::human::{bytes, clean, count, duration, fill, rate, shorten, sum, width, wrap};
use crate::report::{
    Connection, ELIDED, EvidenceKind, Frame, Level, Lifetime, Mode, Process, Report, RingKind, Site, Sort,
};

/// How a report is written as text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Number of columns of the terminal.
    pub width: usize,
    /// Whether a table of the sites follows the findings.
    pub table: bool,
    /// The order of the sites, which is that of the report.
    pub sort: Sort,
}

/// The fewest columns that are filled. In fewer, there is no room beside the labels.
const LEAST: usize = 36;
/// Most places of a site that are shown each at which its goroutines wait.
const WAITS: usize = 3;
/// Most calls of a creation stack that are shown.
const CALLS: usize = 8;
/// Most watched sites that are shown each, and most of those that cannot be told yet; the others are only counted.
const WATCHED: usize = 5;

/// Writes the report. Every line is at most `text.width` columns wide, as far as names can be shortened.
///
/// # Errors
/// The report cannot be written to `out`.
pub fn write(report: &Report, text: &Text, out: &mut dyn Write) -> io::Result<()> {
    let programs = alike::programs(&report.processes, text.sort);
    let page = Page { report, width: text.width.max(LEAST), many: programs.len() > 1, programs };
    page.heading(out)?;
    left_behind::write(report, page.width, out)?;
    page.findings(out)?;
    page.verdicts(out)?;
    if text.table {
        page.table(out)?;
    }
    page.cost(out)?;
    page.gaps(out)?;
    go_tools(report.toolchain_processes).map_or(Ok(()), |line| writeln!(out, "\n{line}"))?;
    silenced(&report.summary).map_or(Ok(()), |silenced| writeln!(out, "\n{silenced}"))
}

/// What is said of Go's own tools that ran and were not traced.
fn go_tools(processes: u64) -> Option<String> {
    let count = match processes {
        0 => return None,
        1 => "1 process".to_owned(),
        more => format!("{more} processes"),
    };
    Some(format!("and {count} of Go's own tools: --children go shows them"))
}

/// The block of a finding or a site, without styles. `columns` is how wide it may be.
pub(super) fn block(report: &Report, shown: &Shown, columns: usize) -> String {
    let page = Page { report, width: columns, programs: Vec::new(), many: false };
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = page.block(shown, &mut anstream::StripStream::new(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Page<'report> {
    report: &'report Report,
    width: usize,
    programs: Vec<Program>,
    /// Whether there are several programs.
    many: bool,
}

impl Page<'_> {
    fn heading(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut any = false;
        for program in &self.programs {
            // If there are several programs, each is named at its findings and in its table instead.
            if !self.many || program.process.mode == Mode::Unsupported {
                writeln!(out, "{}", program_name(program, self.width))?;
                any = true;
            }
        }
        if any { writeln!(out) } else { Ok(()) }
    }

    fn sites(&self) -> impl Iterator<Item = (&Program, &Alike)> {
        self.programs.iter().flat_map(|program| program.sites.iter().map(move |alike| (program, alike)))
    }

    fn findings(&self, out: &mut dyn Write) -> io::Result<()> {
        // What is told of the tests that leak is not told again of the statements.
        let told = Told::of(self.report);
        let all = self.programs.iter().flat_map(Shown::of);
        let all: Vec<Shown> = all.filter_map(|shown| shown.without(|site| told.has(site))).collect();
        let at = |level| all.iter().filter(move |shown| shown.level == level);
        // A queue that does not move needs a remedy as a leak does, so it is shown with the leaks.
        let stands = |shown: &&Shown| {
            let first = shown.alike.site.verdict.evidence.first();
            first.is_some_and(|found| found.kind == EvidenceKind::Stuck)
        };
        let (stuck, watched): (Vec<_>, Vec<_>) = at(Level::Watch).partition(stands);
        let few = watched.into_iter().take(WATCHED).chain(at(Level::Unknown).take(WATCHED));
        for shown in at(Level::Proven).chain(at(Level::Suspect)).chain(stuck).chain(few) {
            self.block(shown, out)?;
            writeln!(out)?;
        }
        self.left_out(out)
    }

    /// Says how many sites with a finding were not asked for, so that nobody takes their absence for good news.
    fn left_out(&self, out: &mut dyn Write) -> io::Result<()> {
        let levels = hidden(&self.report.summary, &self.programs)
            .map(|(hidden, level)| format!("{} {}", count(hidden), paint(of_level(level), level.name())));
        let levels: Vec<_> = levels.collect();
        if levels.is_empty() {
            return Ok(());
        }
        writeln!(out, "not shown: {}, by --min-age or --top", levels.join(", "))
    }

    /// Writes the level, what the goroutines run, and where they are created; on two lines if one is too short.
    fn head(&self, shown: &Shown, out: &mut dyn Write) -> io::Result<()> {
        let Shown { program, alike, level, .. } = *shown;
        let site = &alike.site;
        let name = shorten(&function(&site.entry), self.width - INDENT);
        let place = format!("created at {}", located(&site.site));
        let several = self.many || program.pids.len() > 1;
        let whose = if several { format!("{}   ", processes(&alike.pids)) } else { String::new() };
        let created = format!("{whose}{place}");
        let label = paint(of_level(level), format_args!("{:<8}", level.name()));
        if INDENT + width(&name) + 3 + width(&created) <= self.width {
            return writeln!(out, "{label} {}   {created}", paint(BOLD, name));
        }
        writeln!(out, "{label} {}", paint(BOLD, name))?;
        lines::parts(out, self.width, &[created])
    }

    fn block(&self, shown: &Shown, out: &mut dyn Write) -> io::Result<()> {
        let alike = shown.alike;
        let Alike { site, live_of_most: live, pid_of_most, .. } = alike;
        self.head(shown, out)?;
        let net = i128::from(site.created) - i128::from(site.exited.saturating_add(site.reconciled));
        let sign = if net < 0 { '−' } else { '+' };
        let window = duration(self.report.window.duration_ns);
        let mut facts = vec![format!(
            "live {} ({sign}{} in {window})",
            count(site.live),
            count(net.unsigned_abs().try_into().unwrap_or(u64::MAX))
        )];
        if let Some(oldest) = site.oldest {
            let least = if oldest.at_least { "at least " } else { "" };
            facts.push(format!("oldest {least}{}", duration(oldest.age_ns)));
        }
        facts.extend(site.stack_bytes.map(|stacks| format!("stacks {}", bytes(stacks))));
        if let Some(lifetime) = &site.lifetime {
            let (n, p50, p99) = (count(lifetime.count), duration(lifetime.p50_ns), duration(lifetime.p99_ns));
            facts.push(format!("{n} others ended: half within {p50}, 99 % within {p99}"));
        }
        lines::parts(out, self.width, &facts)?;
        if alike.pids.len() > 1 {
            let most = format!("process {pid_of_most}, which has most: {}", count(*live));
            self.list(out, "as in", std::iter::once(most))?;
        } else if alike.rows > 1 {
            let most = format!("{} instances, as in that which has most: {}", alike.rows, count(*live));
            self.list(out, "sum of", std::iter::once(most))?;
        }
        let waiting = site.waiting.iter().flatten().map(|waiting| {
            let at = waiting.at.first().map(|frame| format!(" at {}", place(frame))).unwrap_or_default();
            let all = if waiting.count == *live { "all of them".into() } else { count(waiting.count) };
            let unmoved = unmoved(waiting).map(|unmoved| format!("; {unmoved}")).unwrap_or_default();
            let thread = if holds_thread(waiting) { "; each holds a thread" } else { "" };
            let connection = waiting.connection.and_then(Connection::name);
            let connection = connection.map(|name| format!(", {name}")).unwrap_or_default();
            format!("{}{at}{connection} ({all}{unmoved}{thread})", clean(&waiting.reason))
        });
        let rest: u64 = sum(site.waiting.iter().flatten().skip(WAITS).map(|waiting| waiting.count));
        let rest = (rest > 0).then(|| format!("other places ({})", count(rest)));
        let seen = self.report.processes.iter().find(|process| process.pid == *pid_of_most);
        let before = seen.and_then(|process| process.scan?.before_end_ns).filter(|&before| before > 0);
        let asof = before.filter(|_| site.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty()));
        let asof = asof.map(|before| format!("as of {} before its process ended", duration(before)));
        self.list(out, "waits for", waiting.take(WAITS).chain(rest).chain(asof))?;
        self.list(out, "on", waited_on::lines(site))?;
        self.list(out, "labels", labels(site, *live))?;
        // A creator that is also blamed is shown only there, where more is said about it.
        let blames = |frame: &Frame| blamed::shows(site, *live, frame);
        let parents = site.parents.iter().take(1);
        let parents = parents.filter(|parent| parent.frame != site.site && !blames(&parent.frame));
        let parents =
            parents.map(|parent| format!("goroutines that were created at {}", located(&parent.frame)));
        self.list(out, "by", parents)?;
        self.list(out, "blame", blamed::lines(site, *live))?;
        self.list(out, "through", blamed::dependencies(site, *live))?;
        self.list(out, "created", creation_stack(alike))?;
        self.list(out, "because", site.verdict.evidence.iter().map(|evidence| clean(&evidence.text)))?;
        self.list(out, "with it", shown.following())?;
        self.list(out, "do", site.verdict.advice.iter().map(|advice| clean(advice)))
    }

    fn list(
        &self,
        out: &mut dyn Write,
        label: &str,
        items: impl IntoIterator<Item = String>,
    ) -> io::Result<()> {
        lines::list(out, self.width, label, items)
    }

    /// Writes `cannot tell yet` or `no leak found`, and how many sites have which verdict. What is not known is never
    /// good news, so one site that cannot be told is enough for the former.
    fn verdicts(&self, out: &mut dyn Write) -> io::Result<()> {
        let summary = &self.report.summary;
        let window = duration(self.report.window.duration_ns);
        let seen = || self.report.processes.iter().filter(|process| process.mode != Mode::Unsupported);
        for process in seen().filter(|process| process.stopped) {
            let pid = process.pid;
            writeln!(out, "process {pid} is stopped: nothing happens in it before kill -CONT {pid}")?;
        }
        if seen().all(|process| process.stopped) && summary.created.max(summary.exited) == 0 {
            return Ok(());
        }
        if summary.sites == 0 {
            return writeln!(out, "no goroutine was created or ended in {window}");
        }
        let (sites, noun) = (count(summary.sites), if summary.sites == 1 { "site" } else { "sites" });
        let (created, exited) = (count(summary.created), count(summary.exited));
        let leaks = summary.proven.saturating_add(summary.suspect);
        if summary.unknown > 0 && leaks == 0 {
            let unknown = count(summary.unknown);
            let of = format!("{unknown} of {sites} {noun}, {created} created, {exited} ended");
            writeln!(out, "cannot tell yet after {window}: {of}")?;
        } else if leaks.saturating_add(summary.watch) == 0 {
            return writeln!(
                out,
                "no leak found in {window}: {sites} {noun}, {created} created, {exited} ended"
            );
        }
        let levels = Level::WORST_FIRST.into_iter().filter(|&level| found(summary, level) > 0).map(|level| {
            let hint = match (level, summary.needs_ns) {
                (Level::Unknown, Some(needs)) => {
                    format!(" (window too short: try --for {})", argument(needs))
                }
                _ => String::new(),
            };
            format!("{} {}{hint}", paint(of_level(level), level.name()), count(found(summary, level)))
        });
        let together = together(summary).map(|text| format!("   {text}")).unwrap_or_default();
        writeln!(out, "{}{together}", levels.collect::<Vec<_>>().join("   "))
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        for program in self.programs.iter().filter(|program| !program.sites.is_empty()) {
            writeln!(out)?;
            if self.many {
                writeln!(out, "{}", program_name(program, self.width))?;
            }
            // Where some existed before, created − ended is not what lives.
            let before = program.sites.iter().any(|alike| alike.site.at_attach > 0);
            let head = Row::head(before);
            let rows: Vec<_> = program.sites.iter().map(|alike| Row::of(&alike.site, before)).collect();
            let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
            for row in &rows {
                for (at, cell) in row.cells.iter().enumerate() {
                    widths[at] = widths[at].max(width(cell));
                }
            }
            let used = 8 + widths.iter().map(|width| width + 2).sum::<usize>() + 2;
            let room = self.width.saturating_sub(used).max(24);
            let line = |cells: &[String]| -> String {
                cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect()
            };
            writeln!(
                out,
                "{}",
                paint(DIM, format_args!("{:<8}{}  goroutine and where it is created", "", line(&head)))
            )?;
            for row in rows {
                let style = if row.site.is_silenced() { DIM } else { of_level(row.level) };
                let label = paint(style, format_args!("{:<8}", row.level.name()));
                writeln!(out, "{label}{}  {}", line(&row.cells), named(row.site, room))?;
            }
        }
        let shown: u64 = self.report.processes.iter().map(|process| process.sites.len() as u64).sum();
        if shown < self.report.summary.sites {
            let (shown, all) = (count(shown), count(self.report.summary.sites));
            writeln!(out, "{}", paint(DIM, format_args!("{shown} of {all} sites")))?;
        }
        Ok(())
    }

    fn cost(&self, out: &mut dyn Write) -> io::Result<()> {
        let (overhead, window_ns) = (&self.report.overhead, self.report.window.duration_ns);
        let lost = &self.report.loss;
        let mut parts = Vec::new();
        if let (Some(hits), Some(each), Some(spent)) =
            (overhead.probe_hits, overhead.target_ns_per_hit, overhead.target_cpu_ns)
        {
            let (of, whose) = match overhead.targets_used_cpu_ns {
                Some(used) if used > 0 => {
                    (used, if self.many { "the targets' CPU" } else { "the target's CPU" })
                }
                _ => (window_ns, "one CPU"),
            };
            let share = percent(spent as f64 / of.max(1) as f64);
            parts.push(format!("{} hits × {}: {share} of {whose}", count(hits), duration(each)));
        }
        if let Some(own) = overhead.golife_cpu_ns {
            parts.push(format!("golife {}", percent(own as f64 / window_ns.max(1) as f64)));
        }
        let held = self.report.processes.iter().filter_map(|process| process.held_ns);
        if let Some(longest) = held.clone().max() {
            parts.push(match (held.count(), duration(longest)) {
                (1, longest) => format!("memory held {longest} beyond its end"),
                (n, longest) => format!("memory of {n} processes held beyond their ends, {longest} at most"),
            });
        }
        if overhead.rings.is_some_and(|rings| rings.kind == RingKind::Shared) {
            parts.push("one ring with a lock for all CPUs".into());
        }
        if self.report.processes.iter().any(|process| process.mode == Mode::Scanned) {
            parts.push("no probes".into());
        } else {
            parts.push(format!("lost {} of {} events", count(lost.dropped), count(self.events())));
        }
        writeln!(out)?;
        lines::remark(out, "cost", fill(&parts, self.width - INDENT))
    }

    fn events(&self) -> u64 {
        let lost = &self.report.loss;
        let summary = &self.report.summary;
        let seen =
            [summary.created, summary.exited, lost.unmatched_exits, lost.unattributed_exits, lost.dropped];
        self.report.overhead.probe_hits.unwrap_or_else(|| sum(seen))
    }

    /// Writes what the numbers leave out.
    fn gaps(&self, out: &mut dyn Write) -> io::Result<()> {
        let loss = &self.report.loss;
        let unread =
            |process: &&Process| process.mode == Mode::Traced && process.goroutines.at_attach.is_none();
        let unread = self.report.processes.iter().filter(unread).count();
        let mut gaps = Vec::new();
        let mut gap = |n: u64, text: &str| {
            if n > 0 {
                gaps.push(format!("{} {text}", count(n)));
            }
        };
        gap(loss.dropped, "events lost: counts are too low by them, lifetimes that span a loss are left out");
        gap(loss.unmatched_exits, "exits without a creation: a creation was missed");
        gap(loss.read_faults, "hits whose memory could not be read");
        gap(loss.reconciled, "corrections by a scan of the runtime's own list");
        gap(
            // If a scan has listed the goroutines from before tracing, these exits are of goroutines that ended while
            // golife started. They are not missing anywhere.
            if unread > 0 { loss.unattributed_exits } else { 0 },
            "exits of goroutines from before tracing, created at sites that are not known",
        );
        gap(
            loss.untracked,
            "goroutines counted but not followed: the memory budget for the living is used up",
        );
        gap(
            loss.without_creators,
            "goroutines whose creators were not kept: memory budget; blame leaves them out",
        );
        gap(loss.without_stack, "creations whose stack could not be read or kept");
        gap(
            loss.undecodable,
            "records that could not be read: golife and its probes are not of the same build",
        );
        gap(loss.late, "records of processes that had already ended, counted nowhere");
        gap(loss.forgotten_processes, "ended processes left out: only the latest are kept");
        gap(loss.missed_processes, "Go processes ended before they could be looked at");
        let other = self.sites().filter(|(_, alike)| alike.site.other).count() as u64;
        gap(other, "row(s) for sites beyond the limit: see --max-sites");
        if unread > 0 {
            let whose = if self.many { format!(" of {unread} processes") } else { String::new() };
            gaps.push(format!("goroutines{whose} from before tracing are not counted as live"));
        }
        let scanned = self.report.processes.iter().filter(|process| process.mode == Mode::Scanned);
        let mut details: Vec<&String> = scanned.filter_map(|process| process.detail.as_ref()).collect();
        // What one process lacks beyond all others is said with what they have in common.
        details.sort_by_key(|detail| std::cmp::Reverse(detail.len()));
        for detail in details {
            if !gaps.iter().any(|gap| gap.starts_with(detail.as_str())) {
                gaps.push(detail.clone());
            }
        }
        lines::remark(out, "missing", gaps.iter().flat_map(|gap| wrap(gap, self.width - INDENT)))
    }
}

/// The calls of the creation stack that most of a site's living goroutines come from, with the number of these
/// goroutines.
fn creation_stack(alike: &Alike) -> impl Iterator<Item = String> {
    let top =
        alike.site.creation_stacks.iter().flatten().find(|stack| stack.live > 0 && !stack.frames.is_empty());
    top.into_iter().flat_map(|stack| {
        let left_out = stack.frames.len().saturating_sub(CALLS);
        let calls = stack.frames.iter().take(CALLS).enumerate().map(|(at, frame)| {
            let share = format!("   ({} of {})", count(stack.live), count(alike.live_of_most));
            let share = if at == 0 { share } else { String::new() };
            let place =
                if frame.function == ELIDED { String::new() } else { format!(" at {}", place(frame)) };
            format!("{}{place}{share}", function(frame))
        });
        calls.chain((left_out > 0).then(|| format!("and {} more calls", count(left_out as u64))))
    })
}

/// A row of the table of sites.
struct Row<'report> {
    level: Level,
    cells: Vec<String>,
    site: &'report Site,
}

impl Row<'_> {
    /// The names of the columns, with or without one for what existed before.
    fn head(before: bool) -> Vec<String> {
        let mut head =
            ["live", "before", "created", "ended", "rate", "p50", "p99", "oldest"].map(String::from).to_vec();
        if !before {
            head.remove(1);
        }
        head
    }

    fn of(site: &Site, before: bool) -> Row<'_> {
        let lifetime = |ns: fn(&Lifetime) -> u64| {
            site.lifetime.as_ref().map_or("–".into(), |lifetime| duration(ns(lifetime)))
        };
        let oldest = site.oldest.map_or("–".into(), |oldest| {
            format!("{}{}", if oldest.at_least { "≥ " } else { "" }, duration(oldest.age_ns))
        });
        let mut cells = vec![
            count(site.live),
            count(site.at_attach),
            count(site.created),
            count(site.exited),
            site.created_per_s.map_or("–".into(), rate),
            lifetime(|lifetime| lifetime.p50_ns),
            lifetime(|lifetime| lifetime.p99_ns),
            oldest,
        ];
        if !before {
            cells.remove(1);
        }
        Row { level: site.verdict.level, cells, site }
    }
}

/// What a site's goroutines run and where they were created, in at most `room` columns.
fn named(site: &Site, room: usize) -> String {
    let is_placed = site.site.file.is_some() || starts_program(&site.site);
    let place = if is_placed { place(&site.site) } else { function(&site.site) };
    let entry = function(&site.entry);
    let mark = site.silenced().map(|why| format!("  {why}")).unwrap_or_default();
    let name = shorten(&entry, room.saturating_sub(width(&place) + 2 + width(&mark)).max(12));
    format!("{name}  {}{mark}", paint(DIM, place))
}

/// A fraction in percent, with about two significant digits.
fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    match percent {
        p if p >= 10.0 => format!("{p:.0} %"),
        p if p >= 1.0 => format!("{p:.1} %"),
        p if p >= 0.01 => format!("{p:.2} %"),
        p if p > 0.0 => "< 0.01 %".into(),
        _ => "0 %".into(),
    }
}

/// A duration in the form in which it is typed as an argument, such as `5m`.
fn argument(ns: u64) -> String {
    humantime::format_duration(std::time::Duration::from_nanos(ns)).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_keep_two_digits() {
        assert_eq!(
            [0.0, 0.00001, 0.0003, 0.012, 0.5].map(percent),
            ["0 %", "< 0.01 %", "0.03 %", "1.2 %", "50 %"]
        );
        assert_eq!(argument(300_000_000_000), "5m");
    }
}
