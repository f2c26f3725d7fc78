//! `golife sweep --hosts`: the Go processes of other hosts, by `ssh`, of as many at a time as the user wants.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{CommandFactory, error::ErrorKind};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use super::arguments::{ASKED, Cli, Format, Sweep as Arguments};
use super::progress::Progress;
use super::remote::Request;
use super::sink::{ReaderGone, Sink, Stream, reader_gone, width};
use super::storing::Shaping;
use super::{FOUND, gate, note, patterns, restore_default, say};
use crate::assemble::hosts::Together;
use crate::host::destination::Destination;
use crate::host::ssh::{Answer, Remote, Unanswered};
use crate::human::{chain, clean};
use crate::output::hosts::{Answered, Host, Outcome};
use crate::output::{self, saved};
use crate::report::{Level, Redacted, Report, Selection, Sort, Top};
use crate::trace::TraceError;

/// Most bytes of a list of hosts.
const MOST_LIST: u64 = 16 << 20;
/// Most lines of a list that are named because they cannot be read.
const MOST_BAD: usize = 5;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let hosts = list(arguments.hosts.hosts.as_deref().unwrap_or(Path::new("-")))?;
    if !matches!(arguments.format, Format::Text | Format::Jsonl) {
        let message = "--hosts makes a report for each host: --format is text, or jsonl with a line for each";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    // What is wrong with a file or a store is found out here, not on each host.
    let shown = Selection {
        sort: arguments.sort,
        top: arguments.top.map(Top::OfAll),
        include_system: arguments.include_system,
        ..Selection::default()
    };
    let shown = gate::silence(shown, &arguments.silenced);
    let shaping = Shaping::of(&arguments.storing, &arguments.naming, shown)?;
    patterns(&arguments.judging);
    let request = serde_json::to_string(&request(arguments)?)?;
    let sink = Sink::open(arguments.format, arguments.output.as_deref(), Stream::Stdout)?;
    let mut remote = Remote::itself(ASKED, limit(arguments)).context("cannot read golife's own file")?;
    remote.config = arguments.hosts.ssh_config.clone();
    remote.sudo = arguments.hosts.sudo;

    let start = Instant::now();
    let mut taken = Taken::new(arguments, shaping, sink);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (answers, mut answered) = mpsc::channel(1);
    // To read, store and write a report may take long, and the hosts do not wait for that.
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            while let Some((host, answer)) = answered.blocking_recv() {
                taken.take(host, answer)?;
            }
            // From now on, nobody takes any.
            drop(answered);
            Ok(())
        });
        let asking = ask(Rc::new(remote), request, &hosts, arguments, answers);
        let asked = LocalSet::new().block_on(&runtime, asking);
        let taken = taking.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the reports could not be taken")));
        taken.and(asked)
    })?;
    taken.finish(&hosts, start.elapsed())
}

/// Reads the list of hosts. One that cannot be used is wrong usage, so golife ends with a message.
fn list(path: &Path) -> anyhow::Result<Vec<Destination>> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".into() } else { clean(&path.display().to_string()) };
    let mut bytes = Vec::new();
    let read = match is_stdin {
        true => io::stdin().lock().take(MOST_LIST + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(MOST_LIST + 1).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("cannot read {name}"))?;
    let refuse = |why: String| -> ! {
        Cli::command().error(ErrorKind::ValueValidation, format!("--hosts: {why}")).exit()
    };
    if bytes.len() as u64 > MOST_LIST {
        refuse(format!("{name} is no list of hosts: it has more than {MOST_LIST} bytes"));
    }
    match Destination::list(&String::from_utf8_lossy(&bytes)) {
        Ok(hosts) if hosts.is_empty() => refuse(format!("{name} lists no host")),
        Ok(hosts) => Ok(hosts),
        Err(bad) => {
            let shown = bad.iter().take(MOST_BAD);
            let mut lines: Vec<String> = shown
                .map(|bad| clean(&format!("{name}:{}: {:?}: {}", bad.line, bad.found, bad.why)))
                .collect();
            if bad.len() > MOST_BAD {
                lines.push(format!("and {} more", bad.len() - MOST_BAD));
            }
            refuse(lines.join("\n  "))
        }
    }
}

/// How long a host may take.
fn limit(arguments: &Arguments) -> Duration {
    arguments.hosts.host_timeout.saturating_add(arguments.twice.unwrap_or_default())
}

/// What each host is asked for.
fn request(arguments: &Arguments) -> anyhow::Result<Request> {
    let mut words = vec!["--format=jsonl".to_owned()];
    words.extend(
        Sort::NAMES
            .iter()
            .find(|(_, sort)| *sort == arguments.sort)
            .map(|(name, _)| format!("--sort={name}")),
    );
    // What is stored is everything.
    let top = arguments.top.filter(|_| arguments.storing.to.is_none());
    words.extend(top.map(|top| format!("--top={top}")));
    words.extend(arguments.twice.map(|twice| format!("--twice={}ns", twice.as_nanos())));
    words.extend(arguments.include_system.then(|| "--include-system".to_owned()));
    words.extend(arguments.targets.all.then(|| "--all".to_owned()));
    for path in &arguments.targets.exe {
        let path = path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?;
        words.push(format!("--exe={path}"));
    }
    words.extend(arguments.targets.name.iter().map(|name| format!("--name={name}")));
    // What is not to be said does not leave the host.
    let redact = Redacted::NAMES.iter().filter(|(_, what)| arguments.naming.redact.contains(what));
    words.extend(redact.map(|(name, _)| format!("--redact={name}")));
    words.extend(arguments.silenced.ignore.iter().map(|ignore| format!("--ignore={ignore}")));
    let text = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let baseline = arguments.silenced.baseline.as_ref().filter(|_| !arguments.silenced.write_baseline);
    Ok(Request {
        arguments: words,
        patterns: arguments.judging.patterns.as_ref().map(text).transpose()?,
        baseline: baseline.map(text).transpose()?,
        limit_s: u32::try_from(limit(arguments).as_secs().saturating_add(5)).unwrap_or(u32::MAX),
    })
}

/// A host, and what it has answered.
type Answers = (Destination, Result<Answer, Unanswered>);

/// Asks all hosts, some at a time, and hands on each answer as it comes. Ctrl-C cuts off those that are being asked, and leaves
/// out the rest; another one ends golife. It ends early where nobody takes the answers any more.
async fn ask(
    remote: Rc<Remote>,
    request: String,
    hosts: &[Destination],
    arguments: &Arguments,
    answers: mpsc::Sender<Answers>,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let is_read = arguments.output.is_none();
    let mut unread =
        std::pin::pin!(async { if is_read { reader_gone().await } else { std::future::pending().await } });
    let request: Rc<str> = request.into();
    let (stop, stopped) = watch::channel(false);
    let mut rest = hosts.iter();
    let mut asking: JoinSet<Answers> = JoinSet::new();
    let progress = Progress::start(None, true);
    let (mut answered, mut silent, mut is_unread) = (0, 0, false);
    let mut untaken: VecDeque<Answers> = VecDeque::new();
    loop {
        while !*stop.borrow()
            && asking.len() + untaken.len() < arguments.hosts.parallel.into()
            && let Some(host) = rest.next().cloned()
        {
            let (remote, request, stopped) = (remote.clone(), request.clone(), stopped.clone());
            asking.spawn_local(async move {
                let answer = remote.ask(&host, &request, stopped).await;
                (host, answer)
            });
        }
        if asking.is_empty() && untaken.is_empty() {
            break;
        }
        progress.say(format!("{answered} of {} hosts have answered, {silent} failed", hosts.len()));
        tokio::select! {
            Some(next) = asking.join_next() => {
                let next: Answers = next.context("a task has failed")?;
                *if next.1.is_ok() { &mut answered } else { &mut silent } += 1;
                untaken.push_back(next);
            }
            permit = answers.reserve(), if !untaken.is_empty() => match permit {
                Ok(permit) => if let Some(next) = untaken.pop_front() { permit.send(next) },
                // Why nobody takes them is said elsewhere.
                Err(_) => { untaken.clear(); stop.send_replace(true); }
            },
            _ = interrupt.recv() => { restore_default(Signal::SIGINT); stop.send_replace(true); }
            _ = terminate.recv() => { restore_default(Signal::SIGTERM); stop.send_replace(true); }
            () = &mut unread, if !is_unread => { is_unread = true; stop.send_replace(true); }
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
    progress.finish();
    if is_unread { Err(ReaderGone.into()) } else { Ok(()) }
}

/// What has become of the hosts so far.
struct Taken<'a> {
    arguments: &'a Arguments,
    shaping: Shaping<'a>,
    sink: Sink,
    outcomes: BTreeMap<Destination, Outcome>,
    together: Together,
    /// How many sweeps are not in the store that the user wants.
    unstored: usize,
}

impl<'a> Taken<'a> {
    fn new(arguments: &'a Arguments, shaping: Shaping<'a>, sink: Sink) -> Taken<'a> {
        let least = arguments.fail_on.fail_on.unwrap_or(Level::Watch);
        let together = Together::keeping(arguments.silenced.write_baseline.then_some(least));
        Taken { arguments, shaping, sink, outcomes: BTreeMap::new(), together, unstored: 0 }
    }

    /// Takes what became of a host: its report is stored, written or kept as text, and summed.
    fn take(&mut self, host: Destination, answer: Result<Answer, Unanswered>) -> anyhow::Result<()> {
        let read = answer.map_err(|why| why.to_string());
        let outcome = match read.and_then(|answer| read_report(answer, self.arguments.hosts.sudo)) {
            Ok((mut report, notes)) => {
                if let Err(error) = self.shaping.keep(&mut report) {
                    note(&format!("{host}: {}", chain(error.as_ref())));
                    self.unstored += 1;
                }
                self.together.add(&report);
                let mut text = Vec::new();
                match self.arguments.format {
                    Format::Jsonl => self.sink.line(&report)?,
                    _ => output::sweep::write(&report, width(), self.arguments.top.is_some(), &mut text)?,
                }
                Outcome::Answered(Box::new(Answered::of(&report, notes, text)))
            }
            Err(why) => Outcome::Silent(why),
        };
        self.outcomes.insert(host, outcome);
        Ok(())
    }

    /// Writes what is left to be said of the hosts, which were asked for so long.
    fn finish(mut self, hosts: &[Destination], took: Duration) -> anyhow::Result<ExitCode> {
        let mut outcome = |host| self.outcomes.remove(host).unwrap_or(Outcome::NotAsked);
        let hosts: Vec<Host> =
            hosts.iter().map(|host| Host { name: host.to_string(), outcome: outcome(host) }).collect();
        match self.arguments.format {
            Format::Jsonl => hosts.iter().for_each(say_silent),
            _ => self.sink.text(|out| output::hosts::write(&hosts, took, width(), out))?,
        }
        let silent = hosts.iter().filter(|host| !matches!(host.outcome, Outcome::Answered(_))).count();
        let code = judge(self.together.report().as_ref(), self.arguments, silent, hosts.len())?;
        match self.unstored {
            0 => Ok(code),
            unstored => bail!("{unstored} of {} sweeps did not reach the store", hosts.len() - silent),
        }
    }
}

/// The report of a host, and what was said beside it.
fn read_report(answer: Answer, sudo: bool) -> Result<(Report, Vec<String>), String> {
    let report = saved::read(&answer.line).map_err(|error| clean(&error.to_string()))?;
    let notes = answer.errors.into_iter().filter(|line| line.starts_with("note: "));
    let hint = |note: String| match note.contains("permission denied") && !sudo {
        true => format!("{note}; --sudo does"),
        false => note,
    };
    Ok((report, notes.map(hint).collect()))
}

/// Says on standard error what the lines of JSON do not.
fn say_silent(host: &Host) {
    match &host.outcome {
        Outcome::Answered(answered) => {
            for line in &answered.notes {
                note(&format!("{}: {}", host.name, line.strip_prefix("note: ").unwrap_or(line)));
            }
        }
        Outcome::Silent(why) => note(&format!("{} has not answered: {why}", host.name)),
        Outcome::NotAsked => note(&format!("{} was not asked", host.name)),
    }
}

/// The exit code. What a host has that has not answered is not known.
fn judge(
    report: Option<&Report>,
    arguments: &Arguments,
    silent: usize,
    hosts: usize,
) -> anyhow::Result<ExitCode> {
    let Some(report) = report else {
        let none = match hosts {
            1 => "the host has not answered".to_owned(),
            hosts => format!("none of {hosts} hosts has answered"),
        };
        return Err(TraceError::Nothing(none).into());
    };
    let code = gate::judge(report, &arguments.fail_on, &arguments.silenced)?;
    let is_undecided =
        |limit: &Level| silent > 0 && report.summary.worst().is_none_or(|worst| worst < *limit);
    let Some(limit) = arguments.fail_on.fail_on.filter(is_undecided) else { return Ok(code) };
    let have = if silent == 1 { "has" } else { "have" };
    let undecided = format!("--fail-on {} is undecided", limit.name());
    say(&format!("golife: {undecided}: {silent} of {hosts} hosts {have} not answered"));
    Ok(if arguments.fail_on.strict { ExitCode::from(FOUND) } else { code })
}
