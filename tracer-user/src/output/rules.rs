//! What a cause means and what ends it in general, as code-scanning pages explain a rule. What a report says of a single site is
//! more exact.

use crate::report::Cause;

/// A cause, for people who see it for the first time.
pub struct Rule {
    /// Its name in a report; `leak` where the cause is not known.
    pub id: &'static str,
    /// What the goroutines do.
    pub means: &'static str,
    /// What ends it.
    pub remedy: &'static str,
}

/// The rule of a cause.
pub fn rule(cause: Option<Cause>) -> Rule {
    let (means, remedy) = match cause {
        Some(Cause::ChanReceive) => (
            "Goroutines wait to receive from a channel that nobody closes or sends on",
            "Close the channel when the work ends, or select on ctx.Done() beside it.",
        ),
        Some(Cause::ChanSend) => (
            "Goroutines wait to send on a channel that nobody receives from",
            "Make the channel with a buffer for what is sent, receive until it is closed, or select on ctx.Done() beside the send.",
        ),
        Some(Cause::Select) => (
            "Goroutines wait in a select of which no case can proceed",
            "Close one of its channels when the work ends, or add a case for ctx.Done().",
        ),
        Some(Cause::NilChan) => {
            ("Goroutines wait on a channel that is nil", "Make the channel before the goroutine starts.")
        }
        Some(Cause::Context) => (
            "Goroutines wait for a context to be done that nobody cancels",
            "Defer the cancel function where the context is made, or derive one that ends by itself (context.WithTimeout).",
        ),
        Some(Cause::Mutex) => (
            "Goroutines wait for a lock that is not released",
            "Unlock with defer right after locking, and do not wait for anything while holding the lock.",
        ),
        Some(Cause::WaitGroup) => (
            "Goroutines wait for a sync.WaitGroup whose count stays above zero",
            "Call Done with defer in each goroutine that was added, and give what those wait for an end.",
        ),
        Some(Cause::Cond) => (
            "Goroutines wait for a sync.Cond that nobody signals",
            "Call Signal or Broadcast after every change of what they wait for.",
        ),
        Some(Cause::Semaphore) => (
            "Goroutines wait for a semaphore whose places are not given back",
            "Release with defer right after acquiring.",
        ),
        Some(Cause::Cycle) => (
            "Goroutines wait for each other",
            "Take locks and use channels in the same order everywhere, or give one of the waits another way out.",
        ),
        Some(Cause::Timer) => (
            "Goroutines are in a loop without an end that waits for a timer or ticker",
            "Add a case for ctx.Done() to the loop, cancel it when the work ends, and stop the timer.",
        ),
        Some(Cause::Sleep) => (
            "Goroutines are in a loop without an end that sleeps",
            "Bound the loop, or wait for ctx.Done() beside a timer.",
        ),
        Some(Cause::Io) => (
            "Goroutines wait for input or output without a deadline",
            "Set a deadline or a timeout, or close the connection when its user is gone.",
        ),
        Some(Cause::HttpBody) => (
            "Goroutines belong to an HTTP response whose body is not closed",
            "Defer response.Body.Close() after every successful request.",
        ),
        Some(Cause::SqlRows) => (
            "Goroutines belong to a SQL query, transaction or database that is not closed",
            "Defer rows.Close() right after the query and tx.Rollback() right after BeginTx, and share one sql.DB.",
        ),
        Some(Cause::Process) => (
            "Goroutines belong to a child process that does not end, or that nobody waits for",
            "Start it with exec.CommandContext, cancel the context when it is no longer needed, and Wait for it.",
        ),
        Some(Cause::Syscall) => (
            "Goroutines are in a system call that does not return",
            "Use an *os.File or net.Conn with a deadline, or close the descriptor.",
        ),
        Some(Cause::Cgo) => (
            "Goroutines are in C code that does not return",
            "Give the C function a way to be told to return.",
        ),
        Some(Cause::Running) => (
            "Goroutines are in a loop without an end that computes",
            "Bound the loop, or check ctx.Err() in it.",
        ),
        Some(Cause::Other) | None => (
            "Goroutines do not end",
            "Give what they wait for an end, such as ctx.Done(), and make sure that it comes.",
        ),
    };
    Rule { id: cause.map_or("leak", Cause::name), means, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_explained_by_itself() {
        let known = Cause::ALL.into_iter().filter(|cause| *cause != Cause::Other).map(Some);
        let rules: Vec<Rule> = known.chain([None]).map(rule).collect();
        for (at, one) in rules.iter().enumerate() {
            assert!(one.means.starts_with("Goroutines ") && !one.means.ends_with('.'), "{}", one.id);
            assert!(one.remedy.ends_with('.'), "{}", one.id);
            let others = &rules[at + 1..];
            assert!(others.iter().all(|other| other.id != one.id && other.means != one.means), "{}", one.id);
        }
    }
}
