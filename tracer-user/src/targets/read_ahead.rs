//! Reads a binary beside the engine, which has processes to follow meanwhile.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::go::plan::{Kernel, PlanError, ProbeSite};
use crate::go::probe_sites::{self, Placement};
use crate::go::{Binary, GoError};
use crate::host::files::OpenFile;
use crate::host::kernel;

/// A file that was read, for [`super::Binaries::take_in`].
pub struct ReadAhead {
    pub(super) opened: OpenFile,
    /// The binary, and where its probes go.
    pub(super) binary: Result<(Binary, Result<Vec<ProbeSite>, PlanError>), GoError>,
}

impl ReadAhead {
    /// Reads a binary and plans its probes. That takes some milliseconds, and more for large files.
    ///
    /// # Errors
    /// The system does not tell the file's status.
    pub fn read(file: File, path: &Path) -> io::Result<ReadAhead> {
        let opened = OpenFile::new(file)?;
        let binary = Binary::open(opened.file(), path).map(|binary| {
            let sites = probe_sites::of(&binary, running_kernel(), Placement::Cheapest);
            (binary, sites)
        });
        Ok(ReadAhead { opened, binary })
    }
}

/// How the running kernel handles probes, which its version tells.
pub fn running_kernel() -> Kernel {
    let (major, minor) = kernel::running();
    Kernel::from_version(major, minor)
}
