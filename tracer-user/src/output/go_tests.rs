//! Tests as people and CI pages know them: by package and name, whichever process they ran in, with what they have left behind.

use std::collections::{BTreeMap, HashSet};

use crate::human::sum;
use crate::report::{EvidenceKind, Frame, Leaked, Report, Site, Test, TestKind};

/// The runs of a test, or other code of a package that starts goroutines.
pub(super) struct GoTest<'report> {
    pub(super) package: Option<&'report str>,
    pub(super) name: &'report str,
    pub(super) kind: TestKind,
    /// The processes that it ran in.
    pub(super) pids: Vec<u32>,
    pub(super) runs: u64,
    pub(super) unfinished: u64,
    /// What it has left behind and is neither ignored nor known.
    pub(super) leaked: Vec<&'report Leaked>,
    /// The number of these, also of those that the report does not have one by one.
    pub(super) left: u64,
    /// The number of those that are ignored or known.
    pub(super) silenced: u64,
    pub(super) ending: u64,
    pub(super) living: u64,
}

impl<'report> GoTest<'report> {
    /// Those of a report, by package and name. A test that ran in several processes is one, if its package is known.
    pub(super) fn all(report: &'report Report) -> Vec<GoTest<'report>> {
        let mut all: BTreeMap<_, GoTest> = BTreeMap::new();
        for test in &report.tests {
            let alone = test.package.is_none().then_some(test.pid);
            let key = (test.package.as_deref(), alone, test.test.as_str(), test.kind);
            all.entry(key).or_insert_with(|| GoTest::named(test)).add(test);
        }
        all.into_values().collect()
    }

    fn named(test: &'report Test) -> GoTest<'report> {
        GoTest {
            package: test.package.as_deref(),
            name: &test.test,
            kind: test.kind,
            pids: Vec::new(),
            runs: 0,
            unfinished: 0,
            leaked: Vec::new(),
            left: 0,
            silenced: 0,
            ending: 0,
            living: 0,
        }
    }

    fn add(&mut self, test: &'report Test) {
        if !self.pids.contains(&test.pid) {
            self.pids.push(test.pid);
        }
        let silenced = test.leaked.iter().filter(|leaked| leaked.silenced).count() as u64;
        let left = test.leaked_count.max(test.leaked.len() as u64) - silenced;
        self.leaked.extend(test.leaked.iter().filter(|leaked| !leaked.silenced));
        self.runs = sum([self.runs, test.runs]);
        self.unfinished = sum([self.unfinished, test.unfinished]);
        // Where a report does not have all, some of the others may be silenced, too: they count with those that are listed.
        self.left = sum([self.left, if test.fails() { left } else { 0 }]);
        self.silenced = sum([self.silenced, if test.fails() { silenced } else { left + silenced }]);
        self.ending = sum([self.ending, test.ending]);
        self.living = sum([self.living, test.living]);
    }

    /// Whether it is what `go test` runs, and not what else there is in a test binary.
    pub(super) fn is_test(&self) -> bool {
        match self.kind {
            TestKind::Test | TestKind::Benchmark | TestKind::Fuzz | TestKind::Example => true,
            TestKind::TestMain | TestKind::Init | TestKind::Unknown => false,
        }
    }

    /// Whether it has left goroutines behind that are neither ignored nor known.
    pub(super) fn fails(&self) -> bool {
        !self.leaked.is_empty()
    }
}

/// What goroutines have in common that are left behind by the same mistake, as far as can be seen: statement, function, what they
/// wait for and where.
pub(super) type Alike<'report> =
    (&'report Frame, &'report Frame, Option<&'report str>, Option<&'report Frame>);

pub(super) fn alike(leaked: &Leaked) -> Alike<'_> {
    let waiting = leaked.waiting.as_ref();
    let reason = waiting.map(|waiting| waiting.reason.as_str());
    (&leaked.site, &leaked.entry, reason, waiting.and_then(|waiting| waiting.at.first()))
}

/// Goroutines that were left behind and are alike.
pub(super) struct Group<'report> {
    pub(super) alike: Alike<'report>,
    /// At least one.
    pub(super) leaked: Vec<&'report Leaked>,
}

impl<'report> Group<'report> {
    /// Groups what tests have left behind, most first.
    pub(super) fn of(leaked: impl IntoIterator<Item = &'report Leaked>) -> Vec<Group<'report>> {
        let mut groups: BTreeMap<Alike, Vec<&Leaked>> = BTreeMap::new();
        for leaked in leaked {
            groups.entry(alike(leaked)).or_default().push(leaked);
        }
        let groups = groups.into_iter().map(|(alike, leaked)| Group { alike, leaked });
        let mut groups: Vec<_> = groups.collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.leaked.len()));
        groups
    }
}

/// The statements of which everything is told where the tests are shown that leak.
pub(super) struct Told<'report>(HashSet<(&'report Frame, &'report str)>);

impl<'report> Told<'report> {
    pub(super) fn of(report: &'report Report) -> Told<'report> {
        let leaked = report.tests.iter().flat_map(|test| &test.leaked).filter(|leaked| !leaked.silenced);
        Told(leaked.map(|leaked| (&leaked.site, leaked.entry.function.as_str())).collect())
    }

    /// Whether a site is one of them: tests are a reason for its verdict, and its goroutines are among those that are shown.
    pub(super) fn has(&self, site: &Site) -> bool {
        let mut evidence = site.verdict.evidence.iter();
        evidence.any(|evidence| evidence.kind == EvidenceKind::Test)
            && !site.is_silenced()
            && self.0.contains(&(&site.site, site.entry.function.as_str()))
    }
}
