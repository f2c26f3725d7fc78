//! Goroutines that wait for each other: the wait-for graph, as far as pointers on their stacks tell it.
//!
//! A goroutine waits on one object; each goroutine that has a pointer to this object might be the one to end the wait. Where
//! that leads back to the first, through goroutines that all wait, none of them will. Pointers prove nothing, so this names
//! the cause of a leak that was found otherwise, and never finds one.

use std::collections::HashMap;

/// A goroutine that waits on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Address of what it waits on.
    pub on: u64,
    /// Whether that is a channel; else it is a lock or another semaphore.
    pub is_channel: bool,
    /// The function that it was created with.
    pub entry: u64,
    /// What others wait on and it has a pointer to.
    pub mentions: Vec<u64>,
}

/// How many goroutines that mention the same object are looked at: all workers mention their queue.
const MOST_HOLDERS: usize = 32;
/// How many objects are looked at to find the way from one back to it.
const MOST_OBJECTS: usize = 32;
/// Longer cycles are hardly ever real: a stale pointer is as likely on each of their stacks.
const LONGEST: usize = 8;

/// For each waiter, the others that it waits with in the shortest cycle, by index: each might end the wait of the one before.
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
    // Who wants the lock that the waiter holds, to do the same as it with the channel, will not end its wait.
    let is_behind =
        |other: &Waiter, at: &Waiter| at.is_channel && !other.is_channel && other.entry == at.entry;
    let next = |at: usize| {
        let holders = holders.get(&waiters[at].on).into_iter().flatten().copied();
        holders.filter(move |&other| !is_behind(&waiters[other], &waiters[at]))
    };
    let cycle_of = |start: usize| {
        // One for each object, with its place on the way to it: what came before, and how far it is.
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

/// The waiters from the second to this.
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
        // One has the lock 2 and receives from the channel 1; others want the lock, for the same.
        let receiver = Waiter { is_channel: true, ..waiter(1, &[2]) };
        let behind = waiter(2, &[1]);
        assert!(find(&[receiver.clone(), behind.clone(), behind.clone()]).iter().all(Vec::is_empty));
        // Others want it to do something else.
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
        // A pipeline: each knows what the one before waits on.
        let pipeline = [waiter(1, &[]), waiter(2, &[1]), waiter(3, &[2])];
        assert!(find(&pipeline).iter().all(Vec::is_empty));
        // Many wait on one lock.
        assert!(find(&vec![waiter(1, &[1]); 1000]).iter().all(Vec::is_empty));
    }
}
