//! Which goroutines of a process are wanted in a dump.

use std::collections::{HashMap, HashSet};

use regex::Regex;

use crate::inspect::{CreationSite, Goroutine, Snapshot, StackId, Stacks};
use crate::report::Frame;
use crate::targets::Subject;

/// Which goroutines are wanted in a dump: those that every field lets through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those with one of these ids; all if empty.
    pub goids: Vec<u64>,
    /// Those in one of these states, in the words of Go's traceback; all if empty. A state includes those that add
    /// something in parentheses: `chan receive` includes `chan receive (nil chan)`.
    pub states: Vec<String>,
    /// Those that have been waiting at least this long, in ns, as far as the runtime knows.
    pub older_than_ns: Option<u64>,
    /// Those that were created at a `go` statement of which the function, or the file and line such as
    /// `/src/hub.go:88`, matches.
    pub site: Option<Regex>,
    /// Those without a function on their stack that matches one of these.
    pub without: Vec<Regex>,
    /// Those that have run since an earlier look: the ids of the others. `None` if they are wanted, too.
    pub idle: Option<HashSet<u64>>,
    /// Whether the runtime's own goroutines are wanted as well.
    pub include_system: bool,
    /// One in so many of those, chosen by a hash of their ids; `None` for all.
    pub sample: Option<u64>,
}

/// The goroutines that a filter lets through.
pub(super) struct Chosen<'a> {
    /// They themselves, in the order of their ids.
    pub(super) goroutines: Vec<&'a Goroutine>,
    /// How many there were before a sample was taken.
    pub(super) matching: u64,
}

impl Filter {
    /// Chooses the goroutines that are wanted.
    pub(super) fn choose<'a>(&self, subject: &Subject, snapshot: &'a Snapshot) -> Chosen<'a> {
        let mut places = Places::new(self, subject, &snapshot.stacks);
        let matching = snapshot.by_goid().filter(|goroutine| {
            let site = snapshot.site(goroutine);
            self.wants(goroutine, site) && places.wants(site.gopc, goroutine.stack)
        });
        let mut count = 0;
        let goroutines = matching.inspect(|_| count += 1).filter(|goroutine| self.samples(goroutine.goid));
        let goroutines = goroutines.collect();
        Chosen { goroutines, matching: count }
    }

    /// Whether a goroutine is wanted, as far as that depends neither on names nor on the sample.
    pub(super) fn wants(&self, goroutine: &Goroutine, site: CreationSite) -> bool {
        (self.include_system || !site.is_system)
            && (self.goids.is_empty() || self.goids.contains(&goroutine.goid))
            && (self.states.is_empty() || self.states.iter().any(|state| is_in(goroutine, state)))
            && self
                .older_than_ns
                .is_none_or(|least| goroutine.waits_at_least_ns().is_some_and(|ns| ns >= least))
            && self.idle.as_ref().is_none_or(|idle| !idle.contains(&goroutine.goid))
    }

    /// Whether a goroutine is part of the sample. The hash makes it independent of the order in which goroutines were
    /// created, and the same goroutine is part of it each time.
    pub(super) fn samples(&self, goid: u64) -> bool {
        self.sample.is_none_or(|one_in| hash(goid).is_multiple_of(one_in.max(1)))
    }

    /// What to say if no goroutine of a process is wanted; `None` if there are none.
    pub(super) fn nothing(&self, snapshot: &Snapshot) -> Option<String> {
        let candidates =
            || snapshot.goroutines.iter().filter(|one| self.include_system || !snapshot.site(one).is_system);
        let total = candidates().count();
        if total == 0 {
            return None;
        }
        let mut text = format!("none of the {total} goroutines matches");
        if !self.goids.is_empty() {
            text += "; those of --goid may have ended";
        }
        if !self.states.is_empty() {
            let mut states: Vec<&str> = candidates().map(Goroutine::state).collect();
            states.sort_unstable();
            states.dedup();
            text += &format!("; their states: {}", states.join(", "));
        }
        if self.site.is_some() {
            text += "; --site is the go statement that created them, by the function that it is in or by file:line";
        }
        Some(text)
    }
}

/// Which places are wanted, as far as that depends on names. Each is looked up once.
pub(super) struct Places<'a> {
    filter: &'a Filter,
    subject: &'a Subject,
    stacks: &'a Stacks,
    sites: HashMap<u64, bool>,
    without: HashMap<StackId, bool>,
}

impl<'a> Places<'a> {
    /// `stacks` must have names.
    pub(super) fn new(filter: &'a Filter, subject: &'a Subject, stacks: &'a Stacks) -> Places<'a> {
        Places { filter, subject, stacks, sites: HashMap::new(), without: HashMap::new() }
    }

    /// Whether goroutines are wanted that were created at this link-time address and have this stack.
    pub(super) fn wants(&mut self, gopc: u64, stack: Option<StackId>) -> bool {
        let Places { filter, subject, stacks, sites, without } = self;
        let is_at_site = filter.site.as_ref().is_none_or(|pattern| {
            *sites.entry(gopc).or_insert_with(|| {
                let frame = subject.binary.go_statement(gopc);
                frame.is_some_and(|frame| Frame::from(&frame).matches(pattern))
            })
        });
        let is_excluded = |function: &str| filter.without.iter().any(|pattern| pattern.is_match(function));
        let is_without = match stack.filter(|_| !filter.without.is_empty()) {
            None => true,
            Some(stack) => *without
                .entry(stack)
                .or_insert_with(|| !stacks.frames(stack).any(|frame| is_excluded(&frame.function))),
        };
        is_at_site && is_without
    }
}

fn is_in(goroutine: &Goroutine, state: &str) -> bool {
    let rest = goroutine.state().strip_prefix(state);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
}

/// The finalizer of `splitmix64`: <https://prng.di.unimi.it/splitmix64.c>.
fn hash(goid: u64) -> u64 {
    let mixed = (goid ^ (goid >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_in_so_many_whatever_the_ids() {
        let filter = |one_in| Filter { sample: one_in, ..Filter::default() };
        assert!((0..100).all(|goid| filter(None).samples(goid)));
        // Goroutines of one kind often have ids with a common step.
        for step in [1, 2, 10, 16, 100] {
            let sampled = (0..100_000).filter(|at| filter(Some(10)).samples(at * step)).count();
            assert!((9_500..10_500).contains(&sampled), "{step}: {sampled}");
        }
    }
}
