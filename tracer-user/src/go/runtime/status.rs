//! What a goroutine is doing: the values of `g.atomicstatus`.
//! <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>, `_Gidle` and following.

/// The bit that is set while the garbage collector looks at the goroutine's stack (`_Gscan`). The other bits still hold.
const SCAN: u32 = 0x1000;

/// The state of a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Allocated, not initialised.
    Idle,
    /// On a run queue.
    Runnable,
    /// Executing Go code.
    Running,
    /// In a system call, or in C code.
    Syscall,
    /// Blocked in the runtime: its wait reason says on what.
    Waiting,
    /// Ended, or not begun: the runtime keeps it for the next `go` statement, with its old contents.
    Dead,
    /// Its stack is being moved.
    CopyStack,
    /// It has stopped itself, because the runtime wanted it suspended (`suspendG`).
    Preempted,
    /// Found to be leaked by the garbage collector (Go 1.26 and newer); it still waits.
    Leaked,
    /// Belongs to a C thread that is not in Go (Go 1.26 and newer).
    DeadExtra,
}

impl Status {
    /// Reads a value of `g.atomicstatus`; none where no version of Go has it.
    #[inline]
    pub fn from_raw(raw: u32) -> Option<Status> {
        Some(match raw & !SCAN {
            0 => Status::Idle,
            1 => Status::Runnable,
            2 => Status::Running,
            3 => Status::Syscall,
            4 => Status::Waiting,
            6 => Status::Dead,
            8 => Status::CopyStack,
            9 => Status::Preempted,
            10 => Status::Leaked,
            11 => Status::DeadExtra,
            _ => return None,
        })
    }

    /// The word that Go's traceback has for it: `gStatusStrings` in
    /// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
    pub fn name(self) -> &'static str {
        match self {
            Status::Idle => "idle",
            Status::Runnable => "runnable",
            Status::Running => "running",
            Status::Syscall => "syscall",
            Status::Waiting => "waiting",
            Status::Dead | Status::DeadExtra => "dead",
            Status::CopyStack => "copystack",
            Status::Preempted => "preempted",
            Status::Leaked => "leaked",
        }
    }

    /// Whether there is a goroutine, so that the other fields of its `g` are about it and not about one that has ended.
    pub fn is_live(self) -> bool {
        !matches!(self, Status::Idle | Status::Dead | Status::DeadExtra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_bit_is_not_part_of_the_status() {
        assert_eq!(Status::from_raw(0x1004), Some(Status::Waiting));
        assert_eq!(Status::from_raw(0x1006), Some(Status::Dead));
        assert_eq!(Status::from_raw(5), None);
        assert_eq!(Status::from_raw(0x2004), None);
    }
}
