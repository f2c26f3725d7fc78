//! The finding that goroutines live longer than is usual for their site.

use super::{Facts, Finding, Found};
use crate::human::{count, duration};
use crate::report::{EvidenceKind, Level};

/// Compares the ages of the living with the site's own finished lifetimes. One goroutine in a thousand may live longer
/// than their 99.9th percentile; if there are more, the site is watched. It is suspect if ever more stay behind or the
/// live count grows as well, unless they serve connections in use.
pub(super) struct Ageing;

impl Finding<Facts<'_>> for Ageing {
    fn check(&self, facts: &Facts) -> Option<Found> {
        let usual = facts.longest_usual_ns()?;
        let old = facts.living.older_than(usual);
        let expected = facts.created as f64 / 1_000.0;
        // Goroutines that are hardly older than usual may be about to end, so they do not count here.
        let overdue = facts.living.older_than(usual.saturating_add(usual / 8));
        if overdue < 5 || overdue as f64 <= expected + 3.0 * expected.sqrt() {
            return None;
        }
        let goes_on = facts.trend.is_growth() || keeps_happening(facts, usual);
        let level = match facts.connections_in_use() {
            None if goes_on => Level::Suspect,
            _ => Level::Watch,
        };
        let (of, usual) = (count(facts.standing.live), duration(usual));
        let text = format!("{} of {of} are older than p99.9 of the finished ones ({usual})", count(old));
        Some(Found::new(level, EvidenceKind::Age, text))
    }
}

/// Whether goroutines were left behind all through the window, in its first half as well as in its second, while few
/// goroutines ended that were created before tracing. If many of those ended, long lives are usual for this site.
fn keeps_happening(facts: &Facts, usual: u64) -> bool {
    let older =
        |age| facts.living.exact.iter().filter(|&&(seen, _)| seen > age).map(|&(_, n)| n).sum::<u64>();
    let middle = usual.saturating_add(facts.standing.window_ns.saturating_sub(usual) / 2);
    let (all, early) = (older(usual), older(middle));
    let ended_late = facts.exited.saturating_sub(facts.lifetimes.count()) + facts.unattributed_exits;
    all >= 10 && ended_late * 2 < all && early * 4 >= all && (all - early) * 4 >= all
}
