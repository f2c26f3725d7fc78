//! Comparing the table with the runtime's own list of goroutines, read from the process while it runs.
//!
//! A scan takes time, and records wait in the ring buffer meanwhile, so a list and the events around it may be applied
//! in any order. goids are never reused, which makes the outcome independent of it:
//!
//! * listed and known: nothing to do; listed and seen to exit since the scan began: it stays gone;
//! * listed and unknown: it is added with an unknown birth, and if its creation record turns up later, that one counts;
//! * an unknown goroutine's exit counts as one from before tracing if its time is before the scan's end;
//! * known, born before the scan began, and not listed: its exit was lost, or is still on its way.

use std::collections::HashMap;

use super::Budget;
use super::instance::{ExitOf, Instance};
use super::lineage::{Key, LineageId, StackId};
use super::table::{AT_ATTACH, BIRTH_UNKNOWN, Goroutine, LISTED, PARENT_COUNTED, UNPLACED};

/// A goroutine on the runtime's list (`runtime.allgs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its id.
    pub goid: u64,
    /// Its creator's id; 0 where the runtime does not say.
    pub parent: u64,
    /// Return address of the `go` statement.
    pub gopc: u64,
    /// Entry of its function.
    pub startpc: u64,
}

impl Existing {
    fn key(&self, parent: Option<LineageId>) -> Key {
        Key { parent, stack: StackId::NONE, gopc: self.gopc, startpc: self.startpc }
    }
}

/// What must be remembered from the moment a scan begins until its list is applied.
pub(super) struct Scan {
    began_ns: u64,
    exited: HashMap<u64, (u64, ExitOf)>,
    limit: usize,
}

impl Scan {
    /// Remembers at most `limit` exits; beyond, a goroutine may be taken for living until the next scan.
    pub fn new(began_ns: u64, limit: usize) -> Scan {
        Scan { began_ns, exited: HashMap::new(), limit }
    }

    pub fn remember(&mut self, goid: u64, time_ns: u64, how: ExitOf) {
        if self.exited.len() < self.limit {
            self.exited.insert(goid, (time_ns, how));
        }
    }
}

/// What to do about known goroutines that are not on the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Keep,
    Remove,
}

/// A late exit takes back at most this many removals.
const MOST_REMOVED: usize = 1 << 16;

impl Instance {
    /// Applies a list whose scan ended at `now_ns`.
    pub(super) fn apply_list(
        &mut self,
        list: impl Iterator<Item = Existing>,
        now_ns: u64,
        missing: Missing,
        budget: &mut Budget,
    ) {
        let mut scan = self.scan.take().unwrap_or_else(|| Scan::new(now_ns, 0));
        // The first list tells what existed at attach. A later one can only find what should have been seen.
        let at_attach = self.has_unknown_goroutines();
        let mut orphans = Vec::new();
        let mut found = Vec::new();
        for existing in list {
            match scan.exited.remove(&existing.goid) {
                Some((_, how)) => found.push((existing, how)),
                None => self.listed(existing, now_ns, at_attach, budget, &mut orphans),
            }
        }
        for (existing, how) in found {
            self.listed_but_gone(existing, how, at_attach, budget);
        }
        if at_attach {
            // Not on the first list, and ended after it was read: its creation was missed.
            let late =
                scan.exited.values().filter(|(time, how)| *how == ExitOf::Unattributed && *time > now_ns);
            let late = (late.count() as u64).min(self.unattributed_exits);
            self.unattributed_exits -= late;
            self.unmatched_exits += late;
        }
        self.place_all(orphans, budget);
        self.scanned_ns = Some(self.scanned_ns.unwrap_or(0).max(now_ns));
        self.removed.clear();
        self.unlist(scan.began_ns, missing, budget);
    }

    fn listed(
        &mut self,
        existing: Existing,
        now_ns: u64,
        at_attach: bool,
        budget: &mut Budget,
        orphans: &mut Vec<(u64, u64)>,
    ) {
        if let Ok(known) = self.table.entry(existing.goid) {
            known.flags |= LISTED;
            // It may have been created while its creators were not known yet.
            let creator_missing = at_attach || self.lineages.get(known.lineage).parent.is_none();
            if creator_missing && existing.parent != 0 && budget.has_room_for_lineage() {
                known.flags |= UNPLACED;
                orphans.push((existing.goid, existing.parent));
            }
            return;
        }
        let lineage = self.lineage_for(existing.key(None), budget);
        let node = self.lineages.get_mut(lineage);
        let counts = &mut self.sites[node.site.0 as usize];
        if at_attach {
            counts.at_attach += 1;
        } else {
            node.created += 1;
            counts.created += 1;
            self.corrected += 1;
        }
        if !budget.take_goroutine() {
            counts.untracked += 1;
            self.untracked += 1;
            return;
        }
        node.live += 1;
        counts.add_live();
        let flags = BIRTH_UNKNOWN | LISTED | UNPLACED | if at_attach { AT_ATTACH } else { 0 };
        if let Err(place) = self.table.entry(existing.goid) {
            place.insert(Goroutine { goid: existing.goid, birth_ns: now_ns, lineage, flags });
        }
        orphans.push((existing.goid, existing.parent));
    }

    /// It lived when the scan passed it and has ended since. An exit that could not be attributed then can be now.
    fn listed_but_gone(&mut self, existing: Existing, how: ExitOf, at_attach: bool, budget: &mut Budget) {
        match how {
            ExitOf::Known | ExitOf::Untracked => return,
            ExitOf::Unattributed => self.unattributed_exits -= 1,
            ExitOf::Unmatched => self.unmatched_exits -= 1,
        }
        let parent = self.lineage_of(existing.parent);
        let lineage = self.lineage_for(existing.key(parent), budget);
        let parent = parent.map(|parent| self.lineages.site(parent));
        let node = self.lineages.get_mut(lineage);
        let counts = &mut self.sites[node.site.0 as usize];
        counts.exited += 1;
        if at_attach {
            counts.at_attach += 1;
        } else {
            node.created += 1;
            counts.created += 1;
            self.corrected += 1;
        }
        if let Some(parent) = parent {
            counts.parents.count(parent);
        }
    }

    /// Gives listed goroutines (with their creators) the lineages of their creators, as far as those live.
    fn place_all(&mut self, mut listed: Vec<(u64, u64)>, budget: &mut Budget) {
        listed.sort_unstable();
        let mut path = Vec::new();
        for &goroutine in &listed {
            path.push(goroutine);
            // Creators first; a list that names a goroutine as its own ancestor is a lie, and ends here as well.
            while let Some(&(_, creator)) = path.last()
                && self.take_unplaced(creator)
                && let Ok(at) = listed.binary_search_by_key(&creator, |&(goid, _)| goid)
            {
                path.push(listed[at]);
            }
            while let Some((goid, creator)) = path.pop() {
                self.place(goid, creator, budget);
            }
        }
        self.last_parent = (0, None);
    }

    fn take_unplaced(&mut self, goid: u64) -> bool {
        let Ok(known) = self.table.entry(goid) else { return false };
        let unplaced = known.flags & UNPLACED != 0;
        known.flags &= !UNPLACED;
        unplaced
    }

    fn place(&mut self, goid: u64, creator: u64, budget: &mut Budget) {
        self.take_unplaced(goid);
        let Some(creator) = self.table.get(creator).map(|creator| creator.lineage) else { return };
        let Some(&child) = self.table.get(goid) else { return };
        let node = *self.lineages.get(child.lineage);
        let counts = &mut self.sites[node.site.0 as usize];
        if child.flags & PARENT_COUNTED == 0 {
            counts.parents.count(self.lineages.site(creator));
        }
        let (gopc, startpc) = (counts.gopc, counts.startpc);
        let key = Key { parent: Some(creator), stack: node.stack, gopc, startpc };
        let lineage = self.lineages.intern(&key, node.site, budget);
        let created = u64::from(child.flags & AT_ATTACH == 0);
        let before = self.lineages.get_mut(child.lineage);
        before.live -= 1;
        before.created -= created;
        let now = self.lineages.get_mut(lineage);
        now.live += 1;
        now.created += created;
        if let Ok(child) = self.table.entry(goid) {
            child.flags |= PARENT_COUNTED;
            child.lineage = lineage;
        }
    }

    fn unlist(&mut self, began_ns: u64, missing: Missing, budget: &mut Budget) {
        let (sites, removed, corrected) = (&mut self.sites, &mut self.removed, &mut self.corrected);
        let lineages = &mut self.lineages;
        self.table.retain(|goroutine| {
            let listed = goroutine.flags & LISTED != 0;
            goroutine.flags &= !LISTED;
            if listed || missing == Missing::Keep || goroutine.birth_ns >= began_ns {
                return true;
            }
            let node = lineages.get_mut(goroutine.lineage);
            node.live -= 1;
            let site = &mut sites[node.site.0 as usize];
            site.live -= 1;
            site.reconciled += 1;
            *corrected += 1;
            budget.goroutines -= 1;
            if removed.len() < MOST_REMOVED {
                removed.insert(goroutine.goid, *goroutine);
            }
            false
        });
    }
}
