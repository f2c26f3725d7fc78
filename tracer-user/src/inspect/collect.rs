//! From the goroutines that were read to a snapshot: numbers become names, what many have in common is kept once.

use std::collections::HashMap;

use super::blocked::{Blocked, Objects, Snapshot};
use super::labels::LabelSets;
use super::scan::Depth;
use super::stopped::Stopped;
use super::sudogs;
use crate::go::{Binary, Status, wait_reason};

/// A goroutine that waits on something: where it is in the snapshot, its `g`, and the first `sudog`.
pub(super) struct Wait {
    pub(super) index: usize,
    pub(super) g: u64,
    pub(super) sudog: u64,
}

/// Makes a snapshot, goroutine by goroutine.
pub(super) struct Collector<'a> {
    pub(super) binary: &'a Binary,
    pub(super) bias: u64,
    depth: Depth,
    /// Names of wait reasons, by number.
    reasons: [Option<&'static str>; 256],
    /// Whether a `startpc` is the runtime's.
    system: Remembered<bool>,
    pub(super) labels: LabelSets,
    pub(super) waits: Vec<Wait>,
    pub(super) snapshot: Snapshot,
}

impl<'a> Collector<'a> {
    pub(super) fn new(binary: &'a Binary, bias: u64, depth: Depth) -> Collector<'a> {
        Collector {
            binary,
            bias,
            depth,
            reasons: std::array::from_fn(|number| wait_reason::text(binary.version(), number as u8)),
            system: Remembered::default(),
            labels: LabelSets::default(),
            waits: Vec::new(),
            snapshot: Snapshot { taken_ns: monotonic_ns(), ..Snapshot::default() },
        }
    }

    /// Takes a goroutine. `pcs`: the calls that it is in, from link-time addresses; empty where not known.
    #[inline]
    pub(super) fn push(&mut self, stopped: &Stopped, pcs: &[u64], stack_is_old: bool) {
        let Stopped { goroutine, waiting, locked, labels, .. } = *stopped;
        let status = goroutine.status;
        let waits = matches!(status, Status::Waiting | Status::Leaked);
        let since = u64::try_from(goroutine.wait_since).ok().filter(|since| *since > 0);
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(self.bias) };
        let (binary, startpc) = (self.binary, code(goroutine.startpc));
        let is_system = startpc != 0 && self.system.get(startpc, || binary.is_system(startpc));
        let stack = if pcs.is_empty() { None } else { self.snapshot.stacks.intern(pcs) };
        let reason = self.reasons[usize::from(goroutine.wait_reason)].filter(|_| waits);
        let on_object = waiting != 0 || reason.is_some_and(sudogs::is_semaphore);
        if waits && on_object && self.depth >= Depth::Objects {
            let index = self.snapshot.goroutines.len();
            self.waits.push(Wait { index, g: goroutine.address, sudog: waiting });
        }
        self.snapshot.goroutines.push(Blocked {
            address: goroutine.address,
            goid: goroutine.goid,
            parent: goroutine.parent,
            gopc: code(goroutine.gopc),
            startpc,
            status,
            reason,
            waits_at_least_ns: since
                .filter(|_| waits || status == Status::Syscall)
                .and_then(|since| self.snapshot.taken_ns.checked_sub(since)),
            stack,
            stack_is_old,
            stack_bytes: goroutine.stack.1.saturating_sub(goroutine.stack.0),
            is_system,
            locked_to_thread: locked,
            waits_on_nothing: waits && waiting == 0,
            objects: Objects::default(),
            labels: self.labels.of(labels, goroutine.address),
            used_stack: (stopped.sp, goroutine.stack.1),
        });
    }
}

/// What was found out about an address. Neighbours are mostly alike, so the last one is at hand.
#[derive(Default)]
pub(super) struct Remembered<T> {
    last: Option<(u64, T)>,
    all: HashMap<u64, T>,
}

impl<T: Copy> Remembered<T> {
    /// What is known of an address; finds it out where nothing is.
    #[inline]
    pub(super) fn get(&mut self, address: u64, find: impl FnOnce() -> T) -> T {
        match self.last {
            Some((last, known)) if last == address => known,
            _ => {
                let known = *self.all.entry(address).or_insert_with(find);
                self.last = Some((address, known));
                known
            }
        }
    }
}

/// The runtime's clock (`runtime.nanotime`) in ns.
fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map(std::time::Duration::from).unwrap_or_default().as_nanos() as u64
}
