//! The clock of the events, and what the kernel measures in ticks.

use std::time::Duration;

/// The kernel's clock ticks in ns.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
}

/// The kernel's boot-time clock (`CLOCK_BOOTTIME`) now: what the events' clock shows.
pub fn boot_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).unwrap_or_default()
}

/// [`boot_time`] in ns.
pub fn now_ns() -> u64 {
    boot_time().as_nanos() as u64
}
