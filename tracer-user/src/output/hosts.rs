//! Shows sweeps of several hosts to people: who has answered and who has not, and then each host's sweep, the worst first.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::Duration;

use super::style::{BOLD, DIM, of_level, paint};
use crate::human::{clean, count, duration, sum, width, wrap};
use crate::report::{Level, Mode, Report, Summary};

/// The columns of the verdict.
const VERDICT: usize = 13;
/// Most columns of the names. Longer ones push what is behind them to the right.
const NAMES: usize = 40;

/// A host, by the name under which it was asked, and what became of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name, safe to be shown.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has answered.
    Answered(Box<Answered>),
    /// It was asked and has not answered. The text says why.
    Silent(String),
    /// It was not asked any more.
    NotAsked,
}

/// What is kept of a host's report, which itself can be large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The name that the host has for itself; `None` where it is not known.
    pub own_name: Option<String>,
    /// Number of Go processes that were looked at.
    pub processes: u64,
    /// The totals.
    pub summary: Summary,
    /// What was said beside the report, line by line.
    pub notes: Vec<String>,
    /// The report as text for people.
    pub text: Vec<u8>,
}

impl Answered {
    /// What is kept of this report, beside its text.
    pub fn of(report: &Report, notes: Vec<String>, text: Vec<u8>) -> Answered {
        let scanned = report.processes.iter().filter(|process| process.mode == Mode::Scanned);
        Answered {
            own_name: report.tool.host.clone(),
            processes: scanned.count() as u64,
            summary: report.summary,
            notes,
            text,
        }
    }

    /// The worst verdict that is a finding, and how many sites have it.
    fn worst(&self) -> Option<(Level, u64)> {
        let worst = self.summary.worst().filter(|worst| *worst >= Level::Watch);
        worst.map(|worst| (worst, self.summary.of(worst)))
    }
}

/// Writes the hosts, which were asked for so long, in at most `columns` columns.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write(hosts: &[Host], took: Duration, columns: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut answered: Vec<(&str, &Answered)> = hosts.iter().filter_map(answers).collect();
    answered
        .sort_by_key(|(name, answered)| (Reverse(answered.worst()), Reverse(answered.summary.live), *name));
    let of = if hosts.len() == 1 { "host has" } else { "hosts have" };
    let processes = processes(sum(answered.iter().map(|(_, answered)| answered.processes)));
    let live = goroutines(sum(answered.iter().map(|(_, answered)| answered.summary.live)));
    let (answers, asked) = (count(answered.len() as u64), count(hosts.len() as u64));
    let took = duration(took.as_nanos() as u64);
    let head = format!("{answers} of {asked} {of} answered in {took}: {processes}, {live}");
    writeln!(out, "{}\n", paint(BOLD, head))?;

    let names = hosts.iter().map(|host| width(&host.name)).max().unwrap_or(0).min(NAMES);
    let mut row = |verdict: String, name: &str, about: &str| -> io::Result<()> {
        let indent = VERDICT + names + 2;
        for (at, line) in wrap(about, columns.saturating_sub(indent)).into_iter().enumerate() {
            match at {
                0 => writeln!(out, "{verdict}{name:<names$}  {line}")?,
                _ => writeln!(out, "{:indent$}{line}", "")?,
            }
        }
        Ok(())
    };
    for (name, answered) in &answered {
        row(verdict(answered), name, &about(name, answered))?;
        answered.notes.iter().try_for_each(|note| row(" ".repeat(VERDICT), "", note))?;
    }
    for host in hosts {
        let label = |text: &str| paint(DIM, format_args!("{text:<VERDICT$}"));
        match &host.outcome {
            Outcome::Silent(why) => row(label("no answer"), &host.name, why)?,
            Outcome::NotAsked => row(label("not asked"), &host.name, "it was cut off before")?,
            Outcome::Answered(_) => {}
        }
    }
    for (name, answered) in answered.iter().filter(|(_, answered)| answered.processes > 0) {
        writeln!(out, "\n{}\n", paint(BOLD, format_args!("=== {name}{} ===", own_name(name, answered))))?;
        out.write_all(&answered.text)?;
    }
    Ok(())
}

fn answers(host: &Host) -> Option<(&str, &Answered)> {
    match &host.outcome {
        Outcome::Answered(answered) => Some((&host.name, answered)),
        Outcome::Silent(_) | Outcome::NotAsked => None,
    }
}

/// The worst verdict, in its column.
fn verdict(answered: &Answered) -> String {
    match answered.worst() {
        Some((level, sites)) => {
            let text = format!("{} {}", level.name(), count(sites));
            paint(of_level(level), format_args!("{text:<VERDICT$}"))
        }
        None => " ".repeat(VERDICT),
    }
}

fn about(name: &str, answered: &Answered) -> String {
    let live = match answered.processes {
        0 => String::new(),
        _ => format!(", {}", goroutines(answered.summary.live)),
    };
    format!("{}{live}{}", processes(answered.processes), own_name(name, answered))
}

fn goroutines(number: u64) -> String {
    format!("{} goroutine{}", count(number), if number == 1 { "" } else { "s" })
}

fn processes(number: u64) -> String {
    match number {
        0 => "no Go process".to_owned(),
        1 => "1 Go process".to_owned(),
        number => format!("{} Go processes", count(number)),
    }
}

/// The name that a host has for itself, where that is not the one under which it was asked.
fn own_name(name: &str, answered: &Answered) -> String {
    let own = answered.own_name.as_deref().filter(|own| !name.contains(own));
    own.map(|own| format!(" (calls itself {})", clean(own))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, outcome: Outcome) -> Host {
        Host { name: name.into(), outcome }
    }

    fn answered(watch: u64, live: u64) -> Answered {
        let summary = Summary { sites: watch + 1, watch, live, ..Summary::default() };
        let own_name = Some("api-7f\u{1b}[2J".into());
        Answered { own_name, processes: 2, summary, notes: Vec::new(), text: b"the sweep\n".into() }
    }

    fn text(hosts: &[Host]) -> String {
        let mut bytes = Vec::new();
        let mut plain = anstream::StripStream::new(&mut bytes);
        write(hosts, Duration::from_millis(1_500), 90, &mut plain).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_worst_host_comes_first_and_who_has_not_answered_is_named() {
        let idle = Answered { processes: 0, own_name: None, text: Vec::new(), ..answered(0, 0) };
        let denied = Answered { notes: vec!["note: cannot look at 3 processes".into()], ..answered(0, 9) };
        let hosts = [
            host("idle", Outcome::Answered(Box::new(idle))),
            host("api-1", Outcome::Answered(Box::new(denied))),
            host("db", Outcome::Silent("ssh: connect to host db port 22: Connection refused".into())),
            host("api-2", Outcome::Answered(Box::new(answered(3, 1_204)))),
            host("last", Outcome::NotAsked),
        ];
        let want = "\
3 of 5 hosts have answered in 1.5 s: 4 Go processes, 1,213 goroutines

watch 3      api-2  2 Go processes, 1,204 goroutines (calls itself api-7f\\u{1b}[2J)
             api-1  2 Go processes, 9 goroutines (calls itself api-7f\\u{1b}[2J)
                    note: cannot look at 3 processes
             idle   no Go process
no answer    db     ssh: connect to host db port 22: Connection refused
not asked    last   it was cut off before

=== api-2 (calls itself api-7f\\u{1b}[2J) ===

the sweep

=== api-1 (calls itself api-7f\\u{1b}[2J) ===

the sweep
";
        assert_eq!(text(&hosts), want);
    }
}
