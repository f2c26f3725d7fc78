//! A creation site in a report: its counts, lifetimes, creators, what its goroutines wait for, and the judgement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::{CountedFrame, CreationStack, Frame};
use super::hdr::Hdr;
use super::verdict::Verdict;
use super::waiting::Waiting;

/// One creation site. `created + at_attach = exited + live + reconciled + untracked`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    pub living_hdr: Option<Hdr>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Oldest {
    /// Its age.
    pub age_ns: u64,
    /// Whether it may be older: its creation was not seen.
    pub at_least: bool,
}

/// A distribution of lifetimes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub hdr: Hdr,
}

/// A point of a survival curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SurvivalPoint {
    /// Age.
    pub at_ns: u64,
    /// Fraction that lives longer, to 6 digits.
    pub fraction: f64,
}
