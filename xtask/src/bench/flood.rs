//! Measures the highest rate of goroutines that spawn loops reach beside golife, and checks that what does not fit into
//! the ring is counted exactly.

use std::{
    fmt::Write as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::tools::{Golife, Lives, Tools, pinned};
use crate::machine::{output, say};

/// Goroutines that each P starts and ends before the next are asked for: some 20 ms of work.
const BATCH: u32 = 10_000;

/// Floods golife with one P and with two, each with its own ring and with one that is far too small.
pub fn measure(tools: &Tools, seconds: u32) -> Result<String> {
    let binary = tools.fixture("lives")?;
    let path = binary.to_string_lossy();
    let mut table = format!(
        "Spawn loops for {seconds} s: one P has one CPU and golife the other; two Ps leave golife what is left. Received and lost \
         are twice the goroutines, exactly. CPU for each record received: of golife, looks and report included, and of its thread \
         that reads the ring and keeps the table.\n\n\
         | Ps | ring | goroutines | a second | received | lost | golife's CPU | of the reading thread |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for (procs, ring_bytes) in [(1, "16777216"), (1, "16384"), (2, "16777216"), (2, "16384")] {
        say(format!("flood: {seconds} s, {procs} P, a ring of {ring_bytes} bytes"));
        let mut target = Lives::start(&binary, procs)?;
        let command = if procs == 1 { pinned(1, &tools.golife) } else { Command::new(&tools.golife) };
        let golife = Golife::start(command, &["trace", "--exe", &path, "--ring-bytes", ring_bytes])?;
        thread::sleep(Duration::from_millis(700));
        let (reading, start) = (golife.reading_ns()?, Instant::now());
        let (mut lives, mut took) = (0, Duration::ZERO);
        while took < Duration::from_secs(seconds.into()) {
            lives = target.live(BATCH)?.all;
            took = start.elapsed();
        }
        // What is in the ring is read by then.
        thread::sleep(Duration::from_millis(200));
        let reading = golife.reading_ns()? - reading;
        let (report, _) = golife.stop()?;
        let number = |value: &Value| value.as_u64().context("a number is missing in the report");
        let (lost, hits) = (number(&report["loss"]["dropped"])?, number(&report["overhead"]["probe_hits"])?);
        let received = hits - lost;
        // The target says itself what has lived in it, and starts nothing else while golife looks on.
        ensure!(hits == 2 * lives, "{received} received and {lost} lost, but {lives} goroutines lived");
        ensure!(lost > 0 || ring_bytes != "16384", "nothing was lost with a ring of {ring_bytes} bytes");
        let each = |ns: u64| ns as f64 / received as f64;
        writeln!(
            table,
            "| {procs} | {} kB | {lives} | {:.0} | {received} | {lost} | {:.0} ns | {:.0} ns |",
            ring_bytes.parse::<u64>()? / 1024,
            lives as f64 / took.as_secs_f64(),
            each(number(&report["overhead"]["golife_cpu_ns"])?),
            each(reading),
        )?;
    }
    writeln!(table, "\n{}", wake_up(tools)?)?;
    Ok(table)
}

/// How long it takes from the record that fills a quarter of a ring to the reader that it wakes.
fn wake_up(tools: &Tools) -> Result<String> {
    say("flood: how long a wake-up takes");
    let times = output(Command::new(&tools.wake_up).arg(tools.fixture("lives")?))?;
    let mut times: Vec<u64> = times.lines().filter_map(|line| line.parse().ok()).collect();
    times.sort_unstable();
    ensure!(times.len() >= 100, "only {} wake-ups", times.len());
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    Ok(format!(
        "From the record that fills a quarter of a ring to the reader that it wakes, on the other CPU: {:.0} µs in the median, {:.0} µs \
         in 99 of 100 cases, of {}.",
        at(0.5),
        at(0.99),
        times.len()
    ))
}
