//! What the tests of a test binary have left behind: goroutines that outlived them, by site for the verdicts, and by test for
//! the report.

use std::collections::{BTreeMap, HashMap};

use super::Described;
use super::findings::Reported;
use crate::go::standard::is_shared_by_tests;
use crate::report::{Leaked, Site, Test, TestKind, Waiting};
use crate::tracker::{self, Descendant, Instance, Origin, SiteId, TestNames};
use crate::verdict::cause::{self, Code, Start};
use crate::verdict::{LeftBehind, Parked, Wait};

/// What has become of a goroutine that goes back to a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was left behind, and is still there.
    Leaked,
    /// It was left behind, and has ended since.
    EndedLate,
    /// It was about to end when its process did.
    Ending,
    /// It lives, and that is no fault.
    Living,
    /// Its process has ended, and nobody could see whether it was blocked.
    Unseen,
}

/// The goroutines of a test binary, with what has become of them.
pub(super) struct Tests {
    all: Vec<(Descendant, Fate)>,
    by_site: HashMap<SiteId, LeftBehind>,
    none: LeftBehind,
}

impl Tests {
    /// What is known at the boot time `now_ns`; `None` if the process runs no tests. A goroutine has leaked that outlived its test
    /// by `grace_ns`, or is blocked at the end of its process.
    pub(super) fn of(
        instance: &Instance,
        described: &Described,
        names: &TestNames,
        grace_ns: u64,
        now_ns: u64,
    ) -> Option<Tests> {
        let runs = instance.test_runs()?;
        let is_of_tests = |one: &Descendant| {
            let about = described.site(one.site);
            let functions = [about.site, about.entry].into_iter().flatten();
            !about.is_system && !functions.into_iter().any(|frame| is_shared_by_tests(&frame.function))
        };
        let parked = |goid: u64| described.parked?.get(&goid);
        let fate = |one: &Descendant| match one.outlived_ns {
            None => Fate::Living,
            Some(outlived) if outlived >= grace_ns => Fate::Leaked,
            Some(_) if instance.ended.is_none() => Fate::Living,
            Some(_) => match parked(one.goid).map(|parked| parked.is_blocked) {
                Some(true) => Fate::Leaked,
                Some(false) => Fate::Ending,
                None => Fate::Unseen,
            },
        };
        let living = instance.descendants(now_ns);
        let living = living.into_iter().filter(is_of_tests).map(|one| (one, fate(&one)));
        let ended = runs.ended_late().iter().copied().filter(is_of_tests);
        let all: Vec<_> = living.chain(ended.map(|one| (one, Fate::EndedLate))).collect();
        let mut counts: HashMap<SiteId, BTreeMap<Origin, u64>> = HashMap::new();
        let mut by_site: HashMap<SiteId, LeftBehind> = HashMap::new();
        for (one, fate) in &all {
            match fate {
                Fate::Leaked | Fate::EndedLate => {
                    *counts.entry(one.site).or_default().entry(one.origin).or_default() += 1;
                }
                Fate::Ending | Fate::Living | Fate::Unseen => {
                    let left = by_site.entry(one.site).or_default();
                    left.others += 1;
                    left.unseen += u64::from(*fate == Fate::Unseen);
                }
            }
        }
        for (site, tests) in counts {
            let by_test = &mut by_site.entry(site).or_default().by_test;
            by_test.extend(tests.into_iter().map(|(origin, count)| (name(origin, names).1, count)));
            by_test.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        }
        Some(Tests { all, by_site, none: LeftBehind::default() })
    }

    /// What tests have left behind at a site.
    pub(super) fn at(&self, site: SiteId) -> &LeftBehind {
        self.by_site.get(&site).unwrap_or(&self.none)
    }

    /// The tests as the report has them.
    pub(super) fn report(
        &self,
        instance: &Instance,
        described: &Described,
        code: Code,
        names: &TestNames,
        sites: &[Reported],
    ) -> Vec<Test> {
        let test = |origin| {
            let (kind, test) = name(origin, names);
            Test {
                package: described.package.map(Into::into),
                test,
                kind,
                pid: instance.pid,
                ..Test::default()
            }
        };
        let mut tests: BTreeMap<Origin, Test> = BTreeMap::new();
        for ((kind, name), runs) in instance.test_runs().into_iter().flat_map(|runs| runs.tests()) {
            let origin = Origin::Test(kind, name);
            let unfinished = runs.begun - runs.ended;
            tests.insert(origin, Test { runs: runs.begun, unfinished, ..test(origin) });
        }
        let sites: HashMap<SiteId, &Reported> =
            sites.iter().map(|reported| (reported.id, reported)).collect();
        for (one, fate) in &self.all {
            let known = tests.entry(one.origin).or_insert_with(|| test(one.origin));
            match fate {
                Fate::Ending => known.ending += 1,
                Fate::Living | Fate::Unseen => known.living += 1,
                Fate::Leaked | Fate::EndedLate => {
                    known.leaked_count += 1;
                    if known.leaked.len() < Test::MOST_LEAKED
                        && let Some(reported) = sites.get(&one.site)
                    {
                        let parked = described.parked.and_then(|parked| parked.get(&one.goid));
                        let looked = described.site(one.site);
                        known.leaked.push(Leaked {
                            goid: one.goid,
                            outlived_ns: one.outlived_ns.unwrap_or_default(),
                            ended: *fate == Fate::EndedLate,
                            ..leaked(&reported.site, parked, reported.waits, code, looked.site)
                        });
                    }
                }
            }
        }
        tests.into_values().collect()
    }
}

/// A goroutine of a site that was left behind, with what keeps it from ending: the cause of those of its site that wait as it
/// does.
fn leaked(
    site: &Site,
    parked: Option<&Parked>,
    waits: &[Wait],
    code: Code,
    statement: Option<&crate::report::Frame>,
) -> Leaked {
    let own = parked.map(|parked| &parked.waiting);
    let alike = |group: &&Waiting| {
        own.is_some_and(|own| own.reason == group.reason && own.at.first() == group.at.first())
    };
    let mut groups = site.waiting.iter().flatten().zip(waits);
    let group = groups.find(|(group, _)| alike(group));
    let start = Start { statement, ..Start::default() };
    let explained = group.and_then(|(_, wait)| cause::of(std::slice::from_ref(wait), code, &start));
    let waiting = own.map(|own| match group {
        // What a group of one waits on is what that one does.
        Some((group, _)) if group.goids == own.goids => group.clone(),
        _ => own.clone(),
    });
    let (cause, advice) = match explained {
        Some(explained) => (Some(explained.cause), Some(explained.advice)),
        None => (site.verdict.cause, site.verdict.advice.clone()),
    };
    Leaked {
        site: site.site.clone(),
        ordinal: site.ordinal,
        entry: site.entry.clone(),
        waiting,
        cause,
        advice,
        silenced: site.is_silenced(),
        ..Leaked::default()
    }
}

/// The kind and the name of what a goroutine goes back to.
pub(super) fn name(origin: Origin, names: &TestNames) -> (TestKind, String) {
    match origin {
        Origin::Init => (TestKind::Init, "init".into()),
        Origin::TestMain => (TestKind::TestMain, "TestMain".into()),
        Origin::Unknown => (TestKind::Unknown, String::new()),
        Origin::Test(kind, name) => {
            let kind = match kind {
                tracker::TestKind::Test => TestKind::Test,
                tracker::TestKind::Benchmark => TestKind::Benchmark,
                tracker::TestKind::Fuzz => TestKind::Fuzz,
                tracker::TestKind::Example => TestKind::Example,
            };
            (kind, names.text(name).to_owned())
        }
    }
}
