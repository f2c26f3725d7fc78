//! The finding that the number of living goroutines rises steadily, and still does.

use super::ConnectionsInUse;
use super::{Facts, Finding, Found};
use crate::human::{count, duration};
use crate::report::{EvidenceKind, Level};
use crate::stats::Balance;
use crate::stats::balance::is_sure;

/// A site that keeps growing is suspect, unless there is a harmless explanation; then it is only watched. What was there
/// before is no yardstick: births that did not end are set against ends of those of before, within the window. The load
/// may just be rising if goroutines of that age do end, but not if those that end live ever longer. Connections in use
/// may become more. And as many goroutines from before tracing may have ended unseen.
pub(super) struct Growth;

impl Finding<Facts<'_>> for Growth {
    fn check(&self, facts: &Facts) -> Option<Found> {
        let trend = &facts.trend;
        // What is younger than an eighth of the window may just be there for a moment.
        let young_ns = facts.standing.window_ns / 8;
        let balance = facts.balance(young_ns);
        let all = facts.balance(0);
        let stays = facts.knows_usual() && balance.is_rise() && balance.is_gain() && all.goes_on;
        let rises = trend.is_growth() && all.is_gain();
        if !stays && !rises {
            return None;
        }
        let text = if trend.is_growth() { steps(facts) } else { parts(facts, &balance) };
        let steady = is_sure(trend.rises as u32, trend.falls as u32);
        let (level, caveat) = match doubt(facts, &balance, young_ns) {
            Some(Doubt { caveat, excuses: true }) => (Level::Watch, caveat),
            _ if !stays && !steady => (Level::Watch, String::new()),
            Some(Doubt { caveat, .. }) => (Level::Suspect, caveat),
            None if facts.queue_gets_longer() => {
                (Level::Suspect, "; they queue, and more come than are served".to_string())
            }
            None if facts.lives_lengthen() => {
                (Level::Suspect, "; those that end have lived ever longer".to_string())
            }
            None => (Level::Suspect, String::new()),
        };
        Some(Found::new(level, EvidenceKind::Growth, text + &caveat))
    }
}

/// The rise in terms of the samples of the live count.
fn steps(facts: &Facts) -> String {
    let trend = &facts.trend;
    let steps = trend.samples - 1;
    let how = match trend.falls {
        0 if trend.rises == steps => "rose in every sample".to_string(),
        0 => format!("rose in {} of {steps} samples and never fell", trend.rises),
        falls => format!("rose in {} of {steps} samples and fell in {falls}", trend.rises),
    };
    format!("live grew by {} in {}: {how}", count(trend.grown.unsigned_abs()), duration(trend.span_ns))
}

/// The rise in terms of those that stayed and those that went.
fn parts(facts: &Facts, balance: &Balance) -> String {
    let (stayed, window) = (count(balance.stayed), duration(facts.standing.window_ns));
    let of_before = match balance.went {
        0 => "none of those of before ended".to_string(),
        went => format!("{} of those of before ended", count(went)),
    };
    format!("{stayed} were created all through {window} and stayed, {of_before}")
}

/// What may explain a rise.
struct Doubt {
    /// The end of a sentence.
    caveat: String,
    /// Whether it is likely enough not to accuse the site.
    excuses: bool,
}

fn doubt(facts: &Facts, balance: &Balance, young_ns: u64) -> Option<Doubt> {
    let grown = facts.trend.grown.unsigned_abs().max(balance.stayed);
    if facts.unattributed_exits * 2 > grown {
        let exits = count(facts.unattributed_exits);
        let caveat =
            format!("; {exits} goroutines from before tracing ended meanwhile, perhaps of this site");
        return Some(Doubt { caveat, excuses: true });
    }
    if let Some(ConnectionsInUse { known, busy }) = facts.connections_in_use() {
        let (all, busy) = (count(known), count(busy));
        let caveat = format!(
            "; of {all} that were there at an earlier look, {busy} have run since: connections in use look the same"
        );
        // A heartbeat keeps a forgotten connection busy, too. Those that requests leave behind, all through the window and
        // without any end, are no longer excused by it.
        return Some(Doubt { caveat, excuses: !is_left_by_requests(facts, balance) });
    }
    if facts.lives_lengthen() || facts.queue_gets_longer() {
        return None;
    }
    let excuse = |caveat: String| Some(Doubt { caveat, excuses: true });
    let all_young = |usual| {
        let old = facts.living.older_than(usual);
        old < 3 || old * 20 < grown
    };
    if let Some(usual) = facts.longest_usual_ns().filter(|&usual| all_young(usual)) {
        let usual = duration(usual);
        return excuse(format!("; all are young for their kind (p99.9 {usual}): rising load looks the same"));
    }
    let ended = facts.ended_older(young_ns);
    if ended * 4 < balance.stayed || ended == 0 {
        return None;
    }
    let (ended, young) = (count(ended), duration(young_ns));
    excuse(format!("; {ended} ended that had lived longer than {young}: rising load looks the same"))
}

/// Whether goroutines that serve requests create these, and none of them has ended.
fn is_left_by_requests(facts: &Facts, balance: &Balance) -> bool {
    facts.creators_end && facts.exited == 0 && balance.is_rise()
}
