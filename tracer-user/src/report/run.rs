//! Makes a report of processes. It adds the time that the report covers, what made it, and the totals, and chooses
//! which sites are shown.

use std::time::{Duration, SystemTime};

use super::{Loss, Overhead, Process, Report, SCHEMA, Selection, Summary, Tool, Window};

/// The time that a report covers, and how the boot-time clock relates to the calendar.
#[derive(Clone, Copy, Debug)]
pub struct BootWindow {
    /// When that time begins: boot time (`CLOCK_BOOTTIME`) in ns.
    pub start_ns: u64,
    /// When that time ends, which is when the report is made: boot time in ns.
    pub end_ns: u64,
    /// The calendar time at `end_ns`.
    pub end: SystemTime,
}

impl BootWindow {
    /// The calendar time of a boot time in ns, as RFC 3339 in UTC with milliseconds.
    pub fn calendar(&self, boot_ns: u64) -> String {
        let time = if boot_ns <= self.end_ns {
            self.end.checked_sub(Duration::from_nanos(self.end_ns - boot_ns))
        } else {
            self.end.checked_add(Duration::from_nanos(boot_ns - self.end_ns))
        };
        humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
    }
}

/// What a report says of the run as a whole.
#[derive(Clone, Debug)]
pub struct Run {
    /// What makes the report.
    pub tool: Tool,
    /// The time it covers.
    pub window: BootWindow,
    /// What tracing cost.
    pub overhead: Overhead,
    /// Processes that cannot be traced, with the reason in [`Process::detail`].
    pub untraced: Vec<Process>,
}

impl Run {
    /// Makes the report of `processes` and of those that cannot be traced. The totals are over all sites of
    /// `processes`; `selection` only says which of them are shown.
    pub fn report(&self, loss: Loss, mut processes: Vec<Process>, selection: &Selection) -> Report {
        let mut summary = Summary::default();
        processes.iter().flat_map(|process| &process.sites).for_each(|site| summary.add(site));
        processes.extend(self.untraced.iter().cloned());
        selection.apply(&mut processes);
        let window = &self.window;
        Report {
            schema: SCHEMA.into(),
            tool: self.tool.clone(),
            window: Window {
                start: window.calendar(window.start_ns),
                end: window.calendar(window.end_ns),
                duration_ns: window.end_ns.saturating_sub(window.start_ns),
            },
            loss,
            overhead: self.overhead,
            summary,
            processes,
        }
    }
}
