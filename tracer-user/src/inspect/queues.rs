//! Finds the goroutines that wait on the same channel or lock, and others that may be able to end their wait.

use super::snapshot::{Channel, Goroutine, Snapshot, WaitObject};
use super::waits::Group;
use crate::go::versions::{self, Lock};
use crate::go::{Binary, CodeFrame};

/// Most objects that are named for one group, and most places of other goroutines that are named for one object.
const MOST_NAMED: usize = 3;
/// Most waiters of one object that are looked at.
const MOST_WAITERS: usize = 10_000;

/// Most places of other waiters of one object that are told apart.
const MOST_PLACES: usize = 64;

/// The goroutines of a process, ordered by what they wait on.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    /// An entry for each goroutine and each object that it waits on, sorted.
    waiting: Vec<Entry>,
    /// An entry for each goroutine and each object that it has a pointer to on its stack while it waits on something
    /// else, sorted.
    knowing: Vec<Entry>,
}

/// An object, and a goroutine that waits on it or has a pointer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Address of the object in the process.
    object: u64,
    /// Index of the goroutine in the snapshot.
    goroutine: u32,
}

/// The kind of an object that goroutines wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel(Channel),
    /// A `sync.Cond`.
    Cond,
    /// A lock or a wait group of package sync.
    Lock(Lock),
    /// A semaphore of which it is not known what it is a part of.
    Semaphore,
}

/// An object that goroutines of a group wait on, and what other goroutines have to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue<'a> {
    /// The kind of the object.
    pub kind: Kind,
    /// Address in the process at which it begins.
    pub address: u64,
    /// Number of goroutines with the group's site, state and place that wait on it.
    pub count: u64,
    /// Number of goroutines of the whole process that wait on it.
    pub waiters: u64,
    /// What the other goroutines that wait on it do; the most frequent first, at most 3.
    pub others: Vec<OtherWaiters<'a>>,
    /// What those goroutines do that have a pointer to it and wait on something else; the most frequent first, at most
    /// 3.
    pub known_to: Vec<OtherWaiters<'a>>,
}

/// Goroutines that do the same at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherWaiters<'a> {
    /// What they do, as [`Goroutine::state`] says it.
    pub state: &'static str,
    /// The frame that they wait at; none if it is not known.
    pub at: Option<&'a CodeFrame>,
    /// Number of goroutines.
    pub count: u64,
}

/// The kind of an object, the address at which it begins, and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    kind: Kind,
    address: u64,
    size: u64,
}

impl Queues {
    /// Orders all goroutines of a snapshot by what they wait on and by what they have pointers to.
    pub fn of(snapshot: &Snapshot) -> Queues {
        let mut waiting = Vec::new();
        for (goroutine, index) in snapshot.goroutines.iter().zip(0..) {
            let objects = snapshot.objects(goroutine).iter();
            waiting.extend(objects.map(|object| Entry { object: object.address(), goroutine: index }));
        }
        waiting.sort_unstable();
        // A `select` may have several cases for one channel.
        waiting.dedup();
        let knowing = snapshot.mentions.iter().map(|&(goroutine, object)| Entry { object, goroutine });
        let mut knowing: Vec<Entry> = knowing.collect();
        knowing.sort_unstable();
        Queues { waiting, knowing }
    }

    /// Number of goroutines that wait on the object at this address.
    pub fn waiters(&self, address: u64) -> u64 {
        within(&self.waiting, address, 1).len() as u64
    }

    /// The objects that the goroutines of a group wait on, as far as its examples tell; those with most waiters first,
    /// at most 3.
    pub fn of_group<'a>(&self, group: &Group, snapshot: &'a Snapshot, binary: &Binary) -> Vec<Queue<'a>> {
        let mut queues: Vec<Queue<'a>> = Vec::new();
        let mut seen = Vec::new();
        for example in group.goids.iter().filter_map(|&goid| snapshot.goroutine(goid)) {
            for object in snapshot.objects(example) {
                let extent = Extent::of(object, example, snapshot);
                if !seen.contains(&extent.address) {
                    seen.push(extent.address);
                    queues.push(self.of_object(extent, example, snapshot, binary));
                }
            }
        }
        queues.sort_by_key(|queue| std::cmp::Reverse(queue.waiters));
        queues.truncate(MOST_NAMED);
        queues
    }

    fn of_object<'a>(
        &self,
        Extent { kind, address, size }: Extent,
        example: &Goroutine,
        snapshot: &'a Snapshot,
        binary: &Binary,
    ) -> Queue<'a> {
        let at = |of: &Goroutine| of.stack.and_then(|stack| snapshot.stacks.waits_at(stack, binary));
        let own = (example.site, example.state(), at(example));
        // Counts the goroutines with the example's site, state and place, and groups the others.
        let apart = |entries: &[Entry]| {
            let mut count = 0;
            let mut others: Vec<OtherWaiters<'a>> = Vec::new();
            let goroutines = entries.iter().take(MOST_WAITERS);
            for other in goroutines.filter_map(|entry| snapshot.goroutines.get(entry.goroutine as usize)) {
                let (state, at) = (other.state(), at(other));
                if (other.site, state, at) == own {
                    count += 1;
                    continue;
                }
                match others.iter().position(|known| (known.state, known.at) == (state, at)) {
                    Some(known) => others[known].count += 1,
                    None if others.len() < MOST_PLACES => others.push(OtherWaiters { state, at, count: 1 }),
                    None => {}
                }
            }
            others.sort_by_key(|others| std::cmp::Reverse(others.count));
            others.truncate(MOST_NAMED);
            (count, others)
        };
        let waiting = within(&self.waiting, address, size);
        let (count, others) = apart(waiting);
        let (_, known_to) = apart(within(&self.knowing, address, size));
        Queue { kind, address, count, waiters: waiting.len() as u64, others, known_to }
    }
}

/// The entries of a sorted list whose object lies in the `size` bytes from `address` on.
fn within(entries: &[Entry], address: u64, size: u64) -> &[Entry] {
    let first = entries.partition_point(|entry| entry.object < address);
    let rest = &entries[first..];
    &rest[..rest.partition_point(|entry| entry.object < address.saturating_add(size))]
}

impl Extent {
    /// Finds the object that a semaphore is a part of. A goroutine waits for a lock's semaphore in methods of package
    /// sync: the innermost of these calls tells which semaphore it is, and the outermost tells which kind of lock it
    /// belongs to.
    fn of(object: &WaitObject, waiter: &Goroutine, snapshot: &Snapshot) -> Extent {
        let address = match *object {
            WaitObject::Channel(channel) => {
                return Extent { kind: Kind::Channel(channel), address: channel.address, size: 1 };
            }
            WaitObject::Cond { address } => return Extent { kind: Kind::Cond, address, size: 1 },
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
            return Extent { kind: Kind::Semaphore, address, size: 1 };
        };
        let lock = Lock::with_method(outermost).unwrap_or(Lock::Mutex);
        Extent { kind: Kind::Lock(lock), address: address.wrapping_sub(offset), size: lock.size() }
    }
}
