//! Finds the lines of the program's own module that led to goroutines which other modules create. Such a leak may be in
//! `net/http`, but the mistake is not.
//!
//! A goroutine is blamed on the nearest frame of the main module on the way back through its creators, dead or alive.
//! At each of them it is a frame of the creation stack if that is known and has one, else the `go` statement.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::Described;
use crate::go::standard::is_of_program;
use crate::report::{CountedFrame, Frame};
use crate::tracker::{Instance, SiteId, StackId};
use crate::verdict::cause::Blamed;

/// Most frames that are named for one site.
const MOST: usize = 20;

/// The blame for all sites of a process instance.
pub(super) struct Blame {
    frames: Vec<Blamed>,
    /// For each site, indices into `frames` with the number of living goroutines that go back to each; most first.
    by_site: HashMap<SiteId, Vec<(usize, u64)>>,
}

impl Blame {
    /// Finds the blame in one walk over all lineages, in which creators come before what they created.
    pub fn of(instance: &Instance, described: &Described) -> Blame {
        let is_own = |frame: &&Frame| is_of_program(&frame.function, described.module);
        let mut names = Names::default();
        let statements = instance.sites().iter().enumerate().map(|(at, site)| {
            let frame = described.site(SiteId(at as u32)).site.filter(|_| !site.overflow);
            frame.filter(is_own).map(|frame| names.index(frame, false))
        });
        let statements: Vec<Option<usize>> = statements.collect();
        let mut calls: HashMap<(SiteId, StackId), Option<usize>> = HashMap::new();
        let mut nearest: Vec<Option<usize>> = Vec::new();
        let mut counts: HashMap<(SiteId, usize), u64> = HashMap::new();
        for lineage in instance.lineages().all() {
            let stack = (lineage.site, lineage.stack);
            let call = *calls.entry(stack).or_insert_with(|| {
                let frames = described.creation_stacks.and_then(|stacks| stacks.get(&stack))?;
                frames.iter().find(is_own).map(|frame| names.index(frame, true))
            });
            let before = || nearest[lineage.parent?.0 as usize];
            let found = call.or(statements[lineage.site.0 as usize]).or_else(before);
            nearest.push(found);
            if let Some(frame) = found.filter(|_| lineage.live > 0) {
                *counts.entry((lineage.site, frame)).or_default() += lineage.live;
            }
        }
        let mut by_site: HashMap<SiteId, Vec<(usize, u64)>> = HashMap::new();
        for ((site, frame), live) in counts {
            // A site in the main module itself needs nobody else to blame.
            if statements[site.0 as usize].is_none() {
                by_site.entry(site).or_default().push((frame, live));
            }
        }
        for blamed in by_site.values_mut() {
            blamed.sort_by_key(|&(frame, live)| (Reverse(live), &names.frames[frame].frame));
        }
        Blame { frames: names.frames, by_site }
    }

    /// The frames to blame with the numbers of living goroutines, most first, as a report has them; at most 20.
    pub fn counted(&self, site: SiteId) -> Vec<CountedFrame> {
        let all = self.by_site.get(&site).into_iter().flatten().take(MOST);
        all.map(|&(at, count)| CountedFrame { frame: self.frames[at].frame.clone(), count }).collect()
    }

    /// The line that most of a site's living goroutines go back to.
    pub fn most(&self, site: SiteId) -> Option<&Blamed> {
        let &(at, _) = self.by_site.get(&site)?.first()?;
        self.frames.get(at)
    }
}

/// Gives each frame an index, and keeps it once.
#[derive(Default)]
struct Names {
    frames: Vec<Blamed>,
    known: HashMap<Blamed, usize>,
}

impl Names {
    fn index(&mut self, frame: &Frame, is_call: bool) -> usize {
        let blamed = Blamed { frame: frame.clone(), is_call };
        *self.known.entry(blamed).or_insert_with_key(|blamed| {
            self.frames.push(blamed.clone());
            self.frames.len() - 1
        })
    }
}
