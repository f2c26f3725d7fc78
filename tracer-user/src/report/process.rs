//! A process in a report: what it is, how much of it is seen, and its totals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::go_test::StartedBy;
use super::site::Site;

/// One process, from its start or an `exec` to the next `exec` or its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Id of the process in the initial pid namespace.
    pub pid: u32,
    /// When the process started, as RFC 3339 in UTC; `null` where it is not known.
    pub start_time: Option<String>,
    /// Path of the executable, followed by ` (deleted)` where the file is not there any more; `null` where it is not
    /// known.
    pub exe: Option<String>,
    /// Additive: path of the library that the Go code is in; `null` where it is in the executable.
    #[serde(default)]
    pub library: Option<String>,
    /// Command line, with the arguments joined by spaces; `null` where it is not known.
    pub command: Option<String>,
    /// GNU build id of the file with the Go code, or else its Go build id; `null` where there is none or it is not
    /// known.
    pub build_id: Option<String>,
    /// What the Go build says about itself; `null` where it is not known.
    pub go: Option<Go>,
    /// The container that the process runs in; `null` where it runs in none, or where that is not known.
    pub container: Option<Container>,
    /// Additive: name of the systemd service that the process belongs to, without `.service`; `null` where it belongs to none.
    #[serde(default)]
    pub unit: Option<String>,
    /// Additive: the memory that the control group of the process may use, in bytes; `null` where that has no limit, or it is
    /// not known.
    #[serde(default)]
    pub memory_limit: Option<u64>,
    /// Additive: what the user calls the process (`--service`); `null` where the user did not say. See [`Process::service`].
    #[serde(default, rename = "service")]
    pub called: Option<String>,
    /// How much golife sees of the process.
    pub mode: Mode,
    /// Additive: whether the process is stopped, by a signal or a debugger, so that nothing in it runs.
    #[serde(default)]
    pub stopped: bool,
    /// What limits what golife sees of the process, such as the reason why it cannot be traced, for people to read;
    /// `null` where there is nothing to say.
    pub detail: Option<String>,
    /// Additive: how long golife kept the memory of the process after its end, to scan it, in nanoseconds; `null` where it
    /// did not. The process was not stopped for that.
    #[serde(default)]
    pub held_ns: Option<u64>,
    /// Additive: the test that has started the process; `null` where none has, or it is not known.
    #[serde(default)]
    pub started_by: Option<StartedBy>,
    /// Additive: when the process ended, as RFC 3339 in UTC, in which case all counts are of that moment; `null` while
    /// it runs.
    #[serde(default)]
    pub ended: Option<String>,
    /// Additive: the last scan of the goroutines; `null` where there was none.
    #[serde(default)]
    pub scan: Option<Scan>,
    /// Totals over all sites of the process, also over those that the report does not show.
    pub goroutines: Goroutines,
    /// The creation sites of the process's goroutines that were asked for, in the order that was asked for.
    pub sites: Vec<Site>,
    /// Additive: what leaks, worst first, with the sites that belong together. Each site with the verdict `watch` or worse
    /// is in one finding, unless it is ignored; empty in reports of golife versions that did not look for what belongs
    /// together.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

impl Process {
    /// Puts the sites into another order, or leaves some out. `order` has the index of each that stays.
    pub(super) fn rearrange(&mut self, order: &[usize]) {
        let mut now = vec![None; self.sites.len()];
        order.iter().enumerate().for_each(|(at, &before)| now[before] = Some(at));
        let mut sites: Vec<Option<Site>> = std::mem::take(&mut self.sites).into_iter().map(Some).collect();
        self.sites = order.iter().filter_map(|&before| sites[before].take()).collect();
        for finding in &mut self.findings {
            finding.sites = finding.sites.iter().filter_map(|&before| *now.get(before)?).collect();
        }
        self.findings.retain(|finding| !finding.sites.is_empty());
    }
}

/// A scan of a process's goroutines, read from its memory while it ran on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scan {
    /// How long the scan took, in nanoseconds.
    pub took_ns: u64,
    /// Number of living goroutines that were found, the runtime's own included.
    pub found: u64,
    /// Number of goroutines that the runtime lists, dead ones included.
    pub listed: u64,
    /// Number of listed goroutines that could not be read.
    pub unreadable: u64,
    /// Number of stacks that could not be read, because they changed at each attempt.
    pub torn: u64,
    /// Whether the scan was ended early, because it took too long or there were too many goroutines. If so, there are
    /// more goroutines than were found, and `waiting` counts too few.
    pub cut_short: bool,
    /// Additive: how long before the end of the process the scan was, in nanoseconds; 0 where it read the memory that was
    /// left; `null` while the process runs.
    #[serde(default)]
    pub before_end_ns: Option<u64>,
}

/// What a Go build says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Go {
    /// Version of Go that the program was built with, such as `go1.26.8`; `null` where it is not known.
    pub version: Option<String>,
    /// Path of the main module; `null` where the build does not say.
    pub module: Option<String>,
    /// Version of the main module; `null` where the build does not say.
    pub module_version: Option<String>,
    /// The commit that the program was built from, as its version control writes it; `null` where the build does not
    /// say.
    pub revision: Option<String>,
    /// Whether the program has no symbol table; `null` where it is not known.
    pub stripped: Option<bool>,
}

/// How much golife sees of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Probes report every creation and every exit of a goroutine.
    #[default]
    Traced,
    /// The memory of the process was read, but it has no probes: `created` and `exited` are the goroutines that a sweep has
    /// seen to come and to go between its looks. Others may have come and gone unseen.
    Scanned,
    /// The process cannot be traced, so nothing of it is seen.
    Unsupported,
    /// The process has ended, and what the report says is its state at that moment.
    Gone,
}

/// Totals of a process. The runtime's own goroutines are counted in `system` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Goroutines {
    /// Number of goroutines that are alive, or were alive when the process ended.
    pub live: u64,
    /// Number of the runtime's own goroutines that are alive, or were alive when the process ended.
    pub system: u64,
    /// Number of goroutines that were created in the time that the report covers.
    pub created: u64,
    /// Number of goroutines of known sites that ended in the time that the report covers.
    pub exited: u64,
    /// Number of goroutines that existed when the time began that the report covers; `null` where they were not read.
    pub at_attach: Option<u64>,
    /// Additive: what the goroutines were doing at the last scan, the runtime's own included; `null` where there was no
    /// scan, and after the end of the process.
    #[serde(default)]
    pub states: Option<States>,
}

/// How many goroutines were in which state, in the classes of Go's metrics `/sched/goroutines/…:goroutines`
/// (<https://pkg.go.dev/runtime/metrics>), which programs of Go 1.26 and newer have themselves, as an approximation. Here
/// each goroutine that one scan has found counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct States {
    /// Number of goroutines that ran on a CPU.
    pub running: u64,
    /// Number of goroutines that could have run but had no CPU.
    pub runnable: u64,
    /// Number of goroutines that waited for something.
    pub waiting: u64,
    /// Number of goroutines in a system call or in C code.
    pub not_in_go: u64,
}

impl States {
    /// The states of two processes together.
    pub fn plus(self, other: States) -> States {
        States {
            running: self.running.saturating_add(other.running),
            runnable: self.runnable.saturating_add(other.runnable),
            waiting: self.waiting.saturating_add(other.waiting),
            not_in_go: self.not_in_go.saturating_add(other.not_in_go),
        }
    }
}

impl Goroutines {
    /// The totals over all sites of a process, the runtime's own included.
    pub fn of<'sites>(sites: impl IntoIterator<Item = &'sites Site>) -> Goroutines {
        let mut totals = Goroutines { at_attach: Some(0), ..Goroutines::default() };
        for site in sites {
            if site.system {
                totals.system = totals.system.saturating_add(site.live);
            } else {
                totals.live = totals.live.saturating_add(site.live);
                totals.created = totals.created.saturating_add(site.created);
                totals.exited = totals.exited.saturating_add(site.exited);
                totals.at_attach = totals.at_attach.map(|sum| sum + site.at_attach);
            }
        }
        totals
    }
}

/// The container that a process runs in, as the path of its control group and the files of its runtime name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Id that the container runtime gave the container; `null` where it has none.
    pub id: Option<String>,
    /// Additive: name of the container: what runtimes such as LXC and systemd-nspawn use in place of an id, or what containerd,
    /// CRI-O, Docker and Podman have written down on the host; `null` where neither is known.
    #[serde(default)]
    pub name: Option<String>,
    /// Path of the container's control group; `null` where it is not known.
    pub cgroup: Option<String>,
    /// UID of the Kubernetes pod that the container belongs to; `null` where it belongs to none.
    pub pod: Option<String>,
    /// Kubernetes namespace of the pod; `null` where the runtime has not written it down, or its files cannot be read.
    pub namespace: Option<String>,
    /// Additive: name of the Kubernetes pod; `null` like `namespace`.
    #[serde(default)]
    pub pod_name: Option<String>,
    /// Additive: the workload (Deployment, DaemonSet, StatefulSet, Job) that the pod belongs to, by the pod's name; `null` like
    /// `namespace`.
    #[serde(default)]
    pub workload: Option<String>,
    /// Additive: the image that the container was made from, as it was asked for; `null` where the runtime has not written it
    /// down, or its files cannot be read.
    #[serde(default)]
    pub image: Option<String>,
}
