//! `golife trace`, `leaks` and `run`: an engine with a terminal, signals and, for `run`, a program of its own.

use std::{
    ffi::OsString,
    future::pending,
    io::IsTerminal,
    os::unix::process::ExitStatusExt,
    pin::pin,
    process::{Child, ExitCode, ExitStatus},
    time::Duration,
};

use nix::sys::signal::{Signal, kill};
use tokio::{
    signal::unix::{Signal as Signals, SignalKind, signal as listen},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::arguments::{Children, Format, Limits, Mode, Run, Trace, Tracing, View, Window};
use super::goflags::{self, Exec};
use super::progress::{Patience, Progress, READING};
use super::sink::{ReaderGone, Sink, Stream, as_text, reader_gone};
use super::storing::Shaping;
use super::{DEFAULT_WINDOW, NOTHING, gate, note, patterns, restore_default, say};
use crate::host::account::Account;
use crate::host::launch::{self, Launch};
use crate::host::process;
use crate::human;
use crate::report::{self, Level, Report, Selection, Top};
use crate::trace::notices::build_text;
use crate::trace::{
    Calibration, Command, Ending, Engine, Happened, Notice, Settings, Spending, StartError, Targets,
    TraceError, Way,
};
use crate::verdict::cause::Patterns;

/// `golife trace`.
pub(super) fn trace(arguments: &Trace) -> anyhow::Result<ExitCode> {
    watch(arguments, arguments.tracing.window.duration, true)
}

/// `golife leaks`.
pub(super) fn leaks(arguments: &Trace) -> anyhow::Result<ExitCode> {
    watch(arguments, arguments.tracing.window.duration.or(Some(DEFAULT_WINDOW)), false)
}

fn watch(arguments: &Trace, duration: Option<Duration>, table: bool) -> anyhow::Result<ExitCode> {
    let tracing = &arguments.tracing;
    let selection = gated(tracing);
    let mut sink = Sink::of(&tracing.view, Stream::Stdout)?.with_sources(&tracing.sources);
    let shaping = Shaping::of(&tracing.storing, &tracing.naming, selection)?;
    let targets = Targets::Selectors(arguments.targets.selectors());
    let settings = settings(targets, duration, &tracing.window, patterns(&tracing.judging), &tracing.limits);
    let follow = Follow::new(settings, shaping.wanted(), &tracing.view);
    let Followed { mut report, .. } = follow.run(None, &mut |report| sink.line(&shaping.shown(report)))?;
    let stored = shaping.keep(&mut report);
    sink.finish(&report, as_text(&report, table, tracing.view.sort))?;
    stored.and_then(|()| gate::judge(&report, &tracing.view.fail_on, &tracing.silenced))
}

/// `golife run`.
pub(super) fn launch(arguments: &Run) -> anyhow::Result<ExitCode> {
    let tracing = &arguments.tracing;
    let selection = gated(tracing);
    let mut sink = Sink::of(&tracing.view, Stream::Stderr)?.with_sources(&tracing.sources);
    let program = arguments.command.first().map(OsString::as_os_str).unwrap_or_default();
    let path = launch::resolve(program)?;
    let shaping = Shaping::of(&tracing.storing, &tracing.naming, selection)?;
    let patterns = patterns(&tracing.judging);
    let account = account(arguments)?;
    // Without probes, nothing is gained by a test binary that waits for them.
    let exec = match (arguments.children, arguments.mode) {
        (Children::None, _) | (_, Mode::Scanned) => Exec::Nobody,
        _ => Exec::of(&arguments.command, &path, account.as_ref()),
    };
    match &exec {
        Exec::Users => {
            note(&"-exec is yours, so golife does not start the test binaries: their beginning may be missed")
        }
        Exec::Impossible(why) => note(&format!("{why}: the beginning of test binaries may be missed")),
        Exec::Golife(_) | Exec::Nobody => {}
    }
    // The program waits before its first instruction until its probes are in place.
    let launch = Launch::fork(&arguments.command, &exec.environment(), account.as_ref())?;
    let targets = Targets::Family {
        root: launch.pid(),
        program: path,
        hold: !arguments.no_hold,
        children: arguments.children.into(),
        gate: exec.gate(),
    };
    let settings = settings(targets, tracing.window.duration, &tracing.window, patterns, &tracing.limits);
    let way = match arguments.mode {
        Mode::Auto => Way::Auto,
        Mode::Traced => Way::Traced,
        Mode::Scanned => Way::Scanned,
    };
    let settings = Settings { grace: arguments.grace, way, ..settings };
    let follow = Follow::new(settings, shaping.wanted(), &tracing.view);
    let Followed { mut report, test_binaries, child, left } =
        follow.run(Some(launch), &mut |report| sink.line(&shaping.shown(report)))?;
    let stored = shaping.keep(&mut report);
    sink.finish(&report, as_text(&report, true, tracing.view.sort))?;
    if goflags::runs_tests(&arguments.command) {
        observed(test_binaries, &exec);
    }
    if let Some(pid) = left {
        let program = program.to_string_lossy();
        note(&format!("{program} runs on without golife, and keeps its output open: kill {pid} ends it"));
    }
    stored?;
    let judged = match untraced(&report, program) {
        Some(why) => {
            say(&format!("golife: nothing was traced: {}", human::clean(&why)));
            ExitCode::from(NOTHING)
        }
        None => gate::judge(&report, &tracing.view.fail_on, &tracing.silenced)?,
    };
    Ok(match child.map(child_code) {
        Some(0) | None => judged,
        Some(code) => ExitCode::from(code),
    })
}

/// Says how many test binaries there were, and what of the tests was not observed. Go keeps no results of what `-exec` runs,
/// and looks for none.
fn observed(test_binaries: usize, exec: &Exec) {
    let cached = match exec {
        Exec::Golife(_) | Exec::Users => "",
        Exec::Impossible(_) | Exec::Nobody => {
            "; results that go calls (cached) were not observed: go test -count=1 runs those tests"
        }
    };
    match test_binaries {
        0 => say(&format!("golife: no test binary was seen, so no test was observed{cached}")),
        1 => note(&format!("1 test binary was seen{cached}")),
        more => note(&format!("{more} test binaries were seen{cached}")),
    }
}

/// Whom the program is to run as, if that is somebody else than golife.
fn account(arguments: &Run) -> anyhow::Result<Option<Account>> {
    if let Some(user) = &arguments.user {
        return Ok(Account::named(user)?);
    }
    let account = Account::of_sudo()?;
    if let Some(Account { name, .. }) = &account {
        note(&format!("the program runs as {name}, who has called sudo; --user root keeps root"));
    }
    Ok(account)
}

/// Why nothing was traced by `golife run`, or `None` if something was.
fn untraced(report: &Report, program: &std::ffi::OsStr) -> Option<String> {
    if report.processes.iter().any(|process| process.mode != report::Mode::Unsupported) {
        return None;
    }
    let detail = report.processes.iter().find_map(|process| process.detail.clone());
    let missed = report.loss.missed_processes;
    let missed = (missed > 0).then(|| format!("{missed} Go processes ended before they could be looked at"));
    Some(detail.or(missed).unwrap_or_else(|| {
        let program = program.to_string_lossy();
        match report.toolchain_processes {
            0 => format!("{program} is not a Go program, and started none that lived long enough to be seen"),
            _ => format!(
                "{program} is not a Go program, and started only Go's own tools: --children go shows them"
            ),
        }
    }))
}

/// The exit code of the program as a shell has it: 128 plus the number of the signal if a signal ended the program.
fn child_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The settings that follow from the arguments which all tracing subcommands share.
pub(super) fn settings(
    targets: Targets,
    duration: Option<Duration>,
    window: &Window,
    patterns: Patterns,
    limits: &Limits,
) -> Settings {
    Settings {
        interval: window.interval,
        window: duration,
        patterns,
        spending: Spending {
            ring_bytes: limits.ring_bytes,
            max_sites: limits.max_sites as usize,
            creation_stacks: limits.creation_stacks,
        },
        calibration: Calibration::SelfTest,
        ..Settings::new(targets)
    }
}

/// Which sites are to be shown.
pub(super) fn selection(view: &View) -> Selection {
    Selection {
        sort: view.sort,
        top: view.top.map(Top::OfEachProcess),
        min_age_ns: view.min_age.map(|age| age.as_nanos() as u64),
        include_system: view.include_system,
        ..Selection::default()
    }
}

/// The same, with what may pass and what may not.
fn gated(Tracing { view, silenced, bounds, .. }: &Tracing) -> Selection {
    Selection { max_created: bounds.max_created.clone(), ..gate::silence(selection(view), silenced) }
}

/// An engine that is followed until its window is over.
pub(super) struct Follow {
    settings: Settings,
    selection: Selection,
    /// Whether each interval's report is wanted.
    each_interval: bool,
    /// The level at which enough is known.
    until: Option<Level>,
    /// Whether there is a file that the report goes to, whoever reads standard output.
    has_file: bool,
}

/// What came of it.
pub(super) struct Followed {
    /// The last report.
    pub(super) report: Report,
    /// How many test binaries ran.
    test_binaries: usize,
    /// How the program ended that golife has started, if it has started one.
    child: Option<ExitStatus>,
    /// The id of that program, if it runs on.
    left: Option<u32>,
}

impl Follow {
    pub(super) fn new(settings: Settings, selection: Selection, view: &View) -> Follow {
        let each_interval = view.format == Format::Jsonl;
        let (until, has_file) = (view.until, view.output.is_some());
        Follow { settings, selection, each_interval, until, has_file }
    }

    /// Traces until the window is over, the targets are gone or the user has seen enough. `line` gets the report of
    /// each interval if those are wanted. Returns the last report and how the launched program ended.
    pub(super) fn run(
        self,
        launch: Option<Launch>,
        line: &mut dyn FnMut(&Report) -> anyhow::Result<()>,
    ) -> anyhow::Result<Followed> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| TraceError::System { what: "start the runtime", source })?;
        runtime.block_on(self.follow(launch, line))
    }

    async fn follow(
        self,
        launch: Option<Launch>,
        line: &mut dyn FnMut(&Report) -> anyhow::Result<()>,
    ) -> anyhow::Result<Followed> {
        let system = |what| move |source| TraceError::System { what, source };
        let mut interrupt = listen(SignalKind::interrupt()).map_err(system("listen for signals"))?;
        let mut terminate = listen(SignalKind::terminate()).map_err(system("listen for signals"))?;
        // Under nohup, the end of the terminal means nothing.
        let mut hangup = match process::ignores(Signal::SIGHUP as u32) {
            true => None,
            false => Some(listen(SignalKind::hangup()).map_err(system("listen for signals"))?),
        };
        let window = self.settings.window;
        let patience = Patience::with(READING);
        let started = Engine::start(self.settings).await;
        drop(patience);
        let mut tracer = match started {
            Ok(tracer) => tracer,
            Err(StartError { error, notices }) => {
                notices.iter().for_each(print);
                return Err(error.into());
            }
        };
        tracer.take_notices().iter().for_each(print);
        // What the program starts may be traced before it is known that the program itself has started.
        let live = live(&tracer, launch.as_ref().map(Launch::program));
        let mut early = Vec::new();
        let mut child = match launch {
            Some(launch) => Some(start(launch, &mut tracer, &mut early).await?),
            None => None,
        };
        say(&live);
        early.iter().for_each(print);
        let (child_ended, mut child_end) = mpsc::unbounded_channel();
        if let Some(pid) = child.as_ref().map(Child::id) {
            std::thread::spawn(move || child_ended.send(launch::wait_for_end(pid)));
        }
        let progress = Progress::start(window, child.is_none());
        let end = window.map(|window| Instant::now() + window);
        // The output of a program that golife has started is that program's.
        let writes_to_stdout = !self.has_file && child.is_none();
        let mut unread = pin!(async { if writes_to_stdout { reader_gone().await } else { pending().await } });
        let (mut status, mut failed) = (None, None);
        loop {
            tokio::select! {
                happened = tracer.next() => match happened? {
                    Happened::Notice(notice) => print(&notice),
                    Happened::AllGone => break,
                    Happened::Interval => {
                        progress.update(tracer.hits(), tracer.dropped());
                        if !self.each_interval && self.until.is_none() {
                            continue;
                        }
                        let report = tracer.report(&self.selection);
                        if self.each_interval && let Err(error) = line(&report) {
                            if error.is::<ReaderGone>() {
                                return Err(error);
                            }
                            failed.get_or_insert(error);
                        }
                        if self.until.is_some_and(|until| report.summary.worst() >= Some(until)) {
                            break;
                        }
                    }
                },
                () = async { match end { Some(end) => sleep_until(end).await, None => pending().await } } => break,
                () = &mut unread => return Err(ReaderGone.into()),
                Some(end) = child_end.recv(), if child.is_some() => {
                    tracer.command(Command::CountCpuTime);
                    let waited = end.and_then(|()| child.as_mut().map(Child::wait).transpose());
                    status = waited.map_err(system("wait for the program"))?;
                    break;
                }
                ended = caught(&mut interrupt, Signal::SIGINT, child.as_ref()) => if ended { break },
                ended = caught(&mut terminate, Signal::SIGTERM, child.as_ref()) => if ended { break },
                ended = async {
                    match &mut hangup {
                        Some(hangup) => caught(hangup, Signal::SIGHUP, child.as_ref()).await,
                        None => pending().await,
                    }
                } => if ended { break },
            }
        }
        progress.finish();
        let Ending { report, test_binaries, notices } = tracer.stop(&self.selection).await?;
        notices.iter().for_each(print);
        let left = child.as_ref().filter(|_| status.is_none()).map(Child::id);
        match failed {
            Some(error) => Err(error),
            None => Ok(Followed { report, test_binaries, child: status, left }),
        }
    }
}

/// Lets a program run that has waited. The engine follows it meanwhile, since it may soon end; what it says is added to
/// `notices`.
async fn start(launch: Launch, tracer: &mut Engine, notices: &mut Vec<Notice>) -> anyhow::Result<Child> {
    let mut released = tokio::task::spawn_blocking(move || launch.release());
    loop {
        tokio::select! {
            child = &mut released => return Ok(child??),
            happened = tracer.next() => if let Happened::Notice(notice) = happened? { notices.push(notice) },
        }
    }
}

/// Waits for a signal. Returns whether it ends tracing. If there is a child, the signal is passed on to it, and tracing
/// ends when the child does.
async fn caught(signals: &mut Signals, which: Signal, child: Option<&Child>) -> bool {
    signals.recv().await;
    // A second signal of this kind ends golife at once. Of a closed terminal, kernel and shell may both send word.
    if which != Signal::SIGHUP {
        restore_default(which);
    }
    let Some(child) = child else { return true };
    // The terminal sends Ctrl-C to the child as well, so it is only passed on if it cannot come from there.
    if which != Signal::SIGINT || !std::io::stdin().is_terminal() {
        // This fails if the child has just ended, and then there is nobody to tell.
        let _ = kill(nix::unistd::Pid::from_raw(child.id() as i32), which);
    }
    false
}

/// The line that says that the probes are live. Scripts wait for it.
fn live(tracer: &Engine, program: Option<&str>) -> String {
    let builds = tracer.builds();
    let build = match &builds[..] {
        [only] => build_text(only),
        _ => String::new(),
    };
    let line = match program {
        Some(program) if matches!(tracer, Engine::Scanned(_)) => {
            format!("looking at {program} and what it starts, without probes")
        }
        Some(program) if builds.is_empty() => {
            format!("tracing what {program} starts (it is no Go program itself)")
        }
        Some(program) => format!("tracing {program} from its first instruction{build}"),
        None => {
            let plural = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
            let processes = plural(tracer.process_count(), "process", "processes");
            format!("tracing {processes} of {}{build}", plural(builds.len(), "binary", "binaries"))
        }
    };
    human::clean(&line)
}

fn print(notice: &Notice) {
    match notice {
        Notice::Joined { .. } => say(&human::clean(&notice.to_string())),
        other => note(other),
    }
}
