//! Finds the channels and semaphores that goroutines wait on. Each goroutine has a list `g.waiting` of
//! `runtime.sudog`s, which name them. For channels that list is filled in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/chan.go> and
//! <https://cs.opensource.google/go/go/+/master:src/runtime/select.go>, and from Go 1.26 on for semaphores in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/sema.go>.

use std::collections::HashMap;
use std::time::Instant;

use super::conds;
use super::limits::{Cut, WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory};
use super::snapshot::{Channel, Direction, Snapshot, WaitObject};
use super::waiter::Waiter;
use crate::go::versions::{self, SudogPointers};
use crate::go::{Binary, Layout, image};

/// Most cases of one `select` that are followed.
const MOST_CASES: usize = u8::MAX as usize;
/// Most objects of all goroutines together that are kept, some 40 bytes each.
const MOST_OBJECTS: usize = 4 << 20;
/// Number of goroutines whose lists are read between two looks at the clock.
const BATCH: usize = 4096;

/// The fields that are read of a `runtime.sudog`.
struct Sudog {
    g: u64,
    next: u64,
    elem: u64,
    channel: u64,
}

impl Sudog {
    fn parse(bytes: &[u8], layout: &Layout, pointers: SudogPointers) -> Option<Sudog> {
        let word = |offset: u16| image::u64_at(bytes, usize::from(offset));
        let pointer = |offset: u16| word(offset + pointers.address());
        Some(Sudog {
            g: word(0)?,
            next: word(layout.sudog_waitlink)?,
            elem: pointer(layout.sudog_elem)?,
            channel: pointer(layout.sudog_c)?,
        })
    }
}

/// Follows the lists of the waiting goroutines, reads each channel once, and puts what they wait on into the snapshot.
///
/// # Errors
/// The memory of the process cannot be read at all. If a single `sudog` or channel cannot be read, what its goroutine
/// waits on stays unknown.
pub(super) fn read(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    snapshot: &mut Snapshot,
    waits: &[Waiter],
    start: Instant,
    limits: WalkLimits,
) -> Result<(), WalkError> {
    let layout = binary.layout();
    let pointers = versions::sudog_pointers(binary.version());
    let size = usize::from(layout.sudog_c.max(layout.sudog_elem).max(layout.sudog_waitlink)) + 16;
    let channel_size =
        usize::from(layout.hchan_recvq.max(layout.hchan_closed).max(layout.hchan_dataqsiz)) + 32;
    let mut channels: HashMap<u64, Option<Channel>> = HashMap::new();
    for batch in waits.chunks(BATCH) {
        if start.elapsed() > limits.time {
            snapshot.cut_short = Some(Cut::Time);
            break;
        }
        // All lists are followed side by side. Each entry has a goroutine's index in the batch, and the address of the
        // next `sudog` of its list.
        let mut open: Vec<(usize, u64)> =
            batch.iter().enumerate().map(|(at, wait)| (at, wait.sudog)).collect();
        let mut found: Vec<(usize, WaitObject)> = Vec::new();
        let mut unseen: Vec<Place> = Vec::new();
        for _ in 0..MOST_CASES {
            if open.is_empty() || snapshot.objects.len() + found.len() > MOST_OBJECTS {
                break;
            }
            open.sort_unstable_by_key(|(_, sudog)| *sudog);
            let places: Vec<Place> =
                open.iter().map(|(_, address)| Place { address: *address, size }).collect();
            let mut next = Vec::new();
            memory.read_many(&places, |index, bytes| {
                let (at, _) = open[index];
                let Some(sudog) = bytes.and_then(|bytes| Sudog::parse(bytes, layout, pointers)) else {
                    return;
                };
                // The `sudog` is in use for another goroutine by now.
                if sudog.g != batch[at].g {
                    return;
                }
                if sudog.channel != 0 {
                    channels.entry(sudog.channel).or_insert_with(|| {
                        unseen.push(Place { address: sudog.channel, size: channel_size });
                        None
                    });
                    let channel = Channel {
                        address: sudog.channel,
                        length: 0,
                        capacity: 0,
                        closed: false,
                        direction: None,
                        element: 0,
                    };
                    found.push((at, WaitObject::Channel(channel)));
                    // Only here `waitlink` leads to the next of the goroutine's own list. In a semaphore's `sudog` it
                    // leads to other goroutines that wait for the same semaphore.
                    if sudog.next != 0 {
                        next.push((at, sudog.next));
                    }
                } else if batch[at].on_cond {
                    found.extend(conds::of_list(sudog.elem).map(|cond| (at, cond)));
                } else if sudog.elem != 0 {
                    found.push((at, WaitObject::Semaphore { address: sudog.elem }));
                }
            })?;
            open = next;
        }
        look_at(memory, layout, bias, unseen, &mut channels)?;
        found.sort_by_key(|(at, _)| *at);
        for of_one in found.chunk_by(|a, b| a.0 == b.0) {
            let first = snapshot.objects.len() as u32;
            snapshot.objects.extend(of_one.iter().filter_map(|(_, object)| match object {
                WaitObject::Channel(channel) => {
                    channels.get(&channel.address).copied().flatten().map(WaitObject::Channel)
                }
                other => Some(*other),
            }));
            let count = (snapshot.objects.len() - first as usize) as u8;
            if let Some(goroutine) = snapshot.goroutines.get_mut(batch[of_one[0].0].index) {
                (goroutine.first_object, goroutine.object_count) = (first, count);
            }
        }
    }
    Ok(())
}

/// Reads the channels that have not been read yet.
fn look_at(
    memory: &ProcessMemory,
    layout: &Layout,
    bias: u64,
    mut places: Vec<Place>,
    channels: &mut HashMap<u64, Option<Channel>>,
) -> Result<(), WalkError> {
    places.sort_unstable_by_key(|place| place.address);
    memory.read_many(&places, |index, bytes| {
        let address = places[index].address;
        let parse = |bytes: &[u8]| {
            let word = |offset: u16| image::u64_at(bytes, usize::from(offset));
            let receivers = word(layout.hchan_recvq)? != 0;
            // `sendq` is the field after `recvq`. Each of them is a pair of pointers, to the first and to the last
            // waiter.
            let senders = word(layout.hchan_recvq + 16)? != 0;
            Some(Channel {
                address,
                length: word(layout.hchan_qcount)?,
                capacity: word(layout.hchan_dataqsiz)?,
                closed: image::u32_at(bytes, layout.hchan_closed.into())? != 0,
                direction: match (receivers, senders) {
                    (true, false) => Some(Direction::Receive),
                    (false, true) => Some(Direction::Send),
                    _ => None,
                },
                // `elemtype`, `sendx` and `recvx` are the three words before `recvq`.
                element: word(layout.hchan_recvq.checked_sub(24)?)?.wrapping_sub(bias),
            })
        };
        channels.insert(address, bytes.and_then(parse));
    })?;
    Ok(())
}
