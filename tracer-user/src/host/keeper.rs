//! Keeps the memory of a process beyond its end, so that it can be read once more.
//!
//! A process that ends is not stopped for that, nor slowed: its parent hears of it at once. The kernel frees memory when
//! nobody uses it any more (`mm_users` of `struct mm_struct`), and a read of `/proc/PID/mem` uses it as long as it takes
//! (`mem_rw` in <https://github.com/torvalds/linux/blob/v6.6/fs/proc/base.c>). So a read that does not come to its end keeps
//! the memory: what it reads goes into a page that is never there, since nobody answers its fault
//! (<https://docs.kernel.org/admin-guide/mm/userfaultfd.html>). It holds no lock meanwhile, neither of the process nor of
//! its memory.
//!
//! The reads belong to small processes, each of which an alarm of the kernel ends after some seconds, and which are made
//! anew as long as a process is kept. So nothing stays, whatever is stopped, frozen or killed. Their parent, the keeper
//! (`host/companion.rs`), lets go of each process's memory [`LONGEST`] after its end, whatever golife does.
//!
//! Until it is let go, what the process had mapped counts as in use: its executable cannot be written (`ETXTBSY`), and a
//! lock by `flock(2)` on a file that it had mapped as well stays.
//!
//! What else would do: to stop the process (`bpf_send_signal` with SIGSTOP where it is about to end) shows to its parent,
//! and sudo, su and nsenter stop themselves then, to be continued by a shell that is not there; to trace it (`ptrace`) costs
//! it a stop for each signal and each new thread, and keeps debuggers out; both need it to end in an orderly way.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::{companion, priority};

/// How long the memory of a process is kept after its end, at most.
pub const LONGEST: Duration = Duration::from_millis(50);

/// How long one read keeps memory, in whole seconds.
const READ_S: libc::c_uint = 3;
/// How often another read begins.
const RENEWAL: Duration = Duration::from_secs(1);
/// Most processes that are kept at a time.
const MOST: usize = 256;

/// The process that keeps memory. Dropping this lets go of all of it.
pub struct Keeper {
    control: OwnedFd,
    process: Pid,
    /// The number of the next process that is kept.
    next: AtomicU64,
}

/// The memory of a process, which can be read beyond its end until this is dropped, or for [`LONGEST`].
pub struct Kept {
    keeper: Arc<Keeper>,
    number: u64,
    memory: Arc<File>,
}

impl Keeper {
    /// Starts the keeper. It is a copy of this process, so it is best started while this one is small.
    ///
    /// # Errors
    /// The kernel has no userfaultfd for this process, or the system has no more processes or file descriptors.
    pub fn start() -> io::Result<Keeper> {
        Absent::page()?;
        let (control, keepers) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let process = companion::start(c"golife-keeper", [&keepers], |[control], ended| {
            let _ = run(control, ended);
        })?;
        Ok(Keeper { control, process, next: AtomicU64::new(0) })
    }

    /// Keeps the memory of a process from now on. `address` is one that can be read in it as long as it runs.
    ///
    /// # Errors
    /// The process has ended, or this process may not read its memory.
    pub fn keep(self: &Arc<Keeper>, pid: u32, address: u64) -> io::Result<Kept> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let process = companion::pidfd(Pid::from_raw(pid.cast_signed()))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let descriptors = [memory.as_raw_fd(), process.as_raw_fd()];
        self.send(number, address, &[ControlMessage::ScmRights(&descriptors)])?;
        Ok(Kept { keeper: self.clone(), number, memory: Arc::new(memory) })
    }

    fn send(&self, number: u64, address: u64, descriptors: &[ControlMessage]) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_ne_bytes());
        bytes[8..].copy_from_slice(&address.to_ne_bytes());
        let buffers = [IoSlice::new(&bytes)];
        sendmsg::<()>(self.control.as_raw_fd(), &buffers, descriptors, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = kill(self.process, Signal::SIGKILL);
        let _ = waitpid(self.process, None);
    }
}

impl Kept {
    /// The memory as a file. Reading it gives nothing once it was let go.
    pub fn memory(&self) -> &Arc<File> {
        &self.memory
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A keeper that is gone keeps nothing any more.
        let _ = self.keeper.send(self.number, 0, &[]);
    }
}

/// What the keeper knows of a process that it keeps.
struct Entry {
    number: u64,
    memory: OwnedFd,
    address: u64,
    process: OwnedFd,
    /// The processes that read its memory.
    readers: Vec<Pid>,
    /// When the last of them began.
    renewed: Instant,
    /// When the process has ended.
    ended: Option<Instant>,
}

impl Entry {
    /// Begins another read of the memory.
    fn renew(&mut self) {
        // Children that were not waited for keep their ids, so that nobody else is killed in the place of one.
        self.readers
            .retain(|reader| waitpid(*reader, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive));
        self.renewed = Instant::now();
        // SAFETY: the keeper has one thread, and the child runs nothing but `read_for_ever`.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => self.readers.push(child),
            Ok(ForkResult::Child) => read_for_ever(self.memory.as_raw_fd(), self.address),
            // Then the memory goes with its process.
            Err(_) => {}
        }
    }

    /// Ends the reads. Their processes are added to `leaving`: where they are the last to use the memory, to free it takes
    /// them a while.
    fn let_go(self, leaving: &mut Vec<Pid>) {
        for reader in self.readers {
            let _ = kill(reader, Signal::SIGKILL);
            leaving.push(reader);
        }
    }

    /// When there is something to do: to let go, or to renew.
    fn due(&self) -> Instant {
        self.ended.map_or(self.renewed + RENEWAL, |ended| ended + LONGEST)
    }
}

/// Whether a child has not ended. One that has is waited for.
fn runs(child: &Pid) -> bool {
    waitpid(*child, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
}

/// What the keeper does until golife has ended. Its readers end with it.
fn run(control: BorrowedFd<'_>, golife: BorrowedFd<'_>) -> nix::Result<()> {
    // A process may live for some milliseconds only, and has to be kept by then.
    priority::insist();
    let mut entries: Vec<Entry> = Vec::new();
    let mut leaving: Vec<Pid> = Vec::new();
    loop {
        leaving.retain(runs);
        let mut polled =
            vec![PollFd::new(golife, PollFlags::POLLIN), PollFd::new(control, PollFlags::POLLIN)];
        polled.extend(entries.iter().map(|entry| {
            let events = if entry.ended.is_none() { PollFlags::POLLIN } else { PollFlags::empty() };
            PollFd::new(entry.process.as_fd(), events)
        }));
        let now = Instant::now();
        let next = entries.iter().map(|entry| entry.due().saturating_duration_since(now)).min();
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            PollTimeout::try_from(next + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let is_ready =
            |polled: &PollFd| polled.revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
        let has_hung_up = polled[1].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        let (is_over, is_asked) = (is_ready(&polled[0]) || has_hung_up, is_ready(&polled[1]));
        let have_ended: Vec<bool> = polled[2..].iter().map(is_ready).collect();
        if is_over {
            return Ok(());
        }
        let now = Instant::now();
        for (entry, has_ended) in entries.iter_mut().zip(have_ended) {
            if has_ended {
                entry.ended.get_or_insert(now);
            }
        }
        let is_over = |entry: &mut Entry| entry.ended.is_some_and(|ended| ended + LONGEST <= now);
        entries.extract_if(.., is_over).for_each(|entry| entry.let_go(&mut leaving));
        entries.iter_mut().filter(|entry| entry.due() <= now).for_each(Entry::renew);
        if is_asked {
            match ask(control)? {
                Asked::Keep(mut entry) if entries.len() < MOST => {
                    entry.renew();
                    entries.push(entry);
                }
                Asked::Keep(_) | Asked::Nothing => {}
                Asked::LetGo(number) => {
                    let is_meant = |entry: &mut Entry| entry.number == number;
                    entries.extract_if(.., is_meant).for_each(|entry| entry.let_go(&mut leaving));
                }
            }
        }
    }
}

/// What golife asks the keeper for.
enum Asked {
    Keep(Entry),
    LetGo(u64),
    Nothing,
}

fn ask(control: BorrowedFd<'_>) -> nix::Result<Asked> {
    let mut bytes = [0; 16];
    let (_, received) = companion::receive(control, &mut bytes, MsgFlags::MSG_DONTWAIT)?;
    let word =
        |at: usize| bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let (number, address) = (word(0), word(8));
    Ok(match <[OwnedFd; 2]>::try_from(received) {
        Ok([memory, process]) => Asked::Keep(Entry {
            number,
            memory,
            address,
            process,
            readers: Vec::new(),
            renewed: Instant::now(),
            ended: None,
        }),
        Err(_) if address == 0 => Asked::LetGo(number),
        Err(_) => Asked::Nothing,
    })
}

/// Reads a byte of a process's memory into a page that is never there, until an alarm or the keeper ends it.
fn read_for_ever(memory: RawFd, address: u64) -> ! {
    let mut alarm = SigSet::all();
    alarm.remove(Signal::SIGALRM);
    // SAFETY: the calls take numbers. An alarm ends the process unless somebody has arranged otherwise.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(READ_S);
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&alarm), None);
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if let Ok(absent) = Absent::page() {
        // SAFETY: the page is as long as what is read into it, and nobody else has it.
        unsafe { libc::pread(memory, absent.address, 1, address.cast_signed()) };
    }
    // SAFETY: the child ends here without running what golife has registered for its own end.
    unsafe { libc::_exit(0) }
}

/// A page whose faults nobody answers.
struct Absent {
    address: *mut libc::c_void,
    faults: OwnedFd,
}

/// `struct uffdio_api` and `struct uffdio_register` of
/// <https://github.com/torvalds/linux/blob/v6.6/include/uapi/linux/userfaultfd.h>, with the numbers of their calls.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}
#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}
const API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;
mod calls {
    nix::ioctl_readwrite!(announce, super::API, 0x3f, super::Api);
    nix::ioctl_readwrite!(register, super::API, 0x00, super::Register);
}

impl Absent {
    fn page() -> io::Result<Absent> {
        let length = 4096;
        // SAFETY: the call takes a number and touches no memory of this process.
        let faults = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let faults = match RawFd::try_from(faults) {
            // SAFETY: the kernel has just made this descriptor, and nobody else has it.
            Ok(faults) if faults >= 0 => unsafe { OwnedFd::from_raw_fd(faults) },
            _ => return Err(io::Error::last_os_error()),
        };
        let mut api = Api { api: API, features: 0, ioctls: 0 };
        // SAFETY: the struct is the one that this call is about.
        unsafe { calls::announce(faults.as_raw_fd(), &mut api) }?;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping is in nobody's way.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let absent = Absent { address, faults };
        let (start, length) = (address as u64, length as u64);
        let mut range = Register { start, length, mode: MODE_MISSING, ioctls: 0 };
        // SAFETY: the struct is the one that this call is about, and names the page from above.
        unsafe { calls::register(absent.faults.as_raw_fd(), &mut range) }?;
        Ok(absent)
    }
}

impl Drop for Absent {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `page`, and nobody uses it any more.
        unsafe { libc::munmap(self.address, 4096) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::priority::prefer;
    use std::os::unix::fs::FileExt;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    fn sleeping() -> (Child, u64) {
        let child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("sleep");
        let mut maps = String::new();
        while !maps.contains("sleep") {
            maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).expect("maps");
        }
        let first = maps.split('-').next().expect("a mapping");
        (child, u64::from_str_radix(first, 16).expect("an address"))
    }

    /// Whether the memory is still there.
    fn is_there(kept: &Kept, address: u64) -> bool {
        let mut magic = [0; 4];
        kept.memory().read_at(&mut magic, address).is_ok_and(|read| read == 4) && magic == *b"\x7fELF"
    }

    fn end(mut child: Child) {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    #[test]
    fn memory_is_there_until_it_is_let_go() {
        let keeper = Arc::new(Keeper::start().expect("a keeper"));
        let (child, address) = sleeping();
        let kept = keeper.keep(child.id(), address).expect("it is kept");
        thread::sleep(Duration::from_millis(300));
        // Memory is kept for no longer than other work of the machine may keep this thread waiting.
        let _preferred = prefer();
        end(child);
        assert!(is_there(&kept, address));
        // The file can still be read after that, but has nothing.
        let file = kept.memory().clone();
        drop(kept);
        let deadline = Instant::now() + Duration::from_secs(5);
        while file.read_at(&mut [0; 4], address).is_ok_and(|read| read > 0) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(file.read_at(&mut [0; 4], address).expect("read"), 0);
    }

    #[test]
    fn nothing_is_kept_for_longer() {
        let keeper = Arc::new(Keeper::start().expect("a keeper"));
        let (child, address) = sleeping();
        let kept = keeper.keep(child.id(), address).expect("it is kept");
        // Several reads come and go.
        thread::sleep(Duration::from_millis(5_500));
        let _preferred = prefer();
        end(child);
        assert!(is_there(&kept, address));
        thread::sleep(2 * LONGEST);
        assert!(!is_there(&kept, address));
    }

    #[test]
    fn without_the_keeper_memory_goes_with_its_process() {
        let keeper = Arc::new(Keeper::start().expect("a keeper"));
        let (child, address) = sleeping();
        let kept = keeper.keep(child.id(), address).expect("it is kept");
        thread::sleep(Duration::from_millis(300));
        kill(keeper.process, Signal::SIGKILL).expect("kill");
        thread::sleep(Duration::from_millis(300));
        end(child);
        assert!(!is_there(&kept, address));
    }
}
