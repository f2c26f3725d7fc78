//! Who waits on the same channel or lock, and who else may have to do with it.

use super::blocked::{Blocked, Channel, Snapshot, WaitObject};
use super::waits::Group;
use crate::go::versions::{self, Lock};
use crate::go::{Binary, Frame};
use crate::report;

/// Objects that are named of one group, and places of other waiters that are named of one object.
const MOST_NAMED: usize = 3;
/// Waiters of one object that are looked at.
const MOST_WAITERS: usize = 10_000;

/// Places of other waiters that are told apart.
const MOST_PLACES: usize = 64;

/// Goroutines by what they wait on.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    /// (address of an object, index of a goroutine that waits on it), ordered.
    waiting: Vec<(u64, u32)>,
    /// The same of those that wait on something else and have a pointer to it on their stack.
    knowing: Vec<(u64, u32)>,
}

/// What kind of object it is, where it begins, and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thing {
    kind: &'static str,
    address: u64,
    size: u64,
}

impl Queues {
    /// Of all goroutines of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Queues {
        let mut waiting = Vec::new();
        for (goroutine, index) in snapshot.goroutines.iter().zip(0..) {
            let objects = snapshot.objects(goroutine).iter();
            waiting.extend(objects.map(|object| (object.address(), index)));
        }
        waiting.sort_unstable();
        // A `select` may have several cases of one channel.
        waiting.dedup();
        let mut knowing: Vec<_> =
            snapshot.mentions.iter().map(|&(index, address)| (address, index)).collect();
        knowing.sort_unstable();
        Queues { waiting, knowing }
    }

    /// How many goroutines wait on an object.
    pub fn waiters(&self, address: u64) -> u64 {
        within(&self.waiting, address, 1).len() as u64
    }

    /// What the goroutines of a group wait on, as far as its examples tell: that with most waiters first.
    pub fn named(&self, group: &Group, snapshot: &Snapshot, binary: &Binary) -> Vec<report::WaitedOn> {
        let examples: Vec<&Blocked> =
            group.goids.iter().filter_map(|&goid| snapshot.goroutine(goid)).collect();
        let mut named: Vec<report::WaitedOn> = Vec::new();
        let mut seen = Vec::new();
        for example in examples {
            for object in snapshot.objects(example) {
                let thing = Thing::of(object, example, snapshot);
                if !seen.contains(&thing.address) {
                    seen.push(thing.address);
                    named.push(self.name(thing, object, example, snapshot, binary));
                }
            }
        }
        named.sort_by_key(|on| std::cmp::Reverse(on.waiters));
        named.truncate(MOST_NAMED);
        named
    }

    fn name(
        &self,
        thing: Thing,
        object: &WaitObject,
        example: &Blocked,
        snapshot: &Snapshot,
        binary: &Binary,
    ) -> report::WaitedOn {
        let waiting = within(&self.waiting, thing.address, thing.size);
        let at = |of: &Blocked| of.stack.and_then(|stack| snapshot.stacks.waits_at(stack, binary));
        let own = (example.site, example.state(), at(example));
        let groups = |queue: &[(u64, u32)]| {
            let mut count = 0;
            let mut others: Vec<((&'static str, Option<&Frame>), u64)> = Vec::new();
            let goroutines = queue
                .iter()
                .take(MOST_WAITERS)
                .filter_map(|&(_, index)| snapshot.goroutines.get(index as usize));
            for other in goroutines {
                let at = at(other);
                if (other.site, other.state(), at) == own {
                    count += 1;
                    continue;
                }
                let doing = (other.state(), at);
                match others.iter().position(|(known, _)| *known == doing) {
                    Some(at) => others[at].1 += 1,
                    None if others.len() < MOST_PLACES => others.push((doing, 1)),
                    None => {}
                }
            }
            others.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let named = others.into_iter().take(MOST_NAMED).map(|((doing, at), count)| report::Others {
                doing: doing.to_owned(),
                count,
                at: at.map(report::Frame::from),
            });
            (count, named.collect())
        };
        let (count, others) = groups(waiting);
        let (_, known_to) = groups(within(&self.knowing, thing.address, thing.size));
        let channel = match object {
            WaitObject::Channel(channel) => Some(channel),
            WaitObject::Semaphore { .. } | WaitObject::Cond { .. } => None,
        };
        report::WaitedOn {
            kind: thing.kind.to_owned(),
            address: format!("{:#x}", thing.address),
            len: channel.map(|channel| channel.length),
            cap: channel.map(|channel| channel.capacity),
            closed: channel.map(|channel| channel.closed),
            element: channel.and_then(|channel| binary.type_name(channel.element)),
            count,
            waiters: waiting.len() as u64,
            others,
            known_to,
        }
    }
}

/// The entries of an ordered queue whose address is in so many bytes.
fn within(queue: &[(u64, u32)], address: u64, size: u64) -> &[(u64, u32)] {
    let first = queue.partition_point(|(of, _)| *of < address);
    let rest = &queue[first..];
    &rest[..rest.partition_point(|(of, _)| *of < address.saturating_add(size))]
}

impl Thing {
    /// A lock is known by the semaphore in it that a method of package sync waits for: the innermost call says which
    /// semaphore that is, and the outermost, whose lock it is.
    fn of(object: &WaitObject, waiter: &Blocked, snapshot: &Snapshot) -> Thing {
        let address = match *object {
            WaitObject::Channel(Channel { address, .. }) => return Thing { kind: "chan", address, size: 1 },
            WaitObject::Cond { address } => return Thing { kind: "cond", address, size: 1 },
            WaitObject::Semaphore { address } => address,
        };
        let frames = waiter.stack.into_iter().flat_map(|stack| snapshot.stacks.frames(stack));
        let of_sync = frames
            .map(|frame| frame.function.as_str())
            .skip_while(|name| {
                name.starts_with("runtime.")
                    || name.starts_with("sync.runtime_")
                    || name.starts_with("internal/sync.runtime_")
            })
            .take_while(|name| name.starts_with("sync.") || name.starts_with("internal/sync."));
        let mut of_sync = of_sync.map(|name| name.strip_prefix("internal/").unwrap_or(name)).peekable();
        let innermost = of_sync.peek().copied().unwrap_or_default();
        let outermost = of_sync.last().unwrap_or_default();
        let Some(offset) = versions::semaphore_offset(innermost) else {
            return Thing { kind: "semaphore", address, size: 1 };
        };
        let lock = Lock::with_method(outermost).unwrap_or(Lock::Mutex);
        let kind = match lock {
            Lock::Mutex => "mutex",
            Lock::RwMutex => "rwmutex",
            Lock::WaitGroup => "waitgroup",
        };
        Thing { kind, address: address.wrapping_sub(offset), size: lock.size() }
    }
}
