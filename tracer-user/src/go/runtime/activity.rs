//! What a goroutine is doing, from the text that Go's traceback has for it: a wait reason, or the name of a status. The
//! texts are compared here and nowhere else.

/// What a goroutine is doing, as far as golife tells one thing from another.
///
/// The texts of wait reasons are `waitReasonStrings` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>; those of the others are
/// [`Status::name`](super::status::Status::name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// `chan receive`
    ChanReceive,
    /// `chan receive (nil chan)`: from a channel that was never made, for ever.
    ChanReceiveNil,
    /// `chan send`
    ChanSend,
    /// `chan send (nil chan)`: on a channel that was never made, for ever.
    ChanSendNil,
    /// `select`, also where all of its channels are nil.
    Select,
    /// `select (no cases)`: for ever.
    SelectNoCases,
    /// `sync.Mutex.Lock`, from Go 1.20 on; [`Activity::Semacquire`] before.
    MutexLock,
    /// `sync.RWMutex.Lock`, from Go 1.20 on; [`Activity::Semacquire`] before.
    RwMutexLock,
    /// `sync.RWMutex.RLock`, from Go 1.20 on; [`Activity::Semacquire`] before.
    RwMutexRLock,
    /// `sync.WaitGroup.Wait` in newer versions; [`Activity::Semacquire`] in older ones.
    WaitGroupWait,
    /// `sync.Cond.Wait`
    CondWait,
    /// `semacquire`: for a semaphore of the runtime, and in older versions for anything that is built on one.
    Semacquire,
    /// `sleep`: in `time.Sleep`.
    Sleep,
    /// `IO wait`: for a file descriptor that the runtime polls.
    IoWait,
    /// `coroutine`: an iterator of `iter.Pull` between two values, or who has asked it for one.
    Coroutine,
    /// `syscall`: in a system call, or in C code.
    Syscall,
    /// `running`: on a CPU.
    Running,
    /// `runnable`: about to get a CPU.
    Runnable,
    /// `preempted`: stopped in the middle of its work, as the garbage collector does to look at stacks.
    Preempted,
    /// `copystack`: its stack is being moved.
    CopyStack,
    /// Anything else, mostly what goroutines of the runtime wait for.
    Other,
}

/// What `testing/synctest` adds to the reason of a wait that only goroutines of the same bubble can end (Go 1.25 and
/// newer): `isIdleInSynctest` in <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>.
const DURABLE: &str = " (durable)";

impl Activity {
    /// What a text of Go's traceback says. It is the same activity within a bubble of `testing/synctest`, where Go adds
    /// `(durable)` to the text.
    ///
    /// Always inlined, with the texts of package sync apart: each goroutine of a process is asked whether it waits for
    /// one of those, and what such a question does not need then is left out. Otherwise it takes some 10 ns.
    #[inline(always)]
    pub fn of(text: &str) -> Activity {
        let text = text.strip_suffix(DURABLE).unwrap_or(text);
        if let Some(of_sync) = text.strip_prefix("sync.") {
            return match of_sync {
                "Mutex.Lock" => Activity::MutexLock,
                "RWMutex.Lock" => Activity::RwMutexLock,
                "RWMutex.RLock" => Activity::RwMutexRLock,
                "WaitGroup.Wait" => Activity::WaitGroupWait,
                "Cond.Wait" => Activity::CondWait,
                _ => Activity::Other,
            };
        }
        match text {
            "semacquire" => Activity::Semacquire,
            "chan receive" => Activity::ChanReceive,
            "chan receive (nil chan)" => Activity::ChanReceiveNil,
            "chan send" => Activity::ChanSend,
            "chan send (nil chan)" => Activity::ChanSendNil,
            "select" => Activity::Select,
            "select (no cases)" => Activity::SelectNoCases,
            "sleep" => Activity::Sleep,
            "IO wait" => Activity::IoWait,
            "coroutine" => Activity::Coroutine,
            "syscall" => Activity::Syscall,
            "running" => Activity::Running,
            "runnable" => Activity::Runnable,
            "preempted" => Activity::Preempted,
            "copystack" => Activity::CopyStack,
            _ => Activity::Other,
        }
    }

    /// Whether a text of Go's traceback says that only goroutines of the same bubble of `testing/synctest` can end the
    /// wait.
    #[inline]
    pub fn is_durable(text: &str) -> bool {
        text.ends_with(DURABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::runtime::status::Status;

    #[test]
    fn a_bubble_of_synctest_changes_no_activity() {
        for (text, activity) in [
            ("chan receive", Activity::ChanReceive),
            ("select", Activity::Select),
            ("sync.WaitGroup.Wait", Activity::WaitGroupWait),
        ] {
            let durable = format!("{text} (durable)");
            assert_eq!((Activity::of(text), Activity::of(&durable)), (activity, activity));
            assert!(Activity::is_durable(&durable) && !Activity::is_durable(text));
        }
        assert_eq!(Activity::of("sync.Pool.Get"), Activity::Other);
        assert_eq!(Activity::of(""), Activity::Other);
    }

    #[test]
    fn what_is_no_wait_is_named_by_its_status() {
        let of = |status: Status| Activity::of(status.name());
        assert_eq!(of(Status::Running), Activity::Running);
        assert_eq!(of(Status::Runnable), Activity::Runnable);
        assert_eq!(of(Status::Syscall), Activity::Syscall);
        assert_eq!(of(Status::Preempted), Activity::Preempted);
        assert_eq!(of(Status::CopyStack), Activity::CopyStack);
        assert_eq!(of(Status::Dead), Activity::Other);
    }
}
