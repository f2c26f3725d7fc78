//! Which processes are wanted: compares what was asked for with what runs on this host.

use std::{collections::HashSet, fmt, fs::File, io, path::PathBuf};

use regex::Regex;

use super::Selectors;
use super::binaries::Binaries;
use crate::host::process::is_process;
use crate::host::{FileId, ProcessError, RunningProcess};

/// Why a selector cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {path}: {source}")]
pub struct SelectorError {
    /// The path that was given.
    path: PathBuf,
    /// The error of the operating system.
    source: io::Error,
}

/// An executable or a library that was named.
#[derive(Debug)]
pub struct Executable {
    /// Its path, with symbolic links followed.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
    id: FileId,
}

/// How much of a process is looked at to see whether it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Only what it executes. That is enough right after an exec, when it has loaded nothing else yet.
    Executable,
    /// What it executes, and the libraries that it has loaded.
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
    /// Processes of the family that execute something which is not to be traced.
    left_out: HashSet<u32>,
}

impl Wanted {
    /// Opens what was asked for.
    ///
    /// # Errors
    /// A file that was named cannot be opened.
    pub fn resolve(selectors: &Selectors) -> Result<Wanted, SelectorError> {
        let executables = selectors.executables.iter().map(|path| {
            let fail = |source| SelectorError { path: path.clone(), source };
            // The path is opened as it is, before its links are followed: /proc/PID/exe leads to a file to which the
            // target of the link, read as a path, may not lead.
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
            left_out: HashSet::new(),
        })
    }

    /// Wants a process and all its descendants, and nothing else.
    pub fn family_of(root: u32) -> Wanted {
        Wanted { family: Some(HashSet::from([root])), ..Wanted::default() }
    }

    /// Whether one process with its descendants is wanted, so that other processes of the same binary are to be left
    /// out.
    pub fn is_family(&self) -> bool {
        self.family.is_some()
    }

    /// Whether a process was named by its id or belongs to the family. It need not be looked at for that.
    pub fn names_pid(&self, pid: u32) -> bool {
        self.pids.binary_search(&pid).is_ok()
            || self.family.as_ref().is_some_and(|family| family.contains(&pid))
    }

    /// Takes note of whether a process of the family executes something that is not to be traced. Its children may be all
    /// the same. Returns whether it executed nothing of the kind before.
    pub fn leave_out(&mut self, pid: u32, is_left_out: bool) -> bool {
        if is_left_out { self.left_out.insert(pid) } else { !self.left_out.remove(&pid) }
    }

    /// Whether a process executes something that is not to be traced, though it belongs to the family.
    pub fn leaves_out(&self, pid: u32) -> bool {
        self.left_out.contains(&pid)
    }

    /// Whether a file was named by its path.
    pub fn names_file(&self, file: FileId) -> bool {
        self.executables.iter().any(|exe| exe.id == file)
    }

    /// Whether a process that appears later can be wanted. It cannot if all processes were named by their ids.
    pub fn can_grow(&self) -> bool {
        self.searches() || self.is_family()
    }

    /// Whether processes have to be looked at to know if they are wanted.
    pub fn searches(&self) -> bool {
        self.all || !self.executables.is_empty() || !self.names.is_empty()
    }

    /// Whether a process is wanted. An executable matches by identity, and also by path, since the path leads to
    /// another file after an update. The path counts only if the process has the same mounts as golife: a container's
    /// paths are its own.
    pub fn matches(&self, process: &RunningProcess, file: FileId) -> bool {
        self.all
            || self.names_pid(process.pid)
            || self
                .executables
                .iter()
                .any(|exe| exe.id == file || (exe.path == process.path() && process.shares_mounts()))
            || self.names.iter().any(|name| {
                // A program in memory has no file name worth the name, but was called by one.
                [process.name(), &process.comm, &process.called].into_iter().any(|known| name.is_match(known))
            })
    }

    /// The file that a process executes, if the process is wanted and has, or may have, Go in it.
    ///
    /// # Errors
    /// The process cannot be looked at.
    pub fn find(
        &self,
        pid: u32,
        binaries: &mut Binaries,
        search: Search,
    ) -> Result<Option<FileId>, ProcessError> {
        // What it executes is looked at first, since the rest of /proc costs more: most of a host's processes are
        // threads of the kernel, which execute nothing, and most of the others are no Go programs.
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ProcessError::NoExecutable(pid),
            io::ErrorKind::PermissionDenied => ProcessError::Permission { pid },
            _ => ProcessError::Io { pid, source },
        };
        let file = File::open(format!("/proc/{pid}/exe")).map_err(fail)?;
        let id = FileId::of(&file).map_err(fail)?;
        let may_be_go = !binaries.is_no_go(&file);
        if may_be_go && self.matches(&RunningProcess::look(pid)?, id) {
            return Ok(Some(id));
        }
        if search == Search::Executable {
            return Ok(None);
        }
        let runtimes = binaries.runtimes_loaded(pid);
        let is_named = runtimes.iter().any(|file| self.names_file(*file));
        let is_wanted =
            is_named || !may_be_go && !runtimes.is_empty() && self.matches(&RunningProcess::look(pid)?, id);
        Ok(is_wanted.then_some(id))
    }

    /// Takes note that a task was cloned. Children of the family's processes belong to the family, threads do not
    /// count.
    pub fn cloned(&mut self, parent: u32, child: u32) {
        if let Some(family) = &mut self.family
            && family.contains(&parent)
            && is_process(child)
        {
            family.insert(child);
        }
    }

    /// Takes note that a process ended, so that the next process with its id is not taken for a member of the family.
    pub fn ended(&mut self, pid: u32) {
        if let Some(family) = &mut self.family {
            family.remove(&pid);
        }
        self.left_out.remove(&pid);
    }
}

/// Writes what is wanted as one would type it.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executables = self.executables.iter().map(|exe| exe.path.clone()).collect();
        let (pids, names) = (self.pids.clone(), self.names.clone());
        Selectors { pids, executables, names, all: self.all }.fmt(f)
    }
}
