//! The running kernel: its release, what it has and since when, how it describes its tracepoints.

use std::{fs, path::Path};

/// Linux has attach cookies from here on: <https://github.com/torvalds/linux/commit/82e6b1eee6a8>.
pub const COOKIES_SINCE: (u32, u32) = (5, 15);

/// Linux 6.6 has uprobe-multi links, but before 6.10 their pid filter lets only one thread of the process through.
pub const MULTI_SINCE: (u32, u32) = (6, 10);

/// Before, maps and programs count as locked memory, of which a process may have little.
pub const UNLIMITED_SINCE: (u32, u32) = (5, 11);

/// There where the kernel has uprobes.
pub const UPROBES: &str = "/sys/bus/event_source/devices/uprobe/type";

/// Where tracefs is mounted, on all distributions.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Version of the running kernel: `(6, 18)`. Whoever tests the ways of an older one can set GOLIFE_KERNEL to its release.
pub fn running() -> (u32, u32) {
    let pretended = std::env::var("GOLIFE_KERNEL").ok();
    let release =
        pretended.unwrap_or_else(|| fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default());
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Where this kernel's own description of a scheduler tracepoint puts a field: it moves between versions. `None` where
/// there is no such field, or tracefs is not mounted.
pub fn field_offset(tracepoint: &str, field: &str) -> Option<u32> {
    let format = TRACEFS
        .iter()
        .find_map(|root| fs::read_to_string(format!("{root}/events/sched/{tracepoint}/format")).ok())?;
    let line = format.lines().find(|line| line.contains(&format!(" {field};")))?;
    line.split("offset:").nth(1)?.split(';').next()?.trim().parse().ok()
}

/// Where tracefs can be read, or why it cannot and what to do.
pub fn tracefs() -> Result<&'static str, (&'static str, &'static str)> {
    let readable = TRACEFS.iter().find(|root| Path::new(root).join("events/sched").exists());
    readable.copied().ok_or_else(|| {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        match mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs")) {
            true => ("permission denied", "run as root or grant CAP_DAC_READ_SEARCH"),
            false => ("not mounted", "mount it: mount -t tracefs tracefs /sys/kernel/tracing"),
        }
    })
}

/// What `uname -r` says.
pub fn release() -> String {
    nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned()).unwrap_or_default()
}
