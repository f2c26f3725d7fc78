//! What was counted, what it cost, and the report of both.

use super::*;

impl Pipeline {
    /// Reads the kernel's counters. Returns whether records of goroutines were lost since the last time.
    pub(super) fn count_losses(&mut self) -> bool {
        let now = self.session.counters();
        let before = std::mem::replace(&mut self.counters, now);
        if now.read_faults > before.read_faults {
            self.session.take_log().into_iter().for_each(|line| self.session.warn(line));
            self.print_warnings();
        }
        self.tracker.lost(Lost {
            created: now.dropped_created - before.dropped_created,
            exited: now.dropped_exited - before.dropped_exited,
            process: now.dropped_process - before.dropped_process,
            read_faults: now.read_faults - before.read_faults,
            undecodable: self.ring.take_undecodable(),
        });
        (now.dropped_created, now.dropped_exited) != (before.dropped_created, before.dropped_exited)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.counters.dropped_created + self.counters.dropped_exited
    }

    pub(super) fn hits(&self) -> u64 {
        self.received + self.dropped() + self.counters.read_faults + self.tracker.loss().undecodable
    }

    /// Waits for the calibration, a fraction of a second. A thread that takes probes off may not be cut short by the
    /// program's end: the kernel would keep what is left of them (`failed to unregister, leaking uprobe`).
    pub(super) fn calibrate(&mut self) {
        if let Some(calibration) = self.calibration.take() {
            self.ns_per_hit = calibration.join().ok().flatten();
        }
    }

    pub(super) fn report(&mut self, settings: &Settings) -> Report {
        let end_ns = now_ns();
        let long_enough = end_ns.saturating_sub(self.start_ns) > 1_000_000_000;
        if long_enough {
            self.calibrate();
        }
        let per_hit = self.ns_per_hit;
        let run = report::Run {
            tool: tool(),
            window: report::Window { start_ns: self.start_ns, end_ns, end: SystemTime::now() },
            overhead: report::Overhead {
                probe_hits: Some(self.hits()),
                target_ns_per_hit: per_hit.map(|ns| ns.round() as u64),
                target_cpu_ns: per_hit.map(|ns| (ns * self.hits() as f64) as u64),
                golife_cpu_ns: Some(cpu_time::own().saturating_sub(self.start_cpu).as_nanos() as u64),
                targets_used_cpu_ns: self.session.cpu_time_of_targets(),
            },
            untraced: self.session.untraced(),
        };
        report::build(&self.tracker, &self.session, &run, &settings.selection)
    }
}

/// This golife, on this host.
pub fn tool() -> report::Tool {
    let uname = nix::sys::utsname::uname().ok();
    let text = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname.as_ref().map(|uname| part(uname).to_string_lossy().into_owned())
    };
    report::Tool {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: text(|uname| uname.nodename()),
        kernel: text(|uname| uname.release()),
        arch: std::env::consts::ARCH.to_owned(),
    }
}
