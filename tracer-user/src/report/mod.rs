//! The immutable result that every output shows, and the JSON contract `golife.report/1`.
//!
//! Durations are integers in nanoseconds with `_ns` in the name, times are RFC 3339 in UTC, counts are exact, and what is
//! not known is `null`, never 0. Fields may be added; another change of meaning raises the number in [`SCHEMA`].

mod frame;
mod hdr;
mod process;
mod run;
mod select;
mod site;
mod verdict;
mod waiting;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use frame::{CountedFrame, CreationStack, ELIDED, Frame};
pub use hdr::Hdr;
pub use process::{Container, Go, Goroutines, Mode, Process, Scan};
pub use run::{BootWindow, Run};
pub use select::{Selection, Sort, Top};
pub use site::{Lifetime, Oldest, Site, SurvivalPoint};
pub use verdict::{Cause, Evidence, EvidenceKind, Level, Verdict};
pub use waiting::{Others, WaitedOn, WaitedOnKind, Waiting, WaitingStack};

/// Name and version of the contract.
pub const SCHEMA: &str = "golife.report/1";

/// Everything that a run, or a tick of it, found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What made the report.
    pub tool: Tool,
    /// The time it covers.
    pub window: Window,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// RFC 3339 in UTC.
    pub start: String,
    /// RFC 3339 in UTC.
    pub end: String,
    /// Its length.
    pub duration_ns: u64,
}

/// What was lost: records that did not reach golife, and what golife could not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
