//! Roll-ups: an hour of all hosts together, a row for each creation site of a build. What is in them, how rows of sweeps become
//! that, and which of them a query may read in place of sweeps.

pub mod choice;
pub mod columns;
pub mod hosts;
pub mod merge;
