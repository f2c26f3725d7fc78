//! Reads all goroutines of a process with their stacks and what they wait on, while the process runs on.
//!
//! The stack of a waiting goroutine does not change. But the goroutine may be woken at any moment, its stack may be
//! moved, or its `g` may be used for another goroutine. So each `g` is read before its stack and once more after it. If
//! the two do not agree, the goroutine is read again.

use std::time::Instant;

use super::collect::Collector;
use super::limits::{Cut, Depth, WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory, Reader};
use super::snapshot::Snapshot;
use super::stopped::{Identity, Stopped};
use super::unwind::{Unwinder, Unwound};
use super::walk::{BATCH, List};
use super::{conds, holders, io, mentions, objects, sudogs};
use crate::go::{Binary, Layout};

/// How often a stack is read again that changes while it is read.
const TRIES: usize = 3;
/// Bytes of each stack that are read at first. The stacks of most waiting goroutines are shorter.
const FIRST_BYTES: u64 = 1024;
/// Most bytes of a stack that are looked at. The outer calls of a deeper stack are left out.
const MOST_BYTES: u64 = 256 << 10;

/// Reads all goroutines of a process that runs `binary`, loaded `bias` above its link-time addresses. In the result the
/// frames of the stacks have names. It takes about as long as the kernel needs to copy the memory.
///
/// # Errors
/// The list cannot be found in the executable, or the memory cannot be read. Single goroutines that cannot be read are
/// counted in [`Snapshot::unreadable`].
pub fn scan(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    limits: WalkLimits,
    depth: Depth,
) -> Result<Snapshot, WalkError> {
    let mut snapshot = scan_unnamed(memory, binary, bias, limits, depth)?;
    snapshot.stacks.name(binary);
    Ok(snapshot)
}

/// Does what [`scan`] does, but looks up no names: for who scans often.
///
/// # Errors
/// The same as those of [`scan`].
pub fn scan_unnamed(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    limits: WalkLimits,
    depth: Depth,
) -> Result<Snapshot, WalkError> {
    let start = Instant::now();
    let mut list = List::open(memory, binary, bias, limits)?;
    let mut scan = Scanner {
        reader: Reader::new(memory.clone()),
        places: Vec::new(),
        depth,
        unwinder: Unwinder::new(binary, bias),
        found: Collector::new(binary, bias, depth, list.left),
    };
    let mut cut = list.cut;
    let mut again = Vec::new();
    'list: while let Some(addresses) = list.next()? {
        for batch in addresses.chunks(BATCH) {
            again.append(&mut scan.batch(batch, false)?);
            if start.elapsed() > limits.time {
                cut = Some(Cut::Time);
                break 'list;
            }
        }
    }
    for tried in 1..=TRIES {
        let torn: Vec<u64> = std::mem::take(&mut again);
        for batch in torn.chunks(BATCH) {
            // At the last try a goroutine that changed is taken as it is, without its stack.
            let last = tried == TRIES || start.elapsed() > limits.time;
            again.append(&mut scan.batch(batch, last)?);
        }
    }
    let Collector { mut snapshot, mut waits, candidates, polls, labels, .. } = scan.found;
    (snapshot.listed, snapshot.cut_short) = (list.listed, cut);
    snapshot.labels = labels.read(memory, binary)?;
    if depth >= Depth::Objects {
        sudogs::find(memory, binary.layout(), &mut waits)?;
        objects::read(memory, binary, bias, &mut snapshot, &waits, start, limits)?;
        conds::read(memory, &mut snapshot, &waits, start, limits)?;
        mentions::read(memory, &mut snapshot, &waits, &candidates, start, limits)?;
        holders::read(memory, binary, bias, &mut snapshot, &candidates, start, limits)?;
        snapshot.polled = io::read(memory, binary.layout(), &polls, start, limits)?;
    }
    Ok(snapshot)
}

struct Scanner<'a> {
    reader: Reader,
    places: Vec<Place>,
    depth: Depth,
    unwinder: Unwinder<'a>,
    found: Collector<'a>,
}

impl Scanner<'_> {
    /// Reads some goroutines, and returns the addresses of those that changed meanwhile. With `last` there will be no
    /// further try, so that these are taken, too, and none is returned.
    fn batch(&mut self, addresses: &[u64], last: bool) -> Result<Vec<u64>, WalkError> {
        let layout = self.found.binary.layout();
        let size = Stopped::bytes_needed(layout);
        let mut stopped = Vec::new();
        let Scanner { reader, places, found, depth, .. } = self;
        places.clear();
        places.extend(addresses.iter().map(|address| Place { address: *address, size }));
        reader.read_many(places, |index, bytes| {
            match bytes.and_then(|bytes| Stopped::parse(addresses[index], bytes, layout)) {
                Some(one) if !one.goroutine.status.is_live() => {}
                Some(one) if *depth == Depth::States => found.push(&one, &[], false),
                Some(one) => stopped.push(one),
                None => found.snapshot.unreadable += 1,
            }
        })?;

        let stacks = self.stacks(&stopped)?;
        let after = self.reread(&stopped)?;
        let mut torn = Vec::new();
        for (index, (before, after)) in stopped.iter().zip(after).enumerate() {
            let stack = &stacks.places[index];
            // If `holds_still` is false, the stack pointer is from before the goroutine stopped and the status from
            // after that. Such a reading is torn as well.
            let unchanged = before.is_moving()
                || (before.holds_still() && after.is_some_and(|after| after == before.identity()));
            // A stack can be broken though nothing has changed: the goroutine may have run, and stopped at the same
            // place again.
            let whole = unchanged && (last || !stacks.broken[index]);
            if !whole && !last {
                torn.push(before.goroutine.address);
                continue;
            }
            let only = [before.pc.wrapping_sub(self.found.bias)];
            let pcs = match stacks.pcs.get(stack.clone()) {
                _ if !whole => &[],
                Some(pcs) if !pcs.is_empty() => pcs,
                _ if self.found.binary.is_code(only[0]) => &only[..],
                _ => &[],
            };
            self.found.snapshot.torn += u64::from(!whole);
            self.found.push(before, pcs, !whole || before.is_moving());
        }
        Ok(torn)
    }

    /// Reads once more what must not have changed; none for a goroutine that cannot be read.
    fn reread(&mut self, found: &[Stopped]) -> Result<Vec<Option<Identity>>, WalkError> {
        let layout = self.found.binary.layout();
        // All of these fields are near the start of a `g`, so that few bytes are read.
        let Layout { goid, atomicstatus, syscallpc, syscallsp, sched_pc, sched_sp, sched_lr, .. } = *layout;
        let last = [goid, atomicstatus, syscallpc, syscallsp, sched_pc, sched_sp, sched_lr];
        let size = last.into_iter().max().unwrap_or(0);
        let size = usize::from(size) + 8;
        self.places.clear();
        self.places.extend(found.iter().map(|stopped| Place { address: stopped.goroutine.address, size }));
        let mut after = vec![None; found.len()];
        self.reader.read_many(&self.places, |index, bytes| {
            after[index] = bytes.and_then(|bytes| Identity::parse(bytes, layout));
        })?;
        Ok(after)
    }

    /// Unwinds the stacks of the goroutines that hold still. It reads the first bytes of each stack, then more of those
    /// that go on.
    fn stacks(&mut self, found: &[Stopped]) -> Result<StacksRead, WalkError> {
        let mut stacks =
            StacksRead { pcs: Vec::new(), places: vec![0..0; found.len()], broken: vec![false; found.len()] };
        let mut wanted: Vec<usize> = (0..found.len()).filter(|index| found[*index].holds_still()).collect();
        let mut most = FIRST_BYTES;
        while !wanted.is_empty() && most <= MOST_BYTES {
            wanted.sort_unstable_by_key(|index| found[*index].sp);
            let place = |index: &usize| {
                let Stopped { sp, goroutine, .. } = &found[*index];
                Place { address: *sp, size: (goroutine.stack.end - sp).min(most) as usize }
            };
            self.places.clear();
            self.places.extend(wanted.iter().map(place));
            let mut more = Vec::new();
            let unwinder = &mut self.unwinder;
            let StacksRead { pcs, places: ends, broken } = &mut stacks;
            self.reader.read_many(&self.places, |at, bytes| {
                let index = wanted[at];
                let Some(bytes) = bytes else { return };
                let first = pcs.len();
                let unwound = unwinder.unwind(found[index].pc, found[index].lr, bytes, pcs);
                let whole = found[index].sp + bytes.len() as u64 >= found[index].goroutine.stack.end;
                if unwound == Unwound::GoesOn && !whole && most * 16 <= MOST_BYTES {
                    pcs.truncate(first);
                    more.push(index);
                } else {
                    ends[index] = first..pcs.len();
                    broken[index] = unwound == Unwound::Broken || (unwound == Unwound::GoesOn && whole);
                }
            })?;
            wanted = more;
            most *= 16;
        }
        Ok(stacks)
    }
}

/// The stacks of a batch: the addresses of all of them in one list, and for each goroutine its range in that list.
struct StacksRead {
    pcs: Vec<u64>,
    places: Vec<std::ops::Range<usize>>,
    /// For each goroutine, whether its stack does not end as a stack should.
    broken: Vec<bool>,
}
