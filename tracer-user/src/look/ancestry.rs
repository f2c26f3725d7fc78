//! Who created a goroutine, and who created that one: as far as they live, or the runtime has kept it.

use std::collections::HashSet;

use super::dump::Dump;
use crate::go::standard::is_of_program;
use crate::inspect::{Ancestor, Goroutine};
use crate::report::Frame;

/// Most creators that are followed. Each may have another one, and what a process says about itself cannot be trusted.
const MOST: usize = 1024;

/// A creator of a goroutine, directly or through others.
pub enum Creator<'a> {
    /// What the runtime has kept of it, from when it created the next one.
    Kept(Ancestor),
    /// It lives, and may be elsewhere by now.
    Living(&'a Goroutine),
    /// Only its id is known: it has ended.
    Ended(u64),
}

impl<'a> Dump<'a> {
    /// The creators of a goroutine, the nearest first. What the runtime has kept comes first: `GODEBUG` has
    /// `tracebackancestors`. Beyond that they are followed as long as they live.
    pub fn creators(&self, goroutine: &'a Goroutine) -> Vec<Creator<'a>> {
        let kept = self.subject.ancestors(goroutine);
        let next = match kept.last() {
            None => Some(goroutine.parent),
            // Who created the last one is only known if that lives.
            Some(last) => self.snapshot.goroutine(last.goid).map(|last| last.parent),
        };
        let mut creators: Vec<Creator> = kept.into_iter().map(Creator::Kept).collect();
        let mut next = next.filter(|goid| *goid > 0);
        // No goroutine is its own creator.
        let mut seen = HashSet::from([goroutine.goid]);
        while let Some(goid) = next.filter(|goid| creators.len() < MOST && seen.insert(*goid)) {
            let Some(living) = self.snapshot.goroutine(goid) else {
                creators.push(Creator::Ended(goid));
                break;
            };
            creators.push(Creator::Living(living));
            next = Some(living.parent).filter(|goid| *goid > 0);
        }
        creators
    }

    /// Whether the program's version of Go says who created a goroutine. Before Go 1.21 it does so only where it keeps
    /// creators.
    pub fn knows_creators(&self) -> bool {
        self.subject.binary.layout().parent.is_some()
    }

    /// The line of the program's own module that a goroutine is at, else the `go` statement that created it, if that is
    /// the program's.
    pub fn own_line(&self, goroutine: &Goroutine) -> Option<Frame> {
        let on_stack = goroutine.stack.and_then(|stack| {
            let mut frames = self.snapshot.stacks.frames(stack);
            frames.find(|frame| self.is_own(&frame.function)).map(Frame::from)
        });
        on_stack.or_else(|| self.own_statement(goroutine))
    }

    /// The nearest `go` statement of the program's own module that created one of the goroutine's creators which live.
    pub fn own_line_of_creators(&self, goroutine: &'a Goroutine) -> Option<Frame> {
        let mut seen = HashSet::from([goroutine.goid]);
        let mut next = goroutine.parent;
        while seen.len() < MOST && seen.insert(next) {
            let creator = self.snapshot.goroutine(next)?;
            if let Some(own) = self.own_statement(creator) {
                return Some(own);
            }
            next = creator.parent;
        }
        None
    }

    fn own_statement(&self, goroutine: &Goroutine) -> Option<Frame> {
        self.created_by(goroutine).filter(|frame| self.is_own(&frame.function))
    }

    fn is_own(&self, function: &str) -> bool {
        is_of_program(function, self.subject.binary.module())
    }
}
