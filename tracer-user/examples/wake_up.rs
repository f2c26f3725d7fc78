//! Measures how long it takes from the record that fills a quarter of a ring to the reader that it wakes.
//!
//! `wake_up BINARY`: the fixture `lives`, which this starts with one P, on the first CPU if there are several; this process
//! waits on another. It prints the times in ns, a line each.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use golife::event::What;
use golife::go::probe_sites::Placement;
use golife::go::{Binary, probe_sites};
use golife::host::clock::now_ns;
use golife::probes::{Loading, Probe, Probes, Scope};
use golife::targets::running_kernel;
use golife::trace::attachments::probe;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// How many wake-ups are measured.
const TIMES: usize = 500;

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("usage: wake_up BINARY")?;
    let mut target =
        Command::new(&path).args(["-procs", "1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut stdin, stdout) =
        (target.stdin.take().context("no pipe")?, target.stdout.take().context("no pipe")?);
    let pid = NonZeroU32::new(target.id()).context("no process id")?;
    pin(Pid::from_raw(pid.get() as i32), 0)?;
    pin(Pid::this(), 1)?;
    let file = File::open(&path)?;
    let path = Path::new(&path);
    let binary = Binary::open(&file, path)?;
    let sites = probe_sites::of(&binary, running_kernel(), Placement::Cheapest)?;
    let probes: Vec<Probe> = sites.iter().filter_map(|site| probe(&binary, site)).collect();
    let (mut kernel, mut records) = Probes::load(Loading::default())?;
    let quarter = records.units_to_wake().context("this kernel has one ring for all CPUs")?;
    let attachment = kernel.attach(&file, path, &probes, Scope::Process(pid))?;

    // A batch of the fixture is a quarter of a ring, which wakes once: each life has three units.
    let lives = (quarter / 3 / 10) * 10;
    let answers = std::thread::spawn(move || BufReader::new(stdout).lines().take(TIMES).count());
    let (mut units, mut late) = (0, Vec::new());
    while late.len() < TIMES {
        writeln!(stdin, "{lives}")?;
        // SAFETY: the records own the descriptor, and live longer.
        let ring = unsafe { BorrowedFd::borrow_raw(records.as_raw_fd()) };
        let woken = poll(&mut [PollFd::new(ring, PollFlags::POLLIN)], 1_000u16)?;
        let now = now_ns();
        ensure!(woken == 1, "nobody woke the reader");
        let mut crossed: Option<u64> = None;
        while records.drain(|event| {
            let before = units / quarter;
            units += if matches!(event.what, What::Created { .. }) { 2 } else { 1 };
            if units / quarter > before {
                crossed.get_or_insert(event.time_ns);
            }
        }) {}
        // What follows it in the same batch is read with the next.
        late.extend(crossed.map(|time_ns| now.saturating_sub(time_ns)));
    }
    drop(attachment);
    drop(stdin);
    target.wait()?;
    let _ = answers.join();
    late.iter().for_each(|ns| println!("{ns}"));
    Ok(())
}

/// Keeps a process on one CPU, if there is such a one.
fn pin(pid: Pid, cpu: usize) -> anyhow::Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(cpu.min(cpus - 1))?;
    Ok(sched_setaffinity(pid, &set)?)
}
