//! How far a look into a process goes, what may end it early, and why it can fail.

use std::time::Duration;

use super::memory::MemoryError;

/// How far a walk goes. There are limits because what a process says about itself cannot be trusted: a length can be
/// any number.
#[derive(Clone, Copy, Debug)]
pub struct WalkLimits {
    /// Most entries of the list that are looked at, dead goroutines included.
    pub listed: u64,
    /// Time after which the walk ends.
    pub time: Duration,
}

impl Default for WalkLimits {
    fn default() -> WalkLimits {
        WalkLimits { listed: 16 << 20, time: Duration::from_secs(5) }
    }
}

/// How much a scan finds out about each goroutine. Each step includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What is in the `runtime.g` itself, such as state and wait reason.
    States,
    /// Also the stacks.
    Stacks,
    /// Also the channels, locks and other objects that goroutines wait on.
    Objects,
}

/// Why a scan ended before it had seen all goroutines.
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
    /// What should be the list has entries, but none is a living goroutine, of which every process has some.
    #[error(
        "none of the {listed} entries of its list of goroutines is a living one, so that what is in its memory cannot be \
         that list; the process may be damaged, or just ending"
    )]
    NoneLives {
        /// How many entries there are.
        listed: u64,
    },
}
