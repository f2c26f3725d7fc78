//! Measures how long inspection takes beside the floor, a bare `process_vm_readv` of the same memory, in one run:
//! `cargo run --release --example inspect_speed -- PID`, with the fixture `crowd` running as PID. `cargo xtask bench
//! look` runs it. It prints a line for each way to look: its name, the seconds, and the ratio to the floor. Only the
//! ratios can be compared, since the times depend on the machine.

use std::error::Error;
use std::io::IoSliceMut;
use std::time::{Duration, Instant};

use golife::inspect::{Depth, ProcessMemory, WalkLimits};
use golife::targets::Binaries;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// How many bytes of a waiting goroutine's stack are enough for most of them.
const STACK_BYTES: usize = 128;
/// Most ranges that the kernel reads in one call: `UIO_MAXIOV` in
/// <https://github.com/torvalds/linux/blob/v6.6/include/uapi/linux/uio.h>.
const RANGES: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let pid: u32 = std::env::args().nth(1).ok_or("which process? inspect_speed PID")?.parse()?;
    let subject = Binaries::default().subject(pid)?;
    let limits = WalkLimits { time: Duration::from_secs(120), ..WalkLimits::default() };
    let layout = subject.binary.layout();
    let size = usize::from(layout.g_size);

    // The addresses to read are found once, before anything is measured.
    let globals = subject.binary.globals()?;
    let memory = ProcessMemory::new(pid as i32);
    let count = memory.read_u64(globals.allglen.wrapping_add(subject.bias))? as usize;
    let array = memory.read_u64(globals.allgptr.wrapping_add(subject.bias))?;
    let mut bytes = vec![0; 8 * count];
    memory.read(array, &mut bytes)?;
    let mut gs: Vec<usize> =
        bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word) as usize).collect();
    gs.sort_unstable();
    let mut stacks = Vec::with_capacity(count);
    for address in &gs {
        let mut g = vec![0; size];
        memory.read(*address as u64, &mut g)?;
        let word = |offset: u16| {
            let at = usize::from(offset);
            g.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, usize::from_le_bytes)
        };
        let (sp, hi) = (word(layout.sched_sp), word(layout.stack_hi));
        if sp > 0 && sp < hi {
            stacks.push((sp, STACK_BYTES.min(hi - sp)));
        }
    }
    stacks.sort_unstable();
    let single: Vec<(usize, usize)> = gs.iter().map(|address| (*address, size)).collect();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for address in &gs {
        match merged.last_mut() {
            Some((start, length)) if address - *start <= *length + 256 && *length < 60_000 => {
                *length = address + size - *start;
            }
            _ => merged.push((*address, size)),
        }
    }

    // The pages of the target and of the buffer are in memory by now. Every way is measured five times, in turns, and
    // the best time counts. The two quick ways that are compared with each other are measured more often, since other
    // programs of the machine disturb them more.
    let mut best = [f64::MAX; 6];
    for _ in 0..15 {
        best[0] = best[0].min(floor(pid, &merged)?);
        let start = Instant::now();
        subject.scan(limits, Depth::States)?;
        best[3] = best[3].min(start.elapsed().as_secs_f64());
    }
    for _ in 0..5 {
        let mut take = |index: usize, seconds: f64| best[index] = best[index].min(seconds);
        take(0, floor(pid, &merged)?);
        take(1, floor(pid, &single)?);
        take(2, floor(pid, &stacks)?);
        for (index, depth) in [Depth::States, Depth::Stacks, Depth::Objects].into_iter().enumerate() {
            let start = Instant::now();
            let snapshot = subject.scan(limits, depth)?;
            take(3 + index, start.elapsed().as_secs_f64());
            assert!(snapshot.cut_short.is_none() && snapshot.goroutines.len() <= snapshot.listed as usize);
        }
    }
    let [merged, single, stacks, states, with_stacks, with_objects] = best;
    let line =
        |what: &str, seconds: f64, floor: f64| println!("{what}\t{seconds:.4}\t{:.2}", seconds / floor);
    line("floor: every g, neighbours read as one", merged, merged);
    line("floor: every g, one by one", single, merged);
    line(
        &format!("floor: every g as one, and {STACK_BYTES} bytes of each stack"),
        merged + stacks,
        merged + stacks,
    );
    line("golife's walk: states", states, merged);
    line("golife's walk: states and stacks", with_stacks, merged + stacks);
    line("golife's walk: states, stacks and what they wait on", with_objects, merged + stacks);
    Ok(())
}

/// Reads ranges into one buffer whose pages are in memory already, and returns the seconds that this took.
fn floor(pid: u32, ranges: &[(usize, usize)]) -> Result<f64, Box<dyn Error>> {
    let calls: Vec<Vec<RemoteIoVec>> = ranges
        .chunks(
            RANGES.min(64.max(4_000_000 / ranges.iter().map(|(_, size)| size).max().copied().unwrap_or(1))),
        )
        .map(|chunk| chunk.iter().map(|&(base, len)| RemoteIoVec { base, len }).collect())
        .collect();
    let longest = calls.iter().map(|call| call.iter().map(|range| range.len).sum()).max().unwrap_or(0);
    let mut buffer = vec![1u8; longest];
    let start = Instant::now();
    for call in &calls {
        process_vm_readv(Pid::from_raw(pid as i32), &mut [IoSliceMut::new(&mut buffer)], call)?;
    }
    Ok(start.elapsed().as_secs_f64())
}
