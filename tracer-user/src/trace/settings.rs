//! How an engine is to trace, as plain values: a command line, a configuration file or a program may make them.

use std::path::PathBuf;
use std::time::Duration;

use crate::targets::{Children, Selectors};
use crate::verdict::cause::Patterns;

/// How to trace.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which processes to trace.
    pub targets: Targets,
    /// How to see what they do.
    pub way: Way,
    /// How often live goroutines are sampled.
    pub interval: Duration,
    /// For how long the caller means to trace, which paces the looks into memory; `None` where that is open.
    pub window: Option<Duration>,
    /// Reports cover the last one to two spans of this length, which is for engines that run for months. If it is
    /// `None`, they cover everything since the start.
    pub epoch: Option<Duration>,
    /// The user's own causes and remedies, which come before those that golife knows.
    pub patterns: Patterns,
    /// How long a goroutine may outlive the test that led to it before it has leaked.
    pub grace: Duration,
    /// How much memory may be spent.
    pub spending: Spending,
    /// Whether to measure what a hit costs a target.
    pub calibration: Calibration,
}

/// Which processes to trace.
#[derive(Clone, Debug)]
pub enum Targets {
    /// Processes that are selected, whether they run already or start later.
    Selectors(Selectors),
    /// A process that waits to execute a program for the first time, and whatever descends from it.
    Family {
        /// The id of the process.
        root: u32,
        /// The program that it will execute.
        program: PathBuf,
        /// Whether the memory of those that end is kept until it was looked at: see [`crate::host::keeper`].
        hold: bool,
        /// Which of its descendants are traced.
        children: Children,
        /// The name of the gate at which descendants wait until their files were seen: see [`crate::host::gate`]. `None` if
        /// there is none.
        gate: Option<String>,
    },
}

/// How an [`super::Engine`] sees what a family of processes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By probes, or by looks where the kernel refuses those.
    Auto,
    /// By probes.
    Traced,
    /// By looks into their memory.
    Scanned,
}

/// What may be spent on tracing.
#[derive(Clone, Copy, Debug)]
pub struct Spending {
    /// Memory in bytes for records that were not read yet, which may grow to five times that; `None` for what suits the number
    /// of CPUs.
    pub ring_bytes: Option<u32>,
    /// Most creation sites that are kept apart, of all processes together. Further sites of a process share one row.
    pub max_sites: usize,
    /// Whether each creation is recorded with its creator's stack.
    pub creation_stacks: bool,
}

impl Default for Spending {
    fn default() -> Spending {
        Spending { ring_bytes: None, max_sites: 10_000, creation_stacks: false }
    }
}

/// Whether to measure what a hit costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// Measure it with the built-in target. For that, this program is started once more with a hidden command, so it
    /// has to be golife itself.
    SelfTest,
    /// Do not measure it. Reports do not say what tracing costs the targets.
    None,
}

impl Settings {
    /// Settings for these targets, by probes, with a sample each second and the defaults for everything else.
    pub fn new(targets: Targets) -> Settings {
        Settings {
            targets,
            way: Way::Traced,
            interval: Duration::from_secs(1),
            window: None,
            epoch: None,
            patterns: Patterns::default(),
            grace: Duration::from_secs(1),
            spending: Spending::default(),
            calibration: Calibration::None,
        }
    }
}
