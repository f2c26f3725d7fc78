//! Measures what it costs to ask a fleet: a synthetic one of 1,000 hosts with 300 sites each, swept once an hour for a day, which is
//! compacted, asked over a quarter of it and more, rolled up, and asked again. DuckDB answers one of the questions over the same
//! files, and its answer must be the same to the row.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use serde_json::Value;

use crate::machine::{self, say};

/// What is made.
const HOSTS: u32 = 1_000;
const SITES: u32 = 300;
const SWEEPS: u32 = 24;
/// The hours that are asked for, back from the end, and the moment in which each of these windows begins.
const WINDOWS: [(u32, &str); 4] = [
    (3, "2026-11-01T21:00:00Z"),
    (6, "2026-11-01T18:00:00Z"),
    (12, "2026-11-01T12:00:00Z"),
    (24, "2026-11-01T00:00:00Z"),
];
/// How many days there are with `--long`.
const DAYS: u32 = 10;
/// What golife-fleet may use for them, in bytes, and how it is told.
const MEMORY: (f64, &str) = ((4u64 << 30) as f64, "3G");
/// Sums of seconds depend on their order, but are the same to this part.
const EXACT: f64 = 1e-9;
/// How DuckDB is asked for merged lifetimes: Python that gets the files and where to write rows, one a line.
const DUCKDB: &str = r#"
import json, sys, duckdb
duckdb.sql("SET enable_progress_bar = false")
rows = duckdb.execute("""
    SELECT service, module, function, ordinal, l.bucket AS bucket, CAST(SUM(l.count) AS BIGINT) AS n
    FROM (SELECT service, module, function, ordinal, UNNEST(lifetime) AS l FROM read_parquet(?)) GROUP BY ALL""", [sys.argv[1]])
with open(sys.argv[2], "w") as out:
    for row in rows.fetchall():
        out.write(json.dumps(row) + "\n")
"#;

/// What a program has cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// User and system time in seconds.
    cpu_s: f64,
    /// Time that has passed, in seconds.
    wall_s: f64,
    /// The most memory, in bytes.
    memory: f64,
}

/// Measures all of it.
pub fn measure(long: bool) -> Result<String> {
    say("fleet: building golife-fleet and the generator in release form");
    let mut cargo = machine::cargo();
    cargo.args(["build", "--quiet", "--release", "--package", "golife-fleet"]);
    machine::run(cargo.args(["--bin", "golife-fleet", "--example", "fleet_data"]))?;
    let directory = machine::target_dir().join("bench");
    let fleet = Fleet {
        program: machine::target_dir().join("release/golife-fleet"),
        store: directory.join("fleet"),
        answer: directory.join("fleet-answer.json"),
    };
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut table = String::from(
        "A synthetic fleet: 1,000 hosts × 300 sites × 24 hourly sweeps. CPU seconds are user and system time of the whole program.\n\n",
    );
    fleet.make(&mut table)?;
    fleet.ask(&mut table)?;
    fleet.merge(&mut table)?;
    if long {
        fleet.ask_long(&mut table)?;
    }
    fs::remove_dir_all(&fleet.store).context("cannot remove the fleet")?;
    fs::remove_file(&fleet.answer).context("cannot remove an answer")?;
    Ok(table)
}

/// The store, and what asks it.
struct Fleet {
    program: PathBuf,
    store: PathBuf,
    answer: PathBuf,
}

impl Fleet {
    /// Makes the store and compacts it; what hosts wrote is deleted then, as it takes four times the room.
    fn make(&self, table: &mut String) -> Result<()> {
        if self.store.exists() {
            fs::remove_dir_all(&self.store).context("cannot remove an old fleet")?;
        }
        say(format!("fleet: writing {} rows", HOSTS * SITES * SWEEPS));
        let mut generator = Command::new(machine::target_dir().join("release/examples/fleet_data"));
        generator.args(["--tidy", "--hosts", &HOSTS.to_string(), "--sites", &SITES.to_string()]);
        let made = cost(generator.args(["--sweeps", &SWEEPS.to_string()]).arg(&self.store))?;
        let raw = size(&self.store.join("sites"))?;
        say("fleet: compacting");
        let compacted = self.run("compact", &[])?;
        self.run("expire", &["--keep", "36500d", "--grace", "0s"])?;
        let bytes = size(&self.store.join("compact"))?;
        let rows = self.rows(None)?;
        writeln!(table, "| | CPU s | wall s | peak MiB | bytes a row |\n|---|---:|---:|---:|---:|")?;
        for (what, cost, bytes) in
            [("writing all files of hosts", made, raw), ("`compact`", compacted, bytes)]
        {
            let Cost { cpu_s, wall_s, memory } = cost;
            let (memory, each) = (memory / 1048576.0, bytes as f64 / rows);
            writeln!(table, "| {what} | {cpu_s:.2} | {wall_s:.1} | {memory:.0} | {each:.1} |")?;
        }
        writeln!(table)?;
        Ok(())
    }

    /// The key questions over more and more of it.
    fn ask(&self, table: &mut String) -> Result<()> {
        let questions: [(&str, &[&str]); 4] = [
            ("leaks", &["--read-only"]),
            ("hist", &["--by", "site", "--top", "100000"]),
            ("capacity", &[]),
            ("capacity", &["--by", "site", "--top", "100000"]),
        ];
        writeln!(
            table,
            "× linear is CPU seconds a row, beside those of the first line of the same question; 1.00 is linear.\n\n\
             | | hours | rows | CPU s | × linear | wall s | peak MiB |\n|---|---:|---:|---:|---:|---:|---:|"
        )?;
        for (command, more) in questions {
            let mut first = None;
            for (hours, since) in WINDOWS {
                say(format!("fleet: {command} {} over {hours} h", more.join(" ")));
                let rows = self.rows(Some(since))?;
                let Cost { cpu_s, wall_s, memory } =
                    self.run(command, &[more, &["--since", since]].concat())?;
                let linear = cpu_s / rows / *first.get_or_insert(cpu_s / rows);
                let name = [command].iter().chain(more).take(3).copied().collect::<Vec<_>>().join(" ");
                let (rows, memory) = (rows / 1e6, memory / 1048576.0);
                writeln!(
                    table,
                    "| `{name}` | {hours} | {rows:.1} M | {cpu_s:.2} | {linear:.2} | {wall_s:.1} | {memory:.0} |"
                )?;
            }
        }
        Ok(())
    }

    /// Merged lifetimes of all of it: by golife, by DuckDB, and by golife from roll-ups.
    fn merge(&self, table: &mut String) -> Result<()> {
        let by_site = ["--by", "site", "--top", "100000"];
        let rows = self.rows(None)? / 1e6;
        say("fleet: merged lifetimes");
        let plain = self.run("hist", &[&by_site[..], &["--no-rollup"]].concat())?;
        let answer = self.answer()?;
        say("fleet: merged lifetimes, by DuckDB");
        let (duckdb, version) = self.duckdb(&answer)?;
        say("fleet: rolling up");
        let made = self.run("rollup", &[])?;
        let bytes = size(&self.store.join("rollup"))? as f64 / 1048576.0;
        let rolled = self.run("hist", &by_site)?;
        compare(&answer, &self.answer()?)?;
        let sites = answer["groups"].as_array().map_or(0, Vec::len);
        writeln!(
            table,
            "\nLifetimes of {rows:.1} M rows, merged for each of {sites} sites. All answers are the same to the row. Roll-ups: \
             {bytes:.1} MiB.\n\n| | CPU s | wall s | peak MiB |\n|---|---:|---:|---:|"
        )?;
        for (what, cost) in [
            ("`hist --by site --no-rollup`".to_owned(), plain),
            (format!("DuckDB {version}, the same"), duckdb),
            ("`rollup`".into(), made),
            ("`hist --by site`, from roll-ups".into(), rolled),
        ] {
            let Cost { cpu_s, wall_s, memory } = cost;
            writeln!(table, "| {what} | {cpu_s:.2} | {wall_s:.1} | {:.0} |", memory / 1048576.0)?;
        }
        Ok(())
    }

    /// Asks DuckDB for the same, whose rows must be those of an answer of `hist`. Returns its version, too.
    fn duckdb(&self, answer: &Value) -> Result<(Cost, String)> {
        let place = machine::duckdb()?;
        let files = self.store.join("compact/*/*/*.parquet");
        let out = self.answer.with_extension("rows");
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &place).args(["-c", DUCKDB]).arg(&files).arg(&out);
        let cost = cost(&mut python)?;
        let mut theirs = BTreeSet::new();
        for line in fs::read_to_string(&out).context("DuckDB has written nothing")?.lines() {
            theirs.insert(serde_json::from_str::<Value>(line)?.to_string());
        }
        fs::remove_file(&out).context("cannot remove an answer")?;
        let mut ours = BTreeSet::new();
        for group in answer["groups"].as_array().context("no groups")? {
            for one in group["lifetime"].as_array().context("no lifetimes")? {
                let site = ["service", "module", "function", "ordinal"].map(|name| group[name].clone());
                let row = site.into_iter().chain(["bucket", "count"].map(|name| one[name].clone()));
                ours.insert(Value::Array(row.collect()).to_string());
            }
        }
        ensure!(
            !ours.is_empty() && ours == theirs,
            "DuckDB has {} rows, golife {}",
            theirs.len(),
            ours.len()
        );
        let version = ["-c", "import duckdb; print(duckdb.__version__)"];
        Ok((cost, machine::output(Command::new("python3").env("PYTHONPATH", &place).args(version))?))
    }

    /// The same files again and again below other days: ten times the rows.
    fn ask_long(&self, table: &mut String) -> Result<()> {
        for top in ["compact", "rollup"] {
            let day = self.store.join(top).join("dt=2026-11-01");
            for more in 1..DAYS {
                let other = self.store.join(top).join(format!("dt=2026-10-{:02}", more + 10));
                machine::run(Command::new("cp").arg("-rl").arg(&day).arg(&other))?;
            }
        }
        let rows = self.rows(None)? / 1e6;
        writeln!(
            table,
            "\nThe same for {rows:.1} M rows, with `--memory {}`.\n\n| | CPU s | wall s | peak MiB |\n|---|---:|---:|---:|",
            MEMORY.1
        )?;
        for (what, more) in
            [("`hist --by site --no-rollup`", Some("--no-rollup")), ("`hist --by site`", None)]
        {
            say(format!("fleet: {rows:.1} M rows, {what}"));
            let fixed = ["--by", "site", "--top", "100000", "--memory", MEMORY.1];
            let Cost { cpu_s, wall_s, memory } =
                self.run("hist", &fixed.into_iter().chain(more).collect::<Vec<_>>())?;
            ensure!(memory <= MEMORY.0, "{what} took {memory} bytes");
            writeln!(table, "| {what} | {cpu_s:.2} | {wall_s:.1} | {:.0} |", memory / 1048576.0)?;
        }
        Ok(())
    }

    /// The number of rows from a moment on.
    fn rows(&self, since: Option<&str>) -> Result<f64> {
        let window: Vec<&str> = since.into_iter().flat_map(|since| ["--since", since]).collect();
        self.run("sql", &[&["SELECT COUNT(*) AS n FROM sites"], &window[..]].concat())?;
        self.answer()?["rows"][0]["n"].as_f64().context("no number of rows")
    }

    fn answer(&self) -> Result<Value> {
        let text = fs::read_to_string(&self.answer).context("there is no answer")?;
        serde_json::from_str(&text).context("the answer is no JSON")
    }

    fn run(&self, command: &str, more: &[&str]) -> Result<Cost> {
        let mut asked = Command::new(&self.program);
        asked.arg(command).arg(&self.store).args(more);
        cost(asked.args(["--format", "json", "--output"]).arg(&self.answer))
    }
}

/// Runs a program to its end, and says what that has cost.
fn cost(command: &mut Command) -> Result<Cost> {
    let start = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot run {command:?}"))?;
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        std::io::Read::read_to_string(&mut errors, &mut said)?;
    }
    let (pid, mut status) = (libc::pid_t::try_from(child.id())?, 0);
    // SAFETY: all numbers of the structure may be 0, and the kernel writes to nothing but it and `status`.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &mut status, 0, &mut usage), usage)
    };
    let wall_s = start.elapsed().as_secs_f64();
    ensure!(waited == pid, "{command:?} cannot be waited for");
    if status != 0 {
        bail!("{command:?} failed ({status}): {}", said.trim());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    Ok(Cost { cpu_s, wall_s, memory: usage.ru_maxrss as f64 * 1024.0 })
}

/// Whether two answers of `hist` are the same to the row.
fn compare(one: &Value, other: &Value) -> Result<()> {
    let groups = |answer: &Value| answer["groups"].as_array().cloned().context("no groups");
    let (one, other) = (groups(one)?, groups(other)?);
    ensure!(one.len() == other.len(), "{} sites, and {} from roll-ups", one.len(), other.len());
    for (mut one, mut other) in one.into_iter().zip(other) {
        let mean = |of: &mut Value| of["mean_s"].take().as_f64().unwrap_or(f64::NAN);
        let (a, b) = (mean(&mut one), mean(&mut other));
        ensure!(one == other && (a / b - 1.0).abs() < EXACT, "not the same: {one} and {other}");
    }
    Ok(())
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
