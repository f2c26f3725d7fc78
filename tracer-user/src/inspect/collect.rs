//! Makes a snapshot of the goroutines that were read: numbers become names, and what many goroutines have in common is
//! kept once.

use super::conds;
use super::io;
use super::labels::LabelSets;
use super::limits::Depth;
use super::remembered::Remembered;
use super::snapshot::{CreationSite, Goroutine, SiteId, Snapshot};
use super::stacks::StackId;
use super::stopped::Stopped;
use super::sudogs;
use super::waiter::{Candidate, Waiter};
use super::walk::StackExtent;
use crate::go::{Binary, Status, WaitReason};
use crate::host::clock::monotonic_ns;

/// Most creation sites that are told apart; goroutines of further sites are shown without a site. There is a limit
/// because a hostile process can show another site for each goroutine.
const MOST_SITES: usize = 1 << 18;

/// Most goroutines of which it is asked whether they hold a lock, and most of them that have the same stack: of many
/// that do the same, those that hold a lock have mostly a stack of their own.
const MOST_CANDIDATES: usize = 1 << 15;
const MOST_ALIKE: u16 = 1024;

/// Bytes of a huge page. Less memory than this cannot be in one.
const HUGE_PAGE: usize = 2 << 20;

/// Makes a snapshot, goroutine by goroutine.
pub(super) struct Collector<'a> {
    pub(super) binary: &'a Binary,
    pub(super) bias: u64,
    depth: Depth,
    /// The wait reason for each number that a `g` may have.
    reasons: [Option<WaitReason>; 256],
    /// The key is `gopc` and `startpc` as they are in the process, with the load bias.
    sites: Remembered<(u64, u64), SiteId>,
    pub(super) labels: LabelSets,
    pub(super) waits: Vec<Waiter>,
    /// Goroutines that wait for file descriptors.
    pub(super) polls: Vec<Waiter>,
    /// Goroutines that may hold what others wait for.
    pub(super) candidates: Vec<Candidate>,
    /// How many of the candidates have each stack.
    alike: Vec<u16>,
    pub(super) snapshot: Snapshot,
}

impl<'a> Collector<'a> {
    /// `expected` is the most goroutines that will probably be pushed, so that there is room for them from the start.
    pub(super) fn new(binary: &'a Binary, bias: u64, depth: Depth, expected: u64) -> Collector<'a> {
        Collector {
            binary,
            bias,
            depth,
            reasons: std::array::from_fn(|number| WaitReason::from_number(binary.version(), number as u8)),
            sites: Remembered::default(),
            labels: LabelSets::default(),
            waits: Vec::new(),
            polls: Vec::new(),
            candidates: Vec::new(),
            alike: Vec::new(),
            snapshot: Snapshot {
                goroutines: with_room(usize::try_from(expected).unwrap_or(0)),
                taken_ns: monotonic_ns(),
                sites: vec![CreationSite::default()],
                ..Snapshot::default()
            },
        }
    }

    /// Adds a goroutine to the snapshot. `pcs` are the link-time addresses of the calls that it is in, innermost first;
    /// empty if they are not known.
    #[inline(always)]
    pub(super) fn push(&mut self, stopped: &Stopped, pcs: &[u64], stack_is_old: bool) {
        let Stopped { goroutine, waiting, locked, labels, .. } = *stopped;
        let status = goroutine.status;
        let waits = matches!(status, Status::Waiting | Status::Leaked);
        let since = u64::try_from(goroutine.wait_since).ok().filter(|since| *since > 0);
        let since = since.filter(|_| waits || status == Status::Syscall);
        let stack = if pcs.is_empty() { None } else { self.snapshot.stacks.intern(pcs) };
        let reason = self.reasons[usize::from(goroutine.wait_reason)].filter(|_| waits);
        if self.depth >= Depth::Objects && waits {
            let reason = reason.map_or("", WaitReason::text);
            let index = self.snapshot.goroutines.len();
            let used_stack = StackExtent { low: stopped.sp, end: goroutine.stack.end };
            let on_cond = conds::is_cond(reason);
            let waiter = Waiter { index, g: goroutine.address, sudog: waiting, on_cond, used_stack };
            if waiting != 0 || on_cond || sudogs::is_semaphore(reason) {
                self.waits.push(waiter);
            } else if io::is_io(reason) {
                self.polls.push(waiter);
            }
        }
        if let Some(stack) = stack.filter(|_| self.depth >= Depth::Objects) {
            self.candidate(stack, stopped);
        }
        let site = self.site(goroutine.gopc, goroutine.startpc);
        self.snapshot.goroutines.push(Goroutine {
            address: goroutine.address,
            goid: goroutine.goid,
            parent: goroutine.parent.unwrap_or(0),
            stack_bytes: goroutine.stack.end.saturating_sub(goroutine.stack.low),
            status,
            stack,
            stack_is_old,
            locked_to_thread: locked,
            waits_on_nothing: waits && waiting == 0,
            runs: goroutine.runs,
            reason,
            wait_ns: since.map_or(0, |since| self.snapshot.taken_ns.saturating_sub(since)),
            site,
            labels: self.labels.of(labels, goroutine.address),
            first_object: 0,
            object_count: 0,
        });
    }

    /// Keeps a goroutine that may hold a lock, unless enough others do the same.
    #[inline]
    fn candidate(&mut self, stack: StackId, stopped: &Stopped) {
        if self.candidates.len() >= MOST_CANDIDATES {
            return;
        }
        if self.alike.len() <= stack.index() {
            self.alike.resize(stack.index() + 1, 0);
        }
        let alike = &mut self.alike[stack.index()];
        if *alike < MOST_ALIKE {
            *alike += 1;
            let Stopped { goroutine, sp, deferred, .. } = *stopped;
            let index = self.snapshot.goroutines.len() as u32;
            self.candidates.push(Candidate { index, sp, end: goroutine.stack.end, deferred });
        }
    }

    #[inline]
    fn site(&mut self, gopc: u64, startpc: u64) -> SiteId {
        let (binary, bias, sites) = (self.binary, self.bias, &mut self.snapshot.sites);
        self.sites.get((gopc, startpc), || {
            if (gopc, startpc) == (0, 0) || sites.len() >= MOST_SITES {
                return SiteId::default();
            }
            let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(bias) };
            let (gopc, startpc) = (code(gopc), code(startpc));
            let is_system = startpc != 0 && binary.is_system(startpc);
            sites.push(CreationSite { gopc, startpc, is_system });
            SiteId(sites.len() as u32 - 1)
        })
    }
}

/// An empty vector with room for `count` elements, in huge pages if the kernel has them:
/// <https://docs.kernel.org/admin-guide/mm/transhuge.html>. In pages of 4 kB, to touch 64 MB for the first time takes
/// half as long as to read a million goroutines. If there is not enough memory, the vector begins without room.
fn with_room<T>(count: usize) -> Vec<T> {
    let mut empty = Vec::new();
    if empty.try_reserve_exact(count).is_ok() {
        let page = 4096;
        let start = (empty.as_ptr() as usize).next_multiple_of(page);
        let end = empty.as_ptr() as usize + empty.capacity() * size_of::<T>();
        if let Some(length @ HUGE_PAGE..) = end.checked_sub(start) {
            // SAFETY: this only advises the kernel which pages to use, and changes nothing in the memory. If the kernel
            // does not follow the advice, pages stay small, so the result does not matter.
            unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_HUGEPAGE) };
        }
    }
    empty
}
