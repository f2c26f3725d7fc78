//! Measures what a goroutine's whole life, creation and exit, costs the target: with golife, with the least that probes
//! can cost, with probes on single-stepped instructions, and with bpftrace.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;

use super::tools::{Beside, Golife, Tools, churn};
use crate::machine::say;

/// Seconds of each single measurement.
const SECONDS: f64 = 0.5;
/// Number of measurements in a row. The best one counts, since the rest of the machine can only make one slower, and
/// seldom leaves it alone for as long as all of them take.
const REPEATS: u32 = 6;

/// The ways to watch, by their names in the table.
const WAYS: [&str; 6] =
    ["no probes", FLOOR, GOLIFE, STACKS, "golife's records, single-stepped sites", BPFTRACE];
const FLOOR: &str = "floor: empty programs at golife's sites";
const GOLIFE: &str = "golife trace";
const STACKS: &str = "golife trace --creation-stacks";
const BPFTRACE: &str = "bpftrace on the functions' entries";

/// Measures all ways in turn, so that each has its share of the machine's moods, and takes the best of each.
pub fn measure(tools: &Tools, rounds: u32) -> Result<String> {
    let binary = tools.fixture("churn")?;
    let mut best = [[f64::INFINITY; 2]; WAYS.len()];
    for round in 1..=rounds {
        for (way, name) in WAYS.into_iter().enumerate() {
            if name == BPFTRACE && tools.bpftrace.is_none() {
                continue;
            }
            say(format!("cost, round {round} of {rounds}: {name}"));
            for procs in [1, 2] {
                let ns = with(tools, name, &binary, || {
                    (0..REPEATS)
                        .try_fold(f64::INFINITY, |best, _| Ok(best.min(churn(&binary, procs, SECONDS)?.1)))
                })?;
                let cell = &mut best[way][procs as usize - 1];
                *cell = cell.min(ns);
            }
        }
    }
    let mut table = String::from(
        "CPU time of one goroutine's life in the target, best of the rounds\n\n\
         | | one P, ns | added | × floor | two Ps, ns | added | × floor |\n|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (way, name) in WAYS.into_iter().enumerate() {
        write!(table, "| {name} ")?;
        for (procs, ns) in best[way].into_iter().enumerate() {
            let (bare, floor) = (best[0][procs], best[1][procs]);
            match (ns.is_finite(), way) {
                (false, _) => write!(table, "| – | – | – ")?,
                (true, 0) => write!(table, "| {ns:.0} | | ")?,
                (true, _) => {
                    write!(table, "| {ns:.0} | {:.0} | {:.2} ", ns - bare, (ns - bare) / (floor - bare))?
                }
            }
        }
        table.push_str("|\n");
    }
    let added = |way: usize, procs: usize| best[way][procs] - best[0][procs];
    writeln!(
        table,
        "\ngolife adds {:.0} × less than bpftrace with one P, {:.0} × less with two.",
        added(5, 0) / added(2, 0),
        added(5, 1) / added(2, 1)
    )?;
    Ok(table)
}

fn with(tools: &Tools, name: &str, binary: &Path, body: impl FnOnce() -> Result<f64>) -> Result<f64> {
    let path = binary.to_string_lossy();
    let placed =
        |program, placement| Beside::start(&tools.place_probes, &[&path, program, placement], "live");
    match (name, &tools.bpftrace) {
        (FLOOR, _) => {
            let beside = placed("floor", "cheapest")?;
            let ns = body();
            beside.stop()?;
            ns
        }
        (GOLIFE | STACKS, _) => {
            let flag = (name == STACKS).then_some("--creation-stacks");
            let arguments: Vec<&str> = ["trace", "--exe", &path].into_iter().chain(flag).collect();
            let golife = Golife::beside(tools, &arguments)?;
            // golife's calibration at the start shares no CPU with the target, but is given the time to end.
            std::thread::sleep(std::time::Duration::from_millis(700));
            let ns = body();
            golife.stop()?;
            ns
        }
        (BPFTRACE, Some(bpftrace)) => {
            let script = format!(
                "interval:ms:200 {{ printf(\"live\\n\"); }} \
                 uprobe:{path}:runtime.newproc1 {{ @created = count(); }} uprobe:{path}:runtime.goexit1 {{ @exited = count(); }}"
            );
            let beside = Beside::start(bpftrace, &["-e", &script], "live")?;
            let ns = body();
            beside.stop()?;
            ns
        }
        ("no probes", _) => body(),
        _ => {
            let beside = placed("records", "single-stepped")?;
            let ns = body();
            beside.stop()?;
            ns
        }
    }
}
