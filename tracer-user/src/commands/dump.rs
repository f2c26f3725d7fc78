//! `golife dump`: all goroutines of a process, without probes.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};

use super::arguments::{Cli, Dump as Arguments, DumpFormat};
use super::note;
use super::sink::{Sink, Stream, refuse_binary};
use crate::look::Look;
use crate::look::dump::{Dump, Filter};
use crate::output::{self, profile::Profile};
use crate::targets::Binaries;

/// The longest that reading the goroutines may take.
const MOST_TIME: Duration = Duration::from_secs(60);

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.format != DumpFormat::Text && arguments.group.is_some() {
        let message = "--group is for --format text; the other forms have all that groups are made of";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let form = arguments.format.profile();
    refuse_binary(form, arguments.output.as_deref(), Stream::Stdout);
    let mut sink = Sink::plain(arguments.output.as_deref(), Stream::Stdout)?;
    let subject = Binaries::default().subject(arguments.pid)?;
    subject.other_runtimes().for_each(|other| note(&other));
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
        note(&format!(
            "not all goroutines: {} were read in {} s, of {} that the runtime keeps",
            scan.found,
            MOST_TIME.as_secs(),
            scan.listed
        ));
    }
    if let Some(why) = dump.nothing(&filter) {
        note(&why);
    }
    if let Some(form) = form {
        sink.profile(form, &Profile::of_dump(&dump))?;
        return Ok(ExitCode::SUCCESS);
    }
    match (arguments.format, arguments.group) {
        (DumpFormat::Json, _) => sink.write(|out| output::json::write(&dump.document(), out))?,
        (_, Some(group)) => sink.text(|out| output::dump::groups(&dump, group, out))?,
        (_, None) => sink.text(|out| output::dump::traceback(&dump, out))?,
    }
    Ok(ExitCode::SUCCESS)
}
