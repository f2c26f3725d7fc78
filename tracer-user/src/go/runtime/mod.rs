//! What the numbers in the memory of Go's runtime mean, and how that differs between versions of Go.

pub mod activity;
pub(super) mod dwarf;
pub mod layout;
pub mod layout_choice;
mod layout_table;
pub mod releases;
pub mod status;
pub mod system;
pub mod versions;
pub mod wait_reason;
mod wait_reason_table;
