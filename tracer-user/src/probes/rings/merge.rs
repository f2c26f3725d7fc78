//! The order of records from several CPUs.
//!
//! The tracker matches an end with the goroutine that holds the `g`. So of the hits on one `g` — a goroutine is created
//! there, ends, and the next is created — each must come out after the one before it, on whichever CPU it was. Nothing
//! else needs an order.
//!
//! A hit reads the clock, takes room in its CPU's ring, and writes its record. If one hit leads to another, the second
//! begins after the first has written: the runtime gives a `g` away, or takes one, only after the program at the probe has
//! returned. A program stays on its CPU (the kernel disables migration while it runs), but a thread may go to another between two
//! hits, which is no other than giving the `g` to a thread there. So the second has read the clock after the first had written, and
//!
//! 1. a record's place in the order may be anywhere between its time and the moment at which it was written.
//! 2. A reader first reads the clock, then how far each ring is taken. What it finds unwritten then had not been written by that time,
//!    so whatever that leads to has a later time. It may pass on all records up to that time, the *watermark*, ordered by their
//!    times.
//! 3. A record that was written after the watermark of an earlier pass, although its time is before it, has its place after that
//!    watermark.
//! 4. Within a ring the order is that in which room was taken, which may differ from that of the times, as a thread can lose its
//!    CPU to another between reading the clock and taking room. No record has its place before one that is ahead of it in its
//!    ring, since it was not written before room for that was taken.
//! 5. An unwritten record hides those behind it in its ring, which may have led to others elsewhere. Until it is written,
//!    nothing is passed on that has its place after the last record before it.
//!
//! 1 is why programs read the clock and all else before they take room. 3 and 4 make a record's place: the latest of its time,
//! the place of the record ahead of it, and the last watermark.
//!
//! An unwritten record is one whose thread lost its CPU between two of a few instructions. Kernels without full preemption have none
//! that last. If a thread gets no CPU for [`PATIENCE_NS`], the others go on without it: the tracker can tell by the times that an end
//! which comes that late is not that of the goroutine which holds the `g` by then.
//!
//! The clock (`CLOCK_MONOTONIC` as `bpf_ktime_get_ns` gives it) may differ between CPUs by some ns while the kernel adjusts it
//! (<https://github.com/torvalds/linux/blob/v6.6/kernel/time/timekeeping.c>, `ktime_get_mono_fast_ns`). Between two hits
//! on one `g` lie the return from one trap, the scheduler of Go, and another trap: 880 ns were the least of 11 million.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// For how long, in ns, records wait for one that is not written.
pub const PATIENCE_NS: u64 = 100_000_000;

/// What is next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record of this time.
    At(u64),
    /// A record that is not written yet.
    Unwritten,
    /// Nothing that this pass reads.
    None,
}

/// Records in the order in which room was taken for them.
pub trait Stream {
    /// What is next.
    fn next(&mut self) -> Next;

    /// The place in the order of the last record that was taken.
    fn place(&self) -> u64;

    /// Takes the next record, which has this place in the order.
    fn take(&mut self, place: u64) -> &[u64];
}

/// Puts the records of several streams in order.
#[derive(Default)]
pub struct Merge {
    watermark: u64,
    /// Since when the next record of each stream has been found unwritten; 0 where it is not.
    unwritten_since: Vec<u64>,
    /// The place of the next record of each stream that has one.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Merge {
    /// Passes on records in order, `most` at most. Returns whether there may be more. At `now_ns` by the records' clock, nobody had
    /// looked yet how far the streams are.
    pub fn pass<S: Stream>(
        &mut self,
        streams: &mut [S],
        now_ns: u64,
        most: usize,
        mut pass_on: impl FnMut(&[u64]),
    ) -> bool {
        let before = self.watermark;
        let mut until = now_ns;
        self.unwritten_since.resize(streams.len(), 0);
        self.heads.clear();
        for (index, stream) in streams.iter_mut().enumerate() {
            match stream.next() {
                Next::At(time) => {
                    self.heads.push(Reverse((time.max(stream.place()).max(before), index)));
                    self.unwritten_since[index] = 0;
                }
                Next::Unwritten => {
                    until = until.min(wait_for(stream, &mut self.unwritten_since[index], now_ns));
                }
                Next::None => self.unwritten_since[index] = 0,
            }
        }
        let mut count = 0;
        while let Some(mut head) = self.heads.peek_mut() {
            let Reverse((mut place, index)) = *head;
            if place > until {
                break;
            }
            if count >= most {
                self.watermark = before.max(place);
                return true;
            }
            pass_on(streams[index].take(place));
            count += 1;
            match streams[index].next() {
                Next::At(time) => {
                    place = place.max(time);
                    *head = Reverse((place, index));
                }
                Next::Unwritten => {
                    let since = &mut self.unwritten_since[index];
                    *since = 0;
                    until = until.min(wait_for(&streams[index], since, now_ns));
                    PeekMut::pop(head);
                }
                Next::None => _ = PeekMut::pop(head),
            }
        }
        self.watermark = before.max(until);
        false
    }
}

/// Up to which place records are passed on while the next one of a stream is unwritten.
fn wait_for(stream: &impl Stream, since: &mut u64, now_ns: u64) -> u64 {
    if *since == 0 {
        *since = now_ns;
    }
    if now_ns - *since < PATIENCE_NS { stream.place() } else { u64::MAX }
}
