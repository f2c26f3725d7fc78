//! The judgement of a site, as data: how bad it is, why, what keeps its goroutines from ending, what to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad it is, best first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Too little was seen to tell.
    #[default]
    Unknown,
    /// Goroutines end as they should, or stay few.
    Healthy,
    /// Unusual, with a harmless explanation that cannot be excluded.
    Watch,
    /// Measured behaviour of a leak.
    Suspect,
    /// Cannot end any more.
    Proven,
}

impl Level {
    /// All of them, worst first.
    pub const WORST_FIRST: [Level; 5] =
        [Level::Proven, Level::Suspect, Level::Watch, Level::Healthy, Level::Unknown];

    /// As in a report.
    pub fn name(self) -> &'static str {
        match self {
            Level::Unknown => "unknown",
            Level::Healthy => "healthy",
            Level::Watch => "watch",
            Level::Suspect => "suspect",
            Level::Proven => "proven",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        let found = Level::WORST_FIRST.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| format!("no such level: {text}; one of proven, suspect, watch, healthy, unknown"))
    }
}

/// What a reason for a verdict is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// The live count rises, steadily and still.
    Growth,
    /// Goroutines outlive what is usual for their site.
    Age,
    /// Goroutines are created all the time, and none has ever ended.
    Endless,
    /// The live count stays what it is.
    Steady,
    /// The live count rose and fell again.
    Receded,
    /// All have ended.
    Ended,
    /// The window is too short to tell.
    Short,
    /// The row stands for many sites.
    Overflow,
    /// Some goroutines were counted and not followed.
    Untracked,
    /// Goroutines wait for what can never come.
    Hopeless,
    /// Goroutines stand in a queue that does not move.
    Stuck,
    /// Goroutines are where an earlier look has seen them.
    Unmoved,
    /// Something that a newer golife has found.
    #[serde(other)]
    Other,
}

/// One reason for a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What it is about.
    pub kind: EvidenceKind,
    /// For people.
    pub text: String,
}

impl Evidence {
    /// Of this kind, in these words.
    pub fn new(kind: EvidenceKind, text: impl Into<String>) -> Evidence {
        Evidence { kind, text: text.into() }
    }
}

/// The judgement of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// How bad it is.
    pub level: Level,
    /// Why, the strongest reason first.
    pub evidence: Vec<Evidence>,
    /// What the living wait for, as a cause; `null` while nothing looks at it.
    pub cause: Option<Cause>,
    /// What to do; `null` where nothing better than the evidence can be said.
    pub advice: Option<String>,
    /// Additive: the window in ns that would tell more, where this one was too short.
    #[serde(default)]
    pub needs_ns: Option<u64>,
}

/// What keeps goroutines from ending. In a report by [`Cause::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A channel that nobody closes or sends on.
    ChanReceive,
    /// A channel that nobody receives from.
    ChanSend,
    /// A `select` none of whose cases can proceed.
    Select,
    /// A channel that was never made.
    NilChan,
    /// A context that nobody cancels.
    Context,
    /// A `sync.Mutex` or `sync.RWMutex` that is not unlocked.
    Mutex,
    /// A `sync.WaitGroup` whose count stays above zero.
    #[serde(rename = "waitgroup")]
    WaitGroup,
    /// A `sync.Cond` that nobody signals.
    Cond,
    /// A semaphore whose places are not given back.
    Semaphore,
    /// Goroutines that wait for each other.
    Cycle,
    /// A timer or ticker loop without an end.
    Timer,
    /// A loop without an end that sleeps.
    Sleep,
    /// Input or output without a deadline.
    Io,
    /// A response body that is not closed.
    HttpBody,
    /// A query, transaction or database that is not closed.
    SqlRows,
    /// A child process that is not waited for, or does not end.
    Process,
    /// A system call that does not return.
    Syscall,
    /// C code that does not return.
    Cgo,
    /// A loop without an end that computes.
    Running,
    /// Something else, or what a newer golife knows.
    #[serde(other)]
    Other,
}

impl Cause {
    /// As in a report.
    pub fn name(self) -> &'static str {
        match self {
            Cause::ChanReceive => "chan-receive",
            Cause::ChanSend => "chan-send",
            Cause::Select => "select",
            Cause::NilChan => "nil-chan",
            Cause::Context => "context",
            Cause::Mutex => "mutex",
            Cause::WaitGroup => "waitgroup",
            Cause::Cond => "cond",
            Cause::Semaphore => "semaphore",
            Cause::Cycle => "cycle",
            Cause::Timer => "timer",
            Cause::Sleep => "sleep",
            Cause::Io => "io",
            Cause::HttpBody => "http-body",
            Cause::SqlRows => "sql-rows",
            Cause::Process => "process",
            Cause::Syscall => "syscall",
            Cause::Cgo => "cgo",
            Cause::Running => "running",
            Cause::Other => "other",
        }
    }
}
