//! The runtime's own list of goroutines, walked from outside. The process runs on meanwhile: what is read of one
//! goroutine fits together well enough to be shown, the list as a whole is of a span of time, not of an instant.

use std::time::{Duration, Instant};

use super::memory::{MemoryError, ProcessMemory};
use crate::go::{Binary, Layout, Status, image};

/// How far a walk goes. What a process says about itself is not to be trusted: a length can be anything.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of the list that are looked at, live or dead.
    pub listed: u64,
    /// How long the walk takes.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { listed: 16 << 20, time: Duration::from_secs(5) }
    }
}

/// A goroutine that is not dead. Addresses are the process's, load bias included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// Address of its `runtime.g`.
    pub address: u64,
    /// Its id.
    pub goid: u64,
    /// The id of the goroutine that created it; none before Go 1.21, 0 for those that the runtime made for C threads.
    pub parent: Option<u64>,
    /// Where the `go` statement's call returns to; 0 where no `go` statement made it.
    pub gopc: u64,
    /// The entry of its function; 0 likewise.
    pub startpc: u64,
    /// What it is doing.
    pub status: Status,
    /// The number of its wait reason: [`crate::go::wait_reason::text`]. Left over from the last wait where it does
    /// not wait.
    pub wait_reason: u8,
    /// When the garbage collector first saw it wait, in nanoseconds of the runtime's clock; 0 where it did not.
    pub wait_since: i64,
    /// The lowest address of its stack and the one after it.
    pub stack: (u64, u64),
}

impl Goroutine {
    /// Reads the fields from the start of a `runtime.g`. None where the bytes end too early or the status is one
    /// that no version of Go has.
    fn parse(address: u64, bytes: &[u8], layout: &Layout) -> Option<Goroutine> {
        let word = |offset: u16| image::u64_at(bytes, offset.into());
        Some(Goroutine {
            address,
            goid: word(layout.goid)?,
            parent: match layout.parent {
                Some(offset) => Some(word(offset)?),
                None => None,
            },
            gopc: word(layout.gopc)?,
            startpc: word(layout.startpc)?,
            status: Status::from_raw(image::u32_at(bytes, layout.atomicstatus.into())?)?,
            wait_reason: *bytes.get(usize::from(layout.waitreason))?,
            wait_since: word(layout.waitsince)? as i64,
            stack: (word(layout.stack_lo)?, word(layout.stack_hi)?),
        })
    }
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Goroutines {
    /// Those that are not dead, in the order of their addresses.
    pub live: Vec<Goroutine>,
    /// How many the runtime lists, dead ones included.
    pub listed: u64,
    /// Listed ones that could not be read, or whose status is not one.
    pub unreadable: u64,
    /// The limits ended the walk: there may be more.
    pub cut_short: bool,
}

/// Why the goroutines of a process could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The list could not be found in the executable.
    #[error(transparent)]
    Binary(#[from] crate::go::Error),
    /// The memory could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// How many goroutines are read between two looks at the clock.
const BATCH: usize = 1024;

/// Lists the goroutines of a process that runs `binary`, loaded `bias` above its link-time addresses.
///
/// # Errors
/// The list was not found, or the memory not readable. Single goroutines that are not readable are counted.
pub fn walk(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    limits: Limits,
) -> Result<Goroutines, WalkError> {
    let globals = binary.globals()?;
    let layout = binary.layout();
    let start = Instant::now();
    // The length first: the array is replaced by longer ones only, so it has as many at least.
    let listed = memory.read_u64(globals.allglen.wrapping_add(bias))?;
    let array = memory.read_u64(globals.allgptr.wrapping_add(bias))?;
    let wanted = listed.min(limits.listed);
    let mut goroutines = Goroutines { listed, cut_short: wanted < listed, ..Goroutines::default() };

    let mut addresses = Vec::new();
    let mut chunk = vec![0; 8 * BATCH];
    while (addresses.len() as u64) < wanted {
        let count = usize::try_from(wanted - addresses.len() as u64).map_or(BATCH, |left| left.min(BATCH));
        let at = array.wrapping_add(8 * addresses.len() as u64);
        let bytes = &mut chunk[..8 * count];
        memory.read(at, bytes)?;
        addresses.extend(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
        if start.elapsed() > limits.time {
            goroutines.cut_short = true;
            break;
        }
    }
    addresses.sort_unstable();
    addresses.dedup();

    let size = bytes_needed(layout);
    for batch in addresses.chunks(BATCH) {
        memory.read_each(batch, size, |address, bytes| {
            match bytes.and_then(|bytes| Goroutine::parse(address, bytes, layout)) {
                Some(goroutine) if goroutine.status.is_live() => goroutines.live.push(goroutine),
                Some(_) => {}
                None => goroutines.unreadable += 1,
            }
        })?;
        if start.elapsed() > limits.time {
            goroutines.cut_short = true;
            break;
        }
    }
    Ok(goroutines)
}

/// Up to the end of the last field that is read.
fn bytes_needed(layout: &Layout) -> usize {
    let words = [
        layout.goid,
        layout.parent.unwrap_or(0),
        layout.gopc,
        layout.startpc,
        layout.atomicstatus,
        layout.waitreason,
        layout.waitsince,
        layout.stack_hi,
    ];
    usize::from(words.into_iter().max().unwrap_or(0)) + 8
}
