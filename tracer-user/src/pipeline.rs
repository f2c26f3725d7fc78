//! The one place where the stages are wired: ring → decode → tracker → report, on one task that owns them all.
//!
//! ```text
//! ring ──► Event ──► tracker ──► report ──► caller
//!            │          ▲
//!            └► session ┘   exec, fork, exit: what to trace from now on
//! ```

mod accounts;
mod attach;
mod looks;

use std::{
    io::IsTerminal,
    num::NonZeroU32,
    process::{Child, ExitStatus},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use crate::host::cpu_time;
pub use accounts::tool;
use looks::{Rhythm, Scan};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use tokio::{
    signal::unix::{SignalKind, signal as listen},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::event::{Event, What};
use crate::go::BuildInfo;
use crate::host::clock::boot_time;
use crate::host::launch::Launch;
use crate::host::presence::Presence;
use crate::host::{capabilities, launch, process};
use crate::library::Library;
use crate::look::{Look, MOST_TIME};
use crate::probes::ring::Ring;
use crate::probes::selftest;
use crate::probes::{Counters, Probes, Scope};
use crate::progress::Progress;
use crate::report::{Report, Selection};
use crate::session::{Session, Traced, is_wanted};
use crate::targets::Targets;
use crate::tracker::{Existing, Limits, Lost, Tracker};
use crate::{cli, inspect, probes, report, session, targets};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing could be traced.
    #[error("{0}")]
    Nothing(String),
    /// Everything that was traced turned out to be other than expected.
    #[error("nothing is left to trace: {0}")]
    Unfit(inspect::Mismatch),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] probes::ProbeError),
    /// A process or binary cannot be traced.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// A selector cannot be used.
    #[error(transparent)]
    Targets(#[from] targets::Error),
    /// The program of `golife run` did not start.
    #[error(transparent)]
    Launch(#[from] launch::LaunchError),
    /// The operating system refused something that always works.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it says.
        source: std::io::Error,
    },
}

/// Whom to trace.
pub enum Source<'a> {
    /// What runs already, or is started by others.
    Selectors(&'a cli::Targets),
    /// A program that golife starts.
    Command(&'a [std::ffi::OsString]),
}

/// How to trace.
pub struct Settings<'a> {
    /// When to stop; `None`: at the end of the target, or when the user says so.
    pub duration: Option<Duration>,
    /// How often live goroutines are sampled.
    pub interval: Duration,
    /// What golife may spend.
    pub limits: &'a cli::Limits,
    /// What the report shows.
    pub selection: Selection,
    /// Whether each interval's report is wanted.
    pub each_interval: bool,
}

/// What came out.
pub struct Outcome {
    /// The report at the end.
    pub report: Report,
    /// How the program of `golife run` ended.
    pub child: Option<ExitStatus>,
}

/// Traces until the window is over. `tick` gets the report of each interval, where asked for.
pub fn trace(source: &Source, settings: &Settings, tick: &mut dyn FnMut(&Report)) -> Result<Outcome, Error> {
    let system = |what| move |source| Error::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(async {
        // Loading into the kernel and reading a large binary take about as long as each other.
        let cli::Limits { ring_bytes, creation_stacks, .. } = *settings.limits;
        let loading = std::thread::spawn(move || Probes::load(ring_bytes, creation_stacks));
        let mut library = Library::default();
        match source {
            Source::Selectors(selectors) => library.read_ahead(selectors),
            Source::Command(command) => library.read_program(command),
        }
        let loaded =
            loading.join().unwrap_or_else(|_| Err(probes::ProbeError::Load("the loader panicked".into())));
        let (probes, ring) = loaded?;
        let ring = Ring::new(ring).map_err(system("poll the ring buffer"))?;
        let (scans, scanned) = mpsc::unbounded_channel();
        let presence = Presence::announce();
        if presence.is_second {
            eprintln!(
                "note: another golife is tracing on this host: what both trace pays for each probe twice"
            );
        }
        let mut pipeline = Pipeline {
            session: Session::new(library, probes),
            ring,
            tracker: Tracker::new(Limits {
                max_sites: settings.limits.max_sites as usize,
                ..Limits::default()
            }),
            targets: Targets::default(),
            scans,
            counters: Counters::default(),
            received: 0,
            last_event_ns: 0,
            start_ns: 0,
            start_cpu: Duration::ZERO,
            calibration: None,
            ns_per_hit: None,
            looking: 0,
            looks_took: Duration::ZERO,
            lifecycle: Vec::new(),
        };
        let outcome = pipeline.run(source, settings, scanned, tick).await;
        pipeline.calibrate();
        pipeline.session.detach();
        outcome
    })
}

/// The stages and what flows between them.
struct Pipeline {
    session: Session,
    ring: Ring,
    tracker: Tracker,
    targets: Targets,
    scans: mpsc::UnboundedSender<Scan>,
    counters: Counters,
    /// Goroutine records that arrived.
    received: u64,
    /// The time of the last record.
    last_event_ns: u64,
    start_ns: u64,
    start_cpu: Duration,
    calibration: Option<JoinHandle<Option<f64>>>,
    /// What a hit costs a target, once that is measured.
    ns_per_hit: Option<f64>,
    /// Processes that are being looked at, or wait for it.
    looking: usize,
    /// How long the last round of looks took.
    looks_took: Duration,
    /// Process events of the current batch: looked after when the ring is empty.
    lifecycle: Vec<Event>,
}

impl Pipeline {
    async fn run(
        &mut self,
        source: &Source<'_>,
        settings: &Settings<'_>,
        mut scanned: mpsc::UnboundedReceiver<Scan>,
        tick: &mut dyn FnMut(&Report),
    ) -> Result<Outcome, Error> {
        let system = |what| move |source| Error::System { what, source };
        let mut interrupt = listen(SignalKind::interrupt()).map_err(system("listen for signals"))?;
        let mut terminate = listen(SignalKind::terminate()).map_err(system("listen for signals"))?;
        let mut child = match source {
            Source::Selectors(selectors) => {
                self.targets = Targets::resolve(selectors)?;
                let begun = self.begin();
                self.print_warnings();
                begun?;
                None
            }
            Source::Command(command) => Some(self.launch(command)?),
        };
        self.announce(source);
        self.start_ns = now_ns();
        self.start_cpu = cpu_time::own();
        self.calibration = std::thread::Builder::new()
            .name("calibration".into())
            .spawn(|| selftest::run().ok().map(|outcome| outcome.ns_per_hit))
            .ok();

        let (child_ended, mut child_end) = mpsc::unbounded_channel();
        let child_pid = child.as_ref().map(Child::id);
        if let Some(pid) = child_pid {
            std::thread::spawn(move || child_ended.send(launch::wait_for_end(pid)));
        }
        let progress = Progress::start(settings.duration, child_pid.is_none());
        let end = settings.duration.map(|duration| Instant::now() + duration);
        let mut ticks = interval_at(Instant::now() + settings.interval, settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut looks = Rhythm::new(settings.duration);
        let mut status = None;
        let mut more = false;
        let mut hurried = false;
        loop {
            tokio::select! {
                () = async { if more { tokio::task::yield_now().await } else { self.ring.ready().await } } => {}
                _ = ticks.tick() => {
                    self.drain();
                    self.tracker.tick(now_ns());
                    if self.count_losses() && !hurried {
                        looks.hurry();
                        hurried = true;
                    }
                    self.session.raise_alarms(&self.tracker);
                    self.session.find_plugins();
                    self.check_fit(false)?;
                    self.session.cpu_time_of_targets();
                    progress.update(self.hits(), self.dropped());
                    if settings.each_interval {
                        tick(&self.report(settings));
                    }
                    if self.all_gone() {
                        break;
                    }
                }
                () = sleep_until(looks.next), if self.looking == 0 => {
                    if looks.is_due(self.looks_took) {
                        hurried = false;
                        self.look_at_all();
                    }
                }
                () = async { match end { Some(end) => sleep_until(end).await, None => std::future::pending().await } } => break,
                Some(scan) = scanned.recv() => self.take_scan(scan),
                Some(end) = child_end.recv(), if child_pid.is_some() => {
                    // Once it is waited for, nobody can say any more what CPU time it used.
                    self.session.cpu_time_of_targets();
                    let waited = end.and_then(|()| child.as_mut().map(Child::wait).transpose());
                    status = waited.map_err(system("wait for the program"))?;
                    break;
                }
                _ = interrupt.recv() => {
                    // A second one ends at once.
                    restore_default(Signal::SIGINT);
                    match child_pid {
                        // Who typed Ctrl-C has sent it to the child as well; its end is ours.
                        Some(pid) if !std::io::stdin().is_terminal() => forward(pid, Signal::SIGINT),
                        Some(_) => {}
                        None => break,
                    }
                }
                _ = terminate.recv() => {
                    restore_default(Signal::SIGTERM);
                    match child_pid {
                        Some(pid) => forward(pid, Signal::SIGTERM),
                        None => break,
                    }
                }
            }
            more = self.drain();
        }
        progress.finish();
        while let Ok(scan) = scanned.try_recv() {
            self.take_scan(scan);
        }
        self.drain_all();
        self.last_look(&mut scanned).await;
        self.drain_all();
        self.count_losses();
        self.tracker.tick(now_ns());
        self.session.raise_alarms(&self.tracker);
        self.check_fit(true)?;
        self.calibrate();
        let report = self.report(settings);
        self.print_warnings();
        Ok(Outcome { report, child: status })
    }

    /// One line once probes are live; scripts wait for it.
    fn announce(&mut self, source: &Source) {
        self.print_warnings();
        let binaries = self.session.binaries();
        let about = match &binaries[..] {
            [only] => about(only.binary.build_info()),
            _ => String::new(),
        };
        let line = match source {
            Source::Command(command) => {
                let program = command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
                match binaries.is_empty() {
                    true => format!("tracing what {program} starts (it is no Go program itself)"),
                    false => format!("tracing {program} from its first instruction{about}"),
                }
            }
            Source::Selectors(_) => {
                let plural =
                    |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
                let processes = plural(self.session.processes().count(), "process", "processes");
                format!("tracing {processes} of {}{about}", plural(binaries.len(), "binary", "binaries"))
            }
        };
        eprintln!("{}", crate::human::clean(&line));
    }

    fn print_warnings(&mut self) {
        for warning in self.session.take_warnings() {
            eprintln!("note: {}", crate::human::clean(&warning));
        }
    }

    /// Takes one batch of records. Returns whether there may be more.
    fn drain(&mut self) -> bool {
        let (tracker, lifecycle, received) = (&mut self.tracker, &mut self.lifecycle, &mut self.received);
        let family = self.targets.is_family().then_some(&self.targets);
        let strangers = self.session.strangers();
        let mut last = None;
        let mut last_event_ns = self.last_event_ns;
        let more = self.ring.drain(|event| {
            last_event_ns = event.time_ns;
            match event.what {
                What::Created { .. } | What::Exited { .. } => {
                    *received += 1;
                    if strangers.sent(event) {
                        return;
                    }
                    // Probes on a family's binary see other families, too.
                    if let Some(family) = family
                        && last != Some(event.pid)
                    {
                        if !family.names_pid(event.pid)
                            && !lifecycle
                                .iter()
                                .any(|e| matches!(e.what, What::Fork { child } if child == event.pid))
                        {
                            return;
                        }
                        last = Some(event.pid);
                    }
                    tracker.apply(event);
                }
                What::Exec | What::Fork { .. } | What::ProcessExit => {
                    lifecycle.push(*event);
                    tracker.apply(event);
                }
            }
        });
        self.last_event_ns = last_event_ns;
        for event in std::mem::take(&mut self.lifecycle) {
            self.live_and_die(&event);
        }
        self.session.bind(&mut self.tracker);
        more
    }

    /// Takes all that was sent until now, which is as much as the ring holds at most. What comes meanwhile is not waited for.
    fn drain_all(&mut self) {
        let now = now_ns();
        while self.drain() && self.last_event_ns < now {}
    }
}

/// What a binary says of itself: ` (go1.26.1 example.com/server v1.2.3)`.
fn about(info: &BuildInfo) -> String {
    let parts = [Some(&info.version_text), info.module.as_ref(), info.module_version.as_ref()];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    format!(" ({})", parts.join(" "))
}

/// Boot time now, in the events' clock.
fn now_ns() -> u64 {
    boot_time().as_nanos() as u64
}

fn forward(pid: u32, what: Signal) {
    // The child may have ended in this moment; then there is nobody to tell.
    let _ = kill(nix::unistd::Pid::from_raw(pid as i32), what);
}

fn restore_default(which: Signal) {
    // SAFETY: the default action involves no code of ours.
    let _ = unsafe { signal(which, SigHandler::SigDfl) };
}
