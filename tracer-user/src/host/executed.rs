//! What a process executes, as it was right after its exec. It is taken down for processes that may have ended by the time
//! that somebody wants to know.

use std::fs::File;

use super::mapped::{self, Mapping};
use super::{FileId, ProcessError, RunningProcess};

/// A process and what it executes.
pub struct Executed {
    /// The process.
    pub process: RunningProcess,
    /// Its executable, held open.
    pub file: File,
    /// The mappings of its executable, in ascending order of address.
    pub mappings: Vec<Mapping>,
}

impl Executed {
    /// Takes down what a process executes now.
    ///
    /// # Errors
    /// Why the process cannot be looked at: see [`ProcessError`].
    pub fn look(pid: u32) -> Result<Executed, ProcessError> {
        let (process, file) = RunningProcess::open(pid)?;
        let id = FileId::of(&file).map_err(|error| ProcessError::from_io(pid, error))?;
        let mappings = mapped::executable(pid, id)?;
        Ok(Executed { process, file, mappings })
    }
}
