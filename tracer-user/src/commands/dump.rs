//! `golife dump`: all goroutines of a process, without probes.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};

use super::{Sink, Stream, refuse_binary};
use crate::{
    cli::{Cli, Dump as Arguments, DumpFormat},
    dump::{Dump, Filter},
    human,
    library::Library,
    look::Look,
    output::{self, profile::Profile},
};

/// The longest that a dump takes to read.
const MOST_TIME: Duration = Duration::from_secs(60);

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.format != DumpFormat::Text && arguments.group.is_some() {
        let message = "--group is for --format text; the other forms have all that groups are made of";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let form = arguments.format.profile();
    refuse_binary(form, arguments.output.as_deref(), Stream::Stdout);
    let mut sink = Sink::plain(arguments.output.as_deref(), Stream::Stdout)?;
    let subject = Library::default().subject(arguments.pid)?;
    for note in subject.about_others() {
        eprintln!("note: {}", human::clean(&note));
    }
    let look = Look::at(&subject, None, Instant::now() + MOST_TIME)
        .with_context(|| format!("cannot read the goroutines of process {}", arguments.pid))?;
    let filter = Filter {
        states: arguments.waiting.clone(),
        older_than_ns: arguments.older.map(|age| age.as_nanos() as u64),
        site: arguments.site.clone(),
        include_system: arguments.include_system,
    };
    let scan = look.findings.scan;
    let dump = Dump::new(&subject, &look.snapshot, scan, &filter);
    if scan.cut_short {
        eprintln!(
            "note: not all goroutines: {} were read in {} s, of {} that the runtime keeps",
            scan.found,
            MOST_TIME.as_secs(),
            scan.listed
        );
    }
    if let Some(form) = form {
        sink.profile(form, &Profile::of_dump(&dump))?;
        return Ok(ExitCode::SUCCESS);
    }
    sink.replace()?;
    sink.write(|out| match (arguments.format, arguments.group) {
        (DumpFormat::Json, _) => output::json::write(&dump.document(), out),
        (_, Some(group)) => output::dump::groups(&dump, group, out),
        (_, None) => output::dump::traceback(&dump, out),
    })?;
    Ok(ExitCode::SUCCESS)
}
