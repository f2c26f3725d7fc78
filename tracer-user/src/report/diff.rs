//! What has changed between two reports, as plain data, and with it the JSON contract `golife.diff/1`. The same rules hold as
//! for reports: fields may be added, durations are integers in nanoseconds, and what is not known is `null`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cause, Frame, Level};

/// Name and version of the JSON contract.
pub const DIFF_SCHEMA: &str = "golife.diff/1";

/// What has changed from one report to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// Name and version of this format: `golife.diff/1`.
    pub schema: String,
    /// The report that is compared with.
    pub old: Compared,
    /// The report that is compared.
    pub new: Compared,
    /// How many statements there are of each kind of change.
    pub summary: Changes,
    /// How rarely chance may bring about any difference at all that is called significant, if nothing has changed and
    /// goroutines are created independently of each other. It is divided by `tests`.
    pub chance: f64,
    /// Number of differences that were tested, those of unchanged statements included.
    pub tests: u64,
    /// The statements that have changed, those that fail first, then the worst.
    pub sites: Vec<SiteDiff>,
}

/// One of the two reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// Path of the file, as it was given.
    pub path: String,
    /// When the time begins that the report covers, as RFC 3339 in UTC.
    pub start: String,
    /// Length of that time in nanoseconds.
    pub duration_ns: u64,
    /// Number of processes that were traced or read.
    pub processes: u64,
    /// Number of rows that stand for many sites, because there were more than `--max-sites`. They are not compared.
    pub unnamed: u64,
    /// Number of sites that the report does not show, as with `--top` or `--min-age`. What is new or gone may be one of them.
    pub hidden: u64,
}

/// How many statements there are of each kind of change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Number of statements that have become worse.
    pub worse: u64,
    /// Number of statements that are only in the new report.
    pub new: u64,
    /// Number of statements that are only in the old report.
    pub gone: u64,
    /// Number of statements that have become better.
    pub better: u64,
    /// Number of statements of which more or fewer are created or live longer or shorter, and which are neither worse nor
    /// better.
    pub changed: u64,
    /// Number of statements that have not changed by more than chance. They are not listed.
    pub same: u64,
    /// Number of statements that `--fail-on worse` counts.
    pub regressions: u64,
}

/// How a statement has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Its verdict is worse, or else significantly more are alive.
    Worse,
    /// It is only in the new report.
    New,
    /// It is only in the old report: it is gone, renamed, or was not executed.
    Gone,
    /// The opposite of worse.
    Better,
    /// Neither, but significantly more or fewer are created, or they live longer or shorter. Load and chance do that, too.
    Changed,
}

impl Change {
    /// The name that is shown.
    pub fn name(self) -> &'static str {
        match self {
            Change::Worse => "worse",
            Change::New => "new",
            Change::Gone => "gone",
            Change::Better => "better",
            Change::Changed => "changed",
        }
    }
}

/// A `go` statement that has changed, with all functions that it starts, in all processes of its program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SiteDiff {
    /// How it has changed.
    pub change: Change,
    /// Whether `--fail-on worse` counts it: it is worse, or new and judged `watch` or worse, and neither ignored nor known.
    pub regression: bool,
    /// Path of the main module of its program, with the name of the executable where several have that module, or else
    /// the path of the executable; `null` where neither is known.
    pub program: Option<String>,
    /// The statement: where it is in the new report, or else in the old one.
    pub site: Frame,
    /// Which `go` statement of its function it is; `null` where that is not known.
    pub ordinal: Option<u32>,
    /// What was seen of it in the old report; `null` where it is not there.
    pub old: Option<Seen>,
    /// What was seen of it in the new report; `null` where it is not there.
    pub new: Option<Seen>,
    /// In what the two differ, as far as that could be compared.
    pub differences: Vec<Difference>,
}

/// What was seen of a statement in one report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// The worst verdict.
    pub level: Level,
    /// The cause that goes with it; `null` where there is none.
    pub cause: Option<Cause>,
    /// Whether all of it is ignored or known.
    pub silenced: bool,
    /// Number of goroutines created.
    pub created: u64,
    /// Number of goroutines created per second and process; `null` where the creations were not all seen, and where all
    /// processes were seen from start to end in both reports: then `created` is compared by process.
    pub created_per_s: Option<f64>,
    /// Number of living goroutines, or of those that lived when their process ended.
    pub live: u64,
    /// Median lifetime in nanoseconds of those that ended; `null` where none is known.
    pub p50_ns: Option<u64>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The verdict, where both can tell.
    Verdict,
    /// Living goroutines per process.
    Live,
    /// The lifetimes of goroutines that ended.
    Lifetime,
    /// Goroutines created, per second and process, or per process where all were seen from start to end.
    Created,
}

/// A difference between the two reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// What is compared.
    pub measure: Measure,
    /// Whether the new report has the worse verdict, or more, or longer lives.
    pub worse: bool,
    /// How likely chance alone makes so large a difference, from 0 to 1; `null` for verdicts, which take chance into account
    /// themselves.
    pub p: Option<f64>,
    /// Whether it counts: `p` is below `chance` divided by `tests`, and the difference is a large one (half as much again;
    /// lifetimes by the median and by 10 ms, too, and three in five pairs are so). Verdicts always count.
    pub significant: bool,
}
