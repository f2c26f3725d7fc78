//! Compares the table with the runtime's own list of goroutines, which is read from the process while it runs.
//!
//! A scan takes time, and records wait in the ring buffer meanwhile, so a list and the events around it may be applied
//! in any order. Two things make the outcome the same in all orders. First, events come in the order in which they
//! happened, as far as one leads to the other; above all, the creations and exits on one g alternate. Second, a goid on
//! the list says for certain which goroutine held a g at some time between the scan's begin and its end.
//!
//! * A listed goroutine that is known by its goid needs nothing. One that was seen to end since the scan began stays
//!   gone.
//! * If a listed goroutine is unknown and its g has another holder, its creation record is still on its way. (Or
//!   records were lost. Then the other holder is not on the list, and is removed at the latest with the next scan.)
//! * If a listed goroutine is unknown, and since the scan began there was an exit on its g that nobody was known to
//!   hold, it has ended, and that exit is no longer counted as one of an unknown goroutine.
//! * If a listed goroutine is unknown and its g is free, it is added with an unknown birth.
//! * If a known goroutine was born before the scan began and is not listed, it is removed: its exit was lost or is
//!   still on its way. An exit that comes late takes the removal back.
//!
//! An exit from the time of the scan has only a time and a g, and the scan does not say when it passed that g. The exit
//! may be the listed goroutine's, or that of an earlier holder while the creation record of the listed one is still on
//! its way. It is taken for the listed one's. If a creation record with the listed goid does come, that was wrong and
//! is taken back ([`Early`]): the listed goroutine begins with its record, as if there had been no scan, and the exit
//! was one of an unknown goroutine.
//!
//! None of this makes a lifetime: a goroutine that a scan adds has an unknown birth, and for all others the number of
//! losses decides.

use super::budget::{Budget, MOST_TAKEN_BACK};
use super::ids::LineageId;
use super::instance::{Instance, end_of};
use super::lineage::LineageKey;
use super::open_scan::{Early, Fate, Missing, OfScan, OpenScan, Unknown};
use super::records::{Existing, Exit};
use super::table::{AT_ATTACH, BIRTH_UNKNOWN, Goroutine, LISTED, PARENT_COUNTED, UNPLACED};

impl Instance {
    /// Applies the list of a scan that ended at `now_ns`.
    pub(super) fn apply_list(
        &mut self,
        list: impl Iterator<Item = Existing>,
        now_ns: u64,
        missing: Missing,
        budget: &mut Budget,
    ) {
        let mut scan = self.scan.take().unwrap_or_else(|| OpenScan::new(now_ns, 0));
        // The first list tells what existed at attach. What a later one finds should have been seen.
        let at_attach = if self.has_unknown_goroutines() { AT_ATTACH } else { 0 };
        self.scanned_ns = Some(self.scanned_ns.unwrap_or(0).max(now_ns));
        (self.removed, self.overtaken, self.early) = Default::default();
        let (mut strangers, mut orphans) = (Vec::new(), Vec::new());
        for existing in list {
            match self.table.get_mut(existing.goid) {
                Some(known) => {
                    known.flags |= LISTED;
                    // It may have been created while its creators were not known yet.
                    let unknown = at_attach != 0 || self.lineages.get(known.lineage).parent.is_none();
                    if unknown && existing.parent != 0 && self.lineages.has_room(budget) {
                        known.flags |= UNPLACED;
                        orphans.push((existing.goid, existing.parent));
                    }
                }
                None if scan.ended.contains(&existing.goid) => {}
                None => strangers.push(existing),
            }
        }
        self.unlist(scan.began_ns, missing, budget);
        if let Some(runs) = &mut self.test_runs {
            runs.retain(&self.table);
        }
        strangers.retain(|&existing| match scan.unknown.remove(&existing.g) {
            Some((time_ns, how)) => self.listed_but_gone(existing, time_ns, how, at_attach, budget),
            None => self.listed(existing, now_ns, at_attach, budget),
        });
        for existing in strangers {
            let Existing { goid, parent, .. } = existing;
            match self.table.get_mut(goid) {
                Some(listed) => {
                    listed.flags |= UNPLACED;
                    orphans.push((goid, parent));
                }
                None => self.count_parent_of_gone(existing, budget),
            }
        }
        self.place_all(orphans, budget);
        if at_attach != 0 {
            // These were not on the first list and ended after it was read, so their creation was missed.
            let late =
                scan.unknown.values().filter(|(time, how)| *how == Unknown::Unattributed && *time > now_ns);
            let late = (late.count() as u64).min(self.unattributed_exits);
            self.unattributed_exits -= late;
            self.unmatched_exits += late;
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
            let site = &mut sites[lineages.leave(goroutine.lineage).0 as usize];
            site.live -= 1;
            site.reconciled += 1;
            *corrected += 1;
            budget.goroutines -= 1;
            if removed.len() < MOST_TAKEN_BACK {
                removed.insert(goroutine.g(), *goroutine);
            }
            false
        });
    }

    /// Adds a listed goroutine, unless another one has its g. Returns whether it is counted.
    fn listed(&mut self, existing: Existing, now_ns: u64, at_attach: u16, budget: &mut Budget) -> bool {
        let lineage = self.lineage_for(existing.key(None), budget);
        let flags = BIRTH_UNKNOWN | at_attach;
        let goroutine = Goroutine::new(existing.g, existing.goid, now_ns, 0, lineage, flags);
        let has_room = budget.has_room_for_goroutine();
        let outcome = if has_room { self.table.insert(goroutine) } else { self.table.check(&goroutine) };
        if outcome.is_err() {
            return false;
        }
        self.count_listed(lineage, at_attach);
        let node = self.lineages.get_mut(lineage);
        let counts = &mut self.sites[node.site.0 as usize];
        if has_room {
            budget.goroutines += 1;
            node.live += 1;
            counts.add_live();
        } else {
            counts.untracked += 1;
            self.untracked += 1;
        }
        true
    }

    /// Counts a listed goroutine that lived when the scan passed it and has ended since. Its exit could not be
    /// attributed then, and can be now. Returns whether the goroutine is counted.
    fn listed_but_gone(
        &mut self,
        existing: Existing,
        time_ns: u64,
        how: Unknown,
        at_attach: u16,
        budget: &mut Budget,
    ) -> bool {
        if how == Unknown::Untracked {
            return false;
        }
        *self.unknown(how) -= 1;
        let lineage = self.lineage_for(existing.key(None), budget);
        self.count_listed(lineage, at_attach);
        self.sites[self.lineages.site(lineage).0 as usize].exited += 1;
        if Some(time_ns) <= self.scanned_ns {
            let goroutine = Goroutine::new(existing.g, existing.goid, time_ns, 0, lineage, at_attach);
            self.ended_early(goroutine, Fate::Ended(how));
        }
        true
    }

    fn count_listed(&mut self, lineage: LineageId, at_attach: u16) {
        let node = self.lineages.get_mut(lineage);
        let site = &mut self.sites[node.site.0 as usize];
        if at_attach != 0 {
            site.at_attach += 1;
        } else {
            node.created += 1;
            site.created += 1;
            self.corrected += 1;
        }
    }

    /// Takes back what `count_listed` has counted, for a goroutine whose creation record came after all.
    pub(super) fn withdraw(&mut self, lineage: LineageId, flags: u16) -> OfScan {
        let node = self.lineages.get_mut(lineage);
        let site = &mut self.sites[node.site.0 as usize];
        if flags & AT_ATTACH != 0 {
            site.at_attach -= 1;
        } else {
            node.created -= 1;
            site.created -= 1;
            self.corrected -= 1;
        }
        OfScan { parent_counted: flags & PARENT_COUNTED != 0, creator: node.parent }
    }

    fn count_parent_of_gone(&mut self, existing: Existing, budget: &mut Budget) {
        let Some(parent) = self.table.get(existing.parent).map(|parent| parent.lineage) else { return };
        if let Some(child) = self.early.get_mut(&existing.goid) {
            child.flags |= PARENT_COUNTED;
        }
        let lineage = self.lineage_for(existing.key(None), budget);
        let site = self.lineages.site(lineage);
        self.sites[site.0 as usize].parents.count(self.lineages.site(parent));
    }

    /// Gives listed goroutines, as (goid, goid of the creator), the lineages of their creators, as far as those live.
    fn place_all(&mut self, mut listed: Vec<(u64, u64)>, budget: &mut Budget) {
        listed.sort_unstable();
        let mut path = Vec::new();
        for &goroutine in &listed {
            path.push(goroutine);
            // Creators are placed first. A list that names a goroutine as its own ancestor is a lie, and the loop ends
            // there as well.
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
        let Some(known) = self.table.get_mut(goid) else { return false };
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
        let key = LineageKey { parent: Some(creator), stack: node.stack, gopc, startpc };
        let lineage = self.lineages.intern(&key, node.site, budget);
        let created = u64::from(child.flags & AT_ATTACH == 0);
        let before = self.lineages.get_mut(child.lineage);
        before.live -= 1;
        before.created -= created;
        let now = self.lineages.get_mut(lineage);
        now.live += 1;
        now.created += created;
        if let Some(child) = self.table.get_mut(goid) {
            child.flags |= PARENT_COUNTED;
            child.lineage = lineage;
        }
    }

    /// Takes in an exit from before the end of the scan that listed this goroutine, which the caller has just removed
    /// from the table. Returns the goid of the goroutine that ended, or else what the exit was counted as.
    #[cold]
    pub(super) fn ended_around_scan(
        &mut self,
        listed: Goroutine,
        exit: Exit,
        budget: &mut Budget,
    ) -> Result<u64, Unknown> {
        if self.removed.contains_key(&exit.g) && self.table.insert(listed).is_ok() {
            return self.unknown_exit(exit);
        }
        budget.goroutines -= 1;
        let id = self.lineages.leave(listed.lineage);
        let site = &mut self.sites[id.0 as usize];
        site.live -= 1;
        end_of(site, listed, exit);
        if let Some(runs) = &mut self.test_runs {
            runs.exited(listed.goid, id, exit.time_ns);
        }
        let how = if self.existed { Unknown::Unattributed } else { Unknown::Unmatched };
        self.ended_early(listed, Fate::Ended(how));
        Ok(listed.goid)
    }

    pub(super) fn ended_early(&mut self, listed: Goroutine, fate: Fate) {
        if self.early.len() < MOST_TAKEN_BACK {
            self.early.insert(listed.goid, Early { lineage: listed.lineage, flags: listed.flags, fate });
        }
    }

    /// Takes back what seemed to be the end of a listed goroutine, since its creation record has come only now. Returns
    /// what the scan knew of it.
    #[cold]
    pub(super) fn take_back(&mut self, goid: u64) -> Option<OfScan> {
        let Early { lineage, flags, fate } = self.early.remove(&goid)?;
        let counts = &mut self.sites[self.lineages.site(lineage).0 as usize];
        match fate {
            Fate::Ended(how) => {
                counts.exited -= 1;
                *self.unknown(how) += 1;
            }
            Fate::Reconciled => {
                counts.reconciled -= 1;
                self.corrected -= 1;
            }
        }
        Some(self.withdraw(lineage, flags))
    }
}
