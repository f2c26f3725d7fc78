//! `cargo xtask matrix`: the README's table of Go versions and ways to build, made from a test run.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::machine::{self, is_root, output, say};

/// Between these, the README's table is.
const MARKERS: (&str, &str) = ("<!-- matrix -->\n", "<!-- /matrix -->");

/// Runs the test and rewrites the table, also where something is not exact: the README says what is.
pub fn run() -> Result<()> {
    if !is_root()? {
        bail!("the matrix is made with real probes: run `cargo xtask matrix` as root");
    }
    machine::apt_install(&["gcc", "libc6-dev"])?;
    let go = machine::go()?;
    say(format!("{} at {}", output(Command::new(&go).arg("version"))?, go.display()));
    machine::mount_tracefs()?;
    fs::create_dir_all(machine::target_dir()).context("cannot make the directory of build products")?;
    let table = machine::target_dir().join("matrix.md");
    let _ = fs::remove_file(&table); // of an earlier run
    say("every Go version in every way to build; the first time this fetches and compiles a lot");
    let tested = machine::run(
        machine::cargo()
            .args(["test", "--package", "tracer-user", "--test", "e2e", "--"])
            .args(["--exact", "matrix::every_go_in_every_way", "--ignored", "--nocapture"])
            .env("PATH", machine::path_with(&go)?)
            .env("GOLIFE_MATRIX", &table),
    );
    if let Ok(table) = fs::read_to_string(&table) {
        let readme = machine::root().join("README.md");
        let text = fs::read_to_string(&readme).context("cannot read README.md")?;
        fs::write(&readme, with_table(&text, &table)?).context("cannot write README.md")?;
        say("README.md has the new table");
    }
    tested
}

/// The text with another table between the markers.
fn with_table(text: &str, table: &str) -> Result<String> {
    let (start, end) = MARKERS;
    let parts = text.split_once(start).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts.context("README.md has no `<!-- matrix -->` … `<!-- /matrix -->`")?;
    Ok(format!("{before}{start}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- matrix -->\nold\n<!-- /matrix -->\nb\n";
        let new = with_table(text, "new\n").ok();
        assert_eq!(new.as_deref(), Some("a\n<!-- matrix -->\nnew\n<!-- /matrix -->\nb\n"));
        assert!(with_table("a\n", "new\n").is_err());
    }
}
