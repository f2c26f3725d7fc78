//! The code that a plan is made for.

use std::ops::Range;

use crate::go::file::image::Architecture;

/// One place where the code of a probed function stands: the function itself, or one inlined copy of it.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The CPU that the code is for.
    pub architecture: Architecture,
    /// Name of the function that the code is in, the physical function.
    pub function: &'a str,
    /// Address of the physical function's first instruction.
    pub entry: u64,
    /// Its machine code, from `entry` on.
    pub code: &'a [u8],
    /// Addresses of the inlined copy's instructions, with those of what was inlined into the copy. Empty where the
    /// physical function is the probed function itself. Two copies in one physical function are two bodies.
    pub inlined: &'a [Range<u64>],
}

impl Body<'_> {
    /// Whether the instruction at an address is part of the probed function.
    pub(super) fn contains(&self, address: u64) -> bool {
        self.inlined.is_empty() || self.inlined.iter().any(|range| range.contains(&address))
    }
}
