//! Measures the highest rate of goroutines that a spawn loop reaches on the other CPU, and checks that what does not
//! fit into the ring is counted exactly.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use super::tools::{Golife, Tools, churn};
use crate::machine::say;

/// Floods golife, once with its own ring and once with one that is far too small.
pub fn measure(tools: &Tools, seconds: u32) -> Result<String> {
    let binary = tools.fixture("churn")?;
    let path = binary.to_string_lossy();
    let mut table = format!(
        "A spawn loop on one CPU, golife on the other, {seconds} s\n\n\
         | ring | goroutines | a second | received | lost | received + lost | by the target's own count | golife's CPU for an event |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for ring_bytes in ["16777216", "16384"] {
        say(format!("flood: {seconds} s with a ring of {ring_bytes} bytes"));
        let golife = Golife::beside(tools, &["trace", "--exe", &path, "--ring-bytes", ring_bytes])?;
        std::thread::sleep(std::time::Duration::from_millis(700));
        let (lives, _) = churn(&binary, 1, f64::from(seconds))?;
        let (report, _) = golife.stop()?;
        let number = |value: &Value| value.as_u64().context("a number is missing in the report");
        let (lost, hits) = (number(&report["loss"]["dropped"])?, number(&report["overhead"]["probe_hits"])?);
        // Each goroutine has two records. The target's count has neither the runtime's goroutines nor the main one.
        let counted = 2 * lives;
        writeln!(
            table,
            "| {} kB | {lives} | {} | {} | {lost} | {hits} | {counted} + {} of the runtime | {:.0} ns |",
            ring_bytes.parse::<u64>()? / 1024,
            lives / u64::from(seconds),
            hits - lost,
            hits as i64 - counted as i64,
            number(&report["overhead"]["golife_cpu_ns"])? as f64 / hits as f64,
        )?;
    }
    Ok(table)
}
