//! The probes that are in place: on which binaries, and for which processes.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::thread::JoinHandle;

use tracer_ebpf::{Cookie, StackCode};

use crate::go::Binary;
use crate::go::plan::{ProbeSite, Purpose};
use crate::host::FileId;
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
    attached: BTreeMap<Place, Attachment>,
    /// Threads that take probes off, for which the kernel needs 50 to 100 ms.
    leaving: Vec<JoinHandle<()>>,
}

impl Attachments {
    /// No probe is in place yet.
    pub fn new(probes: Probes) -> Attachments {
        Attachments { probes, attached: BTreeMap::new(), leaving: Vec::new() }
    }

    /// Puts the probes of a binary in place, unless they already are.
    ///
    /// # Errors
    /// The kernel refuses one of them; then none is in place.
    pub fn attach(&mut self, planned: &PlannedBinary, scope: Scope) -> Result<(), ProbeError> {
        let process = match scope {
            Scope::Everyone => None,
            Scope::Process(pid) => Some(pid),
        };
        let place = Place { file: planned.file, process };
        if self.is_everywhere(planned.file) || self.attached.contains_key(&place) {
            return Ok(());
        }
        let probes: Vec<Probe> =
            planned.sites.iter().filter_map(|site| probe(&planned.binary, site)).collect();
        let attachment = self.probes.attach(&planned.opened, planned.binary.path(), &probes, scope)?;
        self.attached.insert(place, attachment);
        Ok(())
    }

    /// Whether a binary's probes are in place for every process.
    pub fn is_everywhere(&self, file: FileId) -> bool {
        self.attached.contains_key(&Place { file, process: None })
    }

    /// The binaries that have probes, each once.
    pub fn files(&self) -> Vec<FileId> {
        let mut files: Vec<FileId> = self.attached.keys().map(|place| place.file).collect();
        files.dedup();
        files
    }

    /// Takes the probes of a binary off.
    pub fn detach(&mut self, file: FileId) {
        self.attached.retain(|place, _| place.file != file);
    }

    /// Takes the probes off that nobody needs any more, on a thread of its own: those on files that are not among
    /// `files`, and those for a process that is gone.
    pub fn keep(&mut self, files: &HashSet<FileId>, is_alive: impl Fn(u32) -> bool) {
        let is_needed = |place: &Place| {
            files.contains(&place.file) && place.process.is_none_or(|process| is_alive(process.get()))
        };
        let unneeded: Vec<Place> = self.attached.keys().filter(|place| !is_needed(place)).copied().collect();
        let unneeded: Vec<Attachment> =
            unneeded.iter().filter_map(|place| self.attached.remove(place)).collect();
        self.leaving.retain(|thread| !thread.is_finished());
        if !unneeded.is_empty() {
            self.leaving.push(std::thread::spawn(move || probes::detach_all(unneeded.into_iter())));
        }
    }

    /// Takes all probes off. Waits for the kernel once, not once for each probe.
    pub fn detach_all(&mut self) {
        probes::detach_all(std::mem::take(&mut self.attached).into_values());
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

/// How the kernel is to place the probe of a planned site; `None` where the site is not in the file.
pub fn probe(binary: &Binary, site: &ProbeSite) -> Option<Probe> {
    let layout = binary.layout();
    let cookie = match site.purpose {
        Purpose::Creation => Cookie {
            ends: false,
            register: site.register,
            goid: layout.goid,
            parent: layout.parent.unwrap_or(0),
            gopc: layout.gopc,
            startpc: layout.startpc,
            m: layout.m,
            curg: layout.curg,
            bp: layout.sched_bp,
        },
        // This cookie is the same for all binaries, since kernels without attach cookies have room for few different
        // ones.
        Purpose::Exit | Purpose::CoroutineExit => {
            Cookie { ends: true, register: site.register, ..Cookie::default() }
        }
    };
    Some(Probe {
        program: Program::Goroutine,
        file_offset: binary.vaddr_to_file_offset(site.address)?,
        cookie,
    })
}
