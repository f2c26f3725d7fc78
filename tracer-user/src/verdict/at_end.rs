//! The finding that a process has left goroutines behind when it ended. What lived then and never ended is no guess any
//! more, however short the run was.

use super::{Facts, Finding, Found, Wait, stuck};
use crate::human::{count, duration};
use crate::report::{Cause, EvidenceKind, Level};

/// Fewer than this are what a program keeps until its end: who waits for a signal, a worker or two for each CPU.
const FEW: u64 = 5;
/// From so many on they are suspect, if they were made all through the run.
const MANY: u64 = 10;
/// From so many on no pool is that large by intention, if they have work and cannot go on.
const LARGE: u64 = 32;
/// What is made once at the start, or in steps, falls into fewer parts of the run than this.
const PARTS: u32 = 5;

/// Workers and connections of a pool are alive at the end, too. But they are few, or are made at one time and wait for
/// work. What was made all through the run and never ended is not kept on purpose; nor are many that want to send or want
/// a lock.
pub(super) struct AtEnd;

impl Finding<Facts<'_>> for AtEnd {
    fn check(&self, facts: &Facts) -> Option<Found> {
        if facts.left_behind.is_some() {
            // In a test binary it is known what each of them goes back to.
            return None;
        }
        let left = left(facts).filter(|&left| left >= FEW)?;
        let one_by_one = parts(facts) >= PARTS;
        let all_through = one_by_one && goes_on(facts, left);
        let cannot = stuck::wanting(&facts.standing).filter(|wanting| wanting.all() >= FEW);
        if cannot.is_none() && !all_through && !(one_by_one && waits_alone(facts)) {
            return None;
        }
        let caveat = match facts.standing.cause() {
            _ if facts.unattributed_exits * 2 > left => {
                Some("; as many from before tracing ended meanwhile, perhaps of this statement")
            }
            Some(explained) if explained.cause == Cause::Io => {
                Some("; connections that are kept open look the same")
            }
            _ => None,
        };
        let is_many =
            all_through && left >= MANY || cannot.as_ref().is_some_and(|cannot| cannot.all() >= LARGE);
        let level = if is_many && caveat.is_none() { Level::Suspect } else { Level::Watch };
        let before = facts.first_created_ns.map(|first| facts.now_ns.saturating_sub(first));
        let mut text = match (facts.exited, before) {
            (0, Some(before)) => format!(
                "none of the {} had ended when the process did, {} after the first was created",
                count(left),
                duration(before)
            ),
            (0, None) => format!("none of the {} had ended when the process did", count(left)),
            (exited, _) => format!(
                "{} had not ended when the process did, and were twice as old as any of the {} that had",
                count(left),
                count(exited)
            ),
        };
        if let Some(cannot) = &cannot {
            text += &format!("; {cannot}");
        }
        text += match (one_by_one, all_through) {
            (_, true) => "; they were created all through its run",
            (true, false) => "; they were created one by one",
            (false, false) => "",
        };
        Some(Found::new(level, EvidenceKind::Left, text + caveat.unwrap_or_default()))
    }
}

/// How many were left behind: all if none has ever ended, else those that were far older than any that ended. `None` while
/// the process runs.
pub(super) fn left(facts: &Facts) -> Option<u64> {
    facts.ended.then_some(())?;
    let longest = facts.lifetimes.max_ns().max(facts.outlived.and_then(|outlived| outlived.max_ns()));
    Some(match longest {
        Some(longest) => facts.living.older_than(longest.saturating_mul(2)),
        None => facts.standing.live,
    })
}

/// In how many of 32 parts of the run they were created.
fn parts(facts: &Facts) -> u32 {
    facts.balance(0).up
}

/// Whether most of them wait on channels of their own, unlike workers that share one for their work.
fn waits_alone(facts: &Facts) -> bool {
    let waits = facts.standing.waits;
    let is_alone = |wait: &&Wait| wait.channels.iter().any(|channel| channel.waiters * 2 < wait.count.max(2));
    let alone: u64 = waits.iter().filter(is_alone).map(|wait| wait.count).sum();
    alone * 2 > waits.iter().map(|wait| wait.count).sum()
}

/// Whether they were still created in the second half of the run, and not only now and then.
fn goes_on(facts: &Facts, left: u64) -> bool {
    let half = facts.standing.window_ns / 2;
    let ages = facts.living.exact.iter();
    let late: u64 = ages.filter(|&&(age, _)| age < half).map(|&(_, n)| n).sum();
    // A twelfth is far less than the half of a steady pace.
    late * 12 >= left
}
