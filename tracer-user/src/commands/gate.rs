//! Whether what was found makes golife fail: `--fail-on`, and what may pass it, `--baseline` and `--max-created`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};

use super::arguments::{Cli, FailOn, Silenced};
use super::{FOUND, note, say};
use crate::human::{clean, count};
use crate::output;
use crate::report::{Baseline, CreatedOf, Level, Report, Selection};

/// Adds what the user has silenced. A baseline that cannot be used is wrong usage, so golife ends with a message.
pub(super) fn silence(selection: Selection, silenced: &Silenced) -> Selection {
    let selection = Selection { ignore: silenced.ignore.clone(), ..selection };
    let Some(path) = &silenced.baseline else { return selection };
    if !silenced.write_baseline {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        let read = text.and_then(|text| Baseline::parse(&text).map_err(|error| error.to_string()));
        let baseline = read.unwrap_or_else(|why| refuse(path, &why));
        return Selection { baseline: Some(baseline), ..selection };
    }
    if selection.top.is_some() || selection.min_age_ns.is_some() {
        let message = "--write-baseline needs all sites: leave --top and --min-age out";
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    // A wrong path should not cost a run.
    if !directory(path).is_dir() || path.is_dir() {
        refuse(path, "cannot be written: it is a directory, or not in one");
    }
    selection
}

fn refuse(path: &Path, why: &str) -> ! {
    let message = clean(&format!("--baseline {}: {why}", path.display()));
    Cli::command().error(ErrorKind::ValueValidation, message).exit()
}

/// The exit code of a report: whether a site is judged at the level of `--fail-on` or above that is not silenced, or more was
/// created than may be. If no site is, but some cannot be told, that is said, and with `--strict` it counts as found. Said is
/// also what `--ignore` and `--baseline` have not silenced: what they were about may be mended.
///
/// # Errors
/// The baseline cannot be written.
pub(super) fn judge(report: &Report, fail_on: &FailOn, silenced: &Silenced) -> anyhow::Result<ExitCode> {
    let unused = report.ignored.iter().filter(|ignored| ignored.sites == 0);
    let unused: Vec<_> = unused.map(|ignored| format!("'{}'", ignored.pattern)).collect();
    if !unused.is_empty() {
        note(&format!("no site matches --ignore {}", unused.join(" or ")));
    }
    let unmatched = report.baseline.as_ref().map(|baseline| baseline.unmatched.join(", "));
    if let Some(unmatched) = unmatched.filter(|unmatched| !unmatched.is_empty()) {
        note(&format!("no site is what --baseline lists as {unmatched}"));
    }
    let is_over = report.max_created.iter().filter(|of| is_exceeded(of, report)).count() > 0;
    let is_found = match &silenced.baseline {
        Some(path) if silenced.write_baseline => write(path, report, fail_on)?,
        _ => is_found(report, fail_on),
    };
    Ok(if is_over || is_found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// Whether more was created than may be, which is said. So is what could have been missed.
fn is_exceeded(of: &CreatedOf, report: &Report) -> bool {
    let (created, most) = (count(of.created), count(of.most));
    if of.created > of.most {
        let limit = format!("{created} goroutines were created at sites that match '{}'", of.pattern);
        say(&clean(&format!("golife: {limit}, more than the {most} of --max-created")));
        return true;
    }
    let lost = report.loss.dropped;
    let sites = || report.processes.iter().flat_map(|process| &process.sites);
    let unnamed = sites().filter(|site| site.other).fold(0u64, |sum, site| sum.saturating_add(site.created));
    if lost > 0 || unnamed > 0 {
        let (lost, unnamed) = (count(lost), count(unnamed));
        note(&format!(
            "--max-created counts {created} of '{}', without {lost} records that were lost and {unnamed} goroutines of sites \
             beyond --max-sites",
            of.pattern
        ));
    }
    false
}

fn is_found(report: &Report, fail_on: &FailOn) -> bool {
    let summary = &report.summary;
    let Some(limit) = fail_on.fail_on else { return false };
    if summary.worst().is_some_and(|worst| worst >= limit) {
        return true;
    }
    if summary.unknown == 0 {
        return false;
    }
    let (unknown, sites) = (count(summary.unknown), count(summary.sites));
    say(&format!(
        "golife: --fail-on {} is undecided: {unknown} of {sites} sites cannot be told",
        limit.name()
    ));
    fail_on.strict
}

/// Writes the baseline anew. The file is the old one until it is the new one, whatever happens. Returns whether a site
/// fails all the same, because it cannot be listed.
fn write(path: &Path, report: &Report, fail_on: &FailOn) -> anyhow::Result<bool> {
    let mut text = Vec::new();
    let least = fail_on.fail_on.unwrap_or(Level::Watch);
    let unlisted = output::baseline::write(report, least, &mut text)?;
    replace(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    if unlisted > 0 {
        let sites = if unlisted == 1 { "site is" } else { "sites are" };
        let why = "it is not known which go statement of its function it is";
        note(&format!("{} {sites} not in {}: {why}", count(unlisted as u64), path.display()));
    }
    Ok(unlisted > 0 && fail_on.fail_on.is_some())
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    // What a link leads to is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = directory(&path).join(format!(".{name}.{}", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&new).and_then(|mut file| {
        if let Ok(old) = fs::metadata(&path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// The directory that a file is in.
fn directory(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| ".".into(), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_permissions_and_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("known"), directory.path().join("link"));
        replace(&file, b"one\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("known", &link).unwrap();
        replace(&link, b"two\n").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
        assert!(replace(&directory.path().join("no/known"), b"").is_err());
    }
}
