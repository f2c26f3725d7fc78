//! Why a probe has no place.

use crate::go::file::budget::TooMuch;

/// Why a probe has no place. Each message is complete but for the name of the binary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no code of the probed function.
    #[error(
        "no code of the probed function was found; is this a Go program built by a toolchain other than gc?"
    )]
    NoBody,
    /// The function is larger than any real one.
    #[error(
        "{function} has {bytes} bytes of code, more than golife analyses; the symbol table may be damaged"
    )]
    TooLarge {
        /// The physical function.
        function: String,
        /// The size of its code.
        bytes: usize,
    },
    /// Bytes that are no instruction, or a jump into the middle of one.
    #[error(
        "cannot decode {function} at {address:#x}; the symbol table may be damaged or the file encrypted"
    )]
    Undecodable {
        /// The physical function.
        function: String,
        /// The address of the instruction.
        address: u64,
    },
    /// A jump whose targets are not in the code.
    #[error("{function} has an indirect jump at {address:#x}, so its paths cannot be followed")]
    IndirectJump {
        /// The physical function.
        function: String,
        /// The address of the instruction.
        address: u64,
    },
    /// The search for inlined copies would take too long.
    #[error("where the probed functions were inlined is not known: {0}")]
    TooMuch(#[from] TooMuch),
    /// The analysis did not come to an end within its budget, as it does for all code that a compiler makes.
    #[error("{function} is too tangled to be analysed; the code may be obfuscated")]
    TooComplex {
        /// The physical function.
        function: String,
    },
    /// The stores that make a goroutine are not there, so layout and code disagree.
    #[error(
        "{function} never stores goid, gopc and startpc of one g at the expected offsets; the struct layout does not \
         match this binary"
    )]
    NoGoidStore {
        /// The physical function.
        function: String,
    },
    /// No instruction is passed exactly once with the g in a register.
    #[error("{function} has no instruction that every path passes once with the new g in a register")]
    NoSite {
        /// The physical function.
        function: String,
    },
    /// A goroutine ends at a call of `runtime.mcall`, of which there must be one.
    #[error("{function} calls runtime.mcall {count} times where one call was expected")]
    Mcall {
        /// The physical function.
        function: String,
        /// How many calls there are.
        count: usize,
    },
    /// The register that holds the current g in Go code is written to.
    #[error("{function} changes the g register before it calls runtime.mcall, so the ending g is not known")]
    NoG {
        /// The physical function.
        function: String,
    },
}
