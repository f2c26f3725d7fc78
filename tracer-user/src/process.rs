//! Processes as the kernel shows them under `/proc`: which there are, what they execute, where it is mapped.
//!
//! A binary is opened through `/proc/PID/exe`, never by its path: that works for files that were deleted or replaced
//! since the process started, and for processes in another mount namespace.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use procfs::{ProcError, process::Process as Proc};

use crate::container::{self, Container};

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no process with this id.
    #[error("cannot trace process {0}: no such process")]
    NoSuchProcess(u32),
    /// The id is a thread's.
    #[error("{tid} is a thread of process {pid}; trace the process: --pid {pid}")]
    Thread {
        /// The id that was asked for.
        tid: u32,
        /// The process it belongs to.
        pid: u32,
    },
    /// A kernel thread, or a process that has ended but was not waited for.
    #[error("cannot trace process {0}: it executes no file: a kernel thread, or it has already ended")]
    NoExecutable(u32),
    /// This user may not look at it.
    #[error("cannot look at process {pid}: permission denied; run as root or grant CAP_SYS_PTRACE")]
    Permission {
        /// Whose.
        pid: u32,
    },
    /// Anything else the kernel says.
    #[error("cannot look at process {pid}: {source}")]
    Io {
        /// Whose.
        pid: u32,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn from_io(pid: u32, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Error::NoSuchProcess(pid),
            Some(libc::EACCES | libc::EPERM) => Error::Permission { pid },
            _ => Error::Io { pid, source },
        }
    }

    pub(crate) fn from_proc(pid: u32, error: ProcError) -> Error {
        match error {
            ProcError::NotFound(_) => Error::NoSuchProcess(pid),
            ProcError::PermissionDenied(_) => Error::Permission { pid },
            ProcError::Io(source, _) => Error::from_io(pid, source),
            other => Error::Io { pid, source: io::Error::other(other.to_string()) },
        }
    }
}

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

/// A process at one moment.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id in golife's pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot: with the pid, this names it for ever.
    pub start_ticks: u64,
    /// When it started.
    pub start_time: SystemTime,
    /// What it executes, for people: the kernel appends ` (deleted)` where the path leads elsewhere by now.
    pub exe: PathBuf,
    /// Its arguments, joined by spaces.
    pub command: String,
    /// The kernel's short name for it (15 bytes).
    pub comm: String,
    /// The container it runs in.
    pub container: Option<Container>,
}

/// Longest command line kept, in bytes.
const COMMAND_LIMIT: usize = 4096;

impl Process {
    /// Looks at a process and opens what it executes.
    pub fn open(pid: u32) -> Result<(Process, File), Error> {
        let process = Process::look(pid)?;
        let file = File::open(format!("/proc/{pid}/exe")).map_err(|error| Error::from_io(pid, error))?;
        Ok((process, file))
    }

    /// Looks at a process.
    pub fn look(pid: u32) -> Result<Process, Error> {
        let id = i32::try_from(pid).map_err(|_| Error::NoSuchProcess(pid))?;
        let fail = |error| Error::from_proc(pid, error);
        let proc = Proc::new(id).map_err(fail)?;
        let tgid = tgid_of(pid).map_err(|error| Error::from_io(pid, error))?;
        if tgid != pid {
            return Err(Error::Thread { tid: pid, pid: tgid });
        }
        let stat = proc.stat().map_err(fail)?;
        let exe = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(exe) => exe,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoExecutable(pid)),
            Err(error) => return Err(Error::from_io(pid, error)),
        };
        Ok(Process {
            pid,
            start_ticks: stat.starttime,
            start_time: start_time(stat.starttime),
            exe,
            command: command_of(pid),
            comm: stat.comm,
            container: container::of(pid),
        })
    }

    /// Whether the process still is the one it was: alive, and not another with the same id.
    pub fn is_alive(&self) -> bool {
        i32::try_from(self.pid)
            .ok()
            .and_then(|id| Proc::new(id).ok()?.stat().ok())
            .is_some_and(|stat| stat.starttime == self.start_ticks && stat.state != 'Z' && stat.state != 'X')
    }

    /// The path that led to its executable when it was started.
    pub fn path(&self) -> &Path {
        let path = self.exe.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
        path.map_or(&self.exe, Path::new)
    }

    /// Whether its path leads to the same file for golife as for itself: not so in a container.
    pub fn shares_mounts(&self) -> bool {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        namespace("self") == namespace(&self.pid.to_string())
    }

    /// What people call the program: the file name of its executable.
    pub fn name(&self) -> &str {
        self.path().file_name().and_then(|name| name.to_str()).unwrap_or(&self.comm)
    }
}

/// The kernel's clock ticks in ns.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
}

/// When a process started, in ticks since boot, and the CPU time in ns that all its threads have used. Also of one
/// that has ended but was not waited for; `None` where there is none.
pub fn cpu_ns(pid: u32) -> Option<(u64, u64)> {
    let stat = Proc::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    Some((stat.starttime, ticks_to_ns(stat.utime.saturating_add(stat.stime))))
}

fn start_time(ticks: u64) -> SystemTime {
    let since_boot = Duration::from_nanos(ticks_to_ns(ticks));
    // Boot time is now minus the boot clock: /proc/stat's btime has whole seconds only.
    SystemTime::now().checked_sub(boot_time()).unwrap_or(SystemTime::UNIX_EPOCH) + since_boot
}

/// The kernel's boot-time clock now: what the events' clock shows.
pub fn boot_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).unwrap_or_default()
}

/// The ids of all processes, in ascending order.
pub fn all() -> io::Result<Vec<u32>> {
    let mut pids: Vec<u32> =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Whether an id is a process rather than one of a process's further threads.
pub fn is_process(id: u32) -> bool {
    tgid_of(id).is_ok_and(|tgid| tgid == id)
}

/// The process that a task belongs to, by the `Tgid` of `/proc/ID/status`.
fn tgid_of(id: u32) -> io::Result<u32> {
    let status = read_text(format!("/proc/{id}/status"))?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    tgid.ok_or_else(|| io::Error::other("its status names no Tgid"))
}

/// A process's arguments, joined by spaces; empty where it has none, or nobody may read them.
fn command_of(pid: u32) -> String {
    let arguments = read_text(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<&str> = arguments.split('\0').filter(|argument| !argument.is_empty()).collect();
    let mut command = arguments.join(" ");
    if command.len() > COMMAND_LIMIT {
        command.truncate(command.floor_char_boundary(COMMAND_LIMIT));
        command.push('…');
    }
    command
}

/// A file of `/proc` as text. Names in it are what their owner wants, not always UTF-8: what is not becomes U+FFFD.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
