//! The files that a process has mapped: its executable, and what else it has loaded that may be Go code.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

use procfs::{
    FromBufRead,
    process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps},
};

use super::{
    files::{FileId, read_text},
    process::ProcessError,
};

/// A mapping of a file into the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The first address after it.
    pub end: u64,
    /// The offset in the file, in bytes, of what is mapped at `start`.
    pub file_offset: u64,
}

/// A file as `/proc/PID/maps` names it. If device, inode and path are the same, it is taken for the same file: a device
/// and an inode are used again at times, but hardly under the same path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MappedFile {
    device: u64,
    inode: u64,
    path: PathBuf,
}

/// A file with code that a process has mapped, other than its executable.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Which file it is.
    pub file: MappedFile,
    /// Its mappings, in ascending order of address.
    pub mappings: Vec<Mapping>,
}

impl Loaded {
    /// The path of the file in the process's own mount namespace.
    pub fn path(&self) -> &PathBuf {
        &self.file.path
    }

    /// Opens the file through its mapping, so that it is the file that the process has mapped, whatever its path leads
    /// to by now. That needs CAP_CHECKPOINT_RESTORE, which looking at files does not need; without it, the file is
    /// opened by its path.
    ///
    /// # Errors
    /// The file has no mapping, or it can be opened in neither way.
    pub fn open(&self, pid: u32) -> io::Result<File> {
        let Some(first) = self.mappings.first() else { return Err(io::ErrorKind::NotFound.into()) };
        File::open(format!("/proc/{pid}/map_files/{:x}-{:x}", first.start, first.end)).or_else(|_| {
            let mut path = std::ffi::OsString::from(format!("/proc/{pid}/root"));
            path.push(&self.file.path);
            File::open(path)
        })
    }
}

/// The mappings of a process's executable, which is `file`, in ascending order of address.
///
/// # Errors
/// The maps of the process cannot be read.
pub fn executable(pid: u32, file: FileId) -> Result<Vec<Mapping>, ProcessError> {
    let exe = executable_path(pid);
    let is_it = |map: &&MemoryMap| {
        // The path tells it on file systems that show another device number here.
        file.is_mapped_as(device(map), map.inode)
            || matches!(&map.pathname, MMapPath::Path(path) if Some(path) == exe.as_ref())
    };
    Ok(maps(pid)?.iter().filter(is_it).map(mapping).collect())
}

/// The files with code that a process has loaded besides its executable, in ascending order of address.
///
/// # Errors
/// The maps of the process cannot be read.
pub fn libraries(pid: u32) -> Result<Vec<Loaded>, ProcessError> {
    let exe = executable_path(pid);
    let mut found: Vec<(Loaded, bool)> = Vec::new();
    for map in &maps(pid)? {
        let MMapPath::Path(path) = &map.pathname else { continue };
        if map.inode == 0 || Some(path) == exe.as_ref() {
            continue;
        }
        let has_code = map.perms.contains(MMPermissions::EXECUTE);
        let (device, inode) = (device(map), map.inode);
        let is_known = |(known, _): &&mut (Loaded, bool)| {
            (known.file.device, known.file.inode) == (device, inode) && known.file.path == *path
        };
        match found.iter_mut().rev().find(is_known) {
            Some((known, code)) => {
                known.mappings.push(mapping(map));
                *code |= has_code;
            }
            None => {
                let file = MappedFile { device, inode, path: path.clone() };
                found.push((Loaded { file, mappings: vec![mapping(map)] }, has_code));
            }
        }
    }
    Ok(found.into_iter().filter(|(_, has_code)| *has_code).map(|(loaded, _)| loaded).collect())
}

/// The path of a process's executable, with the same replacements as the paths from [`maps`].
fn executable_path(pid: u32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.to_string_lossy().into_owned().into())
}

/// The mappings of a process, in ascending order of address. What is not UTF-8 in their paths becomes U+FFFD.
fn maps(pid: u32) -> Result<Vec<MemoryMap>, ProcessError> {
    let text = read_text(format!("/proc/{pid}/maps")).map_err(|error| ProcessError::from_io(pid, error))?;
    let maps =
        MemoryMaps::from_buf_read(text.as_bytes()).map_err(|error| ProcessError::from_proc(pid, error))?;
    Ok(maps.0)
}

fn device(map: &MemoryMap) -> u64 {
    let (major, minor) = map.dev;
    nix::sys::stat::makedev(major.unsigned_abs().into(), minor.unsigned_abs().into())
}

fn mapping(map: &MemoryMap) -> Mapping {
    Mapping { start: map.address.0, end: map.address.1, file_offset: map.offset }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn own_executable_and_libraries() {
        let pid = std::process::id();
        let id = FileId::of(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(executable(pid, id).unwrap().len() > 1);
        let libraries = libraries(pid).unwrap();
        let libc =
            libraries.iter().find(|loaded| loaded.path().to_string_lossy().contains("libc.so")).unwrap();
        assert!(libc.mappings.len() > 1);
        let opened = FileId::of(&libc.open(pid).unwrap()).unwrap();
        assert_eq!(opened, FileId::of(&File::open(libc.path()).unwrap()).unwrap());
        let exe = fs::read_link("/proc/self/exe").unwrap();
        assert!(libraries.iter().all(|loaded| *loaded.path() != exe));
    }
}
