//! Counts what all goroutines of a process are doing, in the classes that Go's own metrics have from Go 1.26 on.

use crate::go::Status;
use crate::inspect::Snapshot;
use crate::report::States;

/// How many goroutines of a scan were in which state, the runtime's own included, as in `schedStatsAggregate` of
/// <https://cs.opensource.google/go/go/+/master:src/runtime/metrics.go>.
pub(super) fn of(snapshot: &Snapshot) -> States {
    let mut states = States::default();
    for goroutine in &snapshot.goroutines {
        *match goroutine.status {
            // Who grows its stack does so on the thread that it runs on.
            Status::Running | Status::CopyStack => &mut states.running,
            Status::Runnable => &mut states.runnable,
            Status::Syscall => &mut states.not_in_go,
            Status::Waiting | Status::Preempted | Status::Leaked => &mut states.waiting,
            Status::Idle | Status::Dead | Status::DeadExtra => continue,
        } += 1;
    }
    states
}
