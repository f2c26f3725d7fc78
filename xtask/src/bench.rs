//! `cargo xtask bench`: what golife costs and what it bears, as tables of ratios from one run. Absolute times differ
//! from machine to machine and from minute to minute; only figures of one table may be compared.

mod cost;
mod fleet;
mod flood;
mod footprint;
mod go_test;
mod line;
mod look;
mod scale;
mod start;
mod tools;

use std::{fmt::Write as _, fs};

use anyhow::{Context, Result};

use crate::machine::{self, say};

/// What `bench` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Only these parts; all unless said.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Measure what a life and a start cost this often, with everything started anew each time.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Flood for so many seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Ask a fleet of ten times as many days, too.
    #[arg(long)]
    long: bool,
}

/// A table.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What a goroutine's life costs the target.
    Cost,
    /// The highest rate, and what happens beyond it.
    Flood,
    /// Memory for each live goroutine.
    Footprint,
    /// From start to live probes, and off again.
    Start,
    /// Looking at all goroutines, beside other ways.
    Look,
    /// Many statements on one channel, many goroutines, many processes: each and half of it.
    Scale,
    /// What `golife run` adds to `go test` of a module with many packages.
    Tests,
    /// What it costs to ask a fleet of 1,000 hosts.
    Fleet,
}

/// Measures, prints, and keeps the tables in the target directory.
pub fn run(args: Args) -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg").context("cannot read the load average")?;
    let wanted = |part| args.parts.is_empty() || args.parts.contains(&part);
    let mut tables = format!(
        "Load average of the last 1, 5 and 15 minutes when this began: {}, on {} CPUs\n\n",
        load.split_whitespace().take(3).collect::<Vec<_>>().join(", "),
        std::thread::available_parallelism()?,
    );
    if wanted(Part::Fleet) {
        writeln!(tables, "{}", fleet::measure(args.long)?)?;
    }
    if args.parts != [Part::Fleet] {
        of_one_host(&args, &wanted, &mut tables)?;
    }
    let file = machine::target_dir().join("bench.md");
    fs::write(&file, &tables).with_context(|| format!("cannot write {}", file.display()))?;
    println!("\n{tables}");
    say(format!("also in {}", file.display()));
    Ok(())
}

/// Measures what needs probes and Go programs.
fn of_one_host(args: &Args, wanted: &dyn Fn(Part) -> bool, tables: &mut String) -> Result<()> {
    machine::mount_tracefs()?;
    let tools = tools::Tools::build()?;
    if wanted(Part::Cost) {
        writeln!(tables, "{}", cost::measure(&tools, args.rounds)?)?;
    }
    if wanted(Part::Flood) {
        writeln!(tables, "{}", flood::measure(&tools, args.seconds)?)?;
    }
    if wanted(Part::Footprint) {
        writeln!(tables, "{}", footprint::measure(&tools)?)?;
    }
    if wanted(Part::Start) {
        writeln!(tables, "{}", start::measure(&tools, args.rounds)?)?;
    }
    if wanted(Part::Look) {
        writeln!(tables, "{}", look::measure(&tools)?)?;
    }
    if wanted(Part::Scale) {
        writeln!(tables, "{}", scale::measure(&tools)?)?;
    }
    if wanted(Part::Tests) {
        writeln!(tables, "{}", go_test::measure(&tools, args.rounds)?)?;
    }
    Ok(())
}
