//! The only switch between instruction sets: whose decoder reads the code, and what Go's calling convention makes of the
//! registers.

use super::kernel::Kernel;
use super::step::{CallTargets, Step};
use super::{amd64, arm64};
use crate::go::file::image::Architecture;

/// Which registers Go's calling convention gives a purpose, by the numbers that the instruction set gives them: rax = 0,
/// rcx = 1, … r15 = 15; x0 = 0, … x30 = 30. <https://go.dev/s/regabi>, "Architecture specifics".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Convention {
    /// The register that holds the current g in Go code.
    pub(crate) g: u8,
    /// The registers that hold the first integer arguments of a call, and later its first results, in this order.
    pub(crate) arguments: &'static [u8],
}

impl Convention {
    pub(crate) fn of(architecture: Architecture) -> Convention {
        match architecture {
            Architecture::Amd64 => Convention { g: amd64::G, arguments: &[0, 3, 1, 7, 6, 8, 9, 10, 11] },
            Architecture::Arm64 => Convention { g: arm64::G, arguments: &[0, 1, 2, 3, 4, 5, 6, 7, 8] },
        }
    }

    /// The register that holds the first result of a call.
    pub(crate) fn result(self) -> u8 {
        self.arguments[0]
    }
}

/// Decodes all of the code that begins at the address `entry`, one step after the other. Bytes that are no instruction
/// give a step that says so ([`Next::Undecodable`](super::step::Next)).
pub(crate) fn decode(
    architecture: Architecture,
    entry: u64,
    code: &[u8],
    calls: &CallTargets,
    kernel: Kernel,
) -> Vec<Step> {
    match architecture {
        Architecture::Amd64 => amd64::decode(entry, code, calls, kernel),
        Architecture::Arm64 => arm64::decode(entry, code, calls),
    }
}
