//! Makes a report of processes. It adds the time that the report covers, what made it, and the totals, and chooses
//! which sites are shown.

use std::time::{Duration, SystemTime};

use super::ignore::{self, Ignored};
use super::{FindingCounts, Loss, Overhead, Process, Report, SCHEMA, Selection, Summary, Tool, Window};

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
    /// The calendar time of a boot time in ns, as RFC 3339 in UTC with milliseconds. Times of records that no clock can
    /// have shown become the nearest that the format has: the years 1970 to 9999.
    pub fn calendar(&self, boot_ns: u64) -> String {
        let (first, last) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST);
        let time = if boot_ns <= self.end_ns {
            self.end.checked_sub(Duration::from_nanos(self.end_ns - boot_ns)).unwrap_or(first)
        } else {
            self.end.checked_add(Duration::from_nanos(boot_ns - self.end_ns)).unwrap_or(last)
        };
        humantime::format_rfc3339_millis(time.clamp(first, last)).to_string()
    }
}

/// From 1970 to the last second of the year 9999, which is the last that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

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
        let mut summary = Summary { findings: Some(FindingCounts::default()), ..Summary::default() };
        processes
            .iter()
            .flat_map(|process| &process.findings)
            .for_each(|finding| summary.add_finding(finding));
        processes.iter().flat_map(|process| &process.sites).for_each(|site| summary.add(site));
        let all = || processes.iter().flat_map(|process| &process.sites);
        let sites = || all().filter(|site| site.ignored);
        let ignored = selection.ignore.iter().map(|pattern| Ignored {
            pattern: pattern.as_str().to_owned(),
            sites: sites().filter(|site| ignore::names(pattern, site)).count() as u64,
        });
        let ignored = ignored.collect();
        let baseline = selection.baseline.as_ref().map(|baseline| baseline.compare(all()));
        let max_created = selection.max_created.iter().map(|most| most.count(all())).collect();
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
            ignored,
            baseline,
            max_created,
            tests: Vec::new(),
            toolchain_processes: 0,
            processes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, Level, Site, Top, Verdict};
    use super::*;

    #[test]
    fn what_is_ignored_is_counted_by_pattern_and_in_no_verdict() {
        let site = |name: &str, level| {
            let site = Frame { function: name.into(), ..Frame::default() };
            Site { site, live: 3, verdict: Verdict { level, ..Verdict::default() }, ..Site::default() }
        };
        let ignore = ["leak", "main", "none"].map(|pattern| regex::Regex::new(pattern).unwrap()).to_vec();
        let selection = Selection { ignore, top: Some(Top::OfEachProcess(1)), ..Selection::default() };
        let mut sites = vec![
            site("main.leak", Level::Suspect),
            site("main.run", Level::Unknown),
            site("x.f", Level::Watch),
        ];
        sites.iter_mut().for_each(|site| selection.silence(site));
        let run = Run {
            tool: Tool::default(),
            window: BootWindow { start_ns: 0, end_ns: 9, end: SystemTime::UNIX_EPOCH },
            overhead: Overhead::default(),
            untraced: Vec::new(),
        };
        let report = run.report(Loss::default(), vec![Process { sites, ..Process::default() }], &selection);
        let ignored: Vec<_> = report.ignored.iter().map(|one| (one.pattern.as_str(), one.sites)).collect();
        assert_eq!(ignored, [("leak", 1), ("main", 2), ("none", 0)], "also those that --top hides");
        let summary = report.summary;
        assert_eq!((summary.sites, summary.live, summary.ignored), (3, 9, 2));
        assert_eq!((summary.worst(), summary.unknown), (Some(Level::Watch), 0));
        assert_eq!(report.processes[0].sites[0].site.function, "x.f");
    }

    #[test]
    fn a_time_that_no_clock_has_shown_is_the_nearest_that_can_be_written() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let window = |end_ns, end| BootWindow { start_ns: 0, end_ns, end };
        assert_eq!(window(5_000_000_000, at(10)).calendar(4_000_000_000), "1970-01-01T00:00:09.000Z");
        assert_eq!(window(u64::MAX, at(10)).calendar(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(window(0, at(253_402_300_000)).calendar(u64::MAX), "9999-12-31T23:59:59.000Z");
    }
}
