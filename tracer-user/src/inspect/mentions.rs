//! Who could end whose wait: which goroutines, waiting themselves, have on their stacks a pointer to what others wait on.
//!
//! Go does not say who holds a lock or will send on a channel. But who does has to reach it, and mostly by a pointer on its
//! stack, such as that of the deferred Unlock.

use std::collections::BTreeMap;
use std::time::Instant;

use super::limits::{WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory};
use super::snapshot::{Snapshot, WaitObject};
use super::waiter::Waiter;

/// Goroutines whose stacks are read again for this.
const MOST_GOROUTINES: usize = 8192;
/// Bytes of each stack that are looked at, from the innermost call on.
const MOST_BYTES: u64 = 4096;
/// How far before a semaphore or a Cond the struct may begin that holds it.
const STRUCT: u64 = 64;
/// Pointers that are kept.
const MOST_MENTIONS: usize = 1 << 18;
/// Goroutines read between two looks at the clock.
const BATCH: usize = 1024;

/// Looks for pointers to what is waited on. Goroutines in a `select` wait for several things: a cycle through them is not
/// certain, so they are left out.
pub(super) fn read(
    memory: &ProcessMemory,
    snapshot: &mut Snapshot,
    waits: &[Waiter],
    start: Instant,
    limits: WalkLimits,
) -> Result<(), WalkError> {
    // By address, whether it is a part of what is pointed to.
    let conds = snapshot.objects.iter().filter(|object| matches!(object, WaitObject::Cond { .. }));
    let mut waited: BTreeMap<u64, bool> = conds.map(|cond| (cond.address(), true)).collect();
    let mut readers = Vec::new();
    for wait in waits {
        if let Some([object]) =
            snapshot.goroutines.get(wait.index).map(|goroutine| snapshot.objects(goroutine))
            // Who waits on a Cond has let its lock go, and stands in nobody's way.
            && !wait.on_cond
            && wait.used_stack.0 < wait.used_stack.1
            && readers.len() < MOST_GOROUTINES
        {
            waited.insert(object.address(), matches!(object, WaitObject::Semaphore { .. }));
            readers.push((wait, object.address()));
        }
    }
    let mut found = Vec::new();
    for batch in readers.chunks(BATCH) {
        if start.elapsed() > limits.time {
            break;
        }
        let place = |(wait, _): &(&Waiter, u64)| {
            let (sp, end) = wait.used_stack;
            Place { address: sp, size: (end - sp).min(MOST_BYTES) as usize }
        };
        let places: Vec<Place> = batch.iter().map(place).collect();
        memory.read_many(&places, |at, bytes| {
            let (wait, own) = batch[at];
            for word in bytes.unwrap_or_default().as_chunks::<8>().0 {
                let word = u64::from_le_bytes(*word);
                // Pointers to a channel are exact. A lock is known by its semaphore, and like a Cond it may be further back
                // in the struct that is pointed to.
                let near = waited.range(word..=word.saturating_add(STRUCT)).next();
                if let Some((&address, &is_part)) = near
                    && address != own
                    && (address == word || is_part)
                    && found.len() < MOST_MENTIONS
                {
                    found.push((wait.index as u32, address));
                }
            }
        })?;
    }
    found.sort_unstable();
    found.dedup();
    snapshot.mentions = found;
    Ok(())
}
