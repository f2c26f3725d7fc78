//! What the living goroutines of a site do: those that do the same at the same place are one [`Wait`].
//!
//! Plain data, without addresses of any process: whoever has inspected one fills it in, and everything that judges can be
//! tested with what a test makes up.

use crate::go::Activity;
use crate::report::Frame;

/// Goroutines of one site that do the same thing at the same place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wait {
    /// What Go's traceback calls it: a wait reason, or `running`, `runnable`, `syscall`.
    pub reason: &'static str,
    /// The garbage collector of Go 1.26 and newer has found that nothing can reach what they wait on.
    pub leaked: bool,
    /// How many.
    pub count: u64,
    /// The calls that they are in, innermost first, inlined ones included; empty where not known.
    pub frames: Vec<Frame>,
    /// The channels that the first of them waits on, one for each case of a `select`; empty where they are not known.
    pub channels: Vec<Channel>,
    /// The first of them waits on nothing at all.
    pub on_nothing: bool,
    /// What they wait for came from a call of `Done` on a context, right before.
    pub asked_done: bool,
    /// How many of them were at this very place in an earlier scan already; `None` without one.
    pub unmoved: Option<u64>,
    /// How many of them an earlier look has seen.
    pub seen_before: u64,
    /// How many of those have not run for some seconds.
    pub idle: u64,
    /// For how long at least all of these have been there, in ns.
    pub unmoved_ns: Option<u64>,
    /// What most connections of this process's HTTP clients are in; `None` where there is none.
    pub http_clients: Option<HttpClients>,
    /// They and others wait for each other; what the others do.
    pub cycle: Option<Vec<Member>>,
}

/// What the connection of an HTTP client is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpClients {
    /// No request.
    Idle,
    /// A request that has no response yet.
    Asking,
    /// A response that has not been read to its end.
    Unread,
}

/// One that waits in a cycle of goroutines that wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What for.
    pub waits_for: WaitsFor,
    /// Where.
    pub at: Frame,
}

/// What somebody waits for who is a part of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// An element from a channel.
    Receive,
    /// Room in a channel.
    Send,
    /// A `sync.Mutex` or `sync.RWMutex`.
    Lock,
    /// The members of a `sync.WaitGroup`.
    Group,
    /// Something else.
    Other,
}

/// A channel that somebody waits on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Its address in the process.
    pub address: u64,
    /// Places in its buffer.
    pub capacity: u64,
    /// Elements in its buffer.
    pub length: u64,
    /// Whether an element is to be sent; else to be received.
    pub sends: bool,
    /// The type of its elements, as Go prints it.
    pub element: Option<String>,
    /// How many goroutines wait on it in all.
    pub waiters: u64,
}

impl Channel {
    /// Whether it is that of a `time.Timer` or a `time.Ticker`. Programs make hardly any of this type themselves.
    pub fn is_timer(&self) -> bool {
        self.capacity == 1 && self.element.as_deref() == Some("time.Time")
    }

    /// Whether its elements only say that something happened.
    pub fn is_signal(&self) -> bool {
        self.element.as_deref() == Some("struct {}")
    }
}

impl Wait {
    /// What it waits for, as far as a cycle is concerned. Old versions of Go have one reason for all semaphores.
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

    /// What its reason says that they do, within `testing/synctest` or not.
    pub fn activity(&self) -> Activity {
        Activity::of(self.reason)
    }

    /// Nothing can end this wait: there is no channel to wait for, or the garbage collector says so. `None` where something
    /// might; else why not.
    pub fn hopeless(&self) -> Option<&'static str> {
        // A main function that has nothing more to do may block for good.
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
