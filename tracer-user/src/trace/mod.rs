//! The engine, which wires probes, ring, table, looks and verdicts together. It has no face: whoever owns a [`Tracer`]
//! asks it what happened and for reports, and it prints nothing, reads no argument, starts no program and handles no
//! signal.
//!
//! ```text
//! ring ──► Event ──► tracker ──► assemble ──► Report
//!            │          ▲            ▲
//!            └► session ┴── looks ───┘   exec, fork, exit: what to trace from now on
//! ```

mod accounts;
pub mod attachments;
mod creation_stacks;
pub mod engine;
mod family;
pub mod holds;
pub mod known;
mod looks;
mod names;
pub mod notices;
mod processes;
mod rhythm;
mod round;
pub mod scanned;
pub mod session;
pub mod settings;
pub mod strangers;
mod trust;
mod unseen;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::assemble;
use crate::event::{Event, What};
use crate::go::BuildInfo;
use crate::host::clock::now_ns;
use crate::host::guard::Guard;
use crate::host::keeper::Keeper;
use crate::host::presence::Presence;
use crate::host::priority::{self, Preferred};
use crate::host::process;
use crate::inspect::Mismatch;
use crate::probes::ring::{self, Ring};
use crate::probes::{Loading, ProbeError, Probes};
use crate::report::{BootWindow, Report, RingKind, Rings, Run, Selection};
use crate::targets::{Binaries, SelectorError, TargetError, Wanted, describe};
use crate::tracker::{Limits, Tracker};
use crate::verdict::cause::Patterns;
use accounts::Accounts;
use attachments::Attachments;
pub use engine::Engine;
use family::{AtGate, Family};
use holds::Holds;
use looks::Looks;
pub use notices::Notice;
use rhythm::Rhythm;
use session::Session;
pub use settings::{Calibration, Settings, Spending, Targets, Way};

/// So many ended processes of a family are kept for the report.
const MOST_GONE_OF_FAMILY: usize = 4096;

/// Why tracing cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Nothing could be traced. The text says why.
    #[error("{0}")]
    Nothing(String),
    /// golife sees other process ids than those in its records.
    #[error(
        "golife is in a pid namespace of its own, as in a container, and the kernel's records have the host's ids: run it on \
         the host, or with the host's pid namespace (docker run --pid=host, hostPID: true); golife dump and golife sweep \
         work here"
    )]
    Namespace,
    /// The records of everything that was traced do not fit its binaries.
    #[error("nothing is left to trace: {0}")]
    Unfit(Mismatch),
    /// The probes could not be loaded or put in place.
    #[error(transparent)]
    Probes(#[from] ProbeError),
    /// A process or binary cannot be traced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A selector cannot be used.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The operating system refused something that has nothing to do with tracing.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried, as the message has it after "cannot".
        what: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

impl TraceError {
    /// Whether something is simply no Go program, which is nothing to report when searching all processes.
    pub fn is_not_go(&self) -> bool {
        matches!(self, TraceError::Target(error) if error.is_not_go())
    }
}

/// Why an engine did not start, and what it had noticed until then.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StartError {
    /// Why it did not start.
    #[source]
    pub error: TraceError,
    /// What was noticed until then.
    pub notices: Vec<Notice>,
}

impl From<TraceError> for StartError {
    fn from(error: TraceError) -> StartError {
        StartError { error, notices: Vec::new() }
    }
}

/// What an engine has to tell.
#[derive(Debug)]
pub enum Happened {
    /// An interval is over: live goroutines were sampled, so a report has something new.
    Interval,
    /// There is something that the owner of the engine should know.
    Notice(Notice),
    /// All processes that were named have ended; nothing more can happen.
    AllGone,
}

/// What [`Tracer::next`] was woken by.
enum Woken {
    /// There may be records in the ring, or somebody wants to write a file that has probes.
    Records,
    /// An interval is over.
    Tick,
    /// It is time to look into the processes.
    Look,
    /// It is time to glance at the processes, which may end before the next look.
    Glance,
    /// A look into a process is done.
    Scanned(Box<looks::Scanned>),
    /// A process is about to execute a program, and waits.
    Waiting(AtGate),
}

/// What an engine can be told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look into all processes now.
    Look,
    /// Read the CPU time of the targets. This is for a target that has ended and is about to be waited for, since after
    /// that its CPU time cannot be read any more.
    CountCpuTime,
}

/// What an engine has to tell when it ends.
#[derive(Debug)]
pub struct Ending {
    /// The last report.
    pub report: Report,
    /// How many test binaries have run in a family, each counted once.
    pub test_binaries: usize,
    /// What there still is to say.
    pub notices: Vec<Notice>,
}

/// An engine that traces. Dropping it takes all its probes off.
///
/// It must live within a tokio runtime with I/O and time. Several can trace at the same time, in one process or in
/// several.
pub struct Tracer {
    session: Session,
    ring: Ring,
    tracker: Tracker,
    wanted: Wanted,
    family: Family,
    accounts: Accounts,
    looks: Looks,
    ticks: Interval,
    epoch: Option<Duration>,
    patterns: Patterns,
    /// Who drives the engine runs first, as long as the memory of processes may be kept.
    preferred: Option<Preferred>,
    happened: VecDeque<Happened>,
    /// What has happened to processes in the current batch of records. It is followed when the batch has been read.
    lifecycle: Vec<Event>,
    /// Time of the last record on the boot-time clock, in ns.
    last_event_ns: u64,
    /// Whether there may be more in the ring.
    has_more: bool,
    /// Whether a loss of records has brought the next look forward already.
    is_hurried: bool,
    _presence: Presence,
}

impl Tracer {
    /// Loads the probes and puts them on what is wanted. Once this has returned, nothing that happens there is missed.
    /// It takes some tens of milliseconds, and longer for large binaries, during which the calling thread does nothing
    /// else.
    ///
    /// # Errors
    /// The kernel refuses, or nothing that is wanted can be traced.
    pub async fn start(settings: Settings) -> Result<Tracer, StartError> {
        let system = |what| move |source| TraceError::System { what, source };
        if !process::sees_host_ids() {
            return Err(TraceError::Namespace.into());
        }
        // Guard and keeper are copies of this process, so they come first, while there is little to copy.
        let guard = Guard::start();
        let keeper = matches!(settings.targets, Targets::Family { hold: true, .. }).then(Keeper::start);
        // Loading into the kernel takes about as long as reading a large binary, so both are done at the same time.
        let Spending { ring_bytes, max_sites, creation_stacks } = settings.spending;
        let loading = std::thread::spawn(move || Probes::load(Loading { ring_bytes, creation_stacks }));
        let mut binaries = Binaries::default();
        match &settings.targets {
            Targets::Selectors(selectors) => binaries.read_ahead(selectors),
            Targets::Family { program, .. } => binaries.read_program(program),
        }
        let loaded = loading.join().unwrap_or_else(|_| Err(ProbeError::Load("the loader panicked".into())));
        let (probes, records) = loaded.map_err(TraceError::from)?;
        let ring = Ring::new(records).map_err(system("poll the ring buffer"))?;
        let presence = Presence::announce();
        let mut session = Session::new(binaries, Attachments::new(probes, guard));
        match keeper {
            Some(Ok(keeper)) => session.holds = Holds::new(keeper),
            Some(Err(error)) => session.say(Notice::NoHold { why: error.to_string() }),
            None => {}
        }
        if presence.is_second {
            session.say(Notice::AnotherTracer);
        }
        let mut ticks = interval_at(Instant::now() + settings.interval, settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut tracer = Tracer {
            session,
            ring,
            tracker: Tracker::new(Limits {
                max_sites,
                max_gone: match settings.targets {
                    // The tests of a repository are as many processes as it has packages, and each counts.
                    Targets::Family { .. } => MOST_GONE_OF_FAMILY,
                    Targets::Selectors(_) => Limits::default().max_gone,
                },
                grace_ns: settings.grace.as_nanos().try_into().unwrap_or(u64::MAX),
                ..Limits::default()
            }),
            wanted: Wanted::default(),
            family: Family::default(),
            accounts: Accounts::new(),
            looks: Looks::new(settings.window),
            ticks,
            epoch: settings.epoch,
            patterns: settings.patterns,
            preferred: None,
            happened: VecDeque::new(),
            lifecycle: Vec::new(),
            last_event_ns: 0,
            has_more: false,
            is_hurried: false,
            _presence: presence,
        };
        if let Err(error) = tracer.begin(&settings.targets) {
            return Err(StartError { error, notices: tracer.session.take_notices() });
        }
        tracer.accounts.start(settings.calibration);
        if tracer.session.holds.are_possible() {
            // From the end of a process on there is little time.
            tracer.preferred = Some(priority::prefer());
            tracer.looks.expect_ends();
        }
        // The window begins here, without the time that the start has taken.
        tracer.looks.rhythm = Rhythm::new(settings.window);
        tracer.ticks.reset();
        Ok(tracer)
    }

    /// Waits for the next thing to tell, and traces meanwhile. While nobody calls this, records wait in the ring
    /// buffer. The future may be dropped at any time; nothing is lost by that.
    ///
    /// # Errors
    /// [`TraceError::Unfit`]: nothing is left to trace, since the records do not fit the binaries.
    pub async fn next(&mut self) -> Result<Happened, TraceError> {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return Ok(happened);
            }
            let has_more = self.has_more;
            let woken = tokio::select! {
                () = async {
                    if has_more { tokio::task::yield_now().await } else { self.ring.ready().await }
                } => Woken::Records,
                _ = self.ticks.tick() => Woken::Tick,
                () = sleep_until(self.looks.rhythm.next), if self.looks.open == 0 => Woken::Look,
                () = sleep_until(self.looks.rhythm.glance), if self.looks.open == 0 => Woken::Glance,
                Some(scanned) = self.looks.scanned.recv() => Woken::Scanned(Box::new(scanned)),
                () = self.session.attachments.writer() => Woken::Records,
                waiting = self.family.next() => Woken::Waiting(waiting),
            };
            match woken {
                Woken::Records => {}
                Woken::Tick => self.tick()?,
                Woken::Look => {
                    if self.looks.is_due() {
                        self.is_hurried = false;
                        self.look_at_all();
                    }
                }
                Woken::Glance => self.glance_at_all(),
                Woken::Scanned(scanned) => self.take_scanned(*scanned),
                Woken::Waiting(AtGate::Comes(waiting)) => self.receive(waiting),
                Woken::Waiting(AtGate::IsRead(waiting, ahead)) => self.admit(&waiting, *ahead),
            }
            self.has_more = self.drain();
            self.collect_notices();
        }
    }

    /// Takes the notices that there are by now. [`Tracer::next`] does not tell them again.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.collect_notices();
        let (notices, rest) = std::mem::take(&mut self.happened)
            .into_iter()
            .partition::<Vec<_>, _>(|happened| matches!(happened, Happened::Notice(_)));
        self.happened = rest.into();
        let notices = notices.into_iter().filter_map(|happened| match happened {
            Happened::Notice(notice) => Some(notice),
            Happened::Interval | Happened::AllGone => None,
        });
        notices.collect()
    }

    /// Does what it is told at once.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Look => self.look_at_all(),
            Command::CountCpuTime => self.accounts.look(),
        }
    }

    /// Reports what is known up to now. A report covers the time since the start or, if there are epochs, since the
    /// begin of the epoch before the current one.
    pub fn report(&mut self, selection: &Selection) -> Report {
        let records = self.ring.records();
        let kind = match records.kind() {
            ring::RingKind::PerCpu => RingKind::PerCpu,
            ring::RingKind::Shared => RingKind::Shared,
        };
        let rings = Rings { kind, bytes: records.bytes() };
        let run = Run {
            tool: describe::tool(),
            window: BootWindow {
                start_ns: self.accounts.window_ns(),
                end_ns: now_ns(),
                end: SystemTime::now(),
            },
            overhead: self.accounts.overhead(rings),
            untraced: self.session.untraced(),
        };
        let described = self.session.describe(&self.tracker);
        let names = self.ring.records().test_names();
        let report = assemble::report(&self.tracker, &described, names, &self.patterns, &run, selection);
        Report { toolchain_processes: self.family.go_tools() + self.session.ended_go_tools, ..report }
    }

    /// Ends tracing with a last look into all processes. Returns the last report and the notices that were not told
    /// yet. When it returns, all probes are off.
    ///
    /// # Errors
    /// [`TraceError::Unfit`]: the records of what was traced do not fit the binaries.
    pub async fn stop(mut self, selection: &Selection) -> Result<Ending, TraceError> {
        self.family.close_gate();
        self.drain_all();
        self.last_look().await;
        self.preferred = None;
        self.drain_all();
        self.count_losses();
        self.tracker.tick(now_ns());
        self.session.raise_alarms(&self.tracker);
        self.check_fit(true)?;
        self.accounts.calibrate();
        let report = self.report(selection);
        Ok(Ending { report, test_binaries: self.family.test_binaries(), notices: self.take_notices() })
    }

    /// How many processes are traced now.
    pub fn process_count(&self) -> usize {
        self.session.processes().count()
    }

    /// The build info of each binary that has probes.
    pub fn builds(&self) -> Vec<BuildInfo> {
        let planned = self.session.probed_binaries().into_iter();
        planned.map(|planned| planned.binary.build_info().clone()).collect()
    }

    /// Hits of the probes since the start.
    pub fn hits(&self) -> u64 {
        self.accounts.hits()
    }

    /// Records of goroutines that were lost since the start.
    pub fn dropped(&self) -> u64 {
        self.accounts.dropped()
    }

    fn tick(&mut self) -> Result<(), TraceError> {
        self.drain();
        let now = now_ns();
        self.tracker.tick(now);
        if self.count_losses() && !self.is_hurried {
            self.looks.rhythm.hurry();
            self.is_hurried = true;
        }
        self.session.raise_alarms(&self.tracker);
        self.session.find_plugins();
        self.session.update_names(&self.tracker);
        self.check_fit(false)?;
        self.accounts.look();
        if self
            .epoch
            .is_some_and(|epoch| now.saturating_sub(self.accounts.epoch_ns()) >= epoch.as_nanos() as u64)
        {
            self.drain_all();
            self.tracker.begin_epoch(now);
            self.accounts.begin_epoch(now);
        }
        self.session.let_go(&mut self.tracker);
        self.happened.push_back(Happened::Interval);
        if self.all_gone() {
            self.happened.push_back(Happened::AllGone);
        }
        Ok(())
    }

    /// Reads the kernel's counters. Returns whether records of goroutines were lost since the last time.
    fn count_losses(&mut self) -> bool {
        let counters = self.session.attachments.counters();
        let lost = self.accounts.count(counters, self.ring.records().take_undecodable());
        if lost.read_faults > 0 {
            let lines = self.session.attachments.take_log();
            lines.into_iter().for_each(|line| self.session.say(Notice::Probe(line)));
        }
        self.tracker.lost(lost);
        lost.created + lost.exited > 0
    }

    fn collect_notices(&mut self) {
        self.happened.extend(self.session.take_notices().into_iter().map(Happened::Notice));
    }

    /// Takes one batch of records. Returns whether there may be more.
    fn drain(&mut self) -> bool {
        let (tracker, lifecycle, received) =
            (&mut self.tracker, &mut self.lifecycle, &mut self.accounts.received);
        let family = self.wanted.is_family().then_some(&self.wanted);
        let is_selective = self.family.is_selective();
        let (strangers, expected) = (&mut self.session.strangers, &self.session.expected);
        let mut last = None;
        let mut last_event_ns = self.last_event_ns;
        let has_more = self.ring.records().drain(|event| {
            last_event_ns = event.time_ns;
            match event.what {
                What::Created { .. } | What::Exited { .. } | What::Test { .. } => {
                    *received += u64::from(!matches!(event.what, What::Test { .. }));
                    if strangers.sent(event) {
                        return;
                    }
                    // The probes on a family's binary are also hit by processes that do not belong to the family.
                    if let Some(family) = family
                        && last != Some(event.pid)
                    {
                        if !family.names_pid(event.pid)
                            && !lifecycle
                                .iter()
                                .any(|e| matches!(e.what, What::Fork { child, .. } if child == event.pid))
                        {
                            return;
                        }
                        if family.leaves_out(event.pid) {
                            return;
                        }
                        // Unless it was at the gate, whether what it executes now is to be traced turns out when this batch
                        // is followed.
                        if is_selective
                            && !expected.contains_key(&event.pid)
                            && lifecycle.iter().any(|e| matches!(e.what, What::Exec) && e.pid == event.pid)
                        {
                            lifecycle.push(*event);
                            return;
                        }
                        last = Some(event.pid);
                    }
                    tracker.apply(event);
                }
                // A family's process may have left its memory, and then has not ended before that was looked at.
                What::ProcessExit if family.is_some() => lifecycle.push(*event),
                What::Exec | What::Fork { .. } | What::ProcessExit => {
                    last = None;
                    lifecycle.push(*event);
                    tracker.apply(event);
                }
            }
        });
        self.last_event_ns = last_event_ns;
        // Whoever executes a file that was written is in this batch at the earliest, so this comes before.
        self.session.give_way(&mut self.tracker);
        for event in std::mem::take(&mut self.lifecycle) {
            self.follow(&event);
        }
        self.session.bind(&mut self.tracker);
        has_more
    }

    /// Takes all records that were sent until now. Later ones may stay in the ring, so that this ends under any load.
    fn drain_all(&mut self) {
        let now = now_ns();
        while self.drain() && self.last_event_ns < now {}
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.accounts.calibrate();
    }
}
