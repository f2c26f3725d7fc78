//! Makes the profile of a dump: the goroutines at one moment by stack. It has the form of the goroutine profile that
//! `runtime/pprof` writes, so that tools can use either.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::{Kind, OWN_LABELS, ProcessName, Profile, Sample};
use crate::human::count;
use crate::inspect::{Goroutine, Label, StackId};
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
            is_snapshot: true,
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
    let mut labels = Vec::new();
    let site = dump.subject.binary.go_statement(key.gopc).map(|frame| located(&Frame::from(&frame)));
    labels.extend(site.map(|site| ("site".to_owned(), site)));
    if key.stack_is_old {
        labels.push(("stack".to_owned(), "when it last stopped".to_owned()));
    }
    labels.extend(key.labels.iter().filter(|label| !label.key.is_empty()).map(own));
    let mut stack = key.stack.map(|stack| frames(dump, stack)).unwrap_or_default();
    if stack.is_empty() {
        stack.push(entry(dump, key.startpc));
    }
    Sample { process: 0, stack, values, reason: Some(key.state.to_owned()), level: None, labels }
}

/// A label that the program's own code has given. It keeps its key, so that a search for it finds the same goroutines
/// as in the program's own profile. A label with a key that golife uses itself, such as `pid`, becomes `label.pid`.
fn own(label: &Label) -> (String, String) {
    let is_taken = OWN_LABELS.contains(&label.key.as_str());
    let key = if is_taken { format!("label.{}", label.key) } else { label.key.clone() };
    (key, label.value.clone())
}

/// All frames except those that `runtime/pprof` leaves out as well: functions that only pass a call on, and
/// `runtime.goexit`.
fn frames(dump: &Dump, stack: StackId) -> Vec<Frame> {
    let mut frames = Vec::new();
    for call in dump.snapshot.stacks.calls(stack) {
        let shown = call
            .frames
            .iter()
            .filter(|frame| (frame.inlined || !call.is_wrapper) && frame.function != "runtime.goexit");
        frames.extend(shown.map(Frame::from));
    }
    frames
}

fn entry(dump: &Dump, startpc: u64) -> Frame {
    let unnamed = || Frame { function: format!("{startpc:#x}"), file: None, line: None };
    dump.subject.binary.entry_function(startpc).map_or_else(unnamed, |frame| Frame::from(&frame))
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
