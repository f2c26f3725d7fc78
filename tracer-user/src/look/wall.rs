//! Samples what all goroutines of a process are doing, again and again over a time, while the process runs on: a profile of
//! wall-clock time, in which waiting counts as much as running.
//!
//! Samples come at irregular intervals, so that what a program does regularly is neither always nor never seen. And they
//! come as seldom as it takes to keep their cost below [`SHARE`].

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::filter::{Filter, Places};
use crate::host::cpu_time;
use crate::inspect::{
    CreationSite, Depth, Goroutine, Label, Snapshot, StackId, Stacks, WalkError, WalkLimits,
};
use crate::targets::Subject;

/// The most CPU time that golife spends on sampling, in percent of one CPU.
pub const SHARE: u32 = 10;

/// Most kinds of samples that are told apart. What is beyond is counted by its `go` statement alone.
const MOST_KINDS: usize = 1 << 18;
/// Most sets of labels that are told apart. Goroutines with further ones count as without labels.
const MOST_LABELS: usize = 1 << 16;

/// What goroutines of one kind have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The calls that they are in, as a stack of [`Wall::stacks`]; none if they are not known.
    pub stack: Option<StackId>,
    /// The stack is from when they last stopped.
    pub stack_is_old: bool,
    /// What they do, as Go's traceback has it in brackets.
    pub state: &'static str,
    /// Link-time return address of the `go` statement that created them; 0 if there is none.
    pub gopc: u64,
    /// Link-time entry address of the function that they run; 0 if it is not known.
    pub startpc: u64,
    /// Their labels, for [`Wall::labels`].
    labels: u32,
}

/// A goroutine that has not run since the first sample.
struct Still {
    kind: u32,
    runs: u8,
    /// In how many samples it was.
    seen: u64,
    moved: bool,
}

/// Samples of a process.
pub struct Wall<'a> {
    /// The process.
    pub subject: &'a Subject,
    /// The stacks of all samples. They have names after [`Wall::finish`].
    pub stacks: Stacks,
    filter: &'a Filter,
    hides_idle: bool,
    numbers: HashMap<Kind, u32>,
    counts: Vec<u64>,
    label_numbers: HashMap<Vec<Label>, u32>,
    still: HashMap<u64, Still>,
    began: Instant,
    /// When the first sample was taken.
    pub start: SystemTime,
    /// How many samples there are.
    pub samples: u64,
    /// For how long goroutines were sampled.
    pub duration: Duration,
    /// How much CPU time that took.
    pub spent: Duration,
    /// How much of that was for the last sample.
    last: Duration,
}

impl<'a> Wall<'a> {
    /// Begins now. `hides_idle` leaves out the goroutines that wait from the first sample to the last without running.
    pub fn new(subject: &'a Subject, filter: &'a Filter, hides_idle: bool) -> Wall<'a> {
        Wall {
            subject,
            stacks: Stacks::default(),
            filter,
            hides_idle,
            numbers: HashMap::new(),
            counts: Vec::new(),
            label_numbers: HashMap::from([(Vec::new(), 0)]),
            still: HashMap::new(),
            began: Instant::now(),
            start: SystemTime::now(),
            samples: 0,
            duration: Duration::ZERO,
            spent: Duration::ZERO,
            last: Duration::ZERO,
        }
    }

    /// Takes a sample. Returns how long to wait for the next one, if there shall be one each `period` on average.
    ///
    /// # Errors
    /// The goroutines cannot be listed, as after the process has ended.
    pub fn sample(&mut self, period: Duration, limits: WalkLimits) -> Result<Duration, WalkError> {
        let (begin, used) = (Instant::now(), cpu_time::of_this_thread());
        let snapshot = self.subject.scan_unnamed(limits, Depth::Stacks)?.checked()?;
        let mut stacks: HashMap<StackId, Option<StackId>> = HashMap::new();
        for goroutine in &snapshot.goroutines {
            let site = snapshot.site(goroutine);
            if !self.filter.wants(goroutine, site) || !self.filter.samples(goroutine.goid) {
                continue;
            }
            let stack = goroutine.stack.and_then(|stack| {
                *stacks.entry(stack).or_insert_with(|| self.stacks.intern(snapshot.stacks.pcs(stack)))
            });
            self.count(&snapshot, goroutine, site, stack);
        }
        self.samples += 1;
        self.last = cpu_time::of_this_thread().saturating_sub(used);
        self.spent += self.last;
        Ok(pause(period, begin.elapsed(), self.last, self.samples))
    }

    /// How much time must pass from the beginning of a sample on for it to be worth its cost, if it takes as long as the last.
    pub fn worth(&self) -> Duration {
        self.last.saturating_mul(100 / SHARE)
    }

    fn count(
        &mut self,
        snapshot: &Snapshot,
        goroutine: &Goroutine,
        site: CreationSite,
        stack: Option<StackId>,
    ) {
        let kind = Kind {
            stack,
            stack_is_old: goroutine.stack_is_old,
            state: goroutine.state(),
            gopc: site.gopc,
            startpc: site.startpc,
            labels: self.label_number(snapshot.labels(goroutine)),
        };
        let kind = self.number(kind);
        if !self.hides_idle {
            self.counts[kind as usize] += 1;
            return;
        }
        let (is_first, runs) = (self.samples == 0, goroutine.runs());
        let still = self.still.entry(goroutine.goid);
        let still = still.or_insert(Still { kind, runs, seen: 0, moved: !is_first });
        if !still.moved && still.kind == kind && still.runs == runs && goroutine.waits() {
            still.seen += 1;
            return;
        }
        if !still.moved {
            self.counts[still.kind as usize] += still.seen;
            still.moved = true;
        }
        self.counts[kind as usize] += 1;
    }

    fn number(&mut self, kind: Kind) -> u32 {
        if let Some(number) = self.numbers.get(&kind) {
            return *number;
        }
        // Beyond the limit there is one kind for each `go` statement, and of those no more than a binary has.
        let kind = match self.numbers.len() {
            ..MOST_KINDS => kind,
            _ => Kind { gopc: kind.gopc, startpc: kind.startpc, state: kind.state, ..Kind::default() },
        };
        let next = self.counts.len() as u32;
        let number = *self.numbers.entry(kind).or_insert(next);
        if number == next {
            self.counts.push(0);
        }
        number
    }

    fn label_number(&mut self, labels: &[Label]) -> u32 {
        if let Some(number) = self.label_numbers.get(labels) {
            return *number;
        }
        let next = self.label_numbers.len();
        if next >= MOST_LABELS {
            return 0;
        }
        self.label_numbers.insert(labels.to_vec(), next as u32);
        next as u32
    }

    /// Ends the sampling: who has ended did not wait all the time, and stacks get names.
    pub fn finish(&mut self) {
        self.duration = self.began.elapsed();
        for (_, still) in self.still.drain().filter(|(_, still)| !still.moved && still.seen < self.samples) {
            self.counts[still.kind as usize] += still.seen;
        }
        self.stacks.name(&self.subject.binary);
    }

    /// The kinds that were asked for, with their labels and how often goroutines of each were seen, most first.
    pub fn kinds(&self) -> Vec<(Kind, &[Label], u64)> {
        let mut labels: Vec<&[Label]> = vec![&[]; self.label_numbers.len()];
        self.label_numbers.iter().for_each(|(set, number)| labels[*number as usize] = set);
        let mut places = Places::new(self.filter, self.subject, &self.stacks);
        let counted = self.numbers.iter().map(|(kind, number)| (*kind, self.counts[*number as usize]));
        let mut kinds: Vec<(Kind, u64)> = counted.filter(|(_, count)| *count > 0).collect();
        kinds.retain(|(kind, _)| places.wants(kind.gopc, kind.stack));
        kinds.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let scale = self.filter.sample.unwrap_or(1);
        kinds
            .into_iter()
            .map(|(kind, count)| (kind, labels[kind.labels as usize], count.saturating_mul(scale)))
            .collect()
    }

    /// How long one sample stands for, in ns: the time of sampling is divided evenly.
    pub fn each_ns(&self) -> u64 {
        (self.duration.as_nanos() / u128::from(self.samples.max(1))).try_into().unwrap_or(u64::MAX)
    }

    /// How much CPU time sampling took, in percent of one CPU.
    pub fn share(&self) -> f64 {
        100.0 * self.spent.as_secs_f64() / self.duration.as_secs_f64().max(1e-9)
    }
}

/// How long to wait after a sample that took so long and cost so much CPU time: on average until `period` is over, and never
/// so short that sampling costs more than [`SHARE`].
fn pause(period: Duration, took: Duration, cost: Duration, number: u64) -> Duration {
    // A fraction from 0 to 1 that looks random, by multiples of the golden ratio:
    // <https://en.wikipedia.org/wiki/Low-discrepancy_sequence#Additive_recurrence>.
    let fraction = (number as f64 * 0.618_033_988_749_895).fract();
    let jittered = period.mul_f64(0.5 + fraction);
    jittered.max(cost.saturating_mul(100 / SHARE)).saturating_sub(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_as_often_as_asked_and_cost_no_more_than_their_share() {
        let ms = Duration::from_millis;
        let pauses =
            |took, cost| (1..=1000).map(|number| pause(ms(100), took, cost, number)).collect::<Vec<_>>();
        let quick = pauses(ms(1), ms(1));
        let mean = quick.iter().sum::<Duration>() / 1000;
        assert!((ms(98)..ms(100)).contains(&mean), "{mean:?}");
        assert!(quick.iter().max() > Some(&ms(145)) && quick.iter().min() < Some(&ms(55)));
        // What costs 50 ms comes each 500, whatever was asked for.
        assert!(pauses(ms(50), ms(50)).iter().all(|pause| *pause == ms(450)));
        assert!(pauses(ms(500), ms(50)).iter().all(|pause| pause.is_zero()));
    }
}
