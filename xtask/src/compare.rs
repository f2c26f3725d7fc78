//! `cargo xtask compare`: what Go's own profile of leaked goroutines finds in the corpus of leaks, as the table of
//! `docs/compared.md`.

use std::process::Command;

use anyhow::Result;

use crate::{
    machine::{self, output, say},
    tables,
};

/// The document with the table.
const DOCUMENT: &str = "docs/compared.md";
/// The toolchain that has the profile. Go fetches it by itself.
const TOOLCHAIN: &str = "go1.27.3";

/// Runs the corpus and rewrites the table.
pub fn run() -> Result<()> {
    machine::apt_install(&["gcc", "libc6-dev"])?;
    let go = machine::go()?;
    say(format!("{}, and {TOOLCHAIN} for the corpus", output(Command::new(&go).arg("version"))?));
    let draft = tables::draft("compared")?;
    machine::run(
        machine::cargo()
            .args(["test", "--package", "tracer-user", "--test", "accuracy", "--"])
            .args(["--exact", "goroutineleak::what_goroutineleak_finds", "--ignored", "--nocapture"])
            .env("PATH", machine::path_with(&go)?)
            .env("GOLIFE_ACCURACY_GO", TOOLCHAIN)
            .env("GOLIFE_COMPARED", &draft),
    )?;
    tables::adopt(DOCUMENT, "compared", &draft)
}
