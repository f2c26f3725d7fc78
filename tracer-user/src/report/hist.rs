//! Lifetimes and what follows from them, of sites that are merged from any number of reports, as plain data, and with it the
//! JSON contract `golife.hist/1`. The same rules hold as for reports: fields may be added, durations are integers in
//! nanoseconds, and what is not known is `null`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Frame, Level, Lifetime, SurvivalPoint};

/// Name and version of the JSON contract.
pub const HIST_SCHEMA: &str = "golife.hist/1";

/// The lifetimes of sites, and Little's law for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hist {
    /// Name and version of this format: `golife.hist/1`.
    pub schema: String,
    /// What `--scale` was given; `null` without it.
    pub scale: Option<f64>,
    /// Number of sites that are not listed because of `--top`.
    pub hidden: u64,
    /// The sites of which goroutines live or have ended, in the order of `--sort`.
    pub sites: Vec<HistSite>,
}

/// A `go` statement with a function that its goroutines run, in all processes of its program and all reports together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistSite {
    /// Path of the main module of its program, or else of the executable; `null` where neither is known.
    pub program: Option<String>,
    /// The `go` statement.
    pub site: Frame,
    /// The function that the goroutines run.
    pub entry: Frame,
    /// The worst verdict.
    pub level: Level,
    /// Number of goroutines created.
    pub created: u64,
    /// Number of goroutines that ended.
    pub ended: u64,
    /// Number of living goroutines, in the newest report of each process.
    pub live: u64,
    /// Lifetimes of the goroutines whose creation and end were both seen; `null` where there are none.
    pub lifetime: Option<Lifetime>,
    /// Kaplan–Meier estimate of the fraction of goroutines that live longer than an age, with Greenwood's intervals.
    pub survival: Vec<SurvivalPoint>,
    /// Little's law; `null` where nothing was created, or there is no mean lifetime.
    pub little: Option<Little>,
}

/// Little's law, live = rate × mean lifetime, for one process: each figure with its 95 % interval. In a single report nothing
/// shows how goroutines come in bursts or wait for each other, so that each is taken to come and go for itself; from six reports on,
/// the interval of the rate is that of their spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Little {
    /// Goroutines created per second.
    pub rate_per_s: Estimated,
    /// Mean lifetime, with the living taken into account: the area under `survival`. Where `high` is `null`, some outlived all that
    /// could be observed, and `value` is a lower bound.
    pub mean_lifetime_ns: EstimatedNs,
    /// Number of living goroutines that the law gives: rate × mean lifetime.
    pub expected: Estimated,
    /// Number of living goroutines that was observed, the mean over processes that run; `null` where all have ended.
    pub live: Option<Estimated>,
    /// `live` minus `expected`, with the error of that; `null` where `live` is.
    pub residual: Option<Estimated>,
    /// Whether the residual is no more than its error and a tenth of those that live can make it. If not, the site is not
    /// stationary, or leaks, and nothing is forecast. `null` where `live` is.
    pub steady: Option<bool>,
    /// By how many the living become more per second, for a site that is judged `suspect` or worse: it has no steady state; `null`
    /// for others.
    pub growth_per_s: Option<f64>,
    /// What `--scale` makes of it; `null` without that.
    pub scaled: Option<Scaled>,
}

/// What becomes of a site when the load is a number of times as high, and lifetimes are what they were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scaled {
    /// Goroutines created per second.
    pub rate_per_s: Estimated,
    /// Mean number of living goroutines; `null` where that cannot be said, since the site has no steady state.
    pub live: Option<Estimated>,
}

/// An estimate with its 95 % interval, to six significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimated {
    /// The estimate.
    pub value: f64,
    /// Lower end of the interval; `null` where nothing bounds it.
    pub low: Option<f64>,
    /// Upper end of the interval; `null` where nothing bounds it.
    pub high: Option<f64>,
}

/// An estimated duration in nanoseconds with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EstimatedNs {
    /// The estimate.
    pub value: u64,
    /// Lower end of the interval.
    pub low: u64,
    /// Upper end of the interval; `null` where nothing bounds it.
    pub high: Option<u64>,
}
