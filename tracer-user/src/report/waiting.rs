//! What the goroutines of a site wait for, and on which channels and locks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::Frame;

/// Living goroutines of a site that wait for the same at the same line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// What the goroutines wait for or do, as Go's own traceback prints it, such as `chan receive` or `running`.
    pub reason: String,
    /// Number of goroutines that wait like this.
    pub count: u64,
    /// The calls that lead to where the goroutines wait, innermost first, at most 64. If they have several stacks, this
    /// is the commonest one. Empty where no stack could be read.
    pub at: Vec<Frame>,
    /// Additive: the stacks of these goroutines, commonest first, where they differ in who called the line at which
    /// they wait; empty where all have the same stack. Goroutines whose stack was left out are in `count` alone.
    #[serde(default)]
    pub stacks: Vec<WaitingStack>,
    /// Ids of at most 10 of these goroutines, as examples.
    pub goids: Vec<u64>,
    /// Additive: number of these goroutines that were blocked at the same place in an earlier scan and have not run
    /// since; `null` where there was no earlier scan.
    #[serde(default)]
    pub unmoved: Option<u64>,
    /// Additive: number of these goroutines whose place an earlier scan has kept, which is what `unmoved` is out of; `null`
    /// where there was no earlier scan. The others came later, or there were too many to keep all.
    #[serde(default)]
    pub compared: Option<u64>,
    /// Additive: whether the garbage collector, in Go 1.26 and newer, has found that nothing can end their waits.
    #[serde(default)]
    pub leaked: bool,
    /// Additive: by how many goroutines that were created since the look before there are more of them now; `null` where
    /// there was no earlier look.
    #[serde(default)]
    pub grown: Option<u64>,
    /// Additive: what the connections are busy with whose goroutines these are; `null` where they belong to no connection
    /// of an HTTP client.
    #[serde(default)]
    pub connection: Option<Connection>,
    /// Additive: the channels and locks that the goroutines in `goids` wait on, most waiters first, at most 3.
    #[serde(default)]
    pub on: Vec<WaitedOn>,
    /// Additive: the file descriptor that one of the goroutines in `goids` waits for, which waits for the other end that
    /// most of them do; `null` where they are not in `IO wait`, or it is not known.
    #[serde(default)]
    pub io: Option<Io>,
    /// Additive: number of the goroutines in `goids` that wait for the same other end as the one in `io`; `null` without
    /// `io`.
    #[serde(default)]
    pub io_alike: Option<u64>,
}

impl Waiting {
    /// The most frames that a report keeps of a stack. Outer frames beyond these are left out.
    pub const MOST_FRAMES: usize = 64;
}

/// What a connection of an HTTP client is busy with, or a stream of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// There is no request on it.
    Idle,
    /// A request was sent on it that has no response yet.
    Asking,
    /// A response has come that has not been read to its end.
    Unread,
    /// Something that only a newer golife knows.
    #[serde(other)]
    Other,
}

impl Connection {
    /// What people call such connections; `None` for those that only a newer golife knows.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Connection::Idle => Some("idle connections"),
            Connection::Asking => Some("connections without an answer yet"),
            Connection::Unread => Some("connections with an unread body"),
            Connection::Other => None,
        }
    }
}

/// A stack that some of the goroutines have that wait at a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingStack {
    /// Number of goroutines with this stack.
    pub count: u64,
    /// The calls of the stack, innermost first, at most 64.
    pub at: Vec<Frame>,
}

/// A file descriptor that a goroutine in `IO wait` waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Io {
    /// Number of the file descriptor in the process; `null` where it is not known.
    pub fd: Option<u32>,
    /// What it is: `tcp`, `udp`, `unix` or another `socket`, `pipe`, `file`, or what the kernel calls it; `null` where it
    /// is not known.
    pub kind: Option<String>,
    /// The socket's own address in the process's network namespace, such as `127.0.0.1:8080`, or the path of a file;
    /// `null` where there is none or it is not known.
    pub local: Option<String>,
    /// The address of the other end; `null` where there is none, as for a socket that listens, or it is not known, as for
    /// those of Unix.
    pub remote: Option<String>,
    /// When the wait ends by itself, as RFC 3339 in UTC; `null` where it has no deadline.
    pub deadline: Option<String>,
}

/// What kind of object goroutines wait on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WaitedOnKind {
    /// The object is a channel.
    #[serde(rename = "chan")]
    Channel,
    /// The object is a `sync.Mutex`.
    #[serde(rename = "mutex")]
    Mutex,
    /// The object is a `sync.RWMutex`.
    #[serde(rename = "rwmutex")]
    RwMutex,
    /// The object is a `sync.WaitGroup`.
    #[serde(rename = "waitgroup")]
    WaitGroup,
    /// The object is a `sync.Cond`.
    #[serde(rename = "cond")]
    Cond,
    /// The object is a semaphore that is not known to belong to anything, or something that only a newer golife knows.
    #[default]
    #[serde(rename = "semaphore", other)]
    Semaphore,
}

impl WaitedOnKind {
    /// What people call this kind.
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

/// A channel or a lock that goroutines wait on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitedOn {
    /// What kind of object this is.
    pub kind: WaitedOnKind,
    /// Address of the object in the process, in hexadecimal, as Go prints it with `%p`.
    pub address: String,
    /// Number of elements in the channel's buffer; `null` where the object is no channel.
    pub len: Option<u64>,
    /// Number of elements that the channel's buffer has room for; `null` where the object is no channel.
    pub cap: Option<u64>,
    /// Whether the channel is closed; `null` where the object is no channel.
    pub closed: Option<bool>,
    /// Go type of the channel's elements; `null` where the object is no channel, or the type is not known.
    pub element: Option<String>,
    /// Number of goroutines of this site, waiting for the same at the same line, that wait on the object.
    pub count: u64,
    /// Number of goroutines of the whole process that wait on the object.
    pub waiters: u64,
    /// What the other goroutines do that wait on the object, most first, at most 3.
    pub others: Vec<Others>,
    /// What goroutines do that wait on something else but have a pointer to the object on their stacks, most first, at
    /// most 3. One of them may be the one that has to end this wait.
    pub known_to: Vec<Others>,
    /// Additive: what the goroutines do that hold the lock, since the call that releases it is deferred on their stacks,
    /// most first, at most 3. For a `sync.WaitGroup`: what those do that have yet to call `Done`.
    #[serde(default)]
    pub held_by: Vec<Others>,
    /// Additive: what the goroutines do that may hold the lock, since they go on to release one of its kind and have a
    /// pointer to this one, most first, at most 3. Empty where `held_by` is known to be complete.
    #[serde(default)]
    pub may_be_held_by: Vec<Others>,
    /// Additive: how many hold the lock, or the count of the `sync.WaitGroup`, as its memory said when it was read, which
    /// was not quite when the goroutines were; `null` where it is not known.
    #[serde(default)]
    pub taken: Option<u64>,
    /// Additive: how the queue at the lock, or of those that want to send on the channel, has moved since the look
    /// before; `null` where nobody was in it then.
    #[serde(default)]
    pub served: Option<Served>,
}

/// How a queue of goroutines has moved between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Served {
    /// Time between the looks in nanoseconds.
    pub span_ns: u64,
    /// How many of those that waited at the first look no longer waited at the second: they got the lock, or
    /// their value was received.
    pub served: u64,
    /// How many waited at the second look that had not at the first.
    pub came: u64,
    /// How many have waited all the time. If there are none, more may have come and gone between the looks.
    pub still: u64,
}

/// Goroutines that do the same at the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Others {
    /// What the goroutines wait for or do, as Go's own traceback prints it, such as `chan receive` or `running`.
    pub doing: String,
    /// Number of goroutines that do this.
    pub count: u64,
    /// The place where the goroutines do it; `null` where it is not known.
    pub at: Option<Frame>,
}
