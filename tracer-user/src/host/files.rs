//! Which file is which, and the text of files that others have named.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

/// A file, whatever it is called: two paths with the same identity are one binary.
///
/// On overlay file systems that is the file below: the containers of one image each have an overlay of their own over
/// the same file, and the kernel puts probes on the file below, for all of them. Which file that is the overlay does not
/// say, but it passes on its inode number, size and times; the time of the last change of the inode is none that a copy
/// can share, since nobody can set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device, or [`OVERLAY`].
    device: u64,
    inode: u64,
    /// What else tells files below overlays apart: size, and change and modification time in ns.
    below: Option<(u64, i128, i128)>,
}

/// Stands for whatever device is below an overlay.
const OVERLAY: u64 = u64::MAX;

/// Overlays over several file systems put the number of the file system into the upper bits of inode numbers
/// (`xino` in the kernel's Documentation/filesystems/overlayfs.rst).
const INODE_BELOW: u64 = 0xffff_ffff;

impl FileId {
    /// Whether a process's map means this file. File systems such as overlay and btrfs show another device number there than
    /// in the file's status: then this cannot be told.
    pub(crate) fn is_mapped_as(self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }

    /// The identity of an open file.
    ///
    /// # Errors
    /// The system cannot tell it.
    pub fn of(file: &File) -> io::Result<FileId> {
        let metadata = file.metadata()?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        if nix::sys::statfs::fstatfs(file)?.filesystem_type() != nix::sys::statfs::OVERLAYFS_SUPER_MAGIC {
            return Ok(FileId { device, inode, below: None });
        }
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        let changed = ns(metadata.ctime(), metadata.ctime_nsec());
        let modified = ns(metadata.mtime(), metadata.mtime_nsec());
        Ok(FileId {
            device: OVERLAY,
            inode: inode & INODE_BELOW,
            below: Some((metadata.size(), changed, modified)),
        })
    }
}

/// Which file it is and what is in it: the identity of a file that nobody keeps open may be another's one day, or its content
/// be replaced, but not without a later time of its last change, which nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    file: FileId,
    size: u64,
    /// When the inode was last changed, in ns since 1970.
    changed_ns: i128,
}

impl FileStamp {
    /// Of an open file, now.
    ///
    /// # Errors
    /// The system cannot tell it.
    pub fn of(file: &File) -> io::Result<FileStamp> {
        let metadata = file.metadata()?;
        let changed_ns = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        Ok(FileStamp { file: FileId::of(file)?, size: metadata.size(), changed_ns })
    }
}

/// A file of `/proc` as text. Names in it are what their owner wants, not always UTF-8: what is not becomes U+FFFD.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
