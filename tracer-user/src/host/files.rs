//! What tells files apart, and the text of files that other processes have a say in.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

/// The identity of a file, whatever its path is: two paths with the same identity lead to one binary.
///
/// On overlay file systems it is the identity of the file below. The containers of one image each have an overlay of
/// their own over the same file, and the kernel puts probes on the file below, for all of them. An overlay does not say
/// which file that is, but it passes on that file's inode number, size and times. These are enough: no copy can share
/// the time of the inode's last change, since nobody can set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The device number, or [`OVERLAY`].
    device: u64,
    inode: u64,
    /// For a file below an overlay, what else tells it apart from others: its size in bytes, and the times of its last
    /// change and modification in ns since 1970.
    below: Option<(u64, i128, i128)>,
}

/// Stands for the device below an overlay, which is not known.
const OVERLAY: u64 = u64::MAX;

/// The bits of an inode number that the file below an overlay has. Overlays over several file systems put the number of
/// the file system into the other bits (`xino` in <https://docs.kernel.org/filesystems/overlayfs.html>).
const INODE_BELOW: u64 = 0xffff_ffff;

impl FileId {
    /// Whether an entry of `/proc/PID/maps` is about this file. The answer is no on file systems such as overlay and
    /// btrfs, where it cannot be told: they show another device number there than in the file's status.
    pub(crate) fn is_mapped_as(self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }

    /// The identity of an open file.
    ///
    /// # Errors
    /// The system does not tell the file's status.
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

/// The identity of a file together with the state of its content. If nobody keeps a file open, another one may have its
/// identity one day, or its content may be replaced. But the time of the last change, which nobody can set, is later
/// then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    file: FileId,
    size: u64,
    /// When the inode was last changed, in ns since 1970.
    changed_ns: i128,
    /// When the content was last changed, in ns since 1970, unless somebody has set this time.
    modified_ns: i128,
}

impl FileStamp {
    /// The stamp that an open file has now.
    ///
    /// # Errors
    /// The system does not tell the file's status.
    pub fn of(file: &File) -> io::Result<FileStamp> {
        let metadata = file.metadata()?;
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Ok(FileStamp {
            file: FileId::of(file)?,
            size: metadata.size(),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// An open file, and the stamp that it had before it was read.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    stamp: FileStamp,
}

impl OpenFile {
    /// Takes a file that is about to be read.
    ///
    /// # Errors
    /// The system does not tell the file's status.
    pub fn new(file: File) -> io::Result<OpenFile> {
        let stamp = FileStamp::of(&file)?;
        Ok(OpenFile { file, stamp })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The stamp that it had before it was read.
    pub fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Its identity.
    pub fn id(&self) -> FileId {
        self.stamp.file
    }

    /// Whether nothing at all has happened to the file since, not even that it was renamed or removed.
    pub fn is_untouched(&self) -> bool {
        FileStamp::of(&self.file).is_ok_and(|stamp| stamp == self.stamp)
    }

    /// Whether no path leads to the file any more.
    pub fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Whether the file was written since. Who sets its times back goes unnoticed.
    pub fn is_written(&self) -> bool {
        !FileStamp::of(&self.file)
            .is_ok_and(|now| (now.size, now.modified_ns) == (self.stamp.size, self.stamp.modified_ns))
    }
}

/// Reads a file of `/proc` as text. It may contain names that the owner of a process has chosen and that need not be
/// UTF-8; what is not becomes U+FFFD.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
