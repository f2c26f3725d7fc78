//! Finds the goroutines that wait on the same channel or lock, and others that may be able to end their wait.

use std::collections::HashMap;

use super::snapshot::{Channel, Goroutine, Holding, Snapshot, WaitObject};
use super::waits::{self, Group, Places, Turnover};
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
    /// What has become of those that waited for a lock at an earlier look.
    turnover: HashMap<u64, Turnover>,
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
    /// If it is a lock, what is known of who holds it.
    pub holders: Holders<'a>,
    /// If it is a lock for which goroutines have waited at an earlier look, what has become of these.
    pub turnover: Option<Turnover>,
}

/// Who holds a lock, or has yet to be done for a `sync.WaitGroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders<'a> {
    /// What those do that are certain to hold it; the most frequent first, at most 3.
    pub certain: Vec<OtherWaiters<'a>>,
    /// What those do that hold a lock of this kind and have a pointer to this one, if not all are known for certain; the
    /// most frequent first, at most 3.
    pub possible: Vec<OtherWaiters<'a>>,
    /// How many hold it as its memory says.
    pub taken: Option<u64>,
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
    /// Index in the snapshot of one of them, as an example.
    pub example: usize,
}

/// The kind of an object, the address at which it begins, and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    kind: Kind,
    address: u64,
    size: u64,
}

impl Queues {
    /// Orders all goroutines of a snapshot by what they wait on and by what they have pointers to, and compares the
    /// queues at locks with those of an `earlier` look.
    pub fn of(snapshot: &Snapshot, earlier: Option<&Places>) -> Queues {
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
        let turnover = earlier.map(|earlier| waits::turnover(snapshot, earlier)).unwrap_or_default();
        Queues { waiting, knowing, turnover }
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
                    queues.push(self.of_object(extent, object.address(), example, snapshot, binary));
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
        object: u64,
        example: &Goroutine,
        snapshot: &'a Snapshot,
        binary: &Binary,
    ) -> Queue<'a> {
        let at = |of: &Goroutine| of.stack.and_then(|stack| snapshot.stacks.waits_at(stack, binary));
        let alike =
            |of: &Goroutine| (of.site, of.state(), at(of)) == (example.site, example.state(), at(example));
        let goroutines = |entries: &'_ [Entry]| -> Vec<usize> {
            entries.iter().take(MOST_WAITERS).map(|entry| entry.goroutine as usize).collect()
        };
        let is_alike = |index: &usize| snapshot.goroutines.get(*index).is_some_and(alike);
        let apart = |entries: &[Entry]| goroutines(entries).into_iter().partition::<Vec<usize>, _>(is_alike);
        let by_place = |indices: Vec<usize>| {
            let mut places: Vec<OtherWaiters<'a>> = Vec::new();
            for example in indices {
                let Some(other) = snapshot.goroutines.get(example) else { continue };
                let (state, at) = (other.state(), at(other));
                match places.iter().position(|known| (known.state, known.at) == (state, at)) {
                    Some(known) => places[known].count += 1,
                    None if places.len() < MOST_PLACES => {
                        places.push(OtherWaiters { state, at, count: 1, example });
                    }
                    None => {}
                }
            }
            places.sort_by_key(|others| std::cmp::Reverse(others.count));
            places.truncate(MOST_NAMED);
            places
        };
        let waiting = within(&self.waiting, address, size);
        let (same, others) = apart(waiting);
        let (_, knowing) = apart(within(&self.knowing, address, size));
        let holders = match kind {
            Kind::Lock(lock) => {
                let offset = object.saturating_sub(address);
                let taken = snapshot.taken(lock, object, offset);
                let semaphores = lock.semaphores().iter().map(|offset| address.saturating_add(*offset));
                let mut all: Vec<Holding> = semaphores
                    .flat_map(|semaphore| snapshot.holdings(semaphore))
                    .filter(|holding| holding.lock == lock)
                    .copied()
                    .collect();
                all.sort_unstable_by_key(|holding| (holding.goroutine, !holding.certain));
                all.dedup_by_key(|holding| holding.goroutine);
                let (certain, possible): (Vec<_>, Vec<_>) = all.into_iter().partition(|of| of.certain);
                let are_known =
                    taken.is_some_and(|taken| certain.len() as u64 >= taken) && !certain.is_empty();
                let indices = |of: Vec<Holding>| of.into_iter().map(|of| of.goroutine as usize).collect();
                Holders {
                    certain: by_place(indices(certain)),
                    possible: if are_known { Vec::new() } else { by_place(indices(possible)) },
                    taken,
                }
            }
            Kind::Channel(_) | Kind::Cond | Kind::Semaphore => Holders::default(),
        };
        Queue {
            kind,
            address,
            count: same.len() as u64,
            waiters: waiting.len() as u64,
            others: by_place(others),
            known_to: by_place(knowing),
            holders,
            turnover: self.turnover.get(&object).copied(),
        }
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
