//! How an engine is to trace: plain values, whoever makes them, a command line, a configuration file or a program.

use std::path::PathBuf;
use std::time::Duration;

use crate::probes::DEFAULT_RING_BYTES;
use crate::targets::Selectors;

/// How to trace.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom.
    pub targets: Targets,
    /// How often live goroutines are sampled.
    pub interval: Duration,
    /// For how long the caller means to trace, which paces the looks into memory; `None` where that is open.
    pub window: Option<Duration>,
    /// Reports cover the last one to two spans of this length, for engines that run for months; `None`: all since the start.
    pub epoch: Option<Duration>,
    /// What may be spent.
    pub spending: Spending,
    /// Whether to measure what a hit costs a target.
    pub calibration: Calibration,
}

/// Whom to trace.
#[derive(Clone, Debug)]
pub enum Targets {
    /// What runs already, and what others start.
    Selectors(Selectors),
    /// A process that waits to execute a program for the first time, and whatever descends from it.
    Family {
        /// The process.
        root: u32,
        /// The program that it will execute.
        program: PathBuf,
    },
}

/// What may be spent on tracing.
#[derive(Clone, Copy, Debug)]
pub struct Spending {
    /// Size of the kernel's ring buffer, rounded up to a power of two.
    pub ring_bytes: u32,
    /// Creation sites of all processes that are kept apart; the rest of each process shares a row.
    pub max_sites: usize,
    /// Whether each creation is recorded with its creator's stack.
    pub creation_stacks: bool,
}

impl Default for Spending {
    fn default() -> Spending {
        Spending { ring_bytes: DEFAULT_RING_BYTES, max_sites: 10_000, creation_stacks: false }
    }
}

/// Whether to measure what a hit costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// With the built-in target: this program is started once more, with a hidden command. For golife itself alone.
    SelfTest,
    /// Reports do not say what tracing costs the targets.
    None,
}

impl Settings {
    /// For these targets, with a sample each second and everything else as it is by default.
    pub fn new(targets: Targets) -> Settings {
        Settings {
            targets,
            interval: Duration::from_secs(1),
            window: None,
            epoch: None,
            spending: Spending::default(),
            calibration: Calibration::None,
        }
    }
}
