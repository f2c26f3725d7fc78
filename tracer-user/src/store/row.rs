//! A row of a sweep file as plain data: what one host knew of one creation site of a group of processes at one moment.

use crate::report::Level;

/// What is known of one creation site in all processes of one service, version and build on one host. What is not known is
/// `None`, never 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// When the sweep was made: milliseconds since 1970, UTC.
    pub sweep_time_ms: i64,
    /// Name of the host.
    pub host: String,
    /// What the processes are to the people who run them: see [`crate::report::Process::service`].
    pub service: String,
    /// Version of the program: see [`crate::report::Process::version`].
    pub version: Option<String>,
    /// GNU or Go build id of the program.
    pub build_id: Option<String>,
    /// Version of Go that the program was built with, such as `go1.26.8`.
    pub go_version: Option<String>,
    /// Image of the container.
    pub image: Option<String>,
    /// Path of the program's main module.
    pub module: Option<String>,
    /// The function that the `go` statement is in.
    pub function: String,
    /// Path of its source file, as it was compiled in.
    pub file: Option<String>,
    /// Line of the `go` statement.
    pub line: Option<u32>,
    /// Which `go` statement of its function it is, from 1.
    pub ordinal: Option<u32>,
    /// The function that the goroutines run.
    pub entry: String,
    /// Number of goroutines that were created in `window_ns`.
    pub created: u64,
    /// Number of goroutines that ended in `window_ns`.
    pub exited: u64,
    /// Number of goroutines that are alive.
    pub live: u64,
    /// Number of goroutines that existed when the window began.
    pub at_attach: u64,
    /// Age of the oldest living goroutine in ns.
    pub oldest_ns: Option<u64>,
    /// Whether that goroutine may be older.
    pub oldest_at_least: Option<bool>,
    /// Memory of the stacks of the living, in bytes.
    pub stack_bytes: Option<u64>,
    /// What the living wait for, as (reason, count), most first.
    pub waits: Vec<(String, u64)>,
    /// The worst verdict on the site in any of the processes.
    pub level: Level,
    /// The cause that goes with it, by its name in the report.
    pub cause: Option<String>,
    /// The reasons that go with it, in words.
    pub evidence: Vec<String>,
    /// Lifetimes of the goroutines that ended, as (bucket of [`crate::stats::native`], count), shortest first.
    pub lifetime: Vec<(i32, u64)>,
    /// Number of those lifetimes.
    pub lifetime_count: u64,
    /// Sum of those lifetimes in seconds.
    pub lifetime_sum_s: f64,
    /// The whole distribution of lifetimes in ns: HdrHistogram V2 with deflate; written only where somebody asked for it.
    pub hdr: Option<Vec<u8>>,
    /// How far the counts can be trusted.
    pub counts: Counts,
    /// Number of records that the host lost in the window.
    pub dropped: u64,
    /// One of the processes: that with the most living goroutines of the site.
    pub pid: u32,
    /// Number of the processes.
    pub processes: u32,
    /// When the youngest of them started: milliseconds since 1970, UTC. Where it changes, goroutines of before are gone.
    pub started_ms: Option<i64>,
    /// The time in ns that `created`, `exited` and lifetimes are counted over.
    pub window_ns: u64,
    /// The memory that the control group of that process may use, in bytes; `None` where it may use all.
    pub memory_limit: Option<u64>,
    /// The frame of the program's own module that most of the living go back to, as `function file:line`.
    pub blame: Option<String>,
}

/// How far the counts of a row can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counts {
    /// Every creation and every end was seen.
    #[default]
    Exact,
    /// They are projected from a sample.
    Estimated,
    /// They are too low: some records were lost, or there were no probes, so that goroutines came and went unseen between
    /// two looks.
    Incomplete,
}

impl Counts {
    /// Its name in a file.
    pub fn name(self) -> &'static str {
        match self {
            Counts::Exact => "exact",
            Counts::Estimated => "estimated",
            Counts::Incomplete => "incomplete",
        }
    }

    /// What two counts are together: as bad as the worse of them.
    pub fn and(self, other: Counts) -> Counts {
        match (self, other) {
            (Counts::Incomplete, _) | (_, Counts::Incomplete) => Counts::Incomplete,
            (Counts::Estimated, _) | (_, Counts::Estimated) => Counts::Estimated,
            (Counts::Exact, Counts::Exact) => Counts::Exact,
        }
    }
}
