//! A process in a report: what it is, how much of it is seen, its totals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::site::Site;

/// One process instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Its id in the initial pid namespace.
    pub pid: u32,
    /// When it started, RFC 3339 in UTC.
    pub start_time: Option<String>,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Additive: path of the library that its Go code is in, where that is not the executable.
    #[serde(default)]
    pub library: Option<String>,
    /// Its command line.
    pub command: Option<String>,
    /// GNU or Go build id of the executable.
    pub build_id: Option<String>,
    /// What its build says.
    pub go: Option<Go>,
    /// The container it runs in.
    pub container: Option<Container>,
    /// How much of it is seen.
    pub mode: Mode,
    /// Why, where the mode is not `traced`.
    pub detail: Option<String>,
    /// Additive: when it ended, RFC 3339 in UTC; counts are of that moment.
    #[serde(default)]
    pub ended: Option<String>,
    /// Additive: the last scan of its goroutines; `null` where there was none.
    #[serde(default)]
    pub scan: Option<Scan>,
    /// Totals.
    pub goroutines: Goroutines,
    /// Its sites, in the order asked for.
    pub sites: Vec<Site>,
}

/// A scan of a process's goroutines, read from its memory while it ran on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scan {
    /// How long it took.
    pub took_ns: u64,
    /// Goroutines that live, the runtime's own included.
    pub found: u64,
    /// Goroutines that the runtime keeps, dead ones included.
    pub listed: u64,
    /// Listed ones that could not be read.
    pub unreadable: u64,
    /// Stacks that changed while they were read, each time.
    pub torn: u64,
    /// It took too long: there are more goroutines than were found, and `waiting` counts too few.
    pub cut_short: bool,
}

/// What a Go build says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Go {
    /// `go1.26.8`.
    pub version: Option<String>,
    /// Path of the main module.
    pub module: Option<String>,
    /// Its version.
    pub module_version: Option<String>,
    /// The commit it was built from.
    pub revision: Option<String>,
    /// Whether its symbol table was removed.
    pub stripped: Option<bool>,
}

/// How much of a process is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Probes report every creation and exit.
    #[default]
    Traced,
    /// Only its memory was read.
    Scanned,
    /// Nothing: it cannot be traced.
    Unsupported,
    /// It ended; its state is that of its end.
    Gone,
}

/// Totals of a process. The runtime's own goroutines are in `system` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Goroutines {
    /// Living, or alive when the process ended.
    pub live: u64,
    /// The runtime's own that live.
    pub system: u64,
    /// Created since tracing began.
    pub created: u64,
    /// Ended since tracing began, of known sites.
    pub exited: u64,
    /// Existed before; `null` where they were not read.
    pub at_attach: Option<u64>,
}

impl Goroutines {
    /// The totals of all sites of a process, the runtime's own included.
    pub fn of(sites: &[Site]) -> Goroutines {
        let mut totals = Goroutines { at_attach: Some(0), ..Goroutines::default() };
        for site in sites {
            if site.system {
                totals.system += site.live;
            } else {
                totals.live += site.live;
                totals.created += site.created;
                totals.exited += site.exited;
                totals.at_attach = totals.at_attach.map(|sum| sum + site.at_attach);
            }
        }
        totals
    }
}

/// The container that a process runs in, as the path of its control group names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Its id.
    pub id: Option<String>,
    /// Additive: its name, where its runtime goes by names (LXC, systemd-nspawn).
    #[serde(default)]
    pub name: Option<String>,
    /// Path of its control group.
    pub cgroup: Option<String>,
    /// UID of the Kubernetes pod.
    pub pod: Option<String>,
    /// Kubernetes namespace; control groups do not tell it.
    pub namespace: Option<String>,
}
