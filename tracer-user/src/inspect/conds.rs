//! Which `sync.Cond` goroutines wait on. Its queue is a list of `runtime.sudog`s, as a lock's is. From Go 1.26 on they name
//! the list; before, nothing does. `Cond.Waiter` locks again once it was woken, though, so its caller's or its own frame has a
//! pointer to the Cond: each word there is followed, and believed where a Cond is and its list leads to the goroutine.
//! <https://cs.opensource.google/go/go/+/master:src/sync/cond.go>, and `notifyListWait` in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/sema.go>.

use std::collections::HashMap;
use std::time::Instant;

use super::limits::{WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory};
use super::snapshot::{Snapshot, WaitObject};
use super::waiter::Waiter;
use crate::go::versions::cond::{CHECKER, HEAD, LIST};
use crate::go::{Activity, image};

/// Goroutines whose stacks are looked at. Of each queue one is enough.
const MOST_GOROUTINES: usize = 8192;
/// Steps along all queues together.
const MOST_STEPS: usize = 1 << 17;
/// Bytes of each stack, from the innermost call on: some frames of the runtime, and `Cond.Waiter`.
const BYTES: u64 = 1024;
/// Goroutines whose stacks are looked at together.
const BATCH: usize = 256;

/// Whether goroutines with this wait reason wait on a Cond.
#[inline]
pub(super) fn is_cond(reason: &str) -> bool {
    Activity::of(reason) == Activity::CondWait
}

/// The Cond that has this list.
pub(super) fn of_list(list: u64) -> Option<WaitObject> {
    Some(WaitObject::Cond { address: list.checked_sub(LIST)? })
}

/// Finds the Conds that these wait on and do not name. What is not found stays unknown.
pub(super) fn read(
    memory: &ProcessMemory,
    snapshot: &mut Snapshot,
    waits: &[Waiter],
    start: Instant,
    limits: WalkLimits,
) -> Result<(), WalkError> {
    let waits: Vec<&Waiter> = waits.iter().filter(|wait| wait.on_cond && wait.sudog == 0).collect();
    let mut queues = Queues {
        waiters: waits.iter().map(|wait| (wait.g, (wait.index, None))).collect(),
        steps_left: MOST_STEPS,
    };
    let mut left = MOST_GOROUTINES;
    for batch in waits.chunks(BATCH) {
        let mut batch: Vec<&Waiter> =
            batch.iter().copied().filter(|wait| queues.is_unknown(wait.g)).collect();
        batch.truncate(left);
        left -= batch.len();
        if start.elapsed() > limits.time {
            break;
        }
        for cond in conds(memory, &batch)? {
            queues.follow(memory, cond)?;
        }
    }
    for (index, cond) in queues.waiters.into_values() {
        if let (Some(address), Some(goroutine)) = (cond, snapshot.goroutines.get_mut(index)) {
            (goroutine.first_object, goroutine.object_count) = (snapshot.objects.len() as u32, 1);
            snapshot.objects.push(WaitObject::Cond { address });
        }
    }
    Ok(())
}

/// A Cond, and the first of its list.
struct Cond {
    address: u64,
    head: u64,
}

/// Those that these goroutines have pointers to.
fn conds(memory: &ProcessMemory, waits: &[&Waiter]) -> Result<Vec<Cond>, WalkError> {
    let place = |wait: &&Waiter| {
        let (sp, end) = wait.used_stack;
        Place { address: sp, size: end.saturating_sub(sp).min(BYTES) as usize }
    };
    let places: Vec<Place> = waits.iter().map(place).collect();
    let mut candidates: Vec<u64> = Vec::new();
    memory.read_many(&places, |_, bytes| {
        let words = bytes.unwrap_or_default().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        candidates.extend(words.filter(|word| word.is_multiple_of(8) && (1 << 16..1 << 47).contains(word)));
    })?;
    candidates.sort_unstable();
    candidates.dedup();
    let size = (CHECKER - HEAD) as usize + 8;
    let places: Vec<Place> =
        candidates.iter().map(|address| Place { address: address + HEAD, size }).collect();
    let mut found = Vec::new();
    memory.read_many(&places, |at, bytes| {
        let address = candidates[at];
        let word = |offset: u64| bytes.and_then(|bytes| image::u64_at(bytes, (offset - HEAD) as usize));
        if let Some(head) = word(HEAD)
            && word(CHECKER) == Some(address + CHECKER)
        {
            found.push(Cond { address, head });
        }
    })?;
    Ok(found)
}

/// Who stands in which queue.
struct Queues {
    /// By `runtime.g`: where the goroutine is in the snapshot, and the Cond once it is known.
    waiters: HashMap<u64, (usize, Option<u64>)>,
    steps_left: usize,
}

impl Queues {
    fn is_unknown(&self, g: u64) -> bool {
        self.waiters.get(&g).is_some_and(|(_, cond)| cond.is_none())
    }

    /// Goes along a list, as long as those on it wait on a Cond and are not known yet, so that a circle has an end.
    fn follow(&mut self, memory: &ProcessMemory, cond: Cond) -> Result<(), WalkError> {
        let mut next = cond.head;
        while next != 0 && self.steps_left > 0 {
            self.steps_left -= 1;
            let mut sudog = [0; 16];
            // `g` and `next`, its first fields.
            memory.read_many(&[Place { address: next, size: sudog.len() }], |_, bytes| {
                sudog.copy_from_slice(bytes.unwrap_or(&[0; 16]));
            })?;
            let [g, after] = [0, 8].map(|at| image::u64_at(&sudog, at).unwrap_or(0));
            match self.waiters.get_mut(&g) {
                Some((_, known @ None)) => *known = Some(cond.address),
                _ => break,
            }
            next = after;
        }
        Ok(())
    }
}
