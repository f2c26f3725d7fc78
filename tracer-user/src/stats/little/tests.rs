//! Whether the intervals hold what is true as often as they say, where that is known: in queues.

use std::collections::BinaryHeap;

use super::*;
use crate::stats::random::Random;
use crate::stats::{Durations, Survival};

/// A queue with exponential times between arrivals and of service, both in seconds, and so many servers: M/M/c.
#[derive(Clone, Copy)]
struct Queue {
    rate: f64,
    service_s: f64,
    servers: usize,
}

impl Queue {
    /// The mean time in the queue and in service, by Erlang's C formula: <https://en.wikipedia.org/wiki/M/M/c_queue>.
    fn mean_s(&self) -> f64 {
        let (load, servers) = (self.rate * self.service_s, self.servers as f64);
        let (mut term, mut sum) = (1.0, 0.0);
        for k in 0..self.servers {
            sum += term;
            term *= load / (k + 1) as f64;
        }
        let waiting = term / (1.0 - load / servers);
        let all_busy = waiting / (sum + waiting);
        self.service_s + all_busy * self.service_s / (servers - load)
    }

    /// Births and ends in seconds, in the order of births, from long before 0 to `until_s`.
    fn lives(&self, random: &mut Random, before_s: f64, until_s: f64) -> Vec<(f64, f64)> {
        let mut free: BinaryHeap<std::cmp::Reverse<Time>> =
            (0..self.servers).map(|_| std::cmp::Reverse(Time(-before_s))).collect();
        let (mut birth, mut lives) = (-before_s, Vec::new());
        loop {
            birth += random.wait(1.0 / self.rate);
            if birth >= until_s {
                return lives;
            }
            let begin = free.pop().map_or(birth, |std::cmp::Reverse(Time(at))| at.max(birth));
            let end = begin + random.wait(self.service_s);
            free.push(std::cmp::Reverse(Time(end)));
            lives.push((birth, end));
        }
    }
}

#[derive(PartialEq)]
struct Time(f64);

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Time) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Time) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What is counted in so many equal parts of the time from 0 on. Who lives is counted at the end of each.
fn counted(lives: &[(f64, f64)], parts: usize, part_s: f64) -> Vec<Interval> {
    let mut intervals = vec![Interval { seconds: part_s, ..Interval::default() }; parts];
    let part = |at: f64| Some((at / part_s) as usize).filter(|&part| at >= 0.0 && part < parts);
    for &(birth, end) in lives {
        if let Some(part) = part(birth) {
            intervals[part].created += 1;
        }
        if let Some(part) = part(end) {
            intervals[part].ended += 1;
            intervals[part].lifetime_s += end - birth;
        }
        // It is there at the ends of those parts that end in its life.
        let from = (birth / part_s).ceil().max(1.0) as usize;
        let to = (end / part_s).ceil().max(0.0) as usize;
        for at in from..to.min(parts + 1) {
            intervals[at - 1].live += 1.0;
        }
    }
    intervals
}

/// How many of a hundred runs have an interval that holds the truth: of λ, of W, of L, and of the residual, which is 0; and how many
/// are called balanced.
fn coverage(queue: Queue, runs: u64, law: impl Fn(Queue, &mut Random) -> Little) -> [f64; 5] {
    let mut hits = [0u32; 5];
    for seed in 0..runs {
        let little = law(queue, &mut Random::new(seed));
        let holds = |estimate: Estimate, truth: f64| estimate.low <= truth && truth <= estimate.high;
        let all = [
            holds(little.rate, queue.rate),
            holds(little.mean_s, queue.mean_s()),
            holds(little.live.unwrap(), queue.rate * queue.mean_s()),
            holds(little.residual.unwrap(), 0.0),
            little.is_balanced().unwrap(),
        ];
        hits.iter_mut().zip(all).for_each(|(hits, hit)| *hits += u32::from(hit));
    }
    hits.map(|hits| f64::from(hits) * 100.0 / runs as f64)
}

#[test]
fn erlangs_formula_by_hand() {
    // One server at 80 %: 1 / (1 − 0.8). Two at 50 %: 1 / (1 − 0.25).
    assert!((Queue { rate: 0.8, service_s: 1.0, servers: 1 }.mean_s() - 5.0).abs() < 1e-9);
    assert!((Queue { rate: 1.0, service_s: 1.0, servers: 2 }.mean_s() - 4.0 / 3.0).abs() < 1e-9);
}

#[test]
fn intervals_of_a_queue_that_is_sampled_hold_the_truth() {
    // From hardly any waiting to 80 % busy, where what lives is alike for a minute and more, sampled each 2 s.
    for (rate, servers, parts) in [(4.0, 8, 60), (2.8, 4, 300), (3.2, 4, 600)] {
        let queue = Queue { rate, service_s: 1.0, servers };
        let got = coverage(queue, 1_000, |queue, random| {
            let part_s = 2.0;
            let lives = queue.lives(random, 60.0, parts as f64 * part_s);
            Little::of_intervals(&counted(&lives, parts, part_s)).unwrap()
        });
        assert!(got[..4].iter().all(|&share| share >= 93.0), "{rate}/s, {servers} servers: {got:?}");
        assert!(got[4] >= 98.0, "{got:?}");
    }
}

#[test]
fn intervals_of_one_count_hold_the_truth_where_each_comes_for_itself() {
    // Where nobody waits, each comes and goes for itself. The window begins with nobody, or long after that.
    let queue = Queue { rate: 5.0, service_s: 1.0, servers: 100 };
    for before_s in [0.0, 30.0] {
        let got = coverage(queue, 1_000, |queue, random| {
            let until_s = 20.0;
            let lives = queue.lives(random, before_s, until_s);
            let (mut ended, mut ages, mut created, mut live) =
                (Durations::default(), Durations::default(), 0, 0);
            for &(birth, end) in lives.iter().filter(|life| life.1 >= 0.0) {
                live += u64::from(end > until_s);
                if birth >= 0.0 {
                    created += 1;
                    let lasted = ((end.min(until_s) - birth) * 1e9) as u64;
                    if end > until_s { ages.record(lasted) } else { ended.record(lasted) }
                }
            }
            let survival = Survival::estimate(ended.bins(), ages.bins(), []);
            let total = (ended.sum_ns() + ages.sum_ns()) as f64;
            let mean = survival.mean(ended.count(), total).unwrap().times(1e-9);
            Little::of_counts(created, until_s, mean, Some((live, 1))).unwrap()
        });
        assert!(got[..4].iter().all(|&share| share >= 93.0), "from {before_s} s before: {got:?}");
        assert!(got[4] >= 98.0, "{got:?}");
    }
}

#[test]
fn a_leak_and_what_comes_in_bursts_are_told_apart() {
    let queue = Queue { rate: 4.0, service_s: 1.0, servers: 8 };
    let (mut found, mut accused, mut width) = (0, 0, 0.0);
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut lives = queue.lives(&mut random, 60.0, 240.0);
        // One in twenty never ends.
        lives.iter_mut().filter(|life| life.0 >= 0.0).step_by(20).for_each(|life| life.1 = f64::INFINITY);
        let little = Little::of_intervals(&counted(&lives, 60, 4.0)).unwrap();
        found += u32::from(little.is_balanced() == Some(false));
        // Ten come at once, ten times as rarely, and all is well, but the rate is less sure than that of single ones.
        let alone = queue.lives(&mut random, 0.0, 240.0);
        let first = alone.into_iter().filter(|_| random.uniform() < 0.1);
        let bursts: Vec<_> = first.flat_map(|life| [life; 10]).collect();
        let little = Little::of_intervals(&counted(&bursts, 60, 4.0)).unwrap();
        accused += u32::from(little.is_balanced() == Some(false));
        let poisson = Estimate::of_count(bursts.len() as u64).times(1.0 / 240.0);
        width += (little.rate.high - little.rate.low) / (poisson.high - poisson.low) / 100.0;
    }
    // The variance is ten times that of single ones.
    assert!((3.0..7.0).contains(&width), "{width}");
    assert!(found >= 99 && accused <= 3, "{found} of 100 leaks, {accused} of 100 others");
}

#[test]
fn where_there_is_no_steady_state_nothing_is_forecast() {
    let mean = Estimate { value: 2.0, low: 1.9, high: 2.1 };
    let steady = Little::of_counts(3_000, 60.0, mean, Some((104, 1))).unwrap();
    let scaled = steady.at_scale(2.0).unwrap();
    assert!((scaled.value - 200.0).abs() < 1e-9 && scaled.low < 192.0 && scaled.high > 208.0, "{scaled:?}");
    for live in [20, 400] {
        let little = Little::of_counts(3_000, 60.0, mean, Some((live, 1))).unwrap();
        assert_eq!((little.is_balanced(), little.at_scale(2.0)), (Some(false), None), "{live}");
    }
    // Some outlived all that could be observed, so more may live than those of which the lifetimes are known.
    let open = Estimate { high: f64::INFINITY, ..mean };
    let little = Little::of_counts(3_000, 60.0, open, Some((400, 1))).unwrap();
    assert!(little.is_at_least() && little.is_balanced() == Some(true), "{little:?}");
    assert_eq!(Little::of_counts(3_000, 60.0, open, Some((20, 1))).unwrap().is_balanced(), Some(false));
    assert_eq!(Little::of_counts(3_000, 60.0, mean, None).unwrap().is_balanced(), None);
    assert!(
        Little::of_counts(0, 60.0, mean, None).is_none() && Little::of_counts(1, 0.0, mean, None).is_none()
    );
}

#[test]
fn too_few_parts_say_nothing_of_their_spread() {
    let part = Interval { seconds: 60.0, created: 5, live: 1.0, ended: 5, lifetime_s: 60.0 };
    assert!(Little::of_intervals(&[part; 5]).is_none() && Little::of_intervals(&[part; 6]).is_some());
    let idle = Interval { created: 0, ended: 0, ..part };
    assert!(Little::of_intervals(&[idle; 9]).is_none());
}
