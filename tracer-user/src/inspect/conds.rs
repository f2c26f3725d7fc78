//! Finds the `sync.Cond` that goroutines wait on. A Cond has a list of `runtime.sudog`s, one for each goroutine that
//! waits on it. From Go 1.26 on a goroutine names the list; before, nothing leads from the goroutine to the Cond. But
//! `Cond.Wait` locks the Cond's lock again once it was woken, so its own frame or its caller's has a pointer to the
//! Cond. Therefore each word there is followed, and believed if there is a Cond whose list leads to the goroutine.
//!
//! See <https://cs.opensource.google/go/go/+/master:src/sync/cond.go>, and `notifyListWait` in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/sema.go>.

use std::collections::HashMap;
use std::time::Instant;

use super::limits::{WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory};
use super::snapshot::{Snapshot, WaitObject};
use super::waiter::Waiter;
use super::walk::StackExtent;
use crate::go::versions::cond::{CHECKER, HEAD, LIST};
use crate::go::{Activity, image};

/// Most goroutines whose stacks are looked at. One goroutine of each list is enough, since the list leads to the
/// others.
const MOST_GOROUTINES: usize = 8192;
/// Most steps along all lists together.
const MOST_STEPS: usize = 1 << 17;
/// Bytes that are read of each stack, from the innermost call on. They have room for some frames of the runtime and for
/// `Cond.Wait`.
const BYTES: u64 = 1024;
/// Number of goroutines whose stacks are read together.
const BATCH: usize = 256;

/// Whether goroutines with this wait reason wait on a `sync.Cond`.
#[inline]
pub(super) fn is_cond(reason: &str) -> bool {
    Activity::of(reason) == Activity::CondWait
}

/// The Cond of which this address is the list; none for an address that cannot be one.
pub(super) fn of_list(list: u64) -> Option<WaitObject> {
    Some(WaitObject::Cond { address: list.checked_sub(LIST)? })
}

/// Finds the Conds for those of the goroutines that wait on one and do not name it. What is not found stays unknown.
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

/// The address of a Cond, and of the first `sudog` on its list.
struct Cond {
    address: u64,
    head: u64,
}

/// Finds the Conds that these goroutines have pointers to on their stacks.
fn conds(memory: &ProcessMemory, waits: &[&Waiter]) -> Result<Vec<Cond>, WalkError> {
    let place = |wait: &&Waiter| {
        let StackExtent { low: sp, end } = wait.used_stack;
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

/// Which goroutine waits in which Cond's list.
struct Queues {
    /// The key is the address of a `runtime.g`. The value is the goroutine's index in the snapshot, and the Cond once
    /// it is known.
    waiters: HashMap<u64, (usize, Option<u64>)>,
    steps_left: usize,
}

impl Queues {
    fn is_unknown(&self, g: u64) -> bool {
        self.waiters.get(&g).is_some_and(|(_, cond)| cond.is_none())
    }

    /// Goes along a list. It stops at a goroutine that does not wait on a Cond or is already known, so that it ends
    /// also if the list is a circle.
    fn follow(&mut self, memory: &ProcessMemory, cond: Cond) -> Result<(), WalkError> {
        let mut next = cond.head;
        while next != 0 && self.steps_left > 0 {
            self.steps_left -= 1;
            let mut sudog = [0; 16];
            // The first two fields of a `sudog` are `g` and `next`.
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
