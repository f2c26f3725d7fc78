//! The finding that the number of living goroutines rises steadily, and still does.

use super::ConnectionsInUse;
use super::{Facts, Finding, Found};
use crate::human::{count, duration};
use crate::report::{EvidenceKind, Level};

/// A site that keeps growing is suspect, unless there is a harmless explanation; then it is only watched. The load may
/// just be rising, if all goroutines are young for their kind or serve connections in use. Or as many goroutines from
/// before tracing may have ended unseen.
pub(super) struct Growth;

impl Finding<Facts<'_>> for Growth {
    fn check(&self, facts: &Facts) -> Option<Found> {
        let trend = &facts.trend;
        if !trend.is_growth() {
            return None;
        }
        let steps = trend.samples - 1;
        let how = match trend.falls {
            0 if trend.rises == steps => "rose in every sample".to_string(),
            0 => format!("rose in {} of {steps} samples and never fell", trend.rises),
            falls => format!("rose in {} of {steps} samples and fell in {falls}", trend.rises),
        };
        let text = format!(
            "live grew by {} in {}: {how}",
            count(trend.grown.unsigned_abs()),
            duration(trend.span_ns)
        );
        let (level, caveat) = match doubt(facts) {
            Some(caveat) => (Level::Watch, caveat),
            None => (Level::Suspect, String::new()),
        };
        Some(Found::new(level, EvidenceKind::Growth, text + &caveat))
    }
}

/// The harmless explanation as the end of a sentence, if there is one.
fn doubt(facts: &Facts) -> Option<String> {
    let grown = facts.trend.grown.unsigned_abs();
    if facts.unattributed_exits * 2 > grown {
        let exits = count(facts.unattributed_exits);
        return Some(format!(
            "; {exits} goroutines from before tracing ended meanwhile, perhaps of this site"
        ));
    }
    if let Some(ConnectionsInUse { known, busy }) = facts.connections_in_use() {
        let (all, busy) = (count(known), count(busy));
        return Some(format!(
            "; of {all} that were there before, {busy} did something in the last seconds: connections in use look the same"
        ));
    }
    let usual = facts.longest_usual_ns()?;
    let old = facts.living.older_than(usual);
    let all_young = old < 3 || old * 20 < grown;
    all_young.then(|| {
        format!("; all are young for their kind (p99.9 {}): rising load looks the same", duration(usual))
    })
}
