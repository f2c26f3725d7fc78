//! The ages of the living goroutines of each site, taken from the table when a report is made.

use super::lineage::Lineages;
use super::table::{BIRTH_UNKNOWN, Goroutine, Table};
use crate::stats::{Ages, Durations, Eldest};

/// Groups the ages of a whole table by site, of which there are `sites`. Between the two passes over the table, an age
/// takes only 4 bytes, as an `f32`, which is good to 10⁻⁷.
pub(super) fn by_site(table: &Table, lineages: &Lineages, sites: usize, now_ns: u64) -> Vec<Ages> {
    let group = |goroutine: &Goroutine| {
        2 * lineages.site(goroutine.lineage).0 as usize + usize::from(goroutine.flags & BIRTH_UNKNOWN != 0)
    };
    let mut ends = vec![0usize; 2 * sites];
    let mut eldest = vec![u64::MAX; 2 * sites];
    for goroutine in table.iter() {
        let group = group(goroutine);
        ends[group] += 1;
        eldest[group] = eldest[group].min(goroutine.birth_ns);
    }
    let mut total = 0;
    for end in &mut ends {
        total += std::mem::replace(end, total);
    }
    let mut ages = vec![0f32; total];
    for goroutine in table.iter() {
        let next = &mut ends[group(goroutine)];
        ages[*next] = now_ns.saturating_sub(goroutine.birth_ns) as f32;
        *next += 1;
    }
    let part = |group: usize| {
        let from = if group == 0 { 0 } else { ends[group - 1] };
        let mut durations = Durations::default();
        ages[from..ends[group]].iter().for_each(|&age| durations.record(age as u64));
        durations.bins().collect::<Vec<_>>()
    };
    (0..sites)
        .map(|site| {
            let (seen, unseen) = (eldest[2 * site], eldest[2 * site + 1]);
            let birth = seen.min(unseen);
            // One whose birth was not seen may be older than all others, whenever it was found.
            let at_least = unseen != u64::MAX;
            let eldest =
                (birth != u64::MAX).then(|| Eldest { age_ns: now_ns.saturating_sub(birth), at_least });
            Ages { exact: part(2 * site), at_least: part(2 * site + 1), eldest }
        })
        .collect()
}
