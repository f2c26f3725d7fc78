//! Collects the creators' stacks of each site from its lineages.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::CreationStacks;
use crate::report::{CreationStack, Frame};
use crate::tracker::{Instance, SiteId, StackId};

/// Most stacks that are shown for one site.
const MOST: usize = 20;

/// For each site, the stacks with most living goroutines first, and among equals those with most created.
pub(super) fn by_site(instance: &Instance, known: &CreationStacks) -> HashMap<SiteId, Vec<CreationStack>> {
    let mut counts: HashMap<(SiteId, StackId), (u64, u64)> = HashMap::new();
    for lineage in instance.lineages().all() {
        if lineage.stack != StackId::NONE {
            let (created, live) = counts.entry((lineage.site, lineage.stack)).or_default();
            *created += lineage.created_in_window();
            *live += lineage.live;
        }
    }
    // Stacks that differ only in the runtime's own calls have the same frames, and are counted as one.
    let mut merged: HashMap<SiteId, HashMap<Vec<Frame>, (u64, u64)>> = HashMap::new();
    for ((site, stack), (created, live)) in counts {
        let frames = known.get(&(site, stack)).map(|frames| frames.to_vec()).unwrap_or_default();
        let sum = merged.entry(site).or_default().entry(frames).or_default();
        *sum = (sum.0 + created, sum.1 + live);
    }
    let sorted = |stacks: HashMap<Vec<Frame>, (u64, u64)>| {
        let each = |(frames, (created, live))| CreationStack { frames, created, live };
        let mut stacks: Vec<CreationStack> = stacks.into_iter().map(each).collect();
        let order = |a: &CreationStack, b: &CreationStack| {
            let counts = |stack: &CreationStack| Reverse((stack.live, stack.created));
            counts(a).cmp(&counts(b)).then_with(|| a.frames.cmp(&b.frames))
        };
        stacks.sort_by(order);
        stacks.truncate(MOST);
        stacks
    };
    merged.into_iter().map(|(site, stacks)| (site, sorted(stacks))).collect()
}
