//! A Go binary as one process has mapped it.

use std::sync::Arc;

use crate::go::Binary;
use crate::host::FileId;

/// A Go binary that a process has mapped.
#[derive(Clone)]
pub struct MappedBinary {
    /// The identity of the file.
    pub file: FileId,
    /// What golife knows about the file.
    pub binary: Arc<Binary>,
    /// The load bias: what is added to its link-time addresses to get those in the process.
    pub bias: u64,
}
