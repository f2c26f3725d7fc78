//! All goroutines of a process at one moment: which of them are asked for, and as what document.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::go::Status;
use crate::inspect::{Direction, Goroutine, Label, Queues, Snapshot, StackId, WaitObject};
use crate::report::{Frame, Goroutines, Mode, Process, Scan};
use crate::targets::Subject;

/// Name and version of the document.
pub const SCHEMA: &str = "golife.dump/1";

/// Which goroutines are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states, as Go's traceback names it; `chan receive` is `chan receive (nil chan)`, too. All if empty.
    pub states: Vec<String>,
    /// Waiting at least this long, in ns, as far as the runtime knows.
    pub older_than_ns: Option<u64>,
    /// Created at a `go` statement whose function or place, `hub.go:88`, matches.
    pub site: Option<regex::Regex>,
    /// Also the runtime's own.
    pub include_system: bool,
}

/// A process's goroutines, and how to make sense of them.
pub struct Dump<'a> {
    /// The process.
    pub subject: &'a Subject,
    /// All of them.
    pub snapshot: &'a Snapshot,
    /// The numbers of the scan.
    pub scan: Scan,
    /// Those that are wanted, in the order of their ids.
    pub goroutines: Vec<&'a Goroutine>,
}

impl<'a> Dump<'a> {
    /// Chooses those that are wanted.
    pub fn new(subject: &'a Subject, snapshot: &'a Snapshot, scan: Scan, filter: &Filter) -> Dump<'a> {
        let mut sites = HashMap::new();
        let mut at_site = |gopc: u64| match &filter.site {
            None => true,
            Some(pattern) => *sites.entry(gopc).or_insert_with(|| {
                let frame = subject.binary.go_statement(gopc);
                frame.is_some_and(|frame| {
                    pattern.is_match(&frame.function)
                        || pattern.is_match(&format!("{}:{}", frame.file, frame.line))
                })
            }),
        };
        let goroutines = snapshot.by_goid().filter(|goroutine| {
            (filter.include_system || !snapshot.site(goroutine).is_system)
                && (filter.states.is_empty() || filter.states.iter().any(|state| is_in(goroutine, state)))
                && filter
                    .older_than_ns
                    .is_none_or(|least| goroutine.waits_at_least_ns().is_some_and(|ns| ns >= least))
                && at_site(snapshot.site(goroutine).gopc)
        });
        let goroutines = goroutines.collect();
        Dump { subject, snapshot, scan, goroutines }
    }

    /// Where the `go` statement of a goroutine returns to; 0 where there is none.
    pub fn gopc(&self, goroutine: &Goroutine) -> u64 {
        self.snapshot.site(goroutine).gopc
    }

    /// The `go` statement of a goroutine.
    pub fn created_by(&self, goroutine: &Goroutine) -> Option<Frame> {
        self.subject.binary.go_statement(self.gopc(goroutine)).map(|frame| Frame::from(&frame))
    }

    /// As a document.
    pub fn document(&self) -> Document<'_> {
        Document {
            schema: SCHEMA,
            process: Process {
                mode: Mode::Scanned,
                scan: Some(self.scan),
                goroutines: self.totals(),
                ..self.subject.describe()
            },
            goroutines: self,
        }
    }

    /// One after the other: a million of them with their frames would fill gigabytes. Names are found once each.
    fn serialize_goroutines<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut names = Names { queues: Queues::of(self.snapshot), ..Names::default() };
        for goroutine in &self.goroutines {
            names.sites.entry(self.gopc(goroutine)).or_insert_with(|| self.created_by(goroutine));
            if let Some(stack) = goroutine.stack {
                let shown = || self.snapshot.stacks.shown(stack).into_iter();
                let frames = || shown().map(|(frame, _)| Frame::from(frame)).collect();
                names.frames.entry(stack).or_insert_with(frames);
            }
        }
        serializer.collect_seq(self.goroutines.iter().map(|goroutine| self.goroutine(goroutine, &names)))
    }

    fn totals(&self) -> Goroutines {
        let is_system = |goroutine: &&Goroutine| self.snapshot.site(goroutine).is_system;
        let system = self.snapshot.goroutines.iter().filter(is_system).count();
        let live = self.snapshot.goroutines.len() - system;
        Goroutines { live: live as u64, system: system as u64, ..Goroutines::default() }
    }

    fn goroutine<'b>(&'b self, goroutine: &Goroutine, names: &'b Names) -> DumpedGoroutine<'b> {
        let objects = self.snapshot.objects(goroutine);
        let site = self.snapshot.site(goroutine);
        DumpedGoroutine {
            goid: goroutine.goid,
            state: goroutine.state(),
            waits_at_least_ns: goroutine.waits_at_least_ns(),
            locked_to_thread: goroutine.locked_to_thread,
            system: site.is_system,
            labels: self.snapshot.labels(goroutine),
            leaked: goroutine.status == Status::Leaked,
            parent: Some(goroutine.parent).filter(|parent| *parent > 0),
            created_by: names.sites.get(&site.gopc).and_then(Option::as_ref),
            stack_bytes: goroutine.stack_bytes,
            stack_is_old: goroutine.stack_is_old,
            frames: goroutine.stack.and_then(|stack| names.frames.get(&stack)).map_or(&[], |frames| frames),
            waits_on: objects.iter().map(|object| Object::new(object, &names.queues)).collect(),
        }
    }
}

/// What many goroutines of a dump have in common.
#[derive(Default)]
struct Names {
    sites: HashMap<u64, Option<Frame>>,
    frames: HashMap<StackId, Vec<Frame>>,
    queues: Queues,
}

fn is_in(goroutine: &Goroutine, state: &str) -> bool {
    let rest = goroutine.state().strip_prefix(state);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
}

/// What `golife dump --format json` prints.
#[derive(Serialize)]
pub struct Document<'a> {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The process.
    pub process: Process,
    /// Those that were asked for, as a list of [`DumpedGoroutine`]s.
    #[serde(serialize_with = "Dump::serialize_goroutines")]
    pub goroutines: &'a Dump<'a>,
}

/// One goroutine of a [`Document`].
#[derive(Debug, Serialize)]
pub struct DumpedGoroutine<'a> {
    /// Its id.
    pub goid: u64,
    /// Wait reason or status, as Go's traceback has it in brackets.
    pub state: &'static str,
    /// It waits at least this long; `null` where the runtime does not know.
    pub waits_at_least_ns: Option<u64>,
    /// Locked to its thread.
    pub locked_to_thread: bool,
    /// One of the runtime's own.
    pub system: bool,
    /// Additive: profiler labels, by key.
    pub labels: &'a [Label],
    /// Additive: the garbage collector of Go 1.26 and newer has found that nothing can end its wait.
    pub leaked: bool,
    /// The goroutine that created it; `null` before Go 1.21.
    pub parent: Option<u64>,
    /// Its `go` statement.
    pub created_by: Option<&'a Frame>,
    /// Size of its stack.
    pub stack_bytes: u64,
    /// It runs: `frames` are from when it last stopped.
    pub stack_is_old: bool,
    /// Innermost first.
    pub frames: &'a [Frame],
    /// What it waits on; one for each case of a `select`.
    pub waits_on: Vec<Object>,
}

/// What a goroutine waits on.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Object {
    /// A channel.
    Channel {
        /// In hexadecimal.
        address: String,
        /// Elements in its buffer.
        len: u64,
        /// Places in its buffer.
        cap: u64,
        /// It is closed.
        closed: bool,
        /// `receive` or `send`; `null` where it is not clear.
        direction: Option<&'static str>,
        /// Additive: how many goroutines of the process wait on it.
        waiters: u64,
    },
    /// A lock or a wait group.
    Semaphore {
        /// In hexadecimal, of the word in it that is waited on.
        address: String,
        /// Additive: as of a channel.
        waiters: u64,
    },
    /// Additive: a `sync.Cond`.
    Cond {
        /// In hexadecimal, as `%p` prints it.
        address: String,
        /// As of a channel.
        waiters: u64,
    },
}

impl Object {
    fn new(object: &WaitObject, queues: &Queues) -> Object {
        let waiters = queues.waiters(object.address());
        let address = format!("{:#x}", object.address());
        match object {
            WaitObject::Channel(channel) => Object::Channel {
                address,
                len: channel.length,
                cap: channel.capacity,
                closed: channel.closed,
                direction: channel.direction.map(|direction| match direction {
                    Direction::Receive => "receive",
                    Direction::Send => "send",
                }),
                waiters,
            },
            WaitObject::Semaphore { .. } => Object::Semaphore { address, waiters },
            WaitObject::Cond { .. } => Object::Cond { address, waiters },
        }
    }
}
