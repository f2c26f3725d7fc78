//! Goroutines that wait for each other: the wait-for graph, as far as pointers on their stacks tell it.
//!
//! A goroutine waits on one object; each goroutine that has a pointer to this object might be the one to end the wait. Where
//! that leads back to the first, through goroutines that all wait, none of them will. Pointers prove nothing, so this names
//! the cause of a leak that was found otherwise, and never finds one.

use std::collections::HashMap;

/// A goroutine that waits on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Address of what it waits on.
    pub on: u64,
    /// What others wait on and it has a pointer to.
    pub mentions: Vec<u64>,
}

/// How many goroutines that mention the same object are looked at: all workers mention their queue.
const MOST_HOLDERS: usize = 32;

/// For each waiter, the others that it waits with in a cycle of two or three, by index. Longer cycles are rare enough.
pub(super) fn find(waiters: &[Waiter]) -> Vec<Vec<usize>> {
    let mut holders: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, waiter) in waiters.iter().enumerate() {
        for &object in &waiter.mentions {
            let list = holders.entry(object).or_default();
            if list.len() < MOST_HOLDERS {
                list.push(at);
            }
        }
    }
    let none = Vec::new();
    let next = |at: usize| holders.get(&waiters[at].on).unwrap_or(&none).iter().copied();
    let cycle_of = |at: usize| {
        let differ = |other: usize| waiters[other].on != waiters[at].on;
        for second in next(at).filter(|&second| differ(second)) {
            if next(second).any(|back| back == at) {
                return vec![second];
            }
        }
        for second in next(at).filter(|&second| differ(second)) {
            for third in
                next(second).filter(|&third| differ(third) && waiters[third].on != waiters[second].on)
            {
                if next(third).any(|back| back == at) {
                    return vec![second, third];
                }
            }
        }
        Vec::new()
    };
    (0..waiters.len()).map(cycle_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(on: u64, mentions: &[u64]) -> Waiter {
        Waiter { on, mentions: mentions.to_vec() }
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
    fn a_queue_of_waiters_is_no_cycle() {
        // A pipeline: each knows what the one before waits on.
        let pipeline = [waiter(1, &[]), waiter(2, &[1]), waiter(3, &[2])];
        assert!(find(&pipeline).iter().all(Vec::is_empty));
        // Many wait on one lock.
        assert!(find(&vec![waiter(1, &[1]); 1000]).iter().all(Vec::is_empty));
    }
}
