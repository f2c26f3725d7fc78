//! Counts the profiler labels of each site's goroutines, as a report has them.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::inspect::{Label, SiteKey, Snapshot};
use crate::report::CountedLabel;

/// Most different labels of one site that are counted. A program that labels each request has more values than anybody
/// reads, and those that many goroutines carry come early.
const MOST_COUNTED: usize = 4096;

/// The labels that most goroutines of each site carry, most first, at most [`CountedLabel::MOST`].
pub(super) fn by_site(snapshot: &Snapshot) -> HashMap<SiteKey, Vec<CountedLabel>> {
    // Goroutines that have one set of labels in common are counted together, since most sets have many.
    let mut sets: HashMap<(SiteKey, *const Label), (&[Label], u64)> = HashMap::new();
    for goroutine in &snapshot.goroutines {
        let labels = snapshot.labels(goroutine);
        if !labels.is_empty() {
            let key = (SiteKey::of(snapshot.site(goroutine)), labels.as_ptr());
            sets.entry(key).or_insert((labels, 0)).1 += 1;
        }
    }
    let mut sets: Vec<_> =
        sets.into_iter().map(|((site, _), (labels, count))| (count, site, labels)).collect();
    sets.sort_unstable_by(|a, b| b.cmp(a));
    let mut counts: HashMap<SiteKey, HashMap<&Label, u64>> = HashMap::new();
    for (count, site, labels) in sets {
        let counts = counts.entry(site).or_default();
        for label in labels {
            if counts.len() < MOST_COUNTED || counts.contains_key(label) {
                *counts.entry(label).or_default() += count;
            }
        }
    }
    counts.into_iter().map(|(site, counts)| (site, most(counts))).collect()
}

fn most(counts: HashMap<&Label, u64>) -> Vec<CountedLabel> {
    let mut counts: Vec<(&Label, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|&(label, count)| (Reverse(count), label));
    counts.truncate(CountedLabel::MOST);
    let counted = |(label, count): (&Label, u64)| CountedLabel {
        key: label.key.clone(),
        value: label.value.clone(),
        count,
    };
    counts.into_iter().map(counted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_most_carry_come_first() {
        let label = |value: u64| Label { key: "request".into(), value: format!("{value:02}") };
        let labels: Vec<Label> = (0..30).map(label).collect();
        let counts = labels.iter().zip(1u64..).map(|(label, count)| (label, count.min(25)));
        let found = most(counts.collect());
        assert_eq!(found.len(), CountedLabel::MOST);
        let of = |at: usize| (found[at].value.as_str(), found[at].count);
        assert_eq!((of(0), of(5), of(6)), (("24", 25), ("29", 25), ("23", 24)));
    }
}
