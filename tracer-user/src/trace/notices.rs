//! What an engine has to say beside its reports. A command prints it; an agent may count it.

use std::fmt;
use std::path::PathBuf;

use crate::go::BuildInfo;
use crate::host::capabilities::ptrace_remedy;
use crate::inspect::Mismatch;
use crate::look::MOST_TIME;
use crate::targets::{OtherRuntime, Remark};

/// Something that the owner of an engine should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another engine traces on this host.
    AnotherTracer,
    /// Processes could not be looked at, for want of a capability.
    Denied {
        /// How many processes.
        processes: u64,
    },
    /// There are no probes, so that looks have to do.
    NoProbes {
        /// Why there are none, and what the user can do about it.
        why: String,
    },
    /// A process is stopped, so that nothing happens in it.
    Stopped {
        /// The process.
        pid: u32,
    },
    /// Something about a binary.
    Binary(Remark),
    /// A process has a Go runtime that is not looked at.
    OtherRuntime(OtherRuntime),
    /// A process of the family executes a Go program that had no probes yet.
    Joined {
        /// The program.
        exe: PathBuf,
        /// Its Go version and module, as [`build_text`] writes them.
        build: String,
    },
    /// A process has loaded a plugin while it was traced.
    PluginLoaded {
        /// The process.
        pid: u32,
    },
    /// A plugin cannot be traced.
    PluginUntraced {
        /// The process.
        pid: u32,
        /// Why it cannot be traced.
        why: String,
    },
    /// A process ends goroutines that nobody has seen being created.
    MissedCreations {
        /// The process.
        pid: u32,
        /// How many of its goroutines ended so.
        ended: u64,
    },
    /// A binary is not traced any more, because its records cannot be right.
    NoLongerTraced(Mismatch),
    /// A binary's probes could not be put in place for every process, since nobody would say when its file is written.
    NoLease {
        /// The binary.
        path: PathBuf,
        /// Why there is no lease on it.
        why: String,
    },
    /// The programs that descendants execute cannot be seen before they run.
    NoGate {
        /// Why not.
        why: String,
    },
    /// The memory of processes that end cannot be kept until it was looked at.
    NoHold {
        /// Why not.
        why: String,
    },
    /// Somebody has written a binary, so that its probes were taken off.
    Overwritten {
        /// The binary.
        path: PathBuf,
        /// How many processes ran it, which are not traced any more.
        processes: usize,
    },
    /// Not all goroutines of a process could be looked at in time.
    TooManyGoroutines {
        /// The process.
        pid: u32,
        /// How many of its goroutines were looked at.
        found: u64,
        /// How many goroutines its runtime keeps, dead ones included.
        listed: u64,
    },
    /// The time of a round of looks was over before all processes were looked at.
    NotReached {
        /// How many were not looked at, or only in part.
        processes: usize,
    },
    /// Goroutines from before tracing could not be read. The text says why.
    NotAdopted(String),
    /// What goroutines wait for could not be read. The text says why.
    NotLooked(String),
    /// Not all processes could be looked at in time.
    LooksTooSlow,
    /// What a probe has logged when it could not do its work.
    Probe(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::AnotherTracer => f.write_str(
                "another golife is tracing on this host: what both trace pays for each probe twice",
            ),
            Notice::Denied { processes } => {
                let them = if *processes == 1 { "process" } else { "processes" };
                write!(f, "cannot look at {processes} {them}: permission denied; {}", ptrace_remedy())
            }
            Notice::NoGate { why } => write!(
                f,
                "test binaries cannot wait for their probes ({why}): what they create in their first milliseconds is counted as \
                 living before, not as created"
            ),
            Notice::NoHold { why } => write!(
                f,
                "the memory of processes that end cannot be kept for a last look ({why}): what is said of their goroutines is \
                 up to 0.3 s old, and missing where they end sooner"
            ),
            Notice::NoProbes { why } => write!(
                f,
                "{why}. Without probes, golife looks at the memory of the processes from time to time: what becomes more is watch \
                 then and what waits for nothing is proven, but nothing is suspect, since who comes and goes is not known; --mode \
                 traced ends here instead"
            ),
            Notice::Stopped { pid } => write!(
                f,
                "process {pid} is stopped (state T): none of its goroutines runs before it is continued: kill -CONT {pid}"
            ),
            Notice::Binary(remark) => remark.fmt(f),
            Notice::OtherRuntime(other) => other.fmt(f),
            Notice::Joined { exe, build } => write!(f, "tracing {}, too{build}", exe.display()),
            Notice::PluginLoaded { pid } => write!(
                f,
                "process {pid} has loaded another plugin since: those of its goroutines that began before now are not counted \
                 as created; to miss none, trace it beforehand: --exe PLUGIN"
            ),
            Notice::PluginUntraced { pid, why } => {
                write!(f, "a plugin of process {pid} is not traced: {why}")
            }
            Notice::MissedCreations { pid, ended } => write!(
                f,
                "process {pid}: {ended} goroutines ended whose creation was not seen, {}",
                crate::assemble::MISSED
            ),
            Notice::NoLongerTraced(mismatch) => write!(f, "no longer traced: {mismatch}"),
            Notice::NoLease { path, why } => write!(
                f,
                "{}: no lease on the file ({why}), so each process gets its probes for itself once it runs: what it creates \
                 in its first milliseconds is counted as living before, not as created",
                path.display()
            ),
            Notice::Overwritten { path, processes } => {
                write!(f, "{} is being written, so its probes were taken off; ", path.display())?;
                match processes {
                    0 => f.write_str("what is started from it is traced anew"),
                    1 => f.write_str("one process that runs it is not traced any more"),
                    more => write!(f, "{more} processes that run it are not traced any more"),
                }
            }
            Notice::TooManyGoroutines { pid, found, listed } => write!(
                f,
                "process {pid} has too many goroutines to look at all of them in {} s: {found} of the {listed} that its \
                 runtime keeps",
                MOST_TIME.as_secs()
            ),
            Notice::NotReached { processes } => write!(
                f,
                "there was no time to look at all processes: what goroutines of {processes} of them wait for is not shown, or \
                 is that of an earlier look; trace fewer processes at once"
            ),
            Notice::NotAdopted(why) => write!(f, "goroutines from before tracing are not shown: {why}"),
            Notice::NotLooked(why) => write!(f, "what goroutines wait for is not shown: {why}"),
            Notice::LooksTooSlow => f.write_str(
                "looking at the processes takes too long: what goroutines wait for is not shown for all",
            ),
            Notice::Probe(line) => f.write_str(line),
        }
    }
}

/// The Go version, module and module version of a binary in parentheses: ` (go1.26.1 example.com/server v1.2.3)`.
pub fn build_text(info: &BuildInfo) -> String {
    let parts = [Some(&info.version_text), info.module.as_ref(), info.module_version.as_ref()];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    format!(" ({})", parts.join(" "))
}
