//! The finding that goroutines are created all the time, and none has ever ended.

use super::{Facts, Finding, Found};
use crate::human::{count, duration};
use crate::report::{EvidenceKind, Level};

/// Goroutines that are meant to live long are few and created at one time. A site that goes on creating goroutines of
/// which none ends is something else.
pub(super) struct Endless;

impl Finding<Facts<'_>> for Endless {
    fn check(&self, facts: &Facts) -> Option<Found> {
        if facts.exited > 0 || facts.created < 5 || facts.standing.live == 0 || !facts.creation_goes_on() {
            return None;
        }
        if !facts.knows_usual() {
            return None;
        }
        // With no end at all, fewer births are enough than where some are set against ends.
        let balance = facts.balance(0);
        let is_suspect = balance.up >= 10
            && balance.all_through
            && balance.goes_on
            && facts.unattributed_exits * 2 <= facts.created
            && facts.connections_in_use().is_none();
        let level = if is_suspect { Level::Suspect } else { Level::Watch };
        let (created, window) = (count(facts.created), duration(facts.standing.window_ns));
        let text = format!("none of the {created} created in {window} has ended");
        Some(Found::new(level, EvidenceKind::Endless, text))
    }
}
