//! The capabilities that golife needs, which of them this process lacks, and what to do about it: see capabilities(7).

use caps::{CapSet, Capability};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::geteuid;

use super::{files::read_text, kernel};

/// A capability that golife needs.
pub struct Need {
    /// The capability.
    pub capability: Capability,
    /// Its name, as capabilities(7) has it.
    pub name: &'static str,
    /// What it is needed for: completes "cannot …".
    pub purpose: &'static str,
}

impl Need {
    const fn new(capability: Capability, name: &'static str, purpose: &'static str) -> Need {
        Need { capability, name, purpose }
    }
}

/// All capabilities that golife needs on some kernel.
const NEEDS: [Need; 7] = [
    Need::new(Capability::CAP_BPF, "CAP_BPF", "load programs"),
    Need::new(Capability::CAP_PERFMON, "CAP_PERFMON", "place probes, read memory from programs"),
    Need::new(
        Capability::CAP_SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "place probes through perf events, before Linux 6.10",
    ),
    Need::new(Capability::CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", "lock memory for maps, before Linux 5.11"),
    Need::new(Capability::CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "look at other users' processes"),
    Need::new(
        Capability::CAP_DAC_READ_SEARCH,
        "CAP_DAC_READ_SEARCH",
        "follow forks for golife run, open binaries that only their owner may read",
    ),
    Need::new(
        Capability::CAP_LEASE,
        "CAP_LEASE",
        "probe other users' binaries for every process that runs them, only for each by itself",
    ),
];

/// The capabilities that matter on the running kernel.
pub fn that_matter() -> impl Iterator<Item = &'static Need> {
    let is_limited = kernel::running() < kernel::UNLIMITED_SINCE;
    NEEDS.iter().filter(move |need| is_limited || need.capability != Capability::CAP_SYS_RESOURCE)
}

/// Whether nothing can be traced without this capability on the running kernel.
pub fn is_needed(capability: Capability) -> bool {
    match capability {
        Capability::CAP_SYS_ADMIN => kernel::running() < kernel::MULTI_SINCE,
        Capability::CAP_DAC_READ_SEARCH | Capability::CAP_LEASE => false,
        _ => true,
    }
}

/// The names of the capabilities that this process lacks and without which nothing can be traced.
pub fn missing() -> Vec<&'static str> {
    let missing = that_matter().filter(|need| is_needed(need.capability) && !has(need.capability));
    missing.map(|need| need.name).collect()
}

/// Whether this process cannot look at the processes of other users because it lacks CAP_SYS_PTRACE.
pub fn lacks_ptrace() -> bool {
    !has(Capability::CAP_SYS_PTRACE)
}

/// Why the kernel forbids to look at a process, and what the user can do about it.
pub fn ptrace_remedy() -> &'static str {
    // In the initial user namespace, this maps every id to itself, in one line.
    let ids = read_text("/proc/self/uid_map").unwrap_or_default();
    let of_host = ids.split_whitespace().eq(["0", "0", "4294967295"]);
    match (lacks_ptrace(), geteuid().is_root()) {
        (true, _) if ptrace_scope() == 2 => {
            "kernel.yama.ptrace_scope is 2: grant CAP_SYS_PTRACE, or sysctl kernel.yama.ptrace_scope=1 for what golife runs itself"
        }
        _ if ptrace_scope() >= 3 => {
            "kernel.yama.ptrace_scope is 3, so nobody may: start the machine without that setting"
        }
        (true, false) => "run as root or grant CAP_SYS_PTRACE",
        (true, true) => "this root lacks CAP_SYS_PTRACE, as in most containers: grant it",
        (false, _) if !of_host => "golife is root in its own user namespace only: run it as root of the host",
        (false, _) => "CAP_SYS_PTRACE is there, so a security module refuses: see golife doctor",
    }
}

/// How far the kernel restricts who may look at whom (<https://docs.kernel.org/admin-guide/LSM/Yama.html>): 0 where it does not,
/// 1 to descendants, 2 to those with CAP_SYS_PTRACE, 3 to nobody.
pub fn ptrace_scope() -> u8 {
    let scope = read_text("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    scope.trim().parse().unwrap_or(0)
}

/// Whether this process may do what a capability allows. The kernel accepts CAP_SYS_ADMIN in place of CAP_BPF and
/// CAP_PERFMON, which were split off from it; without a limit of locked memory, CAP_SYS_RESOURCE is not needed.
pub fn has(capability: Capability) -> bool {
    let effective = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    if capability == Capability::CAP_SYS_RESOURCE
        && getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(is_unlimited)
    {
        return true;
    }
    let split_off = matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON);
    effective(capability) || split_off && effective(Capability::CAP_SYS_ADMIN)
}

fn is_unlimited((_, hard): (u64, u64)) -> bool {
    hard == RLIM_INFINITY
}

/// What the user can do where the kernel denies permission. It names the missing capabilities, if there are any.
pub fn remedy() -> String {
    match &missing()[..] {
        [] => {
            "all capabilities are there, so a security module or lockdown refuses: see golife doctor".into()
        }
        [only] => format!("run as root or grant {only}"),
        [most @ .., last] => format!("run as root or grant {} and {last}", most.join(", ")),
    }
}
