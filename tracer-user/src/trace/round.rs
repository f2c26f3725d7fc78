//! A round of looks at many processes: some at a time, until the time of the round is over.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

/// Most looks that are under way at the same time: each of them keeps a CPU busy.
const MOST_AT_ONCE: usize = 4;

/// Does `look` for all of them, several at a time, and hands each result to `done`, which says whether to go on. Those
/// whose turn has not come by the deadline get no result.
pub(super) fn round<Due: Send, Found>(
    all: Vec<Due>,
    deadline: Instant,
    look: impl Fn(&Due) -> Found + Sync,
    done: impl Fn(Due, Option<Found>) -> bool + Sync,
) {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let at_once = all.len().min(cpus).min(MOST_AT_ONCE);
    let rest = Mutex::new(all.into_iter());
    let next = || rest.lock().ok()?.next();
    let work = || {
        while let Some(due) = next() {
            let found = (Instant::now() < deadline).then(|| look(&due));
            if !done(due, found) {
                break;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_once {
            // Without another thread, this one does all of it.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_have_their_turn_and_those_after_the_deadline_are_told_apart() {
        let results = Mutex::new(Vec::new());
        let keep = |n: u32, found: Option<u32>| {
            results.lock().unwrap().push((n, found));
            true
        };
        let now = Instant::now();
        round((0..300).collect(), now + Duration::from_secs(60), |n| n * 2, keep);
        round((300..302).collect(), now - Duration::from_millis(1), |n| n * 2, keep);
        let mut results = results.into_inner().unwrap();
        results.sort_unstable();
        assert_eq!(results.len(), 302);
        assert!(results[..300].iter().all(|&(n, found)| found == Some(n * 2)));
        assert_eq!(results[300..], [(300, None), (301, None)]);
    }
}
