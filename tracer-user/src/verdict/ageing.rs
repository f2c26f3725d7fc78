//! The finding that goroutines live longer than is usual for their site.

use super::{Facts, Finding, Found};
use crate::human::{count, duration};
use crate::report::{EvidenceKind, Level};

/// Compares the ages of the living with the site's own finished lifetimes. One goroutine in a thousand may live longer
/// than their 99.9th percentile; if there are more, the site is watched. It is suspect if ever more stay behind, all
/// through the window, than of those of before ended, unless they serve connections in use.
pub(super) struct Ageing;

impl Finding<Facts<'_>> for Ageing {
    fn check(&self, facts: &Facts) -> Option<Found> {
        // Of lives that are longer than half the window, only the shorter ones were seen to end.
        let usual = facts.longest_usual_ns().filter(|&usual| usual <= facts.standing.window_ns / 2)?;
        let old = facts.living.older_than(usual);
        let expected = facts.created as f64 / 1_000.0;
        // Goroutines that are hardly older than usual may be about to end, so they do not count here.
        let longer = usual.saturating_add(usual / 8);
        let overdue = facts.living.older_than(longer);
        if overdue < 5 || overdue as f64 <= expected + 3.0 * expected.sqrt() {
            return None;
        }
        let balance = facts.balance(longer);
        let stays = balance.is_rise() && balance.is_gain() && facts.unattributed_exits * 2 <= balance.stayed;
        let level = match facts.connections_in_use() {
            None if stays => Level::Suspect,
            _ => Level::Watch,
        };
        let (of, usual) = (count(facts.standing.live), duration(usual));
        let text = format!("{} of {of} are older than p99.9 of the finished ones ({usual})", count(old));
        Some(Found::new(level, EvidenceKind::Age, text))
    }
}
