//! Finds who holds the locks that goroutines wait for, and who has yet to be done for a `sync.WaitGroup`. Go does not
//! say. But who holds a lock has its release ahead:
//!
//! - as a deferred call, of which the frame or a record on the list `g._defer` has a closure. If the closure is of the
//!   releasing method itself, it has captured the very lock, so that this goroutine is certain to hold it;
//! - or further on in the code of a function that it is in. That tells the kind of lock, and a pointer in the frame
//!   tells which one it may be.
//!
//! A pointer to the struct that the lock is in makes nobody a holder: many know a lock that do not hold it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;

use super::limits::{WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory};
use super::mentions::STRUCT;
use super::snapshot::{Goroutine, Holding, LockWords, Snapshot, WaitObject};
use super::stacks::is_injected;
use super::waiter::Candidate;
use crate::go::versions::{self, Lock};
use crate::go::{Architecture, Binary, Deferred, FrameSize, Releases, image};

/// Most goroutines whose stacks are looked through.
const MOST_GOROUTINES: usize = 8192;
/// Most of those that wait for the same lock: one of them may hold it already, which happens by mistake.
const MOST_OF_LOCK: usize = 16;
/// Most bytes of each stack that are looked at, from the innermost call on.
const MOST_BYTES: u64 = 16 << 10;
/// Most locks whose memory is read.
const MOST_LOCKS: usize = 4096;
/// Most records of deferred calls of one goroutine that are followed.
const MOST_RECORDS: usize = 16;
/// Words of a closure that are looked at, behind the address of its code.
const CAPTURED: usize = 8;
/// Most functions whose code is looked at.
const MOST_FUNCTIONS: usize = 4096;
/// Bytes that the handler of a signal puts between two frames on CPUs with a link register.
const SIGNAL_FRAME: usize = 16;
/// Bytes of the address that a call pushes on the other CPUs.
const RETURN_ADDRESS: usize = 8;
/// Number of goroutines that are read between two looks at the clock.
const BATCH: usize = 256;

/// Looks for the holders of the locks that goroutines wait for, and reads these locks.
pub(super) fn read(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    snapshot: &mut Snapshot,
    candidates: &[Candidate],
    start: Instant,
    limits: WalkLimits,
) -> Result<(), WalkError> {
    let mut waited: Vec<u64> = Vec::new();
    let mut waiters: HashMap<u64, usize> = HashMap::new();
    let mut looked_at: HashSet<u32> = HashSet::new();
    for (goroutine, index) in snapshot.goroutines.iter().zip(0..) {
        if let Some(address) = own(snapshot, goroutine) {
            let waiters = waiters.entry(address).or_insert(0);
            *waiters += 1;
            if *waiters == 1 {
                waited.push(address);
            }
            if *waiters <= MOST_OF_LOCK && looked_at.len() < MOST_GOROUTINES {
                looked_at.insert(index);
            }
        }
    }
    if waited.is_empty() {
        return Ok(());
    }
    waited.sort_unstable();
    snapshot.locks = words(memory, &waited)?;
    let knows = snapshot.mentions.iter().filter(|(_, object)| waited.binary_search(object).is_ok());
    looked_at.extend(knows.map(|(index, _)| *index));
    let is_wanted = |of: &&Candidate| of.deferred != 0 || looked_at.contains(&of.index);
    let wanted: Vec<Candidate> = candidates.iter().filter(is_wanted).take(MOST_GOROUTINES).copied().collect();
    let mut search = Search { binary, bias, waited: &waited, code: Code::new(binary), found: Vec::new() };
    for batch in wanted.chunks(BATCH) {
        if start.elapsed() > limits.time {
            break;
        }
        search.batch(memory, snapshot, batch)?;
    }
    let mut found = search.found;
    // What is certain comes first, so that it is what remains of a goroutine and a lock.
    found.sort_unstable_by_key(|of| (of.object, of.lock, of.goroutine, !of.certain));
    found.dedup_by_key(|of| (of.object, of.lock, of.goroutine));
    snapshot.holdings = found;
    Ok(())
}

/// Reads the words around each of these semaphores, which the lock is made of.
fn words(memory: &ProcessMemory, waited: &[u64]) -> Result<HashMap<u64, LockWords>, WalkError> {
    let waited = &waited[..waited.len().min(MOST_LOCKS)];
    let before = LockWords::BEFORE as u64;
    let places: Vec<Place> = waited
        .iter()
        .map(|address| Place { address: address.saturating_sub(before), size: LockWords::SIZE })
        .collect();
    let mut locks = HashMap::new();
    memory.read_many(&places, |at, bytes| {
        if let Some(bytes) = bytes.and_then(|bytes| bytes.try_into().ok()) {
            locks.insert(waited[at], LockWords(bytes));
        }
    })?;
    Ok(locks)
}

/// A deferred call that is still to come.
struct Closure {
    /// Index of the goroutine in the snapshot.
    goroutine: u32,
    /// Address of the closure in the process.
    address: u64,
    /// The locks that the frame that deferred it has pointers to.
    known: Vec<u64>,
    /// The semaphore that the goroutine itself waits for.
    own: Option<u64>,
    /// Whether what was read of the stack may be out of date.
    is_old: bool,
}

struct Search<'a> {
    binary: &'a Binary,
    bias: u64,
    /// The semaphores that goroutines wait for, sorted.
    waited: &'a [u64],
    code: Code<'a>,
    found: Vec<Holding>,
}

impl Search<'_> {
    fn batch(
        &mut self,
        memory: &ProcessMemory,
        snapshot: &Snapshot,
        batch: &[Candidate],
    ) -> Result<(), WalkError> {
        let place = |of: &Candidate| Place {
            address: of.sp,
            size: of.end.saturating_sub(of.sp).min(MOST_BYTES) as usize,
        };
        let places: Vec<Place> = batch.iter().map(place).collect();
        let mut closures: Vec<Closure> = Vec::new();
        memory.read_many(&places, |at, bytes| {
            if let Some(bytes) = bytes {
                self.frames(snapshot, batch[at], bytes, &mut closures);
            }
        })?;
        self.records(memory, snapshot, batch, &mut closures)?;
        let size = 8 * (1 + CAPTURED);
        let places: Vec<Place> = closures.iter().map(|of| Place { address: of.address, size }).collect();
        memory.read_many(&places, |at, bytes| {
            if let Some(bytes) = bytes {
                self.closure(&closures[at], bytes);
            }
        })?;
        Ok(())
    }

    /// Goes through the frames of a stack: finds the closures of open-coded deferred calls, and functions that release
    /// what they know further on.
    fn frames(&mut self, snapshot: &Snapshot, of: Candidate, bytes: &[u8], closures: &mut Vec<Closure>) {
        let Some(goroutine) = snapshot.goroutines.get(of.index as usize) else { return };
        let Some(stack) = goroutine.stack else { return };
        let (is_old, own) = (goroutine.stack_is_old, own(snapshot, goroutine));
        let mut start = 0usize;
        for &pc in snapshot.stacks.pcs(stack) {
            let frame = self.code.frame(pc);
            let Some(size) = frame.size else { break };
            let next = start + size;
            // The arguments that a function keeps are in its caller's frame, right behind the return address.
            let Some(_) = bytes.get(start..next) else { break };
            let known = self.known(bytes.get(start..(next + ARGUMENTS).min(bytes.len())).unwrap_or_default());
            if let Some(Deferred { bits, closures: places }) = &frame.deferred {
                let set = bytes.get(start + bits).copied().unwrap_or(0);
                let pending = places.iter().enumerate().filter(|(bit, _)| set & (1 << bit) != 0);
                let pointers = pending.filter_map(|(_, place)| image::u64_at(bytes, start + place));
                let goroutine = of.index;
                let known = || known.clone();
                let closure = |address| Closure { goroutine, address, known: known(), own, is_old };
                closures.extend(pointers.map(closure));
            }
            if !known.is_empty() {
                self.may_hold(of.index, &self.code.goes_on_to_release(pc), &known, own);
            }
            start = next + frame.after;
        }
    }

    /// Follows the records of deferred calls that are on no frame.
    fn records(
        &self,
        memory: &ProcessMemory,
        snapshot: &Snapshot,
        batch: &[Candidate],
        closures: &mut Vec<Closure>,
    ) -> Result<(), WalkError> {
        let link = versions::defer_link(self.binary.version());
        let mut open: Vec<(u32, u64)> =
            batch.iter().map(|of| (of.index, of.deferred)).filter(|(_, record)| *record != 0).collect();
        for _ in 0..MOST_RECORDS {
            if open.is_empty() {
                break;
            }
            let places: Vec<Place> =
                open.iter().map(|(_, address)| Place { address: *address, size: link + 8 }).collect();
            let mut next = Vec::new();
            memory.read_many(&places, |at, bytes| {
                let goroutine = open[at].0;
                let word = |offset| bytes.and_then(|bytes| image::u64_at(bytes, offset)).unwrap_or(0);
                let address = word(versions::DEFER_FUNCTION);
                if address != 0 {
                    let known = snapshot.mentions(goroutine as usize).collect();
                    let own = snapshot.goroutines.get(goroutine as usize).and_then(|of| own(snapshot, of));
                    closures.push(Closure { goroutine, address, known, own, is_old: false });
                }
                if word(link) != 0 {
                    next.push((goroutine, word(link)));
                }
            })?;
            open = next;
        }
        Ok(())
    }

    /// Looks at what a deferred function releases, and at what it has captured.
    fn closure(&mut self, of: &Closure, bytes: &[u8]) {
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let Some((code, captured)) = words.split_first() else { return };
        let releases = self.code.releases(code.wrapping_sub(self.bias));
        let Releases { locks, captures_lock } = &*releases;
        if !captures_lock {
            let mut known = of.known.clone();
            known.extend(captured.iter().flat_map(|word| self.near(*word)));
            return self.may_hold(of.goroutine, locks, &known, of.own);
        }
        for (&lock, start) in locks.iter().zip(captured) {
            let semaphores = lock.semaphores().iter().map(|offset| start.wrapping_add(*offset));
            for object in semaphores.filter(|address| self.waited.binary_search(address).is_ok()) {
                let certain = !of.is_old;
                self.found.push(Holding { object, lock, goroutine: of.goroutine, certain });
            }
        }
    }

    /// Who waits for a lock does not hold it, but by a mistake that only a certain finding tells.
    fn may_hold(&mut self, goroutine: u32, locks: &[Lock], known: &[u64], own: Option<u64>) {
        for &lock in locks {
            let others = known.iter().filter(|object| own != Some(**object));
            let holding = |&object| Holding { object, lock, goroutine, certain: false };
            self.found.extend(others.map(holding));
        }
    }

    /// The semaphores that these bytes have pointers to, or to a struct around them.
    fn known(&self, bytes: &[u8]) -> Vec<u64> {
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let mut known: Vec<u64> = words.flat_map(|word| self.near(word)).copied().collect();
        known.sort_unstable();
        known.dedup();
        known
    }

    fn near(&self, word: u64) -> &[u64] {
        let first = self.waited.partition_point(|address| *address < word);
        let rest = &self.waited[first..];
        &rest[..rest.partition_point(|address| *address <= word.saturating_add(STRUCT))]
    }
}

/// The semaphore that a goroutine waits for.
fn own(snapshot: &Snapshot, goroutine: &Goroutine) -> Option<u64> {
    match *snapshot.objects(goroutine) {
        [WaitObject::Semaphore { address }] => Some(address),
        _ => None,
    }
}

/// Bytes of its caller's frame in which a function may keep its arguments.
const ARGUMENTS: usize = 8 * 10;

/// What is known of the function at an address that a call returns to.
#[derive(Default)]
struct Frame {
    /// Size of the frame in bytes; none if the stack ends there.
    size: Option<usize>,
    /// Bytes between this frame and the next one.
    after: usize,
    deferred: Option<Deferred>,
}

/// What was found out about the code, once for each address.
struct Code<'a> {
    binary: &'a Binary,
    frames: RefCell<HashMap<u64, Rc<Frame>>>,
    further_on: RefCell<HashMap<u64, Rc<[Lock]>>>,
    functions: RefCell<HashMap<u64, Rc<Releases>>>,
}

impl<'a> Code<'a> {
    fn new(binary: &'a Binary) -> Code<'a> {
        Code {
            binary,
            frames: RefCell::default(),
            further_on: RefCell::default(),
            functions: RefCell::default(),
        }
    }

    fn frame(&self, pc: u64) -> Rc<Frame> {
        self.frames.borrow_mut().entry(pc).or_insert_with(|| Rc::new(self.look_up(pc))).clone()
    }

    fn look_up(&self, pc: u64) -> Frame {
        let Some(FrameSize::Bytes(size)) = self.binary.frame_size(pc) else { return Frame::default() };
        let injected = || self.binary.function_at(pc).is_some_and(|function| is_injected(&function.name));
        let after = match self.binary.image().architecture() {
            Architecture::Arm64 if injected() => SIGNAL_FRAME,
            Architecture::Arm64 => 0,
            Architecture::Amd64 => RETURN_ADDRESS,
        };
        Frame { size: Some(size as usize), after, deferred: self.binary.deferred(pc) }
    }

    /// See [`Binary::goes_on_to_release`]. Package sync itself acquires and releases what its own locks are made of.
    fn goes_on_to_release(&self, pc: u64) -> Rc<[Lock]> {
        let mut known = self.further_on.borrow_mut();
        if known.len() >= MOST_FUNCTIONS {
            return Rc::default();
        }
        let find = || {
            let name = self.binary.function_at(pc).map(|function| function.name).unwrap_or_default();
            let is_of = |package: &str| name.starts_with(package);
            let is_own = is_of("runtime.") || is_of("sync.") || is_of("internal/sync.");
            if is_own { Rc::default() } else { self.binary.goes_on_to_release(pc).into() }
        };
        known.entry(pc).or_insert_with(find).clone()
    }

    fn releases(&self, entry: u64) -> Rc<Releases> {
        let mut known = self.functions.borrow_mut();
        if known.len() >= MOST_FUNCTIONS {
            return Rc::default();
        }
        known.entry(entry).or_insert_with(|| Rc::new(self.binary.releases(entry))).clone()
    }
}

#[cfg(test)]
mod tests;
