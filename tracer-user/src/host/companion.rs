//! Processes of golife's own beside it: copies of it that do one small thing, also while golife itself is stopped or has
//! just been killed. Each is in a session of its own, so that a terminal does not reach it, and ends after golife,
//! however that ends.

use std::ffi::CStr;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{ForkResult, Pid, dup2_raw, fork, setsid};

/// Starts a companion. It is a copy of this process, so it is best started while this one is small. `work` gets the
/// descriptors, and after them one that becomes readable when golife has ended and all its files are closed; until then
/// it goes on, and the companion ends with it.
///
/// # Errors
/// The system has no more processes or file descriptors.
pub(super) fn start<const N: usize>(
    name: &CStr,
    descriptors: [&OwnedFd; N],
    work: impl FnOnce([BorrowedFd<'static>; N], BorrowedFd<'static>),
) -> io::Result<Pid> {
    let golife = pidfd(Pid::this())?;
    // SAFETY: the child runs nothing but what follows, from which it never returns. The only lock that it may share with
    // other threads is the allocator's, which the C library makes usable in the child.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            if settle(name, descriptors.iter().copied().chain([&golife])).is_ok() {
                // SAFETY: `settle` has put them there, and they stay open until the companion ends.
                let place = |place: usize| unsafe { BorrowedFd::borrow_raw(place as RawFd) };
                work(std::array::from_fn(place), place(N));
            }
            // SAFETY: the child ends here without running what golife has registered for its own end.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Receives a message of golife's into `bytes`. Returns how many it has, and the descriptors that came with it, two at
/// most.
pub(super) fn receive(
    control: BorrowedFd<'_>,
    bytes: &mut [u8],
    flags: MsgFlags,
) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut buffers = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | flags;
    let message = recvmsg::<()>(control.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
    let received = message.cmsgs()?.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    // SAFETY: the kernel has just made these descriptors for this process.
    let received = received.flatten().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
    let received = received.collect();
    Ok((message.bytes, received))
}

/// A descriptor of a process that becomes readable when it has ended.
///
/// # Errors
/// There is no such process, or the system has no more file descriptors.
pub(super) fn pidfd(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and touches no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a process of its own of a copy of golife. The descriptors get the numbers from 0 on. All others are closed, above
/// all those that hold probes in place.
fn settle<'a>(name: &CStr, descriptors: impl Iterator<Item = &'a OwnedFd>) -> nix::Result<()> {
    // No signal ends a companion but SIGKILL: a service manager signals all processes of a service, and golife's answer to
    // that is what counts.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    setsid()?;
    prctl::set_name(name)?;
    // The descriptors may be in each other's place, so they are moved out of the way first.
    let moved = descriptors.map(|descriptor| {
        // SAFETY: the call only duplicates a descriptor of this process.
        unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD, 64) }
    });
    let moved: Vec<RawFd> = moved.collect();
    for (place, descriptor) in moved.iter().enumerate() {
        // SAFETY: what the place held before belongs to golife, which has its own copy; nothing here uses it.
        std::mem::forget(unsafe { dup2_raw(BorrowedFd::borrow_raw(*descriptor), place as RawFd) }?);
    }
    close_from(moved.len() as RawFd)
}

/// Closes all descriptors from a number on.
pub(super) fn close_from(first: RawFd) -> nix::Result<()> {
    // SAFETY: the call takes three numbers. Whoever calls this uses nothing of what it closes.
    match unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}
