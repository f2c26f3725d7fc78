//! `cargo xtask matrix`: the table of `docs/tested.md` with Go versions and ways to build, made from a test run.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    machine::{self, is_root, output, say},
    tables,
};

/// Runs the test and rewrites the table. It is also rewritten if something is not exact, since the table says what is
/// and what is not.
pub fn run() -> Result<()> {
    if !is_root()? {
        bail!("the matrix is made with real probes: run `cargo xtask matrix` as root");
    }
    machine::apt_install(&["gcc", "libc6-dev"])?;
    let go = machine::go()?;
    say(format!("{} at {}", output(Command::new(&go).arg("version"))?, go.display()));
    machine::mount_tracefs()?;
    let table = tables::draft("matrix")?;
    say("every Go version in every way to build; the first time this fetches and compiles a lot");
    let tested = machine::run(
        machine::cargo()
            .args(["test", "--package", "tracer-user", "--test", "e2e", "--"])
            .args(["--exact", "matrix::every_go_in_every_way", "--ignored", "--nocapture"])
            .env("PATH", machine::path_with(&go)?)
            .env("GOLIFE_MATRIX", &table),
    );
    tables::adopt(tables::TESTED, "matrix", &table)?;
    tested
}
