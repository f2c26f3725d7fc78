//! What the user has silenced: sites that stay in a report with their verdicts, but are no findings.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use super::site::Site;

/// A pattern of `--ignore`, and what it has silenced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ignored {
    /// The regular expression.
    pub pattern: String,
    /// Number of sites that it matches, also of those that the report does not show. A site may match several patterns.
    pub sites: u64,
}

/// Whether a pattern names a site: by its `go` statement, by the function that its goroutines run, by the line of the main
/// module that most of them go back to, or by the innermost call that most of them wait in. A row that stands for many
/// sites has no name of its own.
pub(super) fn names(pattern: &Regex, site: &Site) -> bool {
    let is_most = |count: u64| count > site.live.saturating_sub(count);
    let blamed = site.blame.iter().flatten().filter(|line| is_most(line.count)).map(|line| &line.frame);
    !site.other && {
        let own = [&site.site, &site.entry];
        own.into_iter().chain(blamed).chain(waits_at(site, is_most)).any(|frame| frame.matches(pattern))
    }
}

/// The innermost call of the goroutines that wait at the same line for whatever reason, if they are enough.
fn waits_at(site: &Site, is_enough: impl Fn(u64) -> bool) -> Option<&Frame> {
    let waiting = || site.waiting.iter().flatten();
    waiting().find_map(|one| {
        let frame = one.at.first()?;
        let same = waiting().filter(|other| other.at.first() == Some(frame));
        let count = same.fold(0u64, |sum, waiting| sum.saturating_add(waiting.count));
        is_enough(count).then_some(frame)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{BlamedFrame, Waiting};

    fn frame(function: &str) -> Frame {
        let file = format!("/src/{}.go", function.rsplit('.').next().unwrap_or_default());
        Frame { function: function.into(), file: Some(file), line: Some(88) }
    }

    #[test]
    fn a_site_is_named_by_where_it_begins_runs_comes_from_and_waits() {
        let blame = |function, count| BlamedFrame { frame: frame(function), count, ..BlamedFrame::default() };
        let waiting = |reason: &str, function, count| {
            let at = vec![frame(function), frame("main.outer")];
            Waiting { reason: reason.into(), count, at, ..Waiting::default() }
        };
        let site = Site {
            site: frame("x.io/pool.start"),
            entry: frame("x.io/pool.(*Worker).run"),
            live: 10,
            blame: Some(vec![blame("main.most", 6), blame("main.few", 4)]),
            waiting: Some(vec![
                waiting("select", "x.io/pool.next", 3),
                waiting("select", "x.io/pool.idle", 4),
                waiting("chan receive", "x.io/pool.next", 3),
            ]),
            ..Site::default()
        };
        let is_named = |pattern: &str, site: &Site| names(&Regex::new(pattern).unwrap(), site);
        for pattern in
            ["pool\\.start$", "Worker", "^main\\.most", "pool\\.next", r"^/src/start\.go:88$", "most.go"]
        {
            assert!(is_named(pattern, &site), "{pattern}");
        }
        for pattern in ["main.few", "pool.idle", "main.outer", "start.go:8$", "select"] {
            assert!(!is_named(pattern, &site), "{pattern}");
        }
        let escaped = Site { entry: frame("gopkg.in/yaml%2ev3.parse"), ..Site::default() };
        assert!(is_named("yaml%2ev3", &escaped) && is_named("^gopkg.in/yaml\\.v3\\.", &escaped));
        assert!(!is_named("", &Site { other: true, ..site.clone() }), "it is not known what it stands for");
        assert!(is_named("pool", &Site { live: 0, blame: None, waiting: None, ..site }));
    }
}
