//! What crosses the border between the probes in the kernel and golife in user space: records, the rings that they are
//! in, counters, and what a program is told of the places where it runs. Both sides compile this file, so a layout stands in
//! one place, with its size asserted.
//!
//! On the host the crate also carries the compiled probes ([`OBJECT`]), so building golife needs no BPF toolchain.
#![no_std]
#![deny(missing_docs)]

use core::mem::size_of;

/// The first word of every record says what follows. Values are part of the wire format: append, never reuse.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A goroutine was created: [`Created`].
    Created = 1,
    /// A goroutine ended: [`Exited`].
    Exited = 2,
    /// A process replaced its image: [`Process`], `other` is the thread that called `execve`.
    Exec = 3,
    /// A task was cloned: [`Process`], `other` is the new task, a process or a thread.
    Fork = 4,
    /// The last thread of a process ended: [`Process`], `other` is that thread.
    ProcessExit = 5,
    /// A test binary has come to a [`TestPoint`]: [`Test`].
    Test = 6,
}

impl Kind {
    /// Every kind, in wire order.
    pub const ALL: [Kind; 6] =
        [Kind::Created, Kind::Exited, Kind::Exec, Kind::Fork, Kind::ProcessExit, Kind::Test];

    /// The kind with this number on the wire.
    pub fn from_wire(value: u32) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == value)
    }
}

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// `CLOCK_MONOTONIC` in nanoseconds (`bpf_ktime_get_ns`), less than 2⁶³. It is read before the record gets its place in
    /// a ring. In a [ring of one CPU](RingHead), [`LAP`] may stand in it.
    pub time_ns: u64,
    /// The [`Kind`] in the highest 8 bits; below, the process id (tgid) in the initial pid namespace, which is less than
    /// 2²² (`PID_MAX_LIMIT` in <https://github.com/torvalds/linux/blob/v6.6/include/linux/threads.h>).
    pub kind_pid: u32,
    /// How many records had been lost on all CPUs when this one was written, modulo 2³².
    ///
    /// A lost record is counted before the thread that made it goes on. So if one event leads to another, and the records
    /// of both bear the same number, no record of anything that happened in between was lost.
    pub losses: u32,
}

impl RecordHead {
    /// Packs kind and process id.
    #[inline(always)]
    pub const fn new(kind: Kind, pid: u32, time_ns: u64, losses: u32) -> RecordHead {
        RecordHead { time_ns, kind_pid: (kind as u32) << 24 | pid & 0xff_ffff, losses }
    }

    /// The process id in [`RecordHead::kind_pid`].
    pub const fn pid(kind_pid: u32) -> u32 {
        kind_pid & 0xff_ffff
    }

    /// The number of the [`Kind`] in [`RecordHead::kind_pid`].
    pub const fn kind(kind_pid: u32) -> u32 {
        kind_pid >> 24
    }
}

/// What a creation record says about the new goroutine. All but the stack fit in 48 bits each: addresses of user space do on
/// every CPU that Go 1.18 and its successors run on, and goids are counted up from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Address of its `runtime.g`, which is reused when it has ended.
    pub g: u64,
    /// `g.goid`, never reused within a process.
    pub goid: u64,
    /// `g.parentGoid`; 0 where the runtime does not say.
    pub parent: u64,
    /// `g.gopc`: the return address of the `go` statement.
    pub gopc: u64,
    /// `g.startpc`: the entry of the goroutine's function.
    pub startpc: u64,
    /// The creator's stack, where it is wanted.
    pub stack: StackCode,
}

/// The low 48 bits, all that records have room for.
pub const LOW_48: u64 = (1 << 48) - 1;

/// The bits of the address of a `runtime.g` that records have room for: its lowest three are 0, as it begins with a pointer.
pub const G_BITS: u64 = LOW_48 & !7;

impl Facts {
    /// Six facts in four words: goid, parent, gopc and startpc are the low 48 bits of one each. In the 15 bits above each
    /// of the first three stands a part of g, the lowest first, without the three lowest bits; above the last stands the
    /// stack. The highest bit of the first three is 0: it is where [`LAP`] may be.
    #[inline(always)]
    pub const fn pack(self) -> [u64; 4] {
        const PART: u64 = (1 << 15) - 1;
        [
            self.goid & LOW_48 | (self.g >> 3 & PART) << 48,
            self.parent & LOW_48 | (self.g >> 18 & PART) << 48,
            self.gopc & LOW_48 | (self.g >> 33 & PART) << 48,
            self.startpc & LOW_48 | (self.stack.0 as u64) << 48,
        ]
    }

    /// The reverse of [`Facts::pack`].
    #[inline]
    pub const fn unpack([goid, parent, gopc, startpc]: [u64; 4]) -> Facts {
        const fn part(word: u64) -> u64 {
            (word & !LAP) >> 48
        }
        Facts {
            g: part(goid) << 3 | part(parent) << 18 | part(gopc) << 33,
            goid: goid & LOW_48,
            parent: parent & LOW_48,
            gopc: gopc & LOW_48,
            startpc: startpc & LOW_48,
            stack: StackCode((startpc >> 48) as u16),
        }
    }
}

/// A goroutine was created; read from its `runtime.g` inside `runtime.newproc1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// When, where, what.
    pub head: RecordHead,
    /// [`Facts`], packed.
    pub facts: [u64; 4],
}

/// A goroutine ended. Nothing is read from its memory: the record names it by the address of its `runtime.g`. Whatever
/// is created there next is created after this record was written.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    /// When, where, what.
    pub head: RecordHead,
    /// Address of its `runtime.g`.
    pub g: u64,
}

/// Something happened to a whole process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// When, where, what.
    pub head: RecordHead,
    /// Another task, by [`Kind`].
    pub other: u32,
    /// The thread that it happened on.
    pub thread: u32,
}

/// What package `testing` is about to do, where a probe in a test binary has been hit. Values are part of the wire format:
/// append, never reuse.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TestPoint {
    /// The packages are initialised, and `main` begins.
    Main = 1,
    /// A test function or subtest begins, in a goroutine of its own.
    Test = 2,
    /// A benchmark function or a part of one begins, in a goroutine of its own. It may do so several times.
    Benchmark = 3,
    /// A fuzz function begins, in a goroutine of its own.
    Fuzz = 4,
    /// An example begins, in the goroutine that runs all of them.
    Example = 5,
    /// An example has ended.
    ExampleEnd = 6,
    /// The goroutine is about to start a process.
    Fork = 7,
    /// A test or a fuzz function has ended, and so have its subtests and what they had to clean up.
    End = 8,
}

impl TestPoint {
    /// Every point, in wire order.
    pub const ALL: [TestPoint; 8] = [
        TestPoint::Main,
        TestPoint::Test,
        TestPoint::Benchmark,
        TestPoint::Fuzz,
        TestPoint::Example,
        TestPoint::ExampleEnd,
        TestPoint::Fork,
        TestPoint::End,
    ];

    /// The point with this number on the wire.
    pub fn from_wire(value: u32) -> Option<TestPoint> {
        Self::ALL.into_iter().find(|point| *point as u32 == value)
    }
}

/// Most bytes of a test's name that a record has.
pub const NAME_BYTES: usize = 255;

/// A test binary has come to a [`TestPoint`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// When, where, what.
    pub head: RecordHead,
    /// The goroutine that has come there.
    pub goid: u64,
    /// The number of the [`TestPoint`].
    pub point: u32,
    /// The thread that the goroutine is on.
    pub thread: u32,
    /// How many bytes the name has, of which the record has [`NAME_BYTES`] at most; 0 where there is none, or it could not be
    /// read.
    pub length: u64,
    /// The name, and after it what happens to be there.
    pub name: [u8; NAME_BYTES + 1],
}

const _: () = assert!(size_of::<Created>() == 48);
const _: () = assert!(size_of::<Exited>() == 24);
const _: () = assert!(size_of::<Process>() == 24);
const _: () = assert!(size_of::<Test>() == 40 + NAME_BYTES + 1);

/// The counters that the probes keep per CPU in the map [`COUNTERS`]; the value is the index.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Creations that did not fit into the ring buffer.
    DroppedCreated = 0,
    /// Exits that did not fit.
    DroppedExited = 1,
    /// Records of processes and tests that did not fit.
    DroppedProcess = 2,
    /// Hits whose user memory could not be read: no record was written.
    ReadFault = 3,
}

impl Counter {
    /// Every counter, in map order.
    pub const ALL: [Counter; 4] =
        [Counter::DroppedCreated, Counter::DroppedExited, Counter::DroppedProcess, Counter::ReadFault];
}

/// A record in a ring of one CPU is made of so many words for each unit: one unit for an exit, two for a creation. The two
/// need not be neighbours in memory, since each has its place by its own number.
pub const UNIT_WORDS: usize = 3;

/// The highest bit of the first word of each unit in a ring of one CPU. It says in which round through the ring the unit was
/// written: 1 in the first round, 0 in the second, and so on. Memory begins as 0, so a unit with the bit of this round has
/// been written in this round. The first word of a record is written last.
pub const LAP: u64 = 1 << 63;

/// In [`RingHead::produced`]: the CPU's second ring is in use.
pub const GROWN: u64 = 1 << 63;

/// How far the rings of a CPU are written and may be written. The programs and golife map the same memory.
///
/// A CPU has at most two rings: the one it begins with, and a larger one to which golife moves it when that becomes too
/// small. Only programs on this CPU write to them. They do not lock anything: a program takes room for its record by a
/// compare-and-swap of `produced`, which fails if another took the room meanwhile (a program can lose its CPU to another thread
/// between any two instructions), and then tries again.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct RingHead {
    /// How many units were given away in the ring that is in use, since its begin. The highest bit is [`GROWN`].
    pub produced: u64,
    /// Keeps what programs write and what golife writes on lines of their own.
    pub apart: [u64; 15],
    /// For each ring, up to which number units may be given away: 0 while there is no such ring. golife alone writes it.
    pub limit: [u64; 2],
}

const _: () = assert!(size_of::<RingHead>() == 256);

/// Name of the array of [`RingHead`]s, one for each CPU that there can be. golife makes it.
pub const RING_HEADS: &str = "RING_HEADS";
/// Name of the array of the rings that CPUs begin with. golife makes it.
pub const FIRST_RINGS: &str = "FIRST_RINGS";
/// Name of the array of larger rings, each of which is a map of its own. golife makes it.
pub const GROWN_RINGS: &str = "GROWN_RINGS";
/// Name of the global with the number of units less one of a first and of a grown ring. Both numbers are powers of two, at
/// least 4: each time a quarter of a ring has been written, the reader is woken.
pub const RING_MASKS: &str = "RING_MASKS";

/// Name of the kernel's ring buffer, which is one for all CPUs. Everything is in it where the kernel cannot have rings without
/// a lock, otherwise what happens to processes.
pub const EVENTS: &str = "EVENTS";
/// Name of the per-CPU array of [`Counter`]s.
pub const COUNTERS: &str = "COUNTERS";
/// Name of the global with the offset of `child_pid` in the `sched_process_fork` record, which differs between kernels.
pub const FORK_CHILD_OFFSET: &str = "FORK_CHILD_OFFSET";
/// Name of the global that says whether the second argument of `sched_process_exit` is `group_dead` (not before
/// Linux 6.16).
pub const EXIT_SAYS_GROUP_DEAD: &str = "EXIT_SAYS_GROUP_DEAD";
/// Name of the global that says whether the stacks of creators are wanted.
pub const CREATION_STACKS: &str = "CREATION_STACKS";
/// Name of the hash map of stacks, by [`StackCode`] as a `u32`, with [`STACK_PLACES`] entries where they are wanted.
pub const STACKS: &str = "STACKS";
/// So many stacks can be kept.
pub const STACK_PLACES: u32 = 1 << 14;
/// So many calls of a stack are kept, the innermost. One is [`CUT`] where there are more.
pub const STACK_CALLS: usize = 128;
/// Stands for the outer calls of a stack, where they could not be followed or kept.
pub const CUT: u64 = u64::MAX;

/// A stack in the map [`STACKS`]: its hash, how many calls follow, and their return addresses, the innermost first.
pub type Stack = [u64; 2 + STACK_CALLS];

/// The hash of a stack with one more call; 0 is that of none.
#[inline(always)]
pub const fn hash_call(hash: u64, pc: u64) -> u64 {
    let mixed = (hash ^ pc).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// The calls of a kept stack. `None` where they are not what was hashed: a thread that lost its CPU to another while it
/// wrote them.
pub fn calls_of(stack: &Stack) -> Option<&[u64]> {
    let [hash, count, calls @ ..] = stack;
    let calls = calls.get(..usize::try_from(*count).ok()?)?;
    (calls.iter().fold(0, |hash, &pc| hash_call(hash, pc)) == *hash).then_some(calls)
}

/// Where the stack of a creator is kept: 16 bits in a creation record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StackCode(pub u16);

impl StackCode {
    /// Nobody looked, or no goroutine created it.
    pub const NONE: StackCode = StackCode(0);
    /// It could not be read, or others are in all its places.
    pub const LOST: StackCode = StackCode(u16::MAX);
    /// A stack may be in any of so many places. With half of all places taken, one in 16 finds none.
    pub const CHOICES: u32 = 4;

    /// One of the places of a stack with this hash.
    #[inline(always)]
    pub const fn choice(hash: u64, number: u32) -> StackCode {
        let bits = STACK_PLACES.trailing_zeros() * (number % Self::CHOICES);
        StackCode(1 + (hash >> bits) as u16 % STACK_PLACES as u16)
    }
}

/// Name of the global with the fill level in bytes at which the reader is woken.
pub const WAKE_BYTES: &str = "WAKE_BYTES";

/// Bytes of a `runtime.g` that one read at birth spans, from `goid` on. In every layout `gopc`, `startpc` and
/// `parentGoid` must lie in it, with a word to spare (largest so far: Go 1.18, `goid` 152 to the end of `startpc`
/// 320), and the whole of it within `g`.
pub const SPAN: usize = 184;

/// Name of the global of [`Constants`].
pub const CONSTANTS: &str = "CONSTANTS";

/// What a program is told of the places where it runs: where the goroutine and its facts are. golife writes it into the
/// program's read-only memory and loads the program once for each different one. So the verifier knows all of it and takes
/// out whatever else the program could do, and the kernel side knows no Go version.
///
/// Offsets are in bytes and multiples of 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constants {
    /// Number of the register that holds the goroutine's `*g`, in the instruction set's own numbering
    /// (x86-64: 0 = rax, 1 = rcx, 2 = rdx, 3 = rbx, 4 = rsp, … 15 = r15; arm64: 0 = x0 …). An exit needs it alone.
    pub register: u64,
    /// Offset of `g.goid`.
    pub goid: u64,
    /// Offset of `g.parentGoid`, 0 where there is none (before Go 1.21).
    pub parent: u64,
    /// Offset of `g.gopc`.
    pub gopc: u64,
    /// Offset of `g.startpc`.
    pub startpc: u64,
    /// Offset of `g.m`, used to find the parent where `g` does not name it.
    pub m: u64,
    /// Offset of `m.curg`, for the same, and to find the creator's stack.
    pub curg: u64,
    /// Offset of `g.sched.bp`: where the stack of a creator begins.
    pub bp: u64,
    /// The only process whose threads come here; 0 where others do, too, so that each hit asks the kernel.
    pub pid: u64,
    /// The number of the [`TestPoint`] at this place; 0 where it is none.
    pub point: u64,
    /// Offset of the test's name (a string) in what the function's first argument points to.
    pub name: u64,
}

impl Constants {
    /// As they stand in the program's memory.
    pub fn to_bytes(&self) -> [u8; size_of::<Constants>()] {
        let Constants { register, goid, parent, gopc, startpc, m, curg, bp, pid, point, name } = *self;
        let words = [register, goid, parent, gopc, startpc, m, curg, bp, pid, point, name];
        let mut bytes = [0; size_of::<Constants>()];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Aligns the object for the ELF reader.
#[cfg(not(target_arch = "bpf"))]
#[repr(C, align(32))]
struct Aligned<B: ?Sized>(B);

#[cfg(target_arch = "x86_64")]
static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../prebuilt/golife-probes.x86_64.o"));
#[cfg(target_arch = "aarch64")]
static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../prebuilt/golife-probes.aarch64.o"));

/// The compiled probes for this CPU architecture (`cargo xtask build-ebpf` makes them from `src/main.rs`).
#[cfg(not(target_arch = "bpf"))]
pub static OBJECT: &[u8] = &ALIGNED.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_stand_in_memory_as_they_are_declared() {
        let constants = Constants {
            register: 1,
            goid: 2,
            parent: 3,
            gopc: 4,
            startpc: 5,
            m: 6,
            curg: 7,
            bp: 8,
            pid: 9,
            point: 10,
            name: 11,
        };
        // SAFETY: the struct is nothing but 11 words.
        let words: [u64; 11] = unsafe { core::mem::transmute(constants) };
        assert_eq!(words, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(constants.to_bytes().chunks_exact(8).next_back(), Some(&11u64.to_ne_bytes()[..]));
    }

    #[test]
    fn a_stack_has_four_places() {
        let hash = hash_call(hash_call(0, 0x40_1234), 0x40_5678);
        let codes: [u16; 4] = core::array::from_fn(|number| StackCode::choice(hash, number as u32).0);
        assert!(codes.iter().all(|&code| code >= 1 && u32::from(code) <= STACK_PLACES), "{codes:?}");
        assert!(codes.iter().enumerate().all(|(at, code)| !codes[..at].contains(code)), "{codes:?}");
    }

    #[test]
    fn a_stack_that_another_wrote_over_is_none() {
        let mut stack: Stack = [7; 2 + STACK_CALLS];
        let calls = [1, 2, 3];
        stack[..5].copy_from_slice(&[calls.into_iter().fold(0, hash_call), 3, 1, 2, 3]);
        assert_eq!(calls_of(&stack), Some(&calls[..]));
        stack[4] = 4;
        assert_eq!(calls_of(&stack), None);
        for count in [0, 2, 128, 129, u64::MAX] {
            stack[1] = count;
            assert_eq!(calls_of(&stack), None, "{count}");
        }
    }

    #[test]
    fn facts_survive_packing() {
        let facts = Facts {
            g: 0xc000_1234_5678,
            goid: 0x1_0000_0001,
            parent: 7,
            gopc: 0x7fff_ffff_ffff,
            startpc: 0x5555_dead_beef,
            stack: StackCode(0x1234),
        };
        assert_eq!(Facts::unpack(facts.pack()), facts);
        let [goid, parent, gopc, startpc] = [LOW_48; 4];
        let g = G_BITS;
        let largest = Facts { g, goid, parent, gopc, startpc, stack: StackCode::LOST };
        assert_eq!(Facts::unpack(largest.pack()), largest);
        assert!(largest.pack()[..3].iter().all(|word| word & LAP == 0));
        let marked = largest.pack().map(|word| word | LAP);
        assert_eq!(Facts::unpack(marked), largest);
        // What a hostile process says of one fact reaches no other.
        let hostile = Facts { goid: u64::MAX, startpc: u64::MAX, ..facts };
        assert_eq!(Facts::unpack(hostile.pack()), Facts { goid: LOW_48, startpc: LOW_48, ..facts });
    }

    #[test]
    fn heads_survive_packing() {
        let head = RecordHead::new(Kind::Exec, 0x3f_ffff, 1, 2);
        assert_eq!(
            (RecordHead::pid(head.kind_pid), RecordHead::kind(head.kind_pid)),
            (0x3f_ffff, Kind::Exec as u32)
        );
    }

    #[test]
    fn kinds_survive_the_wire() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_wire(kind as u32), Some(kind));
        }
        assert_eq!(Kind::from_wire(0), None);
        assert_eq!(Kind::from_wire(7), None);
    }
}
