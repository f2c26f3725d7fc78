//! The commands that keep a store in order.

use std::time::Duration;

use clap::Args;

use super::{Asking, Window};

/// `golife-fleet check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// Which sweeps count.
    #[command(flatten)]
    pub window: Window,
}

/// `golife-fleet compact` and `golife-fleet rollup`, which go hour by hour.
#[derive(Debug, Args)]
pub struct Hourly {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// Which sweeps count. Only hours are rolled up that are in this as a whole.
    #[command(flatten)]
    pub window: Window,
    /// How long an hour has to be over: hosts may send what has waited
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    pub after: Duration,
}

/// `golife-fleet expire`.
#[derive(Debug, Args)]
pub struct Expire {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// Delete all sweeps that are older, compacted or not
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub keep: Duration,
    /// Delete roll-ups of hours that are older; without this they are kept for ever
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub keep_rollups: Option<Duration>,
    /// Delete files of hosts that a compacted one stands for, and roll-ups that another one has replaced, once they are so old: queries that
    /// have begun before still read them
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
}
