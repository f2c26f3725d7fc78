//! Everything that goes through the `bpf` and `perf_event_open` system calls: loads the embedded object, puts probes on
//! a binary, reads the counters, and takes the probes off again.
//!
//! Probes hang on file descriptors of this process, so the kernel takes them off however golife ends.

mod log;
mod multi;
pub mod ring;
pub mod selftest;
mod slots;
mod witness;

use std::{
    borrow::Cow,
    ffi::CString,
    fs::{self, File},
    io,
    num::NonZeroU32,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::{
        ProgramError, RawTracePoint, TracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use log::ProbeLog;
use multi::MultiProgram;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use slots::Slots;
use tracer_ebpf::{
    COOKIES, COUNTERS, CREATION_STACKS, Cookie, Counter, EVENTS, EXIT_SAYS_GROUP_DEAD, FORK_CHILD_OFFSET,
    OBJECT, STACK_PLACES, STACKS, Stack, StackCode, WAKE_BYTES, calls_of,
};
use witness::Witness;

use crate::host::kernel::NoTracefs;
use crate::host::{capabilities, kernel};

/// Size of the ring in bytes unless the user says otherwise. 16 MiB hold the records of 190,000 goroutines, each with
/// its creation and its exit.
pub const DEFAULT_RING_BYTES: u32 = 16 << 20;

/// Why probes could not be loaded or put in place.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Loading needs rights that this process lacks.
    #[error("cannot load the probes: permission denied; {remedy}")]
    Permission {
        /// What the user can do about it, with the names of the missing capabilities.
        remedy: String,
    },
    /// The kernel lacks something that golife cannot do without.
    #[error(
        "cannot load the probes: this kernel ({release}) has no {what}; golife needs Linux 5.10 or newer"
    )]
    Unsupported {
        /// The kernel's release, as `uname -r` prints it.
        release: String,
        /// The feature that is missing, as the message names it.
        what: &'static str,
    },
    /// The kernel refused the object, or the object is damaged. The text says why.
    #[error("cannot load the probes: {0}")]
    Load(String),
    /// A probe could not be put in place.
    #[error("cannot attach {probe} in {path}: {why}")]
    Attach {
        /// Which probe it is, with its offset in the file.
        probe: String,
        /// The binary that the probe is for.
        path: PathBuf,
        /// The kernel's answer, and what the user can do about it.
        why: String,
    },
    /// A tracepoint could not be followed.
    #[error("cannot follow {tracepoint}: {why}")]
    Tracepoint {
        /// The name of the tracepoint.
        tracepoint: &'static str,
        /// The kernel's answer, and what the user can do about it.
        why: String,
    },
}

/// Which program runs at a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Sends a record. The cookie says whether a goroutine is created at this place or ends there.
    Goroutine,
    /// Does nothing. Benchmarks use it to measure what the trap alone costs.
    Floor,
}

impl Program {
    /// Every program, in the order in which its probes are put in place.
    const ALL: [Program; 2] = [Program::Goroutine, Program::Floor];

    fn name(self) -> &'static str {
        match self {
            Program::Goroutine => "goroutine",
            Program::Floor => "floor",
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
    /// What the program must know about this place: the register that holds the `runtime.g`, and the offsets in it.
    pub cookie: Cookie,
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
    stacks: HashMap<MapData, u32, Stack>,
    keep_stacks: bool,
    log: ProbeLog,
    object: Cow<'static, [u8]>,
    /// A descriptor of each map by its name, for programs that are loaded later.
    maps: Vec<(String, OwnedFd)>,
    /// The programs that were loaded for uprobe-multi links; `None` on kernels without such links.
    multi: Option<Vec<(Program, MultiProgram)>>,
    /// What replaces attach cookies on kernels without them; `None` where the kernel has them.
    slots: Option<Slots>,
}

impl Probes {
    /// Loads the embedded object with a ring of `ring_bytes` (rounded up to a power of two of at least a page). With
    /// `creation_stacks`, each creation also keeps its creator's stack: see [`Probes::stack`].
    ///
    /// # Errors
    /// - [`ProbeError::Permission`]: this process lacks capabilities.
    /// - [`ProbeError::Unsupported`]: the kernel lacks a feature.
    /// - [`ProbeError::Load`]: the kernel refuses the object for another reason.
    pub fn load(ring_bytes: u32, creation_stacks: bool) -> Result<(Probes, RingBuf<MapData>), ProbeError> {
        if kernel::running() < kernel::UNLIMITED_SINCE {
            // Older kernels count maps as locked memory. If the limit cannot be raised, loading fails and says what is
            // missing.
            let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        }
        if kernel::running() < kernel::MULTI_SINCE && !Path::new(kernel::UPROBES).exists() {
            return Err(ProbeError::Unsupported {
                release: kernel::release(),
                what: "uprobes (CONFIG_UPROBE_EVENTS)",
            });
        }
        let object = override_object().map_or(Cow::Borrowed(OBJECT), Cow::Owned);
        let ring_bytes = ring_bytes.clamp(4096, 1 << 30).next_power_of_two();
        let wake = u64::from(ring_bytes) / 4;
        let fork_child = kernel::field_offset("sched_process_fork", "child_pid").unwrap_or(44);
        let group_dead = u32::from(kernel::field_offset("sched_process_exit", "group_dead").is_some());
        let places = if creation_stacks { STACK_PLACES } else { 1 };
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .map_max_entries(EVENTS, ring_bytes)
            .map_max_entries(STACKS, places)
            .override_global(CREATION_STACKS, &u32::from(creation_stacks), true)
            .override_global(WAKE_BYTES, &wake, true)
            .override_global(FORK_CHILD_OFFSET, &fork_child, true)
            .override_global(EXIT_SAYS_GROUP_DEAD, &group_dead, true)
            .load(&object)
            .map_err(|error| classify(&error))?;
        let multi = (kernel::running() >= kernel::MULTI_SINCE).then(Vec::new);
        let maps = ebpf.maps().filter_map(|(name, map)| {
            let fd = multi::map_fd(map)?.try_clone_to_owned();
            Some(fd.map(|fd| (name.to_owned(), fd)))
        });
        let maps = maps.collect::<io::Result<Vec<_>>>().map_err(|error| classify(&error))?;
        let take = |ebpf: &mut Ebpf, name: &str| {
            ebpf.take_map(name).ok_or_else(|| ProbeError::Load(format!("the object has no map {name}")))
        };
        let ring = RingBuf::try_from(take(&mut ebpf, EVENTS)?).map_err(|error| classify(&error))?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, COUNTERS)?).map_err(|error| classify(&error))?;
        let stacks = HashMap::try_from(take(&mut ebpf, STACKS)?).map_err(|error| classify(&error))?;
        let slots = (kernel::running() < kernel::COOKIES_SINCE)
            .then(|| Slots::new(take(&mut ebpf, COOKIES)?).map_err(|error| classify(&error)));
        let slots = slots.transpose()?;
        let log = ProbeLog::new(&mut ebpf)?;
        Ok((
            Probes { slots, ebpf, counters, stacks, keep_stacks: creation_stacks, log, object, maps, multi },
            ring,
        ))
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
    /// [`ProbeError::Attach`] if the kernel refuses one of them; then none is in place.
    pub fn attach(
        &mut self,
        file: &File,
        path: &Path,
        probes: &[Probe],
        scope: Scope,
    ) -> Result<Attachment, ProbeError> {
        // The path may lead to another file by now; this one leads to the file that was read.
        let target = format!("/proc/self/fd/{}", file.as_raw_fd());
        // The probes for exits come first, so that a goroutine that is seen to be created is also seen to end, however
        // long the kernel takes to place the others.
        let mut probes = probes.to_vec();
        probes.sort_by_key(|probe| !probe.cookie.ends);
        let mut witness = match (scope, &self.multi, probes.last()) {
            (Scope::Everyone, Some(_), Some(last)) => Witness::new(file, last.file_offset),
            _ => None,
        };
        let links = match self.multi {
            Some(_) => self.attach_multi(&target, &probes, scope),
            None => self.attach_each(&target, &probes, scope),
        };
        let links = links.map_err(|Unplaced { probe, why }| ProbeError::Attach {
            probe,
            path: path.to_path_buf(),
            why,
        })?;
        witness = witness.filter(Witness::sees_probe);
        Ok(Attachment { links, witness })
    }

    /// Attaches each probe by a perf event of its own.
    fn attach_each(&mut self, target: &str, probes: &[Probe], scope: Scope) -> Result<Vec<Link>, Unplaced> {
        let scope = match scope {
            Scope::Everyone => UProbeScope::AllProcesses,
            Scope::Process(pid) => UProbeScope::OneProcess(pid),
        };
        let attach = |probe: &Probe| {
            let fail = |why: String| Unplaced { probe: format!("a probe at {:#x}", probe.file_offset), why };
            let name = match (&mut self.slots, probe.program) {
                (Some(slots), Program::Goroutine) => Cow::Owned(slots.program(probe.cookie).map_err(fail)?),
                (_, program) => Cow::Borrowed(program.name()),
            };
            let cookie = self.slots.is_none().then(|| probe.cookie.pack());
            let program: &mut UProbe = self.program(&name).map_err(|error| fail(error.to_string()))?;
            if program.fd().is_err() {
                program.load().map_err(|error| fail(classify(&error).to_string()))?;
            }
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(probe.file_offset),
                cookie,
            };
            let link = program.attach(point, target, scope).and_then(|id| program.take_link(id));
            link.map(Link::Perf).map_err(|error| fail(describe(&error)))
        };
        probes.iter().map(attach).collect()
    }

    /// Attaches all probes of a program by one link. The kernel places them in the order of the list.
    fn attach_multi(&mut self, target: &str, probes: &[Probe], scope: Scope) -> Result<Vec<Link>, Unplaced> {
        let pid = match scope {
            Scope::Everyone => 0,
            Scope::Process(pid) => pid.get(),
        };
        let mut links = Vec::new();
        for kind in Program::ALL {
            let chosen = || probes.iter().filter(|probe| probe.program == kind);
            let offsets: Vec<u64> = chosen().map(|probe| probe.file_offset).collect();
            let cookies: Vec<u64> = chosen().map(|probe| probe.cookie.pack()).collect();
            if offsets.is_empty() {
                continue;
            }
            let fail = |why: String| Unplaced { probe: format!("probes at {offsets:#x?}"), why };
            let path = CString::new(target).map_err(|error| fail(error.to_string()))?;
            let program = self.multi_program(kind).map_err(|error| fail(error.to_string()))?;
            let link = program.attach(&path, &offsets, &cookies, pid);
            links.push(Link::Multi(link.map_err(|error| fail(describe(&error)))?));
        }
        Ok(links)
    }

    /// The program for uprobe-multi links, which is loaded when it is first asked for.
    fn multi_program(&mut self, kind: Program) -> Result<&MultiProgram, ProbeError> {
        let loaded = self.multi.get_or_insert_default();
        let at = match loaded.iter().position(|(loaded, _)| *loaded == kind) {
            Some(at) => at,
            None => {
                let maps = self.maps.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()));
                loaded.push((kind, MultiProgram::load(&self.object, kind, maps)?));
                loaded.len() - 1
            }
        };
        Ok(&loaded[at].1)
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

/// A probe that could not be put in place.
struct Unplaced {
    /// Which probe it is, with its offset in the file.
    probe: String,
    /// The kernel's answer, and what the user can do about it.
    why: String,
}

/// The probes that are in place on one binary. Dropping this takes them off.
pub struct Attachment {
    links: Vec<Link>,
    /// Shows when the last probe is off, where one link holds them all.
    witness: Option<Witness>,
}

/// What holds probes in place, and takes them off when it is dropped.
#[expect(dead_code, reason = "held for their drop")]
enum Link {
    /// The perf event of one probe.
    Perf(UProbeLink),
    /// The uprobe-multi link of all probes of one program.
    Multi(OwnedFd),
}

impl Drop for Attachment {
    fn drop(&mut self) {
        close_all(self.links.drain(..));
    }
}

/// Takes the probes of many attachments off, all at the same time.
pub fn detach_all(attachments: impl Iterator<Item = Attachment>) {
    close_all(attachments.flat_map(|mut attachment| std::mem::take(&mut attachment.links)));
}

/// Takes the probes of many attachments off, and calls `off` as soon as nobody has them any more or can get them. The
/// kernel may need longer, and this returns after that.
pub fn detach_all_then(attachments: Vec<Attachment>, off: impl FnOnce()) {
    let mut attachments = attachments;
    let links: Vec<Link> =
        attachments.iter_mut().flat_map(|attachment| std::mem::take(&mut attachment.links)).collect();
    thread::scope(|scope| {
        let closing = scope.spawn(move || close_all(links.into_iter()));
        let has_probes =
            |attachment: &Attachment| attachment.witness.as_ref().is_none_or(Witness::sees_probe);
        while attachments.iter().any(has_probes) && !closing.is_finished() {
            thread::sleep(Duration::from_micros(500));
        }
        off();
    });
}

/// Closes links side by side. Each of them waits for a grace period of the kernel (50 to 100 ms), and so they wait for
/// the same one.
fn close_all(links: impl Iterator<Item = Link>) {
    thread::scope(|scope| {
        for link in links {
            scope.spawn(move || drop(link));
        }
    });
}

/// The object that `GOLIFE_PROBES` names, to be used instead of the embedded one while the probes are being changed.
fn override_object() -> Option<Vec<u8>> {
    std::env::var_os("GOLIFE_PROBES").and_then(|path| fs::read(path).ok())
}

/// Makes an error that tells missing rights and missing features from everything else.
fn classify(error: &(dyn std::error::Error + 'static)) -> ProbeError {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => ProbeError::Permission { remedy: capabilities::remedy() },
        Some(libc::ENOSYS) => ProbeError::Unsupported { release: kernel::release(), what: "bpf system call" },
        _ if describe(error).contains("RingBuf") => {
            ProbeError::Unsupported { release: kernel::release(), what: "BPF ring buffer" }
        }
        _ => ProbeError::Load(describe(error)),
    }
}

/// The operating system's error number at the root of a chain of errors.
fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

/// A chain of errors in one line, with what the user can do about it.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let text = crate::human::chain(error);
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => {
            format!("{text}; {}", capabilities::remedy())
        }
        Some(libc::ESRCH) => format!("{text}; the process ended"),
        _ => text,
    }
}
