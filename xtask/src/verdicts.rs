//! `cargo xtask verdicts`: how soon leaks are found, and how often healthy code is accused, as the tables of
//! `docs/verdicts.md`. Goroutines are synthetic; the tracker and the verdict are golife's own.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    machine::{self, say},
    tables,
};

/// The document with all tables. The README has the first one.
const DOCUMENT: &str = "docs/verdicts.md";
/// The name in the comments around the tables, in both documents.
const TABLE: &str = "verdicts";

/// Runs all seeds and rewrites the tables. They are also rewritten if healthy code is accused too often.
pub fn run() -> Result<()> {
    let draft = tables::draft(TABLE)?;
    say("all seeds of all cells, optimized, on all CPUs; some minutes");
    let tested = machine::run(
        machine::cargo()
            .args(["test", "--release", "--package", "tracer-user", "--test", "verdicts", "--"])
            .args(["--exact", "all_seeds", "--ignored", "--nocapture"])
            .env("GOLIFE_VERDICTS_TABLE", &draft),
    );
    if let Ok(all) = fs::read_to_string(&draft) {
        tables::put(DOCUMENT, TABLE, &all)?;
        let first = all.split("\n\n").find(|part| part.starts_with('|')).context("the draft has no table")?;
        tables::put("README.md", TABLE, &format!("{first}\n"))?;
        say(format!("{DOCUMENT} and README.md have the new tables"));
    }
    tested
}
