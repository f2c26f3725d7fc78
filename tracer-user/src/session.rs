//! What is being traced at this moment: binaries with their probes, processes with their names and addresses.
//!
//! Work per binary (ELF, function table, probe plan) is done once and kept; work per process is what differs between
//! them: where the binary is mapped.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracer_ebpf::Cookie;

use crate::{
    go::{
        self, Binary, ErrorKind,
        plan::{Cost, Kernel, PlanError, Purpose},
        probe_sites::{self, Placement},
    },
    inspect::{self, Places, SiteWaits},
    kernel::{self, Attachment, Probe, Probes, Program, Scope},
    look::Look,
    process::{self, FileId, Process},
    report,
    subject::{Subject, load_bias},
    targets::Targets,
    tracker::{Instance, InstanceId, Tracker},
    verdict::Wait,
};

/// Why a process or binary is not traced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The binary, as Go made it.
    #[error(transparent)]
    Go(#[from] go::Error),
    /// No place for a probe.
    #[error("cannot place probes in {path}: {source}")]
    Plan {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: PlanError,
    },
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The process does not look as its binary says.
    #[error("cannot trace process {pid}: {mismatch}")]
    Unverified {
        /// The process.
        pid: u32,
        /// What does not fit.
        mismatch: inspect::Mismatch,
    },
    /// The file cannot be looked at.
    #[error("cannot look at {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] inspect::MemoryError),
    /// Its goroutines cannot be listed.
    #[error(transparent)]
    Walk(#[from] inspect::WalkError),
    /// The binary is not mapped where it should be.
    #[error(
        "cannot trace process {0}: its executable is not in its memory map; it may just be starting or ending"
    )]
    NotMapped(u32),
}

impl Error {
    /// Whether another user could do it.
    pub fn is_permission(&self) -> bool {
        matches!(
            self,
            Error::Process(process::Error::Permission { .. })
                | Error::Memory(inspect::MemoryError::Permission(_))
                | Error::Walk(inspect::WalkError::Memory(inspect::MemoryError::Permission(_)))
        )
    }

    /// Whether this is simply not a Go program, which is nothing to report when searching all processes.
    pub fn is_not_go(&self) -> bool {
        match self {
            Error::Go(error) => matches!(error.kind, ErrorKind::NotElf | ErrorKind::NotGo),
            Error::Process(process::Error::NoExecutable(_) | process::Error::NoSuchProcess(_)) => true,
            _ => false,
        }
    }
}

/// A Go binary and where its probes go.
pub struct Target {
    /// The binary.
    pub binary: Arc<Binary>,
    file: File,
    id: FileId,
    probes: Vec<Probe>,
}

/// A process that is traced.
pub struct Traced {
    /// The process as it was when tracing began.
    pub subject: Subject,
}

/// All that is traced, and the means to trace more.
pub struct Session {
    probes: Probes,
    kernel: Kernel,
    /// By file; `None` for files that are no Go programs, so that they are read once only.
    targets: HashMap<FileId, Option<Arc<Target>>>,
    attachments: BTreeMap<(FileId, Option<NonZeroU32>), Attachment>,
    /// The current process of each pid.
    current: HashMap<u32, Arc<Traced>>,
    instances: HashMap<InstanceId, Arc<Traced>>,
    /// The first look at each, and the last.
    looks: HashMap<InstanceId, (Arc<Places>, Option<Look>)>,
    untraced: BTreeMap<u32, report::Process>,
    warnings: Vec<String>,
}

impl Session {
    /// Nothing is traced yet.
    pub fn new(probes: Probes) -> Session {
        Session {
            probes,
            kernel: running_kernel(),
            targets: HashMap::new(),
            attachments: BTreeMap::new(),
            current: HashMap::new(),
            instances: HashMap::new(),
            looks: HashMap::new(),
            untraced: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Reads a binary and plans its probes, or remembers having done so.
    pub fn target(&mut self, file: File, path: &Path) -> Result<Arc<Target>, Error> {
        let id = FileId::of(&file).map_err(|source| Error::File { path: path.to_path_buf(), source })?;
        if let Some(Some(target)) = self.targets.get(&id) {
            return Ok(target.clone());
        }
        let target = self.plan(file, id, path);
        if target.as_ref().is_err_and(Error::is_not_go) {
            self.targets.insert(id, None);
        }
        let target = Arc::new(target?);
        self.targets.insert(id, Some(target.clone()));
        Ok(target)
    }

    fn plan(&mut self, file: File, id: FileId, path: &Path) -> Result<Target, Error> {
        let binary = Binary::open(&file, path)?;
        let fail = |source| Error::Plan { path: path.to_path_buf(), source };
        let sites = probe_sites::of(&binary, self.kernel, Placement::Cheapest).map_err(fail)?;
        for site in sites.iter().filter(|site| site.cost == Cost::SingleStepped) {
            self.warnings.push(format!(
                "{}: no cheap instruction for a probe in {}, using {}: each hit costs the target ten times as much or more",
                process::printable(path),
                site.function,
                site.instruction,
            ));
        }
        if binary.layout_source().is_unverified() {
            self.warnings.push(format!(
                "{}: {} is newer than this golife knows; using the newest layout it has, checked against the process's memory",
                process::printable(path),
                binary.build_info().version_text,
            ));
        }
        let probes = probes_at(&binary, &sites);
        Ok(Target { binary: Arc::new(binary), file, id, probes })
    }

    /// Puts the probes of a binary in place, unless they already are.
    pub fn attach(&mut self, target: &Target, scope: Scope) -> Result<(), Error> {
        let key = match scope {
            Scope::Everyone => (target.id, None),
            Scope::Process(pid) => (target.id, Some(pid)),
        };
        if self.attachments.contains_key(&(target.id, None)) || self.attachments.contains_key(&key) {
            return Ok(());
        }
        let attachment = self.probes.attach(&target.file, target.binary.path(), &target.probes, scope)?;
        self.attachments.insert(key, attachment);
        Ok(())
    }

    /// Starts to trace a process that runs already.
    pub fn enter(&mut self, pid: u32, scope: Scope) -> Result<Arc<Traced>, Error> {
        let (process, file) = Process::open(pid)?;
        let path = process.exe.clone();
        let target = self.target(file, &path)?;
        let subject = Subject::new(process, target.binary.clone(), target.id)?;
        self.attach(&target, scope)?;
        Ok(self.know(subject))
    }

    /// Takes note of a process of a binary that has its probes.
    fn know(&mut self, subject: Subject) -> Arc<Traced> {
        let pid = subject.process.pid;
        let traced = Arc::new(Traced { subject });
        self.untraced.remove(&pid);
        self.current.insert(pid, traced.clone());
        traced
    }

    /// A process that some file's probes may see: names it if its file is one of those.
    pub fn recognise(&mut self, pid: u32) -> Option<Arc<Traced>> {
        let (process, file) = Process::open(pid).ok()?;
        let target = self.targets.get(&FileId::of(&file).ok()?)?.clone()?;
        let bias = load_bias(pid, &target.binary, target.id).ok()?;
        Some(self.know(Subject { process, binary: target.binary.clone(), bias }))
    }

    /// Whether a file is known to be no Go program.
    pub fn is_no_go(&self, file: FileId) -> bool {
        matches!(self.targets.get(&file), Some(None))
    }

    /// Whether a binary's probes are in place for every process.
    pub fn has_probes(&self, file: FileId) -> bool {
        self.attachments.contains_key(&(file, None))
    }

    /// The process that has this id now.
    pub fn current(&self, pid: u32) -> Option<&Arc<Traced>> {
        self.current.get(&pid)
    }

    /// A process executes another image, or ended: what was known of its pid is history.
    pub fn forget(&mut self, pid: u32) {
        let Some(ended) = self.current.remove(&pid) else { return };
        let (instances, looks) = (&self.instances, &mut self.looks);
        looks.retain(|id, _| instances.get(id).is_none_or(|traced| !Arc::ptr_eq(traced, &ended)));
    }

    /// Gives names to the instances that the tracker has seen appear.
    pub fn bind(&mut self, tracker: &mut Tracker) {
        for id in tracker.take_new() {
            let Some(pid) = tracker.instance(id).map(|instance| instance.pid) else { continue };
            if let Some(traced) = self.current.get(&pid).cloned().or_else(|| self.recognise(pid)) {
                self.instances.insert(id, traced);
            }
        }
    }

    /// The goroutines of an instance were looked at. The look before is forgotten, but for where they were at first.
    pub fn looked(&mut self, id: InstanceId, look: Look) {
        let (_, last) = self.looks.entry(id).or_insert_with(|| (look.places.clone(), None));
        *last = Some(look);
    }

    /// Where the goroutines of an instance were when they were first looked at.
    pub fn first_places(&self, id: InstanceId) -> Option<Arc<Places>> {
        self.looks.get(&id).map(|(first, _)| first.clone())
    }

    /// The last look at an instance.
    pub fn last_look(&self, id: InstanceId) -> Option<&Look> {
        self.looks.get(&id)?.1.as_ref()
    }

    /// Remembers for the report that a process is not traced, and why.
    pub fn refuse(&mut self, pid: u32, error: &Error) {
        let process = Process::look(pid).ok();
        self.untraced.insert(
            pid,
            report::Process {
                pid,
                exe: process.as_ref().map(|process| process.exe.to_string_lossy().into_owned()),
                command: process.map(|process| process.command),
                mode: report::Mode::Unsupported,
                detail: Some(error.to_string()),
                ..report::Process::default()
            },
        );
    }

    /// The processes that are not traced, with the reasons.
    pub fn untraced(&self) -> Vec<report::Process> {
        self.untraced.values().cloned().collect()
    }

    /// What the user should know about the probes, once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Says something to the user, once.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Processes that are traced now.
    pub fn processes(&self) -> impl Iterator<Item = &Arc<Traced>> {
        self.current.values()
    }

    /// Binaries that have probes.
    pub fn binaries(&self) -> Vec<&Target> {
        let mut ids: Vec<FileId> = self.attachments.keys().map(|(id, _)| *id).collect();
        ids.dedup();
        ids.iter().filter_map(|id| self.targets.get(id)?.as_deref()).collect()
    }

    /// What the kernel counted.
    pub fn counters(&self) -> kernel::Counters {
        self.probes.counters()
    }

    /// Reports exec, fork and exit through the ring from now on.
    pub fn watch_processes(&mut self) -> Result<(), Error> {
        Ok(self.probes.watch_processes()?)
    }

    /// Takes all probes off. Waits for the kernel once, not once for each probe.
    pub fn detach(&mut self) {
        let attachments = std::mem::take(&mut self.attachments);
        kernel::detach_all(attachments.into_values());
    }
}

/// Where and how the kernel is to put each planned site.
fn probes_at(binary: &Binary, sites: &[go::plan::Site]) -> Vec<Probe> {
    let layout = binary.layout();
    sites
        .iter()
        .filter_map(|site| {
            let cookie = Cookie {
                register: site.register,
                goid: layout.goid,
                parent: layout.parent.unwrap_or(0),
                gopc: layout.gopc,
                startpc: layout.startpc,
                m: layout.m,
                curg: layout.curg,
            };
            let program = match site.purpose {
                Purpose::Creation => Program::Created,
                Purpose::Exit | Purpose::CoroutineExit => Program::Exited,
            };
            Some(Probe { program, file_offset: binary.vaddr_to_file_offset(site.address)?, cookie })
        })
        .collect()
}

/// What the running kernel does with probes.
pub fn running_kernel() -> Kernel {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    Kernel::from_version(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Traced {
    /// The process's binary.
    pub fn binary(&self) -> &Binary {
        &self.subject.binary
    }

    /// When the process started, on the boot-time clock in ns, as precise as the kernel's ticks.
    pub fn start_ns(&self) -> u64 {
        self.subject.process.start_ticks.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
    }
}

impl report::Sources for Session {
    fn process(&self, instance: &Instance) -> report::Process {
        let Some(traced) = self.instances.get(&instance.id) else { return report::Process::default() };
        report::Process { scan: self.last_look(instance.id).map(Look::summary), ..traced.subject.describe() }
    }

    fn waiting(&self, instance: &Instance, gopc: u64, startpc: u64) -> Option<(Vec<report::Waiting>, u64)> {
        let traced = self.instances.get(&instance.id)?;
        let look = self.last_look(instance.id)?;
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(traced.subject.bias) };
        let none = SiteWaits::default();
        let site = look.waits.get(&(code(gopc), code(startpc))).unwrap_or(&none);
        Some((look.waiting(site, traced.binary()), site.stack_bytes))
    }

    fn waits(&self, instance: &Instance, gopc: u64, startpc: u64) -> Vec<Wait> {
        let (Some(traced), Some(look)) = (self.instances.get(&instance.id), self.last_look(instance.id)) else {
            return Vec::new();
        };
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(traced.subject.bias) };
        let site = look.waits.get(&(code(gopc), code(startpc)));
        site.map(|site| look.judged(site, traced.binary())).unwrap_or_default()
    }

    fn module(&self, instance: &Instance) -> Option<&str> {
        self.instances.get(&instance.id)?.binary().build_info().module.as_deref()
    }

    fn creation_site(&self, instance: &Instance, gopc: u64) -> Option<report::Frame> {
        let traced = self.instances.get(&instance.id)?;
        traced.binary().go_statement(gopc.wrapping_sub(traced.subject.bias)).map(frame)
    }

    fn entry(&self, instance: &Instance, startpc: u64) -> Option<report::Frame> {
        let traced = self.instances.get(&instance.id)?;
        traced.binary().entry_function(startpc.wrapping_sub(traced.subject.bias)).map(frame)
    }

    fn is_system(&self, instance: &Instance, startpc: u64) -> bool {
        self.instances
            .get(&instance.id)
            .is_some_and(|traced| traced.binary().is_system(startpc.wrapping_sub(traced.subject.bias)))
    }
}

fn frame(frame: go::Frame) -> report::Frame {
    report::Frame { function: frame.function, file: Some(frame.file), line: Some(frame.line) }
}

/// The file that a process executes, if the process is wanted and the file may be a Go program.
pub fn is_wanted(targets: &Targets, pid: u32, session: &Session) -> Option<FileId> {
    let (process, file) = Process::open(pid).ok()?;
    let id = FileId::of(&file).ok()?;
    (!session.is_no_go(id) && targets.match_process(&process, id)).then_some(id)
}
