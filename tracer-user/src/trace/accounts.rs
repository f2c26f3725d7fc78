//! What an engine has counted, and what tracing has cost golife and its targets.

use std::thread::JoinHandle;
use std::time::Duration;

use super::settings::Calibration;
use crate::host::RunningProcess;
use crate::host::clock::now_ns;
use crate::host::cpu_time::{self, Usage};
use crate::probes::{Counters, selftest};
use crate::report::{Overhead, Rings};
use crate::tracker::Lost;

/// The counters, and what they were when the time began that reports cover.
pub(super) struct Accounts {
    /// Goroutine records that arrived.
    pub(super) received: u64,
    /// The last reading of the kernel's counters.
    counters: Counters,
    undecodable: u64,
    usage: Usage,
    calibration: Option<JoinHandle<Option<f64>>>,
    /// Time that a hit costs a target in ns, once that is measured.
    ns_per_hit: Option<f64>,
    /// What had been counted when the time began that reports cover.
    window: Mark,
    /// What had been counted when the current epoch began. When it ends, reports cover the time from there on.
    epoch: Mark,
}

/// What had been counted at one time.
#[derive(Clone, Copy, Default)]
struct Mark {
    time_ns: u64,
    hits: u64,
    own_cpu: Duration,
    targets_cpu_ns: u64,
}

impl Accounts {
    /// The accounts of an engine that begins now.
    pub(super) fn new() -> Accounts {
        Accounts {
            received: 0,
            counters: Counters::default(),
            undecodable: 0,
            usage: Usage::new(),
            calibration: None,
            ns_per_hit: None,
            window: Mark::default(),
            epoch: Mark::default(),
        }
    }

    /// Begins to count when the probes are in place. What golife has spent until then is not part of what tracing
    /// costs.
    pub(super) fn start(&mut self, calibration: Calibration) {
        self.window = Mark { time_ns: now_ns(), own_cpu: cpu_time::own(), ..Mark::default() };
        self.epoch = self.window;
        if calibration == Calibration::SelfTest {
            self.calibration = std::thread::Builder::new()
                .name("calibration".into())
                .spawn(|| selftest::run().ok().map(|outcome| outcome.ns_per_hit))
                .ok();
        }
    }

    /// Begins another epoch. From now on reports cover the time since the begin of the one that ends.
    pub(super) fn begin_epoch(&mut self, now_ns: u64) {
        self.window = self.epoch;
        self.epoch = Mark {
            time_ns: now_ns,
            hits: self.hits(),
            own_cpu: cpu_time::own(),
            targets_cpu_ns: self.usage.used_ns().unwrap_or(0),
        };
    }

    /// When the current epoch began, on the boot-time clock in ns.
    pub(super) fn epoch_ns(&self) -> u64 {
        self.epoch.time_ns
    }

    /// When the time began that reports cover, on the boot-time clock in ns.
    pub(super) fn window_ns(&self) -> u64 {
        self.window.time_ns
    }

    /// Takes in what the kernel has counted by now, and how many records could not be read since the last time. Returns
    /// what was lost since the last time.
    pub(super) fn count(&mut self, now: Counters, undecodable: u64) -> Lost {
        let before = std::mem::replace(&mut self.counters, now);
        self.undecodable += undecodable;
        Lost {
            created: now.dropped_created - before.dropped_created,
            exited: now.dropped_exited - before.dropped_exited,
            process: now.dropped_process - before.dropped_process,
            read_faults: now.read_faults - before.read_faults,
            undecodable,
        }
    }

    /// Records of goroutines that did not fit into the ring, since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.counters.dropped_created + self.counters.dropped_exited
    }

    /// Hits of the probes since the start, whatever became of their records.
    pub(super) fn hits(&self) -> u64 {
        self.received + self.dropped() + self.counters.read_faults + self.undecodable
    }

    /// Counts the CPU time of a process from now on, even if it ends before it is looked at for another reason.
    pub(super) fn count_cpu_time(&mut self, pid: u32) {
        if let Ok(process) = RunningProcess::look(pid) {
            self.begin(&process);
        }
    }

    /// Counts the CPU time of a process from now on.
    pub(super) fn begin(&mut self, process: &RunningProcess) {
        self.usage.begin(process);
    }

    /// Reads the CPU time that the targets have used.
    pub(super) fn look(&mut self) {
        self.usage.look();
    }

    /// Waits for the calibration, which takes a fraction of a second. If the program ended while the calibration takes
    /// its probes off, the kernel would keep the rest of them (`failed to unregister, leaking uprobe`).
    pub(super) fn calibrate(&mut self) {
        if let Some(calibration) = self.calibration.take() {
            self.ns_per_hit = calibration.join().ok().flatten();
        }
    }

    /// What tracing has cost in the time that reports cover. `rings` is where records wait.
    pub(super) fn overhead(&mut self, rings: Rings) -> Overhead {
        // By then the calibration has ended, so this does not wait.
        if now_ns().saturating_sub(self.window.time_ns) > 1_000_000_000 {
            self.calibrate();
        }
        self.look();
        let hits = self.hits().saturating_sub(self.window.hits);
        let used_ns = self.usage.used_ns();
        Overhead {
            probe_hits: Some(hits),
            target_ns_per_hit: self.ns_per_hit.map(|ns| ns.round() as u64),
            target_cpu_ns: self.ns_per_hit.map(|ns| (ns * hits as f64) as u64),
            golife_cpu_ns: Some(cpu_time::own().saturating_sub(self.window.own_cpu).as_nanos() as u64),
            targets_used_cpu_ns: used_ns.map(|used| used.saturating_sub(self.window.targets_cpu_ns)),
            rings: Some(rings),
        }
    }
}
