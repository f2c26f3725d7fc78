//! Names the channel or lock that goroutines of a site wait on, in a line for people.

use super::names::{descriptor_of_group, place};
use crate::human::{clean, count};
use crate::report::{Level, Others, Site, WaitedOn, Waiting};

/// One line about the object or file descriptor that most goroutines of a suspicious site wait on; none for other sites,
/// or if it is not known.
pub(super) fn lines(site: &Site) -> impl Iterator<Item = String> {
    let suspicious = site.verdict.level >= Level::Suspect;
    let most = site.waiting.iter().flatten().next().filter(|_| suspicious);
    most.and_then(of).into_iter()
}

/// The line about what most of these goroutines wait on; `None` if it is not known.
pub(super) fn of(waiting: &Waiting) -> Option<String> {
    waiting.on.first().map(line).or_else(|| descriptor_of_group(waiting))
}

/// A line such as `channel 0xc000012345 (unbuffered): 40 on it, 3 others in select at hub.go:9; known to 1 in
/// sync.Mutex.Lock at hub.go:20`.
fn line(on: &WaitedOn) -> String {
    let mut line = format!("{} {}", on.kind.name(), clean(&on.address));
    if let (Some(len), Some(cap)) = (on.len, on.cap) {
        let full = if cap > 0 {
            format!("{} of {} places taken", count(len), count(cap))
        } else {
            "unbuffered".into()
        };
        line += &format!(" ({full})");
    }
    let others = on.waiters.saturating_sub(on.count);
    line += &match others {
        0 => format!(": {} on it, no other goroutine", count(on.count)),
        _ => format!(": {} on it, {}", count(on.count), list("others", &on.others)),
    };
    let who = [("held by", &on.held_by), ("may be held by", &on.may_be_held_by), ("known to", &on.known_to)];
    if let Some((what, who)) = who.into_iter().find(|(_, who)| !who.is_empty()) {
        line += &format!("; {what} {}", list("", who));
    }
    line
}

fn list(what: &str, others: &[Others]) -> String {
    let what = if what.is_empty() { String::new() } else { format!(" {what}") };
    let one = |other: &Others| {
        let at = other.at.as_ref().map(|frame| format!(" at {}", place(frame))).unwrap_or_default();
        format!("{}{what} in {}{at}", count(other.count), clean(&other.doing))
    };
    others.iter().map(one).collect::<Vec<_>>().join(", ")
}
