//! Processes as the kernel shows them under `/proc`: which there are, what they execute, and since when.
//!
//! A binary is opened through `/proc/PID/exe`, never by its path. That also works for files that were deleted or
//! replaced since the process started, and for processes in another mount namespace.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use procfs::{
    ProcError,
    process::{Process as Proc, Stat},
};

use super::{
    capabilities,
    clock::{boot_time, ticks_to_ns},
    container::{self, ContainerNames},
    control_group,
    files::read_text,
    runtimes::{self, Written},
};

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no process with this id.
    #[error("cannot trace process {0}: no such process")]
    NoSuchProcess(u32),
    /// The id belongs to a thread.
    #[error("{tid} is a thread of process {pid}; trace the process: --pid {pid}")]
    Thread {
        /// The id that was asked for.
        tid: u32,
        /// The process it belongs to.
        pid: u32,
    },
    /// It executes no file: it is a kernel thread, or it has ended but was not waited for.
    #[error("cannot trace process {0}: it executes no file: a kernel thread, or it has already ended")]
    NoExecutable(u32),
    /// This user may not look at the process.
    #[error("cannot look at process {pid}: permission denied; {}", capabilities::ptrace_remedy())]
    Permission {
        /// The id of the process.
        pid: u32,
    },
    /// The kernel reports another error.
    #[error("cannot look at process {pid}: {source}")]
    Io {
        /// The id of the process.
        pid: u32,
        /// What the kernel says.
        source: io::Error,
    },
}

impl ProcessError {
    pub(crate) fn from_io(pid: u32, source: io::Error) -> ProcessError {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => ProcessError::NoSuchProcess(pid),
            Some(libc::EACCES | libc::EPERM) => ProcessError::Permission { pid },
            _ => ProcessError::Io { pid, source },
        }
    }

    pub(crate) fn from_proc(pid: u32, error: ProcError) -> ProcessError {
        match error {
            ProcError::NotFound(_) => ProcessError::NoSuchProcess(pid),
            ProcError::PermissionDenied(_) => ProcessError::Permission { pid },
            ProcError::Io(source, _) => ProcessError::from_io(pid, source),
            other => ProcessError::Io { pid, source: io::Error::other(other.to_string()) },
        }
    }
}

/// A process, as it was at one moment.
#[derive(Clone, Debug)]
pub struct RunningProcess {
    /// Its id in golife's pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot. No other process has the same pid and the same start.
    pub start_ticks: u64,
    /// When it started, in calendar time.
    pub start_time: SystemTime,
    /// The path of its executable, for people to read. The kernel appends ` (deleted)` where the file is not there any
    /// more.
    pub exe: PathBuf,
    /// Its arguments, joined by spaces and cut after 4096 bytes. Empty where it has none, or where they cannot be read.
    pub command: String,
    /// The file name in its first argument, which whoever started it has chosen; empty where it has none.
    pub called: String,
    /// The kernel's short name for it, of at most 15 bytes.
    pub comm: String,
    /// The container that it runs in; `None` where it runs in none.
    pub container: Option<ContainerNames>,
    /// What the container's runtime has written down of it.
    pub written: Written,
    /// Its systemd unit, and what it may use.
    pub limits: control_group::Limits,
}

/// Bytes of a command line that are kept.
const COMMAND_LIMIT: usize = 4096;

impl RunningProcess {
    /// Looks at a process and opens its executable.
    ///
    /// # Errors
    /// Why the process cannot be looked at: see [`ProcessError`].
    pub fn open(pid: u32) -> Result<(RunningProcess, File), ProcessError> {
        let process = RunningProcess::look(pid)?;
        let file =
            File::open(format!("/proc/{pid}/exe")).map_err(|error| ProcessError::from_io(pid, error))?;
        Ok((process, file))
    }

    /// Looks at a process.
    ///
    /// # Errors
    /// Why the process cannot be looked at: see [`ProcessError`].
    pub fn look(pid: u32) -> Result<RunningProcess, ProcessError> {
        let id = i32::try_from(pid).map_err(|_| ProcessError::NoSuchProcess(pid))?;
        let fail = |error| ProcessError::from_proc(pid, error);
        let proc = Proc::new(id).map_err(fail)?;
        let tgid = tgid_of(pid).map_err(|error| ProcessError::from_io(pid, error))?;
        if tgid != pid {
            return Err(ProcessError::Thread { tid: pid, pid: tgid });
        }
        let stat = proc.stat().map_err(fail)?;
        let exe = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(exe) => exe,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProcessError::NoExecutable(pid));
            }
            Err(error) => return Err(ProcessError::from_io(pid, error)),
        };
        let arguments = read_text(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let container = container::of(pid);
        let called = arguments.split('\0').next().unwrap_or_default();
        let called = called.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(RunningProcess {
            pid,
            called,
            start_ticks: stat.starttime,
            start_time: start_time(stat.starttime),
            exe,
            command: command_of(&arguments),
            comm: stat.comm,
            written: container.as_ref().map(runtimes::of).unwrap_or_default(),
            container,
            limits: control_group::of(pid),
        })
    }

    /// Whether the process has not ended. Another process with the same id does not count.
    pub fn is_alive(&self) -> bool {
        self.stat().is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// Whether it still executes what it did when it was looked at, as far as the path tells. False once it has ended.
    pub fn executes_the_same(&self) -> bool {
        let now = fs::read_link(format!("/proc/{}/exe", self.pid)).ok();
        let now = now.map(|exe| RunningProcess { exe, ..self.clone() });
        self.is_alive() && now.is_some_and(|now| now.path() == self.path())
    }

    /// Whether a signal or a debugger has stopped it, so that nothing in it runs until it is continued.
    pub fn is_stopped(&self) -> bool {
        self.stat().is_some_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// What the kernel says of it now; `None` if it is not there any more, whoever has its id.
    fn stat(&self) -> Option<Stat> {
        let stat = stat(self.pid)?;
        (stat.starttime == self.start_ticks).then_some(stat)
    }

    /// The path that led to its executable when it was started, without what the kernel appends to it.
    pub fn path(&self) -> &Path {
        let path = self.exe.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
        path.map_or(&self.exe, Path::new)
    }

    /// Whether paths lead to the same files for the process as for golife. For a process in a container they do not.
    pub fn shares_mounts(&self) -> bool {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        namespace("self") == namespace(&self.pid.to_string())
    }

    /// What people call the program: the file name of its executable.
    pub fn name(&self) -> &str {
        self.path().file_name().and_then(|name| name.to_str()).unwrap_or(&self.comm)
    }
}

/// The CPU time of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    /// When the process started, in clock ticks since boot: this tells it from another one with the same id.
    pub start_ticks: u64,
    /// What all its threads have used, in ns, as precise as the kernel's clock ticks.
    pub used_ns: u64,
}

/// The CPU time of a process, also of one that has ended but was not waited for. `None` where there is no such process.
pub fn cpu_time(pid: u32) -> Option<CpuTime> {
    let stat = stat(pid)?;
    let used_ns = ticks_to_ns(stat.utime.saturating_add(stat.stime));
    Some(CpuTime { start_ticks: stat.starttime, used_ns })
}

fn start_time(ticks: u64) -> SystemTime {
    let since_boot = Duration::from_nanos(ticks_to_ns(ticks));
    // The time of boot is calculated from the boot clock, since `btime` in /proc/stat has whole seconds only.
    SystemTime::now().checked_sub(boot_time()).unwrap_or(SystemTime::UNIX_EPOCH) + since_boot
}

/// The ids of all processes, in ascending order.
///
/// # Errors
/// `/proc` cannot be read.
pub fn all() -> io::Result<Vec<u32>> {
    let mut pids: Vec<u32> =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The children of these processes that were not waited for, each with its parent. A process whose parent has ended is
/// somebody else's child by then.
pub fn children(parents: &[u32]) -> Vec<(u32, u32)> {
    // Only kernels with CONFIG_PROC_CHILDREN list them.
    if Path::new("/proc/thread-self/children").exists() {
        let of_one = |&parent: &u32| {
            let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
            let texts = tasks.filter_map(|task| read_text(task.path().join("children")).ok());
            let pids: Vec<u32> = texts
                .flat_map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
                .collect();
            pids.into_iter().map(move |child| (parent, child))
        };
        return parents.iter().flat_map(of_one).collect();
    }
    let parent_of = |pid: u32| Some((stat(pid)?.ppid.cast_unsigned(), pid));
    let all = all().unwrap_or_default().into_iter().filter_map(parent_of);
    all.filter(|(parent, _)| parents.contains(parent)).collect()
}

/// What tells a program that a process executes from the one that it executed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// When the process started, in clock ticks since boot.
    pub start_ticks: u64,
    /// The address at which its stack begins, which is random from one exec to the next; 0 where this user may not know. A
    /// child has that of its parent until it executes something.
    pub stack: u64,
}

/// What a process executes at this moment. `None` where it has ended, waited for or not.
pub fn image(pid: u32) -> Option<Image> {
    let stat = stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
    Some(Image { start_ticks: stat.starttime, stack: stat.startstack })
}

fn stat(pid: u32) -> Option<Stat> {
    Proc::new(i32::try_from(pid).ok()?).ok()?.stat().ok()
}

/// Whether this process has been started with a signal ignored, as nohup does with SIGHUP.
pub fn ignores(signal: u32) -> bool {
    let status = Proc::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
}

/// Whether this process has the ids of the whole host in view: it is in the initial pid namespace, as few containers are.
pub fn sees_host_ids() -> bool {
    // The kernel gives the initial namespace this number on every host: PROC_PID_INIT_INO in
    // <https://github.com/torvalds/linux/blob/master/include/uapi/linux/nsfs.h>.
    const INITIAL: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").map_or(true, |namespace| namespace == Path::new(INITIAL))
}

/// Whether an id belongs to a process, and not to one of a process's further threads.
pub fn is_process(id: u32) -> bool {
    tgid_of(id).is_ok_and(|tgid| tgid == id)
}

/// The id of the process that a task belongs to, from the line `Tgid` of `/proc/ID/status`.
fn tgid_of(id: u32) -> io::Result<u32> {
    let status = read_text(format!("/proc/{id}/status"))?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    tgid.ok_or_else(|| io::Error::other("its status names no Tgid"))
}

/// A process's arguments, joined by spaces. Empty where it has none.
fn command_of(arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split('\0').filter(|argument| !argument.is_empty()).collect();
    let mut command = arguments.join(" ");
    if command.len() > COMMAND_LIMIT {
        command.truncate(command.floor_char_boundary(COMMAND_LIMIT));
        command.push('…');
    }
    command
}
