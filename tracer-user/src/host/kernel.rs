//! The running kernel: its release, since which release it has what golife uses, and how it describes its tracepoints.

use std::{fs, path::Path};

/// Since this release of Linux, programs can compare and swap a word, without which they cannot share a ring without a lock
/// (<https://docs.kernel.org/bpf/standardization/instruction-set.html#atomic-operations>). Not on every CPU architecture:
/// whether they can is found out by loading one.
pub const RINGS_SINCE: (u32, u32) = (5, 12);

/// golife uses uprobe-multi links since this release of Linux. They exist since 6.6, but before 6.10 their pid filter
/// lets only one thread of the process through.
pub const MULTI_SINCE: (u32, u32) = (6, 10);

/// Since this release of Linux, maps and programs do not count as locked memory, of which a process may have little.
pub const UNLIMITED_SINCE: (u32, u32) = (5, 11);

/// This file exists if the kernel has uprobes.
pub const UPROBES: &str = "/sys/bus/event_source/devices/uprobe/type";

/// Where distributions mount tracefs.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Major and minor number of the running kernel: `(6, 18)`. To test what golife does on an older kernel, set the
/// environment variable GOLIFE_KERNEL to that kernel's release.
pub fn running() -> (u32, u32) {
    let pretended = std::env::var("GOLIFE_KERNEL").ok();
    let release =
        pretended.unwrap_or_else(|| fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default());
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The offset in bytes of a field in the record of a scheduler tracepoint. It differs between kernels, so it is read
/// from the running kernel's own description. `None` where there is no such field, or tracefs cannot be read.
pub fn field_offset(tracepoint: &str, field: &str) -> Option<u32> {
    let format = TRACEFS
        .iter()
        .find_map(|root| fs::read_to_string(format!("{root}/events/sched/{tracepoint}/format")).ok())?;
    let line = format.lines().find(|line| line.contains(&format!(" {field};")))?;
    line.split("offset:").nth(1)?.split(';').next()?.trim().parse().ok()
}

/// Why tracefs cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTracefs {
    /// What is the case.
    pub found: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The path under which tracefs can be read.
///
/// # Errors
/// It cannot be read: the reason, and what the user can do about it.
pub fn tracefs() -> Result<&'static str, NoTracefs> {
    let readable = TRACEFS.iter().find(|root| Path::new(root).join("events/sched").exists());
    readable.copied().ok_or_else(|| {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        match mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs")) {
            true => {
                NoTracefs { found: "permission denied", remedy: "run as root or grant CAP_DAC_READ_SEARCH" }
            }
            false => NoTracefs {
                found: "not mounted",
                remedy: "mount it: mount -t tracefs tracefs /sys/kernel/tracing",
            },
        }
    })
}

/// The release of the running kernel, as `uname -r` prints it.
pub fn release() -> String {
    nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned()).unwrap_or_default()
}
