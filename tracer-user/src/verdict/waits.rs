//! What the living goroutines of a site do: those that do the same at the same place are one [`Wait`].
//!
//! Plain data, without addresses of any process: whoever has inspected one fills it in, and everything that judges can be
//! tested with what a test makes up.

use crate::go::Status;
use crate::report::Frame;

/// Goroutines of one site that do the same thing at the same place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wait {
    /// What Go's traceback calls it: a wait reason, or `running`, `runnable`, `syscall`.
    pub reason: String,
    /// The garbage collector of Go 1.26 and newer has found that nothing can reach what they wait on.
    pub leaked: bool,
    /// How many.
    pub count: u64,
    /// Some of them by id, at most [`Wait::EXAMPLES`].
    pub goids: Vec<u64>,
    /// The calls that they are in, innermost first, inlined ones included; empty where not known.
    pub frames: Vec<Frame>,
    /// What the first of them waits on, one for each case of a `select`; `None` where that is not known.
    pub channels: Option<Vec<Channel>>,
    /// What they wait for came from a call of `Done` on a context, right before.
    pub asked_done: bool,
    /// How many of them were seen at this very place before.
    pub still: Option<Still>,
    /// They and others wait for each other; where the others are blocked.
    pub cycle: Option<Vec<Frame>>,
}

/// Goroutines that have not moved between scans a second or more apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Still {
    /// How many.
    pub count: u64,
    /// The one that has been there longest: for at least this long, in ns.
    pub longest_ns: u64,
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
    /// How many examples are kept.
    pub const EXAMPLES: usize = 10;

    /// The name that Go's traceback gives to a state other than waiting.
    pub fn state_name(status: Status) -> &'static str {
        match status {
            Status::Idle => "idle",
            Status::Runnable => "runnable",
            Status::Running => "running",
            Status::Syscall => "syscall",
            Status::Waiting => "waiting",
            Status::Dead | Status::DeadExtra => "dead",
            Status::CopyStack => "copystack",
            Status::Preempted => "preempted",
            Status::Leaked => "leaked",
        }
    }

    /// The reason without what synctest adds to it.
    pub fn plain_reason(&self) -> &str {
        self.reason.strip_suffix(" (durable)").unwrap_or(&self.reason)
    }

    /// Nothing can end this wait: there is no channel to wait for, or the garbage collector says so. `None` where something
    /// might; else why not.
    pub fn hopeless(&self) -> Option<&'static str> {
        // A main function that has nothing more to do may block for good.
        if self.frames.iter().any(|frame| frame.function == "runtime.main") {
            return None;
        }
        let no_cases = || self.channels.as_ref().is_some_and(Vec::is_empty) && !self.frames.is_empty();
        match self.plain_reason() {
            "chan receive (nil chan)" => Some("receive from a nil channel"),
            "chan send (nil chan)" => Some("send on a nil channel"),
            "select (no cases)" => Some("are in a select without cases"),
            "select" if no_cases() => Some("are in a select whose channels are all nil"),
            _ if self.leaked => Some("wait on what nothing else can reach, says Go's garbage collector"),
            _ => None,
        }
    }
}
