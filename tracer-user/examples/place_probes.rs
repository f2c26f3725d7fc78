//! Puts probes on a Go binary and does nothing else, for benchmarks. Its arguments choose which program runs at the
//! probes and on which instructions they sit. It prints `live`, drains the ring until standard input ends, then prints
//! how many records came.
//!
//! `place_probes BINARY floor|records|stacks cheapest|single-stepped`

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use golife::go::plan::{ProbeSite, Purpose};
use golife::go::probe_sites::Placement;
use golife::go::{Binary, probe_sites};
use golife::probes::{Loading, Probe, Probes, Program, Scope};
use golife::targets::running_kernel;
use golife::trace::attachments::probe;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, program, placement] = &arguments[..] else {
        bail!("usage: place_probes BINARY floor|records|stacks cheapest|single-stepped");
    };
    let placement = match placement.as_str() {
        "cheapest" => Placement::Cheapest,
        "single-stepped" => Placement::SingleStepped,
        other => bail!("no such placement: {other}"),
    };
    let path = Path::new(path);
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let binary = Binary::open(&file, path)?;
    let sites = probe_sites::of(&binary, running_kernel(), placement)?;
    let probes: Vec<Probe> = sites
        .iter()
        .filter_map(|site: &ProbeSite| {
            eprintln!(
                "{:?} {}+{:#x} {} {:?}",
                site.purpose, site.function, site.address, site.instruction, site.cost
            );
            let mut probe = probe(&binary, site)?;
            if program == "floor" {
                probe.program = Program::Floor;
            }
            Some(probe)
        })
        .collect();
    anyhow::ensure!(sites.iter().any(|site| site.purpose == Purpose::Creation), "no creation site");
    let (mut kernel, mut ring) =
        Probes::load(Loading { ring_bytes: None, creation_stacks: program == "stacks" })?;
    let attachment = kernel.attach(&file, path, &probes, Scope::Everyone)?;
    println!("live");

    let ended = Arc::new(AtomicBool::new(false));
    let waiter = std::thread::spawn({
        let ended = ended.clone();
        move || {
            let read = io::stdin().read_to_end(&mut Vec::new());
            ended.store(true, Ordering::Release);
            read
        }
    });
    let mut records = 0u64;
    while !ended.load(Ordering::Acquire) {
        while ring.drain(|_| records += 1) {}
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(attachment);
    while ring.drain(|_| records += 1) {}
    println!("{records} records");
    match waiter.join() {
        Ok(read) => read.map(drop).context("cannot read standard input"),
        Err(_) => bail!("the waiting thread panicked"),
    }
}
