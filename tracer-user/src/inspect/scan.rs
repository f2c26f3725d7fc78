//! All goroutines of a process with their stacks and what they wait on, read while the process runs on.
//!
//! A goroutine that waits holds still, but it may be woken at any moment, its stack be moved, its `g` be used for another
//! one. So each `g` is read before its stack and once more after it: what is not the same both times is read again.

use std::collections::HashMap;
use std::time::Instant;

use super::blocked::{Blocked, Cut, Objects, Snapshot};
use super::goroutines::{self, BATCH, Goroutine, Limits, WalkError, bytes_needed};
use super::memory::{Place, ProcessMemory};
use super::unwind::{Unwinder, Unwound};
use super::{mentions, objects, sudogs};
use crate::go::{Binary, Layout, Status, image, wait_reason};

/// How much of a scan is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What is in the `g`: state and wait reason.
    States,
    /// Their stacks, too.
    Stacks,
    /// And what they wait on.
    Objects,
}

/// How often a stack is read that changes while it is read.
const TRIES: usize = 3;
/// Bytes of each stack that are read at first: that of most goroutines which wait ends before.
const FIRST_BYTES: u64 = 1024;
/// Most bytes of a stack that are looked at: the outer calls of a deeper one are left out.
const MOST_BYTES: u64 = 256 << 10;

/// Reads all goroutines of a process that runs `binary`, loaded `bias` above its link-time addresses. The frames of the
/// stacks have their names. Takes about as long as the kernel needs to copy the memory.
///
/// # Errors
/// The list was not found, or the memory not readable. Single goroutines that are not readable are counted.
pub fn scan(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    limits: Limits,
    depth: Depth,
) -> Result<Snapshot, WalkError> {
    let start = Instant::now();
    let list = goroutines::list(memory, binary, bias, limits, start)?;
    let mut scan = Scan {
        memory,
        binary,
        bias,
        depth,
        unwinder: Unwinder::new(binary, bias),
        reasons: std::array::from_fn(|number| wait_reason::text(binary.version(), number as u8)),
        is_system: HashMap::new(),
        last_start: (0, false),
        now_ns: monotonic_ns(),
        waits: Vec::new(),
        snapshot: Snapshot { listed: list.listed, cut_short: list.cut, ..Snapshot::default() },
    };
    let mut again = Vec::new();
    for batch in list.addresses.chunks(BATCH) {
        let mut torn = scan.batch(batch, false)?;
        again.append(&mut torn);
        if start.elapsed() > limits.time {
            scan.snapshot.cut_short = Some(Cut::Time);
            break;
        }
    }
    for tried in 1..=TRIES {
        let torn: Vec<u64> = std::mem::take(&mut again);
        for batch in torn.chunks(BATCH) {
            // The last time it is taken as it is, without its stack.
            let last = tried == TRIES || start.elapsed() > limits.time;
            again.append(&mut scan.batch(batch, last)?);
        }
    }
    if depth >= Depth::Objects {
        sudogs::find(memory, binary.layout(), &scan.snapshot, &mut scan.waits)?;
        objects::read(memory, binary, bias, &mut scan.snapshot, &scan.waits, start, limits)?;
    }
    let mut snapshot = scan.snapshot;
    sort(&mut snapshot.goroutines);
    if depth >= Depth::Objects {
        mentions::read(memory, &mut snapshot, start, limits)?;
    }
    snapshot.stacks.name(binary);
    Ok(snapshot)
}

/// By goid. A goroutine is moved once, which for a million of them is faster than sorting them in place.
fn sort(goroutines: &mut Vec<Blocked>) {
    let mut order: Vec<(u64, u32)> =
        goroutines.iter().zip(0u32..).map(|(goroutine, index)| (goroutine.goid, index)).collect();
    order.sort_unstable();
    *goroutines = order.iter().map(|(_, index)| goroutines[*index as usize]).collect();
}

/// A goroutine, and what is needed to look further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stopped {
    goroutine: Goroutine,
    /// Where it goes on, and its stack pointer then.
    pc: u64,
    sp: u64,
    waiting: u64,
    locked: bool,
}

impl Stopped {
    fn parse(address: u64, bytes: &[u8], layout: &Layout) -> Option<Stopped> {
        let word = |offset: u16| image::u64_at(bytes, offset.into());
        let goroutine = Goroutine::parse(address, bytes, layout)?;
        let (sp, pc) = registers(bytes, layout)?;
        let waiting = word(layout.waiting)?;
        Some(Stopped { goroutine, pc, sp, waiting, locked: word(layout.lockedm)? != 0 })
    }

    /// Its stack may change under the reader, and where its stack pointer is nobody knows.
    fn is_moving(&self) -> bool {
        matches!(self.goroutine.status, Status::Running | Status::CopyStack)
    }

    /// Its stack holds still until its status changes.
    fn holds_still(&self) -> bool {
        !self.is_moving() && self.goroutine.stack.0 <= self.sp && self.sp < self.goroutine.stack.1
    }

    /// What must be the same before and after its stack was read.
    fn identity(&self) -> Identity {
        Identity { goid: self.goroutine.goid, status: self.goroutine.status, sp: self.sp, pc: self.pc }
    }
}

/// What must be the same before and after a stack was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    goid: u64,
    status: Status,
    sp: u64,
    pc: u64,
}

impl Identity {
    fn parse(bytes: &[u8], layout: &Layout) -> Option<Identity> {
        let status = Status::from_raw(image::u32_at(bytes, layout.atomicstatus.into())?)?;
        let (sp, pc) = registers(bytes, layout)?;
        Some(Identity { goid: image::u64_at(bytes, layout.goid.into())?, status, sp, pc })
    }
}

/// Stack pointer and program counter of a `g` that does not run. In a system call they are saved elsewhere: Go's unwinder
/// looks in the same order.
fn registers(bytes: &[u8], layout: &Layout) -> Option<(u64, u64)> {
    let word = |offset: u16| image::u64_at(bytes, offset.into());
    match word(layout.syscallsp)? {
        0 => Some((word(layout.sched_sp)?, word(layout.sched_pc)?)),
        sp => Some((sp, word(layout.syscallpc)?)),
    }
}

/// A goroutine that waits on something: where it is in the snapshot, its `g`, and the first `sudog`.
pub(super) struct Wait {
    pub(super) index: usize,
    pub(super) g: u64,
    pub(super) sudog: u64,
}

struct Scan<'a> {
    memory: &'a ProcessMemory,
    binary: &'a Binary,
    bias: u64,
    depth: Depth,
    unwinder: Unwinder<'a>,
    /// By number.
    reasons: [Option<&'static str>; 256],
    is_system: HashMap<u64, bool>,
    /// The last `startpc` and whether it is the runtime's: neighbours are often alike.
    last_start: (u64, bool),
    now_ns: u64,
    waits: Vec<Wait>,
    snapshot: Snapshot,
}

impl Scan<'_> {
    /// Reads some goroutines. Returns those that changed meanwhile; `last`: there will be no further try.
    fn batch(&mut self, addresses: &[u64], last: bool) -> Result<Vec<u64>, WalkError> {
        let layout = self.binary.layout();
        let size = [layout.waiting, layout.lockedm, layout.syscallpc, layout.sched_sp, layout.sched_pc];
        let size = bytes_needed(layout)
            .max(size.map(|offset| usize::from(offset) + 8).into_iter().max().unwrap_or(0));
        let places: Vec<Place> = addresses.iter().map(|address| Place { address: *address, size }).collect();
        let mut found = Vec::with_capacity(places.len());
        let unreadable = &mut self.snapshot.unreadable;
        self.memory.read_many(&places, |index, bytes| {
            match bytes.and_then(|bytes| Stopped::parse(places[index].address, bytes, layout)) {
                Some(stopped) if stopped.goroutine.status.is_live() => found.push(stopped),
                Some(_) => {}
                None => *unreadable += 1,
            }
        })?;
        if self.depth == Depth::States {
            for stopped in &found {
                self.push(stopped, &[], false);
            }
            return Ok(Vec::new());
        }

        let stacks = self.stacks(&found)?;
        let after = self.reread(&found)?;
        let mut torn = Vec::new();
        for (index, (before, after)) in found.iter().zip(after).enumerate() {
            let stack = &stacks.places[index];
            // A stack pointer from before it stopped, a status from after it did: as torn as anything.
            let unchanged = before.is_moving()
                || (before.holds_still() && after.is_some_and(|after| after == before.identity()));
            // The goroutine may have run and stopped at the same place again.
            let whole = unchanged && (last || !stacks.broken[index]);
            match (whole, last) {
                (true, _) => {
                    let old = before.is_moving();
                    let only = [before.pc.wrapping_sub(self.bias)];
                    let in_code = self.binary.text_range().contains(&only[0]);
                    match stacks.pcs.get(stack.clone()) {
                        Some(pcs) if !pcs.is_empty() => self.push(before, pcs, old),
                        _ if in_code => self.push(before, &only, old),
                        _ => self.push(before, &[], old),
                    }
                }
                (false, false) => torn.push(before.goroutine.address),
                (false, true) => {
                    self.snapshot.torn += 1;
                    self.push(before, &[], true);
                }
            }
        }
        Ok(torn)
    }

    /// What must not have changed, read once more; none where it cannot be read.
    fn reread(&self, found: &[Stopped]) -> Result<Vec<Option<Identity>>, WalkError> {
        let layout = self.binary.layout();
        // All of these are near the start of a g.
        let last = [layout.goid, layout.atomicstatus, layout.syscallpc, layout.syscallsp, layout.sched_pc];
        let size = last.into_iter().max().unwrap_or(0).max(layout.sched_sp);
        let size = usize::from(size) + 8;
        let places: Vec<Place> =
            found.iter().map(|stopped| Place { address: stopped.goroutine.address, size }).collect();
        let mut after = vec![None; places.len()];
        self.memory.read_many(&places, |index, bytes| {
            after[index] = bytes.and_then(|bytes| Identity::parse(bytes, layout));
        })?;
        Ok(after)
    }

    /// Unwinds those that hold still: first with a little of each stack, then with more of those that go on.
    fn stacks(&mut self, found: &[Stopped]) -> Result<StacksRead, WalkError> {
        let mut stacks =
            StacksRead { pcs: Vec::new(), places: vec![0..0; found.len()], broken: vec![false; found.len()] };
        let mut wanted: Vec<usize> = (0..found.len()).filter(|index| found[*index].holds_still()).collect();
        let mut most = FIRST_BYTES;
        while !wanted.is_empty() && most <= MOST_BYTES {
            wanted.sort_unstable_by_key(|index| found[*index].sp);
            let places: Vec<Place> = wanted
                .iter()
                .map(|index| {
                    let Stopped { sp, goroutine, .. } = &found[*index];
                    Place { address: *sp, size: (goroutine.stack.1 - sp).min(most) as usize }
                })
                .collect();
            let mut more = Vec::new();
            let unwinder = &mut self.unwinder;
            let StacksRead { pcs, places: ends, broken } = &mut stacks;
            self.memory.read_many(&places, |at, bytes| {
                let index = wanted[at];
                let Some(bytes) = bytes else { return };
                let first = pcs.len();
                let unwound = unwinder.unwind(found[index].pc, bytes, pcs);
                let whole = found[index].sp + bytes.len() as u64 >= found[index].goroutine.stack.1;
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

    fn push(&mut self, stopped: &Stopped, pcs: &[u64], stack_is_old: bool) {
        let Stopped { goroutine, waiting, locked, .. } = *stopped;
        let status = goroutine.status;
        let waits = matches!(status, Status::Waiting | Status::Leaked);
        let since = u64::try_from(goroutine.wait_since).ok().filter(|since| *since > 0);
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(self.bias) };
        let (binary, startpc) = (self.binary, code(goroutine.startpc));
        if self.last_start.0 != startpc {
            let is_system = *self.is_system.entry(startpc).or_insert_with(|| binary.is_system(startpc));
            self.last_start = (startpc, is_system);
        }
        let stack = if pcs.is_empty() { None } else { self.snapshot.stacks.intern(pcs) };
        let reason = self.reasons[usize::from(goroutine.wait_reason)].filter(|_| waits);
        let on_object = waiting != 0 || reason.is_some_and(sudogs::is_semaphore);
        if waits && on_object && self.depth >= Depth::Objects {
            let index = self.snapshot.goroutines.len();
            self.waits.push(Wait { index, g: goroutine.address, sudog: waiting });
        }
        self.snapshot.goroutines.push(Blocked {
            address: goroutine.address,
            goid: goroutine.goid,
            parent: goroutine.parent,
            gopc: code(goroutine.gopc),
            startpc,
            status,
            reason,
            waits_at_least_ns: since
                .filter(|_| waits || status == Status::Syscall)
                .and_then(|since| self.now_ns.checked_sub(since)),
            stack,
            stack_is_old,
            stack_bytes: goroutine.stack.1.saturating_sub(goroutine.stack.0),
            is_system: startpc != 0 && self.last_start.1,
            locked_to_thread: locked,
            waits_on_nothing: waits && waiting == 0,
            objects: Objects::default(),
            used_stack: (stopped.sp, goroutine.stack.1),
        });
    }
}

/// The stacks of a batch: addresses of all, and which of them are whose.
struct StacksRead {
    pcs: Vec<u64>,
    places: Vec<std::ops::Range<usize>>,
    /// Which of them do not end as a stack does.
    broken: Vec<bool>,
}

/// The runtime's clock (`runtime.nanotime`) in ns.
fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map(std::time::Duration::from).unwrap_or_default().as_nanos() as u64
}
