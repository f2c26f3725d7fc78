//! Walks the runtime's own list of goroutines, `runtime.allgs`, from outside. The process runs on meanwhile: what is
//! read of one goroutine fits together well enough to be shown, but the list as a whole describes a span of time, not
//! an instant.

use std::time::Instant;

use super::limits::{Cut, WalkError, WalkLimits};
use super::memory::{Place, ProcessMemory, Reader};
use crate::go::{Binary, Layout, Status, image};

/// A goroutine that is not dead, with what `type g` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go> says about it. Addresses are those in the
/// process, with the load bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct G {
    /// Address of its `runtime.g`.
    pub address: u64,
    /// Its id.
    pub goid: u64,
    /// The id of the goroutine that created it; none before Go 1.21, which does not keep it, and 0 for goroutines that
    /// the runtime made for C threads.
    pub parent: Option<u64>,
    /// The return address of the `go` statement's call; 0 if no `go` statement created it.
    pub gopc: u64,
    /// The entry address of its function; 0 if no `go` statement created it.
    pub startpc: u64,
    /// What it is doing.
    pub status: Status,
    /// The number of its wait reason, for [`crate::go::WaitReason::from_number`]. If it does not wait, the number is
    /// left over from its last wait.
    pub wait_reason: u8,
    /// When the garbage collector first saw it wait, in ns of the runtime's clock (`CLOCK_MONOTONIC`); 0 if it never
    /// did.
    pub wait_since: i64,
    /// A counter that goes up each time it stops running, from a random start and modulo 256 (`g.trackingSeq`).
    pub runs: u8,
    /// Its stack: the lowest address, and the address after the highest one.
    pub stack: StackExtent,
}

/// Where a stack is in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackExtent {
    /// The lowest address.
    pub low: u64,
    /// The address after the highest.
    pub end: u64,
}

impl G {
    /// Whether there is a goroutine, and its creation is complete. Up to Go 1.23 the runtime sets the status before the
    /// id, so that a runnable goroutine without an id is still being created.
    fn is_born(&self) -> bool {
        self.status.is_live() && !(self.goid == 0 && self.status == Status::Runnable)
    }

    /// Reads the fields from `bytes`, which begin where the `runtime.g` begins. None if they end too early or the
    /// status is one that no version of Go has.
    #[inline(always)]
    pub(super) fn parse(address: u64, bytes: &[u8], layout: &Layout) -> Option<G> {
        let word = |offset: u16| image::u64_at(bytes, offset.into());
        Some(G {
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
            runs: *bytes.get(usize::from(layout.tracking_seq))?,
            stack: StackExtent { low: word(layout.stack_lo)?, end: word(layout.stack_hi)? },
        })
    }
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// The goroutines that are not dead, in no particular order.
    pub live: Vec<G>,
    /// Number of goroutines on the runtime's list, dead ones included.
    pub listed: u64,
    /// Number of listed goroutines that could not be read, or whose status is one that Go does not have.
    pub unreadable: u64,
    /// Whether a limit ended the walk, so that there may be more goroutines.
    pub cut_short: bool,
}

/// Number of goroutines that are read between two looks at the clock.
pub(super) const BATCH: usize = 4096;
/// Number of entries of the list that are read at once: enough for neighbours in memory to be read together, and few
/// enough for a processor's cache.
const LIST_BATCH: usize = 32 << 10;

/// Lists the goroutines of a process that runs `binary`, loaded `bias` above its link-time addresses.
///
/// # Errors
/// The list cannot be found in the executable, or the memory cannot be read. Single goroutines that cannot be read are
/// counted in [`Walk::unreadable`].
pub fn walk(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    limits: WalkLimits,
) -> Result<Walk, WalkError> {
    let start = Instant::now();
    let mut list = List::open(memory, binary, bias, limits)?;
    let layout = binary.layout();
    let size = bytes_needed(layout);
    let mut goroutines = Walk { listed: list.listed, ..Walk::default() };
    let mut reader = Reader::new(memory.clone());
    'list: while let Some(addresses) = list.next()? {
        for batch in addresses.chunks(BATCH) {
            let places: Vec<Place> = batch.iter().map(|address| Place { address: *address, size }).collect();
            reader.read_many(&places, |index, bytes| {
                match bytes.and_then(|bytes| G::parse(places[index].address, bytes, layout)) {
                    Some(goroutine) if goroutine.is_born() => goroutines.live.push(goroutine),
                    Some(_) => {}
                    None => goroutines.unreadable += 1,
                }
            })?;
            if start.elapsed() > limits.time {
                list.cut = Some(Cut::Time);
                break 'list;
            }
        }
    }
    goroutines.cut_short = list.cut.is_some();
    Ok(goroutines)
}

/// The addresses on the runtime's list of goroutines, which are read piece by piece.
pub(super) struct List {
    memory: ProcessMemory,
    /// Address of the variable that holds the array's address (`runtime.allgptr`).
    allgptr: u64,
    /// Index of the next entry.
    at: u64,
    /// Number of entries that are still to be read.
    pub(super) left: u64,
    bytes: Vec<u8>,
    addresses: Vec<u64>,
    /// Number of entries that the runtime's list had when it was opened.
    pub(super) listed: u64,
    /// Why not all entries are read; none if all are.
    pub(super) cut: Option<Cut>,
}

impl List {
    /// Finds the runtime's list and reads its length.
    pub(super) fn open(
        memory: &ProcessMemory,
        binary: &Binary,
        bias: u64,
        limits: WalkLimits,
    ) -> Result<List, WalkError> {
        let globals = binary.globals()?;
        // The length is read before the array's address. The runtime replaces the array by longer ones only, so
        // whichever array is found later has at least this many entries.
        let listed = memory.read_u64(globals.allglen.wrapping_add(bias))?;
        let allgptr = globals.allgptr.wrapping_add(bias);
        let left = listed.min(limits.listed);
        let cut = (left < listed).then_some(Cut::Listed);
        let (bytes, addresses) = (Vec::new(), Vec::new());
        Ok(List { memory: memory.clone(), allgptr, at: 0, left, bytes, addresses, listed, cut })
    }

    /// Reads the addresses of the next `runtime.g`s, in ascending order and without duplicates; none at the end of the
    /// list. Only each piece is sorted: neighbours on the list are mostly neighbours in memory, so nothing would be
    /// gained from sorting the whole list.
    pub(super) fn next(&mut self) -> Result<Option<&[u64]>, WalkError> {
        if self.left == 0 {
            return Ok(None);
        }
        let count = usize::try_from(self.left).map_or(LIST_BATCH, |left| left.min(LIST_BATCH));
        self.bytes.resize(8 * count, 0);
        // The array's address is read anew for each piece. An entry keeps its index, but the runtime may have moved the
        // array, and its old memory may hold other data by now.
        let array = self.memory.read_u64(self.allgptr)?;
        self.memory.read(array.wrapping_add(8 * self.at), &mut self.bytes)?;
        self.at += count as u64;
        self.left -= count as u64;
        self.addresses.clear();
        let words = self.bytes.as_chunks::<8>().0.iter();
        self.addresses.extend(words.map(|word| u64::from_le_bytes(*word)));
        // The addresses are mostly in order already, which the stable sort makes use of.
        self.addresses.sort();
        self.addresses.dedup();
        Ok(Some(&self.addresses))
    }
}

/// Number of bytes from the start of a `runtime.g` to the end of the last field that [`G::parse`] reads.
pub(super) fn bytes_needed(layout: &Layout) -> usize {
    let words = [
        layout.goid,
        layout.parent.unwrap_or(0),
        layout.gopc,
        layout.startpc,
        layout.atomicstatus,
        layout.waitreason,
        layout.tracking_seq,
        layout.waitsince,
        layout.stack_hi,
    ];
    usize::from(words.into_iter().max().unwrap_or(0)) + 8
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::go::WaitReason;
    use crate::go::testing::{PIE, PLAIN, Program, STRIPPED, STRIPPED_PIE, toolchains};
    use crate::inspect::{verify, verify_creation, walk_verified};
    use std::time::Duration;

    /// Goroutines, creation sites, entry functions, wait reasons and frames are compared with what Go itself prints.
    #[test]
    fn what_is_read_is_what_go_says() {
        for toolchain in toolchains() {
            for flags in [PLAIN, STRIPPED, PIE, STRIPPED_PIE] {
                compare_with_traceback(&Program::build(toolchain, flags), &format!("{toolchain} {flags:?}"));
            }
        }
    }

    fn compare_with_traceback(program: &Program, label: &str) {
        let binary = program.binary();
        let running = program.start();
        let bias = running.load_bias(program, binary.image());
        let memory = ProcessMemory::new(running.pid());
        let all = walk_verified(&memory, &binary, bias, WalkLimits::default()).unwrap();
        let is_system = |goroutine: &G| binary.is_system(goroutine.startpc - bias);
        let live: HashMap<u64, &G> = all.live.iter().map(|goroutine| (goroutine.goid, goroutine)).collect();

        // Whether Go prints the runtime's own goroutines depends on where the signal finds it, so they are not
        // compared. Goid 0 is the `g` of a thread, not a goroutine.
        let mut traced = running.traceback();
        traced.retain(|goroutine| {
            goroutine.goid != 0 && !live.get(&goroutine.goid).is_some_and(|g| is_system(g))
        });
        let mut goids: Vec<u64> = traced.iter().map(|goroutine| goroutine.goid).collect();
        let mut users: Vec<u64> = all.live.iter().filter(|g| !is_system(g)).map(|g| g.goid).collect();
        goids.sort_unstable();
        users.sort_unstable();
        assert_eq!(users, goids, "{label}");
        assert!(users.len() > 40 && users.len() < live.len(), "{label}: {users:?}");

        let mut resolved = 0;
        for expected in &traced {
            let goroutine = live[&expected.goid];
            let label = format!("{label}: {goroutine:?} {expected:?}");
            if let Some(created_by) = &expected.created_by {
                verify_creation(goroutine.gopc, goroutine.startpc, &binary, bias).unwrap();
                let site = binary.go_statement(goroutine.gopc - bias).unwrap();
                let expected = (&created_by.function, &created_by.file, created_by.line);
                assert_eq!((&site.function, &site.file, site.line), expected, "{label}");
            }
            let entry = binary.entry_function(goroutine.startpc - bias).unwrap();
            let named = expected.frames.iter().rev().map(|frame| &frame.function);
            let mut outermost = named.filter(|name| *name != "runtime.goexit").take(2);
            if outermost.any(|name| *name == entry.function) {
                resolved += 1;
            } else {
                // The entry is a wrapper, and only the running program knows what it calls. Closures with arguments
                // have such an entry before Go 1.22.
                let own = binary.function_at(goroutine.startpc - bias).unwrap();
                assert_eq!(entry.function, own.name, "{label}");
            }
            if goroutine.status == Status::Waiting {
                let reason =
                    WaitReason::from_number(binary.version(), goroutine.wait_reason).map(WaitReason::text);
                assert_eq!(reason, Some(expected.reason.as_str()), "{label}");
            }
            // A call that is printed without an offset is inlined into the next call that has one.
            for group in expected.frames.split_inclusive(|frame| frame.offset.is_some()) {
                let Some(offset) = group.last().unwrap().offset else { continue };
                let bodies = binary.functions_named(&group.last().unwrap().function);
                let same = bodies.iter().any(|body| {
                    let frames = binary.frames_at(body.entry + offset - 1);
                    let shown = frames.iter().rev().zip(group.iter().rev()).all(|(frame, traced)| {
                        (&frame.function, &frame.file, frame.line)
                            == (&traced.function, &traced.file, traced.line)
                    });
                    shown && frames.len() >= group.len()
                });
                assert!(same, "{label}: {group:?}");
            }
        }
        // All are resolved except the 20 closures with arguments, a method of an interface and a method value.
        assert!(resolved >= traced.len() - 23, "{label}: {resolved} of {}", traced.len());
    }

    #[test]
    fn a_wrong_layout_is_refused() {
        let toolchain = toolchains()[0];
        let program = Program::build(toolchain, STRIPPED);
        let binary = program.binary();
        let running = program.start();
        let memory = ProcessMemory::new(running.pid());
        type Move = fn(&mut Layout);
        let moves: [(Move, &str); 5] = [
            (|layout| layout.goid += 8, "goid"),
            (|layout| layout.gopc += 8, "gopc"),
            (|layout| layout.startpc += 8, "startpc"),
            (|layout| layout.stack_hi += 8, "stack"),
            (|layout| layout.atomicstatus += 8, "readable"),
        ];
        for (change, field) in moves {
            let mut wrong = program.binary();
            change(wrong.layout_mut());
            let all = walk(&memory, &wrong, 0, WalkLimits::default()).unwrap();
            let mismatch = verify(&all, &wrong, 0).unwrap_err();
            assert!(mismatch.to_string().contains(field), "{field}: {mismatch}");
        }
        let main = binary.functions_named("main.main")[0].clone();
        assert!(verify_creation(main.entry + 9, main.entry, &binary, 0).is_ok());
        assert!(verify_creation(main.entry + 9, main.entry + 1, &binary, 0).is_err());
        assert!(verify_creation(8, main.entry, &binary, 0).is_err());
    }

    #[test]
    fn a_hostile_list_is_walked_within_limits() {
        let program = Program::build(toolchains()[0], STRIPPED);
        let binary = program.binary();
        let globals = binary.globals().unwrap();
        // This process plays the program: the bias moves the runtime's two variables onto an array of this test.
        let run = |array: &[u64], length: u64, limits| {
            let variables = [array.as_ptr() as u64, length];
            let mut moved = program.binary();
            moved.set_globals(0, 8);
            let memory = ProcessMemory::new(std::process::id() as i32);
            walk(&memory, &moved, variables.as_ptr() as u64, limits)
        };
        assert_ne!(globals.allgptr, globals.allglen);
        let limits = WalkLimits { listed: 1000, time: Duration::from_secs(1) };

        let fake = vec![0xffu8; 4096];
        let same = vec![fake.as_ptr() as u64; 1000];
        let found = run(&same, 1 << 63, limits).unwrap();
        assert!(found.cut_short && found.live.is_empty());
        assert_eq!((found.listed, found.unreadable), (1 << 63, 1));

        let wild: Vec<u64> = (0..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let found = run(&wild, 1000, limits).unwrap();
        assert!(found.live.is_empty() && found.unreadable > 990);
        assert!(verify(&found, &binary, 0).is_err());

        let no_time = WalkLimits { time: Duration::ZERO, ..limits };
        assert!(run(&wild, 1000, no_time).unwrap().cut_short);
    }
}
