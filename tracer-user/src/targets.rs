//! Whom to trace: the user's selectors against what runs on this host.

use std::{collections::HashSet, fs::File, io, path::PathBuf};

use crate::cli;
use crate::host::files::FileId;
use crate::host::process::Process;

/// Why a selector cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {path}: {source}")]
pub struct Error {
    /// The path of `--exe`.
    path: PathBuf,
    /// What the system says.
    source: io::Error,
}

/// An executable that was named.
#[derive(Debug)]
pub struct Executable {
    /// Its path without links.
    pub path: PathBuf,
    /// Itself.
    pub file: File,
    id: FileId,
}

/// The selectors as they were typed.
impl std::fmt::Display for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pids = self.pids.iter().map(|pid| format!("--pid {pid}"));
        let executables = self.executables.iter().map(|exe| format!("--exe {}", exe.path.display()));
        let names = self.names.iter().map(|name| format!("--name {name}"));
        let all = self.all.then(|| "--all".to_owned());
        f.write_str(&pids.chain(executables).chain(names).chain(all).collect::<Vec<_>>().join(" "))
    }
}

/// The selectors, resolved.
#[derive(Debug, Default)]
pub struct Targets {
    /// Processes that were named by id.
    pub pids: Vec<u32>,
    /// Executables that were named by path.
    pub executables: Vec<Executable>,
    names: Vec<regex::Regex>,
    all: bool,
    /// Processes of `golife run`: the child and its descendants.
    family: HashSet<u32>,
}

impl Targets {
    /// Opens what the user named.
    pub fn resolve(selectors: &cli::Targets) -> Result<Targets, Error> {
        let executables = selectors.exe.iter().map(|path| {
            let fail = |source| Error { path: path.clone(), source };
            // In this order: /proc/PID/exe leads to a file that its name, read as a path, may not lead to.
            let file = File::open(path).map_err(fail)?;
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let id = FileId::of(&file).map_err(fail)?;
            Ok(Executable { path: real, file, id })
        });
        let mut pids = selectors.pid.clone();
        pids.sort_unstable();
        pids.dedup();
        Ok(Targets {
            pids,
            executables: executables.collect::<Result<_, _>>()?,
            names: selectors.name.clone(),
            all: selectors.all,
            family: HashSet::new(),
        })
    }

    /// The targets of `golife run`: a child and whatever descends from it.
    pub fn family_of(child: u32) -> Targets {
        Targets { family: HashSet::from([child]), ..Targets::default() }
    }

    /// Whether these targets are one family, so that other processes of the same binary are none of golife's business.
    pub fn is_family(&self) -> bool {
        !self.family.is_empty()
    }

    /// Whether a process was named by its id or belongs to the family: no need to look at it.
    pub fn names_pid(&self, pid: u32) -> bool {
        self.pids.binary_search(&pid).is_ok() || self.family.contains(&pid)
    }

    /// Whether a file was named by its path.
    pub fn names_file(&self, file: FileId) -> bool {
        self.executables.iter().any(|exe| exe.id == file)
    }

    /// Whether a selector other than a process id can match a process that appears later.
    pub fn can_grow(&self) -> bool {
        self.all || !self.executables.is_empty() || !self.names.is_empty() || self.is_family()
    }

    /// Whether processes have to be looked at to know if they are wanted.
    pub fn searches(&self) -> bool {
        self.all || !self.executables.is_empty() || !self.names.is_empty()
    }

    /// Whether a process is wanted. An executable matches by identity, and by path: after a rolling update the path
    /// leads to another file. A container's paths are its own.
    pub fn match_process(&self, process: &Process, file: FileId) -> bool {
        self.all
            || self.names_pid(process.pid)
            || self
                .executables
                .iter()
                .any(|exe| exe.id == file || (exe.path == process.path() && process.shares_mounts()))
            || self.names.iter().any(|name| name.is_match(process.name()) || name.is_match(&process.comm))
    }

    /// A task was cloned: the children of a family belong to it.
    pub fn cloned(&mut self, parent: u32, child: u32) {
        if self.family.contains(&parent) && crate::host::process::is_process(child) {
            self.family.insert(child);
        }
    }
}
