//! What the benchmarks run: golife and its bare probes in release form, the Go fixtures, and bpftrace beside them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::machine::{self, Guard, say};

/// Everything that is run.
pub struct Tools {
    /// golife itself.
    pub golife: PathBuf,
    /// Bare probes (`tracer-user/examples/place_probes.rs`).
    pub place_probes: PathBuf,
    /// How long a wake-up takes (`tracer-user/examples/wake_up.rs`).
    pub wake_up: PathBuf,
    /// golife's walk beside its floor (`tracer-user/examples/inspect_speed.rs`).
    pub inspect_speed: PathBuf,
    /// bpftrace, if it can be had.
    pub bpftrace: Option<PathBuf>,
    /// The `go` command.
    pub go: PathBuf,
    directory: PathBuf,
}

impl Tools {
    /// Builds and installs what is missing.
    pub fn build() -> Result<Tools> {
        say("building golife and its bare probes in release form");
        machine::run(machine::cargo().args(["build", "--quiet", "--release", "--package", "tracer-user"]))?;
        machine::run(machine::cargo().args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "tracer-user",
            "--examples",
        ]))?;
        let release = machine::target_dir().join("release");
        let bpftrace = machine::apt_install(&["bpftrace"]).map(|()| machine::find("bpftrace"));
        let bpftrace = bpftrace.unwrap_or_else(|error| {
            say(format!("without bpftrace: {error:#}"));
            None
        });
        let directory = machine::target_dir().join("bench");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Tools {
            golife: release.join("golife"),
            place_probes: release.join("examples/place_probes"),
            wake_up: release.join("examples/wake_up"),
            inspect_speed: release.join("examples/inspect_speed"),
            bpftrace,
            go: machine::go()?,
            directory,
        })
    }

    /// Builds a Go fixture.
    pub fn fixture(&self, name: &str) -> Result<PathBuf> {
        let binary = self.directory.join(name);
        let mut go = Command::new(&self.go);
        go.current_dir(machine::root().join("tests/fixtures"))
            .args(["build", "-o"])
            .arg(&binary)
            .arg(format!("./{name}"));
        machine::run(&mut go)?;
        Ok(binary)
    }

    /// The directory for what benchmarks write.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A program that runs beside a measurement and ends with it.
pub struct Beside {
    child: Guard,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Beside {
    /// Starts it, and waits until it prints a line that contains `ready`.
    pub fn start(mut command: Command, ready: &str) -> Result<Beside> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut beside = Beside { child: Guard(child), stdin, stdout };
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            if beside.stdout.read_line(&mut line)? == 0 {
                bail!("it ended before it was ready: {command:?}");
            }
        }
        Ok(beside)
    }

    /// Tells it to end, by the end of its input or as Ctrl-C does, and returns the rest of what it says.
    pub fn stop(mut self, by: End) -> Result<String> {
        match by {
            End::OfInput => drop(self.stdin.take()),
            End::Interrupt => interrupt(self.child.0.id())?,
        }
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest)?;
        self.child.0.wait()?;
        Ok(rest)
    }
}

/// What a program ends at.
pub enum End {
    OfInput,
    Interrupt,
}

/// golife, started and live; its report goes to standard output as JSON.
pub struct Golife {
    child: Guard,
    /// From its start until its probes were live.
    pub until_live: Duration,
}

impl Golife {
    /// Starts it on the second CPU, beside a target that has the first, and waits until it traces.
    pub fn beside(tools: &Tools, arguments: &[&str]) -> Result<Golife> {
        Golife::start(pinned(1, &tools.golife), arguments)
    }

    /// Starts it with the whole machine to itself, and waits until it traces.
    pub fn alone(tools: &Tools, arguments: &[&str]) -> Result<Golife> {
        Golife::start(Command::new(&tools.golife), arguments)
    }

    /// Starts it by a command that may pin it or set its environment, and waits until it traces.
    pub fn start(mut command: Command, arguments: &[&str]) -> Result<Golife> {
        command.args(arguments).args(["--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = Guard(command.spawn().context("cannot run golife")?);
        let mut stderr = BufReader::new(child.0.stderr.take().context("no pipe")?);
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if stderr.read_line(&mut line)? == 0 {
                bail!("golife ended before it was live: {said}");
            }
            if line.starts_with("tracing ") {
                break;
            }
            said.push_str(&line);
        }
        let until_live = start.elapsed();
        // Nobody is interested in what golife says after this, but a full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Ok(Golife { child, until_live })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// CPU time in ns that its main thread has used, which reads the ring and keeps the table. Looks into processes have
    /// threads of their own.
    pub fn reading_ns(&self) -> Result<u64> {
        let path = format!("/proc/{}/schedstat", self.pid());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let used = text.split_whitespace().next().and_then(|used| used.parse().ok());
        used.with_context(|| format!("{path} says {text:?}"))
    }

    /// Ends it as Ctrl-C does. Returns its report and how long it took to end.
    pub fn stop(mut self) -> Result<(Value, Duration)> {
        let start = Instant::now();
        interrupt(self.child.0.id())?;
        let mut report = String::new();
        self.child.0.stdout.take().context("no pipe")?.read_to_string(&mut report)?;
        self.child.0.wait()?;
        let took = start.elapsed();
        Ok((serde_json::from_str(&report).context("golife's report is no JSON")?, took))
    }
}

fn interrupt(pid: u32) -> Result<()> {
    machine::run(Command::new("kill").args(["-INT", &pid.to_string()]))
}

/// A command on one CPU, where this machine lets us choose.
pub fn pinned(cpu: usize, program: &Path) -> Command {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    match machine::find("taskset") {
        Some(taskset) if cpu < cpus => {
            let mut command = Command::new(taskset);
            command.arg("--cpu-list").arg(cpu.to_string()).arg(program);
            command
        }
        _ => Command::new(program),
    }
}

/// The fixture `lives`: a Go program that starts and ends goroutines when it is told to, and is idle until then.
pub struct Lives {
    child: Guard,
    stdin: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// How many goroutines had lived in it when it was ready.
    before: u64,
}

/// Goroutines that the fixture was told to start.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// CPU time in ns of the threads that started and ran them.
    pub cpu_ns: u64,
    /// How long that took in ns, times the number of threads.
    pub wall_ns: u64,
    /// How many goroutines began and ended in that time.
    pub lives: u64,
    /// How many have begun and ended since the fixture was ready, those before and after measurements included.
    pub all: u64,
}

impl Batch {
    /// Whether each of the threads had a CPU for nearly all of the time. Where there are several of them, they have
    /// worked at the same time then.
    pub fn is_undisturbed(&self) -> bool {
        self.cpu_ns as f64 > 0.85 * self.wall_ns as f64
    }
}

impl Lives {
    /// Starts it with so many Ps: the only one on the first CPU, several wherever the kernel runs them.
    pub fn start(binary: &Path, procs: u32) -> Result<Lives> {
        let command = if procs == 1 { pinned(0, binary) } else { Command::new(binary) };
        Lives::spawn(command, procs)
    }

    /// The same, before all other work of the machine. That is for batches of a millisecond, not for a flood.
    pub fn preferred(binary: &Path, procs: u32) -> Result<Lives> {
        let command = if procs == 1 { pinned(0, binary) } else { Command::new(binary) };
        let Some(chrt) = machine::find("chrt") else { return Lives::spawn(command, procs) };
        let mut preferred = Command::new(chrt);
        preferred.args(["--rr", "1"]).arg(command.get_program()).args(command.get_args());
        Lives::spawn(preferred, procs)
    }

    fn spawn(mut command: Command, procs: u32) -> Result<Lives> {
        command.args(["-procs", &procs.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let stdin = child.stdin.take().context("no pipe")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut target = Lives { child: Guard(child), stdin, answers, before: 0 };
        // Whatever the runtime starts, it has started when it answers.
        target.before = target.live(100)?.all;
        Ok(target)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Has so many goroutines, a multiple of ten, live on each of its Ps, and waits for the end of the last one.
    pub fn live(&mut self, lives: u32) -> Result<Batch> {
        writeln!(self.stdin, "{lives}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let numbers: Vec<u64> = answer.split_whitespace().map_while(|number| number.parse().ok()).collect();
        match numbers[..] {
            [cpu_ns, wall_ns, lives, all] => Ok(Batch { cpu_ns, wall_ns, lives, all: all - self.before }),
            _ => bail!("the fixture's answer is not four numbers: {answer:?}"),
        }
    }
}
