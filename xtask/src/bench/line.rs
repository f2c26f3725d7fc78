//! Measures how long a cache line takes from one CPU to another: what CPUs that write the same memory wait for. On a
//! virtual machine that changes while it runs, with the places that the hypervisor gives its CPUs.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Instant,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Measurements, of which the median counts: something else takes a CPU during some of them on a busy machine.
const MEASUREMENTS: u32 = 41;
/// Exchanges between the CPUs in each.
const TRIPS: u32 = 10;

/// A number that shares no cache line with anything else, nor the neighbour that a CPU fetches with it.
#[repr(align(128))]
struct Line(AtomicU32);

impl Line {
    /// Waits until the other CPU has written `number`, and writes the next one.
    fn answer(&self, number: u32) {
        while self.0.load(Ordering::Acquire) != number {}
        self.0.store(number + 1, Ordering::Release);
    }
}

/// The time in ns until one of the first two CPUs sees what the other one has written. `None` where this program may not
/// run on both of them.
pub fn transfer_ns() -> Option<f64> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).ok()?;
    let cpus = [0, 1].map(|cpu| {
        let mut set = CpuSet::new();
        (allowed.is_set(cpu) == Ok(true) && set.set(cpu).is_ok()).then_some(set)
    });
    let [Some(first), Some(second)] = cpus else { return None };
    let line = Line(AtomicU32::new(0));
    let pinged = thread::scope(|scope| {
        scope.spawn(|| {
            // Where this fails, both threads share a CPU for a while, and the measurement is one of those that do not count.
            let _ = sched_setaffinity(this, &second);
            (0..MEASUREMENTS * TRIPS).for_each(|trip| line.answer(2 * trip + 1));
        });
        let pinger = scope.spawn(|| {
            let _ = sched_setaffinity(this, &first);
            let measure = |measurement: u32| {
                let start = Instant::now();
                (measurement * TRIPS..(measurement + 1) * TRIPS).for_each(|trip| line.answer(2 * trip));
                start.elapsed()
            };
            (0..MEASUREMENTS).map(measure).collect::<Vec<_>>()
        });
        pinger.join()
    });
    let mut times = pinged.ok()?;
    times.sort_unstable();
    let median = times.get(times.len() / 2)?;
    Some(median.as_nanos() as f64 / f64::from(2 * TRIPS))
}
