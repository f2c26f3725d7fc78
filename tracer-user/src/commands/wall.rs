//! `golife dump --for`: samples of all goroutines over a time, without probes and without stopping the process.

use std::future::pending;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep_until;

use super::arguments::{Dump as Arguments, Idle};
use super::progress::Progress;
use super::sink::{ReaderGone, reader_gone};
use super::{note, restore_default};
use crate::inspect::WalkLimits;
use crate::look::filter::Filter;
use crate::look::wall::{SHARE, Wall};
use crate::output::profile::Profile;
use crate::targets::Subject;

/// Samples for so long, or until Ctrl-C, SIGTERM, or the process ends.
pub(super) fn run(
    subject: &Subject,
    arguments: &Arguments,
    filter: &Filter,
    duration: Duration,
) -> anyhow::Result<Profile> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(sample(subject, arguments, filter, duration))
}

async fn sample(
    subject: &Subject,
    arguments: &Arguments,
    filter: &Filter,
    duration: Duration,
) -> anyhow::Result<Profile> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let has_file = arguments.output.is_some();
    let mut unread = std::pin::pin!(async { if has_file { pending().await } else { reader_gone().await } });
    let pid = arguments.pid;
    let period = Duration::from_secs(1) / arguments.hz;
    let progress = Progress::start(Some(duration), true);
    let end = Instant::now() + duration;
    let mut wall = Wall::new(subject, filter, arguments.idle == Idle::Hide);
    loop {
        let is_there = subject.process.executes_the_same();
        let sampled = is_there.then(|| wall.sample(period, WalkLimits::default()));
        let pause = match sampled {
            Some(Ok(pause)) => pause,
            Some(Err(error)) if subject.process.executes_the_same() => {
                if wall.samples > 0 {
                    note(&format!("sampling ended early: {error}"));
                    break;
                }
                return Err(error).with_context(|| format!("cannot read the goroutines of process {pid}"));
            }
            // It may have ended while it was read.
            _ if wall.samples > 0 => {
                note(&format!(
                    "process {pid} has ended, or executes something else: this is what was seen before"
                ));
                break;
            }
            _ => anyhow::bail!("process {pid} has ended, or executes something else"),
        };
        progress.say(format!("{} samples; Ctrl-C shows what there is", wall.samples));
        let next = Instant::now() + pause;
        let is_last = next + wall.worth() > end;
        tokio::select! {
            () = sleep_until(if is_last { end } else { next }.into()) => if is_last { break },
            _ = interrupt.recv() => { restore_default(Signal::SIGINT); break },
            _ = terminate.recv() => { restore_default(Signal::SIGTERM); break },
            () = &mut unread => return Err(ReaderGone.into()),
        }
    }
    progress.finish();
    wall.finish();
    let rate = wall.samples as f64 / wall.duration.as_secs_f64().max(1e-9);
    if rate < 0.8 * f64::from(arguments.hz) {
        note(&format!(
            "{rate:.1} samples a second instead of {}: golife spends at most {SHARE} % of one CPU on them",
            arguments.hz
        ));
    }
    Ok(Profile::of_wall(&wall))
}
