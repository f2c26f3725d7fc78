//! What happens to processes and tests, which is in the kernel's own ring buffer.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{MapData, RingBuf};
use memmap2::{MmapOptions, MmapRaw};

use super::merge::{Next, Stream};
use crate::event::words;

/// The records that were read and not yet passed on.
pub struct Processes {
    /// The kernel's ring buffer as memory: how far it was read, and one page on, how far room was taken.
    positions: MmapRaw,
    pending: VecDeque<Box<[u64]>>,
    record: Box<[u64]>,
    /// Whether the next record in the ring buffer is not written yet, as far as this pass reads.
    is_unwritten: bool,
    place: u64,
}

impl Processes {
    /// Nothing has been read yet.
    ///
    /// # Errors
    /// The ring buffer cannot be mapped.
    pub fn new(buffer: &RingBuf<MapData>) -> io::Result<Processes> {
        let positions = MmapOptions::new().len(2 * page()).map_raw_read_only(buffer.as_raw_fd())?;
        Ok(Processes {
            positions,
            pending: VecDeque::new(),
            record: Box::default(),
            is_unwritten: false,
            place: 0,
        })
    }

    /// Begins a pass: reads all records that are written. What was given to programs that only wanted to wake the reader is none.
    pub fn look(&mut self, buffer: &mut RingBuf<MapData>) {
        let taken = self.position(page());
        while let Some(record) = buffer.next() {
            let record: Box<[u64]> = words(&record).collect();
            if !record.is_empty() {
                self.pending.push_back(record);
            }
        }
        self.is_unwritten = self.position(0) < taken;
    }

    fn position(&self, offset: usize) -> u64 {
        // SAFETY: a word at the begin of a page that is mapped as long as this value lives. The kernel writes it in one piece
        // (`struct bpf_ringbuf` in <https://github.com/torvalds/linux/blob/v6.6/kernel/bpf/ringbuf.c>).
        unsafe { &*self.positions.as_ptr().add(offset).cast::<AtomicU64>() }.load(Ordering::Acquire)
    }
}

fn page() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

impl Stream for Processes {
    fn next(&mut self) -> Next {
        match self.pending.front() {
            Some(record) => Next::At(record[0]),
            None if self.is_unwritten => Next::Unwritten,
            None => Next::None,
        }
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn take(&mut self, place: u64) -> &[u64] {
        self.place = place;
        self.record = self.pending.pop_front().unwrap_or_default();
        &self.record
    }
}
