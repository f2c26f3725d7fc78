//! Everything that goes through the `bpf` and `perf_event_open` system calls: loads the embedded object, puts probes on
//! a binary, reads the counters, and takes the probes off again.
//!
//! Probes hang on file descriptors of this process, so the kernel takes them off however golife ends.

mod attached;
mod error;
mod log;
mod programs;
pub mod ring;
mod rings;
pub mod selftest;
mod syscalls;
mod witness;

use std::{
    borrow::Cow,
    collections::HashMap,
    ffi::CString,
    fs::{self, File},
    io,
    num::NonZeroU32,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use attached::Way;
pub use attached::{Attachment, detach_all, detach_all_then};
use aya::{
    Ebpf, EbpfLoader,
    maps::{self, MapData, PerCpuArray, RingBuf},
    programs::{ProgramError, RawTracePoint, TracePoint},
};
pub use error::ProbeError;
use error::{classify, describe};
use log::ProbeLog;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use programs::Programs;
use ring::{Records, RingKind};
use rings::RingMaps;
use tracer_ebpf::{
    COUNTERS, CREATION_STACKS, Constants, Counter, EVENTS, EXIT_SAYS_GROUP_DEAD, FORK_CHILD_OFFSET, OBJECT,
    RING_MASKS, STACK_PLACES, STACKS, Stack, StackCode, WAKE_BYTES, calls_of,
};

use crate::host::kernel;
use crate::host::kernel::NoTracefs;

/// Size of the kernel's ring buffer in bytes where all records are in it, unless the user says otherwise. 16 MiB hold the
/// records of 190,000 goroutines, each with its creation and its exit.
const SHARED_BYTES: u32 = 16 << 20;
/// Its size in bytes where only what happens to processes is in it: 32,000 records.
const PROCESSES_BYTES: u32 = 1 << 20;

/// Which program runs at a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Sends the record of an exit.
    Exit,
    /// Sends the record of a creation.
    Creation,
    /// Sends the record of a point of a test binary's tests.
    Test,
    /// Does nothing. Benchmarks use it to measure what the trap alone costs.
    Floor,
}

impl Program {
    fn name(self, ring: RingKind) -> &'static str {
        match (self, ring) {
            (Program::Creation, RingKind::PerCpu) => "created",
            (Program::Creation, RingKind::Shared) => "created_shared",
            (Program::Exit, RingKind::PerCpu) => "exited",
            (Program::Exit, RingKind::Shared) => "exited_shared",
            (Program::Test, _) => "tested",
            (Program::Floor, _) => "floor",
        }
    }
}

/// One probe to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The program that runs at each hit.
    pub program: Program,
    /// The place of the probed instruction, as an offset in the file in bytes.
    pub file_offset: u64,
    /// What the program must know about this place: the register that holds the `runtime.g`, and the offsets in it. The
    /// process is filled in as it is attached.
    pub constants: Constants,
}

/// For which processes a probe is put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For every process that maps the file, now or later.
    Everyone,
    /// For one process. Others that map the same file are not even trapped.
    Process(NonZeroU32),
}

/// What the probes counted since they were loaded, summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Creation records that did not fit into the ring.
    pub dropped_created: u64,
    /// Exit records that did not fit into the ring.
    pub dropped_exited: u64,
    /// Records of processes that did not fit into the ring.
    pub dropped_process: u64,
    /// Hits at which the target's memory could not be read, so that no record was made.
    pub read_faults: u64,
}

/// The loaded programs and their maps.
pub struct Probes {
    ebpf: Ebpf,
    counters: PerCpuArray<MapData, u64>,
    /// The stacks of creators, by the code that a creation's record has for its stack.
    stacks: maps::HashMap<MapData, u32, Stack>,
    keep_stacks: bool,
    log: ProbeLog,
    programs: Programs,
    ring: RingKind,
    way: Way,
}

/// What is loaded, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loading {
    /// Memory in bytes for the rings, where the user has said so: for those that CPUs begin with, or for the only one.
    pub ring_bytes: Option<u32>,
    /// Whether each creation also keeps its creator's stack: see [`Probes::stack`].
    pub creation_stacks: bool,
}

impl Probes {
    /// Loads the embedded object. The records can be read from what this returns beside it.
    ///
    /// # Errors
    /// - [`ProbeError::Permission`]: this process lacks capabilities.
    /// - [`ProbeError::Unsupported`]: the kernel lacks a feature.
    /// - [`ProbeError::Load`]: the kernel refuses the object for another reason.
    pub fn load(loading: Loading) -> Result<(Probes, Records), ProbeError> {
        if kernel::running() < kernel::UNLIMITED_SINCE {
            // Older kernels count maps as locked memory. If the limit cannot be raised, loading fails and says what is
            // missing.
            let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        }
        let way = Way::of_kernel()?;
        let object = override_object().map_or(Cow::Borrowed(OBJECT), Cow::Owned);
        // Older kernels refuse the programs; that they do is found out by trying.
        let rings = if kernel::running() >= kernel::RINGS_SINCE && !is_shared_wanted() {
            RingMaps::create(loading.ring_bytes).ok()
        } else {
            None
        };
        let with = |rings| Probes::load_with(&object, loading, way, rings);
        match rings {
            Some(rings) => with(Some(rings)).or_else(|_| with(None)),
            None => with(None),
        }
    }

    fn load_with(
        object: &[u8],
        Loading { ring_bytes, creation_stacks }: Loading,
        way: Way,
        rings: Option<RingMaps>,
    ) -> Result<(Probes, Records), ProbeError> {
        let shared_bytes = match &rings {
            Some(_) => PROCESSES_BYTES.min(ring_bytes.unwrap_or(u32::MAX)),
            None => ring_bytes.unwrap_or(SHARED_BYTES),
        };
        let shared_bytes = shared_bytes.clamp(4096, 1 << 30).next_power_of_two();
        let wake = u64::from(shared_bytes) / 4;
        let masks = rings.as_ref().map_or([0; 2], RingMaps::masks);
        let fork_child = kernel::field_offset("sched_process_fork", "child_pid").unwrap_or(44);
        let group_dead = u32::from(kernel::field_offset("sched_process_exit", "group_dead").is_some());
        let places = if creation_stacks { STACK_PLACES } else { 1 };
        let globals: [(&str, Vec<u8>); 5] = [
            (CREATION_STACKS, u32::from(creation_stacks).to_ne_bytes().into()),
            (WAKE_BYTES, wake.to_ne_bytes().into()),
            (RING_MASKS, masks.into_iter().flat_map(u64::to_ne_bytes).collect()),
            (FORK_CHILD_OFFSET, fork_child.to_ne_bytes().into()),
            (EXIT_SAYS_GROUP_DEAD, group_dead.to_ne_bytes().into()),
        ];
        let mut loader = EbpfLoader::new();
        loader.btf(None).map_max_entries(EVENTS, shared_bytes).map_max_entries(STACKS, places);
        for (name, value) in &globals {
            loader.override_global(name, value.as_slice(), true);
        }
        let mut ebpf = loader.load(object).map_err(|error| classify(&error))?;
        let own_maps = ebpf.maps().filter_map(|(name, map)| {
            let fd = programs::map_fd(map)?.try_clone_to_owned();
            Some(fd.map(|fd| (name.to_owned(), fd)))
        });
        let mut maps = own_maps.collect::<io::Result<HashMap<_, _>>>().map_err(|error| classify(&error))?;
        if let Some(rings) = &rings {
            let rings = rings.by_name().map_err(|error| classify(&error))?;
            maps.extend(rings.map(|(name, fd)| (name.to_owned(), fd)));
        }
        let ring = if rings.is_some() { RingKind::PerCpu } else { RingKind::Shared };
        let mut programs = Programs::new(object, &globals, maps, way == Way::Multi)?;
        if ring == RingKind::PerCpu {
            // It does all that the other one does.
            programs.get(Program::Creation.name(ring), Constants::default())?;
        }
        let take = |ebpf: &mut Ebpf, name: &str| {
            ebpf.take_map(name).ok_or_else(|| ProbeError::Load(format!("the object has no map {name}")))
        };
        let buffer = RingBuf::try_from(take(&mut ebpf, EVENTS)?).map_err(|error| classify(&error))?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, COUNTERS)?).map_err(|error| classify(&error))?;
        let stacks = maps::HashMap::try_from(take(&mut ebpf, STACKS)?).map_err(|error| classify(&error))?;
        let log = ProbeLog::new(&mut ebpf)?;
        let records = Records::open(buffer, shared_bytes, rings).map_err(|error| classify(&error))?;
        let probes =
            Probes { ebpf, counters, stacks, keep_stacks: creation_stacks, log, programs, ring, way };
        Ok((probes, records))
    }

    /// Reports exec and exit of every process through the ring from now on, and fork as well if `forks`.
    ///
    /// # Errors
    /// [`ProbeError::Tracepoint`] if a tracepoint cannot be followed, or the errors of [`Probes::load`].
    pub fn watch_processes(&mut self, forks: bool) -> Result<(), ProbeError> {
        for (program, tracepoint) in
            [("process_exec", "sched_process_exec"), ("process_exit", "sched_process_exit")]
        {
            let program: &mut RawTracePoint = self.program(program)?;
            program.load().map_err(|error| classify(&error))?;
            program
                .attach(tracepoint)
                .map_err(|error| ProbeError::Tracepoint { tracepoint, why: describe(&error) })?;
        }
        if forks {
            let tracepoint = "sched_process_fork";
            let program: &mut TracePoint = self.program("process_fork")?;
            program.load().map_err(|error| classify(&error))?;
            program.attach("sched", tracepoint).map_err(|error| {
                let why = match kernel::tracefs() {
                    Ok(_) => describe(&error),
                    Err(NoTracefs { found, remedy }) => format!("tracefs: {found}; {remedy}"),
                };
                ProbeError::Tracepoint { tracepoint, why }
            })?;
        }
        Ok(())
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, ProbeError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| ProbeError::Load(format!("the object has no program {name}")))?;
        program.try_into().map_err(|error: ProgramError| classify(&error))
    }

    /// Puts `probes` on the binary that `file` is, whatever its path leads to by now. `path` is only for messages.
    ///
    /// # Errors
    /// [`ProbeError::Attach`] if the kernel refuses one of them, or the errors of [`Probes::load`] if it refuses a program; then
    /// none is in place.
    pub fn attach(
        &mut self,
        file: &File,
        path: &Path,
        probes: &[Probe],
        scope: Scope,
    ) -> Result<Attachment, ProbeError> {
        // The path may lead to another file by now; this one leads to the file that was read.
        let target = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        let pid = match scope {
            Scope::Everyone => None,
            Scope::Process(pid) => Some(pid.get()),
        };
        // The probes for exits come first, so that a goroutine that is seen to be created is also seen to end, however
        // long the kernel takes to place the others.
        let mut groups = Vec::new();
        for program in [Program::Exit, Program::Creation, Program::Test, Program::Floor] {
            let mut probes: Vec<&Probe> = probes.iter().filter(|probe| probe.program == program).collect();
            while let Some(first) = probes.first() {
                let constants = Constants { pid: pid.unwrap_or(0).into(), ..first.constants };
                let loaded = self.programs.get(program.name(self.ring), constants)?;
                let (alike, others) =
                    probes.iter().partition::<Vec<&Probe>, _>(|probe| probe.constants == first.constants);
                groups.push((loaded, alike.iter().map(|probe| probe.file_offset).collect::<Vec<u64>>()));
                probes = others;
            }
        }
        // All programs are loaded by now, so that between the first probe and the last there is nothing to wait for.
        let mut links = Vec::new();
        for (program, offsets) in groups {
            let attached = self.way.attach(program.as_fd(), file, &target, &offsets, pid);
            links.extend(attached.map_err(|error| ProbeError::Attach {
                probe: format!("probes at {offsets:#x?}"),
                path: path.to_path_buf(),
                why: describe(&error),
            })?);
        }
        Ok(Attachment { links })
    }

    /// Takes the log lines since the last call. Each is about something that a probe could not do.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.take()
    }

    /// Whether the stacks of creators are kept.
    pub fn keep_stacks(&self) -> bool {
        self.keep_stacks
    }

    /// The creator's stack that a record's code stands for: return addresses in the memory of its process, innermost
    /// first. The last one is [`tracer_ebpf::CUT`] if the stack goes on. `None` if no stack is kept under this code.
    pub fn stack(&self, code: StackCode) -> Option<Vec<u64>> {
        let stack = self.stacks.get(&code.0.into(), 0).ok()?;
        calls_of(&stack).map(<[u64]>::to_vec)
    }

    /// Reads the kernel's counters.
    pub fn counters(&self) -> Counters {
        let sum = |counter: Counter| {
            self.counters.get(&(counter as u32), 0).map(|values| values.iter().sum()).unwrap_or(0)
        };
        Counters {
            dropped_created: sum(Counter::DroppedCreated),
            dropped_exited: sum(Counter::DroppedExited),
            dropped_process: sum(Counter::DroppedProcess),
            read_faults: sum(Counter::ReadFault),
        }
    }
}

/// Whether the environment variable GOLIFE_RING asks for the kernel's ring buffer, to compare the two ways or to test the
/// other one.
fn is_shared_wanted() -> bool {
    std::env::var_os("GOLIFE_RING").is_some_and(|ring| ring == "shared")
}

/// The object that `GOLIFE_PROBES` names, to be used instead of the embedded one while the probes are being changed.
fn override_object() -> Option<Vec<u8>> {
    std::env::var_os("GOLIFE_PROBES").and_then(|path| fs::read(path).ok())
}
