//! A creation site in a report: its counts, lifetimes and creators, what its goroutines wait for, and the judgement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::blame::BlamedFrame;
use super::frame::{CountedFrame, CreationStack, Frame};
use super::hdr::Hdr;
use super::verdict::Verdict;
use super::waiting::Waiting;
use crate::stats::Durations;
use crate::stats::durations::HdrError;

/// One creation site: a `go` statement with a function that its goroutines run. Of its counts,
/// `created + at_attach = exited + live + reconciled + untracked` is always true.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Site {
    /// The `go` statement that creates the goroutines.
    pub site: Frame,
    /// Additive: which `go` statement of its function it is, from 1: the place among the calls of `runtime.newproc` in the code
    /// of that function, executed or not, by line and then by address. It stays when lines move. `null` where it is not known,
    /// as where the code cannot be read, and for a row of many sites.
    #[serde(default)]
    pub ordinal: Option<u32>,
    /// The function that the goroutines run.
    pub entry: Frame,
    /// Number of goroutines that were created in the time that the report covers.
    pub created: u64,
    /// Number of goroutines that ended in the time that the report covers.
    pub exited: u64,
    /// Number of goroutines that are alive, or were alive when the process ended.
    pub live: u64,
    /// Number of goroutines that existed when the time began that the report covers.
    pub at_attach: u64,
    /// The oldest living goroutine; `null` where none is alive, or where its age is not known.
    pub oldest: Option<Oldest>,
    /// Lifetimes of the goroutines whose creation and end were both seen; `null` where there are none.
    pub lifetime: Option<Lifetime>,
    /// Kaplan–Meier estimate of the fraction of goroutines that live longer than an age. It takes into account those
    /// that are alive, which live at least as long as they are old. Empty where there were no probes.
    pub survival: Vec<SurvivalPoint>,
    /// Memory that the stacks of the living goroutines take, in bytes; `null` where no scan has looked at them, and for a
    /// row of many sites. After the end of a process it is what the last scan has found: see `before_end_ns`.
    pub stack_bytes: Option<u64>,
    /// The sites that the creators of the goroutines were created at themselves, and how many goroutines such creators
    /// made, most first, at most 8.
    pub parents: Vec<CountedFrame>,
    /// Frames of the main module that led to this site through any number of creators, dead or alive: calls of their
    /// creation stacks where those are known, or else calls that the creators were still in when golife looked, or else
    /// their `go` statements. They are counted over the living goroutines; exact ones first, then most first, at most
    /// 20. Empty where none is known; `null` for a site of the main module itself and for a row of many sites. Who led
    /// to goroutines need not be at fault, and where `blame_unknown` is half of `live` or more, nobody is told, unless most of those that
    /// were created in this time go back to a frame.
    pub blame: Option<Vec<BlamedFrame>>,
    /// Additive: number of living goroutines for which no frame of the main module is known; `null` where `blame` is.
    #[serde(default)]
    pub blame_unknown: Option<u64>,
    /// Additive: frames of dependencies that led to a site of the standard library, in the same way and order as those
    /// in `blame`. They are counted over the living goroutines for which no frame of the main module is known.
    #[serde(default)]
    pub dependencies: Vec<BlamedFrame>,
    /// Additive: the creators' stacks at the `go` statement, most living goroutines first, at most 20. Only goroutines
    /// whose creation was seen are counted. `null` without `--creation-stacks`.
    #[serde(default)]
    pub creation_stacks: Option<Vec<CreationStack>>,
    /// What the living goroutines wait for, at most 10 groups: first those that grow from look to look, and of these and
    /// of the others those of most goroutines first; `null` where no scan has looked at them, and for a row of many
    /// sites. After the end of a process it is what the last scan has found: see `before_end_ns`.
    pub waiting: Option<Vec<Waiting>>,
    /// The judgement of the site.
    pub verdict: Verdict,
    /// Additive: the most goroutines that were alive at the same time, in the time that the report covers.
    #[serde(default)]
    pub peak_live: u64,
    /// Additive: number of goroutines created per second, over the time in which the process was observed; `null` where
    /// it is not known.
    #[serde(default)]
    pub created_per_s: Option<f64>,
    /// Additive: when the first creation was seen, as RFC 3339 in UTC; `null` where none was seen.
    #[serde(default)]
    pub first_created: Option<String>,
    /// Additive: when the last creation was seen, as RFC 3339 in UTC; `null` where none was seen.
    #[serde(default)]
    pub last_created: Option<String>,
    /// Additive: mean lifetime in nanoseconds with the living goroutines taken into account, which is the area under
    /// `survival` up to the longest observation; `null` where nothing was observed. If `survival` ends above 0, the
    /// true mean is higher.
    #[serde(default)]
    pub restricted_mean_ns: Option<u64>,
    /// Additive: distribution of the ages of the living goroutines whose creation was seen, encoded as `lifetime.hdr`
    /// is; `null` where there are none.
    #[serde(default)]
    pub living_hdr: Option<Hdr>,
    /// Additive: number of goroutines that a scan found gone although no exit was seen.
    #[serde(default)]
    pub reconciled: u64,
    /// Additive: number of goroutines that were counted but not followed, because golife's memory budget was used up.
    #[serde(default)]
    pub untracked: u64,
    /// Additive: the profiler labels (`pprof.Do`) that most of the goroutines carry which the last scan found, most first,
    /// at most 10; `null` in the same cases as `waiting`.
    #[serde(default)]
    pub labels: Option<Vec<CountedLabel>>,
    /// Additive: whether this row stands for all sites of the process beyond the limit `--max-sites`.
    #[serde(default)]
    pub other: bool,
    /// Additive: whether the goroutines are the runtime's own.
    #[serde(default)]
    pub system: bool,
    /// Additive: whether `--ignore` has silenced the site: its verdict stands, but it is in no finding, and `--fail-on` does
    /// not count it.
    #[serde(default)]
    pub ignored: bool,
    /// Additive: whether `--baseline` lists the `go` statement: its verdict stands, but it is in no finding, and `--fail-on` does
    /// not count it.
    #[serde(default)]
    pub known: bool,
}

/// A profiler label, and how many goroutines carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountedLabel {
    /// The name of the label.
    pub key: String,
    /// The value that the label has.
    pub value: String,
    /// Number of goroutines that carry the label with this value.
    pub count: u64,
}

impl CountedLabel {
    /// Most labels of one site.
    pub const MOST: usize = 10;
}

impl Site {
    /// Whether the verdict counts for nothing, because the site is ignored or known.
    pub fn is_silenced(&self) -> bool {
        self.ignored || self.known
    }

    /// What to call it where it is silenced.
    pub fn silenced(&self) -> Option<&'static str> {
        match (self.ignored, self.known) {
            (true, _) => Some("ignored"),
            (false, true) => Some("known"),
            (false, false) => None,
        }
    }

    /// Whether the numbers can be those of a site. Counts are not compared, since sums of them saturate.
    ///
    /// # Errors
    /// The field that cannot be, and why.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.created_per_s.is_some_and(|rate| !(rate >= 0.0 && rate.is_finite())) {
            return Err("created_per_s: not a rate");
        }
        if self.survival.iter().any(|point| !(0.0..=1.0).contains(&point.fraction)) {
            return Err("survival: a fraction that is not from 0 to 1");
        }
        if self.lifetime.as_ref().is_some_and(|lifetime| lifetime.min_ns > lifetime.max_ns) {
            return Err("lifetime: min_ns is more than max_ns");
        }
        Ok(())
    }
}

/// The age of the oldest living goroutine of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Oldest {
    /// Age of the goroutine, in nanoseconds.
    pub age_ns: u64,
    /// Whether the goroutine may be older, because its creation was not seen.
    pub at_least: bool,
}

/// A distribution of the lifetimes of goroutines that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lifetime {
    /// Number of lifetimes.
    pub count: u64,
    /// Shortest lifetime in nanoseconds, exact.
    pub min_ns: u64,
    /// Mean lifetime in nanoseconds, exact.
    pub mean_ns: u64,
    /// Median lifetime in nanoseconds. Above 10 µs, this and the percentiles are at most 1 % too long.
    pub p50_ns: u64,
    /// 90th percentile of the lifetimes, in nanoseconds.
    pub p90_ns: u64,
    /// 99th percentile of the lifetimes, in nanoseconds.
    pub p99_ns: u64,
    /// 99.9th percentile of the lifetimes, in nanoseconds.
    pub p999_ns: u64,
    /// Longest lifetime in nanoseconds, exact.
    pub max_ns: u64,
    /// The whole distribution of the lifetimes in nanoseconds: base64 of HdrHistogram's V2 encoding with deflate
    /// compression.
    pub hdr: Hdr,
}

impl Lifetime {
    /// The whole distribution, with the figures that are exact.
    ///
    /// # Errors
    /// The histogram of a saved report cannot be decoded.
    pub fn durations(&self) -> Result<Durations, HdrError> {
        let read = self.hdr.durations()?.into_owned();
        Ok(read.with_exact(self.min_ns, self.max_ns, self.mean_ns))
    }
}

/// A point of a survival curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SurvivalPoint {
    /// Age of a goroutine, in nanoseconds.
    pub at_ns: u64,
    /// Fraction of the goroutines that live longer than this age, from 0 to 1, rounded to 6 digits.
    pub fraction: f64,
    /// Additive: lower end of the 95 % interval of `fraction`, by Greenwood's formula; `null` in reports of golife versions
    /// that did not say it.
    #[serde(default)]
    pub low: Option<f64>,
    /// Additive: upper end of that interval.
    #[serde(default)]
    pub high: Option<f64>,
}
