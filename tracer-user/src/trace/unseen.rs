//! What is said of processes that nobody could look at, or whose records cannot be used.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::host::runtimes::Written;
use crate::host::{RunningProcess, control_group};
use crate::report;
use crate::tracker::Instance;

/// What a report says of a process whose records cannot be used.
pub(super) fn unbelievable(why: &str) -> report::Process {
    report::Process {
        mode: report::Mode::Unsupported,
        detail: Some(why.to_owned()),
        ..report::Process::default()
    }
}

/// What is known of a process that nobody looked at.
pub(super) fn unseen(instance: &Instance, exe: PathBuf) -> RunningProcess {
    RunningProcess {
        pid: instance.pid,
        start_ticks: 0,
        start_time: SystemTime::UNIX_EPOCH,
        exe,
        command: String::new(),
        called: String::new(),
        comm: String::new(),
        container: None,
        written: Written::default(),
        limits: control_group::Limits::default(),
    }
}
