//! Everything that shows a report: one file each, one report for all.

pub mod human;
