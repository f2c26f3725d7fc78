//! What a look tells about who created goroutines: the calls that their creators are still in, and the creators that
//! live.
//!
//! A creator that has not returned from the function of the `go` statement has on its stack the calls that led there. One
//! that has returned is somewhere else by now, which tells nothing about where it was.

use std::collections::HashMap;

use crate::go::Binary;
use crate::go::standard::is_of_program;
use crate::inspect::{Goroutine, SiteKey, Snapshot, StackId, is_shown};
use crate::report::Frame;
use crate::verdict::cause::is_of_dependency;
use crate::verdict::{Blame, Origin, SeenCalls};

/// Most different ways to a `go` statement that are told apart in one look.
const MOST_WAYS: usize = 1 << 14;
/// Most origins of goroutines that are told apart in one look.
const MOST_ORIGINS: usize = 1 << 16;

/// For each goroutine whose creator is still in the call that led to it, the nearest frame of the program in that call;
/// where there is none, the nearest one of a dependency. Goroutines of the program's own `go` statements are left out.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    frames: Vec<Frame>,
    /// Ids of goroutines, and indices into the frames.
    goroutines: Vec<(u64, u32)>,
}

impl Seen {
    pub(super) fn of(snapshot: &Snapshot, binary: &Binary) -> Seen {
        let module = binary.module();
        let mut creators = Creators { snapshot, last: (0, None) };
        let mut seen = Seen::default();
        let mut is_own: HashMap<u64, bool> = HashMap::new();
        let mut ways: HashMap<(u64, StackId), Option<u32>> = HashMap::new();
        let mut numbers: HashMap<Frame, u32> = HashMap::new();
        for goroutine in snapshot.by_goid() {
            let gopc = snapshot.site(goroutine).gopc;
            let is_own = *is_own.entry(gopc).or_insert_with(|| {
                binary.go_statement(gopc).is_none_or(|frame| is_of_program(&frame.function, module))
            });
            if is_own {
                continue;
            }
            let creator = creators.of(goroutine).map(|index| &snapshot.goroutines[index]);
            let creator = creator.filter(|creator| !creator.stack_is_old);
            let Some(stack) = creator.and_then(|creator| creator.stack) else { continue };
            if ways.len() >= MOST_WAYS && !ways.contains_key(&(gopc, stack)) {
                continue;
            }
            let way = *ways.entry((gopc, stack)).or_insert_with(|| {
                let frame = nearest(&calls(snapshot, binary, gopc, stack), module)?;
                let next = numbers.len() as u32;
                let number = *numbers.entry(frame.clone()).or_insert(next);
                if number == next {
                    seen.frames.push(frame);
                }
                Some(number)
            });
            seen.goroutines.extend(way.map(|way| (goroutine.goid, way)));
        }
        seen
    }

    /// The frames with the goroutines that they led to, put together by what `key` says of a goroutine's id; without
    /// those of which it says nothing.
    pub fn by<K: Eq + std::hash::Hash>(&self, key: impl Fn(u64) -> Option<K>) -> HashMap<K, SeenCalls> {
        let mut counts: HashMap<(K, u32), u64> = HashMap::new();
        for &(goid, frame) in &self.goroutines {
            if let Some(key) = key(goid) {
                *counts.entry((key, frame)).or_default() += 1;
            }
        }
        let mut by: HashMap<K, SeenCalls> = HashMap::new();
        for ((key, frame), count) in counts {
            by.entry(key).or_default().push((self.frames[frame as usize].clone(), count));
        }
        by.values_mut().for_each(|calls| calls.sort());
        by
    }
}

/// Finds the creators of goroutines. The last one is remembered, since one that creates others often creates many.
struct Creators<'a> {
    snapshot: &'a Snapshot,
    last: (u64, Option<usize>),
}

impl Creators<'_> {
    /// The index of the goroutine that created this one, if it lives.
    fn of(&mut self, goroutine: &Goroutine) -> Option<usize> {
        let parent = goroutine.parent;
        if parent == 0 || parent == goroutine.goid {
            return None;
        }
        if self.last.0 != parent {
            self.last = (parent, self.snapshot.index_of(parent));
        }
        self.last.1
    }
}

/// The frames from a `go` statement outwards on the stack of its goroutine's creator, innermost first; empty if the
/// creator has returned from the statement's function.
fn calls(snapshot: &Snapshot, binary: &Binary, gopc: u64, stack: StackId) -> Vec<Frame> {
    let Some(function) = binary.function_at(gopc) else { return Vec::new() };
    let mut calls = snapshot.stacks.calls(stack).skip_while(|call| call.pc - call.offset != function.entry);
    if calls.next().is_none() {
        return Vec::new();
    }
    let statement = binary.frames_at(gopc.saturating_sub(1));
    // What the compiler has made for `go f(x)` has the line of the call of f.
    let outer = calls.flat_map(|call| call.written().chain(call.statement));
    statement.iter().chain(outer).filter(|frame| is_shown(frame)).map(Frame::from).collect()
}

/// The nearest frame of the program, or else the nearest one of a dependency.
fn nearest(frames: &[Frame], module: Option<&str>) -> Option<Frame> {
    let program = frames.iter().find(|frame| is_of_program(&frame.function, module));
    program.or_else(|| frames.iter().find(|frame| is_of_dependency(&frame.function, module))).cloned()
}

/// The blame for the sites of a process as one look can tell it, in which only creators that live are known, and the
/// number of each site in it.
pub(super) fn blame(snapshot: &Snapshot, seen: &Seen, binary: &Binary) -> (Blame, HashMap<SiteKey, usize>) {
    let mut sites: HashMap<SiteKey, usize> = HashMap::new();
    let mut statements: Vec<Option<Frame>> = Vec::new();
    let mut origins: Vec<Origin> = Vec::new();
    let mut known: HashMap<(Option<usize>, usize), usize> = HashMap::new();
    let mut origin_of: Vec<Option<usize>> = vec![None; snapshot.goroutines.len()];
    let mut creators = Creators { snapshot, last: (0, None) };
    let mut path: Vec<(usize, Option<usize>)> = Vec::new();
    let mut is_on_path = vec![false; snapshot.goroutines.len()];
    for first in 0..snapshot.goroutines.len() {
        // Creators come first. A process that names a goroutine as its own ancestor lies, and there the way ends.
        let mut next = Some(first);
        while let Some(index) = next.filter(|&index| origin_of[index].is_none() && !is_on_path[index]) {
            is_on_path[index] = true;
            next = creators.of(&snapshot.goroutines[index]);
            path.push((index, next));
        }
        while let Some((index, creator)) = path.pop() {
            let site = snapshot.site(&snapshot.goroutines[index]);
            let number = *sites.entry(SiteKey::of(site)).or_insert_with(|| {
                statements.push(binary.go_statement(site.gopc).as_ref().map(Frame::from));
                statements.len() - 1
            });
            let parent = creator.and_then(|creator| origin_of[creator]);
            let parent = parent.filter(|_| origins.len() < MOST_ORIGINS);
            let origin = *known.entry((parent, number)).or_insert_with(|| {
                origins.push(Origin { site: number, parent, ..Origin::default() });
                origins.len() - 1
            });
            origins[origin].live += 1;
            origin_of[index] = Some(origin);
        }
    }
    let calls = seen.by(|goid| origin_of[snapshot.index_of(goid)?]);
    for (at, origin) in origins.iter_mut().enumerate() {
        origin.seen = calls.get(&at).map(Vec::as_slice).unwrap_or_default();
    }
    let statements: Vec<Option<&Frame>> = statements.iter().map(Option::as_ref).collect();
    let module = binary.module();
    (Blame::of(&origins, &statements, module), sites)
}
