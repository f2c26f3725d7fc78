//! How far a look into a process goes, what ends it early, and why there may be none.

use std::time::Duration;

use super::memory::MemoryError;

/// How far a walk goes. What a process says about itself is not to be trusted: a length can be anything.
#[derive(Clone, Copy, Debug)]
pub struct WalkLimits {
    /// Entries of the list that are looked at, live or dead.
    pub listed: u64,
    /// How long the walk takes.
    pub time: Duration,
}

impl Default for WalkLimits {
    fn default() -> WalkLimits {
        WalkLimits { listed: 16 << 20, time: Duration::from_secs(5) }
    }
}

/// How much of a scan is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What is in the `g`: state and wait reason.
    States,
    /// Their stacks, too.
    Stacks,
    /// And what they wait on.
    Objects,
}

/// What ended a scan before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It took too long.
    Time,
    /// The runtime lists more goroutines than are looked at.
    Listed,
}

/// Why the goroutines of a process could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The list could not be found in the executable.
    #[error(transparent)]
    Binary(#[from] crate::go::GoError),
    /// The memory could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}
