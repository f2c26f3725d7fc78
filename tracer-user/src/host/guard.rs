//! Hears of it before a file is written, so that probes can be taken off it first.
//!
//! The kernel puts a breakpoint where the probed instruction once was, into whoever maps the file next. If the file has
//! another content by then, that breaks a program. A read lease (`F_SETLEASE` in `fcntl(2)`) makes whoever opens the
//! file for writing wait until its holder gives it up, or for `/proc/sys/fs/lease-break-time` (45 s) at most.
//!
//! The leases belong to a process of their own, the guard (`host/companion.rs`), since golife itself may be stopped by
//! Ctrl-Z or a debugger. A stopped golife is continued for as long as it takes to answer; if that does not help, it is
//! killed, since the kernel takes its probes off then.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, read, write};

use super::companion;

/// How long golife may take to answer before the guard looks whether it is stopped. Taking probes off needs 50 to
/// 100 ms.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a golife that is stopped may take to answer after it was continued, counted like [`PATIENCE`].
const PATIENCE_IF_STOPPED: Duration = Duration::from_millis(800);

/// How long a golife that runs may take to answer. The kernel lets the writer go on after 45 s.
const PATIENCE_IF_RUNNING: Duration = Duration::from_secs(30);

/// Names a lease: its file descriptor in the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease(RawFd);

/// The process that holds the leases. Dropping this ends it, so the probes must be off by then.
pub struct Guard {
    /// Asks for leases and gives them back.
    control: Mutex<OwnedFd>,
    process: Pid,
}

/// Where the guard says that somebody wants to write.
pub struct Alarm {
    socket: OwnedFd,
}

/// What the guard is asked for: a lease on the file that comes along, or that a lease is given back.
const TAKE: i32 = -1;

impl Guard {
    /// Starts the guard. It is a copy of this process, so it is best started while this one is small.
    ///
    /// # Errors
    /// The system has no more processes or file descriptors.
    pub fn start() -> io::Result<(Guard, Alarm)> {
        let pair = || socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (control, guards_control) = pair()?;
        let (alarm, guards_alarm) = pair()?;
        let golife = Pid::this();
        let process = companion::start(
            c"golife-guard",
            [&guards_control, &guards_alarm],
            |[control, alarm], ended| {
                let _ = Watch::new(golife).and_then(|watch| watch.run(control, alarm, ended));
            },
        )?;
        Ok((Guard { control: Mutex::new(control), process }, Alarm { socket: alarm }))
    }

    /// Takes a lease on a file.
    ///
    /// # Errors
    /// Somebody has the file open for writing, its file system has no leases, this process has neither the file nor
    /// CAP_LEASE, or the guard is gone.
    pub fn take(&self, file: &File) -> io::Result<Lease> {
        let control = self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let number = TAKE.to_ne_bytes();
        let descriptors = [file.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(&number)], &message, MsgFlags::MSG_NOSIGNAL, None)?;
        match receive(control.as_fd())? {
            Some(descriptor) if descriptor >= 0 => Ok(Lease(descriptor)),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::Error::other("the guard is gone")),
        }
    }

    /// Gives a lease back. Whoever waits to write goes on.
    pub fn give_back(&self, lease: Lease) {
        let control = self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A guard that is gone has no leases any more.
        let _ = write(&*control, &lease.0.to_ne_bytes());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = kill(self.process, Signal::SIGKILL);
        let _ = waitpid(self.process, None);
    }
}

impl Alarm {
    /// Waits until somebody wants to write a file, who then waits for [`Guard::give_back`]. `None` once the guard is
    /// gone.
    pub fn next(&self) -> Option<Lease> {
        receive(self.socket.as_fd()).ok().flatten().map(Lease)
    }
}

/// A number that arrives at a socket; `None` at its end.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut number = [0; 4];
    loop {
        match read(socket, &mut number) {
            Ok(4) => return Ok(Some(i32::from_ne_bytes(number))),
            Ok(_) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The state of the guard.
struct Watch {
    golife: Pid,
    signals: SignalFd,
    /// Leases that golife was told of and has not given back, and since when the first of them waits.
    waiting: Vec<RawFd>,
    since: Instant,
    /// Whether golife was stopped and is continued until it has answered.
    is_continued: bool,
}

impl Watch {
    fn new(golife: Pid) -> nix::Result<Watch> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGIO);
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Watch { golife, signals, waiting: Vec::new(), since: Instant::now(), is_continued: false })
    }

    /// What the guard does until golife has ended.
    fn run(
        mut self,
        control: BorrowedFd<'_>,
        alarm: BorrowedFd<'_>,
        ended: BorrowedFd<'_>,
    ) -> nix::Result<()> {
        let mut leases: Vec<RawFd> = Vec::new();
        let mut is_controlled = true;
        loop {
            let timeout = if self.waiting.is_empty() { PollTimeout::NONE } else { PollTimeout::from(50u8) };
            let wanted = if is_controlled { PollFlags::POLLIN } else { PollFlags::empty() };
            let mut polled = [
                PollFd::new(ended, PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(if is_controlled { control } else { ended }, wanted),
            ];
            match poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let [has_ended, is_signalled, is_asked] =
                polled.map(|polled| polled.revents().is_some_and(|events| !events.is_empty()));
            if has_ended {
                return Ok(());
            }
            if is_signalled {
                while self.signals.read_signal()?.is_some() {}
                // One signal may stand for several leases, so all of them are looked at.
                for lease in leases.iter().filter(|lease| is_broken(**lease)) {
                    if !self.waiting.contains(lease) {
                        if self.waiting.is_empty() {
                            self.since = Instant::now();
                        }
                        self.waiting.push(*lease);
                        let _ = write(alarm, &lease.to_ne_bytes());
                    }
                }
            }
            if is_controlled && is_asked {
                match ask(control)? {
                    Asked::Lease(file) => {
                        let answer = match take(&file) {
                            Ok(lease) => {
                                leases.push(lease);
                                lease
                            }
                            Err(errno) => -(errno as i32),
                        };
                        write(control, &answer.to_ne_bytes())?;
                    }
                    Asked::GiveBack(lease) => {
                        leases.retain(|known| *known != lease);
                        self.waiting.retain(|known| *known != lease);
                        // SAFETY: the descriptor was made by `take`, and nobody uses it any more. Its lease ends with it.
                        unsafe { libc::close(lease) };
                    }
                    Asked::Nothing => is_controlled = false,
                }
            }
            self.see_to_golife();
        }
    }

    /// Makes sure that golife can answer.
    fn see_to_golife(&mut self) {
        if self.waiting.is_empty() {
            if std::mem::take(&mut self.is_continued) {
                let _ = kill(self.golife, Signal::SIGSTOP);
            }
            return;
        }
        let waited = self.since.elapsed();
        if waited < PATIENCE {
            return;
        }
        let is_stopped = is_stopped(self.golife);
        if waited > PATIENCE_IF_RUNNING || is_stopped && waited > PATIENCE_IF_STOPPED {
            let _ = kill(self.golife, Signal::SIGKILL);
        } else if is_stopped {
            self.is_continued = true;
            let _ = kill(self.golife, Signal::SIGCONT);
        }
    }
}

/// What golife asks the guard for.
enum Asked {
    Lease(OwnedFd),
    GiveBack(RawFd),
    /// Golife has closed its end.
    Nothing,
}

fn ask(control: BorrowedFd<'_>) -> nix::Result<Asked> {
    let mut number = [0; 4];
    let (bytes, received) = companion::receive(control, &mut number, MsgFlags::empty())?;
    Ok(match received.into_iter().next() {
        _ if bytes == 0 => Asked::Nothing,
        Some(file) => Asked::Lease(file),
        None => Asked::GiveBack(i32::from_ne_bytes(number)),
    })
}

/// Takes a read lease on a file that was received.
fn take(received: &OwnedFd) -> nix::Result<RawFd> {
    // The file is opened once more: a lease ends with the last descriptor of its opening, and golife has one of the
    // other.
    let path = format!("/proc/self/fd/{}\0", received.as_raw_fd());
    // SAFETY: the path ends with a zero.
    let file = unsafe { libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
    let file = Errno::result(file)?;
    // SAFETY: the call takes numbers.
    let taken = Errno::result(unsafe { libc::fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) });
    if taken.is_err() {
        // SAFETY: the descriptor was just made, and nobody uses it.
        unsafe { libc::close(file) };
    }
    taken.map(|_| file)
}

/// Whether somebody waits for a lease to end. The kernel then names what is left of it, which is none.
fn is_broken(lease: RawFd) -> bool {
    // SAFETY: the call takes numbers.
    unsafe { libc::fcntl(lease, libc::F_GETLEASE) != libc::F_RDLCK }
}

/// Whether a process is stopped, by a signal or by a debugger.
fn is_stopped(process: Pid) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{process}/stat")) else { return false };
    // The state comes after the name, which is in parentheses and may have some in it.
    let end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    matches!(stat.get(end + 2), Some(b'T' | b't'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;
    use std::thread;

    fn file() -> (tempfile::TempDir, std::path::PathBuf, File) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "content").expect("a file");
        let file = File::open(&path).expect("the file");
        (directory, path, file)
    }

    #[test]
    fn a_writer_waits_until_the_lease_is_given_back() {
        let (_directory, path, file) = file();
        let (guard, alarm) = Guard::start().expect("a guard");
        let lease = guard.take(&file).expect("a lease");
        let writer = thread::spawn(move || std::fs::write(path, "new content"));
        assert_eq!(alarm.next(), Some(lease));
        assert!(!writer.is_finished());
        guard.give_back(lease);
        writer.join().expect("no panic").expect("it can write now");
        // The file can have a lease again, and it counts for the new one alone.
        let lease = guard.take(&file).expect("another lease");
        guard.give_back(lease);
    }

    #[test]
    fn several_writers_at_once_are_all_heard() {
        let (guard, alarm) = Guard::start().expect("a guard");
        let files: Vec<_> = (0..8).map(|_| file()).collect();
        let mut leases: Vec<Lease> =
            files.iter().map(|(_, _, file)| guard.take(file).expect("a lease")).collect();
        let writers: Vec<_> = files
            .iter()
            .map(|(_, path, _)| path.clone())
            .map(|path| thread::spawn(move || std::fs::write(path, "new")))
            .collect();
        while !leases.is_empty() {
            let lease = alarm.next().expect("an alarm");
            leases.retain(|known| *known != lease);
            guard.give_back(lease);
        }
        writers.into_iter().for_each(|writer| writer.join().expect("no panic").expect("it can write"));
    }

    #[test]
    fn a_file_that_is_being_written_gets_no_lease() {
        let (_directory, path, file) = file();
        let (guard, _alarm) = Guard::start().expect("a guard");
        let writer = OpenOptions::new().write(true).open(&path).expect("a writer");
        assert_eq!(guard.take(&file).expect_err("no lease").raw_os_error(), Some(libc::EAGAIN));
        drop(writer);
        guard.take(&file).expect("a lease");
        let impatient = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(impatient.expect_err("it does not wait").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_guard_goes_with_its_owner() {
        let (_directory, path, file) = file();
        let (guard, alarm) = Guard::start().expect("a guard");
        guard.take(&file).expect("a lease");
        let process = guard.process;
        drop(guard);
        assert_eq!(alarm.next(), None);
        assert_eq!(kill(process, None), Err(Errno::ESRCH));
        std::fs::write(path, "nobody keeps this waiting").expect("it can write");
    }
}
