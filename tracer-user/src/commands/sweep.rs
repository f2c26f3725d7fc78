//! `golife sweep`: every Go process of the host, without probes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::arguments::Sweep as Arguments;
use super::progress::{Patience, Progress, READING};
use super::sink::{Sink, Stream, width};
use super::{judge, note, patterns};
use crate::host::capabilities;
use crate::look::sweep::Sweep;
use crate::output;
use crate::report::{Selection, Top};
use crate::targets::{Selectors, Wanted};
use crate::trace::{Notice, TraceError};

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut sink = Sink::open(arguments.format, arguments.output.as_deref(), Stream::Stdout)?;
    let selectors = arguments.targets.selectors();
    let all = selectors.all || selectors.is_empty();
    let wanted = Wanted::resolve(&Selectors { all, ..selectors })?;
    let selection = Selection {
        sort: arguments.sort,
        top: arguments.top.map(Top::OfAll),
        min_age_ns: None,
        include_system: arguments.include_system,
    };
    let patterns = patterns(&arguments.judging);
    let mut sweep = Sweep::new(&wanted, &patterns);
    let patience = Patience::with(READING);
    sweep.look()?;
    drop(patience);
    if let Some(between) = arguments.twice
        && pause(between)
    {
        sweep.look()?;
    }
    // Some processes cannot be looked at by anybody, so this is only said if a capability would help.
    let report = sweep.report(&selection);
    if sweep.forbidden() > 0 && capabilities::lacks_ptrace() && !report.processes.is_empty() {
        note(&Notice::Denied { processes: sweep.forbidden() });
    }
    if report.processes.is_empty() {
        // Whether one of those that may not be looked at would match is not known.
        let why = match sweep.forbidden() {
            0 => "no Go process matches".to_owned(),
            processes => format!("no Go process matches; {}", Notice::Denied { processes }),
        };
        return Err(TraceError::Nothing(why).into());
    }
    sink.finish(&report, |out| output::sweep::write(&report, width(), arguments.top.is_some(), out))?;
    Ok(judge(&report, &arguments.fail_on))
}

/// Waits for the second look. Returns false where the user has seen enough: Ctrl-C ends with the first look.
fn pause(between: Duration) -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        std::thread::sleep(between);
        return true;
    };
    let progress = Progress::start(Some(between), true);
    let end = Instant::now() + between;
    let wait = async {
        while Instant::now() < end {
            progress.say("until the second look; Ctrl-C shows the first".into());
            tokio::time::sleep(Duration::from_millis(200).min(end - Instant::now())).await;
        }
    };
    let waited = runtime.block_on(async {
        tokio::select! {
            () = wait => true,
            _ = tokio::signal::ctrl_c() => false,
        }
    });
    progress.finish();
    waited
}
