//! Measures whether golife's work grows with what there is, and no faster: each amount and half of it, with the ratio.
//! CPU time counts, not time that passes, so that little depends on what else the machine does.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use super::tools::Tools;
use crate::machine::{self, Guard, say};

/// How many `go` statements have a goroutine that waits on the same channel.
const SITES: usize = 10_000;
/// How many goroutines one process has.
const GOROUTINES: usize = 100_000;
/// How many processes there are.
const PROCESSES: usize = 1_000;

/// Measures all of them.
pub fn measure(tools: &Tools) -> Result<String> {
    let mut table = String::from(
        "CPU time of golife for half of it and for all of it; 2.0 is linear, and less where something is fixed.\n\n\
         | | | half, s | all, s | × |\n|---|---|---:|---:|---:|\n",
    );
    let mut rows = |what: &str, name: &str, half: Vec<Guard>, all: &dyn Fn() -> Result<Vec<Guard>>| {
        let ways: [&[&str]; 3] =
            [&["sweep"], &["trace", "--for", "1s"], &["trace", "--for", "1s", "--format", "pprof"]];
        let first = ways.map(|way| cpu(tools, way, name));
        drop(half);
        let _running = all()?;
        for (way, half) in ways.iter().zip(first) {
            let (half, all) = (half?, cpu(tools, way, name)?);
            let ratio = all / half.max(0.001);
            writeln!(table, "| {what} | `golife {}` | {half:.2} | {all:.2} | {ratio:.1} |", way.join(" "))?;
        }
        anyhow::Ok(())
    };
    say(format!("scale: {SITES} statements"));
    let (half, all) = (statements(tools, SITES / 2)?, statements(tools, SITES)?);
    let waits = &format!("{SITES} `go` statements, one channel");
    rows(waits, "^golife-scale-", vec![start(&half, &[])?], &|| Ok(vec![start(&all, &[])?]))?;
    say(format!("scale: {GOROUTINES} goroutines"));
    let crowd = tools.fixture("crowd")?;
    let of = |n: usize| start(&crowd, &["-n", &n.to_string()]);
    let live = &format!("{GOROUTINES} goroutines");
    rows(live, "^crowd", vec![of(GOROUTINES / 2)?], &|| Ok(vec![of(GOROUTINES)?]))?;
    say(format!("scale: {PROCESSES} processes"));
    let tiny = statements(tools, 1)?;
    let many = |n: usize| (0..n).map(|_| start(&tiny, &[])).collect::<Result<Vec<_>>>();
    let processes = &format!("{PROCESSES} processes");
    rows(processes, "^golife-scale-", many(PROCESSES / 2)?, &|| many(PROCESSES))?;
    Ok(table)
}

/// The CPU time of golife that looks at the processes of this name, in seconds.
fn cpu(tools: &Tools, way: &[&str], name: &str) -> Result<f64> {
    let used = || -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
    };
    let before = used()?;
    let output =
        Command::new(&tools.golife).args(way).args(["--name", name]).output().context("cannot run golife")?;
    ensure!(output.status.success(), "golife failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(used()? - before)
}

/// Starts a program, and waits for its first line: it is ready then. It ends with its standard input.
fn start(binary: &Path, arguments: &[&str]) -> Result<Guard> {
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
    Ok(Guard(child))
}

/// Builds a program with so many `go` statements, each of which has one goroutine that sends on the same channel.
fn statements(tools: &Tools, n: usize) -> Result<PathBuf> {
    let directory = tools.directory().join(format!("scale-{n}"));
    fs::create_dir_all(&directory)?;
    let mut source =
        String::from("package main\n\nimport \"os\"\n\nvar block = make(chan int)\n\nfunc main() {\n");
    // The compiler takes long for one large function.
    let parts = (0..n).step_by(100);
    for part in parts.clone() {
        writeln!(source, "\tpart{part}()")?;
    }
    source.push_str("\tos.Stdout.WriteString(\"ready\\n\")\n\tos.Stdin.Read(make([]byte, 1))\n}\n");
    for part in parts {
        writeln!(source, "\nfunc part{part}() {{")?;
        (part..n.min(part + 100)).try_for_each(|at| writeln!(source, "\tgo func() {{ block <- {at} }}()"))?;
        source.push_str("}\n");
    }
    fs::write(directory.join("main.go"), source)?;
    fs::write(directory.join("go.mod"), "module golife.test/scale\n\ngo 1.21\n")?;
    let binary = directory.join(format!("golife-scale-{n}"));
    let mut go = Command::new(&tools.go);
    machine::run(go.args(["build", "-o"]).arg(&binary).arg(".").current_dir(&directory).env("GOFLAGS", ""))?;
    Ok(binary)
}
