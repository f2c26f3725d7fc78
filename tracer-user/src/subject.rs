//! A Go process that golife looks into: what it is, what it executes, where that is loaded. Needs no probes, only the right
//! to read its memory.

use std::{sync::Arc, time::Duration};

use crate::go::Binary;
use crate::host::process::Process;
use crate::inspect::{Depth, InspectError, Limits, ProcessMemory, Snapshot, WalkError};
use crate::library::{Code, Found};
use crate::session::Error;
use crate::{inspect, report};

/// A Go process whose goroutines can be read.
#[derive(Clone)]
pub struct Subject {
    /// As it was when it was opened.
    pub process: Process,
    /// The Go code that it executes, with the plugins that it had when they were last looked for.
    pub binary: Arc<Binary>,
    /// What was added to the binary's addresses when it was mapped.
    pub bias: u64,
    /// Further Go runtimes in the process, whose goroutines are not looked at.
    pub others: Vec<Code>,
    /// Whether the binary's layout was checked against the process's memory.
    pub verified: bool,
}

impl Subject {
    /// Checks that the goroutines are where the binary's version says.
    pub fn new(found: Found) -> Result<Subject, Error> {
        let Found { process, code: Code { binary, bias, .. }, others, .. } = found;
        let verified = verify(process.pid, &binary, bias)?;
        Ok(Subject { process, binary, bias, others, verified })
    }

    /// What is to be said of the runtimes that are not looked at.
    pub fn about_others(&self) -> impl Iterator<Item = String> + '_ {
        self.others.iter().map(|other| {
            format!(
                "process {} has another Go runtime, in {}, whose goroutines are not shown: they are not mixed with those of {}; \
                 trace it alone: --exe",
                self.process.pid,
                other.binary.path().display(),
                self.binary.path().display(),
            )
        })
    }

    /// The goroutines that the process has now, as far as they can be read. Takes a second or two for a million.
    pub fn scan(&self, limits: Limits, depth: Depth) -> Result<Snapshot, WalkError> {
        let memory = ProcessMemory::new(self.process.pid as i32);
        inspect::scan(&memory, &self.binary, self.bias, limits, depth)
    }

    /// What a report says of the process itself.
    pub fn describe(&self) -> report::Process {
        describe(&self.process, &self.binary)
    }
}

/// What a report says of a process and its binary. A process that ended before anybody looked has no start and no
/// command.
pub fn describe(process: &Process, binary: &Binary) -> report::Process {
    let info = binary.build_info();
    let was_seen = process.start_ticks != 0;
    report::Process {
        pid: process.pid,
        start_time: was_seen.then(|| humantime::format_rfc3339_millis(process.start_time).to_string()),
        exe: Some(process.exe.to_string_lossy().into_owned()),
        library: (binary.path() != process.exe && binary.is_library())
            .then(|| binary.path().to_string_lossy().into_owned()),
        command: was_seen.then(|| process.command.clone()),
        build_id: binary.build_id().map(str::to_owned),
        go: Some(report::Go {
            version: Some(info.version_text.clone()),
            module: info.module.clone(),
            module_version: info.module_version.clone(),
            revision: info.setting("vcs.revision").map(str::to_owned),
            stripped: Some(binary.is_stripped()),
        }),
        container: process.container.clone(),
        ..report::Process::default()
    }
}

/// How much of a process's list of goroutines is looked at before its layout is trusted.
const SAMPLE: Limits = Limits { listed: 4096, time: Duration::from_millis(200) };

/// Checks the layout against the process's memory. Returns false where the list of goroutines cannot be found in the
/// binary: the first events are checked instead.
fn verify(pid: u32, binary: &Binary, bias: u64) -> Result<bool, Error> {
    let memory = ProcessMemory::new(pid as i32);
    match inspect::walk_verified(&memory, binary, bias, SAMPLE) {
        Ok(_) => Ok(true),
        Err(InspectError::Walk(WalkError::Binary(_))) => Ok(false),
        Err(InspectError::Walk(WalkError::Memory(error))) => Err(error.into()),
        Err(InspectError::Mismatch(mismatch)) => match inspect::walk(&memory, binary, bias, SAMPLE) {
            // Right after an exec the runtime has made no goroutine yet: the first events are checked instead.
            Ok(goroutines) if goroutines.live.is_empty() => Ok(false),
            _ => Err(Error::Unverified { pid, mismatch }),
        },
    }
}
