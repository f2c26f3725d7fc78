//! Measures golife's own memory: the fixed part, and what each live goroutine adds.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::tools::{Golife, Tools};
use crate::machine::say;

/// Number of live goroutines.
const MANY: u64 = 1_000_000;

/// Resident memory of golife with none and with a million live goroutines.
pub fn measure(tools: &Tools) -> Result<String> {
    let binary = tools.fixture("million")?;
    say("footprint: no goroutines, then a million");
    let (fixed, fixed_peak) = resident(tools, &binary, 1)?;
    let (all, peak) = resident(tools, &binary, MANY)?;
    let per = |bytes: u64, base: u64| bytes.saturating_sub(base) as f64 / MANY as f64;
    Ok(format!(
        "golife's memory (anonymous and file pages; the 16 MiB ring is mapped twice)\n\n\
         | | fixed | with {MANY} live | for each |\n|---|---:|---:|---:|\n\
         | resident | {:.1} MiB | {:.1} MiB | {:.1} B |\n| peak | {:.1} MiB | {:.1} MiB | {:.1} B |\n",
        mib(fixed),
        mib(all),
        per(all, fixed),
        mib(fixed_peak),
        mib(peak),
        per(peak, fixed_peak),
    ))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Anonymous memory now and at most (`RssAnon`, and `VmHWM` less what is not anonymous), in bytes. The ring's pages are
/// the kernel's and do not grow with goroutines.
fn resident(tools: &Tools, binary: &Path, goroutines: u64) -> Result<(u64, u64)> {
    let mut target = Command::new(binary)
        .args(["-n", &goroutines.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the fixture")?;
    let mut lines = BufReader::new(target.stdout.take().context("no pipe")?).lines();
    let mut next =
        || lines.next().context("the fixture ended early")?.context("cannot read from the fixture");
    next()?;
    let golife = Golife::beside(tools, &["trace", "--pid", &target.id().to_string(), "--interval", "100ms"])?;
    target.stdin.as_mut().context("no pipe")?.write_all(b"\n")?;
    next()?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let status = fs::read_to_string(format!("/proc/{}/status", golife.pid()))?;
    let field = |name: &str| -> Result<u64> {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).context("no such field in status")?;
        Ok(1024 * line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>()?)
    };
    let (now, rest) = (field("RssAnon")?, field("RssFile")? + field("RssShmem")?);
    let peak = field("VmHWM")?.saturating_sub(rest);
    golife.stop()?;
    drop(target.stdin.take());
    target.wait()?;
    Ok((now, peak))
}
