//! The engine: probes, ring, table, looks and verdicts, wired together and without a face. Whoever owns a [`Tracer`] asks it
//! what happened and for reports; it prints nothing, reads no argument, starts no program and handles no signal.
//!
//! ```text
//! ring ──► Event ──► tracker ──► assemble ──► Report
//!            │          ▲            ▲
//!            └► session ┴── looks ───┘   exec, fork, exit: what to trace from now on
//! ```

mod accounts;
pub mod attachments;
mod creation_stacks;
mod looks;
mod names;
pub mod notices;
mod processes;
mod rhythm;
pub mod session;
pub mod settings;
pub mod strangers;
mod trust;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::assemble;
use crate::event::{Event, What};
use crate::go::BuildInfo;
use crate::host::clock::now_ns;
use crate::host::presence::Presence;
use crate::inspect::Mismatch;
use crate::probes::{ProbeError, Probes, ring::Ring};
use crate::report::{BootWindow, Report, Run, Selection};
use crate::targets::{Binaries, SelectorError, TargetError, Wanted, describe};
use crate::tracker::{Limits, Tracker};
use accounts::Accounts;
use attachments::Attachments;
use looks::Looks;
pub use notices::Notice;
use rhythm::Rhythm;
use session::Session;
pub use settings::{Calibration, Settings, Spending, Targets};

/// Why there is nothing to trace, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Nothing could be traced.
    #[error("{0}")]
    Nothing(String),
    /// Everything that was traced turned out to be other than expected.
    #[error("nothing is left to trace: {0}")]
    Unfit(Mismatch),
    /// The kernel refused.
    #[error(transparent)]
    Probes(#[from] ProbeError),
    /// A process or binary cannot be traced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A selector cannot be used.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The operating system refused something that always works.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it says.
        source: std::io::Error,
    },
}

impl TraceError {
    /// Whether something is simply no Go program, which is nothing to report when searching all processes.
    pub fn is_not_go(&self) -> bool {
        matches!(self, TraceError::Target(error) if error.is_not_go())
    }
}

/// Why an engine did not start, and what there is to say beside that.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StartError {
    /// Why.
    #[source]
    pub error: TraceError,
    /// What was noticed before.
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
    /// Live goroutines were sampled: a report now has something new.
    Interval,
    /// Something that whoever traces should know.
    Notice(Notice),
    /// All processes that were named have ended; nothing more can happen.
    AllGone,
}

/// Why an engine goes on.
enum Woken {
    /// There may be records.
    Records,
    /// An interval is over.
    Tick,
    /// It is time to look into the processes.
    Look,
    /// A look is done.
    Scanned(Box<looks::Scanned>),
}

/// What an engine can be told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look into all processes now.
    Look,
    /// Note the CPU time of the targets: one of them has ended and is about to be waited for, after which nobody can say it.
    CountCpuTime,
}

/// An engine that traces. Dropping it takes all its probes off.
///
/// It must live within a tokio runtime with I/O and time. Several can trace at the same time, in one process or in several.
pub struct Tracer {
    session: Session,
    ring: Ring,
    tracker: Tracker,
    wanted: Wanted,
    accounts: Accounts,
    looks: Looks,
    ticks: Interval,
    epoch: Option<Duration>,
    happened: VecDeque<Happened>,
    /// Process events of the current batch: looked after when the ring is empty.
    lifecycle: Vec<Event>,
    /// The time of the last record.
    last_event_ns: u64,
    /// Whether there may be more in the ring.
    has_more: bool,
    /// Whether records were lost since the last look.
    is_hurried: bool,
    _presence: Presence,
}

impl Tracer {
    /// Loads the probes and puts them on what is wanted: from the return on, nothing that happens there is missed. Takes some
    /// tens of milliseconds, and longer for large binaries; the calling thread does nothing else meanwhile.
    ///
    /// # Errors
    /// The kernel refuses, or nothing that is wanted can be traced.
    pub async fn start(settings: Settings) -> Result<Tracer, StartError> {
        let system = |what| move |source| TraceError::System { what, source };
        // Loading into the kernel and reading a large binary take about as long as each other.
        let Spending { ring_bytes, max_sites, creation_stacks } = settings.spending;
        let loading = std::thread::spawn(move || Probes::load(ring_bytes, creation_stacks));
        let mut binaries = Binaries::default();
        match &settings.targets {
            Targets::Selectors(selectors) => binaries.read_ahead(selectors),
            Targets::Family { program, .. } => binaries.read_program(program),
        }
        let loaded = loading.join().unwrap_or_else(|_| Err(ProbeError::Load("the loader panicked".into())));
        let (probes, ring) = loaded.map_err(TraceError::from)?;
        let ring = Ring::new(ring).map_err(system("poll the ring buffer"))?;
        let presence = Presence::announce();
        let mut session = Session::new(binaries, Attachments::new(probes));
        if presence.is_second {
            session.say(Notice::AnotherTracer);
        }
        let mut ticks = interval_at(Instant::now() + settings.interval, settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut tracer = Tracer {
            session,
            ring,
            tracker: Tracker::new(Limits { max_sites, ..Limits::default() }),
            wanted: Wanted::default(),
            accounts: Accounts::new(),
            looks: Looks::new(settings.window),
            ticks,
            epoch: settings.epoch,
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
        // What took its time until here is not part of the window.
        tracer.looks.rhythm = Rhythm::new(settings.window);
        tracer.ticks.reset();
        Ok(tracer)
    }

    /// Waits for the next thing to tell, and traces meanwhile: what is not asked for waits in the ring buffer. The future may
    /// be dropped and asked for again; nothing is lost by that.
    ///
    /// # Errors
    /// Nothing is left to trace, since what was traced cannot be right.
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
                Some(scanned) = self.looks.scanned.recv() => Woken::Scanned(Box::new(scanned)),
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
                Woken::Scanned(scanned) => self.take_scanned(*scanned),
            }
            self.has_more = self.drain();
            self.collect_notices();
        }
    }

    /// What there is to say by now. [`Tracer::next`] does not tell it again.
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

    /// Does something now.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Look => self.look_at_all(),
            Command::CountCpuTime => self.accounts.look(),
        }
    }

    /// What is known up to now: of the time since the start or, where there are epochs, since the begin of the last but one.
    pub fn report(&mut self, selection: &Selection) -> Report {
        let run = Run {
            tool: describe::tool(),
            window: BootWindow {
                start_ns: self.accounts.window_ns(),
                end_ns: now_ns(),
                end: SystemTime::now(),
            },
            overhead: self.accounts.overhead(),
            untraced: self.session.untraced(),
        };
        assemble::report(&self.tracker, &self.session.describe(&self.tracker), &run, selection)
    }

    /// Ends with a last look into all processes. Returns the last report and what there still is to say; the probes are off
    /// then.
    ///
    /// # Errors
    /// What was traced cannot be right.
    pub async fn stop(mut self, selection: &Selection) -> Result<(Report, Vec<Notice>), TraceError> {
        self.drain_all();
        self.last_look().await;
        self.drain_all();
        self.count_losses();
        self.tracker.tick(now_ns());
        self.session.raise_alarms(&self.tracker);
        self.check_fit(true)?;
        self.accounts.calibrate();
        let report = self.report(selection);
        Ok((report, self.take_notices()))
    }

    /// How many processes are traced now.
    pub fn process_count(&self) -> usize {
        self.session.processes().count()
    }

    /// What the binaries that have probes say of themselves.
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
        let lost = self.accounts.count(counters, self.ring.take_undecodable());
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
        let strangers = &mut self.session.strangers;
        let mut last = None;
        let mut last_event_ns = self.last_event_ns;
        let has_more = self.ring.drain(|event| {
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
            self.follow(&event);
        }
        self.session.bind(&mut self.tracker);
        has_more
    }

    /// Takes all that was sent until now, which is as much as the ring holds at most. What comes meanwhile is not waited for.
    fn drain_all(&mut self) {
        let now = now_ns();
        while self.drain() && self.last_event_ns < now {}
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.accounts.calibrate();
        self.session.attachments.detach_all();
    }
}
