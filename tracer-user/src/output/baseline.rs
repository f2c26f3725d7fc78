//! Writes a baseline: a line for each `go` statement that leaks, sorted, with a comment that says where it is and why.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::names::place;
use crate::report::{BaselineEntry, Level, Report, Site};

/// What stands at the top.
const HEAD: &str = "# Known to leak: golife --baseline lets them pass. FUNCTION#ORDINAL is the key, the rest of a line a comment.";

/// Writes the `go` statements of the sites that are judged at this level or above and not ignored. Returns how many of these
/// sites cannot be listed, because it is not known which statement of its function they are.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write(report: &Report, least: Level, out: &mut dyn Write) -> io::Result<usize> {
    let sites = report.processes.iter().flat_map(|process| &process.sites);
    let leaking = sites.filter(|site| site.verdict.level >= least && !site.ignored);
    let (mut lines, mut unlisted) = (BTreeMap::<String, &Site>::new(), 0);
    for site in leaking {
        match BaselineEntry::of(site) {
            // Of several functions that a statement has started, or of several processes, the worst is told.
            Some(entry) => {
                let worst = lines.entry(entry.to_string()).or_insert(site);
                if site.verdict.level > worst.verdict.level {
                    *worst = site;
                }
            }
            None => unlisted += 1,
        }
    }
    writeln!(out, "{HEAD}")?;
    let line = |(key, site): (String, &Site)| {
        let why = site.verdict.cause.map_or(site.verdict.level.name(), |cause| cause.name());
        format!("{key}  # {} {why}", place(&site.site))
    };
    let mut lines: Vec<String> = lines.into_iter().map(line).collect();
    lines.sort_unstable();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(unlisted)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::report::{
        Baseline, BootWindow, Cause, Frame, Loss, Overhead, Process, Run, Selection, Sort, Tool, Verdict,
    };

    #[test]
    fn what_is_written_is_sorted_and_known() {
        let site = |function: &str, ordinal, level| Site {
            site: Frame { function: function.into(), file: Some("/src/a/hub.go".into()), line: Some(88) },
            ordinal,
            verdict: Verdict { level, cause: Some(Cause::Mutex), ..Verdict::default() },
            ..Site::default()
        };
        let sites = vec![
            site("main.f", Some(10), Level::Suspect),
            site("main.f", Some(2), Level::Watch),
            site("main.f", Some(2), Level::Proven),
            site("B.f", Some(1), Level::Watch),
            site("main.g", Some(1), Level::Healthy),
            site("main.h", None, Level::Proven),
            Site { ignored: true, ..site("main.i", Some(1), Level::Proven) },
        ];
        let run = Run {
            tool: Tool::default(),
            window: BootWindow { start_ns: 0, end_ns: 9, end: SystemTime::UNIX_EPOCH },
            overhead: Overhead::default(),
            untraced: Vec::new(),
        };
        let selection = Selection { sort: Sort::Name, ..Selection::default() };
        let process = Process { sites, ..Process::default() };
        let report = run.report(Loss::default(), vec![process], &selection);
        let written = |least| {
            let mut text = Vec::new();
            let unlisted = write(&report, least, &mut text).unwrap();
            (String::from_utf8(text).unwrap(), unlisted)
        };
        let lines = "B.f#1  # hub.go:88 mutex\nmain.f#10  # hub.go:88 mutex\nmain.f#2  # hub.go:88 mutex\n";
        assert_eq!(written(Level::Watch), (format!("{HEAD}\n{lines}"), 1));
        let (text, _) = written(Level::Proven);
        let baseline = Baseline::parse(&text).unwrap();
        let known = report.processes[0].sites.iter().filter(|site| baseline.knows(site));
        let known: Vec<_> = known.map(|site| (site.site.function.as_str(), site.ordinal)).collect();
        assert_eq!(known, [("main.f", Some(2)); 2], "both that the statement has started");
    }
}
