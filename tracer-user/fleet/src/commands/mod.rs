//! What each command does, from arguments to exit code.

mod ack;
mod capacity;
mod check;
mod compact;
mod compare;
mod expire;
mod groups;
mod hist;
mod hosts;
mod leaks;
mod new;
mod rollup;
mod sql;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::arguments::{Command, Format, Showing};
use crate::output::{self, Answer};

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Runs a command. Ctrl-C ends it.
///
/// # Errors
/// The chain of errors says what failed, on what, why, and what to do about it.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = execute(command) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        }
    });
    // What still reads is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Leaks(arguments) => leaks::run(&arguments).await,
        Command::New(arguments) => new::run(&arguments).await,
        Command::Compare(arguments) => compare::run(&arguments).await,
        Command::Ack(arguments) => ack::ack(&arguments).await,
        Command::Unack(arguments) => ack::unack(&arguments).await,
        Command::Sql(arguments) => sql::run(&arguments).await,
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Compact(arguments) => compact::run(&arguments).await,
        Command::Rollup(arguments) => rollup::run(&arguments).await,
        Command::Expire(arguments) => expire::run(&arguments).await,
        Command::Hist(arguments) => hist::run(&arguments).await,
        Command::Capacity(arguments) => capacity::run(&arguments).await,
    }
}

/// Writes an answer where and how the user wants it.
///
/// # Errors
/// The file cannot be written.
pub fn show(answer: &Answer, showing: &Showing) -> anyhow::Result<()> {
    let write = |out: &mut dyn Write, width| match showing.format {
        Format::Text => output::text::write(answer, width, out),
        Format::Json => output::json::write(answer, out),
        Format::Csv => output::csv::write(answer, out),
        Format::Markdown => output::markdown::write(answer, out),
        Format::Html => output::html::write(answer, out),
    };
    if let Some(path) = &showing.output {
        let mut text = Vec::new();
        write(&mut text, output::text::WIDTH)?;
        let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        return file.write_all(&text).with_context(|| format!("cannot write {}", path.display()));
    }
    if matches!(showing.format, Format::Csv | Format::Json) {
        answer.notes.iter().for_each(|note| say(&format!("note: {note}")));
    }
    let mut text = Vec::new();
    write(&mut text, output::text::width())?;
    match io::stdout().write_all(&text) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// Writes a line to standard error. Nobody may be there to read it, which is no reason to fail.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether somebody watches standard error.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}
