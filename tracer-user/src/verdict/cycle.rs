//! Finds goroutines that wait for each other, in the wait-for graph as far as pointers on their stacks tell it.
//!
//! A goroutine waits on one object, and each goroutine that has a pointer to this object might be the one to end the
//! wait. If that leads back to the first goroutine through goroutines that all wait, none of them will. Pointers prove
//! nothing, so a cycle only names the cause of a leak that was found in another way; it is never a finding of its own.

use std::collections::HashMap;

/// A goroutine that waits on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Address of the object that it waits on.
    pub on: u64,
    /// Whether that object is a channel; if not, it is a lock or another semaphore.
    pub is_channel: bool,
    /// Link-time address of the entry of the function that it runs.
    pub entry: u64,
    /// Addresses of objects that others wait on and that it has a pointer to.
    pub mentions: Vec<u64>,
}

/// Most goroutines with a pointer to the same object that are looked at. There can be many, as all workers have a
/// pointer to their queue.
const MOST_HOLDERS: usize = 32;
/// Most objects that are looked at to find the way from one object back to it.
const MOST_OBJECTS: usize = 32;
/// Most goroutines in a cycle. Longer cycles are hardly ever real, since each stack on the way may have a stale
/// pointer.
const LONGEST: usize = 8;

/// For each waiter, the indices of the others in its shortest cycle; empty if it is in none. Each might end the wait of
/// the one before it.
pub fn find(waiters: &[Waiter]) -> Vec<Vec<usize>> {
    let mut holders: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, waiter) in waiters.iter().enumerate() {
        for &object in &waiter.mentions {
            let list = holders.entry(object).or_default();
            if list.len() < MOST_HOLDERS {
                list.push(at);
            }
        }
    }
    // `at` waits on a channel and `other`, which runs the same function, waits for a lock. Then `other` wants the lock
    // to do what `at` does with the channel, and will not end the wait of `at`.
    let is_behind =
        |other: &Waiter, at: &Waiter| at.is_channel && !other.is_channel && other.entry == at.entry;
    let next = |at: usize| {
        let holders = holders.get(&waiters[at].on).into_iter().flatten().copied();
        holders.filter(move |&other| !is_behind(&waiters[other], &waiters[at]))
    };
    let cycle_of = |start: usize| {
        // This is a breadth-first search with one waiter for each object. An entry holds a waiter, the index of the
        // entry before it, and the distance from the start.
        let mut seen = vec![(start, 0, 0)];
        let mut at = 0;
        while let Some(&(waiter, _, far)) = seen.get(at).filter(|_| seen.len() < MOST_OBJECTS) {
            for other in next(waiter) {
                if other == start && far > 0 {
                    return way_to(at, &seen);
                }
                let is_new = seen.iter().all(|&(known, ..)| waiters[known].on != waiters[other].on);
                if is_new && far + 1 < LONGEST {
                    seen.push((other, at, far + 1));
                }
            }
            at += 1;
        }
        Vec::new()
    };
    (0..waiters.len()).map(cycle_of).collect()
}

/// The waiters on the way to the entry at this index, without the start.
fn way_to(mut at: usize, seen: &[(usize, usize, usize)]) -> Vec<usize> {
    let mut way = Vec::new();
    while at > 0 {
        way.push(seen[at].0);
        at = seen[at].1;
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(on: u64, mentions: &[u64]) -> Waiter {
        Waiter { on, is_channel: false, entry: 0, mentions: mentions.to_vec() }
    }

    #[test]
    fn who_does_the_same_later_ends_nothing() {
        // One waiter holds the lock 2 and receives from the channel 1. The others want the lock to do the same.
        let receiver = Waiter { is_channel: true, ..waiter(1, &[2]) };
        let behind = waiter(2, &[1]);
        assert!(find(&[receiver.clone(), behind.clone(), behind.clone()]).iter().all(Vec::is_empty));
        // Now the other one runs another function, so it may want the lock for something else.
        assert_eq!(find(&[receiver, Waiter { entry: 7, ..behind }]), [vec![1], vec![0]]);
    }

    #[test]
    fn two_that_hold_what_the_other_wants() {
        assert_eq!(find(&[waiter(1, &[2]), waiter(2, &[1])]), [vec![1], vec![0]]);
    }

    #[test]
    fn three_in_a_ring() {
        let ring = [waiter(1, &[3]), waiter(2, &[1]), waiter(3, &[2])];
        assert_eq!(find(&ring), [vec![1, 2], vec![2, 0], vec![0, 1]]);
    }

    #[test]
    fn philosophers() {
        let table: Vec<_> = (0..5).map(|at| waiter((at + 1) % 5, &[at])).collect();
        let found = find(&table);
        assert_eq!(found[0], [1, 2, 3, 4]);
        assert!(found.iter().all(|others| others.len() == 4), "{found:?}");
        let long: Vec<_> = (0..9).map(|at| waiter((at + 1) % 9, &[at])).collect();
        assert!(find(&long).iter().all(Vec::is_empty), "too long to be believed");
    }

    #[test]
    fn a_queue_of_waiters_is_no_cycle() {
        // This is a pipeline, in which each has a pointer to what the one before it waits on.
        let pipeline = [waiter(1, &[]), waiter(2, &[1]), waiter(3, &[2])];
        assert!(find(&pipeline).iter().all(Vec::is_empty));
        // Here many wait on one lock.
        assert!(find(&vec![waiter(1, &[1]); 1000]).iter().all(Vec::is_empty));
    }
}
