//! What is being traced at this moment: binaries with their probes, processes with their names and addresses.
//!
//! Work per binary (ELF, function table, probe plan) is done once and kept; work per process is what differs between
//! them: where the binary is mapped.

mod fit;
mod strangers;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::ErrorKind,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::creation_stacks::CreationStacks;
use crate::go::Binary;
use crate::go::plan::PlanError;
use crate::host::clock;
use crate::host::cpu_time::Usage;
use crate::host::files::FileId;
use crate::host::process;
use crate::host::process::Process;
use crate::inspect::Places;
use crate::library::{Code, Found, Library, Target};
use crate::look::{Findings, SiteFindings};
use crate::probes::{Attachment, Probes, Scope};
use crate::subject::Subject;
use crate::targets::Targets;
use crate::tracker::InstanceId;
use crate::tracker::{Instance, StackId, Tracker};
use crate::verdict::Wait;
use crate::{go, inspect, probes, report};
use strangers::Strangers;

/// Goroutines of a process whose places are remembered from one look to the next, 24 bytes each: of a million, those that
/// have not moved are told of the oldest.
const MOST_PLACES: usize = 1 << 16;

/// Why a process or binary is not traced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process.
    #[error(transparent)]
    Process(#[from] process::ProcessError),
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
    Kernel(#[from] probes::ProbeError),
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
    /// Neither its executable nor anything else in it is Go.
    #[error(
        "cannot trace {}: not a Go program (no Go build info), and process {pid} has loaded no library that is Go; if it loads \
         one later, trace that: --exe LIBRARY",
        path.display()
    )]
    NoGo {
        /// The process.
        pid: u32,
        /// Its executable.
        path: PathBuf,
    },
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
            Error::Process(process::ProcessError::Permission { .. })
                | Error::Memory(inspect::MemoryError::Permission(_))
                | Error::Walk(inspect::WalkError::Memory(inspect::MemoryError::Permission(_)))
        )
    }

    /// Whether this is simply not a Go program, which is nothing to report when searching all processes.
    pub fn is_not_go(&self) -> bool {
        match self {
            Error::Go(error) => matches!(error.kind, go::ErrorKind::NotElf | go::ErrorKind::NotGo),
            Error::Process(
                process::ProcessError::NoExecutable(_) | process::ProcessError::NoSuchProcess(_),
            ) => true,
            Error::NoGo { .. } => true,
            _ => false,
        }
    }
}

/// A process that is traced.
pub struct Traced {
    /// The process as it was when tracing began, but for its plugins.
    pub subject: Subject,
    target: Arc<Target>,
    /// Of what it executes, never used again.
    number: u64,
}

/// All that is traced, and the means to trace more.
pub struct Session {
    probes: Probes,
    creation_stacks: CreationStacks,
    library: Library,
    attachments: BTreeMap<(FileId, Option<NonZeroU32>), Attachment>,
    /// The current process of each pid.
    current: HashMap<u32, Arc<Traced>>,
    instances: HashMap<InstanceId, Arc<Traced>>,
    /// The last look at each.
    looks: HashMap<InstanceId, (Findings, Arc<Places>)>,
    untraced: BTreeMap<u32, report::Process>,
    trust: fit::Trust,
    /// Binaries that are not traced any more, because what their probes sent cannot be right.
    given_up: HashMap<FileId, String>,
    /// Instances that the user was told about.
    alarmed: HashSet<InstanceId>,
    usage: Usage,
    warnings: Vec<String>,
    /// The number of the next process.
    next: u64,
    strangers: Strangers,
}

impl Session {
    /// Nothing is traced yet.
    pub fn new(library: Library, probes: Probes) -> Session {
        Session {
            probes,
            creation_stacks: CreationStacks::default(),
            library,
            attachments: BTreeMap::new(),
            current: HashMap::new(),
            instances: HashMap::new(),
            looks: HashMap::new(),
            untraced: BTreeMap::new(),
            trust: fit::Trust::default(),
            given_up: HashMap::new(),
            alarmed: HashSet::new(),
            usage: Usage::new(),
            warnings: Vec::new(),
            next: 0,
            strangers: Strangers::default(),
        }
    }

    /// Reads a binary and plans its probes, or remembers having done so.
    pub fn target(&mut self, file: File, path: &Path) -> Result<Arc<Target>, Error> {
        self.library.target(file, path)
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
        let found = self.find(pid)?;
        let plugins = found.plugins.clone();
        let target = self.library.plan_of(&found)?;
        let subject = Subject::new(found)?;
        if subject.verified {
            self.trust.confirm(target.id);
        }
        self.attach(&target, scope)?;
        self.attach_plugins(&plugins, scope)?;
        let traced = self.know(subject, target);
        self.warnings.extend(traced.subject.about_others());
        Ok(traced)
    }

    /// The Go runtime of a process: where it has several, one that has probes.
    fn find(&mut self, pid: u32) -> Result<Found, Error> {
        let (library, attachments) = (&mut self.library, &self.attachments);
        library.find(pid, |file| attachments.contains_key(&(file, None)))
    }

    /// Looks for plugins that processes have loaded meanwhile.
    pub fn find_plugins(&mut self) {
        let opening = self.current.values().filter(|traced| traced.target.binary.opens_plugins());
        for traced in opening.cloned().collect::<Vec<_>>() {
            let subject = &traced.subject;
            let binary = traced.target.binary.clone();
            let mut code = Code { id: traced.target.id, binary, bias: subject.bias };
            let (plugins, _) = self.library.add_plugins(subject.process.pid, &mut code);
            if code.binary.plugins() <= subject.binary.plugins() {
                continue;
            }
            let scope = match NonZeroU32::new(subject.process.pid) {
                Some(pid) if !self.has_probes(traced.target.id) => Scope::Process(pid),
                _ => Scope::Everyone,
            };
            let attached = self.attach_plugins(&plugins, scope);
            self.warnings.extend(attached.err().map(|error| error.to_string()));
            self.warnings.push(format!(
                "process {} has loaded another plugin since: those of its goroutines that began before now are not counted as \
                 created; to miss none, trace it beforehand: --exe PLUGIN",
                subject.process.pid
            ));
            let subject = Subject { binary: code.binary, ..subject.clone() };
            let now = Arc::new(Traced { subject, target: traced.target.clone(), number: traced.number });
            for known in self.current.values_mut().chain(self.instances.values_mut()) {
                if Arc::ptr_eq(known, &traced) {
                    *known = now.clone();
                }
            }
        }
    }

    /// A plugin has the runtime's functions once more, and its code calls these. Their variables are the executable's.
    fn attach_plugins(&mut self, plugins: &[Code], scope: Scope) -> Result<(), Error> {
        for plugin in plugins {
            let target = self.library.plan_of_plugin(plugin)?;
            self.attach(&target, scope)?;
        }
        Ok(())
    }

    /// The records of runtimes that are not looked at, in processes that have several.
    pub fn strangers(&mut self) -> &mut Strangers {
        &mut self.strangers
    }

    /// The files with a Go runtime that a process has loaded, other than its executable.
    fn runtimes_loaded(&mut self, pid: u32) -> Vec<FileId> {
        let (libraries, _) = self.library.libraries(pid);
        libraries.into_iter().filter(|code| code.binary.has_runtime()).map(|code| code.id).collect()
    }

    /// Takes note of a process of a binary that has its probes.
    fn know(&mut self, subject: Subject, target: Arc<Target>) -> Arc<Traced> {
        let pid = subject.process.pid;
        self.usage.begin(&subject.process);
        self.strangers.expect(&subject);
        self.next += 1;
        let traced = Arc::new(Traced { subject, target, number: self.next });
        self.untraced.remove(&pid);
        self.current.insert(pid, traced.clone());
        traced
    }

    /// A process that some file's probes may see: names it if its file is one of those.
    pub fn recognise(&mut self, pid: u32) -> Option<Arc<Traced>> {
        let Found { process, code: Code { id, binary, bias }, plugins, others, .. } = self.find(pid).ok()?;
        let target = self.library.known(id)?;
        if let Err(error) = self.attach_plugins(&plugins, Scope::Everyone) {
            self.warnings.push(error.to_string());
        }
        Some(self.know(Subject { process, binary, bias, others, verified: false }, target))
    }

    /// Whether a file is known to be no Go program.
    pub fn is_no_go(&self, file: FileId) -> bool {
        self.library.is_no_go(file)
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
        self.strangers.forget(pid);
        let Some(ended) = self.current.remove(&pid) else { return };
        let (instances, looks) = (&self.instances, &mut self.looks);
        looks.retain(|id, _| instances.get(id).is_none_or(|traced| !Arc::ptr_eq(traced, &ended)));
    }

    /// Gives names to the instances that the tracker has seen appear.
    pub fn bind(&mut self, tracker: &mut Tracker) {
        for id in tracker.take_new() {
            let Some(instance) = tracker.instance(id) else { continue };
            let known = match instance.ended {
                None => self.current.get(&instance.pid).cloned().or_else(|| self.recognise(instance.pid)),
                // Its pid is free, or runs something else by now.
                Some(_) => None,
            };
            let fits =
                |traced: &Arc<Traced>| fit::check(instance, traced.binary(), traced.subject.bias).is_ok();
            let fitting = known.clone().filter(fits).or_else(|| self.identify(instance));
            if let Some(traced) = fitting.or(known) {
                self.trust.watch(id, traced.target.id);
                self.instances.insert(id, traced);
            }
        }
    }

    /// Stops tracing a binary whose records cannot be right.
    pub fn give_up(&mut self, target: &Target, mismatch: &inspect::Mismatch) {
        self.attachments.retain(|(id, _), _| *id != target.id);
        self.current.retain(|_, traced| traced.target.id != target.id);
        self.library.refuse(target.id);
        self.given_up.insert(target.id, mismatch.to_string());
        self.warn(format!("no longer traced: {mismatch}"));
    }

    /// Warns of each process that ends goroutines without having been seen to create them, once.
    pub fn raise_alarms(&mut self, tracker: &Tracker) {
        for instance in tracker.instances().filter(|instance| tracker.misses_creations(instance)) {
            if self.alarmed.insert(instance.id) {
                self.warnings.push(format!(
                    "process {}: {} goroutines ended whose creation was not seen, {}",
                    instance.pid,
                    instance.unmatched_exits,
                    report::MISSED
                ));
            }
        }
    }

    /// A process is a target from now on, even if it ends before golife has a look at it.
    pub fn count_cpu_time(&mut self, pid: u32) {
        if let Ok(process) = Process::look(pid) {
            self.usage.begin(&process);
        }
    }

    /// Looks at the CPU time that the targets use. Returns what they used since tracing began, in ns.
    pub fn cpu_time_of_targets(&mut self) -> Option<u64> {
        self.usage.look();
        self.usage.used_ns()
    }

    /// The goroutines of an instance were looked at. The look before is forgotten; since when each goroutine has been where it
    /// is, is known to the new one.
    pub fn looked(&mut self, id: InstanceId, mut findings: Findings) {
        let mut places = std::mem::take(&mut findings.places);
        places.truncate(MOST_PLACES);
        self.looks.insert(id, (findings, Arc::new(places)));
    }

    /// Where the goroutines of an instance were when they were last looked at.
    pub fn last_places(&self, id: InstanceId) -> Option<Arc<Places>> {
        self.looks.get(&id).map(|(_, places)| places.clone())
    }

    /// What the last look at an instance found.
    pub fn last_look(&self, id: InstanceId) -> Option<&Findings> {
        self.looks.get(&id).map(|(findings, _)| findings)
    }

    /// What the last look found of a site.
    fn found(&self, instance: &Instance, gopc: u64, startpc: u64) -> Option<&SiteFindings> {
        let bias = self.instances.get(&instance.id)?.subject.bias;
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(bias) };
        self.last_look(instance.id)?.sites.get(&(code(gopc), code(startpc)))
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
        let mut warnings = self.library.take_warnings();
        warnings.append(&mut self.warnings);
        warnings
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
    pub fn binaries(&self) -> Vec<Arc<Target>> {
        let mut ids: Vec<FileId> = self.attachments.keys().map(|(id, _)| *id).collect();
        ids.dedup();
        ids.into_iter()
            .filter_map(|id| self.library.known(id))
            .filter(|target| target.binary.has_runtime())
            .collect()
    }

    /// What the probes had to say since the last call.
    pub fn take_log(&mut self) -> Vec<String> {
        self.probes.take_log()
    }

    /// What the kernel counted.
    pub fn counters(&self) -> probes::Counters {
        self.probes.counters()
    }

    /// Reports exec and exit, and fork if `forks`, through the ring from now on.
    pub fn watch_processes(&mut self, forks: bool) -> Result<(), Error> {
        Ok(self.probes.watch_processes(forks)?)
    }

    /// Takes all probes off. Waits for the kernel once, not once for each probe.
    pub fn detach(&mut self) {
        let attachments = std::mem::take(&mut self.attachments);
        probes::detach_all(attachments.into_values());
    }
}

impl Traced {
    /// Whether both are the same image in the same process.
    pub fn is(&self, other: &Traced) -> bool {
        self.number == other.number
    }

    /// The process's binary.
    pub fn binary(&self) -> &Binary {
        &self.subject.binary
    }

    /// When the process started, on the boot-time clock in ns, as precise as the kernel's ticks.
    pub fn start_ns(&self) -> u64 {
        clock::ticks_to_ns(self.subject.process.start_ticks)
    }
}

impl report::Sources for Session {
    fn process(&self, instance: &Instance) -> report::Process {
        let unbelievable = |detail: &str| report::Process {
            mode: report::Mode::Unsupported,
            detail: Some(detail.to_owned()),
            ..report::Process::default()
        };
        let Some(traced) = self.instances.get(&instance.id) else {
            return unbelievable("ended before it could be looked at, and fits no binary that is traced");
        };
        match self.given_up.get(&traced.target.id) {
            Some(why) => report::Process { exe: traced.subject.describe().exe, ..unbelievable(why) },
            None => report::Process {
                scan: self.last_look(instance.id).map(|found| found.scan),
                ..traced.subject.describe()
            },
        }
    }

    fn waiting(&self, instance: &Instance, gopc: u64, startpc: u64) -> Option<(Vec<report::Waiting>, u64)> {
        self.last_look(instance.id)?;
        let found = self.found(instance, gopc, startpc);
        Some(found.map(|found| (found.waiting.clone(), found.waits.stack_bytes)).unwrap_or_default())
    }

    fn waits(&self, instance: &Instance, gopc: u64, startpc: u64) -> Vec<Wait> {
        self.found(instance, gopc, startpc).map(|found| found.judged.clone()).unwrap_or_default()
    }

    fn has_creation_stacks(&self) -> bool {
        self.probes.keep_stacks()
    }

    fn creation_stack(&self, instance: &Instance, gopc: u64, stack: StackId) -> Vec<report::Frame> {
        let traced = self.instances.get(&instance.id);
        let frames =
            |traced: &Arc<Traced>| self.creation_stacks.frames(&self.probes, &traced.subject, gopc, stack);
        traced.map(frames).unwrap_or_default()
    }

    fn module(&self, instance: &Instance) -> Option<&str> {
        self.instances.get(&instance.id)?.binary().build_info().module.as_deref()
    }

    fn creation_site(&self, instance: &Instance, gopc: u64) -> Option<report::Frame> {
        let traced = self.instances.get(&instance.id)?;
        traced.binary().go_statement(gopc.wrapping_sub(traced.subject.bias)).as_ref().map(report::Frame::from)
    }

    fn entry(&self, instance: &Instance, startpc: u64) -> Option<report::Frame> {
        let traced = self.instances.get(&instance.id)?;
        traced
            .binary()
            .entry_function(startpc.wrapping_sub(traced.subject.bias))
            .as_ref()
            .map(report::Frame::from)
    }

    fn is_system(&self, instance: &Instance, startpc: u64) -> bool {
        self.instances
            .get(&instance.id)
            .is_some_and(|traced| traced.binary().is_system(startpc.wrapping_sub(traced.subject.bias)))
    }
}

/// The file that a process executes, if the process is wanted and has, or may have, Go in it. `loaded`: also for the
/// sake of the libraries that it has loaded, of which a process that has just begun has none.
pub fn is_wanted(
    targets: &Targets,
    pid: u32,
    session: &mut Session,
    loaded: bool,
) -> Result<Option<FileId>, process::ProcessError> {
    // What it executes comes first: most of a host's processes are threads of the kernel, which execute nothing, and of
    // the others most are no Go programs. The rest of /proc costs more to look at.
    let fail = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => process::ProcessError::NoExecutable(pid),
        ErrorKind::PermissionDenied => process::ProcessError::Permission { pid },
        _ => process::ProcessError::Io { pid, source },
    };
    let file = File::open(format!("/proc/{pid}/exe")).map_err(fail)?;
    let id = FileId::of(&file).map_err(fail)?;
    let may_be_go = !session.is_no_go(id);
    if may_be_go && targets.match_process(&Process::look(pid)?, id) {
        return Ok(Some(id));
    }
    if !loaded {
        return Ok(None);
    }
    let runtimes = session.runtimes_loaded(pid);
    let is_named = runtimes.iter().any(|file| targets.names_file(*file));
    let wanted =
        is_named || !may_be_go && !runtimes.is_empty() && targets.match_process(&Process::look(pid)?, id);
    Ok(wanted.then_some(id))
}
