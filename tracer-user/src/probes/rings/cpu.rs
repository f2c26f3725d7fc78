//! The rings of one CPU, as their reader sees them: see [`RingHead`].

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use tracer_ebpf::{GROWN, LAP, RingHead, UNIT_WORDS};

use super::merge::{Next, Stream};
use crate::event::{RECORD_WORDS, words_of};

/// Where the words of a [`RingHead`] are.
const PRODUCED: usize = offset_of!(RingHead, produced) / 8;
const LIMIT: usize = offset_of!(RingHead, limit) / 8;

/// Words that are shared with the programs in the kernel. Whoever keeps the memory alive comes with them.
pub struct Words {
    first: *const AtomicU64,
    count: usize,
    _owner: Box<dyn Send>,
}

// SAFETY: words that may be read and written by anyone at any time, and an owner that may be dropped by any thread.
unsafe impl Send for Words {}

impl Words {
    /// The words from `first` on.
    ///
    /// # Safety
    /// All of them are readable and writable as long as `owner` lives, aligned, and accessed by atomic operations alone.
    pub unsafe fn new(first: *mut u64, count: usize, owner: Box<dyn Send>) -> Words {
        Words { first: first.cast(), count, _owner: owner }
    }

    #[inline]
    fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count);
        // SAFETY: `new` was told that it is there.
        unsafe { &*self.first.add(index) }
    }
}

/// A ring of one CPU.
pub struct Units {
    words: Words,
    /// Their number less one; the number is a power of two.
    mask: u64,
}

impl Units {
    /// A ring in this memory.
    pub fn new(words: Words) -> Units {
        let count = (words.count / UNIT_WORDS) as u64;
        debug_assert!(count.is_power_of_two());
        Units { words, mask: count.saturating_sub(1) }
    }

    fn len(&self) -> u64 {
        self.mask + 1
    }

    /// The first word of a unit, once it has been written.
    #[inline]
    fn written(&self, number: u64) -> Option<u64> {
        let first = self.words.at((number & self.mask) as usize * UNIT_WORDS).load(Ordering::Acquire);
        let lap = if number & self.len() == 0 { LAP } else { 0 };
        (first & LAP == lap).then_some(first)
    }

    /// Another word of a unit that has been written.
    #[inline]
    fn word(&self, number: u64, index: usize) -> u64 {
        self.words.at((number & self.mask) as usize * UNIT_WORDS + index).load(Ordering::Relaxed)
    }
}

/// The rings of one CPU.
pub struct CpuRing {
    head: Words,
    /// The ring that is being read.
    units: Units,
    /// The ring that comes after it.
    grown: Option<Grown>,
    /// Whether the ring that is being read is the second one.
    is_grown: bool,
    /// The number of the next unit.
    next: u64,
    /// The number of the first unit that this pass leaves alone.
    end: u64,
    /// The place in the order of the last record that was read.
    place: u64,
    record: [u64; RECORD_WORDS],
}

/// The second ring of a CPU, while the first is being read.
struct Grown {
    units: Units,
    /// At which number the first ring ends.
    from: u64,
    /// The number of the first unit in the second one that this pass leaves alone.
    end: u64,
}

impl CpuRing {
    /// Opens an empty ring for writing.
    pub fn new(head: Words, units: Units) -> CpuRing {
        let ring = CpuRing {
            head,
            units,
            grown: None,
            is_grown: false,
            next: 0,
            end: 0,
            place: 0,
            record: [0; RECORD_WORDS],
        };
        ring.give_room();
        ring
    }

    /// Begins a pass: it reads what programs have taken room for until now. Returns whether that was more than half of the
    /// ring, although the reader had been woken at a quarter.
    pub fn look(&mut self) -> bool {
        let produced = self.head.at(PRODUCED).load(Ordering::Acquire) & !GROWN;
        match &mut self.grown {
            Some(grown) => (self.end, grown.end) = (grown.from, produced),
            None => self.end = produced,
        }
        self.end - self.next > self.units.len() / 2
    }

    /// Lets programs write where the reader is done. To be called after each pass.
    pub fn give_room(&self) {
        let limit = self.head.at(LIMIT + usize::from(self.is_grown));
        let now = self.next + self.units.len();
        // Programs on that CPU have the line in their cache, and may keep it as long as nothing has changed.
        if limit.load(Ordering::Relaxed) != now {
            limit.store(now, Ordering::Release);
        }
    }

    /// Whether the CPU has its second ring, or is about to get it.
    pub fn has_grown(&self) -> bool {
        self.is_grown || self.grown.is_some()
    }

    /// Moves the CPU to its second ring. What is in the first is read before.
    pub fn grow(&mut self, units: Units) {
        self.head.at(LIMIT + 1).store(units.len(), Ordering::Release);
        // From here on programs take room in the second ring, beginning with number 0. Those that have room in the first
        // write there.
        let from = self.head.at(PRODUCED).swap(GROWN, Ordering::AcqRel);
        self.grown = Some(Grown { units, from, end: 0 });
    }

    /// Goes on to the second ring if all has been read that was written to the first.
    #[cold]
    fn leave_first(&mut self) -> bool {
        let Some(Grown { units, end, .. }) = self.grown.take_if(|grown| grown.from == self.next) else {
            return false;
        };
        (self.units, self.is_grown, self.next, self.end) = (units, true, 0, end);
        true
    }
}

impl Stream for CpuRing {
    #[inline]
    fn next(&mut self) -> Next {
        if self.next == self.end && !(self.grown.is_some() && self.leave_first() && self.next < self.end) {
            return Next::None;
        }
        match self.units.written(self.next) {
            Some(time) => Next::At(time & !LAP),
            None => Next::Unwritten,
        }
    }

    fn place(&self) -> u64 {
        self.place
    }

    #[inline]
    fn take(&mut self, place: u64) -> &[u64] {
        self.place = place;
        let second = self.units.word(self.next, 1);
        // What is of no known kind cannot be skipped by its length, but unit by unit.
        let words = words_of(second).unwrap_or(UNIT_WORDS).min(RECORD_WORDS);
        let units = (words.div_ceil(UNIT_WORDS) as u64).min(self.end - self.next);
        for unit in 0..units {
            for index in 0..UNIT_WORDS {
                self.record[unit as usize * UNIT_WORDS + index] = self.units.word(self.next + unit, index);
            }
        }
        self.next += units;
        &self.record[..units as usize * UNIT_WORDS]
    }
}
