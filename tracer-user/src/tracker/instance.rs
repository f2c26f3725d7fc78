//! One process instance: its goroutines, its sites, and the exits that could not be matched with a creation.

use std::collections::HashMap;

use hashbrown::HashTable;

use super::budget::{Budget, MOST_TAKEN_BACK};
use super::ids::{InstanceId, LineageId, SiteId};
use super::lineage::{LineageKey, Lineages};
use super::living;
use super::open_scan::{Early, Fate, OfScan, OpenScan, Unknown};
use super::records::{Birth, Exit};
use super::sites::{SiteCounts, Timeline};
use super::table::{BIRTH_UNKNOWN, Conflict, Goroutine, PARENT_COUNTED, Table, mix};
use super::test_runs::{Descendant, Origin, TestRuns};
use crate::stats::Ages;

/// A process from its start or an exec to the next exec or its end. goids are unique within it.
pub struct Instance {
    /// Its id, which is never reused.
    pub id: InstanceId,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Boot time in ns when the process started; `None` where nobody has said so.
    pub start_ns: Option<u64>,
    /// How many execs of this pid were seen before.
    pub execs: u32,
    /// Boot time in ns when it was first heard of.
    pub first_seen_ns: u64,
    /// Whether the process had goroutines before its probes were in place.
    pub existed: bool,
    /// Boot time in ns when the last scan ended that read its goroutines; `None` if there was none.
    pub scanned_ns: Option<u64>,
    /// Boot time in ns from which on samples of live counts are complete.
    pub complete_from_ns: u64,
    /// Boot time in ns when it ended, and how it ended; `None` while it runs.
    pub ended: Option<Ended>,
    /// Exits of goroutines from before tracing that no scan had seen, since tracing began.
    pub unattributed_exits: u64,
    /// Exits whose creation should have been seen, but was not, since tracing began.
    pub unmatched_exits: u64,
    /// Exits of goroutines that were not followed, because the memory budget was used up.
    pub untracked_exits: u64,
    /// Differences to the runtime's own list that scans corrected, since tracing began.
    pub corrected: u64,
    /// What was missing when the time began that reports cover, and when the current epoch began.
    marks: [Gaps; 2],
    pub(super) table: Table,
    pub(super) sites: Vec<SiteCounts>,
    pub(super) lineages: Lineages,
    by_pcs: HashTable<u32>,
    overflow: Option<SiteId>,
    /// The creator of the last creation, and its lineage: a goroutine that creates others often creates many.
    pub(super) last_parent: (u64, Option<LineageId>),
    pub(super) untracked: u64,
    pub(super) scan: Option<OpenScan>,
    /// What the last scan removed, by g. An exit that comes late shows when its goroutine ended, so it takes the
    /// removal back.
    pub(super) removed: HashMap<u64, Goroutine>,
    /// Since the last scan, goroutines whose g had another one before their exits were recorded, by g, and when that was.
    pub(super) overtaken: HashMap<u64, (Goroutine, u64)>,
    /// The goroutines that the last scan listed and that seem to have ended before it was over, by goid. A creation
    /// record that comes late shows that the exit was another goroutine's.
    pub(super) early: HashMap<u64, Early>,
    pub(super) at_end: Option<Vec<Ages>>,
    /// What its goroutines go back to, in test binaries.
    pub(super) test_runs: Option<Box<TestRuns>>,
    /// Who has started it, if a test has: a process, and what in it.
    pub started_by: Option<(InstanceId, Origin)>,
    seed: u64,
}

/// What is missing in the counts of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Exits of goroutines from before tracing that no scan had seen.
    pub unattributed_exits: u64,
    /// Exits whose creation should have been seen, but was not.
    pub unmatched_exits: u64,
    /// Differences to the runtime's own list that scans corrected.
    pub corrected: u64,
    /// Goroutines whose creators could not be kept, because the memory budget was used up.
    pub without_creators: u64,
    /// Creations whose stack could not be read or kept.
    pub without_stack: u64,
}

/// When an instance ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Boot time in ns.
    pub time_ns: u64,
    /// By what.
    pub how: End,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process exited.
    Exit,
    /// The process replaced its image.
    Exec,
    /// Another process was found under its pid, so the record of its exit was lost.
    Replaced,
}

/// How much later than a scan lists a goroutine its creation may be recorded, in ns. A g has its goid before the probe
/// in `runtime.newproc1` is hit, and the creator's thread may be preempted in between. Pids take much longer to come
/// round.
const LONGEST_BIRTH_NS: u64 = 1_000_000_000;

/// A goid came twice, so the pid belongs to another process by now.
pub(super) struct Reused;

impl Instance {
    pub(super) fn new(id: InstanceId, pid: u32, now_ns: u64, seed: u64) -> Instance {
        Instance {
            id,
            pid,
            start_ns: None,
            execs: 0,
            first_seen_ns: now_ns,
            existed: true,
            scanned_ns: None,
            complete_from_ns: now_ns,
            ended: None,
            unattributed_exits: 0,
            unmatched_exits: 0,
            untracked_exits: 0,
            corrected: 0,
            marks: [Gaps::default(); 2],
            table: Table::new(seed),
            sites: Vec::new(),
            lineages: Lineages::new(seed),
            by_pcs: HashTable::new(),
            overflow: None,
            last_parent: (0, None),
            untracked: 0,
            scan: None,
            removed: HashMap::new(),
            overtaken: HashMap::new(),
            early: HashMap::new(),
            at_end: None,
            test_runs: None,
            started_by: None,
            seed,
        }
    }

    /// Its sites, with the [`SiteId`] as index.
    pub fn sites(&self) -> &[SiteCounts] {
        &self.sites
    }

    /// The ancestry of its goroutines.
    pub fn lineages(&self) -> &Lineages {
        &self.lineages
    }

    /// Its tests; `None` where it is no test binary.
    pub fn test_runs(&self) -> Option<&TestRuns> {
        self.test_runs.as_deref()
    }

    /// The living goroutines of a test binary at the boot time `now_ns`, or at the instance's end, with what they go back to.
    pub fn descendants(&self, now_ns: u64) -> Vec<Descendant> {
        let runs = self.test_runs();
        runs.map(|runs| runs.living(&self.table, &self.lineages, now_ns)).unwrap_or_default()
    }

    /// Whether there may be goroutines from before tracing of which nothing is known.
    pub fn has_unknown_goroutines(&self) -> bool {
        self.existed && self.scanned_ns.is_none()
    }

    /// How many goroutines were counted but not followed, because the memory budget was used up.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// What is missing in the counts of the time that reports cover.
    pub fn gaps(&self) -> Gaps {
        let (now, begin) = (self.gaps_since_start(), self.marks[0]);
        Gaps {
            // A record that comes late may take back a count from before the window, so the difference could be
            // negative.
            unattributed_exits: now.unattributed_exits.saturating_sub(begin.unattributed_exits),
            unmatched_exits: now.unmatched_exits.saturating_sub(begin.unmatched_exits),
            corrected: now.corrected.saturating_sub(begin.corrected),
            without_creators: now.without_creators.saturating_sub(begin.without_creators),
            without_stack: now.without_stack.saturating_sub(begin.without_stack),
        }
    }

    fn gaps_since_start(&self) -> Gaps {
        Gaps {
            unattributed_exits: self.unattributed_exits,
            unmatched_exits: self.unmatched_exits,
            corrected: self.corrected,
            without_creators: self.lineages.cut(),
            without_stack: self.lineages.without_stack(),
        }
    }

    /// Begins another epoch. `samples` is how many samples the timeline drops.
    pub(super) fn begin_epoch(&mut self, now_ns: u64, samples: u32) {
        self.marks = [self.marks[1], self.gaps_since_start()];
        self.lineages.begin_epoch();
        let living = self.living(now_ns);
        for (site, ages) in self.sites.iter_mut().zip(living) {
            site.begin_epoch(ages.exact, samples);
        }
    }

    /// The ages of the living goroutines of every site at the boot time `now_ns`, or at the instance's end. The
    /// [`SiteId`] is the index.
    pub fn living(&self, now_ns: u64) -> Vec<Ages> {
        match &self.at_end {
            Some(at_end) => at_end.clone(),
            None => living::by_site(&self.table, &self.lineages, self.sites.len(), now_ns),
        }
    }

    #[inline]
    pub(super) fn created(&mut self, birth: Birth, budget: &mut Budget) -> Result<(), Reused> {
        let Birth { time_ns, losses, g, goid, .. } = birth;
        let parent = self.lineage_of(birth.parent);
        let mut lineage = self.lineage_for(birth.key(parent), budget);
        let mut of_scan = None;
        if !self.removed.is_empty() {
            self.removed.remove(&g);
        }
        if !self.early.is_empty() {
            of_scan = self.take_back(goid);
        }
        let flags = if parent.is_some() { PARENT_COUNTED } else { 0 };
        let goroutine = Goroutine::new(g, goid, time_ns, losses, lineage, flags);
        // At most two goroutines stand in the way: one with its g, and one with its id.
        let has_room = loop {
            let has_room = budget.has_room_for_goroutine();
            let outcome = if has_room { self.table.insert(goroutine) } else { self.table.check(&goroutine) };
            match outcome {
                Ok(()) => break has_room,
                Err(conflict) => of_scan = self.make_way(conflict, birth, budget)?.or(of_scan),
            }
        };
        let mut counted = false;
        if let Some(of_scan) = of_scan {
            counted = of_scan.parent_counted;
            lineage = self.succeed(birth, parent, of_scan, budget);
        }
        let node = self.lineages.get_mut(lineage);
        node.created += 1;
        let counts = &mut self.sites[node.site.0 as usize];
        counts.saw_creation(time_ns);
        if has_room {
            budget.goroutines += 1;
            node.live += 1;
            counts.add_live();
        } else {
            counts.untracked += 1;
            self.untracked += 1;
        }
        if let Some(parent) = parent.filter(|_| !counted) {
            counts.parents.count(self.lineages.site(parent));
        }
        if let Some(runs) = &mut self.test_runs {
            runs.created(goid, birth.parent);
        }
        Ok(())
    }

    /// Corrects a goroutine in the table that a scan had found before its creation record came. Returns its lineage,
    /// since the scan may have known its creator.
    #[cold]
    fn succeed(
        &mut self,
        birth: Birth,
        parent: Option<LineageId>,
        of_scan: OfScan,
        budget: &mut Budget,
    ) -> LineageId {
        let lineage = self.lineage_for(birth.key(parent.or(of_scan.creator)), budget);
        if let Some(known) = self.table.get_mut(birth.goid) {
            known.lineage = lineage;
            known.flags |= if of_scan.parent_counted { PARENT_COUNTED } else { 0 };
        }
        self.last_parent = (0, None);
        lineage
    }

    /// Removes the goroutine that the table holds in the place of a new one. If it is the same goroutine, found by a
    /// scan, this returns what the scan knew of it.
    #[cold]
    fn make_way(
        &mut self,
        conflict: Conflict,
        Birth { time_ns, g, .. }: Birth,
        budget: &mut Budget,
    ) -> Result<Option<OfScan>, Reused> {
        let (Conflict::SameG(known) | Conflict::SameGoid(known)) = conflict;
        let of_scan_at = |scanned_ns| known.flags & BIRTH_UNKNOWN != 0 && time_ns <= scanned_ns;
        let overtaken = self.scanned_ns.is_some_and(of_scan_at);
        let was_between =
            |scanned: u64| of_scan_at(scanned.saturating_add(LONGEST_BIRTH_NS)) && known.g() == g;
        if matches!(conflict, Conflict::SameGoid(_))
            && !overtaken
            && !self.scanned_ns.is_some_and(was_between)
        {
            return Err(Reused);
        }
        self.table.remove(known.g());
        budget.goroutines -= 1;
        let site = &mut self.sites[self.lineages.leave(known.lineage).0 as usize];
        site.live -= 1;
        match conflict {
            // A scan found the goroutine before its creation record came out of the ring buffer.
            Conflict::SameGoid(_) => Ok(Some(self.withdraw(known.lineage, known.flags))),
            // The g has another goroutine now, so the exit of this one was lost.
            Conflict::SameG(_) => {
                site.reconciled += 1;
                self.corrected += 1;
                if let Some(scan) = &mut self.scan {
                    scan.remember_end(known.goid);
                }
                if overtaken {
                    self.ended_early(known, Fate::Reconciled);
                } else {
                    // Or it comes late, and then its time is before that of the creation which overtook it.
                    if self.overtaken.len() < MOST_TAKEN_BACK {
                        self.overtaken.insert(g, (known, time_ns));
                    }
                }
                Ok(None)
            }
        }
    }

    #[inline]
    pub(super) fn exited(&mut self, exit: Exit, budget: &mut Budget) {
        let overtaken_until = self.scanned_ns.unwrap_or(0);
        let ended = match self.table.remove_if(exit.g, |goroutine| !goroutine.is_born_after(exit.time_ns)) {
            Some(goroutine) if goroutine.flags & BIRTH_UNKNOWN == 0 || exit.time_ns > overtaken_until => {
                budget.goroutines -= 1;
                let id = self.lineages.leave(goroutine.lineage);
                let site = &mut self.sites[id.0 as usize];
                site.live -= 1;
                end_of(site, goroutine, exit);
                if let Some(runs) = &mut self.test_runs {
                    runs.exited(goroutine.goid, id, exit.time_ns);
                }
                Ok(goroutine.goid)
            }
            Some(listed) => self.ended_around_scan(listed, exit, budget),
            None => self.unknown_exit(exit),
        };
        if let Some(scan) = &mut self.scan {
            match ended {
                Ok(goid) => scan.remember_end(goid),
                Err(how) => scan.remember_unknown(exit, how),
            }
        }
    }

    /// Takes in an exit on a g that no goroutine in the table held then. Returns the goid where it is that of a goroutine
    /// which a scan or another goroutine had removed, otherwise what the exit was counted as.
    #[cold]
    pub(super) fn unknown_exit(&mut self, exit: Exit) -> Result<u64, Unknown> {
        if let Some(goroutine) = self.removed.remove(&exit.g).or_else(|| self.take_overtaken(exit)) {
            let site = &mut self.sites[self.lineages.site(goroutine.lineage).0 as usize];
            site.reconciled -= 1;
            self.corrected -= 1;
            end_of(site, goroutine, exit);
            return Ok(goroutine.goid);
        }
        let how = if self.untracked > self.untracked_exits {
            Unknown::Untracked
        } else if self.existed && self.scanned_ns.is_none_or(|scanned| exit.time_ns <= scanned) {
            Unknown::Unattributed
        } else {
            Unknown::Unmatched
        };
        *self.unknown(how) += 1;
        Err(how)
    }

    /// The goroutine that had its g until another was created there, if this exit is from before that.
    fn take_overtaken(&mut self, exit: Exit) -> Option<Goroutine> {
        let (_, until_ns) = self.overtaken.get(&exit.g)?;
        if exit.time_ns < *until_ns { Some(self.overtaken.remove(&exit.g)?.0) } else { None }
    }

    /// The counter of exits that were counted as `how`.
    pub(super) fn unknown(&mut self, how: Unknown) -> &mut u64 {
        match how {
            Unknown::Untracked => &mut self.untracked_exits,
            Unknown::Unattributed => &mut self.unattributed_exits,
            Unknown::Unmatched => &mut self.unmatched_exits,
        }
    }

    /// The site of these two addresses, or the overflow row if there is no room for another site.
    fn site_for(&mut self, gopc: u64, startpc: u64, budget: &mut Budget) -> SiteId {
        let seed = self.seed;
        let hash_of = |gopc: u64, startpc: u64| mix(gopc.rotate_left(32) ^ startpc, seed);
        let sites = &self.sites;
        let found = self.by_pcs.find(hash_of(gopc, startpc), |&at| {
            let site = &sites[at as usize];
            site.gopc == gopc && site.startpc == startpc
        });
        if let Some(&at) = found {
            return SiteId(at);
        }
        if let Some(overflow) = self.overflow.filter(|_| !budget.has_room_for_site()) {
            return overflow;
        }
        let id = SiteId(self.sites.len() as u32);
        if budget.take_site() {
            self.sites.push(SiteCounts { gopc, startpc, ..SiteCounts::default() });
            let sites = &self.sites;
            self.by_pcs.insert_unique(hash_of(gopc, startpc), id.0, |&at| {
                let site = &sites[at as usize];
                hash_of(site.gopc, site.startpc)
            });
        } else {
            self.sites.push(SiteCounts { overflow: true, ..SiteCounts::default() });
            self.overflow = Some(id);
        }
        id
    }

    /// The lineage with this key, which is a new one where there was none.
    #[inline]
    pub(super) fn lineage_for(&mut self, key: LineageKey, budget: &mut Budget) -> LineageId {
        match self.lineages.find(&key) {
            Some(lineage) => lineage,
            None => self.new_lineage(key, budget),
        }
    }

    #[cold]
    fn new_lineage(&mut self, key: LineageKey, budget: &mut Budget) -> LineageId {
        let id = self.site_for(key.gopc, key.startpc, budget);
        // The site may be the overflow row, and then its addresses are not this goroutine's.
        let SiteCounts { gopc, startpc, .. } = self.sites[id.0 as usize];
        self.lineages.intern(&LineageKey { gopc, startpc, ..key }, id, budget)
    }

    /// The lineage of the goroutine with this id, if it lives.
    pub fn lineage(&self, goid: u64) -> Option<LineageId> {
        self.table.get(goid).map(|goroutine| goroutine.lineage)
    }

    /// The same as [`Instance::lineage`], and remembers it: a goroutine that creates others often creates many.
    #[inline]
    pub(super) fn lineage_of(&mut self, goid: u64) -> Option<LineageId> {
        if goid != self.last_parent.0 || self.last_parent.1.is_none() {
            self.last_parent = (goid, self.table.get(goid).map(|parent| parent.lineage));
        }
        self.last_parent.1
    }

    /// Whether a record of this time can be about the end of this instance. A process may be found in /proc while the
    /// record of its beginning is still in the ring buffer.
    pub(super) fn can_end(&self, time_ns: u64, how: End) -> bool {
        match how {
            End::Exit => self.start_ns.is_none_or(|start| start <= time_ns),
            End::Exec | End::Replaced => self.first_seen_ns <= time_ns,
        }
    }

    /// Ends the instance. Its goroutines end with it, without lifetimes of their own. The ages of the living are kept,
    /// and the table is freed.
    pub(super) fn end(&mut self, time_ns: u64, how: End, budget: &mut Budget) {
        self.at_end = Some(self.living(time_ns));
        if let Some(runs) = &mut self.test_runs {
            runs.end_all(&self.table, &self.lineages, time_ns);
        }
        self.ended = Some(Ended { time_ns, how });
        budget.goroutines -= self.table.len();
        self.table = Table::new(self.seed);
        self.scan = None;
        self.removed = HashMap::new();
        self.overtaken = HashMap::new();
        self.early = HashMap::new();
    }

    /// The samples of a site's live count that can be compared with each other, as (boot time in ns, count). The last
    /// one is the count at `now_ns`, or at the instance's end.
    pub fn series_of(&self, site: SiteId, timeline: &Timeline, now_ns: u64) -> Vec<(u64, u64)> {
        let Some(counts) = self.sites.get(site.0 as usize) else { return Vec::new() };
        let until = self.ended.map_or(now_ns, |ended| ended.time_ns).min(now_ns);
        let mut points = counts.series.points(timeline, self.complete_from_ns, until);
        if points.last().is_none_or(|&(time, _)| time < until) {
            points.push((until, counts.live));
        }
        points
    }
}

pub(super) fn end_of(site: &mut SiteCounts, goroutine: Goroutine, exit: Exit) {
    site.exited += 1;
    if goroutine.flags & BIRTH_UNKNOWN != 0 {
        site.outlived.record(exit.time_ns.saturating_sub(goroutine.birth_ns));
    } else if goroutine.losses == exit.losses {
        site.lifetimes.record(exit.time_ns.saturating_sub(goroutine.birth_ns));
    }
}
