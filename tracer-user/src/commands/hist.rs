//! `golife hist`: lifetime histograms, of live processes or of saved reports.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};

use super::arguments::{Cli, Format, Hist as Arguments};
use super::sink::{Sink, Stream, refuse_binary, width};
use super::trace::{Follow, selection, settings};
use super::{DEFAULT_WINDOW, note, patterns};
use crate::assemble::merged;
use crate::assemble::repeats::{Repeat, Repeats};
use crate::output::hist::{self, Hist};
use crate::output::json;
use crate::output::profile::Profile;
use crate::report::{Report, Selection};
use crate::trace::Targets;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if matches!(arguments.view.format, Format::Json | Format::Jsonl) {
        let message =
            "hist draws for people; what it draws is in the documents of golife trace --format json";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let form = arguments.view.format.profile();
    refuse_binary(form, arguments.view.output.as_deref(), Stream::Stdout);
    let reports = if arguments.reports.is_empty() {
        let duration = arguments.window.duration.or(Some(DEFAULT_WINDOW));
        let targets = Targets::Selectors(arguments.targets.selectors());
        let settings =
            settings(targets, duration, &arguments.window, patterns(&arguments.judging), &arguments.limits);
        // Which sites are the first ones is only known when all processes are merged.
        let selection = Selection { top: None, ..selection(&arguments.view) };
        let follow = Follow::new(settings, selection, &arguments.view);
        vec![follow.run(None, &mut |_| Ok(()))?.report]
    } else {
        arguments.reports.iter().map(|path| read_report(path)).collect::<anyhow::Result<Vec<_>>>()?
    };
    for repeat in Repeats::of(&reports).found {
        note(&said(&repeat, &arguments.reports, reports[repeat.report] == reports[repeat.of]));
    }
    let mut sink = Sink::of(&arguments.view, Stream::Stdout)?;
    if let Some(form) = form {
        sink.profile(form, &Profile::of_reports(&reports))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut sites = merged::merge(&reports).context("cannot merge the reports' histograms")?;
    merged::sort(&mut sites, arguments.view.sort);
    let layout = Hist { width: width(), top: arguments.view.top.unwrap_or(10), scale: arguments.scale };
    sink.text(|out| hist::write(&sites, &layout, out))?;
    Ok(ExitCode::SUCCESS)
}

/// What reports have in common, for people to read.
fn said(repeat: &Repeat, paths: &[PathBuf], equal: bool) -> String {
    let (one, other, pid) = (paths[repeat.report].display(), paths[repeat.of].display(), repeat.pid);
    if equal {
        format!("{one} is the same report as {other} and counts once")
    } else if repeat.within {
        format!("of process {pid}, {one} covers no time that {other} does not, so only {other} counts")
    } else {
        format!("of process {pid}, {one} and {other} overlap: what happened in both is counted twice")
    }
}

fn read_report(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    json::read(&text).with_context(|| format!("cannot read {} as a golife report", path.display()))
}
