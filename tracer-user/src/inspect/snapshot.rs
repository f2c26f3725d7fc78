//! What the goroutines of a process do at the time of a scan, in the form in which they are judged, grouped and
//! printed. The module `scan` fills it.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::io::Polled;
use super::labels::{Label, Labels, LabelsId};
use super::limits::{Cut, WalkError};
use super::stacks::{StackId, Stacks};
use crate::go::versions::Lock;
use crate::go::{Status, WaitReason};

/// A living goroutine, blocked or not. Its [`Snapshot`] tells where it was created, its labels, and what it waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// Address of its `runtime.g` in the process.
    pub address: u64,
    /// Its id.
    pub goid: u64,
    /// The id of the goroutine that created it; 0 before Go 1.21, and for goroutines that the runtime made for C
    /// threads.
    pub parent: u64,
    /// Size of its stack in bytes (`stack.hi - stack.lo`).
    pub stack_bytes: u64,
    /// What it is doing.
    pub status: Status,
    /// The calls that it is in, as a stack of [`Snapshot::stacks`]; none if they could not be read, or there was no
    /// room for another stack.
    pub stack: Option<StackId>,
    /// The stack is from when it last stopped. It runs now, or has come from a system call, and may be anywhere.
    pub stack_is_old: bool,
    /// It is locked to its thread, by `runtime.LockOSThread` or because it was called from C.
    pub locked_to_thread: bool,
    /// It waits, and the runtime keeps no list of what it waits on. This is so for a sleep, and for a `select` in which
    /// all channels are nil.
    pub waits_on_nothing: bool,
    /// A counter that goes up each time it stops running, modulo 256: if it differs between two scans, the goroutine
    /// ran in between.
    pub(super) runs: u8,
    pub(super) reason: Option<WaitReason>,
    /// For how long at least it has been waiting, in ns; 0 if that is not known.
    pub(super) wait_ns: u64,
    pub(super) site: SiteId,
    pub(super) labels: LabelsId,
    /// Index of its first object in the snapshot's `objects`, where all of its objects follow each other.
    pub(super) first_object: u32,
    /// Number of its objects.
    pub(super) object_count: u8,
}

/// The size of a goroutine decides a good part of how long a scan takes: to touch fresh memory for the first time costs
/// more than to copy data into it, and a million goroutines are 64 MB.
const _: () = assert!(size_of::<Goroutine>() == 64);

impl Goroutine {
    /// What it waits for in the words of Go's traceback, such as `chan receive`. None if it does not wait.
    pub fn reason(&self) -> Option<&'static str> {
        self.reason.map(WaitReason::text)
    }

    /// For how long at least it has been waiting, in ns. The garbage collector notes the time when it first sees a
    /// goroutine wait, so the wait is in fact longer, and nothing is known before the first collection.
    pub fn waits_at_least_ns(&self) -> Option<u64> {
        (self.wait_ns > 0).then_some(self.wait_ns)
    }

    /// A counter that goes up each time it stops running, modulo 256: if it differs between two scans, it ran in between.
    pub fn runs(&self) -> u8 {
        self.runs
    }

    /// Whether it waits for something. If so, its stack and its other fields stay as they are until that happens.
    pub fn waits(&self) -> bool {
        matches!(self.status, Status::Waiting | Status::Leaked)
    }
}

/// A `go` statement with its entry function, which many goroutines have in common. Both are link-time addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreationSite {
    /// The return address of the `go` statement's call; 0 if no `go` statement created the goroutine.
    pub gopc: u64,
    /// The entry address of the function; 0 if no `go` statement created the goroutine.
    pub startpc: u64,
    /// Whether its goroutines belong to the runtime, by the rule of `isSystemGoroutine` in
    /// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
    pub is_system: bool,
}

/// An index into the sites of a snapshot. The site at index 0 stands for goroutines that no `go` statement created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SiteId(pub(super) u32);

/// What a goroutine waits on, by its address in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitObject {
    /// A channel, on which the goroutine waits in a receive, a send, or a case of a `select`.
    Channel(Channel),
    /// The semaphore word in a `sync.Mutex`, `RWMutex` or `WaitGroup`, or elsewhere; [`Goroutine::reason`] tells which.
    Semaphore {
        /// Address of the semaphore word.
        address: u64,
    },
    /// A `sync.Cond`.
    Cond {
        /// Address of the first byte of the `sync.Cond`.
        address: u64,
    },
}

impl WaitObject {
    /// The address that identifies the object: it is equal for two goroutines that wait on the same one.
    pub fn address(&self) -> u64 {
        match self {
            WaitObject::Channel(channel) => channel.address,
            WaitObject::Semaphore { address } | WaitObject::Cond { address } => *address,
        }
    }
}

/// A channel that a goroutine waits on, as it was shortly after the goroutine was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Address of its `runtime.hchan` in the process.
    pub address: u64,
    /// Number of elements in its buffer (`len`).
    pub length: u64,
    /// Number of elements that its buffer has room for (`cap`).
    pub capacity: u64,
    /// Whether it is closed.
    pub closed: bool,
    /// Whether the goroutine wants to send or to receive; none if one `select` does both on this channel, or the
    /// channel changed meanwhile.
    pub direction: Option<Direction>,
    /// Link-time address of the type of its elements, for [`crate::go::Binary::type_name`].
    pub element: u64,
}

/// What a goroutine wants from a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It wants to take an element.
    Receive,
    /// It wants to hand over an element.
    Send,
}

/// A goroutine that has the release of a lock ahead, so that it holds that lock; the same of a `sync.WaitGroup` for which
/// it has yet to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Address of the semaphore in the lock that goroutines wait for.
    pub object: u64,
    /// The kind of the lock.
    pub lock: Lock,
    /// Index of the goroutine in the snapshot.
    pub goroutine: u32,
    /// It is certain that it is this very lock. If not, only the kind of the lock is, and the goroutine has a pointer to
    /// this one.
    pub certain: bool,
}

/// The memory around a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LockWords(pub(super) [u8; LockWords::SIZE]);

impl LockWords {
    /// Bytes in front of the semaphore. No lock has its semaphore farther from its start.
    pub(super) const BEFORE: usize = 12;
    /// Bytes that are read in all.
    pub(super) const SIZE: usize = 32;
}

/// All goroutines of a process as one scan found them. The process ran on meanwhile, so this describes a span of time,
/// not an instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The goroutines that are not dead, in no particular order; [`Snapshot::by_goid`] orders them.
    pub goroutines: Vec<Goroutine>,
    /// Indices into `goroutines` in the order of their ids, computed when they are first asked for.
    pub(super) order: OnceLock<Vec<u32>>,
    /// The stacks of the goroutines, each kept once.
    pub stacks: Stacks,
    pub(super) sites: Vec<CreationSite>,
    pub(super) objects: Vec<WaitObject>,
    pub(super) labels: Vec<Labels>,
    /// Sorted pairs of a goroutine's index and an object's address, for [`Snapshot::mentions`].
    pub(super) mentions: Vec<(u32, u64)>,
    /// By a goroutine's index: see [`Snapshot::polled`].
    pub(super) polled: HashMap<usize, Polled>,
    /// Who holds the locks that others wait for, by lock.
    pub(super) holdings: Vec<Holding>,
    /// The memory of the locks that goroutines wait for, by the address of the semaphore.
    pub(super) locks: HashMap<u64, LockWords>,
    /// When the scan began, in ns of the runtime's clock (`CLOCK_MONOTONIC`).
    pub taken_ns: u64,
    /// Number of goroutines on the runtime's list, dead ones included.
    pub listed: u64,
    /// Number of listed goroutines that could not be read, or whose status is one that Go does not have.
    pub unreadable: u64,
    /// Number of stacks that changed while they were read, each time that this was tried.
    pub torn: u64,
    /// Which limit ended the scan, so that there may be more goroutines; none if it saw all.
    pub cut_short: Option<Cut>,
}

impl Snapshot {
    /// The snapshot, if it can be one of a process. A list of one entry without a living goroutine is that of a process
    /// that begins.
    ///
    /// # Errors
    /// [`WalkError::NoneLives`] where the list was read and nobody on it lives.
    pub fn checked(self) -> Result<Snapshot, WalkError> {
        let was_read = self.listed > 1 && self.cut_short != Some(Cut::Time);
        if was_read && self.goroutines.is_empty() {
            return Err(WalkError::NoneLives { listed: self.listed });
        }
        Ok(self)
    }

    /// Where a goroutine of this snapshot was created.
    pub fn site(&self, goroutine: &Goroutine) -> CreationSite {
        self.sites.get(goroutine.site.0 as usize).copied().unwrap_or_default()
    }

    /// What a goroutine of this snapshot waits on: one object, or one for each case of a `select`. Empty if it waits on
    /// no object, or if that is not known.
    pub fn objects(&self, goroutine: &Goroutine) -> &[WaitObject] {
        let first = goroutine.first_object as usize;
        self.objects.get(first..first + usize::from(goroutine.object_count)).unwrap_or_default()
    }

    /// Addresses of the objects that other goroutines wait on and that the goroutine with this index has pointers to on
    /// its stack: it may be the one that would end their wait. Of goroutines that do not wait on one object alone, only
    /// locks are known; and of all, as many as there was time for.
    pub fn mentions(&self, index: usize) -> impl Iterator<Item = u64> + '_ {
        let index = index as u32;
        let first = self.mentions.partition_point(|(of, _)| *of < index);
        self.mentions[first..].iter().take_while(move |(of, _)| *of == index).map(|(_, address)| *address)
    }

    /// The file descriptor that the goroutine with this index waits for; `None` if it waits for none, or it is not known
    /// for which.
    pub fn polled(&self, index: usize) -> Option<Polled> {
        self.polled.get(&index).copied()
    }

    /// Who has the release of a lock ahead, as far as there was time to find out. `address` is that of the semaphore.
    pub fn holdings(&self, address: u64) -> &[Holding] {
        let first = self.holdings.partition_point(|of| of.object < address);
        let rest = &self.holdings[first..];
        &rest[..rest.partition_point(|of| of.object == address)]
    }

    /// How many hold a lock as its memory says, or how many have yet to be done for a `sync.WaitGroup`. `address` is that
    /// of the semaphore, which is `offset` bytes behind the start of the lock.
    pub fn taken(&self, lock: Lock, address: u64, offset: u64) -> Option<u64> {
        let LockWords(bytes) = self.locks.get(&address)?;
        let start = LockWords::BEFORE.checked_sub(usize::try_from(offset).ok()?)?;
        lock.taken(bytes.get(start..)?)
    }

    /// The goroutine with this id.
    pub fn goroutine(&self, goid: u64) -> Option<&Goroutine> {
        self.goroutines.get(self.index_of(goid)?)
    }

    /// The index into [`Snapshot::goroutines`] of the goroutine with this id.
    pub fn index_of(&self, goid: u64) -> Option<usize> {
        let order = self.order();
        let found = order.binary_search_by_key(&goid, |&index| self.goroutines[index as usize].goid).ok()?;
        Some(order[found] as usize)
    }

    /// The goroutines in the order of their ids.
    pub fn by_goid(&self) -> impl Iterator<Item = &Goroutine> {
        self.order().iter().map(|&index| &self.goroutines[index as usize])
    }

    /// Indices into [`Snapshot::goroutines`] in the order of the goroutines' ids.
    pub fn indices_by_goid(&self) -> impl Iterator<Item = usize> {
        self.order().iter().map(|&index| index as usize)
    }

    fn order(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let of = |(goroutine, index): (&Goroutine, u32)| (goroutine.goid, index);
            let mut order: Vec<(u64, u32)> = self.goroutines.iter().zip(0..).map(of).collect();
            order.sort_unstable();
            order.into_iter().map(|(_, index)| index).collect()
        })
    }

    /// The labels that a goroutine's code has given it with `pprof.Do` or `pprof.SetGoroutineLabels`, ordered by key;
    /// empty if it has none.
    pub fn labels(&self, goroutine: &Goroutine) -> &[Label] {
        goroutine
            .labels
            .0
            .checked_sub(1)
            .and_then(|at| self.labels.get(at as usize))
            .map_or(&[], |labels| labels)
    }
}
