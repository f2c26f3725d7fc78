//! `golife sweep`: every Go process of the host, without probes.

use std::process::ExitCode;

use super::{FOUND, Sink, Stream, width};
use crate::{
    cli::{self, Sweep as Arguments},
    host::capabilities,
    output, pipeline,
    report::{Selection, Top},
    sweep,
    targets::Targets,
};

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut sink = Sink::open(arguments.format, arguments.output.as_deref(), Stream::Stdout)?;
    let all = arguments.targets.selects_nothing();
    let targets =
        Targets::resolve(&cli::Targets { all: all || arguments.targets.all, ..arguments.targets.clone() })?;
    let selection = Selection {
        sort: arguments.sort,
        top: arguments.top.map(Top::OfAll),
        min_age_ns: None,
        include_system: arguments.include_system,
    };
    let outcome = sweep::sweep(&targets, arguments.twice, &selection)?;
    if let Some(warning) = capabilities::about_denied(outcome.forbidden) {
        eprintln!("note: {warning}");
    }
    let report = outcome.report;
    if report.processes.is_empty() {
        return Err(pipeline::Error::Nothing("no Go process matches".into()).into());
    }
    sink.finish(&report, |out| output::sweep::write(&report, width(), out))?;
    Ok(match (arguments.fail_on, report.summary.worst()) {
        (Some(limit), Some(worst)) if worst >= limit => ExitCode::from(FOUND),
        _ => ExitCode::SUCCESS,
    })
}
