//! `cargo xtask fuzz`: feeds golife with damaged input for as long as one likes. `cargo xtask test` does so for some
//! seconds.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::machine::{self, say};

/// What `fuzz` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target; all unless said, one after the other.
    #[arg(value_enum)]
    target: Option<Target>,
    /// How long for each target: 90s, 20m, 8h.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = seconds)]
    time: u64,
    /// Begin with this number; the same one leads to the same inputs.
    #[arg(long)]
    seed: Option<u64>,
    /// Give the target this file as its only input.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// What is given damaged input.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Target {
    /// ELF files and function tables.
    Programs,
    /// Bytes from the ring.
    Records,
    /// Sequences of events.
    Events,
    /// Saved reports.
    Reports,
    /// The memory of a process that lies.
    Memory,
}

impl Target {
    const ALL: [Target; 5] =
        [Target::Programs, Target::Records, Target::Events, Target::Reports, Target::Memory];

    /// How its test is called.
    fn test(self) -> &'static str {
        match self {
            Target::Programs => "programs::programs",
            Target::Records => "events::records",
            Target::Events => "events::events",
            Target::Reports => "reports::reports",
            Target::Memory => "memory::memory",
        }
    }
}

/// Runs the targets, optimized but with all checks.
pub fn run(args: Args) -> Result<()> {
    let go = machine::go()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = args.seed.unwrap_or(now);
    let mut broken = Vec::new();
    for target in args.target.map_or(Target::ALL.to_vec(), |target| vec![target]) {
        say(format!("{} for {} s from seed {seed}", target.test(), args.time));
        let mut cargo = machine::cargo();
        cargo
            .args([
                "test",
                "--quiet",
                "--profile",
                "fuzz",
                "--package",
                "tracer-user",
                "--test",
                "fuzz",
                "--",
            ])
            .args(["--exact", target.test(), "--nocapture"])
            .env("PATH", machine::path_with(&go)?)
            .env("GOLIFE_FUZZ_SECONDS", args.time.to_string())
            .env("GOLIFE_FUZZ_SEED", seed.to_string());
        if let Some(input) = &args.input {
            let input = input.canonicalize().with_context(|| format!("cannot read {}", input.display()))?;
            cargo.env("GOLIFE_FUZZ_INPUT", input);
        }
        if machine::run(&mut cargo).is_err() {
            broken.push(target.test());
        }
    }
    if !broken.is_empty() {
        bail!(
            "broken: {}; the input is in target/tmp/fuzz, and above is how to run it alone",
            broken.join(", ")
        );
    }
    Ok(())
}

fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| "a number and s, m or h".to_owned())?;
    match unit {
        "" | "s" => Ok(number),
        "m" => Ok(number * 60),
        "h" => Ok(number * 3600),
        _ => Err("a number and s, m or h".into()),
    }
}
