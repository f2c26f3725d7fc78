//! The reader's end of what the probes write: a ring for each CPU where the kernel can have them, otherwise its own ring
//! buffer, which is one for all.
//!
//! The probes do not wake the reader for each record. It wakes up whenever a quarter of a ring has been written, when something
//! happens to a process, and by its own timer ([`IDLE`]). Reading is plain memory access, without a system call per
//! record.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::rings::{RingMaps, Rings};
use crate::event::{Decoder, Event, RECORD_WORDS, TestNames, words};
use crate::host::clock::suspended_ns;

/// How long a record may wait in an almost empty ring. Where a quarter of a ring fills up in less time, the probes wake the
/// reader.
pub const IDLE: Duration = Duration::from_millis(20);

/// Most records that are taken in one go, so that timers and signals get their turn under a flood.
const BATCH: usize = 1 << 16;

/// What records are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingKind {
    /// A ring for each CPU, which is written without a lock.
    PerCpu,
    /// The kernel's ring buffer, which has one lock for all CPUs.
    Shared,
}

/// The rings, to be read by whoever asks.
pub struct Records {
    /// The kernel's ring buffer: all records, or those of processes. It also wakes the reader.
    buffer: RingBuf<MapData>,
    buffer_bytes: u32,
    rings: Option<Rings>,
    decoder: Decoder,
}

impl Records {
    /// What programs write from now on. Without `rings` all of it is in `buffer`, which has so many bytes.
    ///
    /// # Errors
    /// The rings cannot be mapped.
    pub(super) fn open(
        buffer: RingBuf<MapData>,
        buffer_bytes: u32,
        rings: Option<RingMaps>,
    ) -> io::Result<Records> {
        let rings = rings.map(|maps| Rings::open(maps, &buffer)).transpose()?;
        Ok(Records { buffer, buffer_bytes, rings, decoder: Decoder::new(suspended_ns()) })
    }

    /// Which rings these are.
    pub fn kind(&self) -> RingKind {
        if self.rings.is_some() { RingKind::PerCpu } else { RingKind::Shared }
    }

    /// The memory in bytes that records wait in.
    pub fn bytes(&self) -> u64 {
        u64::from(self.buffer_bytes) + self.rings.as_ref().map_or(0, Rings::bytes)
    }

    /// How many units a CPU writes until it wakes the reader: one for an exit, two for a creation. `None` where all CPUs share
    /// a ring.
    pub fn units_to_wake(&self) -> Option<u64> {
        self.rings.as_ref().map(Rings::units_to_wake)
    }

    /// Hands a batch of events to `take`, 65,536 at most. Returns whether there may be more.
    pub fn drain(&mut self, mut take: impl FnMut(&Event)) -> bool {
        let Records { buffer, rings, decoder, .. } = self;
        decoder.set_suspended(suspended_ns());
        if let Some(rings) = rings {
            return rings.pass(buffer, BATCH, |record| decoder.decode(record).iter().for_each(&mut take));
        }
        for _ in 0..BATCH {
            let Some(record) = buffer.next() else { return false };
            let mut of_goroutine = [0; RECORD_WORDS];
            let event = if record.len() <= size_of_val(&of_goroutine) {
                of_goroutine.iter_mut().zip(words(&record)).for_each(|(to, from)| *to = from);
                decoder.decode(&of_goroutine[..record.len() / 8])
            } else {
                decoder.decode(&words(&record).collect::<Vec<_>>())
            };
            event.iter().for_each(&mut take);
        }
        true
    }

    /// The names of tests in all records so far.
    pub fn test_names(&self) -> &TestNames {
        self.decoder.test_names()
    }

    /// The number of records since the last call that could not be read as events. The next call counts from 0 again.
    pub fn take_undecodable(&mut self) -> u64 {
        self.decoder.take_undecodable()
    }
}

impl AsRawFd for Records {
    fn as_raw_fd(&self) -> RawFd {
        self.buffer.as_raw_fd()
    }
}

/// The rings, ready to be awaited.
pub struct Ring(AsyncFd<Records>);

impl Ring {
    /// Registers them with the reactor of tokio. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The operating system cannot wait for this file descriptor.
    pub fn new(records: Records) -> io::Result<Ring> {
        // SAFETY: the ring buffer owns its file descriptor and keeps it open and unchanged as long as it lives.
        Ok(Ring(unsafe { AsyncFd::register(records) }?))
    }

    /// Waits until the kernel says that there is enough to read, or [`IDLE`] is over.
    pub async fn ready(&mut self) {
        // The caller reads whichever of the two it was. An error of the reactor makes reading slower, but loses nothing.
        if let Ok(Ok(mut guard)) = tokio::time::timeout(IDLE, self.0.readable_mut()).await {
            guard.clear_ready();
        }
    }

    /// The rings themselves.
    pub fn records(&mut self) -> &mut Records {
        self.0.get_mut()
    }
}
