//! Why a process or a binary can't be looked into or traced.

use std::path::PathBuf;

use crate::go::plan::PlanError;
use crate::go::{GoError, GoErrorKind};
use crate::host::ProcessError;
use crate::inspect::{MemoryError, Mismatch, WalkError};

/// Why a process or binary is not traced.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The binary, as Go made it.
    #[error(transparent)]
    Go(#[from] GoError),
    /// No place for a probe.
    #[error("cannot place probes in {path}: {source}")]
    Plan {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: PlanError,
    },
    /// The process does not look as its binary says.
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
        /// What the system says.
        source: std::io::Error,
    },
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Its goroutines cannot be listed.
    #[error(transparent)]
    Walk(#[from] WalkError),
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

impl TargetError {
    /// Whether another user could do it.
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
