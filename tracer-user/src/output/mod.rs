//! Everything that shows a report: one file each, the same report for all.
//!
//! Outputs write to what they are given and never decide whether that is a terminal: text is styled with ANSI escapes
//! throughout, so hand it to `anstream::AutoStream`, which strips them where they do not belong. Profiles (pprof, folded
//! stacks, flame graphs) are written as they are.

pub mod dump;
pub mod flame;
pub mod folded;
pub mod hist;
pub mod json;
pub mod names;
pub mod pprof;
pub mod profile;
mod style;
pub mod sweep;
pub mod text;
mod waited_on;
