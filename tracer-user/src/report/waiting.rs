//! What goroutines of a site wait for, and on which channel or lock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::Frame;

/// What some of the living wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// Wait reason, as Go prints it.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Where, innermost first: at most [`Waiting::MOST_FRAMES`] frames. The commonest stack, if there are several.
    pub at: Vec<Frame>,
    /// Additive: where these differ in who called the line at which they wait, their stacks, the commonest ones first; empty
    /// where all have the same. Those with stacks that were left out are in `count` alone.
    #[serde(default)]
    pub stacks: Vec<WaitingStack>,
    /// At most 10 examples.
    pub goids: Vec<u64>,
    /// Additive: how many of them were blocked at the same place in an earlier scan; `null` where there was none.
    #[serde(default)]
    pub unmoved: Option<u64>,
    /// Additive: the garbage collector of Go 1.26 and newer has found that nothing can end their waits.
    #[serde(default)]
    pub leaked: bool,
    /// Additive: the channels and locks that the examples wait on, at most 3, that with most waiters first.
    #[serde(default)]
    pub on: Vec<WaitedOn>,
}

impl Waiting {
    /// The most frames that a report keeps of a stack. Those further out are left out.
    pub const MOST_FRAMES: usize = 64;
}

/// A stack that some of those have who wait at a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingStack {
    /// How many.
    pub count: u64,
    /// As in [`Waiting`].
    pub at: Vec<Frame>,
}

/// What somebody waits on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WaitedOnKind {
    /// A channel.
    #[serde(rename = "chan")]
    Channel,
    /// A `sync.Mutex`.
    #[serde(rename = "mutex")]
    Mutex,
    /// A `sync.RWMutex`.
    #[serde(rename = "rwmutex")]
    RwMutex,
    /// A `sync.WaitGroup`.
    #[serde(rename = "waitgroup")]
    WaitGroup,
    /// A `sync.Cond`.
    #[serde(rename = "cond")]
    Cond,
    /// A semaphore that belongs to nothing that is known, or something that a newer golife knows.
    #[default]
    #[serde(rename = "semaphore", other)]
    Semaphore,
}

impl WaitedOnKind {
    /// As a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            WaitedOnKind::Channel => "channel",
            WaitedOnKind::Mutex => "mutex",
            WaitedOnKind::RwMutex => "rwmutex",
            WaitedOnKind::WaitGroup => "waitgroup",
            WaitedOnKind::Cond => "cond",
            WaitedOnKind::Semaphore => "semaphore",
        }
    }
}

/// A channel or a lock that somebody waits on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitedOn {
    /// What it is.
    pub kind: WaitedOnKind,
    /// Where it is in the process, in hexadecimal, as `%p` prints it.
    pub address: String,
    /// Elements in a channel's buffer.
    pub len: Option<u64>,
    /// Places in a channel's buffer.
    pub cap: Option<u64>,
    /// Whether a channel is closed.
    pub closed: Option<bool>,
    /// Type of a channel's elements.
    pub element: Option<String>,
    /// How many of these goroutines wait on it.
    pub count: u64,
    /// How many goroutines of the process do.
    pub waiters: u64,
    /// What the others are doing that wait on it, at most 3.
    pub others: Vec<Others>,
    /// What those do that wait on something else and have a pointer to it on their stacks, at most 3: one of them may be the
    /// one to end this wait.
    pub known_to: Vec<Others>,
}

/// Goroutines that do the same at the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Others {
    /// Wait reason, as Go prints it.
    pub doing: String,
    /// How many.
    pub count: u64,
    /// Where; `null` where not known.
    pub at: Option<Frame>,
}
