//! Puts real probes on real Go programs. Needs root: `cargo xtask test`, or `sudo -E cargo test --test e2e`.
//!
//! Each Go program in `tests/fixtures` counts for itself what it starts and ends; golife must report the same, to
//! the last goroutine. Every wait has a limit, and no child outlives its test.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "e2e/alerts.rs"]
mod alerts;
#[path = "e2e/ancestry.rs"]
mod ancestry;
#[path = "e2e/containers.rs"]
mod containers;
#[path = "e2e/counts.rs"]
mod counts;
#[path = "e2e/dumps.rs"]
mod dumps;
#[path = "e2e/ends.rs"]
mod ends;
#[path = "e2e/engine.rs"]
mod engine;
#[path = "e2e/errors.rs"]
mod errors;
#[path = "e2e/fleet.rs"]
mod fleet;
#[path = "e2e/fleet_s3.rs"]
mod fleet_s3;
#[path = "e2e/gated.rs"]
mod gated;
#[path = "e2e/gates.rs"]
mod gates;
#[path = "e2e/go_tests.rs"]
mod go_tests;
#[path = "e2e/goleak.rs"]
mod goleak;
#[path = "e2e/hosts.rs"]
mod hosts;
#[path = "e2e/inspect.rs"]
mod inspect;
#[path = "e2e/keepers.rs"]
mod keepers;
#[path = "e2e/matrix.rs"]
mod matrix;
#[path = "e2e/modules.rs"]
mod modules;
#[path = "e2e/processes.rs"]
mod processes;
#[path = "e2e/profiles.rs"]
mod profiles;
#[path = "e2e/program.rs"]
mod program;
#[path = "e2e/programs.rs"]
mod programs;
#[path = "e2e/recipes.rs"]
mod recipes;
#[path = "e2e/reviews.rs"]
mod reviews;
#[path = "e2e/rewritten.rs"]
mod rewritten;
#[path = "e2e/run_as.rs"]
mod run_as;
#[path = "e2e/scanned.rs"]
mod scanned;
#[path = "e2e/stores.rs"]
mod stores;
#[path = "e2e/support.rs"]
mod support;
#[path = "e2e/tested.rs"]
mod tested;
