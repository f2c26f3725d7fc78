//! What goroutines wait on: the channels and semaphores that the `runtime.sudog` on their list `g.waiting` name.
//! <https://cs.opensource.google/go/go/+/master:src/runtime/chan.go>,
//! <https://cs.opensource.google/go/go/+/master:src/runtime/select.go> and, from Go 1.26 on,
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

/// Cases of one `select` that are followed.
const MOST_CASES: usize = u8::MAX as usize;
/// Objects of all goroutines together that are kept, some 40 bytes each.
const MOST_OBJECTS: usize = 4 << 20;
/// How many are read between two looks at the clock.
const BATCH: usize = 4096;

/// What a `sudog` says.
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

/// Follows the lists of those that wait, and looks at each channel once.
///
/// # Errors
/// The memory was not readable at all. What single goroutines wait on stays unknown where it is not.
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
        // Which goroutine of the batch, and the next of its list; all lists are followed side by side.
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
                // Another goroutine's by now.
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
                    // The next of other lists is the next in a tree.
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

/// Reads channels that were not looked at yet.
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
            // `sendq` is the next field; both are a first and a last.
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
                // `elemtype`, `sendx` and `recvx` stand before `recvq`.
                element: word(layout.hchan_recvq.checked_sub(24)?)?.wrapping_sub(bias),
            })
        };
        channels.insert(address, bytes.and_then(parse));
    })?;
    Ok(())
}
