//! All ways to show a report. Each has a file of its own, and all get the same report.
//!
//! Outputs write to the stream that they are given, and never decide whether that is a terminal. Text is always styled
//! with ANSI escapes, so the caller should pass an `anstream::AutoStream`, which strips them if they do not belong
//! there. Profiles (pprof, folded stacks, flame graphs) have no styles.

pub mod baseline;
mod blamed;
pub mod diff;
pub mod dump;
mod finding;
pub mod flame;
pub mod folded;
mod go_tests;
pub mod groups;
pub mod hist;
pub mod hosts;
pub mod json;
pub mod junit;
mod left_behind;
mod lines;
pub mod names;
pub mod pprof;
pub mod profile;
pub mod rules;
pub mod sarif;
pub mod saved;
pub mod sources;
mod style;
pub mod sweep;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod vet;
mod waited_on;

pub use finding::not_shown;
