//! The judgement of a site as data: how bad it is, why, what keeps its goroutines from ending, and what to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad a site is, in ascending order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Too little was seen to judge the site.
    #[default]
    Unknown,
    /// The goroutines end as they should, or stay few.
    Healthy,
    /// The site is unusual, but a harmless explanation cannot be excluded.
    Watch,
    /// By what was measured, the site behaves as a leak does.
    Suspect,
    /// The goroutines cannot end any more.
    Proven,
}

impl Level {
    /// All levels, worst first.
    pub const WORST_FIRST: [Level; 5] =
        [Level::Proven, Level::Suspect, Level::Watch, Level::Healthy, Level::Unknown];

    /// The name of the level in a report.
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
    /// The number of living goroutines has risen steadily and still rises.
    Growth,
    /// Goroutines live longer than is usual for their site.
    Age,
    /// Goroutines are created all the time, and none has ever ended.
    Endless,
    /// The number of living goroutines stays about the same.
    Steady,
    /// The number of living goroutines rose and fell again.
    Receded,
    /// All goroutines have ended.
    Ended,
    /// The time that the report covers is too short to tell.
    Short,
    /// The row stands for many sites, so it cannot be judged.
    Overflow,
    /// Some goroutines were counted but not followed.
    Untracked,
    /// Goroutines wait for something that can never happen.
    Hopeless,
    /// Goroutines stand in a queue that does not move.
    Stuck,
    /// Goroutines lived when their process ended.
    Left,
    /// Additive: goroutines have outlived the test that led to them.
    Test,
    /// Goroutines are still blocked at the place where an earlier scan has seen them.
    Unmoved,
    /// Additive: the goroutines do different things, and the cause is not that of most of them but of those that grew.
    Mixed,
    /// The reason is one that only a newer golife knows.
    #[serde(other)]
    Other,
}

/// One reason for a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What the reason is about.
    pub kind: EvidenceKind,
    /// The reason in words and numbers, for people to read.
    pub text: String,
}

impl Evidence {
    /// A reason of this kind, in these words.
    pub fn new(kind: EvidenceKind, text: impl Into<String>) -> Evidence {
        Evidence { kind, text: text.into() }
    }
}

/// The judgement of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// How bad the site is.
    pub level: Level,
    /// The reasons for the level, strongest first.
    pub evidence: Vec<Evidence>,
    /// What keeps the living goroutines from ending; `null` where the level is below `watch`, or where no scan has
    /// looked at what they wait for.
    pub cause: Option<Cause>,
    /// What to do about it, for people to read; `null` where there is no cause.
    pub advice: Option<String>,
    /// Additive: length in nanoseconds of the window that would tell more; `null` where this window is not too short.
    #[serde(default)]
    pub needs_ns: Option<u64>,
    /// Additive: the check of source code that reports mistakes of this kind, as far as it can see them, so that the next one
    /// may be caught before it runs; `null` where none is known.
    #[serde(default)]
    pub static_check: Option<StaticCheck>,
}

/// A check of source code, without running it, that reports a mistake of which goroutines leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StaticCheck {
    /// `lostcancel` of `go vet`, for contexts whose cancel function is not called.
    LostCancel,
    /// `bodyclose`, for bodies of HTTP responses that are not closed.
    BodyClose,
    /// `sqlclosecheck`, for rows of SQL queries that are not closed. `rowserrcheck` is its companion, for rows whose errors
    /// are not looked at.
    SqlCloseCheck,
    /// `SA1015` of `staticcheck`, for tickers of `time.Tick` that nobody can stop.
    Sa1015,
    /// One that only a newer golife knows.
    #[serde(other)]
    Other,
}

impl StaticCheck {
    /// What the check reports, for people to read; `None` for those that only a newer golife knows.
    pub fn reports(self) -> Option<&'static str> {
        match self {
            StaticCheck::LostCancel => {
                Some("lostcancel (go vet) reports a cancel function that is not called on every path")
            }
            StaticCheck::BodyClose => Some("bodyclose reports a response whose body is not closed"),
            StaticCheck::SqlCloseCheck => Some(
                "sqlclosecheck reports rows that are not closed, and rowserrcheck rows whose error is not checked",
            ),
            StaticCheck::Sa1015 => {
                Some("SA1015 (staticcheck) reports a time.Tick whose ticker can never be stopped")
            }
            StaticCheck::Other => None,
        }
    }
}

/// What keeps goroutines from ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The goroutines wait to receive from a channel that nobody closes or sends on.
    ChanReceive,
    /// The goroutines wait to send on a channel that nobody receives from.
    ChanSend,
    /// The goroutines wait in a `select` of which no case can proceed.
    Select,
    /// The goroutines wait on a channel that is nil, because it was never made.
    NilChan,
    /// The goroutines wait for a context to be done that nobody cancels.
    Context,
    /// The goroutines wait for a `sync.Mutex` or `sync.RWMutex` that is not unlocked.
    Mutex,
    /// The goroutines wait for a `sync.WaitGroup` whose count stays above zero.
    #[serde(rename = "waitgroup")]
    WaitGroup,
    /// The goroutines wait for a `sync.Cond` that nobody signals.
    Cond,
    /// The goroutines wait for a semaphore whose places are not given back.
    Semaphore,
    /// The goroutines wait for each other.
    Cycle,
    /// The goroutines are in a loop without an end that waits for a timer or ticker.
    Timer,
    /// The goroutines are in a loop without an end that sleeps.
    Sleep,
    /// The goroutines wait for input or output without a deadline.
    Io,
    /// The goroutines belong to an HTTP response whose body is not closed.
    HttpBody,
    /// The goroutines belong to a SQL query, transaction or database that is not closed.
    SqlRows,
    /// The goroutines belong to a child process that does not end, or that nobody waits for.
    Process,
    /// The goroutines are in a system call that does not return.
    Syscall,
    /// The goroutines are in C code that does not return.
    Cgo,
    /// The goroutines are in a loop without an end that computes.
    Running,
    /// The cause is another one, or one that only a newer golife knows.
    #[serde(other)]
    Other,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 20] = [
        Cause::ChanReceive,
        Cause::ChanSend,
        Cause::Select,
        Cause::NilChan,
        Cause::Context,
        Cause::Mutex,
        Cause::WaitGroup,
        Cause::Cond,
        Cause::Semaphore,
        Cause::Cycle,
        Cause::Timer,
        Cause::Sleep,
        Cause::Io,
        Cause::HttpBody,
        Cause::SqlRows,
        Cause::Process,
        Cause::Syscall,
        Cause::Cgo,
        Cause::Running,
        Cause::Other,
    ];

    /// The name of the cause in a report.
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
