//! Why probes could not be loaded or put in place, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use crate::host::{capabilities, kernel};

/// Why probes could not be loaded or put in place.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Loading needs rights that this process lacks.
    #[error("cannot load the probes: permission denied; {remedy}")]
    Permission {
        /// What the user can do about it, with the names of the missing capabilities.
        remedy: String,
    },
    /// The kernel lacks something that golife cannot do without.
    #[error(
        "cannot load the probes: this kernel ({release}) has no {what}; golife needs Linux 5.10 or newer"
    )]
    Unsupported {
        /// The kernel's release, as `uname -r` prints it.
        release: String,
        /// The feature that is missing, as the message names it.
        what: &'static str,
    },
    /// The kernel refused the object, or the object is damaged. The text says why.
    #[error("cannot load the probes: {0}")]
    Load(String),
    /// A probe could not be put in place.
    #[error("cannot attach {probe} in {path}: {why}")]
    Attach {
        /// Which probe it is, with its offset in the file.
        probe: String,
        /// The binary that the probe is for.
        path: PathBuf,
        /// The kernel's answer, and what the user can do about it.
        why: String,
    },
    /// A tracepoint could not be followed.
    #[error("cannot follow {tracepoint}: {why}")]
    Tracepoint {
        /// The name of the tracepoint.
        tracepoint: &'static str,
        /// The kernel's answer, and what the user can do about it.
        why: String,
    },
}

/// Makes an error that tells missing rights and missing features from everything else.
pub fn classify(error: &(dyn std::error::Error + 'static)) -> ProbeError {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => ProbeError::Permission { remedy: capabilities::remedy() },
        Some(libc::ENOSYS) => ProbeError::Unsupported { release: kernel::release(), what: "bpf system call" },
        _ if describe(error).contains("RingBuf") => {
            ProbeError::Unsupported { release: kernel::release(), what: "BPF ring buffer" }
        }
        _ => ProbeError::Load(describe(error)),
    }
}

/// The operating system's error number at the root of a chain of errors.
fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

/// A chain of errors in one line, with what the user can do about it.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let text = crate::human::chain(error);
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => {
            format!("{text}; {}", capabilities::remedy())
        }
        Some(libc::ESRCH) => format!("{text}; the process ended"),
        _ => text,
    }
}
