//! Shows a sweep to people: each process with what most of its goroutines wait for.

use std::io::{self, Write};

use super::blamed;
use super::finding::silenced;
use super::names::{
    descriptor_of_group, function, holds_thread, is_of_timer, labels, located, place, program_name, unmoved,
};
use super::style::{BOLD, DIM, of_level, paint};
use crate::assemble::alike::{self, Alike, Program};
use crate::human::{bytes, clean, count, duration, fill, sum, wrap};
use crate::report::{Level, Mode, Report, Sort, States};

/// Most sites of each process that are shown.
const SITES: usize = 5;
/// Most places of each site that are shown at which its goroutines wait.
const PLACES: usize = 3;
/// The column at which the text of a site begins.
const INDENT: usize = 14;

/// Writes the report of a sweep for a terminal of `width` columns. `top` says whether only the first sites of all
/// processes are in it.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write(report: &Report, width: usize, top: bool, out: &mut dyn Write) -> io::Result<()> {
    let (mut live, mut scanned, mut left_out) = (0, 0, 0);
    for program in alike::programs(&report.processes, Sort::Verdict) {
        live = sum([live, program.process.goroutines.live]);
        scanned += if program.process.mode == Mode::Scanned { program.pids.len() as u64 } else { 0 };
        if top && program.sites.is_empty() && program.process.mode == Mode::Scanned {
            left_out += program.pids.len() as u64;
            continue;
        }
        heading(&program, width, out)?;
        let mut sites: Vec<&Alike> = program.sites.iter().collect();
        sites.retain(|alike| alike.site.live > 0);
        sites.sort_by(|a, b| Sort::Verdict.order(&a.site, &b.site));
        for found in sites.iter().take(SITES) {
            site(found, width, out)?;
        }
        if sites.len() > SITES {
            let rest = sum(sites[SITES..].iter().map(|alike| alike.site.live));
            writeln!(
                out,
                "{}",
                paint(DIM, format_args!("{:>12}  at {} other sites", count(rest), sites.len() - SITES))
            )?;
        }
        writeln!(out)?;
    }
    let plural = if scanned == 1 { "process" } else { "processes" };
    let took = duration(report.window.duration_ns);
    let left_out = match left_out {
        0 => String::new(),
        n => format!("; {} not shown: no site of theirs is within --top", count(n)),
    };
    writeln!(out, "{} Go {plural}, {} goroutines, in {took}{left_out}", count(scanned), count(live))?;
    silenced(&report.summary).map_or(Ok(()), |silenced| writeln!(out, "{silenced}"))
}

fn heading(program: &Program, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let process = &program.process;
    writeln!(out, "{}", program_name(program, width))?;
    if process.mode != Mode::Scanned {
        return Ok(());
    }
    let totals = &process.goroutines;
    let mut parts = vec![format!("{} goroutines", count(totals.live))];
    if totals.created + totals.exited > 0 {
        let (came, went) = (count(totals.created), count(totals.exited));
        parts.push(format!("{came} seen to come, {went} to go (more may have come and gone unseen)"));
    }
    parts.push(format!("{} of the runtime", count(totals.system)));
    parts.extend(totals.states.map(states));
    for line in fill(&parts, width) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// What all of them are doing, such as `1 running, 40 waiting`, without what none of them does.
fn states(states: States) -> String {
    let States { running, runnable, waiting, not_in_go } = states;
    let each = [
        (running, "running"),
        (runnable, "runnable"),
        (waiting, "waiting"),
        (not_in_go, "in system calls or C"),
    ];
    let some = each.into_iter().filter(|(n, _)| *n > 0);
    some.map(|(n, what)| format!("{} {what}", count(n))).collect::<Vec<_>>().join(", ")
}

fn site(alike: &Alike, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let site = &alike.site;
    // All functions of timers have one `go` statement, so only their names tell them apart.
    let whose = if is_of_timer(&site.site) { format!("{}, ", function(&site.entry)) } else { String::new() };
    let mut about = vec![format!("{whose}created at {}", located(&site.site))];
    about.extend(site.oldest.map(|oldest| format!("oldest at least {}", duration(oldest.age_ns))));
    about.extend(site.stack_bytes.map(|stacks| format!("stacks {}", bytes(stacks))));
    about.extend(site.silenced().map(|why| format!("{}, but {why}", site.verdict.level.name())));
    for (at, line) in fill(&about, width.saturating_sub(INDENT)).into_iter().enumerate() {
        let number = if at == 0 { count(site.live) } else { String::new() };
        writeln!(out, "{}  {line}", paint(BOLD, format_args!("{number:>12}")))?;
    }
    if alike.rows > 1 {
        let (pid, live) = (alike.pid_of_most, count(alike.live_of_most));
        writeln!(out, "{:INDENT$}as in process {pid}, which has most: {live}", "")?;
    }
    for waiting in site.waiting.iter().flatten().take(PLACES) {
        let at = waiting.at.first().map(|frame| format!(" at {}", place(frame))).unwrap_or_default();
        let unmoved = unmoved(waiting).map(|unmoved| format!(", {unmoved}")).unwrap_or_default();
        let thread = if holds_thread(waiting) { ", each holds a thread" } else { "" };
        writeln!(
            out,
            "{:INDENT$}{} {}{at}{unmoved}{thread}",
            "",
            count(waiting.count),
            clean(&waiting.reason)
        )?;
        let on =
            descriptor_of_group(waiting).map(|on| wrap(&format!("on {on}"), width.saturating_sub(INDENT)));
        for line in on.into_iter().flatten() {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    if site.verdict.level > Level::Healthy && !site.is_silenced() {
        for (label, lines) in [
            ("blame", blamed::lines(site, alike.live_of_most)),
            ("through", blamed::dependencies(site, alike.live_of_most)),
        ] {
            for line in
                lines.iter().flat_map(|line| wrap(&format!("{label} {line}"), width.saturating_sub(INDENT)))
            {
                writeln!(out, "{:INDENT$}{line}", "")?;
            }
        }
        for evidence in &site.verdict.evidence {
            let level = paint(of_level(site.verdict.level), site.verdict.level.name());
            writeln!(out, "{:INDENT$}{level} {}", "", clean(&evidence.text))?;
        }
        for labels in labels(site, alike.live_of_most) {
            writeln!(out, "{:INDENT$}{labels}", "")?;
        }
        let advice = site.verdict.advice.iter().map(|advice| format!("do {}", clean(advice)));
        for line in advice.flat_map(|advice| wrap(&advice, width.saturating_sub(INDENT))) {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::Value;

    use super::super::{saved, testing};
    use super::*;
    use crate::human::is_unsafe;
    use crate::report::{BlamedFrame, CountedLabel, Io};

    /// Adds what would control a terminal to every text that may be any.
    fn poison(report: &mut Value, path: &str) -> usize {
        let at = |report: &Value| report.pointer(path).cloned();
        let inside: Vec<String> = match at(report) {
            Some(Value::Object(fields)) => fields.keys().cloned().collect(),
            Some(Value::Array(items)) => (0..items.len()).map(|item| item.to_string()).collect(),
            Some(Value::String(text)) => {
                let set = |report: &mut Value, text: &str| *report.pointer_mut(path).unwrap() = text.into();
                set(report, &format!("{text}\u{1b}[2J\u{202e}\r\u{9b}"));
                if saved::read(&report.to_string()).is_ok() {
                    return 1;
                }
                set(report, &text);
                return 0;
            }
            _ => return 0,
        };
        inside.iter().map(|inside| poison(report, &format!("{path}/{inside}"))).sum()
    }

    #[test]
    fn the_report_of_another_host_cannot_control_the_terminal() {
        let mut report = testing::review();
        for process in &mut report.processes {
            process.mode = Mode::Scanned;
            for site in &mut process.sites {
                site.labels =
                    Some(vec![CountedLabel { key: "tenant".into(), value: "acme".into(), count: site.live }]);
                let line =
                    BlamedFrame { frame: site.entry.clone(), count: site.live, ..BlamedFrame::default() };
                site.dependencies = vec![line];
                for waiting in site.waiting.iter_mut().flatten() {
                    waiting.io = Some(Io {
                        kind: Some("tcp".into()),
                        local: Some("10.0.0.1:80".into()),
                        remote: Some("10.0.0.2:443".into()),
                        deadline: Some("2026-01-02T03:04:05Z".into()),
                        ..Io::default()
                    });
                }
            }
        }
        let mut value = serde_json::to_value(&report).unwrap();
        let poisoned = poison(&mut value, "");
        assert!(poisoned > 80, "{poisoned}");
        let report = saved::read(&value.to_string()).unwrap();
        let mut text = Vec::new();
        write(&report, 100, false, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for shown in ["tenant", "10.0.0.2", "through ", "do ", "no probes"] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
        // What is left are styles.
        let style = Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
        let plain = style.replace_all(&text, "");
        assert!(plain.chars().all(|char| char == '\n' || !is_unsafe(char)), "{plain}");
    }
}
