//! Measures how long it takes to look at all goroutines of a running process: with golife, beside the floor, Go's own
//! profiles and Delve. It also measures for how long each of them stops the program. The program says that itself: it
//! has a goroutine that sleeps for a millisecond each time, and notes how late that wakes up.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::tools::Tools;
use crate::machine::{self, Guard, say};

/// The numbers of goroutines that block.
const CROWDS: [u32; 2] = [100_000, 1_000_000];
/// Delve is killed when it takes longer than this.
const PATIENCE: Duration = Duration::from_secs(90);
/// Delve's module and version.
const DELVE: &str = "github.com/go-delve/delve/cmd/dlv@v1.27.2";

/// Measures all ways on each crowd.
pub fn measure(tools: &Tools) -> Result<String> {
    let binary = tools.fixture("crowd")?;
    let delve = delve(tools).map_err(|error| say(format!("without Delve: {error:#}"))).ok();
    let mut table = String::from(
        "All goroutines of a program that runs on, each blocked in one call. Late: by how much the program's own clock was, at \
         worst, meanwhile.\n\n| goroutines | way | time | × floor | told of | late |\n|---:|---|---:|---:|---:|---:|\n",
    );
    for n in CROWDS {
        say(format!("look: {n} goroutines"));
        let crowd = Crowd::start(&binary, n)?;
        let mut row = |way: &str, took: &str, floor: &str, told: &str, late: Duration| {
            writeln!(table, "| {n} | {way} | {took} | {floor} | {told} | {} |", ms(late))
        };
        crowd.longest_stop()?;
        std::thread::sleep(Duration::from_secs(2));
        row("nothing, for 2 s", "", "", "", crowd.longest_stop()?)?;

        let pid = crowd.child.0.id().to_string();
        let speeds = machine::output(Command::new(&tools.inspect_speed).arg(&pid))?;
        let late = crowd.longest_stop()?;
        for line in speeds.lines() {
            let [what, seconds, ratio] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
            row(what, &ms(Duration::from_secs_f64(seconds.parse()?)), ratio, "", late)?;
        }
        for format in ["text", "json"] {
            let start = Instant::now();
            let dump = output(Command::new(&tools.golife).args(["dump", "--format", format, "--pid", &pid]))?;
            let told = match format {
                "text" => starts(&dump, b"goroutine "),
                _ => starts(&dump, b"      \"goid\":"),
            };
            let way = format!("`golife dump --format {format}`, whole");
            row(&way, &ms(start.elapsed()), "", &told.to_string(), crowd.longest_stop()?)?;
        }
        for debug in ["2", "1"] {
            let start = Instant::now();
            let body = crowd.get(&format!("/debug/pprof/goroutine?debug={debug}"))?;
            let took = start.elapsed();
            let told = match debug {
                "2" => starts(&body, b"goroutine ").to_string(),
                _ => String::from("counts"),
            };
            let way = format!("`/debug/pprof/goroutine?debug={debug}`");
            row(&way, &ms(took), "", &told, crowd.longest_stop()?)?;
        }
        if let Some(delve) = &delve {
            let (took, told) = attach(delve, tools, &pid)?;
            let took = if told.is_some() { ms(took) } else { format!("more than {}", ms(PATIENCE)) };
            let told = told.map_or("–".into(), |told| told.to_string());
            row("Delve: `dlv attach`, `goroutines`", &took, "", &told, crowd.longest_stop()?)?;
        }
    }
    Ok(table)
}

fn ms(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.0} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.0} s", time.as_secs_f64()),
    }
}

/// How many lines of a text begin with this.
fn starts(text: &[u8], with: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(with)).count()
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot run golife")?;
    ensure!(output.status.success(), "golife dump failed");
    Ok(output.stdout)
}

/// The fixture `crowd`; it ends when this is dropped.
struct Crowd {
    child: Guard,
    address: String,
}

impl Crowd {
    fn start(binary: &Path, n: u32) -> Result<Crowd> {
        let mut child = Command::new(binary)
            .args(["-n", &n.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run the fixture")?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut address)?;
        Ok(Crowd { child: Guard(child), address: address.trim().to_owned() })
    }

    /// Asks the program for something by HTTP, and returns the body of the answer.
    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.address).context("cannot reach the fixture")?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no HTTP answer")?;
        Ok(answer.split_off(end + 4))
    }

    /// The longest time that the program stood still since it was last asked.
    fn longest_stop(&self) -> Result<Duration> {
        let body = self.get("/stall")?;
        Ok(Duration::from_nanos(std::str::from_utf8(&body)?.trim().parse()?))
    }
}

fn delve(tools: &Tools) -> Result<PathBuf> {
    let bin = tools.directory().join("bin");
    let binary = bin.join("dlv");
    if !binary.exists() {
        say(format!("building {DELVE}"));
        machine::run(Command::new(&tools.go).args(["install", DELVE]).env("GOBIN", &bin).env("GOFLAGS", ""))?;
    }
    Ok(binary)
}

/// Has Delve list all goroutines. Returns how long that took and how many it listed, which is `None` if it took too
/// long.
fn attach(delve: &Path, tools: &Tools, pid: &str) -> Result<(Duration, Option<usize>)> {
    let script = tools.directory().join("goroutines.dlv");
    std::fs::write(&script, "goroutines\nexit\n")?;
    let listed = tools.directory().join("goroutines.txt");
    let start = Instant::now();
    let mut child = Command::new(delve)
        .args(["attach", pid, "--allow-non-terminal-interactive=true", "--init"])
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&listed)?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run dlv")?;
    // Delve asks whether to kill the program when it leaves.
    child.stdin.take().context("no pipe")?.write_all(b"n\n")?;
    while child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok((start.elapsed(), None));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = start.elapsed();
    Ok((took, Some(starts(&std::fs::read(&listed)?, b"  Goroutine "))))
}
