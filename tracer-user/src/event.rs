//! Turns records from the rings into [`Event`]s. This is the only place in user space that knows the wire layout.

mod test_names;

pub use test_names::{TestName, TestNames};
use tracer_ebpf::{
    Created, Exited, Facts, G_BITS, Kind, LAP, NAME_BYTES, Process, RecordHead, Test, UNIT_WORDS,
};
pub use tracer_ebpf::{StackCode, TestPoint};

/// Something that happened in a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened: `CLOCK_BOOTTIME` in nanoseconds. The kernel took the time by `CLOCK_MONOTONIC`, which costs less.
    pub time_ns: u64,
    /// Process id (tgid) in the initial pid namespace.
    pub pid: u32,
    /// How many records had been lost on all CPUs when this one was written, modulo 2³²: see [`RecordHead::losses`]. Besides,
    /// it grows where the machine was suspended: what happened before and after bears different numbers.
    pub losses: u32,
    /// What happened.
    pub what: What,
}

/// What happened, and what the record says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A goroutine was created.
    Created {
        /// Address of its `runtime.g`. The runtime uses it again after the goroutine has ended.
        g: u64,
        /// Its id, which is never reused within the process.
        goid: u64,
        /// The id of the goroutine that created it; 0 where the runtime does not say.
        parent: u64,
        /// Return address of the `go` statement in the memory of the process, so with the load bias.
        gopc: u64,
        /// Entry of its function in the memory of the process, so with the load bias.
        startpc: u64,
        /// The stack of its creator, if creation stacks are wanted.
        stack: StackCode,
    },
    /// A goroutine ended.
    Exited {
        /// Address of its `runtime.g`, which tells which goroutine it was, since the record has no id.
        g: u64,
    },
    /// The process replaced its image (`execve`).
    Exec,
    /// The process cloned a task.
    Fork {
        /// The id of the new task, which is a new process or another thread of this one.
        child: u32,
        /// The thread that cloned it.
        thread: u32,
    },
    /// The last thread of the process ended.
    ProcessExit,
    /// A test binary has come to a point of its tests.
    Test {
        /// What it is about to do.
        point: TestPoint,
        /// The goroutine that does it.
        goid: u64,
        /// The thread that this is on.
        thread: u32,
        /// The test's name: see [`TestNames`].
        name: TestName,
    },
}

/// Why words cannot be decoded as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are fewer words than a record of this kind needs.
    #[error("record of {got} words, want {want}")]
    Short {
        /// How many words are needed.
        want: usize,
        /// How many words there were.
        got: usize,
    },
    /// The record is of a kind that this version of golife does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u32),
    /// The record is of a point of a test that this version of golife does not know.
    #[error("record of unknown point {0} of a test")]
    UnknownPoint(u32),
}

/// Decodes records, and counts those that cannot be decoded.
#[derive(Debug, Default)]
pub struct Decoder {
    undecodable: u64,
    /// `CLOCK_BOOTTIME` less `CLOCK_MONOTONIC` in ns.
    suspended_ns: u64,
    /// What is added to the number of losses.
    suspends: u32,
    names: TestNames,
}

/// By so many ns the difference of the two clocks may seem to change without a reason.
const CLOCK_NOISE_NS: u64 = 1_000_000;

impl Decoder {
    /// A decoder on a machine that has been suspended for so many ns until now.
    pub fn new(suspended_ns: u64) -> Decoder {
        Decoder { suspended_ns, ..Decoder::default() }
    }

    /// Takes note of how much `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC` now: the time in ns that the machine has been
    /// suspended. Call it before each batch of records.
    ///
    /// After a suspend nobody knows which records of the next batch are from before it. So nothing is measured from any time
    /// before the batch until it, nor from it until later.
    pub fn set_suspended(&mut self, ns: u64) {
        // An odd number is that of a batch after a suspend, which is over now.
        self.suspends = self.suspends.wrapping_add(self.suspends & 1);
        if ns.abs_diff(self.suspended_ns) > CLOCK_NOISE_NS {
            self.suspends = self.suspends.wrapping_add(1);
            self.suspended_ns = ns;
        }
    }

    /// Decodes one record. A record that cannot be decoded gives `None` and is counted.
    #[inline]
    pub fn decode(&mut self, record: &[u64]) -> Option<Event> {
        match decode(record, &mut self.names) {
            Ok(event) => Some(Event {
                time_ns: event.time_ns + self.suspended_ns,
                losses: event.losses.wrapping_add(self.suspends),
                ..event
            }),
            Err(_) => {
                self.undecodable += 1;
                None
            }
        }
    }

    /// The names of tests in all records so far.
    pub fn test_names(&self) -> &TestNames {
        &self.names
    }

    /// Returns how many records could not be decoded since the last call. It is always 0 unless the probes in the
    /// kernel and this program were built from different sources.
    pub fn take_undecodable(&mut self) -> u64 {
        std::mem::take(&mut self.undecodable)
    }
}

/// Most words of a record of a goroutine.
pub const RECORD_WORDS: usize = size_of::<Created>() / 8;

/// The words of a record from the kernel's ring buffer.
#[inline]
pub fn words(record: &[u8]) -> impl Iterator<Item = u64> {
    record.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word))
}

/// How many words a record has, by its second word. `None` where its kind is not known.
#[inline]
pub fn words_of(second: u64) -> Option<usize> {
    Kind::from_wire(RecordHead::kind(second as u32)).map(size)
}

/// How many words a record of this kind has.
const fn size(kind: Kind) -> usize {
    match kind {
        Kind::Created => size_of::<Created>() / 8,
        Kind::Exited => size_of::<Exited>() / 8,
        Kind::Exec | Kind::Fork | Kind::ProcessExit => size_of::<Process>() / 8,
        Kind::Test => size_of::<Test>() / 8,
    }
}

/// Decodes one record; its time is that of the kernel's clock. Words beyond the length of its kind are ignored. The names of
/// tests are added to `names`.
///
/// # Errors
/// The kind is not known, or there are too few words for it.
#[inline]
pub fn decode(words: &[u64], names: &mut TestNames) -> Result<Event, DecodeError> {
    let &[first, second, third, ref rest @ ..] = words else {
        return Err(DecodeError::Short { want: UNIT_WORDS, got: words.len() });
    };
    let (kind_pid, losses) = (second as u32, (second >> 32) as u32);
    let kind = RecordHead::kind(kind_pid);
    let kind = Kind::from_wire(kind).ok_or(DecodeError::UnknownKind(kind))?;
    let what = match kind {
        Kind::Created => {
            let &[parent, gopc, startpc, ..] = rest else {
                return Err(DecodeError::Short { want: size(kind), got: words.len() });
            };
            let Facts { g, goid, parent, gopc, startpc, stack } =
                Facts::unpack([third, parent, gopc, startpc]);
            What::Created { g, goid, parent, gopc, startpc, stack }
        }
        Kind::Exited => What::Exited { g: third & G_BITS },
        Kind::Exec => What::Exec,
        Kind::Fork => What::Fork { child: third as u32, thread: (third >> 32) as u32 },
        Kind::ProcessExit => What::ProcessExit,
        Kind::Test => {
            let &[what, length, ref name @ ..] = rest else {
                return Err(DecodeError::Short { want: size(kind), got: words.len() });
            };
            let point = TestPoint::from_wire(what as u32).ok_or(DecodeError::UnknownPoint(what as u32))?;
            let name = names.read(name, length);
            What::Test { point, goid: third, thread: (what >> 32) as u32, name }
        }
    };
    Ok(Event { time_ns: first & !LAP, pid: RecordHead::pid(kind_pid), losses, what })
}

// Both CPU architectures that golife runs on are little-endian, so the first half of a word is its lower one.
const _: () = assert!(cfg!(target_endian = "little"));
const _: () = assert!(
    std::mem::offset_of!(RecordHead, kind_pid) == 8 && std::mem::offset_of!(RecordHead, losses) == 12
);
const _: () = assert!(std::mem::offset_of!(Created, facts) == 16 && std::mem::offset_of!(Exited, g) == 16);
const _: () =
    assert!(std::mem::offset_of!(Process, other) == 16 && std::mem::offset_of!(Process, thread) == 20);
const _: () = assert!(std::mem::offset_of!(Test, goid) == 16 && std::mem::offset_of!(Test, point) == 24);
const _: () = assert!(std::mem::offset_of!(Test, thread) == 28 && std::mem::offset_of!(Test, length) == 32);
const _: () = assert!(std::mem::offset_of!(Test, name) == 40);

/// Encodes an event as a record, for recorded runs and tests: the reverse of [`decode`]. Values are cut to the bits
/// that a record has room for.
pub fn encode(event: &Event, names: &TestNames) -> Vec<u64> {
    let (kind, words): (Kind, Vec<u64>) = match event.what {
        What::Created { g, goid, parent, gopc, startpc, stack } => {
            (Kind::Created, Facts { g, goid, parent, gopc, startpc, stack }.pack().into())
        }
        What::Exited { g } => (Kind::Exited, vec![g]),
        What::Exec => (Kind::Exec, vec![0]),
        What::Fork { child, thread } => (Kind::Fork, vec![u64::from(child) | u64::from(thread) << 32]),
        What::ProcessExit => (Kind::ProcessExit, vec![0]),
        What::Test { point, goid, thread, name } => {
            let name = names.text(name).as_bytes();
            let words = [goid, point as u64 | u64::from(thread) << 32, name.len() as u64];
            let mut bytes = name.to_vec();
            bytes.resize(NAME_BYTES + 1, 0);
            (Kind::Test, words.into_iter().chain(self::words(&bytes)).collect())
        }
    };
    let head = RecordHead::new(kind, event.pid, event.time_ns, event.losses);
    let mut record = vec![head.time_ns, u64::from(head.kind_pid) | u64::from(head.losses) << 32];
    record.extend(words);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tracer_ebpf::LOW_48;

    fn names() -> TestNames {
        let mut names = TestNames::default();
        names.number("TestPool/full");
        names
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let what = prop_oneof![
            any::<([u64; 5], u16)>().prop_map(|(facts, stack)| {
                let stack = StackCode(stack);
                let [g, goid, parent, gopc, startpc] = facts.map(|fact| fact & LOW_48);
                let g = g & G_BITS;
                What::Created { g, goid, parent, gopc, startpc, stack }
            }),
            any::<u64>().prop_map(|g| What::Exited { g: g & G_BITS }),
            Just(What::Exec),
            any::<(u32, u32)>().prop_map(|(child, thread)| What::Fork { child, thread }),
            Just(What::ProcessExit),
            (0..TestPoint::ALL.len(), any::<(u64, u32)>()).prop_map(|(point, (goid, thread))| {
                let (point, name) = (TestPoint::ALL[point], names().number("TestPool/full"));
                What::Test { point, goid, thread, name }
            }),
        ];
        (0..LAP, 0u32..1 << 22, any::<u32>(), what).prop_map(|(time_ns, pid, losses, what)| Event {
            time_ns,
            pid,
            losses,
            what,
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes(event in any_event()) {
            prop_assert_eq!(decode(&encode(&event, &names()), &mut names()), Ok(event));
        }

        #[test]
        fn a_cut_record_is_short(event in any_event(), cut in 0usize..5) {
            let words = encode(&event, &names());
            // A name may be shorter than it says, which makes it unknown.
            prop_assume!(cut < words.len().min(5));
            let is_short = matches!(decode(&words[..cut], &mut names()), Err(DecodeError::Short { .. }));
            prop_assert!(is_short);
        }

        #[test]
        fn any_words_decode_or_say_why(words in proptest::collection::vec(any::<u64>(), 0..8)) {
            let _ = decode(&words, &mut TestNames::default());
        }
    }

    #[test]
    fn what_is_no_event_is_counted() {
        let mut decoder = Decoder::default();
        let event = Event { time_ns: 1, pid: 2, losses: 0, what: What::Exec };
        assert_eq!(decoder.decode(&encode(&event, &names())), Some(event));
        assert_eq!((decoder.decode(&[0; 2]), decoder.decode(&[u64::MAX; 6])), (None, None));
        assert_eq!((decoder.take_undecodable(), decoder.take_undecodable()), (2, 0));
    }

    #[test]
    fn nothing_is_measured_across_a_suspend() {
        let mut decoder = Decoder::default();
        let record = encode(&Event { time_ns: 1_000, pid: 2, losses: 7, what: What::Exec }, &names());
        let mut at = |suspended_ns| {
            decoder.set_suspended(suspended_ns);
            decoder.decode(&record).map(|event| (event.time_ns, event.losses)).unwrap()
        };
        let hour = 3_600_000_000_000;
        let [awake, still, after, later] = [at(0), at(400), at(hour), at(hour + 300)];
        assert_eq!([awake.0, still.0, after.0, later.0], [1_000, 1_000, hour + 1_000, hour + 1_000]);
        assert_eq!(awake.1, still.1);
        assert!(still.1 != after.1 && after.1 != later.1 && later.1 != awake.1);
        let twice = [at(2 * hour), at(3 * hour), at(3 * hour)].map(|(_, losses)| losses);
        assert!(twice[0] != twice[1] && twice[1] != twice[2] && twice[0] != later.1);
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let mut words = encode(&Event { time_ns: 1, pid: 2, losses: 0, what: What::Exec }, &names());
        words[1] = 9 << 24;
        assert_eq!(decode(&words, &mut names()), Err(DecodeError::UnknownKind(9)));
    }
}
