//! What each subcommand does, from arguments to exit code.

pub mod arguments;
pub mod completion;
mod diff;
mod doctor;
mod dump;
mod fleet;
mod gate;
mod goflags;
mod hist;
mod hosts;
pub mod launcher;
mod manual;
pub mod memory;
mod progress;
mod remote;
mod sink;
mod storing;
mod sweep;
mod trace;
mod wall;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, error::ErrorKind};
use nix::sys::signal::{SigHandler, Signal, raise, signal};

use crate::host::account::AccountError;
use crate::host::launch::LaunchError;
use crate::inspect::WalkError;
use crate::probes::selftest;
use crate::targets::{SelectorError, TargetError};
use crate::trace::{StartError, TraceError};
use crate::verdict::cause::Patterns;
use crate::{human, output};
use arguments::{Cli, Command, DoctorFormat, Judging};
use sink::{ReaderGone, in_locale, is_ascii_wanted, read};

/// Exit code if a site is judged at the level of `--fail-on` or above, or more was created than may be.
const FOUND: u8 = 3;
/// Exit code if nothing could be traced.
const NOTHING: u8 = 4;

/// How long `leaks` and `hist` watch unless the user says otherwise.
const DEFAULT_WINDOW: Duration = Duration::from_secs(30);

/// Runs a subcommand. Where the reader of standard output is gone, golife ends as programs then do: without a word, by
/// SIGPIPE.
///
/// # Errors
/// The chain of errors says what failed, on what, why, and what to do about it.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let outcome = execute(command);
    if outcome.as_ref().is_err_and(|error| error.is::<ReaderGone>()) {
        restore_default(Signal::SIGPIPE);
        raise(Signal::SIGPIPE)?;
    }
    outcome
}

/// Gives a signal back the meaning that it has for a program that does not care about it.
fn restore_default(which: Signal) {
    // SAFETY: the default action involves no code of ours.
    let _ = unsafe { signal(which, SigHandler::SigDfl) };
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Leaks(arguments) => trace::leaks(&arguments),
        Command::Hist(arguments) => hist::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Run(arguments) => trace::launch(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Sweep(arguments) if arguments.hosts.hosts.is_some() => hosts::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments),
        Command::RemoteSweep => remote::run(),
        Command::Fleet(arguments) => fleet::run(&arguments),
        Command::Doctor(arguments) => {
            let findings = doctor::run();
            read(match arguments.format {
                DoctorFormat::Text => in_locale(&mut anstream::stdout(), |out| doctor::write(&findings, out)),
                DoctorFormat::Json => output::json::write(&findings, &mut io::stdout()),
            })?;
            Ok(if findings.works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Completions { shell } => {
            read(completion::write(&shell.to_string(), &mut io::stdout()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            read(manual::write(&mut io::stdout()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::SelftestTarget => {
            selftest::run_target()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The exit code that belongs to an error: 4 where nothing could be traced, 1 for all else.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let of_trace = |error: &TraceError| !matches!(error, TraceError::System { .. });
    let is_nothing = match (error.downcast_ref::<TraceError>(), error.downcast_ref::<StartError>()) {
        (Some(error), _) => of_trace(error),
        (_, Some(start)) => of_trace(&start.error),
        _ => {
            error.is::<TargetError>()
                || error.is::<WalkError>()
                || error.is::<SelectorError>()
                || error.is::<LaunchError>()
                || error.is::<AccountError>()
        }
    };
    if is_nothing { ExitCode::from(NOTHING) } else { ExitCode::FAILURE }
}

/// An error in one line, for standard error. Control characters are made visible, since an error may contain names that
/// others have chosen.
pub fn message(error: &anyhow::Error) -> String {
    human::clean(&human::chain(error.as_ref()))
}

/// The user's own causes and remedies. A file that cannot be used is wrong usage, so golife ends with a message.
fn patterns(judging: &Judging) -> Patterns {
    let Some(path) = &judging.patterns else { return Patterns::default() };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let read =
        |text: String| Patterns::read(&text, &path.display().to_string()).map_err(|error| error.to_string());
    text.and_then(read).unwrap_or_else(|why| {
        Cli::command().error(ErrorKind::ValueValidation, format!("--patterns: {}", human::clean(&why))).exit()
    })
}

/// Says something on standard error that is no part of a report.
fn note(text: &impl std::fmt::Display) {
    say(&format!("note: {}", human::clean(&text.to_string())));
}

/// Writes a line to standard error. Nobody may be there to read it, since a terminal can be closed and a pipe, too; that
/// is no reason to lose the report that goes into a file.
pub fn say(line: &str) {
    let line = if is_ascii_wanted() { human::ascii(line) } else { line.to_owned() };
    let _ = writeln!(io::stderr(), "{line}");
}
