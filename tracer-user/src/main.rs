//! golife
fn main() {}
