//! What the reports of several hosts say together: totals, and what is still there of what the user has silenced. The hosts
//! stay apart otherwise, since each has a report of its own.

use std::collections::BTreeSet;

use crate::report::{Level, Process, Report};

/// The sum of reports, of which each is that of another host.
#[derive(Debug, Default)]
pub struct Together {
    /// From which verdict on sites are kept; `None` keeps none.
    kept: Option<Level>,
    sum: Option<Report>,
}

impl Together {
    /// A sum of no report yet, in which sites stay that are judged at this level or above and not ignored; none without it.
    pub fn keeping(kept: Option<Level>) -> Together {
        Together { kept, sum: None }
    }

    /// Adds the report of a host, which may have any numbers.
    pub fn add(&mut self, report: &Report) {
        let kept = |process: &Process| {
            let least = self.kept?;
            let sites = process.sites.iter().filter(|site| site.verdict.level >= least && !site.ignored);
            let sites: Vec<_> = sites.cloned().collect();
            (!sites.is_empty()).then(|| Process { sites, ..Process::default() })
        };
        let processes: Vec<Process> = report.processes.iter().filter_map(kept).collect();
        let Some(sum) = &mut self.sum else {
            self.sum = Some(Report {
                schema: report.schema.clone(),
                tool: report.tool.clone(),
                window: report.window.clone(),
                loss: report.loss,
                overhead: report.overhead,
                summary: report.summary,
                ignored: report.ignored.clone(),
                baseline: report.baseline.clone(),
                max_created: Vec::new(),
                tests: Vec::new(),
                toolchain_processes: 0,
                processes,
            });
            return;
        };
        sum.summary.merge(&report.summary);
        for (ignored, more) in sum.ignored.iter_mut().zip(&report.ignored) {
            ignored.sites = ignored.sites.saturating_add(more.sites);
        }
        // What one host has is not gone.
        if let (Some(baseline), Some(other)) = (&mut sum.baseline, &report.baseline) {
            let other: BTreeSet<&String> = other.unmatched.iter().collect();
            baseline.unmatched.retain(|entry| other.contains(entry));
        }
        sum.processes.extend(processes);
    }

    /// The sum, with the window and the tool of the first report; `None` where there was no report.
    pub fn report(self) -> Option<Report> {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::report::{Baseline, BootWindow, Frame, Loss, Overhead, Run, Selection, Site, Tool, Verdict};

    fn report(sites: &[(&str, Level)]) -> Report {
        let site = |(function, level): &(&str, Level)| Site {
            site: Frame { function: (*function).into(), ..Frame::default() },
            ordinal: Some(1),
            live: 5,
            verdict: Verdict { level: *level, ..Verdict::default() },
            ..Site::default()
        };
        let baseline = Baseline::parse("main.a#1\nmain.b#1\nmain.gone#1\n").unwrap();
        let selection = Selection {
            ignore: vec![regex::Regex::new("main.c").unwrap()],
            baseline: Some(baseline),
            ..Selection::default()
        };
        let mut sites: Vec<Site> = sites.iter().map(site).collect();
        sites.iter_mut().for_each(|site| selection.silence(site));
        let run = Run {
            tool: Tool::default(),
            window: BootWindow { start_ns: 0, end_ns: 9, end: SystemTime::UNIX_EPOCH },
            overhead: Overhead::default(),
            untraced: Vec::new(),
        };
        run.report(Loss::default(), vec![Process { sites, ..Process::default() }], &selection)
    }

    #[test]
    fn totals_are_summed_and_what_one_host_has_is_not_gone() {
        let reports = [
            report(&[("main.a", Level::Watch), ("main.c", Level::Watch)]),
            report(&[("main.b", Level::Healthy), ("main.d", Level::Watch)]),
        ];
        let mut together = Together::keeping(Some(Level::Watch));
        reports.iter().for_each(|report| together.add(report));
        let sum = together.report().unwrap();
        let summary = sum.summary;
        assert_eq!((summary.sites, summary.live, summary.known, summary.ignored), (4, 20, 2, 1));
        assert_eq!((summary.worst(), summary.watch, sum.ignored[0].sites), (Some(Level::Watch), 1, 1));
        assert_eq!(sum.baseline.unwrap().unmatched, ["main.gone#1"]);
        let kept = sum.processes.iter().flat_map(|process| &process.sites);
        assert_eq!(kept.map(|site| site.site.function.as_str()).collect::<Vec<_>>(), ["main.a", "main.d"]);
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut absurd = report(&[("main.a", Level::Suspect)]);
        absurd.summary.live = u64::MAX;
        absurd.summary.findings.get_or_insert_default().watch = u64::MAX;
        absurd.ignored[0].sites = u64::MAX;
        let mut together = Together::default();
        together.add(&absurd);
        together.add(&absurd);
        let sum = together.report().unwrap();
        assert_eq!((sum.summary.live, sum.ignored[0].sites, sum.processes.len()), (u64::MAX, u64::MAX, 0));
        assert!(Together::default().report().is_none());
    }
}
