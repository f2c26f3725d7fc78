//! Measures how long it takes from golife's start to live probes, and from Ctrl-C to its end, on large binaries. Each
//! is measured as on a host that has never read the binary (with the page cache dropped), and again with the binary in
//! the page cache.

use std::{fmt::Write as _, fs, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::tools::{Golife, Tools};
use crate::{
    machine::{self, say},
    programs,
};

/// Attaches to each binary `rounds` times, cold and cached.
pub fn measure(tools: &Tools, rounds: u32) -> Result<String> {
    let mut table = String::from(
        "From golife's start to live probes, and from Ctrl-C to its end (report and detaching), median of the rounds\n\n\
         | binary | MB | cold, live | cached, live | ended |\n|---|---:|---:|---:|---:|\n",
    );
    let dockerd = programs::debian(&["docker.io"])?.join("usr/sbin/dockerd");
    let prometheus = programs::with_dwarf(&tools.go)?;
    for (name, binary) in [("dockerd (stripped)", dockerd), ("prometheus (with DWARF)", prometheus)] {
        say(format!("start: {name}"));
        let size =
            fs::metadata(&binary).with_context(|| format!("cannot look at {}", binary.display()))?.len();
        let path = binary.to_string_lossy();
        let (mut cold, mut warm, mut end) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            machine::run(machine::as_root("sh")?.args(["-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]))?;
            // golife's own pages are not to be measured, so they are read first.
            machine::output(Command::new(&tools.golife).arg("--version"))?;
            for times in [&mut cold, &mut warm] {
                let golife = Golife::alone(tools, &["trace", "--exe", &path])?;
                times.push(golife.until_live);
                std::thread::sleep(Duration::from_secs(2));
                end.push(golife.stop()?.1);
            }
        }
        writeln!(
            table,
            "| {name} | {} | {:.0} ms | {:.0} ms | {:.0} ms |",
            size / 1_000_000,
            median(&mut cold),
            median(&mut warm),
            median(&mut end),
        )?;
    }
    Ok(table)
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
}
