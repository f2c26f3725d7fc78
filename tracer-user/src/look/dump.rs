//! A dump shows the goroutines of a process at one moment, those that were asked for. This defines the JSON document.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

use super::filter::{Chosen, Filter};
use super::{io, states};
use crate::go::Status;
use crate::human::count;
use crate::inspect::{Direction, Goroutine, Label, Queues, Snapshot, StackId, WaitObject};
use crate::report::{Frame, Goroutines, Io, Mode, Process, Scan};
use crate::targets::Subject;

/// Name and version of the JSON document. Fields that are marked as additive were added without a change of the
/// version.
pub const SCHEMA: &str = "golife.dump/1";

/// The goroutines of a process, with what is needed to name them.
pub struct Dump<'a> {
    /// The process and its binary.
    pub subject: &'a Subject,
    /// All goroutines of the process.
    pub snapshot: &'a Snapshot,
    /// The numbers of the scan.
    pub scan: Scan,
    /// The goroutines that are wanted, in the order of their ids.
    pub goroutines: Vec<&'a Goroutine>,
    /// If these are a sample: one in how many.
    pub sample: Option<u64>,
    /// How many were wanted before the sample was taken.
    matching: u64,
}

impl<'a> Dump<'a> {
    /// Makes a dump of the goroutines that `filter` lets through.
    pub fn new(subject: &'a Subject, snapshot: &'a Snapshot, scan: Scan, filter: &Filter) -> Dump<'a> {
        let Chosen { goroutines, matching } = filter.choose(subject, snapshot);
        Dump { subject, snapshot, scan, goroutines, sample: filter.sample, matching }
    }

    /// What to say if no goroutine is shown; `None` if some are, or there are none.
    pub fn nothing(&self, filter: &Filter) -> Option<String> {
        match self.matching {
            _ if !self.goroutines.is_empty() => None,
            0 => filter.nothing(self.snapshot),
            matching => Some(format!("none of the {matching} goroutines that match is in the sample")),
        }
    }

    /// A number of the goroutines that are shown, multiplied by what was left out if they are a sample.
    pub fn scaled(&self, number: usize) -> u64 {
        (number as u64).saturating_mul(self.sample.unwrap_or(1))
    }

    /// A line that says that what follows is a sample; `None` if it is none.
    pub fn sampled(&self) -> Option<String> {
        let (one_in, all) = (self.sample?, count(self.matching));
        let one_in = count(one_in);
        Some(format!(
            "# a sample of 1 in {one_in} of {all} goroutines, by their ids; counts are multiplied by {one_in}"
        ))
    }

    /// Link-time return address of a goroutine's `go` statement; 0 if there is none.
    pub fn gopc(&self, goroutine: &Goroutine) -> u64 {
        self.snapshot.site(goroutine).gopc
    }

    /// The `go` statement that created a goroutine; `None` if there is none or it is not known.
    pub fn created_by(&self, goroutine: &Goroutine) -> Option<Frame> {
        self.subject.binary.go_statement(self.gopc(goroutine)).map(|frame| Frame::from(&frame))
    }

    /// The file descriptors that those of these goroutines wait for that are in `IO wait`, as far as they are known, by
    /// their ids.
    pub fn io(&self, goids: impl Iterator<Item = u64>) -> BTreeMap<u64, Io> {
        io::of(self.subject, self.snapshot, goids).into_iter().collect()
    }

    /// The function that a goroutine runs; `None` if it is not known.
    pub fn entry(&self, goroutine: &Goroutine) -> Option<Frame> {
        let startpc = self.snapshot.site(goroutine).startpc;
        self.subject.binary.entry_function(startpc).map(|frame| Frame::from(&frame))
    }

    /// The dump as a JSON document.
    pub fn document(&self) -> Document<'_> {
        Document {
            schema: SCHEMA,
            sample: self.sample,
            process: Process {
                mode: Mode::Scanned,
                scan: Some(self.scan),
                goroutines: self.totals(),
                ..self.subject.describe()
            },
            goroutines: self,
        }
    }

    /// Writes one goroutine after the other, since a million of them with their frames would fill gigabytes. What many
    /// of them have in common is named once.
    fn serialize_goroutines<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let io = self.io(self.goroutines.iter().map(|goroutine| goroutine.goid));
        let mut names = Names { queues: Queues::of(self.snapshot, None), io, ..Names::default() };
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
        Goroutines {
            live: live as u64,
            system: system as u64,
            states: Some(states::of(self.snapshot)),
            ..Goroutines::default()
        }
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
            io: names.io.get(&goroutine.goid),
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
    io: BTreeMap<u64, Io>,
}

/// The document that `golife dump --format json` prints.
#[derive(Serialize)]
pub struct Document<'a> {
    /// The value of [`SCHEMA`].
    pub schema: &'static str,
    /// Additive: if `goroutines` are a sample, one in how many of those that were asked for; `null` if all are there.
    pub sample: Option<u64>,
    /// The process.
    pub process: Process,
    /// The goroutines that were asked for. They are written as a list of [`DumpedGoroutine`]s.
    #[serde(serialize_with = "Dump::serialize_goroutines")]
    pub goroutines: &'a Dump<'a>,
}

/// One goroutine of a [`Document`].
#[derive(Debug, Serialize)]
pub struct DumpedGoroutine<'a> {
    /// Its id.
    pub goid: u64,
    /// Its wait reason or status, as Go's traceback shows it in brackets.
    pub state: &'static str,
    /// For how long at least it has been waiting, in ns; `null` if the runtime does not know.
    pub waits_at_least_ns: Option<u64>,
    /// Whether it is locked to its thread.
    pub locked_to_thread: bool,
    /// Whether it is one of the runtime's own.
    pub system: bool,
    /// Additive: its profiler labels, ordered by key.
    pub labels: &'a [Label],
    /// Additive: whether the garbage collector has found that nothing can end its wait, which it can from Go 1.26 on.
    pub leaked: bool,
    /// The id of the goroutine that created it; `null` if there is none, and before Go 1.21.
    pub parent: Option<u64>,
    /// The `go` statement that created it.
    pub created_by: Option<&'a Frame>,
    /// Size of its stack in bytes.
    pub stack_bytes: u64,
    /// Whether `frames` are from when it last stopped, because it runs now.
    pub stack_is_old: bool,
    /// The frames that Go's traceback would show, innermost first.
    pub frames: &'a [Frame],
    /// Additive: the file descriptor that it waits for; `null` if it is not in `IO wait`, or that is not known.
    pub io: Option<&'a Io>,
    /// What it waits on: one object, or one for each case of a `select`.
    pub waits_on: Vec<Object>,
}

/// What a goroutine waits on.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Object {
    /// A channel.
    Channel {
        /// Address of its `runtime.hchan` in hexadecimal.
        address: String,
        /// Number of elements in its buffer.
        len: u64,
        /// Number of elements that its buffer has room for.
        cap: u64,
        /// Whether it is closed.
        closed: bool,
        /// `receive` or `send`; `null` if it is not clear which.
        direction: Option<&'static str>,
        /// Additive: how many goroutines of the process wait on it.
        waiters: u64,
    },
    /// A lock or a wait group.
    Semaphore {
        /// Address of the semaphore word in it, in hexadecimal.
        address: String,
        /// Additive: how many goroutines of the process wait on it.
        waiters: u64,
    },
    /// Additive: a `sync.Cond`.
    Cond {
        /// Address in hexadecimal, as Go's `%p` prints it.
        address: String,
        /// How many goroutines of the process wait on it.
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
