//! How long it takes from golife's start to live probes, and from Ctrl-C to its end, on large binaries: as on a host
//! that has never read them (page cache dropped), and again.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::tools::{Golife, Tools};
use crate::machine::{self, say};

/// A large program with debug information, by module and version.
const WITH_DWARF: (&str, &str) = ("github.com/prometheus/prometheus/cmd/prometheus", "v0.305.0");

/// Attaches to each binary `rounds` times, cold and cached.
pub fn measure(tools: &Tools, rounds: u32) -> Result<String> {
    let mut table = String::from(
        "From golife's start to live probes, and from Ctrl-C to its end (report and detaching), median of the rounds\n\n\
         | binary | MB | cold, live | cached, live | ended |\n|---|---:|---:|---:|---:|\n",
    );
    for (name, binary) in
        [("dockerd (stripped)", dockerd(tools)?), ("prometheus (with DWARF)", with_dwarf(tools)?)]
    {
        say(format!("start: {name}"));
        let size =
            fs::metadata(&binary).with_context(|| format!("cannot look at {}", binary.display()))?.len();
        let path = binary.to_string_lossy();
        let (mut cold, mut warm, mut end) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            machine::run(machine::as_root("sh")?.args(["-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]))?;
            // golife's own pages are not the question here.
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

/// Debian's dockerd, unpacked, not installed.
fn dockerd(tools: &Tools) -> Result<PathBuf> {
    let root = tools.directory().join("docker.io");
    let binary = root.join("usr/sbin/dockerd");
    if !binary.exists() {
        say("fetching Debian's docker.io for its dockerd");
        fs::create_dir_all(&root)?;
        machine::run(Command::new("apt-get").current_dir(&root).args(["download", "-qq", "docker.io"]))?;
        machine::run(Command::new("sh").current_dir(&root).args(["-c", "dpkg -x docker.io_*.deb ."]))?;
    }
    Ok(binary)
}

/// Built once, which takes minutes.
fn with_dwarf(tools: &Tools) -> Result<PathBuf> {
    let bin = tools.directory().join("bin");
    let binary = bin.join("prometheus");
    if !binary.exists() {
        let (package, version) = WITH_DWARF;
        say(format!("building {package} {version} with its debug information"));
        let mut go = Command::new(&tools.go);
        go.args(["install", &format!("{package}@{version}")]).env("GOBIN", &bin).env("GOFLAGS", "");
        machine::run(&mut go)?;
    }
    Ok(binary)
}
