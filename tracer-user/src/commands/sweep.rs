//! `golife sweep`: every Go process of the host, without probes.

use std::process::ExitCode;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::arguments::Sweep as Arguments;
use super::progress::{Patience, Progress, READING};
use super::sink::{Sink, Stream, width};
use super::storing::{self, Shaping};
use super::{gate, note, patterns};
use crate::host::capabilities;
use crate::human;
use crate::look::sweep::{GLANCES, Sweep};
use crate::output;
use crate::report::{Selection, Top};
use crate::targets::{Selectors, Wanted};
use crate::trace::{Notice, TraceError};

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut sink = Sink::open(arguments.format, arguments.output.as_deref(), Stream::Stdout)?
        .with_sources(&arguments.sources);
    let selectors = arguments.targets.selectors();
    let all = selectors.all || selectors.is_empty();
    let wanted = Wanted::resolve(&Selectors { all, ..selectors })?;
    let selection = Selection {
        sort: arguments.sort,
        top: arguments.top.map(Top::OfAll),
        min_age_ns: None,
        include_system: arguments.include_system,
        ..Selection::default()
    };
    let selection = gate::silence(selection, &arguments.silenced);
    let shaping = Shaping::of(&arguments.storing, &arguments.naming, selection)?;
    let patterns = patterns(&arguments.judging);
    let mut sweep = Sweep::new(&wanted, &patterns);
    if let Some(every) = arguments.every {
        return again_and_again(every, &mut sweep, &shaping, &mut sink);
    }
    // Over ssh, there is nobody to be patient, and a host without Go processes is an answer.
    let asked = &arguments.hosts.asked;
    let patience = asked.is_none().then(|| Patience::with(READING));
    sweep.look()?;
    drop(patience);
    if let Some(between) = arguments.twice {
        Pauses::new(asked.clone())?.pause(between, "until the second look; Ctrl-C takes it now", &mut sweep);
        sweep.look()?;
    }
    // Some processes cannot be looked at by anybody, so this is only said if a capability would help.
    let mut report = sweep.report(&shaping.wanted());
    if sweep.forbidden() > 0
        && capabilities::lacks_ptrace()
        && (asked.is_some() || !report.processes.is_empty())
    {
        note(&Notice::Denied { processes: sweep.forbidden() });
    }
    if report.processes.is_empty() && asked.is_none() {
        // Whether one of those that may not be looked at would match is not known.
        let why = match sweep.forbidden() {
            0 => "no Go process matches".to_owned(),
            processes => format!("no Go process matches; {}", Notice::Denied { processes }),
        };
        return Err(TraceError::Nothing(why).into());
    }
    let stored = shaping.keep(&mut report);
    sink.finish(&report, |out| output::sweep::write(&report, width(), arguments.top.is_some(), out))?;
    stored.and_then(|()| gate::judge(&report, &arguments.fail_on, &arguments.silenced))
}

/// Looks at about this interval until Ctrl-C, and stores what came and went since the look before. A store that is away does not
/// end it.
fn again_and_again(
    every: Duration,
    sweep: &mut Sweep,
    shaping: &Shaping,
    sink: &mut Sink,
) -> anyhow::Result<ExitCode> {
    let mut pauses = Pauses::new(None)?;
    for is_first in std::iter::once(true).chain(std::iter::repeat(false)) {
        sweep.look()?;
        let mut report = sweep.report(&shaping.wanted());
        match shaping.keep(&mut report) {
            Err(error) if storing::waits(&error) => note(&human::chain(error.as_ref())),
            other => other?,
        }
        if sink.is_of_lines() {
            sink.line(&report)?;
        }
        sweep.begin_anew();
        if pauses.pause(storing::pause(every, is_first), "until the next look; Ctrl-C ends", sweep) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The pauses between looks. From the first one on, Ctrl-C and SIGTERM end a pause, also where they come during a look; a second
/// one ends golife.
struct Pauses {
    runtime: Runtime,
    interrupt: Signals,
    terminate: Signals,
    /// Who else can end a pause, by setting this.
    ended: Option<Arc<AtomicBool>>,
}

impl Pauses {
    fn new(ended: Option<Arc<AtomicBool>>) -> std::io::Result<Pauses> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (interrupt, terminate) =
            runtime.block_on(async { (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) });
        Ok(Pauses { runtime, interrupt: interrupt?, terminate: terminate?, ended })
    }

    /// Waits for the next look, and glances at the processes meanwhile, for at most a quarter of the time. Returns whether the user
    /// has ended it.
    fn pause(&mut self, between: Duration, what: &str, sweep: &mut Sweep) -> bool {
        let start = Instant::now();
        let end = start + between;
        let mut glances = (1..=GLANCES).map(|at| start + between * at / (GLANCES + 1)).peekable();
        let mut rested = start;
        let progress = Progress::start(Some(between), true);
        let ended = self.ended.clone();
        let is_ended = || ended.as_ref().is_some_and(|ended| ended.load(Ordering::Relaxed));
        let wait = async {
            while Instant::now() < end && !is_ended() {
                progress.say(what.into());
                let now = Instant::now();
                let is_due = std::iter::from_fn(|| glances.next_if(|at| *at <= now)).count() > 0;
                if is_due && now >= rested {
                    sweep.glance();
                    rested = Instant::now() + now.elapsed() * 3;
                }
                let next = glances.peek().copied().unwrap_or(end).saturating_duration_since(Instant::now());
                tokio::time::sleep(next.min(Duration::from_millis(200))).await;
            }
        };
        let Pauses { runtime, interrupt, terminate, .. } = self;
        let ended_by = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => Some(Signal::SIGINT),
                _ = terminate.recv() => Some(Signal::SIGTERM),
                () = wait => None,
            }
        });
        progress.finish();
        if let Some(signal) = ended_by {
            super::restore_default(signal);
        }
        ended_by.is_some()
    }
}
