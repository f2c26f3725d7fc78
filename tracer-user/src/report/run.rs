//! From processes to a report: the time that it covers, what made it, which sites it shows.

use std::time::{Duration, SystemTime};

use super::{Loss, Overhead, Process, Report, SCHEMA, Selection, Summary, Tool, Window};

/// The time that a report covers, and how boot time relates to the calendar.
#[derive(Clone, Copy, Debug)]
pub struct BootWindow {
    /// Boot time (`CLOCK_BOOTTIME`) in ns when tracing began.
    pub start_ns: u64,
    /// Boot time in ns of the report.
    pub end_ns: u64,
    /// The calendar's time at `end_ns`.
    pub end: SystemTime,
}

impl BootWindow {
    /// RFC 3339 of a boot time, to the millisecond.
    pub fn calendar(&self, boot_ns: u64) -> String {
        let time = if boot_ns <= self.end_ns {
            self.end.checked_sub(Duration::from_nanos(self.end_ns - boot_ns))
        } else {
            self.end.checked_add(Duration::from_nanos(boot_ns - self.end_ns))
        };
        humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
    }
}

/// What only the run knows.
#[derive(Clone, Debug)]
pub struct Run {
    /// What makes the report.
    pub tool: Tool,
    /// The time it covers.
    pub window: BootWindow,
    /// What tracing cost.
    pub overhead: Overhead,
    /// Processes that are not traced, with the reason.
    pub untraced: Vec<Process>,
}

impl Run {
    /// The report of these processes, and of those that are not traced. Totals are of all sites; what is shown of them is a
    /// matter of `selection`.
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
