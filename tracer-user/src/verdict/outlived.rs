//! The finding that goroutines have outlived the test that led to them. A test ends what it began, so one is enough.

use super::{Facts, Finding, Found};
use crate::human::count;
use crate::report::{EvidenceKind, Level, Waiting};

/// So many tests are named.
const NAMED: usize = 3;

/// What the tests of a test binary have left behind at a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// The tests, with how many goroutines each has left behind; most first.
    pub by_test: Vec<(String, u64)>,
    /// How many goroutines of the site live beside these.
    pub others: u64,
    /// How many of these have outlived a test by less than the grace, so that they were left behind if they were blocked at the
    /// end, which nobody could see.
    pub unseen: u64,
}

impl LeftBehind {
    /// How many goroutines were left behind.
    pub fn leaked(&self) -> u64 {
        self.by_test.iter().map(|(_, count)| count).sum()
    }
}

/// What a goroutine that may have been left behind was doing when it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// Whether it waited for something, or was in a system call or in C; else it ran, or could have run.
    pub is_blocked: bool,
    /// The same in words, with where it was.
    pub waiting: Waiting,
}

/// A goroutine that a test has left behind, like those that `goleak` finds (<https://pkg.go.dev/go.uber.org/goleak>).
pub(super) struct Outlived;

impl Finding<Facts<'_>> for Outlived {
    fn check(&self, facts: &Facts) -> Option<Found> {
        let left = facts.left_behind?;
        let leaked = left.leaked();
        if leaked == 0 {
            return None;
        }
        let names: Vec<&str> = left.by_test.iter().take(NAMED).map(|(name, _)| name.as_str()).collect();
        let more = match left.by_test.len() - names.len() {
            0 => String::new(),
            1 => " and 1 more test".into(),
            more => format!(" and {} more tests", count(more as u64)),
        };
        let text = format!("{} outlived {}{more}", count(leaked), names.join(", "));
        Some(Found::new(Level::Suspect, EvidenceKind::Test, text))
    }
}
