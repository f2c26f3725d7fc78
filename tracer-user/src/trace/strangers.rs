//! Processes with several Go runtimes: an executable in Go that loads a Go library, or several such libraries in one
//! process. A record says which process it comes from, but not which runtime. One runtime of a process is looked at,
//! but others may have probes as well, for the sake of other processes. Their records are told by the addresses in them
//! and left out, so that numbers of two runtimes are never mixed.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use crate::event::{Event, What};
use crate::inspect::{self, ProcessMemory, WalkLimits};
use crate::targets::Subject;

/// How much of another runtime's list of goroutines is read. The list is only needed for those that live at this
/// moment.
const LIMITS: WalkLimits = WalkLimits { listed: 1 << 20, time: Duration::from_millis(500) };
/// Most goroutines of other runtimes that are known in each process.
const MOST: usize = 4 << 20;

/// The runtimes whose records are not to be counted, by process id.
#[derive(Default)]
pub struct Strangers {
    processes: HashMap<u32, Other>,
}

#[derive(Default)]
struct Other {
    /// Addresses of the other runtimes' code in the process.
    code: Vec<Range<u64>>,
    /// Addresses of their `runtime.g`s. These are never freed, and only their own runtime uses them again.
    gs: HashSet<u64>,
}

impl Strangers {
    /// Takes note of the runtimes in a process that are not looked at.
    pub(super) fn expect(&mut self, subject: &Subject) {
        let pid = subject.process.pid;
        self.processes.remove(&pid);
        if subject.others.is_empty() {
            return;
        }
        let mut other = Other::default();
        for code in &subject.others {
            let text = code.binary.text_range();
            other.code.push(text.start.wrapping_add(code.bias)..text.end.wrapping_add(code.bias));
            // Goroutines that are created from now on will be known from their records.
            let walked = inspect::walk(&ProcessMemory::new(pid as i32), &code.binary, code.bias, LIMITS);
            other.gs.extend(walked.unwrap_or_default().live.iter().map(|goroutine| goroutine.address));
        }
        self.processes.insert(pid, other);
    }

    pub(super) fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Whether a record comes from a runtime that is not looked at.
    #[inline]
    pub fn sent(&mut self, event: &Event) -> bool {
        !self.processes.is_empty()
            && self.processes.get_mut(&event.pid).is_some_and(|other| other.sent(event))
    }
}

impl Other {
    fn sent(&mut self, event: &Event) -> bool {
        match event.what {
            What::Created { g, gopc, .. } => {
                let is_other = self.code.iter().any(|code| code.contains(&gopc));
                if is_other && self.gs.len() < MOST {
                    self.gs.insert(g);
                }
                is_other
            }
            What::Exited { g } => self.gs.contains(&g),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StackCode;

    #[test]
    fn records_of_another_runtime_are_told_by_their_addresses() {
        let mut strangers = Strangers::default();
        let other = Other { code: std::iter::once(1000..2000).collect(), gs: HashSet::from([7]) };
        strangers.processes.insert(1, other);
        let mut sent = |pid, what| strangers.sent(&Event { time_ns: 0, pid, losses: 0, what });
        let created =
            |g, gopc| What::Created { g, goid: 5, parent: 1, gopc, startpc: 1, stack: StackCode::NONE };
        assert!(sent(1, What::Exited { g: 7 }), "one that lived before");
        assert!(!sent(1, What::Exited { g: 8 }) && !sent(2, What::Exited { g: 7 }));
        assert!(sent(1, created(8, 1500)) && sent(1, What::Exited { g: 8 }));
        assert!(!sent(1, created(9, 500)) && !sent(1, What::Exited { g: 9 }));
        assert!(!sent(2, created(8, 1500)));
    }
}
