//! Whom to trace: what was asked for against what runs on this host.

use std::{collections::HashSet, fmt, fs::File, io, path::PathBuf};

use regex::Regex;

use super::Selectors;
use super::binaries::Binaries;
use crate::host::process::is_process;
use crate::host::{FileId, Process, ProcessError};

/// Why a selector cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {path}: {source}")]
pub struct SelectorError {
    /// The path of `--exe`.
    path: PathBuf,
    /// What the system says.
    source: io::Error,
}

/// An executable or a library that was named.
#[derive(Debug)]
pub struct Executable {
    /// Its path without links.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
    id: FileId,
}

/// What a process is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What it executes: one that has just begun to execute it has loaded nothing else yet.
    Executable,
    /// Also the libraries that it has loaded.
    Libraries,
}

/// The processes that are wanted.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Processes that were named by id, in ascending order.
    pub pids: Vec<u32>,
    /// Executables and libraries that were named by path.
    pub executables: Vec<Executable>,
    names: Vec<Regex>,
    all: bool,
    family: Option<HashSet<u32>>,
}

impl Wanted {
    /// Opens what was asked for.
    ///
    /// # Errors
    /// A file that was named cannot be opened.
    pub fn resolve(selectors: &Selectors) -> Result<Wanted, SelectorError> {
        let executables = selectors.executables.iter().map(|path| {
            let fail = |source| SelectorError { path: path.clone(), source };
            // In this order: /proc/PID/exe leads to a file that its name, read as a path, may not lead to.
            let file = File::open(path).map_err(fail)?;
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let id = FileId::of(&file).map_err(fail)?;
            Ok(Executable { path: real, file, id })
        });
        let mut pids = selectors.pids.clone();
        pids.sort_unstable();
        pids.dedup();
        Ok(Wanted {
            pids,
            executables: executables.collect::<Result<_, _>>()?,
            names: selectors.names.clone(),
            all: selectors.all,
            family: None,
        })
    }

    /// A process and whatever descends from it, and nothing else.
    pub fn family_of(root: u32) -> Wanted {
        Wanted { family: Some(HashSet::from([root])), ..Wanted::default() }
    }

    /// Whether this is one family, so that other processes of the same binary are none of golife's business.
    pub fn is_family(&self) -> bool {
        self.family.is_some()
    }

    /// Whether a process was named by its id or belongs to the family: no need to look at it.
    pub fn names_pid(&self, pid: u32) -> bool {
        self.pids.binary_search(&pid).is_ok()
            || self.family.as_ref().is_some_and(|family| family.contains(&pid))
    }

    /// Whether a file was named by its path.
    pub fn names_file(&self, file: FileId) -> bool {
        self.executables.iter().any(|exe| exe.id == file)
    }

    /// Whether a selector other than a process id can match a process that appears later.
    pub fn can_grow(&self) -> bool {
        self.searches() || self.is_family()
    }

    /// Whether processes have to be looked at to know if they are wanted.
    pub fn searches(&self) -> bool {
        self.all || !self.executables.is_empty() || !self.names.is_empty()
    }

    /// Whether a process is wanted. An executable matches by identity, and by path: after a rolling update the path
    /// leads to another file. A container's paths are its own.
    pub fn matches(&self, process: &Process, file: FileId) -> bool {
        self.all
            || self.names_pid(process.pid)
            || self
                .executables
                .iter()
                .any(|exe| exe.id == file || (exe.path == process.path() && process.shares_mounts()))
            || self.names.iter().any(|name| name.is_match(process.name()) || name.is_match(&process.comm))
    }

    /// The file that a process executes, if the process is wanted and has, or may have, Go in it.
    ///
    /// # Errors
    /// The process cannot be looked at.
    pub fn find(
        &self,
        pid: u32,
        binaries: &mut Binaries,
        look: Look,
    ) -> Result<Option<FileId>, ProcessError> {
        // What it executes comes first: most of a host's processes are threads of the kernel, which execute nothing, and of
        // the others most are no Go programs. The rest of /proc costs more to look at.
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ProcessError::NoExecutable(pid),
            io::ErrorKind::PermissionDenied => ProcessError::Permission { pid },
            _ => ProcessError::Io { pid, source },
        };
        let file = File::open(format!("/proc/{pid}/exe")).map_err(fail)?;
        let id = FileId::of(&file).map_err(fail)?;
        let may_be_go = !binaries.is_no_go(&file);
        if may_be_go && self.matches(&Process::look(pid)?, id) {
            return Ok(Some(id));
        }
        if look == Look::Executable {
            return Ok(None);
        }
        let runtimes = binaries.runtimes_loaded(pid);
        let is_named = runtimes.iter().any(|file| self.names_file(*file));
        let is_wanted =
            is_named || !may_be_go && !runtimes.is_empty() && self.matches(&Process::look(pid)?, id);
        Ok(is_wanted.then_some(id))
    }

    /// A task was cloned: the children of a family belong to it.
    pub fn cloned(&mut self, parent: u32, child: u32) {
        if let Some(family) = &mut self.family
            && family.contains(&parent)
            && is_process(child)
        {
            family.insert(child);
        }
    }

    /// A process ended: who has its id next is no member of the family.
    pub fn ended(&mut self, pid: u32) {
        if let Some(family) = &mut self.family {
            family.remove(&pid);
        }
    }
}

/// As one would type it.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executables = self.executables.iter().map(|exe| exe.path.clone()).collect();
        let (pids, names) = (self.pids.clone(), self.names.clone());
        Selectors { pids, executables, names, all: self.all }.fmt(f)
    }
}
