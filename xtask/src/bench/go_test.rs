//! Measures what `golife run` adds to `go test ./...` of a module with many packages: the tests with and without golife in
//! turns, each pair a ratio, since a machine's pace changes within minutes.

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::Value;

use super::tools::Tools;
use crate::machine::{self, say};

/// A module whose 48 packages with tests need nothing but each other, by path and version.
const MODULE: &str = "golang.org/x/text@v0.29.0";
/// The fewest pairs of which a median says something.
const FEWEST: u32 = 10;

/// What a run took.
struct Took {
    wall_s: f64,
    /// CPU time of all processes, golife's included.
    cpu_s: f64,
}

/// Runs the tests in pairs, `rounds` times but at least ten.
pub fn measure(tools: &Tools, rounds: u32) -> Result<String> {
    let module = module(tools)?;
    let report = tools.directory().join("go-test.json");
    let command = |with_golife: bool| {
        let mut command = Command::new(if with_golife { &tools.golife } else { &tools.go });
        if with_golife {
            command.args(["run", "--format", "json", "--output"]).arg(&report).arg("--").arg(&tools.go);
        }
        command.current_dir(&module).env("GOENV", "off").env("GOFLAGS", "");
        command.args(["test", "-short", "-count=1", "./..."]).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    say(format!("go test: compiling {MODULE}"));
    run(command(false))?;
    let rounds = rounds.max(FEWEST);
    let (mut wall, mut cpu, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        say(format!("go test: pair {} of {rounds}", round + 1));
        // Whoever comes second may profit from the first, so they take turns in that, too.
        let (plain, traced) = if round % 2 == 0 {
            let plain = run(command(false))?;
            (plain, run(command(true))?)
        } else {
            let traced = run(command(true))?;
            (run(command(false))?, traced)
        };
        wall.push(traced.wall_s / plain.wall_s);
        cpu.push(traced.cpu_s / plain.cpu_s);
        let text = std::fs::read_to_string(&report).context("golife has written no report")?;
        let report: Value = serde_json::from_str(&text).context("golife's report is no JSON")?;
        let ns = |field: &str| report["overhead"][field].as_f64().unwrap_or(f64::NAN);
        own.push((ns("golife_cpu_ns") + ns("target_cpu_ns")) / 1e9 / plain.cpu_s);
    }
    let mut table = format!(
        "`golife run -- go test -short -count=1 ./...` of {MODULE}, {rounds} pairs, with and without golife\n\n\
         | | median | quartiles |\n|---|---:|---:|\n"
    );
    for (what, ratios) in [
        ("time until the end, ratio", &mut wall),
        ("CPU time of all processes, ratio", &mut cpu),
        ("of it by golife and its probes, as golife counts it", &mut own),
    ] {
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios.get(ratios.len() * part / 4).copied().unwrap_or(f64::NAN);
        writeln!(table, "| {what} | {:.3} | {:.3} to {:.3} |", at(2), at(1), at(3))?;
    }
    Ok(table)
}

/// A copy of the module, as tests may write beside their sources.
fn module(tools: &Tools) -> Result<PathBuf> {
    let copy = tools.directory().join("go-test");
    if !copy.join("go.mod").exists() {
        say(format!("fetching {MODULE}"));
        let fetched = machine::output(Command::new(&tools.go).args(["mod", "download", "-json", MODULE]))?;
        let fetched: Value = serde_json::from_str(&fetched).context("go's answer is no JSON")?;
        let source = fetched["Dir"].as_str().context("go does not say where the module is")?;
        machine::run(Command::new("cp").args(["-r", "--no-preserve=mode", source]).arg(&copy))?;
    }
    Ok(copy)
}

fn run(mut command: Command) -> Result<Took> {
    let used = || -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the CPU time")?;
        Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
    };
    let (start, before) = (Instant::now(), used()?);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(Took { wall_s: start.elapsed().as_secs_f64(), cpu_s: used()? - before })
}
