//! The probes that are in place: on which binaries, and for which processes.
//!
//! Probes for every process that maps a file are only put on it under a lease, and before anybody writes the file, they
//! are taken off (see [`crate::host::guard`]). Probes for one process can do without: no other process is touched, and
//! the kernel does not let the file of a running process be written.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use tracer_ebpf::{Constants, StackCode, TestPoint};

use crate::go::Binary;
use crate::go::plan::{self, ProbeSite, Purpose};
use crate::host::FileId;
use crate::host::guard::{Alarm, Guard, Lease};
use crate::probes::{self, Attachment, Counters, Probe, ProbeError, Probes, Program, Scope};
use crate::targets::PlannedBinary;

/// A binary with probes, and for which processes it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: FileId,
    /// The process, or `None` for every process that maps the file.
    process: Option<NonZeroU32>,
}

/// The loaded probes and where they are.
pub struct Attachments {
    probes: Probes,
    in_place: Arc<Shared>,
    /// The guard, or why there is none.
    guard: Result<Arc<Guard>, Arc<io::Error>>,
    /// The thread that takes the probes of a file off before somebody writes it.
    listening: Option<JoinHandle<()>>,
    /// Threads that take probes off, for which the kernel needs 50 to 100 ms.
    leaving: Vec<JoinHandle<()>>,
}

/// What is shared with the thread that hears of writers.
#[derive(Default)]
struct Shared {
    in_place: Mutex<InPlace>,
    /// Somebody wants to write a file.
    wanted: Notify,
    /// What a file says was used for the last time.
    used: Condvar,
}

/// What is in place.
#[derive(Default)]
struct InPlace {
    attached: BTreeMap<Place, Attachment>,
    /// The leases on the files that have probes for every process.
    leases: HashMap<FileId, Lease>,
    /// Files whose probes were taken off because somebody writes them.
    written: Vec<Written>,
}

/// A file that somebody writes, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub file: FileId,
    /// Whether it still has the content that it had under the probes.
    pub is_unchanged: bool,
}

/// How long somebody who wants to write waits at most for what is still to be read in the file. Usually it takes a few
/// milliseconds.
const LAST_LOOK: Duration = Duration::from_millis(60);

/// Why probes could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no lease on the file, which could be written under probes for every process.
    #[error("no lease: {0}")]
    NoLease(Arc<io::Error>),
    /// The file was written after it was read, so that the plan may not fit it.
    #[error("it was written while golife read it")]
    Written,
    /// The kernel refuses a probe.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl Attachments {
    /// No probe is in place yet. Without a guard, none will be for every process.
    pub fn new(probes: Probes, guard: io::Result<(Guard, Alarm)>) -> Attachments {
        let in_place = Arc::new(Shared::default());
        let (guard, listening) = match guard {
            Ok((guard, alarm)) => {
                let guard = Arc::new(guard);
                let (in_place, ours) = (in_place.clone(), Arc::downgrade(&guard));
                let listening = std::thread::spawn(move || listen(&alarm, &in_place, &ours));
                (Ok(guard), Some(listening))
            }
            Err(error) => (Err(Arc::new(error)), None),
        };
        Attachments { probes, in_place, guard, listening, leaving: Vec::new() }
    }

    fn in_place(&self) -> MutexGuard<'_, InPlace> {
        self.in_place.lock()
    }

    /// Puts the probes of a binary in place, unless they already are.
    ///
    /// # Errors
    /// - [`AttachError::NoLease`]: they are to be for every process, and somebody could write the file meanwhile.
    /// - [`AttachError::Written`]: it was written since it was read.
    /// - [`AttachError::Probe`]: the kernel refuses one of them; then none is in place.
    pub fn attach(&mut self, planned: &PlannedBinary, scope: Scope) -> Result<(), AttachError> {
        let process = match scope {
            Scope::Everyone => None,
            Scope::Process(pid) => Some(pid),
        };
        let place = Place { file: planned.file, process };
        // Until all is in place, nobody else may take anything off.
        let mut in_place = self.in_place.lock();
        if in_place.is_everywhere(planned.file) || in_place.attached.contains_key(&place) {
            return Ok(());
        }
        if let Entry::Vacant(place) = in_place.leases.entry(planned.file) {
            match lease(&self.guard, planned) {
                Ok(lease) => _ = place.insert(lease),
                Err(why) if process.is_none() => return Err(AttachError::NoLease(why)),
                Err(_) => {}
            }
        }
        // Under a lease nobody can write the file from here on. If nobody has until here, the plan fits it.
        if planned.opened.is_written() {
            let removed = in_place.remove(|_| false);
            drop(in_place);
            removed.take_off(self.guard.as_deref().ok());
            return Err(AttachError::Written);
        }
        let probes: Vec<Probe> =
            planned.sites.iter().filter_map(|site| probe(&planned.binary, site)).collect();
        let attached = self.probes.attach(planned.opened.file(), planned.binary.path(), &probes, scope);
        let error = match attached {
            Ok(attachment) => {
                in_place.attached.insert(place, attachment);
                return Ok(());
            }
            Err(error) => error,
        };
        // Without probes, the file needs no lease.
        let removed = in_place.remove(|_| false);
        drop(in_place);
        removed.take_off(self.guard.as_deref().ok());
        Err(error.into())
    }

    /// Whether a binary's probes are in place for every process.
    pub fn is_everywhere(&self, file: FileId) -> bool {
        self.in_place().is_everywhere(file)
    }

    /// The binaries that have probes, each once.
    pub fn files(&self) -> Vec<FileId> {
        let mut files: Vec<FileId> = self.in_place().attached.keys().map(|place| place.file).collect();
        files.dedup();
        files
    }

    /// Waits until somebody wants to write a file that has probes. They are taken off meanwhile.
    pub async fn writer(&self) {
        self.in_place.wanted.notified().await;
    }

    /// Whether somebody wants to write a file that had probes.
    pub fn has_writer(&self) -> bool {
        !self.in_place().written.is_empty()
    }

    /// The files that somebody writes, or is about to. The next call does not return them again. Those that are unchanged
    /// may be written from now on.
    pub fn take_written(&self) -> Vec<Written> {
        let written = std::mem::take(&mut self.in_place().written);
        self.in_place.used.notify_all();
        written
    }

    /// Takes the probes of a binary off.
    pub fn detach(&mut self, file: FileId) {
        let removed = self.in_place().remove(|place| place.file == file);
        removed.take_off(self.guard.as_deref().ok());
    }

    /// Takes the probes off that a process has for itself alone, where nobody would say that their file is written. To be
    /// called when it executes something else: if that is the same file, with another content, they do not fit.
    pub fn leave_unleased(&mut self, pid: u32) {
        let mut in_place = self.in_place();
        let leased: HashSet<FileId> = in_place.leases.keys().copied().collect();
        let removed = in_place.remove(|place| place.is_of(pid) && !leased.contains(&place.file));
        drop(in_place);
        self.take_off_later(removed);
    }

    /// Takes the probes of a binary off that a process has for itself alone.
    pub fn leave(&mut self, pid: u32, file: FileId) {
        let removed = self.in_place().remove(|place| place.is_of(pid) && place.file == file);
        self.take_off_later(removed);
    }

    /// Whether a process has probes of a binary for itself alone.
    pub fn is_for(&self, pid: u32, file: FileId) -> bool {
        self.in_place().attached.keys().any(|place| place.is_of(pid) && place.file == file)
    }

    /// Takes the probes off that nobody needs any more, on a thread of its own: those on files that are not among
    /// `files`, and those for a process that is gone.
    pub fn keep(&mut self, files: &HashSet<FileId>, is_alive: impl Fn(u32) -> bool) {
        let is_needed = |place: &Place| {
            files.contains(&place.file) && place.process.is_none_or(|process| is_alive(process.get()))
        };
        let removed = self.in_place().remove(|place| !is_needed(place));
        self.take_off_later(removed);
    }

    fn take_off_later(&mut self, removed: Removed) {
        self.leaving.retain(|thread| !thread.is_finished());
        if !removed.attachments.is_empty() || !removed.leases.is_empty() {
            let guard = self.guard.as_ref().ok().cloned();
            self.leaving.push(std::thread::spawn(move || removed.take_off(guard.as_deref())));
        }
    }

    /// Takes all probes off. Waits for the kernel once, not once for each probe.
    pub fn detach_all(&mut self) {
        let removed = self.in_place().remove(|_| true);
        removed.take_off(self.guard.as_deref().ok());
        // If the program ended while such a thread is at work, the kernel would keep its probes (`failed to unregister,
        // leaking uprobe`).
        for thread in self.leaving.drain(..) {
            let _ = thread.join();
        }
    }

    /// Reports exec and exit of every process through the ring from now on, and fork as well if `forks`.
    ///
    /// # Errors
    /// The errors of [`Probes::watch_processes`].
    pub fn watch_processes(&mut self, forks: bool) -> Result<(), ProbeError> {
        self.probes.watch_processes(forks)
    }

    /// What the kernel has counted since the probes were loaded.
    pub fn counters(&self) -> Counters {
        self.probes.counters()
    }

    /// Takes the log lines of the probes since the last call.
    pub fn take_log(&mut self) -> Vec<String> {
        self.probes.take_log()
    }

    /// Whether the stacks of creators are kept.
    pub fn keep_stacks(&self) -> bool {
        self.probes.keep_stacks()
    }

    /// The stack of a creator: see [`Probes::stack`].
    pub fn stack(&self, code: StackCode) -> Option<Vec<u64>> {
        self.probes.stack(code)
    }
}

impl Drop for Attachments {
    fn drop(&mut self) {
        self.detach_all();
        // The guard ends with its last owner, and that ends the thread.
        self.guard = Err(Arc::new(io::ErrorKind::NotConnected.into()));
        let _ = self.listening.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, InPlace> {
        self.in_place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all that is needed of a file has been read, but no longer than that. From then on it may be written.
    fn wait_for_last_look(&self, file: FileId, at_most: Duration) {
        let is_open = |written: &Written| written.file == file && written.is_unchanged;
        let waited = self
            .used
            .wait_timeout_while(self.lock(), at_most, |in_place| in_place.written.iter().any(is_open));
        let (mut in_place, _) = waited.unwrap_or_else(PoisonError::into_inner);
        for late in in_place.written.iter_mut().filter(|written| is_open(written)) {
            late.is_unchanged = false;
        }
    }
}

impl InPlace {
    fn is_everywhere(&self, file: FileId) -> bool {
        self.attached.contains_key(&Place { file, process: None })
    }

    /// Removes the attachments that `is_meant` picks, and the leases on files that have no others. Their probes are still
    /// in place.
    fn remove(&mut self, is_meant: impl Fn(&Place) -> bool) -> Removed {
        let attachments =
            self.attached.extract_if(.., |place, _| is_meant(place)).map(|(_, removed)| removed);
        let attachments = attachments.collect();
        let files: HashSet<FileId> = self.attached.keys().map(|place| place.file).collect();
        let leases = self.leases.extract_if(|file, _| !files.contains(file)).map(|(_, lease)| lease);
        Removed { attachments, leases: leases.collect() }
    }
}

impl Place {
    /// Whether it is for this process alone.
    fn is_of(&self, pid: u32) -> bool {
        self.process.is_some_and(|process| process.get() == pid)
    }
}

/// What is to be taken off.
struct Removed {
    attachments: Vec<Attachment>,
    /// The leases, which are given back once the probes are off.
    leases: Vec<Lease>,
}

impl Removed {
    fn take_off(self, guard: Option<&Guard>) {
        probes::detach_all(self.attachments.into_iter());
        if let Some(guard) = guard {
            self.leases.into_iter().for_each(|lease| guard.give_back(lease));
        }
    }
}

/// Takes a lease on the file of a binary.
fn lease(
    guard: &Result<Arc<Guard>, Arc<io::Error>>,
    planned: &PlannedBinary,
) -> Result<Lease, Arc<io::Error>> {
    guard.as_ref().map_err(Arc::clone)?.take(planned.opened.file()).map_err(Arc::new)
}

/// Takes the probes of each file off that somebody is about to write, until the guard is gone. This has a thread of its
/// own, since a writer is to wait for nothing else.
fn listen(alarm: &Alarm, shared: &Shared, guard: &Weak<Guard>) {
    while let Some(lease) = alarm.next() {
        let begin = Instant::now();
        let (file, removed) = {
            let mut in_place = shared.lock();
            let file = in_place.leases.iter().find(|(_, held)| **held == lease).map(|(file, _)| *file);
            // If it is unknown, its probes are already being taken off, and then it is given back.
            let Some(file) = file else { continue };
            in_place.written.push(Written { file, is_unchanged: true });
            (file, in_place.remove(|place| place.file == file))
        };
        shared.wanted.notify_one();
        let Removed { attachments, leases } = removed;
        probes::detach_all_then(attachments, || {
            shared.wait_for_last_look(file, LAST_LOOK.saturating_sub(begin.elapsed()));
            if let Some(guard) = guard.upgrade() {
                leases.into_iter().for_each(|lease| guard.give_back(lease));
            }
        });
    }
}

/// How the kernel is to place the probe of a planned site; `None` where the site is not in the file.
pub fn probe(binary: &Binary, site: &ProbeSite) -> Option<Probe> {
    let layout = binary.layout();
    let register = site.register.into();
    let (program, constants) = match site.purpose {
        Purpose::Creation => {
            let constants = Constants {
                register,
                goid: layout.goid.into(),
                parent: layout.parent.unwrap_or(0).into(),
                gopc: layout.gopc.into(),
                startpc: layout.startpc.into(),
                m: layout.m.into(),
                curg: layout.curg.into(),
                bp: layout.sched_bp.into(),
                ..Constants::default()
            };
            (Program::Creation, constants)
        }
        // The rest is left out, so that one program serves the exits of all binaries.
        Purpose::Exit | Purpose::CoroutineExit => {
            (Program::Exit, Constants { register, ..Constants::default() })
        }
        Purpose::Test(point) => {
            let (point, is_named) = match point {
                plan::TestPoint::Main => (TestPoint::Main, false),
                plan::TestPoint::Test => (TestPoint::Test, true),
                plan::TestPoint::Benchmark => (TestPoint::Benchmark, true),
                plan::TestPoint::Fuzz => (TestPoint::Fuzz, true),
                plan::TestPoint::Example => (TestPoint::Example, false),
                plan::TestPoint::ExampleEnd => (TestPoint::ExampleEnd, false),
                plan::TestPoint::Fork => (TestPoint::Fork, false),
                plan::TestPoint::End => (TestPoint::End, false),
            };
            let name = if is_named { binary.test_name_offset().into() } else { 0 };
            let constants =
                Constants { goid: layout.goid.into(), point: point as u64, name, ..Constants::default() };
            (Program::Test, constants)
        }
    };
    Some(Probe { program, file_offset: binary.vaddr_to_file_offset(site.address)?, constants })
}
