//! golife's chores, each of which is one command: `cargo xtask COMMAND`. A command installs what it needs and says so
//! first. Each can be run again at any time.

mod bench;
mod build_ebpf;
mod compare;
mod demo;
mod dist;
mod fleet_data;
mod fuzz;
mod go_facts;
mod kernels;
mod machine;
mod matrix;
mod programs;
mod spark;
mod tables;
mod test;
mod tidy;
mod verdicts;

use clap::{Parser, Subcommand};

/// golife's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile the probes for the kernel and write the object that golife embeds.
    BuildEbpf(build_ebpf::Args),
    /// Run all tests, those that need root included.
    Test(test::Args),
    /// Measure what golife costs and what it bears, as tables of ratios.
    Bench(bench::Args),
    /// Feed golife with damaged programs, records, events, reports and memory.
    Fuzz(fuzz::Args),
    /// Read the layouts and wait reasons of all supported Go versions from their toolchains.
    GoFacts(go_facts::Args),
    /// Compile golife as one file without shared libraries, for any CPU architecture that it knows.
    Dist(dist::Args),
    /// Write the sweep files of a synthetic fleet: --hosts N --sites N --sweeps N FOLDER.
    FleetData(fleet_data::Args),
    /// Run the e2e tests on other kernels and CPU architectures, in emulation, and write the table of it
    /// in docs/tested.md.
    Kernels(kernels::Args),
    /// Trace what every Go version makes in every way of building, and write the table of it in
    /// docs/tested.md.
    Matrix,
    /// Trace real programs from the package registries under load, and write the table of it in docs/tested.md.
    Programs,
    /// Judge synthetic goroutines: how soon leaks are found, and how often healthy code is accused. Writes
    /// docs/verdicts.md.
    ///
    /// Each table varies one thing. What it does not vary: one goroutine a second leaks, at random times, one in ten of its
    /// statement; the others live 100 ms in the mean; nothing had leaked before. 200 seeds for each cell where something
    /// leaks, 5,000 where nothing does.
    Verdicts,
    /// Let Go's own profile of leaked goroutines look at the corpus of leaks, too, and goleak at tests. Writes
    /// docs/compared.md and docs/goleak.md.
    Compare(compare::Args),
    /// Ask golife-fleet and a Spark cluster the same, row for row: from a folder, from an S3 server, compacted, and with a worker
    /// killed in mid-query; and measure what a second worker gains.
    Spark(spark::Args),
    /// Let golife find three leaks in a small web service.
    Demo(demo::Args),
    /// Check what no compiler checks: which folder may use which, headers, file sizes, leftovers, commands in the README.
    Tidy(tidy::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::BuildEbpf(args) => build_ebpf::run(args),
        Command::Test(args) => test::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Fuzz(args) => fuzz::run(args),
        Command::GoFacts(args) => go_facts::run(args),
        Command::Dist(args) => dist::run(args),
        Command::FleetData(args) => fleet_data::run(args),
        Command::Kernels(args) => kernels::run(args),
        Command::Matrix => matrix::run(),
        Command::Programs => programs::run(),
        Command::Verdicts => verdicts::run(),
        Command::Compare(args) => compare::run(args),
        Command::Spark(args) => spark::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Tidy(args) => tidy::run(args),
    }
}
