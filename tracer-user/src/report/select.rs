//! Which sites a report shows, and in which order.

use std::cmp::Reverse;

use regex::Regex;

use super::{Baseline, Level, MaxCreated, Process, Site, ignore};

/// What to sort sites by. The most, oldest, longest or worst come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The verdict, then the number of living goroutines.
    #[default]
    Verdict,
    /// The number of living goroutines.
    Live,
    /// The number of created goroutines.
    Created,
    /// The number of goroutines that ended.
    Exited,
    /// The number of creations per second.
    Rate,
    /// The age of the oldest living goroutine.
    Age,
    /// The 99th percentile of the lifetimes of goroutines that ended.
    Lifetime,
    /// The name of the creation site, in alphabetical order.
    Name,
}

impl Sort {
    /// All orders, with the names that the user calls them by.
    pub const NAMES: [(&'static str, Sort); 8] = [
        ("verdict", Sort::Verdict),
        ("live", Sort::Live),
        ("created", Sort::Created),
        ("exited", Sort::Exited),
        ("rate", Sort::Rate),
        ("age", Sort::Age),
        ("lifetime", Sort::Lifetime),
        ("name", Sort::Name),
    ];

    /// Which of two sites comes first. Those that are ignored or known come last in each order.
    pub fn order(self, a: &Site, b: &Site) -> std::cmp::Ordering {
        let by = |key: &dyn Fn(&Site) -> u64| key(b).cmp(&key(a));
        let first = match self {
            // What is not known yet is no better news than what is healthy, so the living decide between them.
            Sort::Verdict => by(&|site| site.verdict.level.max(Level::Healthy) as u64),
            Sort::Live => by(&|site| site.live),
            Sort::Created => by(&|site| site.created),
            Sort::Exited => by(&|site| site.exited),
            Sort::Rate => b.created_per_s.unwrap_or(0.0).total_cmp(&a.created_per_s.unwrap_or(0.0)),
            Sort::Age => by(&|site| site.oldest.map_or(0, |oldest| oldest.age_ns)),
            Sort::Lifetime => by(&|site| site.lifetime.as_ref().map_or(0, |lifetime| lifetime.p99_ns)),
            Sort::Name => std::cmp::Ordering::Equal,
        };
        let second = match self {
            Sort::Name => std::cmp::Ordering::Equal,
            _ => (Reverse(a.live), Reverse(a.created)).cmp(&(Reverse(b.live), Reverse(b.created))),
        };
        // Names decide last, so that two runs with the same numbers look the same.
        let names = || (&a.site, &a.entry).cmp(&(&b.site, &b.entry));
        a.is_silenced().cmp(&b.is_silenced()).then(first).then(second).then_with(names)
    }
}

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Sort, String> {
        let found = Sort::NAMES.into_iter().find(|(name, _)| *name == text);
        let names = || Sort::NAMES.map(|(name, _)| name).join(", ");
        found.map(|(_, sort)| sort).ok_or_else(|| format!("no such order: {text}; one of {}", names()))
    }
}

/// How many sites a report shows, which are the first ones in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// So many sites of each process.
    OfEachProcess(usize),
    /// So many sites of all processes together.
    OfAll(usize),
}

/// Which sites a report shows, in which order, and which of them are no findings.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What the sites are sorted by.
    pub sort: Sort,
    /// How many sites are shown at most; `None` shows all.
    pub top: Option<Top>,
    /// If given, only sites are shown whose oldest living goroutine is at least this old, in ns.
    pub min_age_ns: Option<u64>,
    /// Whether the runtime's own sites are shown, too.
    pub include_system: bool,
    /// Sites that one of these names are ignored: see [`Selection::silence`].
    pub ignore: Vec<Regex>,
    /// If given, sites that it lists are known.
    pub baseline: Option<Baseline>,
    /// At most how many goroutines may be created, and where.
    pub max_created: Vec<MaxCreated>,
}

impl Selection {
    /// Marks a site that is silenced: one of the patterns matches its `go` statement, the function that its goroutines run,
    /// the line of the program that most of them go back to, or the innermost call that most of them wait in; or the baseline
    /// lists it.
    pub fn silence(&self, site: &mut Site) {
        site.ignored = self.ignore.iter().any(|pattern| ignore::names(pattern, site));
        site.known = self.baseline.as_ref().is_some_and(|baseline| baseline.knows(site));
    }

    /// Drops sites that are too young, sorts the rest within their processes and the processes by their first site, and
    /// keeps as many as were asked for. The runtime's own sites are left out elsewhere, before totals are made.
    pub fn apply(&self, processes: &mut [Process]) {
        for process in processes.iter_mut() {
            let is_old = |site: &Site| match self.min_age_ns {
                Some(least) => site.oldest.is_some_and(|oldest| oldest.age_ns >= least),
                None => true,
            };
            let sites = &process.sites;
            let mut order: Vec<usize> = (0..sites.len()).filter(|&at| is_old(&sites[at])).collect();
            order.sort_by(|&a, &b| self.sort.order(&sites[a], &sites[b]));
            process.rearrange(&order);
        }
        processes.sort_by(|a, b| match (a.sites.first(), b.sites.first()) {
            (Some(a_first), Some(b_first)) => self.sort.order(a_first, b_first).then(a.pid.cmp(&b.pid)),
            (a_first, b_first) => b_first.is_some().cmp(&a_first.is_some()).then(a.pid.cmp(&b.pid)),
        });
        match self.top {
            Some(Top::OfEachProcess(most)) => {
                processes.iter_mut().for_each(|process| keep_first(process, most));
            }
            Some(Top::OfAll(most)) => self.keep_of_all(processes, most),
            None => {}
        }
    }

    fn keep_of_all(&self, processes: &mut [Process], most: usize) {
        let mut all: Vec<(usize, usize)> = Vec::new();
        for (at, process) in processes.iter().enumerate() {
            all.extend((0..process.sites.len()).map(|site| (at, site)));
        }
        all.sort_by(|a, b| self.sort.order(&processes[a.0].sites[a.1], &processes[b.0].sites[b.1]));
        let mut kept = vec![0; processes.len()];
        all.iter().take(most).for_each(|&(process, _)| kept[process] += 1);
        // Within a process the sites are in the same order, so those to keep come first.
        processes.iter_mut().zip(kept).for_each(|(process, kept)| keep_first(process, kept));
    }
}

/// Keeps the first sites of a process.
fn keep_first(process: &mut Process, most: usize) {
    if most < process.sites.len() {
        process.rearrange(&Vec::from_iter(0..most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Finding, Frame, Verdict};

    /// The live counts of the sites that are shown, for each process.
    fn shown(top: Top) -> Vec<Vec<u64>> {
        let process = |pid, live: &[u64]| {
            let sites = live.iter().map(|&live| Site { live, ..Site::default() }).collect();
            Process { pid, sites, ..Process::default() }
        };
        let mut processes = [process(1, &[5, 9, 7]), process(2, &[1, 8])];
        Selection { sort: Sort::Live, top: Some(top), ..Selection::default() }.apply(&mut processes);
        processes.iter().map(|process| process.sites.iter().map(|site| site.live).collect()).collect()
    }

    #[test]
    fn what_is_not_known_is_no_better_than_what_is_healthy() {
        let site =
            |level, live| Site { live, verdict: Verdict { level, ..Verdict::default() }, ..Site::default() };
        let mut sites =
            [(Level::Healthy, 0), (Level::Unknown, 16_268), (Level::Watch, 1), (Level::Healthy, 7)]
                .map(|(level, live)| site(level, live));
        sites.sort_by(|a, b| Sort::Verdict.order(a, b));
        assert_eq!(sites.map(|site| site.live), [1, 16_268, 7, 0]);
    }

    #[test]
    fn what_is_ignored_comes_last_in_each_order() {
        let site = |name: &str, ignored: bool| Site {
            site: Frame { function: name.into(), ..Frame::default() },
            live: 9 - u64::from(!ignored),
            verdict: Verdict {
                level: if ignored { Level::Proven } else { Level::Healthy },
                ..Verdict::default()
            },
            ignored,
            ..Site::default()
        };
        for (_, sort) in Sort::NAMES {
            let mut sites = [site("a", true), site("b", false)];
            sites.sort_by(|a, b| sort.order(a, b));
            assert!(sites[1].ignored, "{sort:?}");
        }
    }

    #[test]
    fn findings_name_their_sites_where_they_are_shown() {
        let sites = [5, 9, 7].map(|live| Site { live, ..Site::default() });
        let finding = |sites: &[usize]| Finding { sites: sites.to_vec(), ..Finding::default() };
        let process = Process {
            sites: sites.to_vec(),
            findings: vec![finding(&[0, 1]), finding(&[2]), finding(&[0])],
            ..Process::default()
        };
        let selection =
            Selection { sort: Sort::Live, top: Some(Top::OfEachProcess(2)), ..Selection::default() };
        let mut processes = [process];
        selection.apply(&mut processes);
        let findings: Vec<_> = processes[0].findings.iter().map(|finding| finding.sites.clone()).collect();
        assert_eq!(findings, [vec![0], vec![1]]);
    }

    #[test]
    fn the_first_sites_are_those_of_each_process_or_of_all() {
        assert_eq!(shown(Top::OfEachProcess(1)), [vec![9], vec![8]]);
        assert_eq!(shown(Top::OfEachProcess(9)), [vec![9, 7, 5], vec![8, 1]]);
        assert_eq!(shown(Top::OfAll(3)), [vec![9, 7], vec![8]]);
        assert_eq!(shown(Top::OfAll(1)), [vec![9], vec![]]);
    }
}
