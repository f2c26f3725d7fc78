//! `golife hist`: lifetime histograms, of live processes or of saved reports.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};

use super::arguments::{Cli, Format, Hist as Arguments};
use super::sink::{Sink, Stream, refuse_binary, width};
use super::trace::{Follow, selection, settings};
use super::{DEFAULT_WINDOW, note, patterns};
use crate::assemble::hist;
use crate::assemble::merged::{self, Merging};
use crate::assemble::repeats::{Repeat, Repeats};
use crate::output::hist::{self as drawing, Hist};
use crate::output::json;
use crate::output::profile::Profile;
use crate::output::saved::Saved;
use crate::report::{Selection, Site};
use crate::trace::Targets;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let is_drawn = matches!(arguments.view.format, Format::Text | Format::Json);
    if !is_drawn && arguments.view.format.profile().is_none() {
        let message = "hist draws, or writes one document (--format json); findings are in those of golife trace --format json";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let form = arguments.view.format.profile();
    refuse_binary(form, arguments.view.output.as_deref(), Stream::Stdout);
    let mut reports = Vec::new();
    let mut saved = Vec::new();
    if arguments.reports.is_empty() {
        let duration = arguments.window.duration.or(Some(DEFAULT_WINDOW));
        let targets = Targets::Selectors(arguments.targets.selectors());
        let settings =
            settings(targets, duration, &arguments.window, patterns(&arguments.judging), &arguments.limits);
        // Which sites are the first ones is only known when all processes are merged.
        let selection = Selection { top: None, ..selection(&arguments.view) };
        let follow = Follow::new(settings, selection, &arguments.view);
        reports.push(follow.run(None, &mut |_| Ok(()))?.report);
    } else {
        for path in &arguments.reports {
            let (report, sites) = Saved::open(path).with_context(|| unreadable(path))?;
            reports.push(report);
            saved.push((path, sites));
        }
    }
    for repeat in Repeats::of(&reports).found {
        note(&said(&repeat, &arguments.reports, reports[repeat.report] == reports[repeat.of]));
    }
    let mut sink = Sink::of(&arguments.view, Stream::Stdout)?;
    if let Some(form) = form {
        for (report, (path, sites)) in reports.iter_mut().zip(&saved) {
            let mut keep = |process: usize, site| {
                if let Some(process) = report.processes.get_mut(process) {
                    process.sites.push(for_profile(site));
                }
                Ok(())
            };
            sites.sites(&mut keep).with_context(|| unreadable(path))?;
        }
        sink.profile(form, &Profile::of_reports(&reports))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut merging = Merging::of(&reports).context("cannot merge the histograms")?;
    for (number, (path, sites)) in saved.iter().enumerate() {
        let mut add = |process, site| merging.add(number, process, &site).map_err(|error| error.to_string());
        sites.sites(&mut add).with_context(|| unreadable(path))?;
    }
    let mut sites = merging.finish();
    merged::sort(&mut sites, arguments.view.sort);
    if arguments.view.format == Format::Json {
        let document = hist::document(&sites, arguments.view.top.unwrap_or(usize::MAX), arguments.scale);
        sink.write(|out| json::write(&document, out))?;
        return Ok(ExitCode::SUCCESS);
    }
    let layout = Hist { width: width(), top: arguments.view.top.unwrap_or(10), scale: arguments.scale };
    sink.text(|out| drawing::write(&sites, &layout, out))?;
    Ok(ExitCode::SUCCESS)
}

/// What a profile needs of a site. The rest of a saved report is most of it, and is not kept.
fn for_profile(site: Site) -> Site {
    Site { survival: Vec::new(), living_hdr: None, parents: Vec::new(), blame: None, ..site }
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {} as a golife report", path.display())
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
