//! What lifetimes and rates of many hosts tell together.

use clap::{Args, ValueEnum};

use super::{Asking, Window};

/// What is put together.
#[derive(Clone, Debug, Args)]
pub struct Grouping {
    /// What one line is about
    #[arg(long, value_enum, default_value_t = Per::Service)]
    pub by: Per,
    /// Only this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Show so many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
}

/// What one line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Per {
    /// All sites of a service
    Service,
    /// A `go` statement, wherever its line is now
    Site,
}

/// `golife-fleet hist`.
#[derive(Debug, Args)]
pub struct Hist {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// What is put together.
    #[command(flatten)]
    pub grouping: Grouping,
    /// Which sweeps count.
    #[command(flatten)]
    pub window: Window,
    /// Read sweeps only, also where hours are rolled up
    #[arg(long)]
    pub no_rollup: bool,
}

/// `golife-fleet capacity`.
#[derive(Debug, Args)]
pub struct Capacity {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// What is put together.
    #[command(flatten)]
    pub grouping: Grouping,
    /// Which sweeps count.
    #[command(flatten)]
    pub window: Window,
    /// What if so many times as many came per second, such as 2x
    #[arg(long, value_name = "FACTOR", value_parser = parse_scale, conflicts_with = "target_rate")]
    pub scale: Option<f64>,
    /// What if so many came per second, on all hosts together
    #[arg(long, value_name = "PER-SECOND", value_parser = parse_scale)]
    pub target_rate: Option<f64>,
    /// What if there were so many hosts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub hosts: Option<u64>,
    /// What if so many hosts were lost
    #[arg(long, value_name = "N")]
    pub lose: Option<u64>,
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let factor = text.strip_suffix(['x', '×']).unwrap_or(text).parse::<f64>().ok();
    factor
        .filter(|factor| *factor > 0.0 && factor.is_finite())
        .ok_or_else(|| "want a number above 0, such as 2x".into())
}
