//! `golife dump`: all goroutines of a process, without probes.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};

use super::arguments::{Cli, Dump as Arguments, DumpFormat, Idle};
use super::note;
use super::sink::{Sink, Stream, refuse_binary};
use super::wall;
use crate::inspect::{Depth, Places, WalkError, WalkLimits};
use crate::look::{self, dump::Dump, filter::Filter};
use crate::output::{self, profile::Profile};
use crate::targets::{Binaries, Subject};

/// The longest that reading the goroutines may take.
const MOST_TIME: Duration = Duration::from_secs(60);
/// How long golife waits to see which goroutines run.
const WATCHED: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    refuse_what_means_nothing(arguments);
    let form = arguments.format.profile();
    refuse_binary(form, arguments.output.as_deref(), Stream::Stdout);
    let mut sink = Sink::plain(arguments.output.as_deref(), Stream::Stdout)?;
    let subject = Binaries::default().subject(arguments.pid)?;
    subject.other_runtimes().for_each(|other| note(&other));
    if let (Some(form), Some(duration)) = (form, arguments.duration) {
        let profile = wall::run(&subject, arguments, &filter(arguments), duration)?;
        sink.profile(form, &profile)?;
        return Ok(ExitCode::SUCCESS);
    }
    let unreadable = || format!("cannot read the goroutines of process {}", arguments.pid);
    let before = match arguments.idle {
        Idle::Show => None,
        Idle::Hide => Some(watched(&subject).with_context(unreadable)?),
    };
    let (snapshot, scan) = look::scan(&subject, Instant::now() + MOST_TIME).with_context(unreadable)?;
    let idle = before
        .as_ref()
        .map(|(places, taken_ns)| Places::of(&snapshot, Some(places)).unmoved_since(*taken_ns).collect());
    let filter = Filter { idle, ..filter(arguments) };
    let dump = Dump::new(&subject, &snapshot, scan, &filter);
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
    match (arguments.format, &arguments.group) {
        (DumpFormat::Json, _) => sink.write(|out| output::json::write(&dump.document(), out))?,
        (_, Some(group)) => sink.text(|out| output::groups::write(&dump, group, out))?,
        (_, None) => sink.text(|out| output::dump::traceback(&dump, arguments.ancestors, out))?,
    }
    if arguments.ancestors {
        note(&if dump.knows_creators() {
            "creators are shown with the stacks that they have now, unless Go has kept those of then \
             (GODEBUG=tracebackancestors)"
        } else {
            "Go before 1.21 keeps who created a goroutine only with GODEBUG=tracebackancestors"
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends golife with a message where options do not go together.
fn refuse_what_means_nothing(arguments: &Arguments) {
    let refuse = |message: &str| Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    if arguments.format != DumpFormat::Text && arguments.group.is_some() {
        refuse("--group is for --format text; the other forms have all that groups are made of");
    }
    if arguments.duration.is_some() && arguments.format.profile().is_none() {
        refuse("--for makes a profile: it is for --format pprof, folded and svg");
    }
    if arguments.ancestors && (arguments.format != DumpFormat::Text || arguments.group.is_some()) {
        refuse("--ancestors is for the traceback of each goroutine: --format text without --group");
    }
}

/// Which goroutines are asked for, as far as one look tells.
fn filter(arguments: &Arguments) -> Filter {
    Filter {
        goids: arguments.goid.clone(),
        states: arguments.waiting.clone(),
        older_than_ns: arguments.older.map(|age| age.as_nanos() as u64),
        site: arguments.site.clone(),
        without: arguments.without.clone(),
        idle: None,
        include_system: arguments.include_system,
        sample: arguments.sample,
    }
}

/// Where all goroutines were a while ago, and when that was, in ns of `CLOCK_MONOTONIC`.
fn watched(subject: &Subject) -> Result<(Places, u64), WalkError> {
    let limits = WalkLimits { time: MOST_TIME, ..WalkLimits::default() };
    let snapshot = subject.scan(limits, Depth::Stacks)?.checked()?;
    std::thread::sleep(WATCHED);
    Ok((Places::of(&snapshot, None), snapshot.taken_ns))
}
