//! Programs on several CPUs, interleaved at random, against the reader: what led to what comes out in that order.
//!
//! A program does here what `put` in `tracer-ebpf/src/main.rs` does, step by step, and loses its CPU between any two steps. The
//! clock ticks with each step of anybody.

use std::cell::RefCell;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tracer_ebpf::{GROWN, Kind, LAP, RecordHead, RingHead, UNIT_WORDS};

use super::cpu::{CpuRing, Units, Words};
use super::merge::{Merge, Next, PATIENCE_NS, Stream};

type Memory = Arc<[AtomicU64]>;

fn memory(words: usize) -> Memory {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn words(memory: &Memory) -> Words {
    // SAFETY: the words live as long as somebody has them, and are accessed by atomic operations alone.
    unsafe { Words::new(memory.as_ptr().cast_mut().cast(), memory.len(), Box::new(memory.clone())) }
}

/// The shared memory of a CPU.
struct Cpu {
    head: Memory,
    rings: [Memory; 2],
}

const PRODUCED: usize = offset_of!(RingHead, produced) / 8;
const LIMIT: usize = offset_of!(RingHead, limit) / 8;

impl Cpu {
    fn new(units: u64) -> Cpu {
        let ring = |units: u64| memory(units as usize * UNIT_WORDS);
        Cpu { head: memory(size_of::<RingHead>() / 8), rings: [ring(units), ring(4 * units)] }
    }

    fn open(&self) -> CpuRing {
        CpuRing::new(words(&self.head), Units::new(words(&self.rings[0])))
    }

    /// Takes room for so many units: which ring, and from which number on.
    fn take_room(&self, units: u64) -> Option<(usize, u64)> {
        let produced = self.head[PRODUCED].load(SeqCst);
        let (ring, at) = ((produced >> 63) as usize, produced & !GROWN);
        (at + units <= self.head[LIMIT + ring].load(SeqCst)).then(|| {
            self.head[PRODUCED].store(produced + units, SeqCst);
            (ring, at)
        })
    }

    /// Writes a unit from its second word on, and then the first, if `first` says so.
    fn write(&self, ring: usize, number: u64, unit: &[u64], first: bool) {
        let ring = &self.rings[ring];
        let count = (ring.len() / UNIT_WORDS) as u64;
        let at = (number % count) as usize * UNIT_WORDS;
        for (index, word) in unit.iter().enumerate().skip(1) {
            ring[at + index].store(*word, SeqCst);
        }
        let lap = if (number / count).is_multiple_of(2) { LAP } else { 0 };
        if first {
            ring[at].store(unit[0] | lap, SeqCst);
        }
    }
}

/// How far a thread is with its hit.
#[derive(Clone, Copy)]
enum Step {
    Outside,
    Timed { time: u64 },
    Placed { time: u64, ring: usize, at: u64 },
    Half { time: u64, ring: usize, at: u64 },
}

/// A `g`, on which goroutines are created and end, one after the other, on any CPU. Whoever has it passes it on after a hit.
struct G {
    hits: u64,
    cpu: usize,
    step: Step,
    /// One in so many turns is used: a thread can be without its CPU for long.
    pace: u64,
    /// The hits that were recorded.
    recorded: Vec<u64>,
}

/// When programs read the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    BeforeRoom,
    AfterRoom,
}

struct World {
    random: u64,
    clock: u64,
    read: Clock,
    cpus: Vec<Cpu>,
    gs: Vec<G>,
    lost: u64,
    is_over: bool,
}

impl World {
    fn new(seed: u64, read: Clock, units: u64) -> World {
        let mut world = World {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            clock: 1,
            read,
            cpus: Vec::new(),
            gs: Vec::new(),
            lost: 0,
            is_over: false,
        };
        world.cpus = (0..2 + world.any(4)).map(|_| Cpu::new(units)).collect();
        let g = |pace| G { hits: 0, cpu: 0, step: Step::Outside, pace, recorded: Vec::new() };
        world.gs = (0..3 + world.any(8)).map(|_| g([1, 1, 1, 9, 60][world.any(5) as usize])).collect();
        world
    }

    /// A number below `below`, by xorshift.
    fn any(&mut self, below: u64) -> u64 {
        for shift in [13, -7, 17] {
            let moved = if shift > 0 { self.random << shift } else { self.random >> -shift };
            self.random ^= moved;
        }
        (self.random >> 11) % below
    }

    /// Has threads go on for `turns` steps.
    fn run(&mut self, turns: u64) {
        for _ in 0..turns {
            let g = self.any(self.gs.len() as u64) as usize;
            if self.any(self.gs[g].pace) == 0 {
                self.step(g);
            }
        }
    }

    fn step(&mut self, index: usize) {
        self.clock += 1;
        let (clock, cpu) = (self.clock, self.any(self.cpus.len() as u64) as usize);
        let g = &mut self.gs[index];
        let kind = if g.hits.is_multiple_of(2) { Kind::Created } else { Kind::Exited };
        let record = |time: u64| {
            let head = RecordHead::new(kind, index as u32, time, 0);
            [time, u64::from(head.kind_pid), g.hits, 0, g.hits, g.hits]
        };
        let units = if kind == Kind::Created { 2 } else { 1 };
        g.step = match g.step {
            Step::Outside if self.is_over => Step::Outside,
            Step::Outside => {
                g.cpu = cpu;
                Step::Timed { time: clock }
            }
            Step::Timed { time } => match self.cpus[g.cpu].take_room(units) {
                Some((ring, at)) => Step::Placed { time, ring, at },
                None => {
                    // This is what the kernel's counters say.
                    self.lost += 1;
                    g.hits += 1;
                    Step::Outside
                }
            },
            Step::Placed { time, ring, at } => {
                let time = if self.read == Clock::AfterRoom { clock } else { time };
                if units == 2 {
                    self.cpus[g.cpu].write(ring, at + 1, &record(time)[3..], true);
                }
                self.cpus[g.cpu].write(ring, at, &record(time)[..3], false);
                Step::Half { time, ring, at }
            }
            Step::Half { time, ring, at } => {
                self.cpus[g.cpu].write(ring, at, &record(time)[..3], true);
                g.recorded.push(g.hits);
                g.hits += 1;
                Step::Outside
            }
        };
    }
}

/// How records are put in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// By the rules.
    Merge,
    /// All that is there, by time.
    Time,
}

/// What came out.
struct Outcome {
    is_in_order: bool,
    /// Each hit came out once, or was counted as lost.
    is_complete: bool,
    lost: u64,
    received: u64,
}

fn outcome(seed: u64, read: Clock, order: Order, units: u64) -> Outcome {
    let world = RefCell::new(World::new(seed, read, units));
    let mut rings: Vec<CpuRing> = world.borrow().cpus.iter().map(Cpu::open).collect();
    let mut merge = Merge::default();
    let mut seen: Vec<Vec<u64>> = world.borrow().gs.iter().map(|_| Vec::new()).collect();
    let mut take = |record: &[u64]| {
        seen[RecordHead::pid(record[1] as u32) as usize].push(record[2]);
        let mut world = world.borrow_mut();
        let turns = world.any(4);
        world.run(turns);
    };
    for pass in 0..120 {
        let now = {
            let mut world = world.borrow_mut();
            let turns = world.any(200);
            world.run(turns);
            if pass == 100 {
                world.is_over = true;
                world.run(10_000);
            }
            world.clock
        };
        for (index, ring) in rings.iter_mut().enumerate() {
            let mut world = world.borrow_mut();
            let turns = world.any(12);
            world.run(turns);
            ring.look();
            if pass > 20 && !ring.has_grown() && world.any(40) == 0 {
                ring.grow(Units::new(words(&world.cpus[index].rings[1])));
            }
        }
        let most = if world.borrow_mut().any(3) == 0 { 5 } else { 1000 };
        match order {
            Order::Merge => _ = merge.pass(&mut rings, now, most, &mut take),
            Order::Time => {
                let next = |ring: &mut CpuRing| match ring.next() {
                    Next::At(time) => time,
                    Next::Unwritten | Next::None => u64::MAX,
                };
                while let Some((time, ring)) = rings
                    .iter_mut()
                    .map(|ring| (next(ring), ring))
                    .min_by_key(|(time, _)| *time)
                    .filter(|(time, _)| *time < u64::MAX)
                {
                    take(ring.take(time));
                }
            }
        }
        rings.iter().for_each(CpuRing::give_room);
    }
    let world = world.into_inner();
    let sorted = |seen: &Vec<u64>| {
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        sorted
    };
    let received = seen.iter().map(|seen| seen.len() as u64).sum();
    let hits: u64 = world.gs.iter().map(|g| g.hits).sum();
    let each_once = seen.iter().zip(&world.gs).all(|(seen, g)| sorted(seen) == g.recorded);
    Outcome {
        is_in_order: seen.iter().all(|seen| seen.is_sorted()),
        is_complete: each_once && received + world.lost == hits,
        lost: world.lost,
        received,
    }
}

const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn what_led_to_what_comes_out_in_that_order() {
    let mut sums = (0, 0);
    for units in [8, 64, 1024] {
        for seed in SEEDS {
            let outcome = outcome(seed, Clock::BeforeRoom, Order::Merge, units);
            assert!(outcome.is_in_order && outcome.is_complete, "seed {seed} with {units} units");
            sums = (sums.0 + outcome.received, sums.1 + outcome.lost);
        }
    }
    assert!(sums.0 > 300_000 && sums.1 > 3_000, "{sums:?} received and lost");
}

/// Without any of the rules the order is wrong, so the test above can fail.
#[test]
fn no_rule_can_be_left_out() {
    let wrong = |read, order| {
        let outcomes = SEEDS.map(|seed| outcome(seed, read, order, 1024));
        outcomes.filter(|outcome| outcome.is_complete && !outcome.is_in_order).count()
    };
    for (read, order) in [(Clock::BeforeRoom, Order::Time), (Clock::AfterRoom, Order::Merge)] {
        let wrong = wrong(read, order);
        assert!(wrong > 10, "{read:?} and {order:?}: only {wrong} wrong");
    }
}

#[test]
fn others_go_on_without_a_thread_that_gets_no_cpu() {
    let cpus = [Cpu::new(64), Cpu::new(64)];
    let mut rings: Vec<CpuRing> = cpus.iter().map(Cpu::open).collect();
    let mut merge = Merge::default();
    let record = |time: u64| {
        let head = RecordHead::new(Kind::Exited, 1, time, 0);
        [time, u64::from(head.kind_pid), 480]
    };
    let (_, stalled) = cpus[0].take_room(1).unwrap();
    let (_, behind) = cpus[0].take_room(1).unwrap();
    let (_, other) = cpus[1].take_room(1).unwrap();
    cpus[0].write(0, behind, &record(12), true);
    cpus[1].write(0, other, &record(11), true);
    let mut times_at = |now| {
        let mut times = Vec::new();
        rings.iter_mut().for_each(|ring| _ = ring.look());
        let more = merge.pass(&mut rings, now, 100, |record| times.push(record[0] & !LAP));
        assert!(!more);
        times
    };
    assert_eq!(times_at(1_000), [0u64; 0]);
    assert_eq!(times_at(999 + PATIENCE_NS), [0u64; 0]);
    assert_eq!(times_at(1_000 + PATIENCE_NS), [11]);
    cpus[0].write(0, stalled, &record(10), true);
    assert_eq!(times_at(1_001 + PATIENCE_NS), [10, 12]);
}
