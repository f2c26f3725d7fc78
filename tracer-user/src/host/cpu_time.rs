//! The CPU time that traced processes use, from `/proc/PID/stat`. The cost of tracing is compared with it.

use std::{collections::HashMap, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};

use super::{
    clock::{now_ns, ticks_to_ns},
    process::{self, CpuTime, RunningProcess},
};

/// The CPU time that this thread has used.
pub fn of_this_thread() -> Duration {
    let used = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    used.map(Duration::from).unwrap_or_default()
}

/// The CPU time that one process had used at two moments, in ns.
#[derive(Clone, Copy)]
struct Span {
    /// What it had used when tracing began; 0 for a process that started later.
    before: u64,
    /// What it had used when it was last looked at.
    last: u64,
}

/// The CPU time of every process that was traced, in the window that begins with [`Usage::new`]. A process that has
/// ended counts with what it had used when it was last looked at.
pub struct Usage {
    began_ns: u64,
    /// Processes that run, by pid and start time in ticks.
    spans: HashMap<(u32, u64), Span>,
    /// What processes have used that have ended; `None` until one has.
    ended_ns: Option<u64>,
}

impl Usage {
    /// Begins the window now.
    pub fn new() -> Usage {
        Usage { began_ns: now_ns(), spans: HashMap::new(), ended_ns: None }
    }

    /// Takes note that a process is traced from now on. All time of a process counts if it started in the window.
    pub fn begin(&mut self, process: &RunningProcess) {
        let Some(CpuTime { start_ticks, used_ns }) = process::cpu_time(process.pid) else { return };
        if start_ticks != process.start_ticks {
            return;
        }
        let before = if ticks_to_ns(start_ticks) >= self.began_ns { 0 } else { used_ns };
        self.spans.entry((process.pid, start_ticks)).or_insert(Span { before, last: used_ns });
    }

    /// Looks at the time of every process once more. Those that are gone keep what they had used at the look before.
    pub fn look(&mut self) {
        let ended_ns = &mut self.ended_ns;
        self.spans.retain(|(pid, start), span| match process::cpu_time(*pid) {
            Some(CpuTime { start_ticks, used_ns }) if start_ticks == *start => {
                span.last = used_ns;
                true
            }
            _ => {
                *ended_ns.get_or_insert(0) += span.last.saturating_sub(span.before);
                false
            }
        });
    }

    /// CPU time in ns that the processes have used in the window, as precise as the kernel's ticks (usually 10 ms for
    /// each process). `None` where no process was looked at.
    pub fn used_ns(&self) -> Option<u64> {
        let running: u64 = self.spans.values().map(|span| span.last.saturating_sub(span.before)).sum();
        (!self.spans.is_empty() || self.ended_ns.is_some()).then_some(running + self.ended_ns.unwrap_or(0))
    }
}

impl Default for Usage {
    fn default() -> Usage {
        Usage::new()
    }
}

/// The CPU time that golife's own process has used.
pub fn own() -> Duration {
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(value.tv_sec().unsigned_abs(), value.tv_usec().unsigned_abs() as u32 * 1000)
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| time(usage.user_time()) + time(usage.system_time()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_the_window_does_not_count_and_time_in_it_does() {
        let mut usage = Usage::new();
        assert_eq!(usage.used_ns(), None);
        usage.begin(&RunningProcess::look(std::process::id()).expect("this process is there"));
        let before = usage.used_ns().expect("it was looked at");
        let busy = std::time::Instant::now();
        while usage.used_ns().expect("it is there") < before + 20_000_000 {
            assert!(busy.elapsed().as_secs() < 20, "20 ms of CPU time never show");
            usage.look();
        }
    }

    #[test]
    fn a_process_that_ends_keeps_its_last_look() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let mut usage = Usage::new();
        usage.begin(&RunningProcess::look(child.id()).expect("the child is there"));
        child.kill().expect("kill");
        child.wait().expect("wait");
        let last = usage.spans.values().next().expect("one").last;
        usage.look();
        assert!(usage.spans.is_empty());
        assert!(usage.used_ns().is_some_and(|used| used <= last), "it was looked at, however little it used");
    }
}
