//! Who runs first. What keeps and reads the memory that a process leaves has to be quick, also on a busy machine, and where
//! the kernel divides its CPUs between sessions, niceness does not count. Without CAP_SYS_NICE all of this does nothing.

use libc::{SCHED_FIFO, SCHED_OTHER, SCHED_RESET_ON_FORK, SCHED_RR, SYS_sched_setscheduler};

/// A thread runs as soon as it wants to, but not those that it starts. Dropping this ends it for the thread that does so.
pub struct Preferred(());

/// Prefers the calling thread. Not on a machine with one CPU, where nobody else could run meanwhile.
pub fn prefer() -> Preferred {
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1) {
        set(SCHED_RR | SCHED_RESET_ON_FORK, 1);
    }
    Preferred(())
}

impl Drop for Preferred {
    fn drop(&mut self) {
        set(SCHED_OTHER, 0);
    }
}

/// Lets the calling thread, and the processes that it forks, run as soon as they want to, on any machine. For what takes
/// some milliseconds at a time, at most.
pub fn insist() {
    set(SCHED_FIFO, 1);
}

/// The kernel's `struct sched_param`. The C libraries have other ones.
#[repr(C)]
struct Parameters {
    priority: libc::c_int,
}

/// musl's function of this name only says that there is none, since to the kernel a thread is what POSIX calls a process.
fn set(policy: libc::c_int, priority: libc::c_int) {
    let parameters = Parameters { priority };
    // SAFETY: the call reads the struct, which is the one that it is about.
    unsafe { libc::syscall(SYS_sched_setscheduler, 0, policy, &raw const parameters) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::capabilities::has;

    #[test]
    fn a_thread_is_preferred_as_long_as_it_is_meant_to() {
        // SAFETY: the call has no pointer.
        let policy = || unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) } as libc::c_int;
        std::thread::spawn(move || {
            assert_eq!(policy(), SCHED_OTHER);
            let preferred = prefer();
            let is_told = has(caps::Capability::CAP_SYS_NICE)
                && std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
            assert_eq!(policy(), if is_told { SCHED_RR | SCHED_RESET_ON_FORK } else { SCHED_OTHER });
            drop(preferred);
            assert_eq!(policy(), SCHED_OTHER);
        })
        .join()
        .unwrap();
    }
}
