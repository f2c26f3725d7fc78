//! `cargo xtask kernels`: the e2e tests on other kernels and CPU architectures than this machine's, in emulation.
//!
//! Each kernel is a Debian package, booted by QEMU with nothing but busybox, golife, the tests and the Go programs that
//! they trace. Emulation tells whether things work, never how long they take.

pub mod architecture;
mod debian;
mod guest;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use architecture::{ARM64, Architecture, X86_64};
use debian::{Suite, entries};
use guest::{Emulator, Outcome};
use programs::{Programs, with_modules};

use crate::{
    machine::{self, say},
    tables,
};

/// What `kernels` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Only these kernels, e.g. 6.1 [default: all]
    releases: Vec<String>,
    /// Only this CPU architecture: x86-64 or arm64 [default: both]
    #[arg(long, value_parser = architecture::named)]
    arch: Vec<&'static Architecture>,
    /// Only tests whose names contain this (repeatable); the table stays as it is
    #[arg(long)]
    test: Vec<String>,
}

/// The kernels to test on, from the lowest that golife supports on.
const RELEASES: [&str; 3] = ["5.10", "6.1", "6.12"];

/// The part of the tests that runs without a Go compiler or another tool.
const TESTS: [&str; 7] =
    ["ancestry::", "containers::", "counts::", "errors::", "inspect::", "processes::", "program::"];

/// Tests of that part which cannot run in a guest, since they pretend an older kernel, compile something, open a terminal, or
/// need the C library of this machine.
const NOT_THERE: [&str; 4] =
    ["as_on_linux", "a_real_32_bit_go_program", "a_closed_terminal", "without_memory"];

/// Boots every kernel and runs the tests.
pub fn run(args: Args) -> Result<()> {
    let Args { releases, arch, test: filters } = args;
    if let Some(unknown) = releases.iter().find(|release| !RELEASES.contains(&release.as_str())) {
        bail!("no kernel {unknown}: there are {}", RELEASES.join(", "));
    }
    let chosen = if arch.is_empty() { architecture::ALL.to_vec() } else { arch };
    let is_wanted = |release: &&str| releases.is_empty() || releases.iter().any(|name| name == release);
    machine::apt_install(&["cpio", "xz-utils"])?;
    let go = machine::go()?;
    let directory = machine::target_dir().join("kernels");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;

    let native = Programs::build(native(), &directory)?;
    let programs = chosen
        .iter()
        .map(|architecture| Programs::build(architecture, &directory))
        .collect::<Result<Vec<_>>>()?;
    let tests = if filters.is_empty() { TESTS.map(str::to_owned).to_vec() } else { filters.clone() };
    let tests: Vec<String> = tests
        .into_iter()
        .chain(NOT_THERE.iter().flat_map(|test| ["--skip".into(), (*test).into()]))
        .collect();
    native.try_here(&tests, &programs.iter().collect::<Vec<_>>(), &go)?;

    let mut failed = Vec::new();
    for (architecture, programs) in chosen.into_iter().zip(&programs) {
        let emulator = Emulator::ensure(architecture, &directory)?;
        let initramfs = programs.initramfs(&directory, &tests)?;
        for release in RELEASES.iter().filter(|release| is_wanted(release)) {
            let kernel = Kernel { release, architecture };
            let outcome = kernel.test(&emulator, &initramfs, &directory)?;
            say(format!("{kernel}, {} s: {:?}", outcome.took.as_secs(), outcome.verdict));
            if outcome.verdict.is_err() {
                failed.push(kernel.to_string());
            }
            // Each row is written at once, since all kernels together take an hour, which may be cut short.
            if filters.is_empty() {
                let draft = tables::draft("kernels")?;
                fs::write(
                    &draft,
                    with_row(&tables::table(tables::TESTED, "kernels")?, &kernel.row(&outcome)),
                )?;
                tables::adopt(tables::TESTED, "kernels", &draft)?;
            }
        }
    }
    if !failed.is_empty() {
        bail!("the tests failed on {}; the logs are in {}", failed.join(", "), directory.display());
    }
    Ok(())
}

/// This machine's architecture, for which the tests are tried first.
fn native() -> &'static Architecture {
    if cfg!(target_arch = "aarch64") { &ARM64 } else { &X86_64 }
}

/// A kernel that Debian has.
struct Kernel<'a> {
    release: &'a str,
    architecture: &'a Architecture,
}

impl std::fmt::Display for Kernel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Linux {}, {}", self.release, self.architecture.name)
    }
}

impl Kernel<'_> {
    /// The suite that has the package `linux-image-cloud-…` of this release.
    fn suite(&self) -> &'static str {
        match self.release {
            "5.10" => self.architecture.suite_5_10,
            "6.1" => "bookworm-security",
            _ => "bookworm-backports",
        }
    }

    fn test(&self, emulator: &Emulator, initramfs: &Path, directory: &Path) -> Result<Outcome> {
        let Kernel { release, architecture } = self;
        let place = directory.join(architecture.name).join(release);
        let suite = Suite { name: self.suite(), architecture: architecture.debian, place: &place };
        suite.unpack(&[&format!("linux-image-cloud-{}", architecture.debian)], &place.join("root"))?;
        let is_image = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        };
        let image = entries(&place.join("root/boot"))?.into_iter().find(is_image);
        let image = image.with_context(|| format!("no kernel in {}", place.display()))?;
        let initramfs = with_modules(&place, initramfs)?;
        let log = directory.join(format!("{}-{release}.log", architecture.name));
        let outcome = guest::boot(architecture, emulator, &image, &initramfs, &log);
        let _ = fs::remove_file(initramfs); // some hundred megabytes
        outcome
    }

    /// How the row of this kernel in the table begins.
    fn key(&self) -> String {
        format!("| {} | {} |", self.release, self.architecture.name)
    }

    fn row(&self, outcome: &Outcome) -> String {
        let found = match &outcome.verdict {
            Ok(said) => format!("all {} pass", passed(said)),
            Err(why) => format!("FAILED: {}", why.trim_start_matches("FAILED. ").replace('|', " ")),
        };
        format!("{} {} | {found} |", self.key(), outcome.release.as_deref().unwrap_or("–"))
    }
}

/// The number of tests that passed, from what they say at their end: `ok. 39 passed; 0 failed; …`.
fn passed(said: &str) -> &str {
    said.split_whitespace().nth(1).unwrap_or(said)
}

/// The table with this row, which replaces the one that begins alike.
fn with_row(table: &str, new: &str) -> String {
    let head = "| Linux | CPU | Debian's kernel | e2e tests |\n|---|---|---|---|\n";
    let rows = architecture::ALL.iter().flat_map(|architecture| {
        RELEASES.iter().rev().filter_map(move |release| {
            let key = Kernel { release, architecture }.key();
            let mut rows = std::iter::once(new).chain(table.lines());
            rows.find(|row| row.starts_with(&key)).map(|row| format!("{row}\n"))
        })
    });
    head.to_owned() + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_kernels_that_were_not_run_stay() {
        let old = "| Linux |\n|---|\n| 6.1 | x86-64 | a | all 1 pass |\n| 6.1 | arm64 | b | all 2 pass |\n";
        let rows = |table: &str| table.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
        let changed = with_row(old, "| 6.1 | x86-64 | c | FAILED: why |");
        assert_eq!(
            rows(&changed),
            ["| 6.1 | x86-64 | c | FAILED: why |", "| 6.1 | arm64 | b | all 2 pass |"]
        );
        let more = with_row(&changed, "| 6.12 | arm64 | d | all 3 pass |");
        assert_eq!(
            rows(&more),
            [
                "| 6.1 | x86-64 | c | FAILED: why |",
                "| 6.12 | arm64 | d | all 3 pass |",
                "| 6.1 | arm64 | b | all 2 pass |",
            ]
        );
    }
}
