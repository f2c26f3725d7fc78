//! What can be wrong with a file that should be a Go program. Every message names the file.

use std::io;
use std::path::{Path, PathBuf};

use super::budget::TooMuch;

/// Why a file cannot be traced as a Go program, and which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot trace {}: {kind}", path.display())]
pub struct GoError {
    /// The file as the caller called it.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub kind: GoErrorKind,
}

impl GoError {
    pub(crate) fn new(path: &Path, kind: GoErrorKind) -> GoError {
        GoError { path: path.to_owned(), kind }
    }
}

/// What is wrong with a file, without its name.
#[derive(Debug, thiserror::Error)]
pub enum GoErrorKind {
    /// The file could not be opened, read or mapped.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No ELF header.
    #[error("not an ELF file")]
    NotElf,
    /// The headers promise more bytes than the file has.
    #[error("truncated: {what} ends at byte {needs}, the file at byte {has}; copy the file again")]
    Truncated {
        /// The part that is cut off.
        what: &'static str,
        /// Where it should end, in bytes from the start of the file.
        needs: u64,
        /// Size of the file in bytes.
        has: u64,
    },
    /// Parts of the file contradict one another; the text says which.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// A program for 32-bit CPUs.
    #[error("a 32-bit program; golife traces 64-bit programs")]
    Bits32,
    /// An object file, a core dump, anything but an executable.
    #[error("an ELF file, but not an executable (e_type {0})")]
    NotExecutable(u16),
    /// Made for a CPU that is not this machine's.
    #[error("made for {found}, this machine is {host}")]
    OtherArchitecture {
        /// The CPU that the program is for.
        found: String,
        /// The CPU of this machine.
        host: &'static str,
    },
    /// Neither build info nor a Go symbol table.
    #[error("not a Go program (no Go build info)")]
    NotGo,
    /// A Go symbol table, but no build info, and the runtime does not say its version either.
    #[error(
        "a Go program whose build info was removed, so its Go version is not known; build it without removing it"
    )]
    NoBuildInfo,
    /// UPX unpacks a program into memory that belongs to no file, and probes go into files.
    #[error(
        "unsupported, because it is packed by UPX: what runs is in no file that a probe could be put into; \
         unpack it (upx -d) and start it again"
    )]
    Packed,
    /// garble and its like scramble Go's function table and say nothing of the Go version.
    #[error(
        "unsupported, because it was obfuscated (as garble does): its Go version or its function table cannot be \
         read; trace a build without that"
    )]
    Obfuscated,
    /// Older than the oldest Go whose runtime golife knows.
    #[error("built with {0}; golife needs Go 1.18 or newer, rebuild the program")]
    TooOld(String),
    /// A version that is not of the form `go1.26.8`.
    #[error("cannot make sense of its Go version {0:?}")]
    UnknownVersion(String),
    /// A part of the file would take more work than any real program's.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// Something that every Go program has was not found.
    #[error("cannot find {what}: {why}")]
    Missing {
        /// What was looked for.
        what: String,
        /// Where it was looked for, or what is in the way.
        why: String,
    },
}
