//! Turns bytes from the ring buffer into [`Event`]s. This is the only place in user space that knows the wire layout.

pub use tracer_ebpf::StackCode;
use tracer_ebpf::{Created, Exited, Facts, Head, Kind, LOW_48, Process};

/// Something that happened in a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened: `CLOCK_BOOTTIME` in nanoseconds, taken in the kernel.
    pub time_ns: u64,
    /// Process id (tgid) in the initial pid namespace.
    pub pid: u32,
    /// How many records had been lost on all CPUs when this one was written, modulo 2³²: see [`Head::losses`].
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
    },
    /// The last thread of the process ended.
    ProcessExit,
}

/// Why bytes cannot be decoded as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are fewer bytes than a record of this kind needs.
    #[error("record of {got} bytes, want {want}")]
    Short {
        /// How many bytes are needed.
        want: usize,
        /// How many bytes there were.
        got: usize,
    },
    /// The record is of a kind that this version of golife does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u32),
}

/// Decodes records, and counts those that cannot be decoded.
#[derive(Debug, Default)]
pub struct Decoder {
    undecodable: u64,
}

impl Decoder {
    /// Decodes one record. A record that cannot be decoded gives `None` and is counted.
    #[inline]
    pub fn decode(&mut self, record: &[u8]) -> Option<Event> {
        let event = decode(record);
        self.undecodable += u64::from(event.is_err());
        event.ok()
    }

    /// Returns how many records could not be decoded since the last call. It is always 0 unless the probes in the
    /// kernel and this program were built from different sources.
    pub fn take_undecodable(&mut self) -> u64 {
        std::mem::take(&mut self.undecodable)
    }
}

/// Decodes one record. Bytes beyond the length of its kind are ignored, since the kernel may round a length up.
///
/// # Errors
/// The kind is not known, or there are too few bytes for it.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind_pid = u32::from_ne_bytes(field(bytes, 8)?);
    let kind = Head::kind(kind_pid);
    let kind = Kind::from_wire(kind).ok_or(DecodeError::UnknownKind(kind))?;
    let want = match kind {
        Kind::Created => size_of::<Created>(),
        Kind::Exited => size_of::<Exited>(),
        Kind::Exec | Kind::Fork | Kind::ProcessExit => size_of::<Process>(),
    };
    if bytes.len() < want {
        return Err(DecodeError::Short { want, got: bytes.len() });
    }
    let word = |offset| field(bytes, offset).map(u64::from_ne_bytes);
    let what = match kind {
        Kind::Created => {
            let Facts { g, goid, parent, gopc, startpc, stack } =
                Facts::unpack([word(16)?, word(24)?, word(32)?, word(40)?]);
            What::Created { g, goid, parent, gopc, startpc, stack }
        }
        Kind::Exited => What::Exited { g: word(16)? & LOW_48 },
        Kind::Exec => What::Exec,
        Kind::Fork => What::Fork { child: u32::from_ne_bytes(field(bytes, 16)?) },
        Kind::ProcessExit => What::ProcessExit,
    };
    let losses = u32::from_ne_bytes(field(bytes, 12)?);
    Ok(Event { time_ns: word(0)?, pid: Head::pid(kind_pid), losses, what })
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], DecodeError> {
    bytes
        .get(offset..offset + N)
        .and_then(|slice| slice.try_into().ok())
        .ok_or(DecodeError::Short { want: offset + N, got: bytes.len() })
}

const _: () = assert!(std::mem::offset_of!(Head, kind_pid) == 8 && std::mem::offset_of!(Head, losses) == 12);
const _: () = assert!(std::mem::offset_of!(Created, facts) == 16 && std::mem::offset_of!(Exited, g) == 16);
const _: () = assert!(std::mem::offset_of!(Process, other) == 16);

/// Encodes an event as a record, for recorded runs and tests: the reverse of [`decode`]. Values are cut to the bits
/// that a record has room for.
pub fn encode(event: &Event) -> Vec<u8> {
    let (kind, words): (Kind, Vec<u64>) = match event.what {
        What::Created { g, goid, parent, gopc, startpc, stack } => {
            (Kind::Created, Facts { g, goid, parent, gopc, startpc, stack }.pack().into())
        }
        What::Exited { g } => (Kind::Exited, vec![g]),
        What::Exec => (Kind::Exec, vec![0]),
        What::Fork { child } => (Kind::Fork, vec![child.into()]),
        What::ProcessExit => (Kind::ProcessExit, vec![0]),
    };
    let mut bytes = Vec::with_capacity(48);
    let head = Head::new(kind, event.pid, event.time_ns, event.losses);
    bytes.extend(head.time_ns.to_ne_bytes());
    bytes.extend(head.kind_pid.to_ne_bytes());
    bytes.extend(head.losses.to_ne_bytes());
    bytes.extend(words.into_iter().flat_map(u64::to_ne_bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let what = prop_oneof![
            any::<([u64; 5], u16)>().prop_map(|(facts, stack)| {
                let stack = StackCode(stack);
                let [g, goid, parent, gopc, startpc] = facts.map(|fact| fact & LOW_48);
                What::Created { g, goid, parent, gopc, startpc, stack }
            }),
            any::<u64>().prop_map(|g| What::Exited { g: g & LOW_48 }),
            Just(What::Exec),
            any::<u32>().prop_map(|child| What::Fork { child }),
            Just(What::ProcessExit),
        ];
        (any::<u64>(), 0u32..1 << 22, any::<u32>(), what).prop_map(|(time_ns, pid, losses, what)| Event {
            time_ns,
            pid,
            losses,
            what,
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes(event in any_event()) {
            prop_assert_eq!(decode(&encode(&event)), Ok(event));
        }

        #[test]
        fn a_cut_record_is_short(event in any_event(), cut in 0usize..48) {
            let bytes = encode(&event);
            prop_assume!(cut < bytes.len());
            let is_short = matches!(decode(&bytes[..cut]), Err(DecodeError::Short { .. }));
            prop_assert!(is_short);
        }

        #[test]
        fn any_bytes_decode_or_say_why(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_is_no_event_is_counted() {
        let mut decoder = Decoder::default();
        let event = Event { time_ns: 1, pid: 2, losses: 0, what: What::Exec };
        assert_eq!(decoder.decode(&encode(&event)), Some(event));
        assert_eq!((decoder.decode(&[0; 5]), decoder.decode(&[9; 48])), (None, None));
        assert_eq!((decoder.take_undecodable(), decoder.take_undecodable()), (2, 0));
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let mut bytes = encode(&Event { time_ns: 1, pid: 2, losses: 0, what: What::Exec });
        bytes[11] = 9;
        assert_eq!(decode(&bytes), Err(DecodeError::UnknownKind(9)));
    }
}
