//! Names the lines that led to goroutines, in lines for people.

use super::names::{function, place};
use crate::human::{count, sum};
use crate::report::{BlamedFrame, Frame, LedBy, Site};

/// Most lines of the program that are shown for a site, and most lines of dependencies.
const MOST: usize = 3;

/// Number of goroutines for which no line of the program is known, if no more is to be said of the site: those for
/// which one is known are no majority, and say nothing about the others.
fn untold(site: &Site, live: u64) -> Option<u64> {
    let known: u64 = sum(site.blame.as_ref()?.iter().map(|line| line.count));
    let unknown = site.blame_unknown.unwrap_or(live.saturating_sub(known));
    (unknown >= live.saturating_sub(unknown) && live > 0).then_some(unknown)
}

/// How many goroutines of a site came within the window, if a line is known for most of them.
fn newcomers(site: &Site, live: u64) -> Option<u64> {
    const ENOUGH: u64 = 10;
    let came = site.created.min(live);
    let known: u64 = sum(site.blame.iter().flatten().map(|line| line.came));
    (came >= ENOUGH && known > came.saturating_sub(known)).then_some(came)
}

/// Whether a frame is among those that [`lines`] or [`dependencies`] show.
pub(super) fn shows(site: &Site, live: u64, frame: &Frame) -> bool {
    let is_told = untold(site, live).is_none() || newcomers(site, live).is_some();
    let program = site.blame.iter().flatten().filter(|_| is_told);
    program.take(MOST).chain(site.dependencies.iter().take(MOST)).any(|line| line.frame == *frame)
}

/// The lines of the program that led to the goroutines of a site, of which so many live, or what would tell them.
pub(super) fn lines(site: &Site, live: u64) -> Vec<String> {
    let Some(blame) = &site.blame else { return Vec::new() };
    if let Some(unknown) = untold(site, live) {
        let unknown = format!("unknown for {} of {}", count(unknown), count(live));
        if let Some(all) = newcomers(site, live) {
            let came = blame.iter().filter(|line| line.came > 0).take(MOST);
            let came = came.map(|BlamedFrame { frame, came, .. }| {
                let (line, n) = (format!("{} at {}", function(frame), place(frame)), count(*came));
                format!("{line} ({n} of the {} that came meanwhile)", count(all))
            });
            return came.chain([unknown]).collect();
        }
        let through: u64 = sum(site.dependencies.iter().map(|line| line.count));
        let would_tell = site.creation_stacks.is_none() && through <= live.saturating_sub(through);
        let hint = ": leaks --creation-stacks names the call, for those created while it watches";
        return vec![if would_tell { unknown + hint } else { unknown }];
    }
    let mut lines = shown(blame, live);
    let unknown = site.blame_unknown.filter(|&unknown| unknown > 0);
    lines.extend(unknown.map(|unknown| format!("unknown for {} of {}", count(unknown), count(live))));
    lines
}

/// The lines of dependencies that led to the goroutines of a site for which no line of the program is known.
pub(super) fn dependencies(site: &Site, live: u64) -> Vec<String> {
    shown(&site.dependencies, live)
}

fn shown(lines: &[BlamedFrame], live: u64) -> Vec<String> {
    let line = |BlamedFrame { frame, count: n, by, .. }: &BlamedFrame| {
        let (what, how) = match by {
            LedBy::Call => ("", ""),
            LedBy::Look => ("", ", whose creators are still in that call"),
            LedBy::Statement => ("a go statement in ", ""),
        };
        format!("{what}{} at {} ({} of {}{how})", function(frame), place(frame), count(*n), count(live))
    };
    let rest: u64 = sum(lines.iter().skip(MOST).map(|line| line.count));
    let rest = (rest > 0).then(|| format!("other lines ({} of {})", count(rest), count(live)));
    lines.iter().take(MOST).map(line).chain(rest).collect()
}
