//! What a report does not say, because it may hold secrets: they are taken out before anything is written.

use super::Report;

/// What can be left out of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redacted {
    /// Command lines, which may hold passwords.
    Command,
    /// Profiler labels, which may hold names and ids of users.
    Labels,
}

impl Redacted {
    /// All that can be left out, with the names that the user calls them by.
    pub const NAMES: [(&'static str, Redacted); 2] =
        [("command", Redacted::Command), ("labels", Redacted::Labels)];
}

impl Report {
    /// Takes out what is not to be said.
    pub fn redact(&mut self, what: &[Redacted]) {
        for process in &mut self.processes {
            if what.contains(&Redacted::Command) {
                process.command = None;
            }
            if what.contains(&Redacted::Labels) {
                process.sites.iter_mut().for_each(|site| site.labels = None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BootWindow, CountedLabel, Loss, Overhead, Process, Run, Selection, Site, Tool};
    use super::*;

    #[test]
    fn what_is_redacted_is_nowhere_in_the_document() {
        let label = CountedLabel { key: "user".into(), value: "secret-label".into(), count: 1 };
        let site = Site { labels: Some(vec![label]), ..Site::default() };
        let command = Some("/srv/api password=secret-word".into());
        let process = Process { command, sites: vec![site], ..Process::default() };
        let window = BootWindow { start_ns: 0, end_ns: 9, end: std::time::SystemTime::UNIX_EPOCH };
        let run = Run { tool: Tool::default(), window, overhead: Overhead::default(), untraced: Vec::new() };
        let report = run.report(Loss::default(), vec![process], &Selection::default());
        let left = |what: &[Redacted]| {
            let mut report = report.clone();
            report.redact(what);
            let text = serde_json::to_string(&report).unwrap();
            ["secret-word", "secret-label"].map(|secret| text.contains(secret))
        };
        assert_eq!(left(&[]), [true, true]);
        assert_eq!(left(&[Redacted::Command]), [false, true]);
        assert_eq!(left(&[Redacted::Command, Redacted::Labels]), [false, false]);
    }
}
