//! Which goroutines are the runtime's own. The rule is the runtime's: `isSystemGoroutine` in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.

/// Functions of package runtime that goroutines of the program start in: the main goroutine, coroutines
/// (`iter.Pull`, Go 1.22 and newer) and the handler of injected events.
const OF_THE_PROGRAM: [&str; 3] = ["runtime.main", "runtime.corostart", "runtime.handleAsyncEvent"];

/// Whether a goroutine that starts in this function belongs to the runtime. Go counts the goroutines that run
/// finalizers and cleanups as the program's while they call back into it; here they always are the runtime's.
pub fn starts_system_goroutine(function: &str) -> bool {
    function.starts_with("runtime.") && !OF_THE_PROGRAM.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_owns_what_starts_in_it() {
        for own in
            ["runtime.bgsweep", "runtime.gcBgMarkWorker", "runtime.runFinalizers", "runtime.gcenable.gowrap1"]
        {
            assert!(starts_system_goroutine(own), "{own}");
        }
        for other in
            ["runtime.main", "runtime.corostart", "runtime/pprof.profileWriter", "os/signal.loop", "main.f"]
        {
            assert!(!starts_system_goroutine(other), "{other}");
        }
    }
}
