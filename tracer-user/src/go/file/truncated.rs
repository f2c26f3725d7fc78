//! Files that are truncated while they are mapped, as by a compiler that writes a binary anew in its place. Touching
//! what is no longer there raises SIGBUS, which would end golife and lose its report. So the missing pages are replaced
//! by zeros, of which every reader here makes an error or nothing. Files that a process executes cannot be truncated:
//! the kernel answers ETXTBSY.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{SysconfVar, sysconf};

static SEEN: AtomicBool = AtomicBool::new(false);
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

/// From the first call on, golife outlives reading a part of a mapped file that was cut off.
pub(super) fn outlive() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Ok(Some(bytes)) = sysconf(SysconfVar::PAGE_SIZE) {
            PAGE_BYTES.store(bytes as usize, Ordering::Relaxed);
        }
        let handler = SigHandler::SigAction(fill_with_zeros);
        let action = SigAction::new(handler, SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK, SigSet::empty());
        // SAFETY: the handler makes at most two system calls and stores a flag. Without it all is as it was.
        let _ = unsafe { sigaction(Signal::SIGBUS, &action) };
    });
}

/// Whether a missing page was read, and replaced by zeros, since the last call.
pub fn take() -> bool {
    SEEN.swap(false, Ordering::Relaxed)
}

extern "C" fn fill_with_zeros(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel fills it for this signal.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let size = PAGE_BYTES.load(Ordering::Relaxed);
    let page = (address & !(size - 1)) as *mut libc::c_void;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page belongs to a mapping of a file, and the file has nothing for it.
    let is_filled = code == libc::BUS_ADRERR
        && unsafe { libc::mmap(page, size, libc::PROT_READ, flags, -1, 0) } != libc::MAP_FAILED;
    if is_filled {
        SEEN.store(true, Ordering::Relaxed);
    } else {
        // This is no truncated file. The instruction is tried again, and ends golife by the default action.
        // SAFETY: the default action involves no code of ours.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_truncated_file_had_reads_as_zeros() {
        outlive();
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 3 << 16], 0).unwrap();
        // SAFETY: it is read once, below.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        file.set_len(10).unwrap();
        let read = |at: usize| std::hint::black_box(&map)[at];
        assert_eq!((read(0), read(9), read(10)), (7, 7, 0), "the rest of the last page is zeros anyway");
        assert_eq!((read(1 << 16), read(2 << 16), read((3 << 16) - 1)), (0, 0, 0));
        assert!(take() && !take());
    }
}
