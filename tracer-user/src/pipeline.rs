//! The one place where the stages are wired: ring → decode → tracker → report, on one task that owns them all.
//!
//! ```text
//! ring ──► Event ──► tracker ──► report ──► caller
//!            │          ▲
//!            └► session ┘   exec, fork, exit: what to trace from now on
//! ```

use std::{
    io::IsTerminal,
    num::NonZeroU32,
    process::{Child, ExitStatus},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    signal::{SigHandler, Signal, kill, signal},
};
use tokio::{
    signal::unix::{SignalKind, signal as listen},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    cli,
    decode::{Event, What},
    doctor, inspect,
    kernel::{self, Counters, Probes, Scope},
    launch::{self, Launch},
    library::Library,
    look::{Look, MOST_TIME},
    neighbour::Presence,
    process::{self, boot_time},
    progress::Progress,
    report::{self, Report, Selection},
    ring::Ring,
    selftest,
    session::{self, Session, Traced, is_wanted},
    targets::{self, Targets},
    tracker::{Existing, Limits, Loss, Tracker},
};

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
    Kernel(#[from] kernel::Error),
    /// A process or binary cannot be traced.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// A selector cannot be used.
    #[error(transparent)]
    Targets(#[from] targets::Error),
    /// The program of `golife run` did not start.
    #[error(transparent)]
    Launch(#[from] launch::Error),
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
        let ring_bytes = settings.limits.ring_bytes;
        let loading = std::thread::spawn(move || Probes::load(ring_bytes));
        let mut library = Library::default();
        match source {
            Source::Selectors(selectors) => library.read_ahead(selectors),
            Source::Command(command) => library.read_program(command),
        }
        let loaded =
            loading.join().unwrap_or_else(|_| Err(kernel::Error::Load("the loader panicked".into())));
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
            start_ns: 0,
            start_cpu: Duration::ZERO,
            calibration: None,
            ns_per_hit: None,
            looking: 0,
            lifecycle: Vec::new(),
        };
        let outcome = pipeline.run(source, settings, scanned, tick).await;
        pipeline.calibrate();
        pipeline.session.detach();
        outcome
    })
}

/// How often the runtime's own list is compared with what the probes have seen.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60);

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
    start_ns: u64,
    start_cpu: Duration,
    calibration: Option<JoinHandle<Option<f64>>>,
    /// What a hit costs a target, once that is measured.
    ns_per_hit: Option<f64>,
    /// Processes that are being looked at, or wait for it.
    looking: usize,
    /// Process events of the current batch: looked after when the ring is empty.
    lifecycle: Vec<Event>,
}

/// The goroutines that a process had when somebody looked.
struct Scan {
    traced: Arc<Traced>,
    purpose: Purpose,
    found: Result<Look, inspect::WalkError>,
}

/// What a look at a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Its goroutines existed before its probes.
    Adopt,
    /// What the probes have seen is compared with what there is.
    Reconcile,
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
        self.start_cpu = cpu_time();
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
        let mut looks = interval_at(Instant::now() + BETWEEN_LOOKS, BETWEEN_LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = None;
        let mut more = false;
        loop {
            tokio::select! {
                () = async { if more { tokio::task::yield_now().await } else { self.ring.ready().await } } => {}
                _ = ticks.tick() => {
                    self.drain();
                    self.tracker.tick(now_ns());
                    self.count_losses();
                    self.session.raise_alarms(&self.tracker);
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
                _ = looks.tick(), if self.looking == 0 => self.look_at_all(),
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
        Ok(Outcome { report: self.report(settings), child: status })
    }

    /// Puts probes on everything that is wanted and runs already.
    fn begin(&mut self) -> Result<(), Error> {
        // First, so that nothing that starts from now on is missed.
        self.session.watch_processes(false)?;
        let mut failure = None;
        let executables: Vec<_> =
            self.targets.executables.iter().map(|exe| (exe.file.try_clone(), exe.path.clone())).collect();
        for (file, path) in executables {
            let file =
                file.map_err(|source| Error::System { what: "duplicate a file descriptor", source })?;
            let target = self.session.target(file, &path)?;
            self.session.attach(&target, Scope::Everyone)?;
        }
        if self.targets.searches() {
            let pids = process::all().map_err(|source| Error::System { what: "list /proc", source })?;
            let mut denied = 0;
            for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
                match is_wanted(&self.targets, pid, &self.session) {
                    Ok(Some(_)) => {
                        if let Err(error) = self.enter(pid, Scope::Everyone, true)
                            && !error.is_not_go()
                        {
                            self.session.refuse(pid, &error);
                            failure = Some(error);
                        }
                    }
                    Err(process::Error::Permission { .. }) => denied += 1,
                    Ok(None) | Err(_) => {}
                }
            }
            // Some processes are closed to everybody; that is nobody's mistake.
            if denied > 0 && doctor::missing_capabilities().contains(&"CAP_SYS_PTRACE") {
                let them = if denied == 1 { "process" } else { "processes" };
                self.session.warn(format!(
                    "cannot look at {denied} {them}: permission denied; run as root or grant CAP_SYS_PTRACE"
                ));
            }
        }
        for pid in self.targets.pids.clone() {
            if let Some(scope) = NonZeroU32::new(pid).map(Scope::Process)
                && let Err(error) = self.enter(pid, scope, true)
            {
                self.session.refuse(pid, &error);
                failure = Some(error);
            }
        }
        // An executable may have no process yet, and a search goes on; named processes must be there.
        if self.session.binaries().is_empty() {
            return Err(match failure {
                Some(error) => error.into(),
                None => Error::Nothing(format!(
                    "no Go process matches {}; golife trace --all shows which there are, and why others are not traced",
                    self.targets
                )),
            });
        }
        Ok(())
    }

    /// Starts the user's program with its probes in place before its first instruction.
    fn launch(&mut self, command: &[std::ffi::OsString]) -> Result<Child, Error> {
        let program = command.first().ok_or_else(|| Error::Nothing("no program to run".into()))?;
        let path = launch::resolve(program)?;
        let launch = Launch::fork(command)?;
        self.targets = Targets::family_of(launch.pid());
        self.session.watch_processes(true)?;
        if let Ok(file) = std::fs::File::open(&path) {
            match self.session.target(file, &path) {
                Ok(target) => self.session.attach(&target, Scope::Everyone)?,
                // A shell, a script, an interpreter: what it starts may be a Go program.
                Err(error) if error.is_not_go() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(launch.release()?)
    }

    /// Traces a process. `existed`: it may have goroutines already, which are read once its probes are in place.
    fn enter(&mut self, pid: u32, scope: Scope, existed: bool) -> Result<(), session::Error> {
        let traced = self.session.enter(pid, scope)?;
        self.started(&traced, existed);
        Ok(())
    }

    fn started(&mut self, traced: &Arc<Traced>, existed: bool) {
        let pid = traced.subject.process.pid;
        self.tracker.process_started(pid, traced.start_ns(), existed, now_ns());
        self.session.bind(&mut self.tracker);
        if existed {
            self.tracker.begin_scan(pid, now_ns());
            let (scans, traced) = (self.scans.clone(), traced.clone());
            tokio::task::spawn_blocking(move || {
                let found = Look::at(&traced.subject, None, std::time::Instant::now() + MOST_TIME);
                // Nobody listens any more when the run is over.
                let _ = scans.send(Scan { traced, purpose: Purpose::Adopt, found });
            });
        }
    }

    fn take_scan(&mut self, scan: Scan) {
        let pid = scan.traced.subject.process.pid;
        self.looking -= usize::from(scan.purpose == Purpose::Reconcile);
        if self.session.current(pid).is_none_or(|current| !Arc::ptr_eq(current, &scan.traced)) {
            // Another image or another process by now.
            return;
        }
        match scan.found {
            Ok(look) => {
                self.drain_all();
                let bias = scan.traced.subject.bias;
                let code = |address: u64| if address == 0 { 0 } else { address.wrapping_add(bias) };
                let snapshot = &look.snapshot;
                // What the runtime makes for threads of C comes and goes without a probe's notice.
                let created = snapshot.goroutines.iter().filter(|goroutine| goroutine.gopc != 0);
                let existing = created.map(|goroutine| Existing {
                    goid: goroutine.goid,
                    parent: goroutine.parent.unwrap_or(0),
                    gopc: code(goroutine.gopc),
                    startpc: code(goroutine.startpc),
                });
                // A list that is not whole says nothing of those that are not on it.
                if scan.purpose == Purpose::Reconcile && snapshot.cut_short.is_none() {
                    self.tracker.reconcile(pid, existing, now_ns());
                } else {
                    self.tracker.adopt(pid, existing, now_ns());
                }
                if snapshot.cut_short.is_some() {
                    let (found, listed) = (snapshot.goroutines.len(), snapshot.listed);
                    self.session.warn(format!(
                        "process {pid} has too many goroutines to look at all of them in {} s: {found} of the {listed} that its runtime keeps",
                        MOST_TIME.as_secs()
                    ));
                }
                if let Some(id) = self.tracker.current_instance(pid) {
                    self.session.bind(&mut self.tracker);
                    self.session.looked(id, look);
                }
            }
            Err(error) => {
                let what = match scan.purpose {
                    Purpose::Adopt => "goroutines from before tracing are not shown",
                    Purpose::Reconcile => "what goroutines wait for is not shown",
                };
                self.session.warn(format!("{what}: {error}"));
            }
        }
        self.print_warnings();
    }

    /// Looks at all processes, one after the other, on a thread of its own.
    fn look_at_all(&mut self) {
        let mut jobs = Vec::new();
        let processes: Vec<_> = self.session.processes().cloned().collect();
        for traced in processes {
            let pid = traced.subject.process.pid;
            self.tracker.begin_scan(pid, now_ns());
            let first = self.tracker.current_instance(pid).and_then(|id| self.session.first_places(id));
            jobs.push((traced, first));
        }
        self.looking += jobs.len();
        let scans = self.scans.clone();
        tokio::task::spawn_blocking(move || {
            let deadline = std::time::Instant::now() + MOST_TIME;
            for (traced, first) in jobs {
                let found = Look::settled(&traced.subject, first.as_deref(), deadline);
                if scans.send(Scan { traced, purpose: Purpose::Reconcile, found }).is_err() {
                    break;
                }
            }
        });
    }

    /// The last look, at the end of the window; the ring is read meanwhile.
    async fn last_look(&mut self, scanned: &mut mpsc::UnboundedReceiver<Scan>) {
        self.look_at_all();
        let deadline = Instant::now() + 2 * MOST_TIME;
        while self.looking > 0 {
            tokio::select! {
                Some(scan) = scanned.recv() => self.take_scan(scan),
                ready = self.ring.ready() => ready,
                () = sleep_until(deadline) => {
                    self.session.warn("looking at the processes takes too long: what goroutines wait for is not shown for all".into());
                    break;
                }
            }
            self.drain_all();
        }
        self.print_warnings();
    }

    /// One line once probes are live; scripts wait for it.
    fn announce(&mut self, source: &Source) {
        self.print_warnings();
        let binaries = self.session.binaries();
        let about = match &binaries[..] {
            [only] => {
                let info = only.binary.build_info();
                let parts = [Some(&info.version_text), info.module.as_ref(), info.module_version.as_ref()];
                let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
                format!(" ({})", parts.join(" "))
            }
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
        eprintln!("{}", crate::output::human::clean(&line));
    }

    fn print_warnings(&mut self) {
        for warning in self.session.take_warnings() {
            eprintln!("note: {}", crate::output::human::clean(&warning));
        }
    }

    /// Takes one batch of records. Returns whether there may be more.
    fn drain(&mut self) -> bool {
        let (tracker, lifecycle, received) = (&mut self.tracker, &mut self.lifecycle, &mut self.received);
        let family = self.targets.is_family().then_some(&self.targets);
        let mut last = None;
        let more = self.ring.drain(|event| match event.what {
            What::Created { .. } | What::Exited { .. } => {
                *received += 1;
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
        });
        for event in std::mem::take(&mut self.lifecycle) {
            self.live_and_die(&event);
        }
        self.session.bind(&mut self.tracker);
        more
    }

    /// Takes what is in the ring now; under a flood, what comes meanwhile is not waited for.
    fn drain_all(&mut self) {
        for _ in 0..64 {
            if !self.drain() {
                break;
            }
        }
    }

    fn live_and_die(&mut self, event: &Event) {
        let pid = event.pid;
        match event.what {
            What::Fork { child } => self.targets.cloned(pid, child),
            What::ProcessExit => self.session.forget(pid),
            What::Exec => {
                self.session.forget(pid);
                let Ok(Some(file)) = is_wanted(&self.targets, pid, &self.session) else { return };
                let entered = if self.session.has_probes(file) {
                    self.session.recognise(pid);
                    Ok(())
                } else if self.targets.pids.contains(&pid) {
                    match NonZeroU32::new(pid) {
                        Some(only) => self.enter(pid, Scope::Process(only), true),
                        None => Ok(()),
                    }
                } else {
                    self.enter(pid, Scope::Everyone, true)
                };
                if let Err(error) = entered
                    && !error.is_not_go()
                {
                    self.session.refuse(pid, &error);
                }
            }
            What::Created { .. } | What::Exited { .. } => {}
        }
    }

    /// Stops tracing what cannot be right. An error where nothing else is traced; the program of `golife run` runs on,
    /// whatever golife makes of it.
    fn check_fit(&mut self, last: bool) -> Result<(), Error> {
        let mut misfit = None;
        for (target, mismatch) in self.session.misfits(&self.tracker, last) {
            self.session.give_up(&target, &mismatch);
            misfit = Some(mismatch);
        }
        match misfit {
            Some(mismatch) if self.session.binaries().is_empty() && !self.targets.is_family() => {
                self.session.take_warnings();
                Err(Error::Unfit(mismatch))
            }
            _ => {
                self.print_warnings();
                Ok(())
            }
        }
    }

    /// Whether only named processes were traced and all of them have ended.
    fn all_gone(&self) -> bool {
        !self.targets.can_grow() && self.session.processes().next().is_none()
    }

    fn count_losses(&mut self) {
        let now = self.session.counters();
        let before = std::mem::replace(&mut self.counters, now);
        if now.read_faults > before.read_faults {
            self.session.take_log().into_iter().for_each(|line| self.session.warn(line));
            self.print_warnings();
        }
        self.tracker.lost(Loss {
            created: now.dropped_created - before.dropped_created,
            exited: now.dropped_exited - before.dropped_exited,
            process: now.dropped_process - before.dropped_process,
            read_faults: now.read_faults - before.read_faults,
        });
    }

    fn dropped(&self) -> u64 {
        self.counters.dropped_created + self.counters.dropped_exited
    }

    fn hits(&self) -> u64 {
        self.received + self.dropped() + self.counters.read_faults
    }

    /// Waits for the calibration, a fraction of a second. A thread that takes probes off may not be cut short by the
    /// program's end: the kernel would keep what is left of them (`failed to unregister, leaking uprobe`).
    fn calibrate(&mut self) {
        if let Some(calibration) = self.calibration.take() {
            self.ns_per_hit = calibration.join().ok().flatten();
        }
    }

    fn report(&mut self, settings: &Settings) -> Report {
        let end_ns = now_ns();
        let long_enough = end_ns.saturating_sub(self.start_ns) > 1_000_000_000;
        if long_enough {
            self.calibrate();
        }
        let per_hit = self.ns_per_hit;
        let run = report::Run {
            tool: tool(),
            window: report::Window { start_ns: self.start_ns, end_ns, end: SystemTime::now() },
            overhead: report::Overhead {
                probe_hits: Some(self.hits()),
                target_ns_per_hit: per_hit.map(|ns| ns.round() as u64),
                target_cpu_ns: per_hit.map(|ns| (ns * self.hits() as f64) as u64),
                golife_cpu_ns: Some(cpu_time().saturating_sub(self.start_cpu).as_nanos() as u64),
                targets_used_cpu_ns: self.session.cpu_time_of_targets(),
            },
            untraced: self.session.untraced(),
        };
        report::build(&self.tracker, &self.session, &run, &settings.selection)
    }
}

/// This golife, on this host.
pub fn tool() -> report::Tool {
    let uname = nix::sys::utsname::uname().ok();
    let text = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname.as_ref().map(|uname| part(uname).to_string_lossy().into_owned())
    };
    report::Tool {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: text(|uname| uname.nodename()),
        kernel: text(|uname| uname.release()),
        arch: std::env::consts::ARCH.to_owned(),
    }
}

/// Boot time now, in the events' clock.
fn now_ns() -> u64 {
    boot_time().as_nanos() as u64
}

/// CPU time that golife has used.
fn cpu_time() -> Duration {
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(value.tv_sec().unsigned_abs(), value.tv_usec().unsigned_abs() as u32 * 1000)
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| time(usage.user_time()) + time(usage.system_time()))
        .unwrap_or_default()
}

fn forward(pid: u32, what: Signal) {
    // The child may have ended in this moment; then there is nobody to tell.
    let _ = kill(nix::unistd::Pid::from_raw(pid as i32), what);
}

fn restore_default(which: Signal) {
    // SAFETY: the default action involves no code of ours.
    let _ = unsafe { signal(which, SigHandler::SigDfl) };
}
