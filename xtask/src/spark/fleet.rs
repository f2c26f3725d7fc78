//! The sweeps that are asked for: a synthetic fleet with files damaged in every way, and names that mean harm.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::machine;

/// A query for rows of a site that only the newest version has, called by what SQL, a terminal or a path may take for something else.
pub const HOSTILE: &str = "SELECT /*+ COALESCE(1) */ sweep_time, host, service, version, build_id, go_version, image, module, \
    concat(function, ''' OR 1=1; DROP TABLE sites; -- \\n\\u001b[31m\\u202e../\\u0022{}%$`') AS function, \
    file, line, ordinal, entry, created, exited, live, at_attach, oldest_ns, oldest_at_least, stack_bytes, waits, 'suspect' AS level, \
    cause, evidence, lifetime, lifetime_count, lifetime_sum_s, hdr, counts, dropped, pid, processes, started, window_ns, memory_limit, \
    blame FROM sites WHERE version = 'v1.1.0' AND hour = 6 AND host = 'node-00001'";
/// Where that becomes a file of the store, by an hour that its rows are of.
const HOSTILE_PLACE: &str = "sites/dt=2026-11-01/hour=06/hostile-20261101T060000.000Z-00000bad.parquet";
const EMPTY: &str = "sites/dt=2026-11-01/hour=00/empty-20261101T000000.000Z-00000001.parquet";
const TEXT: &str = "sites/dt=2026-11-01/hour=00/text-20261101T000000.000Z-00000002.parquet";
const STRANGE: &str = "sites/dt=2026-11-01/hour=00/strange.parquet";
const BROKEN: &str = "sites/dt=2026-11-01/hour=01/broken-20261101T010000.000Z-00000003.parquet";

/// Builds golife-fleet and fleet_data, and returns the folder with both.
pub fn programs() -> Result<PathBuf> {
    let folder = machine::target_dir().join("spark/programs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let build =
        ["build", "--quiet", "--package", "golife-fleet", "--bin", "golife-fleet", "--example", "fleet_data"];
    machine::run(machine::cargo().args(build))?;
    for made in ["golife-fleet", "examples/fleet_data"] {
        let made = machine::target_dir().join("debug").join(made);
        let name = made.file_name().context("a program has a name")?;
        fs::copy(&made, folder.join(name)).with_context(|| format!("cannot copy {}", made.display()))?;
    }
    Ok(folder)
}

/// Makes a fleet anew.
pub fn make(programs: &Path, folder: &Path, arguments: &[&str]) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    machine::run(Command::new(programs.join("fleet_data")).args(arguments).arg(folder))?;
    Ok(folder.to_path_buf())
}

/// Adds files that are no sweeps, and one of which all but the footer is broken.
pub fn damage(store: &Path) -> Result<()> {
    fs::write(store.join(EMPTY), "")?;
    fs::write(store.join(TEXT), "PAR1 this is no Parquet PAR1")?;
    let folder = store.join("sites/dt=2026-11-01/hour=01");
    let mut files = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(fs::DirEntry::path);
    let mut bytes = fs::read(files.first().context("no file in the hour of 1")?.path())?;
    fs::write(store.join(STRANGE), &bytes)?;
    let first = files[0].path();
    let name = first.to_string_lossy();
    let sweep = name.rsplit_once('-').context("a sweep file has dashes in its name")?.0;
    fs::copy(&first, format!("{sweep}-ffffffff.parquet"))?;
    // Between the magic number and the footer. Of a file with one broken column, queries that need no more than the others count the
    // rows, and which queries these are depends on the engine; so all columns are broken.
    let tail = bytes.len().checked_sub(8).context("a file is shorter than its end")?;
    let footer = u32::from_le_bytes(bytes[tail..tail + 4].try_into()?) as usize;
    bytes[4..tail - footer].fill(0xff);
    fs::write(store.join(BROKEN), &bytes)?;
    Ok(())
}

/// Takes the only file that Spark has written into the store.
pub fn adopt(made: &Path, store: &Path) -> Result<()> {
    let is_part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
    let files = fs::read_dir(made)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let parts: Vec<_> = files.into_iter().filter(is_part).collect();
    ensure!(parts.len() == 1, "{} files in place of one", parts.len());
    fs::rename(&parts[0], store.join(HOSTILE_PLACE))?;
    fs::remove_dir_all(made).context("cannot remove what Spark wrote")
}

/// Checks that all that is damaged was named, in the job's last line.
pub fn left_out(line: &str) -> Result<()> {
    let said: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    for (name, why) in [
        (EMPTY, "is empty"),
        (TEXT, "cannot be read"),
        (STRANGE, "not named as a sweep file"),
        (BROKEN, "cannot be read"),
    ] {
        let is_said = said["left_out"][name].as_str().is_some_and(|said| said.starts_with(why));
        ensure!(is_said, "{name} is not named as left out because it {why}: {line}");
    }
    Ok(())
}
