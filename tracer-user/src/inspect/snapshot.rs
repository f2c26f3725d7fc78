//! What one goroutine does at the moment of a scan: the form in which inspection hands it to whoever judges, groups or
//! prints it. The module `scan` reads it.

use std::sync::OnceLock;

use super::labels::{Label, Labels, LabelsId};
use super::limits::Cut;
use super::stacks::{StackId, Stacks};
use crate::go::{Status, WaitReason};

/// A goroutine that lives. Blocked or not: [`Goroutine::status`] says so. Its [`Snapshot`] tells the rest: where it was
/// created, its labels, what it waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// Of its `runtime.g`, in the process.
    pub address: u64,
    /// Its id.
    pub goid: u64,
    /// The id of the goroutine that created it; 0 before Go 1.21, and for those that the runtime made for C threads.
    pub parent: u64,
    /// Size of its stack in bytes (`stack.hi - stack.lo`).
    pub stack_bytes: u64,
    /// What it is doing.
    pub status: Status,
    /// The calls that it is in; none where they could not be read, or there was no room for another stack.
    pub stack: Option<StackId>,
    /// The stack is from when it last stopped: it runs, or came from a system call, and may be anywhere by now.
    pub stack_is_old: bool,
    /// Locked to its thread (`runtime.LockOSThread`, or it was called from C).
    pub locked_to_thread: bool,
    /// It waits, and the runtime keeps no list of what for: a sleep, or a `select` all of whose channels are nil.
    pub waits_on_nothing: bool,
    /// How often it stopped running, of which these are the last bits: not the same in two scans, and it ran meanwhile.
    pub(super) runs: u8,
    pub(super) reason: Option<WaitReason>,
    /// 0 where it is not known.
    pub(super) wait_ns: u64,
    pub(super) site: SiteId,
    pub(super) labels: LabelsId,
    /// Where its objects are in those of all, and how many.
    pub(super) first_object: u32,
    pub(super) object_count: u8,
}

/// Memory that is touched for the first time costs more than what is copied there, so that the size of this is a good part
/// of what a scan takes: a million of them are 64 MB.
const _: () = assert!(size_of::<Goroutine>() == 64);

impl Goroutine {
    /// What it waits for, as Go's traceback says it: `chan receive`. None unless it waits.
    pub fn reason(&self) -> Option<&'static str> {
        self.reason.map(WaitReason::text)
    }

    /// It waits at least this long, in ns. The garbage collector notes the time when it first sees a goroutine wait, so
    /// the truth is longer, and none is known before the first collection.
    pub fn waits_at_least_ns(&self) -> Option<u64> {
        (self.wait_ns > 0).then_some(self.wait_ns)
    }

    /// Whether it waits for something: all else in it then holds still until that happens.
    pub fn waits(&self) -> bool {
        matches!(self.status, Status::Waiting | Status::Leaked)
    }
}

/// A `go` statement with an entry function, which many goroutines have in common. Link-time addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreationSite {
    /// Where the call of the `go` statement returns to; 0 where no `go` statement made the goroutine.
    pub gopc: u64,
    /// The entry of the function; 0 likewise.
    pub startpc: u64,
    /// Its goroutines belong to the runtime, by the rule of `runtime.isSystemGoroutine`.
    pub is_system: bool,
}

/// A place among the sites of a snapshot. The first one is of those that no `go` statement made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SiteId(pub(super) u32);

/// What a goroutine waits on, by its address in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitObject {
    /// A channel, of a receive, a send, or a case of a `select`.
    Channel(Channel),
    /// The semaphore word in a `sync.Mutex`, `RWMutex` or `WaitGroup`, or elsewhere; see [`Goroutine::reason`].
    Semaphore {
        /// Of the word.
        address: u64,
    },
    /// A `sync.Cond`.
    Cond {
        /// Of its first byte.
        address: u64,
    },
}

impl WaitObject {
    /// What two goroutines that wait on the same thing have in common.
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
    /// Of its `runtime.hchan`.
    pub address: u64,
    /// Elements in its buffer (`len`).
    pub length: u64,
    /// Places in its buffer (`cap`).
    pub capacity: u64,
    /// It is closed.
    pub closed: bool,
    /// Whether the goroutine wants to send or to receive; none where one `select` does both on this channel, or the
    /// channel changed meanwhile.
    pub direction: Option<Direction>,
    /// Link-time address of the type of its elements: [`crate::go::Binary::type_name`].
    pub element: u64,
}

/// What a goroutine wants of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// An element from it.
    Receive,
    /// Room for an element.
    Send,
}

/// All goroutines of a process, as one scan found them: of a span of time, not of an instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Those that are not dead, in no order: [`Snapshot::by_goid`] has one.
    pub goroutines: Vec<Goroutine>,
    /// Indices of `goroutines` in the order of their ids, once somebody asked for it.
    pub(super) order: OnceLock<Vec<u32>>,
    /// Their stacks, each kept once.
    pub stacks: Stacks,
    pub(super) sites: Vec<CreationSite>,
    pub(super) objects: Vec<WaitObject>,
    pub(super) labels: Vec<Labels>,
    /// (index of a goroutine, address of an object), ordered: [`Snapshot::mentions`].
    pub(super) mentions: Vec<(u32, u64)>,
    /// When it was begun, in ns of the runtime's clock (`CLOCK_MONOTONIC`).
    pub taken_ns: u64,
    /// How many the runtime lists, dead ones included.
    pub listed: u64,
    /// Listed ones that could not be read, or whose status is not one.
    pub unreadable: u64,
    /// Stacks that changed under the reader each time it tried.
    pub torn: u64,
    /// Why there may be more than this shows: which limit ended the scan.
    pub cut_short: Option<Cut>,
}

impl Snapshot {
    /// Where a goroutine of this snapshot was created.
    pub fn site(&self, goroutine: &Goroutine) -> CreationSite {
        self.sites.get(goroutine.site.0 as usize).copied().unwrap_or_default()
    }

    /// What a goroutine of this snapshot waits on: one object, or one for each case of a `select`. Empty where it waits
    /// for none, or where it is not known.
    pub fn objects(&self, goroutine: &Goroutine) -> &[WaitObject] {
        let first = goroutine.first_object as usize;
        self.objects.get(first..first + usize::from(goroutine.object_count)).unwrap_or_default()
    }

    /// What others wait on and a goroutine, by its index, has a pointer to on its stack: it may be the one who would end
    /// their wait. Only of goroutines that wait themselves, and of so many as there was time for.
    pub fn mentions(&self, index: usize) -> impl Iterator<Item = u64> + '_ {
        let index = index as u32;
        let first = self.mentions.partition_point(|(of, _)| *of < index);
        self.mentions[first..].iter().take_while(move |(of, _)| *of == index).map(|(_, address)| *address)
    }

    /// A goroutine by its id.
    pub fn goroutine(&self, goid: u64) -> Option<&Goroutine> {
        self.goroutines.get(self.index_of(goid)?)
    }

    /// Where in `goroutines` one is.
    pub fn index_of(&self, goid: u64) -> Option<usize> {
        let order = self.order();
        let found = order.binary_search_by_key(&goid, |&index| self.goroutines[index as usize].goid).ok()?;
        Some(order[found] as usize)
    }

    /// The goroutines in the order of their ids.
    pub fn by_goid(&self) -> impl Iterator<Item = &Goroutine> {
        self.order().iter().map(|&index| &self.goroutines[index as usize])
    }

    fn order(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let of = |(goroutine, index): (&Goroutine, u32)| (goroutine.goid, index);
            let mut order: Vec<(u64, u32)> = self.goroutines.iter().zip(0..).map(of).collect();
            order.sort_unstable();
            order.into_iter().map(|(_, index)| index).collect()
        })
    }

    /// The labels that a goroutine's code has given it with `pprof.Do` or `pprof.SetGoroutineLabels`, by key; empty where it
    /// has none.
    pub fn labels(&self, goroutine: &Goroutine) -> &[Label] {
        goroutine
            .labels
            .0
            .checked_sub(1)
            .and_then(|at| self.labels.get(at as usize))
            .map_or(&[], |labels| labels)
    }
}
