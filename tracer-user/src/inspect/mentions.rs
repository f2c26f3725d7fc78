//! Finds which goroutine could end another one's wait: it looks for goroutines that have a pointer on their stacks to
//! what others wait on.
//!
//! Go does not say which goroutine holds a lock or will send on a channel. But that goroutine has to reach the object,
//! and mostly it does so by a pointer on its stack, such as the one for a deferred `Unlock`.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::limits::{WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory};
use super::snapshot::{Snapshot, WaitObject};
use super::waiter::{Candidate, Waiter};
use super::walk::StackExtent;

/// Most goroutines whose stacks are read again for this.
const MOST_GOROUTINES: usize = 8192;
/// The same for those that do not wait on one object alone.
const MOST_OTHERS: usize = 8192;
/// Most bytes of each stack that are looked at, from the innermost call on.
const MOST_BYTES: u64 = 4096;
/// Most bytes between a pointer to a struct and the semaphore or `sync.Cond` in that struct.
pub(super) const STRUCT: u64 = 64;
/// Most pointers that are kept.
const MOST_MENTIONS: usize = 1 << 18;
/// Number of goroutines that are read between two looks at the clock.
const BATCH: usize = 1024;

/// A goroutine whose stack is read.
#[derive(Clone, Copy)]
struct Reader {
    /// Its index among the goroutines of the snapshot.
    index: u32,
    /// The part of its stack that is in use.
    stack: StackExtent,
    /// Address of the one object that it waits on itself; none if it waits on none or on several.
    own: Option<u64>,
}

/// Looks for pointers to what is waited on, and keeps them in the snapshot. Of goroutines that do not wait on one object
/// alone, such as those in a `select`, asleep, in I/O or running, only pointers to locks count.
pub(super) fn read(
    memory: &ProcessMemory,
    snapshot: &mut Snapshot,
    waits: &[Waiter],
    candidates: &[Candidate],
    start: Instant,
    limits: WalkLimits,
) -> Result<(), WalkError> {
    // The key is the object's address; the value says whether it is a part of a struct that pointers may point to
    // instead.
    let conds = snapshot.objects.iter().filter(|object| matches!(object, WaitObject::Cond { .. }));
    let mut waited: BTreeMap<u64, bool> = conds.map(|cond| (cond.address(), true)).collect();
    let mut readers = Vec::new();
    for wait in waits {
        if let Some([object]) =
            snapshot.goroutines.get(wait.index).map(|goroutine| snapshot.objects(goroutine))
            // A goroutine that waits on a Cond has released the Cond's lock, so it blocks nobody.
            && !wait.on_cond
            && wait.used_stack.low < wait.used_stack.end
            && readers.len() < MOST_GOROUTINES
        {
            waited.insert(object.address(), matches!(object, WaitObject::Semaphore { .. }));
            let (index, stack) = (wait.index as u32, wait.used_stack);
            readers.push(Reader { index, stack, own: Some(object.address()) });
        }
    }
    // The others can hold nothing but a lock.
    if waited.values().any(|is_part| *is_part) {
        let known: HashSet<u32> = readers.iter().map(|reader| reader.index).collect();
        let others = candidates.iter().filter(|of| of.sp < of.end && !known.contains(&of.index));
        let reader = |of: &Candidate| {
            let stack = StackExtent { low: of.sp, end: of.end };
            Reader { index: of.index, stack, own: None }
        };
        readers.extend(others.take(MOST_OTHERS).map(reader));
    }
    let mut found = Vec::new();
    for batch in readers.chunks(BATCH) {
        if start.elapsed() > limits.time {
            break;
        }
        let place = |reader: &Reader| {
            let StackExtent { low: sp, end } = reader.stack;
            Place { address: sp, size: (end - sp).min(MOST_BYTES) as usize }
        };
        let places: Vec<Place> = batch.iter().map(place).collect();
        memory.read_many(&places, |at, bytes| {
            let Reader { index, own, .. } = batch[at];
            for word in bytes.unwrap_or_default().as_chunks::<8>().0 {
                let word = u64::from_le_bytes(*word);
                // Pointers to a channel point to its start. A lock is known by its semaphore only; that and a Cond may
                // be further back in the struct that the pointer points to.
                let near = waited.range(word..=word.saturating_add(STRUCT)).next();
                if let Some((&address, &is_part)) = near
                    && own != Some(address)
                    && (is_part || (address == word && own.is_some()))
                    && found.len() < MOST_MENTIONS
                {
                    found.push((index, address));
                }
            }
        })?;
    }
    found.sort_unstable();
    found.dedup();
    snapshot.mentions = found;
    Ok(())
}
