//! What golife says when there is no more memory: what failed, and what to do. Rust would abort, which leaves a core and
//! says neither.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// A request that is smaller than this cannot be done without, in bytes. For larger ones there may be another way:
/// `Vec::try_reserve` asks for them.
const SMALL: usize = 64 << 10;

/// How the panics begin that say that no thread can be started, in Rust's library and in tokio.
const NO_THREAD: [&str; 2] = ["failed to spawn thread", "OS can't spawn worker thread"];

/// The size of the last request that failed, in bytes; 0 if none did.
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which ends golife in good order where it has no more.
pub struct Memory;

impl Memory {
    /// Makes a failed request for much memory that golife cannot do without end like one for little: Rust aborts then.
    pub fn watch() {
        let action = SigAction::new(SigHandler::Handler(aborted), SaFlags::SA_RESETHAND, SigSet::empty());
        // SAFETY: the handler only calls functions that are safe in handlers. If it cannot be set, an abort stays one.
        let _ = unsafe { sigaction(Signal::SIGABRT, &action) };
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // The stack of a thread is memory, too. Neither Rust nor tokio says it in another way.
            let text = panic.payload_as_str().unwrap_or_default();
            if NO_THREAD.iter().any(|start| text.starts_with(start)) {
                end(&[b"no memory for another thread, or too many threads"]);
            }
            usual(panic);
        }));
    }

    fn checked(pointer: *mut u8, size: usize) -> *mut u8 {
        if pointer.is_null() {
            FAILED.store(size, Ordering::Relaxed);
            if size < SMALL {
                end_at(size);
            }
        }
        pointer
    }
}

// SAFETY: it hands everything to the system's allocator, and returns what that returns.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller has promised what the system's allocator demands.
        Memory::checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same.
        Memory::checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the same.
        Memory::checked(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// An abort that no failed request explains stays one: the handler is gone, and the signal comes again.
extern "C" fn aborted(_: i32) {
    match FAILED.load(Ordering::Relaxed) {
        0 => {}
        size => end_at(size),
    }
}

fn end_at(size: usize) -> ! {
    end(&[decimal(size, &mut [0; 20]), b" bytes more could not be had"])
}

/// Says that there is no more memory, without any, and ends golife as other errors do. Probes go with it, as always.
fn end(what: &[&[u8]]) -> ! {
    let remedy = b"; raise the limit (ulimit -v, ulimit -u, or those of the control group), or look at fewer processes at \
        once\n";
    for part in [b"golife: out of memory: ".as_slice()].iter().chain(what).chain([&remedy.as_slice()]) {
        // SAFETY: the pointer and the length are those of a slice. Nothing could be done about a failure.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: it ends the process at once, without running anything that might need memory.
    unsafe { libc::_exit(1) }
}

fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_memory() {
        let text = |number| String::from_utf8(decimal(number, &mut [0; 20]).to_vec()).unwrap();
        assert_eq!([0, 7, 2_325_009].map(text), ["0", "7", "2325009"]);
        assert_eq!(text(usize::MAX), usize::MAX.to_string());
    }
}
