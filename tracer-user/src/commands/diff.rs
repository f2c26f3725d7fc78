//! `golife diff`: what has changed between two saved reports.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::FOUND;
use super::arguments::{Diff as Arguments, DiffFormat};
use super::sink::{Sink, Stream, width};
use crate::assemble::diff::Comparison;
use crate::output::saved::Saved;
use crate::output::{diff, json};

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let unreadable = |path: &Path| format!("cannot read {} as a golife report", path.display());
    let open = |path: &Path| Saved::open(path).with_context(|| unreadable(path));
    let paths = [arguments.old.as_path(), arguments.new.as_path()];
    let [(old, old_sites), (new, new_sites)] = [open(paths[0])?, open(paths[1])?];
    let mut sink = Sink::plain(arguments.output.as_deref(), Stream::Stdout)?;
    let mut comparison = Comparison::of([&old, &new]);
    for (side, sites) in [old_sites, new_sites].iter().enumerate() {
        let mut add = |process, site| comparison.add(side, process, &site).map_err(|error| error.to_string());
        sites.sites(&mut add).with_context(|| unreadable(paths[side]))?;
    }
    let found = comparison.finish(paths.map(|path| path.display().to_string()));
    match arguments.format {
        DiffFormat::Text => sink.text(|out| diff::write(&found, width(), out))?,
        DiffFormat::Json => sink.write(|out| json::write(&found, out))?,
        DiffFormat::Markdown => sink.write(|out| diff::write_markdown(&found, out))?,
    }
    let is_worse = arguments.fail_on.is_some() && found.summary.regressions > 0;
    Ok(if is_worse { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}
