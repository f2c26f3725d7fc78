//! `cargo xtask fleet-data`: the sweep files of a synthetic fleet, to query and to measure.

use std::ffi::OsString;

use anyhow::Result;

use crate::machine;

/// What `fleet-data` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// What tracer-user/fleet/examples/fleet_data.rs can be told: `--help` says it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<OsString>,
}

/// Writes a synthetic fleet.
pub fn run(args: Args) -> Result<()> {
    let mut cargo = machine::cargo();
    cargo.args(["run", "--quiet", "--release", "--package", "golife-fleet", "--example", "fleet_data", "--"]);
    machine::run(cargo.args(args.arguments))
}
