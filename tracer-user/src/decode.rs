//! Bytes from the ring buffer become [`Event`]s. The only place that knows the wire layout in user space.

pub use tracer_ebpf::StackCode;
use tracer_ebpf::{Created, Exited, Kind, Process};

/// Something that happened in a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_BOOTTIME` in nanoseconds, taken in the kernel when it happened.
    pub time_ns: u64,
    /// Process id (tgid) in the initial pid namespace.
    pub pid: u32,
    /// What happened.
    pub what: What,
}

/// What happened, with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A goroutine was created.
    Created {
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
        /// Its id.
        goid: u64,
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

/// Decodes one record. Bytes past the record's own length are ignored: the kernel may round a length up.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = u32::from_ne_bytes(field(bytes, 12)?);
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
            let last = word(40)?;
            What::Created {
                goid: word(16)?,
                parent: word(24)?,
                gopc: word(32)?,
                startpc: last & (u64::MAX >> 16),
                stack: StackCode((last >> 48) as u16),
            }
        }
        Kind::Exited => What::Exited { goid: word(16)? },
        Kind::Exec => What::Exec,
        Kind::Fork => What::Fork { child: u32::from_ne_bytes(field(bytes, 16)?) },
        Kind::ProcessExit => What::ProcessExit,
    };
    Ok(Event { time_ns: word(0)?, pid: u32::from_ne_bytes(field(bytes, 8)?), what })
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], DecodeError> {
    bytes
        .get(offset..offset + N)
        .and_then(|slice| slice.try_into().ok())
        .ok_or(DecodeError::Short { want: offset + N, got: bytes.len() })
}

const _: () =
    assert!(std::mem::offset_of!(Created, goid) == 16 && std::mem::offset_of!(Created, startpc) == 40);
const _: () = assert!(std::mem::offset_of!(Exited, goid) == 16 && std::mem::offset_of!(Process, other) == 16);

/// The reverse of [`decode`], for recorded runs and tests.
pub fn encode(event: &Event) -> Vec<u8> {
    let (kind, words): (Kind, Vec<u64>) = match event.what {
        What::Created { goid, parent, gopc, startpc, stack } => {
            (Kind::Created, vec![goid, parent, gopc, startpc | u64::from(stack.0) << 48])
        }
        What::Exited { goid } => (Kind::Exited, vec![goid]),
        What::Exec => (Kind::Exec, vec![0]),
        What::Fork { child } => (Kind::Fork, vec![child.into()]),
        What::ProcessExit => (Kind::ProcessExit, vec![0]),
    };
    let mut bytes = Vec::with_capacity(48);
    bytes.extend(event.time_ns.to_ne_bytes());
    bytes.extend(event.pid.to_ne_bytes());
    bytes.extend((kind as u32).to_ne_bytes());
    bytes.extend(words.into_iter().flat_map(u64::to_ne_bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let what = prop_oneof![
            any::<([u64; 3], u64, u16)>().prop_map(|([goid, parent, gopc], startpc, stack)| {
                What::Created { goid, parent, gopc, startpc: startpc >> 16, stack: StackCode(stack) }
            }),
            any::<u64>().prop_map(|goid| What::Exited { goid }),
            Just(What::Exec),
            any::<u32>().prop_map(|child| What::Fork { child }),
            Just(What::ProcessExit),
        ];
        (any::<u64>(), any::<u32>(), what).prop_map(|(time_ns, pid, what)| Event { time_ns, pid, what })
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
    fn an_unknown_kind_is_named() {
        let mut bytes = encode(&Event { time_ns: 1, pid: 2, what: What::Exec });
        bytes[12] = 9;
        assert_eq!(decode(&bytes), Err(DecodeError::UnknownKind(9)));
    }
}
