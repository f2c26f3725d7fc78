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
}
