//! Finds the goroutines that wait on the same channel or lock, and others that may be able to end their wait.

use std::cell::{OnceCell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::rc::Rc;

use super::snapshot::{Channel, Goroutine, Holding, SiteId, Snapshot, WaitObject};
use super::stacks::StackId;
use super::waits::{self, Group, Places, Turnover};
use crate::go::versions::{self, Lock};
use crate::go::{Binary, CodeFrame};

/// Most objects that are named for one group, and most places of other goroutines that are named for one object.
const MOST_NAMED: usize = 3;
/// Most places of holders of one lock that are told apart.
const MOST_PLACES: usize = 64;

/// Who waits on an object or knows it is counted once for all groups where they are more than this. Fewer are counted
/// again, which takes less memory.
const FEW: usize = 64;

/// The goroutines of a process, ordered by what they wait on.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    /// An entry for each goroutine and each object that it waits on, sorted.
    waiting: Vec<Entry>,
    /// An entry for each goroutine and each object that it has a pointer to on its stack while it waits on something
    /// else, sorted.
    knowing: Vec<Entry>,
    /// What has become of those that waited for a lock, or to send on a channel, at an earlier look.
    turnover: HashMap<u64, Turnover>,
    /// For each stack the first one whose goroutines wait at the same line; found when it is first needed.
    places: OnceCell<Vec<Option<StackId>>>,
    /// Those that wait on an object and those that know it, by its address and size: thousands of groups may wait on one
    /// object, and each of them asks.
    crowds: RefCell<HashMap<(u64, u64), Crowds>>,
}

/// What goroutines do, and the first stack at the place where they do it.
type Doing = (&'static str, Option<StackId>);

/// Those that wait on an object, and those that know it.
type Crowds = Rc<[Crowd; 2]>;

/// Goroutines that have to do with one object, counted.
#[derive(Clone, Debug, Default)]
struct Crowd {
    /// By site and what they do, with one of them as an example.
    by_site: HashMap<(SiteId, Doing), (u64, usize)>,
    /// By what they do, the most frequent first.
    by_doing: Vec<(Doing, u64)>,
    /// For each thing that is done, the sites whose goroutines do it: two are enough.
    sites: HashMap<Doing, [Option<SiteId>; 2]>,
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
    /// If goroutines have waited for this lock, or to send on this channel, at an earlier look: what has become of these.
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
        Queues { waiting, knowing, turnover, ..Queues::default() }
    }

    /// Number of goroutines that wait on the object at this address.
    pub fn waiters(&self, address: u64) -> u64 {
        within(&self.waiting, address, 1).len() as u64
    }

    /// What has become of those that wanted to send on this channel at an earlier look.
    pub fn turnover(&self, channel: u64) -> Option<Turnover> {
        self.turnover.get(&channel).copied()
    }

    /// The objects that the goroutines of a group wait on, as far as its examples tell; those with most waiters first,
    /// at most 3.
    pub fn of_group<'a>(&self, group: &Group, snapshot: &'a Snapshot, binary: &Binary) -> Vec<Queue<'a>> {
        let places = self.places.get_or_init(|| {
            let mut first = HashMap::new();
            let place = |id: StackId| {
                let at = snapshot.stacks.waits_at(id, binary)?;
                Some(*first.entry((at.function.as_str(), at.file.as_str(), at.line)).or_insert(id))
            };
            snapshot.stacks.ids().map(place).collect()
        });
        self.of_examples(group, snapshot, places, |id| snapshot.stacks.waits_at(id, binary))
    }

    fn of_examples<'a>(
        &self,
        group: &Group,
        snapshot: &'a Snapshot,
        places: &[Option<StackId>],
        frame_at: impl Fn(StackId) -> Option<&'a CodeFrame>,
    ) -> Vec<Queue<'a>> {
        let mut queues: Vec<Queue<'a>> = Vec::new();
        let mut seen = Vec::new();
        for example in group.goids.iter().filter_map(|&goid| snapshot.goroutine(goid)) {
            for object in snapshot.objects(example) {
                let extent = Extent::of(object, example, snapshot);
                if !seen.contains(&extent.address) {
                    seen.push(extent.address);
                    queues.push(self.of_object(
                        extent,
                        object.address(),
                        example,
                        snapshot,
                        places,
                        &frame_at,
                    ));
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
        places: &[Option<StackId>],
        frame_at: impl Fn(StackId) -> Option<&'a CodeFrame>,
    ) -> Queue<'a> {
        let at = |of: &Goroutine| of.stack.and_then(&frame_at);
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
        let crowds = self.crowds(address, size, waiting, snapshot, places);
        let own = (example.site, doing(example, places));
        let beside = |crowd: &Crowd| {
            let others = crowd.beside(own).into_iter();
            let named = |((state, _), count, example): (Doing, u64, usize)| {
                let at = snapshot.goroutines.get(example).and_then(at);
                OtherWaiters { state, at, count, example }
            };
            others.map(named).collect()
        };
        let [waiters, knowers] = &*crowds;
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
            count: waiters.by_site.get(&own).map_or(0, |&(count, _)| count),
            waiters: waiting.len() as u64,
            others: beside(waiters),
            known_to: beside(knowers),
            holders,
            turnover: self.turnover(object),
        }
    }
}

impl Queues {
    fn crowds(
        &self,
        address: u64,
        size: u64,
        waiting: &[Entry],
        snapshot: &Snapshot,
        places: &[Option<StackId>],
    ) -> Crowds {
        let count = || {
            let knowing = within(&self.knowing, address, size);
            Rc::new([waiting, knowing].map(|entries| Crowd::of(entries, snapshot, places)))
        };
        match waiting.len() {
            0..=FEW => count(),
            _ => self.crowds.borrow_mut().entry((address, size)).or_insert_with(count).clone(),
        }
    }
}

fn doing(goroutine: &Goroutine, places: &[Option<StackId>]) -> Doing {
    let place = goroutine.stack.and_then(|stack| *places.get(stack.index())?);
    (goroutine.state(), place)
}

impl Crowd {
    fn of(entries: &[Entry], snapshot: &Snapshot, places: &[Option<StackId>]) -> Crowd {
        let mut crowd = Crowd::default();
        let mut by_doing: HashMap<Doing, u64> = HashMap::new();
        for index in entries.iter().map(|entry| entry.goroutine as usize) {
            let Some(goroutine) = snapshot.goroutines.get(index) else { continue };
            let doing = doing(goroutine, places);
            crowd.by_site.entry((goroutine.site, doing)).or_insert((0, index)).0 += 1;
            *by_doing.entry(doing).or_default() += 1;
            let sites = crowd.sites.entry(doing).or_default();
            match sites {
                [None, _] => sites[0] = Some(goroutine.site),
                [Some(first), None] if *first != goroutine.site => sites[1] = Some(goroutine.site),
                _ => {}
            }
        }
        crowd.by_doing = by_doing.into_iter().collect();
        crowd.by_doing.sort_unstable_by_key(|&(doing, count)| (Reverse(count), doing));
        crowd
    }

    /// What most of those do that are not of this site or do something else, with one of each as an example.
    fn beside(&self, own: (SiteId, Doing)) -> Vec<(Doing, u64, usize)> {
        let of_own = self.by_site.get(&own).map_or(0, |&(count, _)| count);
        // Without the own ones, at most one falls back.
        let first = self.by_doing.iter().take(MOST_NAMED + 1);
        let others = first.map(|&(doing, n)| (doing, if doing == own.1 { n - of_own } else { n }));
        let mut others: Vec<_> = others
            .filter(|&(_, n)| n > 0)
            .filter_map(|(doing, n)| {
                let sites = self.sites.get(&doing)?.iter().flatten();
                let site = sites.copied().find(|&site| (site, doing) != own)?;
                Some((doing, n, self.by_site.get(&(site, doing))?.1))
            })
            .collect();
        others.sort_by_key(|&(_, n, _)| Reverse(n));
        others.truncate(MOST_NAMED);
        others
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::waits::Known;

    const ADDRESS: u64 = 0x1000;

    /// A process in which each of so many sites has one goroutine that sends on the same channel.
    fn one_channel(sites: u32) -> (Snapshot, Vec<Group>) {
        let channel =
            Channel { address: ADDRESS, length: 0, capacity: 0, closed: false, direction: None, element: 0 };
        let mut snapshot = Snapshot { objects: vec![WaitObject::Channel(channel)], ..Snapshot::default() };
        snapshot.goroutines = (0..sites)
            .map(|site| Goroutine {
                address: 0,
                goid: u64::from(site) + 1,
                parent: 0,
                stack_bytes: 0,
                status: crate::go::Status::Waiting,
                stack: None,
                stack_is_old: false,
                locked_to_thread: false,
                waits_on_nothing: false,
                runs: 0,
                reason: None,
                wait_ns: 0,
                site: SiteId(site),
                labels: Default::default(),
                first_object: 0,
                object_count: 1,
            })
            .collect();
        let group = |goroutine: &Goroutine| Group {
            key: 0,
            apart: 0,
            grown: None,
            state: goroutine.state(),
            leaked: false,
            stacks: Vec::new(),
            count: 1,
            unmoved: None,
            known: Known::default(),
            unmoved_ns: None,
            goids: vec![goroutine.goid],
        };
        let groups = snapshot.goroutines.iter().map(group).collect();
        (snapshot, groups)
    }

    #[test]
    fn thousands_of_groups_on_one_object_count_it_once() {
        let (snapshot, groups) = one_channel(5_000);
        let queues = Queues::of(&snapshot, None);
        for group in &groups {
            let found = queues.of_examples(group, &snapshot, &[], |_| None);
            let [queue] = &found[..] else { panic!("{found:?}") };
            assert_eq!((queue.count, queue.waiters, queue.others[0].count), (1, 5_000, 4_999));
        }
        let crowds = queues.crowds.borrow();
        let first = crowds.values().next().map(Rc::strong_count);
        assert_eq!((crowds.len(), first), (1, Some(1)));
    }
}
