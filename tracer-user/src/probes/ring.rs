//! The reader's end of the kernel's ring buffer.
//!
//! The probes do not wake the reader for each record. It wakes up when the ring is a quarter full, when something
//! happens to a process, and by its own timer ([`IDLE`]). Reading is plain memory access, without a system call per
//! record.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use crate::event::{Decoder, Event};

/// How long a record may wait in an almost empty ring. Even at the highest rate that was measured (800,000 goroutines/s
/// on two CPUs) it takes the probes longer to fill a quarter of the default ring, and then they wake the reader.
pub const IDLE: Duration = Duration::from_millis(20);

/// Most records that are taken in one go, so that timers and signals get their turn under a flood.
const BATCH: usize = 1 << 16;

/// The ring buffer, ready to be awaited.
pub struct Ring {
    buffer: AsyncFd<RingBuf<MapData>>,
    decoder: Decoder,
}

impl Ring {
    /// Registers the ring with the reactor of tokio. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The operating system cannot wait for this file descriptor.
    pub fn new(buffer: RingBuf<MapData>) -> std::io::Result<Ring> {
        // SAFETY: the ring owns its file descriptor and keeps it open and unchanged as long as it lives.
        let buffer = unsafe { AsyncFd::register(buffer) }?;
        Ok(Ring { buffer, decoder: Decoder::default() })
    }

    /// Waits until the kernel says that there is enough to read, or [`IDLE`] is over.
    pub async fn ready(&mut self) {
        // The caller reads the ring whichever of the two it was. An error of the reactor makes reading slower, but
        // loses nothing.
        if let Ok(Ok(mut guard)) = tokio::time::timeout(IDLE, self.buffer.readable_mut()).await {
            guard.clear_ready();
        }
    }

    /// Hands a batch of events to `take`, 65,536 at most. Returns whether there may be more.
    pub fn drain(&mut self, mut take: impl FnMut(&Event)) -> bool {
        let buffer = self.buffer.get_mut();
        for _ in 0..BATCH {
            let Some(record) = buffer.next() else { return false };
            if let Some(event) = self.decoder.decode(&record) {
                take(&event);
            }
        }
        true
    }

    /// The number of records since the last call that could not be read as events. The next call counts from 0 again.
    pub fn take_undecodable(&mut self) -> u64 {
        self.decoder.take_undecodable()
    }
}
