//! Why a process or a binary can't be looked into or traced.

use std::fs;
use std::path::PathBuf;

use crate::go::plan::PlanError;
use crate::go::{GoError, GoErrorKind};
use crate::host::ProcessError;
use crate::inspect::{MemoryError, Mismatch, WalkError};

/// Why a process or binary is not traced.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The binary is no Go program, or none that golife can read.
    #[error(transparent)]
    Go(#[from] GoError),
    /// The binary has no place for a probe.
    #[error("cannot place probes in {path}: {source}")]
    Plan {
        /// The binary.
        path: PathBuf,
        /// Why there is none.
        source: PlanError,
    },
    /// What is in the process's memory does not fit the layout of its binary.
    #[error("cannot trace process {pid}: {mismatch}")]
    Unverified {
        /// The process.
        pid: u32,
        /// What does not fit.
        mismatch: Mismatch,
    },
    /// The file cannot be looked at.
    #[error("cannot look at {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The memory of the process cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The goroutines of the process cannot be listed.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// Neither the executable of the process nor a library that it has loaded has Go code.
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
    /// The binary is not in the memory map of this process.
    #[error(
        "cannot trace process {0}: its executable is not in its memory map; it may just be starting or ending"
    )]
    NotMapped(u32),
}

impl TargetError {
    /// What there is to say of a process that executes no Go program; `None` where it is gone.
    pub fn no_go(pid: u32) -> Option<TargetError> {
        let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(GoError { path, kind: GoErrorKind::NotGo }.into())
    }

    /// Whether this process lacks a right, so that another user might succeed.
    pub fn is_permission(&self) -> bool {
        matches!(
            self,
            TargetError::Process(ProcessError::Permission { .. })
                | TargetError::Memory(MemoryError::Permission(_))
                | TargetError::Walk(WalkError::Memory(MemoryError::Permission(_)))
        )
    }

    /// Whether this is simply not a Go program, which is nothing to report when searching all processes.
    pub fn is_not_go(&self) -> bool {
        match self {
            TargetError::Go(error) => matches!(error.kind, GoErrorKind::NotElf | GoErrorKind::NotGo),
            TargetError::Process(ProcessError::NoExecutable(_) | ProcessError::NoSuchProcess(_)) => true,
            TargetError::NoGo { .. } => true,
            _ => false,
        }
    }
}
