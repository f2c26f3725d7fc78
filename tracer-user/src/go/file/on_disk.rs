//! Where a sparse file has bytes. Its holes read as zeros, which takes as long as reading what is there.

use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Parts of a sparse file that are told apart. What follows them counts as one.
const MAX_PARTS: usize = 1024;

/// Where a file has bytes on the disk; all of it where the file system does not say.
pub(super) fn parts(file: &File, metadata: &Metadata) -> Vec<Range<usize>> {
    let size = metadata.len() as usize;
    let mut parts = Vec::new();
    let mut at = 0;
    // Only a sparse file has fewer blocks than bytes, or one that the file system compresses.
    if metadata.blocks().saturating_mul(512) < metadata.len()
        && let Ok(before) = lseek(file, 0, Whence::SeekCur)
    {
        while at < size && parts.len() < MAX_PARTS {
            let data = match lseek(file, at as i64, Whence::SeekData) {
                Ok(data) => data as usize,
                // There is no more.
                Err(Errno::ENXIO) => size,
                Err(_) => at,
            };
            let end = lseek(file, data as i64, Whence::SeekHole).map_or(size, |end| end as usize);
            if data < size && data < end {
                parts.push(data..end);
            }
            // A file system that says there is nothing ahead and no end either is not asked again.
            let next = end.max(data);
            if next <= at {
                break;
            }
            at = next;
        }
        let _ = lseek(file, before, Whence::SeekSet);
    }
    if at < size {
        parts.push(at..size);
    }
    parts
}
