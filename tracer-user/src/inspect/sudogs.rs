//! Finds the `runtime.sudog` of goroutines that wait for a lock. Before Go 1.26 such a goroutine does not say for which
//! lock it waits: its `g.waiting` is empty. But the frame of `runtime.semacquire1` on its stack has a pointer to the
//! `sudog` that stands for it in the lock's queue, and this `sudog` names the goroutine:
//! <https://cs.opensource.google/go/go/+/refs/tags/go1.25.0:src/runtime/sema.go>.

use super::limits::WalkError;
use super::memory::{Place, ProcessMemory};
use super::waiter::Waiter;
use super::walk::StackExtent;
use crate::go::{Activity, Layout, image};

/// Most goroutines that are looked at.
const MOST_GOROUTINES: usize = 8192;
/// Bytes that are read of each stack, from the innermost call on. They have room for some frames of the runtime.
const BYTES: u64 = 512;
/// Number of goroutines whose stacks are read together.
const BATCH: usize = 512;

/// Whether goroutines with this wait reason wait for a semaphore, so that a `sudog` stands for them in its queue. Waits
/// within a bubble of `testing/synctest` are left out.
#[inline]
pub(super) fn is_semaphore(reason: &str) -> bool {
    use Activity::{MutexLock, RwMutexLock, RwMutexRLock, Semacquire, WaitGroupWait};
    !Activity::is_durable(reason)
        && matches!(Activity::of(reason), Semacquire | MutexLock | RwMutexLock | RwMutexRLock | WaitGroupWait)
}

/// Fills in the `sudog` of those waiters that have none; if it is not found, it stays 0.
pub(super) fn find(memory: &ProcessMemory, layout: &Layout, waits: &mut [Waiter]) -> Result<(), WalkError> {
    let mut unknown: Vec<&mut Waiter> =
        waits.iter_mut().filter(|wait| wait.sudog == 0 && !wait.on_cond).take(MOST_GOROUTINES).collect();
    for batch in unknown.chunks_mut(BATCH) {
        let stacks: Vec<StackExtent> = batch.iter().map(|wait| wait.used_stack).collect();
        let place = |&StackExtent { low: sp, end }: &StackExtent| Place {
            address: sp,
            size: end.saturating_sub(sp).min(BYTES) as usize,
        };
        let places: Vec<Place> = stacks.iter().map(place).collect();
        let mut candidates: Vec<(usize, u64)> = Vec::new();
        memory.read_many(&places, |at, bytes| {
            let StackExtent { low: sp, end } = stacks[at];
            let first = candidates.len();
            for word in bytes.unwrap_or_default().as_chunks::<8>().0 {
                let word = u64::from_le_bytes(*word);
                let is_pointer = word.is_multiple_of(8) && (1 << 16..1 << 47).contains(&word);
                if is_pointer && !(sp..end).contains(&word) && !candidates[first..].contains(&(at, word)) {
                    candidates.push((at, word));
                }
            }
        })?;
        let size = usize::from(layout.sudog_elem) + 8;
        let places: Vec<Place> = candidates.iter().map(|&(_, address)| Place { address, size }).collect();
        memory.read_many(&places, |index, bytes| {
            let (at, address) = candidates[index];
            let word = |offset: usize| bytes.and_then(|bytes| image::u64_at(bytes, offset));
            if word(0) == Some(batch[at].g) && word(layout.sudog_elem.into()).is_some_and(|elem| elem != 0) {
                batch[at].sudog = address;
            }
        })?;
    }
    Ok(())
}
