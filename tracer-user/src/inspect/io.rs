//! Finds the file descriptor that a goroutine in `IO wait` waits for. The goroutine does not name it, but the frames of
//! `internal/poll.runtime_pollWait` and `runtime.netpollblock` on its stack have a pointer to the `runtime.pollDesc` of the
//! descriptor, and that names the goroutine and itself: <https://cs.opensource.google/go/go/+/master:src/runtime/netpoll.go>.

use std::collections::HashMap;
use std::time::Instant;

use super::limits::{WalkError, WalkLimits};
use super::memory::{MemoryError, Place, ProcessMemory};
use super::waiter::Waiter;
use super::walk::StackExtent;
use crate::go::{Activity, Layout, image};
use crate::host::sockets::{self, Descriptor};

/// Most goroutines that are looked at: a server may have one for each connection.
const MOST_GOROUTINES: usize = 1 << 16;
/// Bytes that are read of each stack, from the innermost call on. They have room for the runtime's frames.
const BYTES: u64 = 512;
/// Number of goroutines whose stacks are read together.
const BATCH: usize = 512;

/// Whether goroutines with this wait reason wait for a file descriptor.
#[inline]
pub(super) fn is_io(reason: &str) -> bool {
    Activity::of(reason) == Activity::IoWait
}

/// What a goroutine in `IO wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Number of the file descriptor.
    pub fd: u32,
    /// When the wait ends, in ns of the runtime's clock (`CLOCK_MONOTONIC`); 0 if it has no deadline.
    pub deadline_ns: u64,
    /// Address of the goroutine's `runtime.g`.
    g: u64,
    /// Address of the `runtime.pollDesc`.
    desc: u64,
}

impl Polled {
    /// Reads the fields from `bytes`, which begin at `desc`. None if this is not what the goroutine at `g` waits for.
    fn parse(g: u64, desc: u64, bytes: &[u8], layout: &Layout) -> Option<Polled> {
        let word = |offset: u16| image::u64_at(bytes, offset.into());
        if word(layout.poll_self)? != desc {
            return None;
        }
        let deadline = match g {
            _ if word(layout.poll_rg)? == g => word(layout.poll_rd)?,
            _ if word(layout.poll_wg)? == g => word(layout.poll_wd)?,
            _ => return None,
        };
        // A deadline that has passed is negative. The goroutine is about to be woken.
        let deadline_ns = if deadline.cast_signed() < 0 { 1 } else { deadline };
        let fd = u32::try_from(word(layout.poll_fd)?).ok()?;
        Some(Polled { fd, deadline_ns, g, desc })
    }
}

/// Bytes of a `runtime.pollDesc` up to the end of the last field that is read.
fn size(layout: &Layout) -> usize {
    let Layout { poll_fd, poll_rg, poll_wg, poll_rd, poll_wd, poll_self, .. } = *layout;
    let last = [poll_fd, poll_rg, poll_wg, poll_rd, poll_wd, poll_self].into_iter().max().unwrap_or(0);
    usize::from(last) + 8
}

/// Finds what these goroutines wait for, by their indices in the snapshot. What is not found, or not in time, is left out.
pub(super) fn read(
    memory: &ProcessMemory,
    layout: &Layout,
    waits: &[Waiter],
    start: Instant,
    limits: WalkLimits,
) -> Result<HashMap<usize, Polled>, WalkError> {
    let mut found = HashMap::new();
    for batch in waits[..waits.len().min(MOST_GOROUTINES)].chunks(BATCH) {
        if start.elapsed() > limits.time {
            break;
        }
        let place = |wait: &Waiter| {
            let StackExtent { low: sp, end } = wait.used_stack;
            Place { address: sp, size: end.saturating_sub(sp).min(BYTES) as usize }
        };
        let places: Vec<Place> = batch.iter().map(place).collect();
        let mut candidates: Vec<(u64, usize)> = Vec::new();
        memory.read_many(&places, |at, bytes| {
            let StackExtent { low: sp, end } = batch[at].used_stack;
            for word in bytes.unwrap_or_default().as_chunks::<8>().0 {
                let word = u64::from_le_bytes(*word);
                let is_pointer = word.is_multiple_of(8) && (1 << 16..1 << 47).contains(&word);
                if is_pointer && !(sp..end).contains(&word) {
                    candidates.push((word, at));
                }
            }
        })?;
        // Neighbours in memory are read together.
        candidates.sort_unstable();
        candidates.dedup();
        let size = size(layout);
        let places: Vec<Place> = candidates.iter().map(|&(address, _)| Place { address, size }).collect();
        memory.read_many(&places, |index, bytes| {
            let (desc, at) = candidates[index];
            if let Some(polled) = bytes.and_then(|bytes| Polled::parse(batch[at].g, desc, bytes, layout)) {
                found.insert(batch[at].index, polled);
            }
        })?;
    }
    Ok(found)
}

/// What the descriptors are that goroutines wait for, in the same order. None for those that the process does not have,
/// and for those that a goroutine does not wait for any more after they were looked up: the process may have closed it,
/// and given its number to another one.
///
/// # Errors
/// The memory cannot be read.
pub fn resolve(
    memory: &ProcessMemory,
    layout: &Layout,
    polled: &[Polled],
) -> Result<Vec<Option<Descriptor>>, MemoryError> {
    let known = sockets::descriptors(memory.pid().cast_unsigned(), polled.iter().map(|polled| polled.fd));
    let size = size(layout);
    let places: Vec<Place> = polled.iter().map(|polled| Place { address: polled.desc, size }).collect();
    let mut found = vec![None; polled.len()];
    memory.read_many(&places, |index, bytes| {
        let before = &polled[index];
        let now = bytes.and_then(|bytes| Polled::parse(before.g, before.desc, bytes, layout));
        if now.is_some_and(|now| now.fd == before.fd) {
            found[index] = known.get(&before.fd).cloned();
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::versions::OLDEST;

    #[test]
    fn only_what_names_the_goroutine_and_itself_is_believed() {
        let layout = Layout::nearest(OLDEST);
        let (g, desc) = (0xc000_0000, 0x7f00_0000);
        let bytes = |fields: &[(u16, u64)]| {
            let mut bytes = vec![0; size(&layout)];
            for (offset, value) in fields {
                bytes[usize::from(*offset)..][..8].copy_from_slice(&value.to_le_bytes());
            }
            bytes
        };
        let of = |fields: &[(u16, u64)]| {
            let found = Polled::parse(g, desc, &bytes(fields), &layout);
            found.map(|found| (found.fd, found.deadline_ns))
        };
        let (own, fd) = ((layout.poll_self, desc), (layout.poll_fd, 7));
        let (reads, writes) = ((layout.poll_rg, g), (layout.poll_wg, g));
        let (until, late) = ((layout.poll_rd, 99), (layout.poll_wd, u64::MAX));
        assert_eq!(of(&[own, fd, reads, until, late]), Some((7, 99)));
        assert_eq!(of(&[own, fd, writes, until, late]), Some((7, 1)));
        assert_eq!(of(&[own, fd, writes]), Some((7, 0)));
        assert_eq!(of(&[fd, reads, until]), None);
        assert_eq!(of(&[own, fd, until]), None);
        assert_eq!(of(&[own, reads, (layout.poll_fd, u64::MAX)]), None);
        assert_eq!(Polled::parse(g, desc, &bytes(&[own, fd, reads])[..64], &layout), None);
    }
}
