//! The clock that events are timed with, that of Go's runtime, and what the kernel measures in ticks.

use std::time::Duration;

/// Converts the kernel's clock ticks, as in `/proc/PID/stat`, to ns.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
}

/// The time of the kernel's boot-time clock (`CLOCK_BOOTTIME`) now. Events are timed with the same clock.
pub fn boot_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).unwrap_or_default()
}

/// The [`boot_time`] now, in ns.
pub fn now_ns() -> u64 {
    boot_time().as_nanos() as u64
}

/// For how long the machine has been suspended since its start, in ns: `CLOCK_BOOTTIME` less `CLOCK_MONOTONIC`. It can be a
/// little too large, by what passes between two looks at a clock.
pub fn suspended_ns() -> u64 {
    let look = || now_ns().saturating_sub(monotonic_ns());
    // A thread that lost its CPU in between would seem to have been suspended.
    look().min(look()).min(look())
}

/// The time of the clock that Go's runtime uses (`CLOCK_MONOTONIC`, `runtime.nanotime`) now, in ns.
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map(Duration::from).unwrap_or_default().as_nanos() as u64
}
