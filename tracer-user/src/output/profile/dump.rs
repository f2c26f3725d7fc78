//! Makes the profile of a dump: the goroutines at one moment by stack. It has the form of the goroutine profile that
//! `runtime/pprof` writes, so that tools can use either.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::{Kind, OWN_LABELS, ProcessName, Profile, Sample};
use crate::go::Binary;
use crate::human::count;
use crate::inspect::{Goroutine, Label, StackId, Stacks};
use crate::look::dump::Dump;
use crate::output::names::located;
use crate::report::Frame;

/// The first is the sample type of a goroutine profile of
/// <https://cs.opensource.google/go/go/+/master:src/runtime/pprof/pprof.go>.
const KINDS: [Kind; 2] = [
    Kind { name: "goroutine", unit: "count", about: "goroutines, by stack" },
    Kind {
        name: "waiting",
        unit: "nanoseconds",
        about: "for how long they have waited at least: Go notes it at a garbage collection, so all may have waited longer",
    },
];

/// What the goroutines of one sample have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key<'a> {
    stack: Option<StackId>,
    stack_is_old: bool,
    state: &'static str,
    gopc: u64,
    startpc: u64,
    /// The labels that the program's own code has given to the goroutines.
    labels: &'a [Label],
}

impl Profile {
    /// Makes the profile of the goroutines that were asked for.
    pub fn of_dump(dump: &Dump) -> Profile {
        let mut groups: HashMap<Key<'_>, (usize, u64)> = HashMap::new();
        for goroutine in &dump.goroutines {
            let (number, waited_ns) = groups.entry(key(dump, goroutine)).or_default();
            *number += 1;
            *waited_ns = waited_ns.saturating_add(goroutine.waits_at_least_ns().unwrap_or(0));
        }
        let mut groups: Vec<(Key<'_>, (usize, u64))> = groups.into_iter().collect();
        groups.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let samples = groups.into_iter().map(|(key, (number, waited_ns))| {
            let waited_ns = waited_ns.saturating_mul(dump.sample.unwrap_or(1));
            sample(dump, key, vec![dump.scaled(number), waited_ns])
        });
        Profile {
            kinds: KINDS.into(),
            processes: vec![ProcessName::of(&dump.subject.describe())],
            samples: samples.collect(),
            start: Some(SystemTime::now()),
            // Go's own goroutine profile has none either: it is one moment, however long it took to look.
            duration: Duration::ZERO,
            tool: concat!("golife ", env!("CARGO_PKG_VERSION")).into(),
            gaps: gaps(dump),
            period: Some(1),
            shown: 0,
        }
    }
}

fn gaps(dump: &Dump) -> Vec<String> {
    let own = |goroutine: &&Goroutine| !dump.snapshot.site(goroutine).is_system;
    let shown = dump.goroutines.iter().copied().filter(own).count() as u64;
    let all = dump.snapshot.goroutines.iter().filter(own).count() as u64;
    let mut gaps = Vec::new();
    if let Some(sampled) = dump.sampled() {
        gaps.push(sampled.trim_start_matches("# ").to_owned());
    } else if shown < all {
        gaps.push(format!("{} of {} goroutines: the others were not asked for", count(shown), count(all)));
    }
    if dump.scan.cut_short {
        gaps.push("it took too long to look at all goroutines: there are more".into());
    }
    gaps
}

fn key<'a>(dump: &Dump<'a>, goroutine: &Goroutine) -> Key<'a> {
    let site = dump.snapshot.site(goroutine);
    Key {
        stack: goroutine.stack,
        stack_is_old: goroutine.stack_is_old,
        state: goroutine.state(),
        gopc: site.gopc,
        startpc: site.startpc,
        labels: dump.snapshot.labels(goroutine),
    }
}

fn sample(dump: &Dump, key: Key<'_>, values: Vec<u64>) -> Sample {
    let names = Names { binary: &dump.subject.binary, stacks: &dump.snapshot.stacks };
    let stack = names.stack(key.stack, key.startpc);
    let labels = names.labels(key.gopc, key.stack_is_old, key.labels);
    Sample { process: 0, stack, values, reason: Some(key.state.to_owned()), labels, ..Sample::default() }
}

/// What gives names to the goroutines of a sample.
pub(super) struct Names<'a> {
    pub(super) binary: &'a Binary,
    pub(super) stacks: &'a Stacks,
}

impl Names<'_> {
    /// The frames of a stack, or the function that its goroutines run if there is none.
    pub(super) fn stack(&self, stack: Option<StackId>, startpc: u64) -> Vec<Frame> {
        let mut stack = stack.map(|stack| self.frames(stack)).unwrap_or_default();
        if stack.is_empty() {
            stack.push(self.entry(startpc));
        }
        stack
    }

    /// The `go` statement, that a stack is not from now, and the labels that the program itself has given.
    pub(super) fn labels(&self, gopc: u64, stack_is_old: bool, labels: &[Label]) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let site = self.binary.go_statement(gopc).map(|frame| located(&Frame::from(&frame)));
        all.extend(site.map(|site| ("site".to_owned(), site)));
        if stack_is_old {
            all.push(("stack".to_owned(), "when it last stopped".to_owned()));
        }
        all.extend(labels.iter().filter(|label| !label.key.is_empty()).map(own));
        all
    }

    /// All frames except those that `runtime/pprof` leaves out as well: functions that only pass a call on, and
    /// `runtime.goexit`.
    fn frames(&self, stack: StackId) -> Vec<Frame> {
        let mut frames = Vec::new();
        for call in self.stacks.calls(stack) {
            let shown = call
                .frames
                .iter()
                .filter(|frame| (frame.inlined || !call.is_wrapper) && frame.function != "runtime.goexit");
            frames.extend(shown.map(Frame::from));
        }
        frames
    }

    fn entry(&self, startpc: u64) -> Frame {
        let unnamed = || Frame { function: format!("{startpc:#x}"), file: None, line: None };
        self.binary.entry_function(startpc).map_or_else(unnamed, |frame| Frame::from(&frame))
    }
}

/// A label that the program's own code has given. It keeps its key, so that a search for it finds the same goroutines
/// as in the program's own profile. A label with a key that golife uses itself, such as `pid`, becomes `label.pid`.
fn own(label: &Label) -> (String, String) {
    let is_taken = OWN_LABELS.contains(&label.key.as_str());
    let key = if is_taken { format!("label.{}", label.key) } else { label.key.clone() };
    (key, label.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_label_is_not_taken_for_one_of_golifes() {
        let key = |key: &str| own(&Label { key: key.into(), value: "7".into() }).0;
        assert_eq!(key("tenant"), "tenant");
        for taken in OWN_LABELS {
            assert_eq!(key(taken), format!("label.{taken}"));
        }
    }
}
