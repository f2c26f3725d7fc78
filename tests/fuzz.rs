//! Feeds golife with what nobody meant it to read: damaged programs, records, sequences of events, saved reports, and the
//! memory of a process that lies. Seeds are changed at random, from a number that is printed, so that every run can be
//! repeated. A target must neither panic nor take long, whatever it is given.
//!
//! Each target runs for some seconds here; `cargo xtask fuzz --for 1h` is for more. The environment says how:
//! `GOLIFE_FUZZ_SECONDS`, `GOLIFE_FUZZ_SEED`, and `GOLIFE_FUZZ_INPUT`, a file to be read as the only input.
#![allow(clippy::unwrap_used)]

#[path = "fuzz/dice.rs"]
mod dice;
#[path = "fuzz/driver.rs"]
mod driver;
#[path = "fuzz/events.rs"]
mod events;
#[path = "fuzz/memory.rs"]
mod memory;
#[path = "fuzz/programs.rs"]
mod programs;
#[path = "replay/record.rs"]
#[allow(dead_code)]
mod record;
#[path = "fuzz/reports.rs"]
mod reports;
