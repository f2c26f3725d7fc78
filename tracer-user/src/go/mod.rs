//! All knowledge of Go and its versions.

pub mod layout;
pub mod plan;
