//! A process with a Go runtime that golife looks into: what it is, what it executes, and where that is loaded. Looking
//! needs no probes, only the right to read the process's memory.

use std::{fmt, fs::File, path::PathBuf, sync::Arc, time::Duration};

use super::describe;
use super::error::TargetError;
use super::mapped_binary::MappedBinary;
use crate::go::Binary;
use crate::host::files::OpenFile;
use crate::host::{FileId, RunningProcess, sockets::Descriptor};
use crate::inspect::{
    self, Ancestor, Depth, Goroutine, InspectError, MemoryError, Polled, ProcessMemory, Snapshot, WalkError,
    WalkLimits,
};
use crate::report;

/// A process with a Go runtime.
#[derive(Clone)]
pub struct Subject {
    /// The process as it was when it was opened.
    pub process: RunningProcess,
    /// The executable or library whose goroutines are looked at, together with the plugins that the process had when
    /// they were last looked for.
    pub binary: Arc<Binary>,
    /// The load bias: what is added to the binary's link-time addresses to get those in the process.
    pub bias: u64,
    /// The identity of the binary's file.
    pub file: FileId,
    /// The binary's file, held open. It stays this binary, whatever its path leads to by now.
    pub opened: Arc<OpenFile>,
    /// The plugins that are part of [`Subject::binary`].
    pub plugins: Vec<MappedBinary>,
    /// Further runtimes in the process, each with goroutines of its own, which are not looked at.
    pub others: Vec<MappedBinary>,
    /// Its memory as a file, where that is kept beyond its end.
    pub kept: Option<Arc<File>>,
}

/// How much of a process's list of goroutines is looked at before its layout is trusted.
const SAMPLE: WalkLimits = WalkLimits { listed: 4096, time: Duration::from_millis(200) };

/// A second Go runtime in a process: its goroutines are not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRuntime {
    /// The process.
    pub pid: u32,
    /// The file with the runtime that is not looked at.
    pub other: PathBuf,
    /// The file with the runtime that is looked at.
    pub looked_at: PathBuf,
}

impl fmt::Display for OtherRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OtherRuntime { pid, other, looked_at } = self;
        write!(
            f,
            "process {pid} has another Go runtime, in {}, whose goroutines are not shown: they are not mixed with those of {}; \
             trace it alone: --exe",
            other.display(),
            looked_at.display(),
        )
    }
}

/// Whether what is read of a process can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// Its goroutines are where its binary says.
    Verified,
    /// There is nothing to compare with yet. The first records of its probes will tell.
    Open,
}

impl Subject {
    /// Checks the layout of the binary against the process's memory.
    ///
    /// # Errors
    /// The memory cannot be read, or what is there is no list of goroutines in this layout.
    pub fn verify(&self) -> Result<Belief, TargetError> {
        let (memory, pid) = (self.memory(), self.process.pid);
        match inspect::walk_verified(&memory, &self.binary, self.bias, SAMPLE) {
            Ok(_) => Ok(Belief::Verified),
            // The list of goroutines cannot be found in the binary, or it is still empty.
            Err(InspectError::Walk(WalkError::Binary(_)) | InspectError::NoneYet) => Ok(Belief::Open),
            Err(InspectError::Walk(WalkError::Memory(error))) => Err(error.into()),
            Err(InspectError::Walk(error @ WalkError::NoneLives { .. })) => Err(error.into()),
            Err(InspectError::Mismatch(mismatch)) => Err(TargetError::Unverified { pid, mismatch }),
        }
    }

    /// The runtimes in the process that are not looked at.
    pub fn other_runtimes(&self) -> impl Iterator<Item = OtherRuntime> + '_ {
        self.others.iter().map(|other| OtherRuntime {
            pid: self.process.pid,
            other: other.binary.path().to_path_buf(),
            looked_at: self.binary.path().to_path_buf(),
        })
    }

    /// The goroutines that the process has now, as far as they can be read. Takes a second or two for a million.
    ///
    /// # Errors
    /// The list of goroutines was not found, or the memory cannot be read.
    pub fn scan(&self, limits: WalkLimits, depth: Depth) -> Result<Snapshot, WalkError> {
        inspect::scan(&self.memory(), &self.binary, self.bias, limits, depth)
    }

    /// Does what [`Subject::scan`] does, but looks up no names: for who scans often.
    ///
    /// # Errors
    /// The same as those of [`Subject::scan`].
    pub fn scan_unnamed(&self, limits: WalkLimits, depth: Depth) -> Result<Snapshot, WalkError> {
        inspect::scan_unnamed(&self.memory(), &self.binary, self.bias, limits, depth)
    }

    /// What the runtime has kept of a goroutine's creators, the nearest first. Mostly nothing: see [`Ancestor`].
    pub fn ancestors(&self, goroutine: &Goroutine) -> Vec<Ancestor> {
        let (layout, at) = (self.binary.layout(), goroutine.address);
        inspect::ancestors::ancestors(&self.memory(), layout, self.bias, at, goroutine.goid)
            .unwrap_or_default()
    }

    /// What the file descriptors are that goroutines wait for, in the same order; none for those that it is not known of.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn descriptors(&self, polled: &[Polled]) -> Result<Vec<Option<Descriptor>>, MemoryError> {
        inspect::io::resolve(&self.memory(), self.binary.layout(), polled)
    }

    /// What a report says of the process itself.
    pub fn describe(&self) -> report::Process {
        describe::process(&self.process, &self.binary)
    }

    fn memory(&self) -> ProcessMemory {
        ProcessMemory::new(self.process.pid as i32).kept(self.kept.clone())
    }
}
