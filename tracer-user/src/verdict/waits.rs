//! What the living goroutines of a site do. Those that do the same at the same place are one [`Wait`].
//!
//! This is plain data. The code that inspects a process fills it in, and the code that judges can be tested with data
//! that a test makes up.

use crate::go::Activity;
use crate::report::{Frame, Served};

/// Goroutines of one site that do the same thing at the same place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wait {
    /// What they do in the words of Go's traceback: a wait reason, or a status such as `running`, `runnable` or
    /// `syscall`.
    pub reason: &'static str,
    /// Whether the garbage collector has found that nothing can reach what they wait on, which it can from Go 1.26 on.
    pub leaked: bool,
    /// Number of goroutines.
    pub count: u64,
    /// The calls that an example of them is in, innermost first, inlined ones included and what compilers have made left
    /// out; empty if they are not known.
    pub frames: Vec<Frame>,
    /// The channels that the example waits on, one for each case of a `select`; empty if they are not known.
    pub channels: Vec<WaitedChannel>,
    /// Whether the example waits on nothing at all.
    pub on_nothing: bool,
    /// Whether the example waits on a channel that a call of `Done` on a context returned right before.
    pub asked_done: bool,
    /// How many of them were at this same place in an earlier scan and have not run since; `None` without an earlier
    /// scan.
    pub unmoved: Option<u64>,
    /// How many of them an earlier look has seen as well.
    pub seen_before: u64,
    /// How many of those that an earlier look has seen have not run for some seconds.
    pub idle: u64,
    /// For how long at least each of the unmoved goroutines has been there, in ns; `None` if there is no such
    /// goroutine.
    pub unmoved_ns: Option<u64>,
    /// What the connections of an HTTP client are busy with to which these goroutines belong; `None` if they belong to
    /// none, or that is not known.
    pub http_clients: Option<HttpClients>,
    /// What the others do, if these goroutines and others wait for each other.
    pub cycle: Option<Vec<Member>>,
    /// By how many goroutines that were created since the look before there are more of them now, and how many were
    /// created; `None` without an earlier look.
    pub grown: Option<(u64, u64)>,
    /// What is known of the lock or `sync.WaitGroup` that the example waits for.
    pub lock: Option<Contended>,
    /// Whose requests the example serves, if it does.
    pub serves: Option<Serves>,
}

/// A lock, or a `sync.WaitGroup`, that goroutines wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contended {
    /// Those that hold it for certain, or have yet to be done.
    pub held_by: Vec<Holder>,
    /// Those that may hold it: they hold one of its kind, and know this one.
    pub may_be_held_by: Vec<Holder>,
    /// How many hold it, or the count of a `sync.WaitGroup`, as its memory says.
    pub taken: Option<u64>,
    /// How its queue has moved since the look before.
    pub served: Option<Served>,
}

/// Goroutines that hold a lock and do the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// What they do, in the words of Go's traceback.
    pub doing: &'static str,
    /// The frame at which they do it, in the program's own code if there is one.
    pub at: Option<Frame>,
    /// Number of goroutines.
    pub count: u64,
    /// Whether they wait for the very lock that they hold.
    pub wants_it_too: bool,
}

/// Whose requests a goroutine serves: that one made the context of the request, and cancels it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// A server of `net/http`.
    Http {
        /// Whether the body of the request has been read to its end, so that `net/http` notices when the client goes
        /// away; `None` if that is not known.
        body_read: Option<bool>,
    },
    /// A server of gRPC.
    Grpc,
}

/// What the connection of an HTTP client is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpClients {
    /// There is no request on it.
    Idle,
    /// A request was sent on it that has no response yet.
    Asking,
    /// A response has come that has not been read to its end.
    Unread,
}

/// A goroutine in a cycle of goroutines that wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// The frame that it waits at.
    pub at: Frame,
}

/// What a goroutine in a cycle waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// It waits to receive from a channel.
    Receive,
    /// It waits to send on a channel.
    Send,
    /// It waits to lock a `sync.Mutex` or `sync.RWMutex`.
    Lock,
    /// It waits for the members of a `sync.WaitGroup` to be done.
    Group,
    /// It waits for something else.
    Other,
}

/// A channel that a goroutine waits on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitedChannel {
    /// Its address in the process.
    pub address: u64,
    /// Number of elements that its buffer has room for (`cap`).
    pub capacity: u64,
    /// Number of elements in its buffer (`len`).
    pub length: u64,
    /// Whether the goroutine wants to send; if not, it wants to receive.
    pub sends: bool,
    /// The type of its elements as Go prints it; `None` if it is not known.
    pub element: Option<String>,
    /// Number of all goroutines of the process that wait on it.
    pub waiters: u64,
    /// If goroutines wanted to send on it at the look before, how their queue has moved since.
    pub served: Option<Served>,
}

impl WaitedChannel {
    /// Whether it is the channel of a `time.Timer` or a `time.Ticker`. It is known by its type, since programs hardly
    /// ever make a channel of this type themselves.
    pub fn is_timer(&self) -> bool {
        self.capacity == 1 && self.element.as_deref() == Some("time.Time")
    }

    /// Whether its elements carry no data, so that they only say that something happened.
    pub fn is_signal(&self) -> bool {
        self.element.as_deref() == Some("struct {}")
    }
}

/// The fewest by which goroutines must have grown to stand out.
const FEWEST_GROWN: u64 = 3;
/// How many times they must have grown more than the coming and going of as many explains.
const GROWN_OVER_CHANCE: f64 = 1.5;

/// How much goroutines have grown between two looks, measured by how much they would by chance, if that is enough to
/// stand out. There are `by` more, while `new` were created.
pub fn stands_out((by, new): (u64, u64)) -> Option<f64> {
    let came_and_went = new.saturating_add(new.saturating_sub(by));
    let over_chance = by as f64 / (came_and_went as f64 + 1.0).sqrt();
    (by >= FEWEST_GROWN && over_chance >= GROWN_OVER_CHANCE).then_some(over_chance)
}

impl Wait {
    /// What it waits for, in the terms of a cycle. Locks are told by the stack, since old versions of Go have one wait
    /// reason for all semaphores.
    pub fn waits_for(&self) -> WaitsFor {
        let is_in = |prefix: &str| self.frames.iter().any(|frame| frame.function.starts_with(prefix));
        match self.activity() {
            Activity::ChanReceive => WaitsFor::Receive,
            Activity::ChanSend => WaitsFor::Send,
            _ if is_in("sync.(*Mutex)") || is_in("sync.(*RWMutex)") => WaitsFor::Lock,
            _ if is_in("sync.(*WaitGroup)") => WaitsFor::Group,
            _ => WaitsFor::Other,
        }
    }

    /// What the goroutines do, as their reason says; the same within a bubble of `testing/synctest` and outside.
    pub fn activity(&self) -> Activity {
        Activity::of(self.reason)
    }

    /// If nothing can end this wait, what the goroutines do: there is no channel that could wake them, or the garbage
    /// collector says that nothing reaches what they wait on. `None` if something might end it.
    pub fn hopeless(&self) -> Option<&'static str> {
        // A main function that has nothing more to do may block for good on purpose.
        if self.frames.iter().any(|frame| frame.function == "runtime.main") {
            return None;
        }
        match self.activity() {
            Activity::ChanReceiveNil => Some("receive from a nil channel"),
            Activity::ChanSendNil => Some("send on a nil channel"),
            Activity::SelectNoCases => Some("are in a select without cases"),
            Activity::Select if self.on_nothing => Some("are in a select whose channels are all nil"),
            _ if self.leaked => Some("wait on what nothing else can reach, says Go's garbage collector"),
            _ => None,
        }
    }
}
