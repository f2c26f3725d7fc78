//! The function table that every Go program carries: which function, file and line an instruction belongs to, stripped
//! or not, and what was inlined where.

pub mod endings;
pub(super) mod header;
pub mod inline;
pub mod moduledata;
pub mod pclntab;
pub(super) mod pcvalue;
mod under_test;
mod wrapper;
