//! A dump shows the goroutines of a process at one moment. This chooses the ones that were asked for, and defines the
//! JSON document.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

use super::{io, states};
use crate::go::Status;
use crate::inspect::{Direction, Goroutine, Label, Queues, Snapshot, StackId, WaitObject};
use crate::report::{Frame, Goroutines, Io, Mode, Process, Scan};
use crate::targets::Subject;

/// Name and version of the JSON document. Fields that are marked as additive were added without a change of the
/// version.
pub const SCHEMA: &str = "golife.dump/1";

/// Which goroutines are wanted in a dump.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those in one of these states, in the words of Go's traceback; all if empty. A state includes those that add
    /// something in parentheses: `chan receive` includes `chan receive (nil chan)`.
    pub states: Vec<String>,
    /// Those that have been waiting at least this long, in ns, as far as the runtime knows.
    pub older_than_ns: Option<u64>,
    /// Those that were created at a `go` statement of which the function, or the file and line such as
    /// `/src/hub.go:88`, matches.
    pub site: Option<regex::Regex>,
    /// Whether the runtime's own goroutines are wanted as well.
    pub include_system: bool,
}

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
}

impl<'a> Dump<'a> {
    /// Makes a dump of the goroutines that `filter` lets through.
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

    /// The goroutines that could have been wanted: all but the runtime's own, unless those were asked for.
    fn candidates(&self, filter: &Filter) -> impl Iterator<Item = &'a Goroutine> {
        let (snapshot, system) = (self.snapshot, filter.include_system);
        snapshot.goroutines.iter().filter(move |goroutine| system || !snapshot.site(goroutine).is_system)
    }

    /// What to say if the filter lets no goroutine through; `None` if it lets some through, or there are none.
    pub fn nothing(&self, filter: &Filter) -> Option<String> {
        let total = self.candidates(filter).count();
        if total == 0 || !self.goroutines.is_empty() {
            return None;
        }
        let mut text = format!("none of the {total} goroutines matches");
        if !filter.states.is_empty() {
            let mut states: Vec<&str> = self.candidates(filter).map(Goroutine::state).collect();
            states.sort_unstable();
            states.dedup();
            text += &format!("; their states: {}", states.join(", "));
        }
        if filter.site.is_some() {
            text += "; --site is the go statement that created them, by the function that it is in or by file:line";
        }
        Some(text)
    }

    /// Link-time return address of a goroutine's `go` statement; 0 if there is none.
    pub fn gopc(&self, goroutine: &Goroutine) -> u64 {
        self.snapshot.site(goroutine).gopc
    }

    /// The `go` statement that created a goroutine; `None` if there is none or it is not known.
    pub fn created_by(&self, goroutine: &Goroutine) -> Option<Frame> {
        self.subject.binary.go_statement(self.gopc(goroutine)).map(|frame| Frame::from(&frame))
    }

    /// The file descriptors that those of these goroutines wait for that are in `IO wait`, as far as they are known, in
    /// the order of their ids.
    pub fn io(&self, of: impl Iterator<Item = &'a Goroutine>) -> BTreeMap<u64, Io> {
        io::of(self.subject, self.snapshot, of.map(|goroutine| goroutine.goid)).into_iter().collect()
    }

    /// The dump as a JSON document.
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

    /// Writes one goroutine after the other, since a million of them with their frames would fill gigabytes. What many
    /// of them have in common is named once.
    fn serialize_goroutines<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let io = self.io(self.goroutines.iter().copied());
        let mut names = Names { queues: Queues::of(self.snapshot), io, ..Names::default() };
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

fn is_in(goroutine: &Goroutine, state: &str) -> bool {
    let rest = goroutine.state().strip_prefix(state);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
}

/// The document that `golife dump --format json` prints.
#[derive(Serialize)]
pub struct Document<'a> {
    /// The value of [`SCHEMA`].
    pub schema: &'static str,
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
