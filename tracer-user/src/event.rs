//! Bytes from the ring buffer become [`Event`]s. The only place that knows the wire layout in user space.

pub use tracer_ebpf::StackCode;
use tracer_ebpf::{Created, Exited, Facts, Head, Kind, LOW_48, Process};

/// Something that happened in a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_BOOTTIME` in nanoseconds, taken in the kernel when it happened.
    pub time_ns: u64,
    /// Process id (tgid) in the initial pid namespace.
    pub pid: u32,
    /// How many records had been lost when this one was written, modulo 2³²: see [`Head::losses`].
    pub losses: u32,
    /// What happened.
    pub what: What,
}

/// What happened, with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A goroutine was created.
    Created {
        /// Address of its `runtime.g`, which is reused when it has ended.
        g: u64,
        /// Its id, never reused within the process.
        goid: u64,
        /// Its creator's id; 0 where the runtime does not say.
        parent: u64,
        /// Return address of the `go` statement, as loaded in the process.
        gopc: u64,
        /// Entry of its function, as loaded in the process.
        startpc: u64,
        /// Its creator's stack, where those are wanted.
        stack: StackCode,
    },
    /// A goroutine ended.
    Exited {
        /// Address of its `runtime.g`.
        g: u64,
    },
    /// The process replaced its image.
    Exec,
    /// The process cloned a task.
    Fork {
        /// The new task: a process or a thread of this one.
        child: u32,
    },
    /// The process ended.
    ProcessExit,
}

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the record's kind needs.
    #[error("record of {got} bytes, want {want}")]
    Short {
        /// Bytes that the kind needs.
        want: usize,
        /// Bytes that there were.
        got: usize,
    },
    /// A kind that this golife does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u32),
}

/// Decodes records and counts those that are none.
#[derive(Debug, Default)]
pub struct Decoder {
    undecodable: u64,
}

impl Decoder {
    /// The event that a record says; `None` where it says none, which is counted.
    #[inline]
    pub fn decode(&mut self, record: &[u8]) -> Option<Event> {
        let event = decode(record);
        self.undecodable += u64::from(event.is_err());
        event.ok()
    }

    /// Takes the number of records since the last call that were no events. Always 0 unless the probes in the kernel and
    /// this program were built from different sources.
    pub fn take_undecodable(&mut self) -> u64 {
        std::mem::take(&mut self.undecodable)
    }
}

/// Decodes one record. Bytes past the record's own length are ignored: the kernel may round a length up.
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

/// The reverse of [`decode`], for recorded runs and tests. A fact that a record has no room for is cut.
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
