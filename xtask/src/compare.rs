//! `cargo xtask compare`: golife beside others that look for leaks, as the tables of `docs/compared.md` and
//! `docs/goleak.md`: Go's own profile of leaked goroutines on the corpus of leaks, and goleak on tests.

use std::{ffi::OsStr, process::Command};

use anyhow::{Result, bail};

use crate::{
    machine::{self, is_root, output, say},
    tables,
};

/// The document with the table of Go's own profile.
const PROFILE: &str = "docs/compared.md";
/// The document with the tables of goleak.
const GOLEAK: &str = "docs/goleak.md";
/// The toolchain that has the profile. Go fetches it by itself.
const TOOLCHAIN: &str = "go1.27.3";

/// What `compare` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Compare with this only.
    #[arg(long, value_enum)]
    with: Option<With>,
}

/// What golife is compared with.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum With {
    /// The profile of Go itself.
    Profile,
    /// The module go.uber.org/goleak, for tests. This needs root.
    Goleak,
}

/// Runs what is compared and rewrites the tables.
pub fn run(args: Args) -> Result<()> {
    let go = machine::go()?;
    say(format!("{} at {}", output(Command::new(&go).arg("version"))?, go.display()));
    let path = machine::path_with(&go)?;
    if args.with != Some(With::Goleak) {
        profile(&path)?;
    }
    if args.with != Some(With::Profile) {
        goleak(&path)?;
    }
    Ok(())
}

/// Go's own profile, on the corpus.
fn profile(path: &OsStr) -> Result<()> {
    machine::apt_install(&["gcc", "libc6-dev"])?;
    say(format!("the corpus, by {TOOLCHAIN}"));
    let draft = tables::draft("compared")?;
    machine::run(
        machine::cargo()
            .args(["test", "--package", "tracer-user", "--test", "accuracy", "--"])
            .args(["--exact", "goroutineleak::what_goroutineleak_finds", "--ignored", "--nocapture"])
            .env("PATH", path)
            .env("GOLIFE_ACCURACY_GO", TOOLCHAIN)
            .env("GOLIFE_COMPARED", &draft),
    )?;
    tables::adopt(PROFILE, "compared", &draft)
}

/// goleak, on tests that were made for it. golife is optimised here, since what it costs is measured.
fn goleak(path: &OsStr) -> Result<()> {
    if !is_root()? {
        bail!("tests are traced with real probes: run `cargo xtask compare` as root");
    }
    machine::mount_tracefs()?;
    let (found, costs) = (tables::draft("goleak")?, tables::draft("goleak-costs")?);
    say("goleak and golife on the same tests");
    machine::run(
        machine::cargo()
            .args(["test", "--release", "--package", "tracer-user", "--test", "e2e", "--"])
            .args(["goleak::", "--ignored", "--nocapture", "--test-threads=1"])
            .env("PATH", path)
            .env("GOLIFE_GOLEAK", &found)
            .env("GOLIFE_GOLEAK_COSTS", &costs),
    )?;
    tables::adopt(GOLEAK, "goleak", &found)?;
    tables::adopt(GOLEAK, "goleak-costs", &costs)
}
