//! The immutable result that every output shows, and with it the JSON contract `golife.report/1`.
//!
//! Durations are integers in nanoseconds and have `_ns` in their names, times are RFC 3339 in UTC, counts are exact,
//! and what is not known is `null`, never 0. Fields may be added; any other change of meaning raises the number in
//! [`SCHEMA`].

mod baseline;
mod blame;
mod created;
mod diff;
mod finding;
mod frame;
mod go_test;
mod hdr;
mod hist;
mod ignore;
mod process;
mod redact;
mod run;
mod select;
mod service;
mod site;
mod verdict;
mod waiting;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use baseline::{Baseline, Baselined, Entry as BaselineEntry, NoEntry};
pub use blame::{BlamedFrame, LedBy};
pub use created::{CreatedOf, MaxCreated};
pub use diff::{Change, Changes, Compared, DIFF_SCHEMA, Diff, Difference, Measure, Seen, SiteDiff};
pub use finding::{Finding, FindingCounts};
pub use frame::{CountedFrame, CreationStack, ELIDED, Frame};
pub use go_test::{Leaked, StartedBy, Test, TestKind};
pub use hdr::Hdr;
pub use hist::{Estimated, EstimatedNs, HIST_SCHEMA, Hist, HistSite, Little, Scaled};
pub use ignore::Ignored;
pub use process::{Container, Go, Goroutines, Mode, Process, Scan, States};
pub use redact::Redacted;
pub use run::{BootWindow, Run};
pub use select::{Selection, Sort, Top};
pub use site::{CountedLabel, Lifetime, Oldest, Site, SurvivalPoint};
pub use verdict::{Cause, Evidence, EvidenceKind, Level, StaticCheck, Verdict};
pub use waiting::{Connection, Io, Others, Served, WaitedOn, WaitedOnKind, Waiting, WaitingStack};

/// Name and version of the JSON contract.
pub const SCHEMA: &str = "golife.report/1";

/// Everything that golife has found out in a run, or up to a moment of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Name and version of this format: `golife.report/1`. Fields may be added to a version; any other change of
    /// meaning raises its number.
    pub schema: String,
    /// The golife that made the report, and the host that it ran on.
    pub tool: Tool,
    /// The time that the report covers.
    pub window: Window,
    /// What was lost on the way to the report.
    pub loss: Loss,
    /// What tracing cost.
    pub overhead: Overhead,
    /// Additive: totals over all sites, also over those that `--top` or `--min-age` hide.
    #[serde(default)]
    pub summary: Summary,
    /// Additive: what `--ignore` was given, in that order.
    #[serde(default)]
    pub ignored: Vec<Ignored>,
    /// Additive: what `--baseline` lists, and what of it is not there any more; `null` without it.
    #[serde(default)]
    pub baseline: Option<Baselined>,
    /// Additive: what `--max-created` was given, in that order.
    #[serde(default)]
    pub max_created: Vec<CreatedOf>,
    /// Additive: the tests that ran in test binaries, by package and in the order of their names, with what they have left
    /// behind; empty where there was no test binary.
    #[serde(default)]
    pub tests: Vec<Test>,
    /// Additive: number of processes of Go's own tools, such as its compiler, that ran and are not in `processes`.
    #[serde(default)]
    pub toolchain_processes: u64,
    /// The processes that golife has traced or read, and those that it could not, with the reason.
    pub processes: Vec<Process>,
}

/// The golife that made a report, and the host that it ran on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Version of golife.
    pub version: String,
    /// Name of the host; `null` where it is not known.
    pub host: Option<String>,
    /// Release of the kernel, as `uname -r` prints it; `null` where it is not known.
    pub kernel: Option<String>,
    /// CPU architecture that golife was built for, as Rust names it, such as `x86_64` or `aarch64`.
    pub arch: String,
}

/// The time that a report covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// When the time begins that the report covers, as RFC 3339 in UTC.
    pub start: String,
    /// When the time ends that the report covers, as RFC 3339 in UTC.
    pub end: String,
    /// Length of the time that the report covers, in nanoseconds.
    pub duration_ns: u64,
}

/// What was lost: records that did not reach golife, and what golife could not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// Number of records that did not fit into the rings between the kernel and golife.
    pub dropped: u64,
    /// Number of exits of goroutines whose creation should have been seen, but was not.
    pub unmatched_exits: u64,
    /// Number of probe hits without a record, because the goroutine's memory could not be read.
    pub read_faults: u64,
    /// Number of differences between golife's table and the runtime's own list of goroutines that scans have corrected.
    pub reconciled: u64,
    /// Additive: number of exits of goroutines that existed before tracing and that no scan had seen.
    #[serde(default)]
    pub unattributed_exits: u64,
    /// Additive: number of goroutines that were counted but not followed, because golife's memory budget was used up.
    #[serde(default)]
    pub untracked: u64,
    /// Additive: number of goroutines whose creators were not kept, because golife's memory budget was used up. `blame`
    /// leaves these goroutines out.
    #[serde(default)]
    pub without_creators: u64,
    /// Additive: number of creations whose stack could not be read or kept; 0 without `--creation-stacks`.
    #[serde(default)]
    pub without_stack: u64,
    /// Additive: number of ended processes that are not in the report any more, because golife keeps only so many.
    #[serde(default)]
    pub forgotten_processes: u64,
    /// Additive: number of Go processes that ended before they could be looked at; 0 where there were probes. Others may
    /// have come and gone without having been noticed.
    #[serde(default)]
    pub missed_processes: u64,
    /// Additive: number of records that arrived but could not be read, because golife and its probes are of different
    /// builds.
    #[serde(default)]
    pub undecodable: u64,
    /// Additive: number of records of goroutines that arrived after the end of their process had been recorded. They
    /// are counted nowhere else.
    #[serde(default)]
    pub late: u64,
}

/// What tracing cost in the time that the report covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overhead {
    /// Number of times that a probe was hit; `null` where there were no probes.
    pub probe_hits: Option<u64>,
    /// CPU time in nanoseconds that one hit cost the traced process, as measured once by golife; `null` where it was
    /// not measured.
    pub target_ns_per_hit: Option<u64>,
    /// CPU time in nanoseconds that the traced processes lost to probes, which is `probe_hits` times
    /// `target_ns_per_hit`; `null` where that was not measured.
    pub target_cpu_ns: Option<u64>,
    /// CPU time in nanoseconds that golife itself has used; `null` where it was not measured.
    pub golife_cpu_ns: Option<u64>,
    /// Additive: CPU time in nanoseconds that the traced processes have used in the time that the report covers, for
    /// comparison; `null` where it was not measured.
    #[serde(default)]
    pub targets_used_cpu_ns: Option<u64>,
    /// Additive: where records wait until golife reads them; `null` where there were no probes.
    #[serde(default)]
    pub rings: Option<Rings>,
}

/// Where records wait between the kernel and golife.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rings {
    /// Which rings they are.
    pub kind: RingKind,
    /// The memory that they take in bytes.
    pub bytes: u64,
}

/// How a record gets from a CPU to golife.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RingKind {
    /// Each CPU has a ring of its own, which is written without a lock.
    PerCpu,
    /// The kernel's ring buffer, which has one lock for all CPUs.
    Shared,
}

/// Totals over all sites of all processes. The runtime's own sites count only with `--include-system`. The sites of each
/// verdict those that are ignored and those that are known are together all sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Number of sites.
    pub sites: u64,
    /// Number of goroutines that were created in the time that the report covers.
    pub created: u64,
    /// Number of goroutines that ended in the time that the report covers.
    pub exited: u64,
    /// Number of goroutines that are alive, or were alive when their process ended.
    pub live: u64,
    /// Number of sites with the verdict `proven` that are neither ignored nor known.
    pub proven: u64,
    /// Number of sites with the verdict `suspect` that are neither ignored nor known.
    pub suspect: u64,
    /// Number of sites with the verdict `watch` that are neither ignored nor known.
    pub watch: u64,
    /// Number of sites with the verdict `healthy` that are neither ignored nor known.
    pub healthy: u64,
    /// Number of sites with the verdict `unknown` that are neither ignored nor known.
    pub unknown: u64,
    /// Length in nanoseconds of the window that would tell more about all sites that `unknown` counts; `null` where a longer
    /// window is not what is missing.
    pub needs_ns: Option<u64>,
    /// Additive: number of findings, in which sites that leak together count once; `null` in reports of golife versions
    /// that did not look for what belongs together.
    #[serde(default)]
    pub findings: Option<FindingCounts>,
    /// Additive: number of sites that `--ignore` has silenced. No verdict counts them.
    #[serde(default)]
    pub ignored: u64,
    /// Additive: number of sites that `--baseline` lists and that are not ignored. No verdict counts them.
    #[serde(default)]
    pub known: u64,
}

impl Summary {
    /// The number of sites that have this verdict and are neither ignored nor known.
    pub fn of(&self, level: Level) -> u64 {
        match level {
            Level::Proven => self.proven,
            Level::Suspect => self.suspect,
            Level::Watch => self.watch,
            Level::Healthy => self.healthy,
            Level::Unknown => self.unknown,
        }
    }

    /// The worst verdict that any site has which is neither ignored nor known; `None` without such sites.
    pub fn worst(&self) -> Option<Level> {
        Level::WORST_FIRST.into_iter().find(|&level| self.of(level) > 0)
    }

    /// Adds the totals of another report, as that of another host, which may have any numbers.
    pub fn merge(&mut self, other: &Summary) {
        for (sum, more) in [
            (&mut self.sites, other.sites),
            (&mut self.created, other.created),
            (&mut self.exited, other.exited),
            (&mut self.live, other.live),
            (&mut self.proven, other.proven),
            (&mut self.suspect, other.suspect),
            (&mut self.watch, other.watch),
            (&mut self.healthy, other.healthy),
            (&mut self.unknown, other.unknown),
            (&mut self.ignored, other.ignored),
            (&mut self.known, other.known),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.needs_ns = self.needs_ns.max(other.needs_ns);
        if let Some(findings) = &other.findings {
            self.findings.get_or_insert_default().merge(findings);
        }
    }

    fn add_finding(&mut self, finding: &Finding) {
        self.findings.get_or_insert_default().add(finding);
    }

    fn add(&mut self, site: &Site) {
        self.sites += 1;
        self.created = self.created.saturating_add(site.created);
        self.exited = self.exited.saturating_add(site.exited);
        self.live = self.live.saturating_add(site.live);
        if site.is_silenced() {
            *(if site.ignored { &mut self.ignored } else { &mut self.known }) += 1;
            return;
        }
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
