//! A Go binary as one process has mapped it.

use std::sync::Arc;

use crate::go::Binary;
use crate::host::FileId;

/// A Go binary that a process has mapped.
#[derive(Clone)]
pub struct MappedBinary {
    /// The file.
    pub file: FileId,
    /// What is in it.
    pub binary: Arc<Binary>,
    /// What was added to its addresses when it was mapped.
    pub bias: u64,
}
