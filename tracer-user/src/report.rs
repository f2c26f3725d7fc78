//! The immutable result that every output shows, and the JSON contract `golife.report/1`.
//!
//! Durations are integers in nanoseconds with `_ns` in the name, times are RFC 3339 in UTC, counts are exact, and what is
//! not known is `null`, never 0. Fields may be added; another change of meaning raises the number in [`SCHEMA`].

mod blame;
mod build;
mod creation_stacks;
mod select;

use serde::{Deserialize, Serialize};

pub use crate::host::container::Container;
pub use crate::verdict::{Evidence, Level, Verdict};
pub use build::{MISSED, Run, Sources, Window, build, of_scanned};
pub use select::{Selection, Sort, Top};

/// Name and version of the contract.
pub const SCHEMA: &str = "golife.report/1";

/// Everything that a run, or a tick of it, found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What made the report.
    pub tool: Tool,
    /// The time it covers.
    pub window: WindowOf,
    /// What was lost.
    pub loss: Loss,
    /// What tracing cost.
    pub overhead: Overhead,
    /// Additive: totals over all sites, also those that `--top` or `--min-age` hide.
    #[serde(default)]
    pub summary: Summary,
    /// The processes.
    pub processes: Vec<Process>,
}

/// What made a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Version of golife.
    pub version: String,
    /// Name of the host.
    pub host: Option<String>,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// CPU architecture, as Rust names it.
    pub arch: String,
}

/// The time that a report covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowOf {
    /// RFC 3339 in UTC.
    pub start: String,
    /// RFC 3339 in UTC.
    pub end: String,
    /// Its length.
    pub duration_ns: u64,
}

/// What was lost: records that did not reach golife, and what golife could not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Records that did not fit into the ring buffer.
    pub dropped: u64,
    /// Exits whose creation should have been seen.
    pub unmatched_exits: u64,
    /// Hits whose memory could not be read.
    pub read_faults: u64,
    /// Differences to the runtime's own list that a scan corrected.
    pub reconciled: u64,
    /// Additive: exits of goroutines from before tracing that no scan had seen.
    #[serde(default)]
    pub unattributed_exits: u64,
    /// Additive: goroutines that were counted but not followed, for want of memory budget.
    #[serde(default)]
    pub untracked: u64,
    /// Additive: goroutines whose creators were not kept, for want of memory budget: `blame` leaves them out.
    #[serde(default)]
    pub without_creators: u64,
    /// Additive: creations whose stack could not be read or kept, where those were asked for.
    #[serde(default)]
    pub without_stack: u64,
    /// Additive: ended processes that are not in the report any more, for want of room.
    #[serde(default)]
    pub forgotten_processes: u64,
    /// Additive: records that arrived and could not be read: golife and its probes are not of the same build.
    #[serde(default)]
    pub undecodable: u64,
    /// Additive: records of goroutines that arrived after the end of their process had been recorded, and count nowhere.
    #[serde(default)]
    pub late: u64,
}

/// What tracing cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overhead {
    /// Hits of the probes.
    pub probe_hits: Option<u64>,
    /// What one cost the target, calibrated at start.
    pub target_ns_per_hit: Option<u64>,
    /// Both multiplied: CPU time that the targets lost.
    pub target_cpu_ns: Option<u64>,
    /// CPU time of golife itself.
    pub golife_cpu_ns: Option<u64>,
    /// Additive: CPU time that the targets used in the window, for comparison.
    #[serde(default)]
    pub targets_used_cpu_ns: Option<u64>,
}

/// Totals over all sites that are not the runtime's own (or over all, where those were asked for).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Sites.
    pub sites: u64,
    /// Goroutines created.
    pub created: u64,
    /// Goroutines that ended.
    pub exited: u64,
    /// Goroutines that live, or lived when their process ended.
    pub live: u64,
    /// Sites by verdict.
    pub proven: u64,
    /// Sites by verdict.
    pub suspect: u64,
    /// Sites by verdict.
    pub watch: u64,
    /// Sites by verdict.
    pub healthy: u64,
    /// Sites by verdict.
    pub unknown: u64,
    /// The window that the unknown ones need, where a longer one would tell.
    pub needs_ns: Option<u64>,
}

impl Summary {
    /// How many sites have this verdict.
    pub fn of(&self, level: Level) -> u64 {
        match level {
            Level::Proven => self.proven,
            Level::Suspect => self.suspect,
            Level::Watch => self.watch,
            Level::Healthy => self.healthy,
            Level::Unknown => self.unknown,
        }
    }

    /// The worst verdict that any site has; `None` without sites.
    pub fn worst(&self) -> Option<Level> {
        Level::WORST_FIRST.into_iter().find(|&level| self.of(level) > 0)
    }

    fn add(&mut self, site: &Site) {
        self.sites += 1;
        self.created += site.created;
        self.exited += site.exited;
        self.live += site.live;
        *match site.verdict.level {
            Level::Proven => &mut self.proven,
            Level::Suspect => &mut self.suspect,
            Level::Watch => &mut self.watch,
            Level::Healthy => &mut self.healthy,
            Level::Unknown => &mut self.unknown,
        } += 1;
        self.needs_ns = self.needs_ns.max(site.verdict.needs_ns);
    }
}

/// One process instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its id in the initial pid namespace.
    pub pid: u32,
    /// When it started, RFC 3339 in UTC.
    pub start_time: Option<String>,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Additive: path of the library that its Go code is in, where that is not the executable.
    #[serde(default)]
    pub library: Option<String>,
    /// Its command line.
    pub command: Option<String>,
    /// GNU or Go build id of the executable.
    pub build_id: Option<String>,
    /// What its build says.
    pub go: Option<Go>,
    /// The container it runs in.
    pub container: Option<Container>,
    /// How much of it is seen.
    pub mode: Mode,
    /// Why, where the mode is not `traced`.
    pub detail: Option<String>,
    /// Additive: when it ended, RFC 3339 in UTC; counts are of that moment.
    #[serde(default)]
    pub ended: Option<String>,
    /// Additive: the last scan of its goroutines; `null` where there was none.
    #[serde(default)]
    pub scan: Option<Scan>,
    /// Totals.
    pub goroutines: Goroutines,
    /// Its sites, in the order asked for.
    pub sites: Vec<Site>,
}

/// A scan of a process's goroutines, read from its memory while it ran on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// How long it took.
    pub took_ns: u64,
    /// Goroutines that live, the runtime's own included.
    pub found: u64,
    /// Goroutines that the runtime keeps, dead ones included.
    pub listed: u64,
    /// Listed ones that could not be read.
    pub unreadable: u64,
    /// Stacks that changed while they were read, each time.
    pub torn: u64,
    /// It took too long: there are more goroutines than were found, and `waiting` counts too few.
    pub cut_short: bool,
}

/// What a Go build says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// `go1.26.8`.
    pub version: Option<String>,
    /// Path of the main module.
    pub module: Option<String>,
    /// Its version.
    pub module_version: Option<String>,
    /// The commit it was built from.
    pub revision: Option<String>,
    /// Whether its symbol table was removed.
    pub stripped: Option<bool>,
}

/// How much of a process is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Probes report every creation and exit.
    #[default]
    Traced,
    /// Only its memory was read.
    Scanned,
    /// Nothing: it cannot be traced.
    Unsupported,
    /// It ended; its state is that of its end.
    Gone,
}

/// Totals of a process. The runtime's own goroutines are in `system` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goroutines {
    /// Living, or alive when the process ended.
    pub live: u64,
    /// The runtime's own that live.
    pub system: u64,
    /// Created since tracing began.
    pub created: u64,
    /// Ended since tracing began, of known sites.
    pub exited: u64,
    /// Existed before; `null` where they were not read.
    pub at_attach: Option<u64>,
}

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Function, as Go prints it; its address where the name is not known.
    pub function: String,
    /// Path as compiled in.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
}

impl From<&crate::go::Frame> for Frame {
    fn from(frame: &crate::go::Frame) -> Frame {
        let known = frame.line > 0;
        Frame {
            function: frame.function.clone(),
            file: known.then(|| frame.file.clone()),
            line: known.then_some(frame.line),
        }
    }
}

/// A frame and how many goroutines it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedFrame {
    /// The frame.
    #[serde(flatten)]
    pub frame: Frame,
    /// How many.
    pub count: u64,
}

/// A creator's stack at the `go` statement, and how many goroutines came from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreationStack {
    /// Innermost first: the `go` statement, inlined frames included; empty where the stack could not be read. Where outer calls
    /// are not known, the last is `...additional frames elided...`, without file and line.
    pub frames: Vec<Frame>,
    /// Created since tracing began.
    pub created: u64,
    /// Of those, the living.
    pub live: u64,
}

/// One creation site. `created + at_attach = exited + live + reconciled + untracked`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// The `go` statement.
    pub site: Frame,
    /// What its goroutines run.
    pub entry: Frame,
    /// Created since tracing began.
    pub created: u64,
    /// Ended since tracing began.
    pub exited: u64,
    /// Living, or alive when the process ended.
    pub live: u64,
    /// Existed before tracing.
    pub at_attach: u64,
    /// The oldest that lives.
    pub oldest: Option<Oldest>,
    /// Lifetimes of those whose creation and end were seen; `null` where there is none.
    pub lifetime: Option<Lifetime>,
    /// Kaplan–Meier: the fraction that lives longer, the living censored.
    pub survival: Vec<SurvivalPoint>,
    /// Stack memory of the living.
    pub stack_bytes: Option<u64>,
    /// Creation sites of the creators, most first.
    pub parents: Vec<CountedFrame>,
    /// Frames of the main module that led here through any number of creators, dead or alive, counted over the living,
    /// most first, at most 20: calls of their creation stacks where those are known, else `go` statements. Empty where
    /// none is known; `null` for a site of the main module itself, for a row of many sites, and where nothing looked.
    pub blame: Option<Vec<CountedFrame>>,
    /// Additive: the creators' stacks at the `go` statement, most living goroutines first, at most 20; `null` without
    /// `--creation-stacks`. Only goroutines whose creation was seen are counted.
    #[serde(default)]
    pub creation_stacks: Option<Vec<CreationStack>>,
    /// What the living wait for; `null` where nothing looked.
    pub waiting: Option<Vec<Waiting>>,
    /// The judgement.
    pub verdict: Verdict,
    /// Additive: the most that ever lived at the same time in the window.
    #[serde(default)]
    pub peak_live: u64,
    /// Additive: creations for each second of the time it was observed.
    #[serde(default)]
    pub created_per_s: Option<f64>,
    /// Additive: first creation seen, RFC 3339 in UTC.
    #[serde(default)]
    pub first_created: Option<String>,
    /// Additive: last creation seen, RFC 3339 in UTC.
    #[serde(default)]
    pub last_created: Option<String>,
    /// Additive: mean lifetime with the living: the area under `survival`, restricted to the longest observation.
    #[serde(default)]
    pub restricted_mean_ns: Option<u64>,
    /// Additive: ages of the living whose creation was seen, as `lifetime.hdr`.
    #[serde(default)]
    pub living_hdr: Option<String>,
    /// Additive: found gone by a scan without an exit seen.
    #[serde(default)]
    pub reconciled: u64,
    /// Additive: counted, not followed, for want of memory budget.
    #[serde(default)]
    pub untracked: u64,
    /// Additive: this row stands for all sites of the process beyond `--max-sites`.
    #[serde(default)]
    pub other: bool,
    /// Additive: one of the runtime's own.
    #[serde(default)]
    pub system: bool,
}

/// The age of a site's oldest goroutine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oldest {
    /// Its age.
    pub age_ns: u64,
    /// Whether it may be older: its creation was not seen.
    pub at_least: bool,
}

/// A distribution of lifetimes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// How many.
    pub count: u64,
    /// Shortest, exact.
    pub min_ns: u64,
    /// Mean, exact.
    pub mean_ns: u64,
    /// Median; quantiles are at most 1 % too long above 10 µs.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// Longest, exact.
    pub max_ns: u64,
    /// Base64 of HdrHistogram V2 deflate, in ns.
    pub hdr: String,
}

/// A point of a survival curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SurvivalPoint {
    /// Age.
    pub at_ns: u64,
    /// Fraction that lives longer, to 6 digits.
    pub fraction: f64,
}

/// What some of the living wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingStack {
    /// How many.
    pub count: u64,
    /// As in [`Waiting`].
    pub at: Vec<Frame>,
}

/// A channel or a lock that somebody waits on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitedOn {
    /// `chan`, `mutex`, `rwmutex`, `waitgroup`, `cond` or `semaphore`.
    pub kind: String,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// Wait reason, as Go prints it.
    pub doing: String,
    /// How many.
    pub count: u64,
    /// Where; `null` where not known.
    pub at: Option<Frame>,
}
