//! The goroutine table: it applies events to process instances, in the order in which they come.
//!
//! It reads no clock and no file: time is the event's, or is given by the caller. One task owns it.
//!
//! A goroutine is (process instance, goid), and a process instance is what runs under a pid from one exec to the next.
//! goids are never reused within an instance. The record of an exit has no goid, only the address of the goroutine's
//! `runtime.g`, and g's are reused. But a goroutine is created on a g only after the exit of its predecessor there was
//! recorded, and records come in an order that keeps that. So an exit belongs to the goroutine that holds the g, unless
//! records were lost, or one was held up for so long that others overtook it, which its time shows. Each
//! record says how many records had been lost before it. Where that number is the same at creation and exit, none was
//! lost in between, and the two belong together. Otherwise the exit is counted without a lifetime: loss leaves a gap in
//! the counts, but never makes a wrong lifetime.

mod budget;
mod ids;
mod instance;
mod lineage;
mod living;
mod open_scan;
mod records;
mod scan;
mod sites;
mod table;
mod test_runs;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

pub use budget::Limits;
pub use ids::{InstanceId, LineageId, SiteId, StackId};
pub use instance::{End, Ended, Gaps, Instance};
pub use lineage::{Lineage, Lineages};
pub use records::Existing;
pub use sites::{Parents, Series, SiteCounts, SiteWindow, Timeline};
pub use test_runs::{Descendant, Origin, Runs, TestKind, TestRuns};

pub use crate::event::TestNames;
use crate::event::{Event, TestName, TestPoint, What};
use budget::Budget;
use instance::Reused;
use open_scan::{Missing, OpenScan};
use records::{Birth, Exit};
use sites::Tick;

/// How many records did not reach the tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Creations that did not fit into a ring.
    pub created: u64,
    /// Exits that did not fit into a ring.
    pub exited: u64,
    /// Exec, fork and process-exit records that did not fit into a ring.
    pub process: u64,
    /// Hits of probes at which the memory of the goroutine could not be read.
    pub read_faults: u64,
    /// Records that arrived but could not be decoded.
    pub undecodable: u64,
}

/// Everything that is missing, over all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that did not reach the tracker.
    pub lost: Lost,
    /// Ended instances that were forgotten because no more are kept: see [`Limits::max_gone`].
    pub forgotten: u64,
    /// Events that came after the end of their process and were ignored.
    pub late: u64,
}

/// Most processes and threads that go back to tests and are remembered at the same time.
const MOST_STARTED: usize = 1 << 16;

/// What is known about a pid.
#[derive(Clone, Copy, Default)]
struct Pid {
    current: Option<InstanceId>,
    start_ns: Option<u64>,
    execs: u32,
    /// Events up to this boot time in ns belong to an instance that has ended.
    ended_ns: u64,
}

/// All process instances and what happened in them.
pub struct Tracker {
    budget: Budget,
    /// The instances by their slots, of which some are free.
    instances: Vec<Option<Box<Instance>>>,
    free_slots: Vec<usize>,
    /// How many instances there have been, which is the serial number of the next one.
    serial: u64,
    pids: HashMap<u32, Pid>,
    /// The processes that tests have started, and those that these have: the process of the test, and what in it.
    started: HashMap<u32, (InstanceId, Origin)>,
    /// The pid of the last event, and its instance: the next event often is of the same process.
    last: Option<(u32, InstanceId)>,
    fresh: Vec<InstanceId>,
    gone: VecDeque<InstanceId>,
    just_forgotten: Vec<InstanceId>,
    timeline: Timeline,
    last_tick_ns: u64,
    loss: Losses,
    /// The losses up to when the time began that reports cover, and up to when the current epoch began.
    marks: [Losses; 2],
    /// The boot times in ns of these two moments. What ended before the first is not shown.
    begins_ns: [u64; 2],
    seeds: RandomState,
}

impl Tracker {
    /// A tracker that knows no process yet.
    pub fn new(limits: Limits) -> Tracker {
        Tracker {
            budget: Budget::new(limits),
            instances: Vec::new(),
            free_slots: Vec::new(),
            serial: 0,
            pids: HashMap::new(),
            started: HashMap::new(),
            last: None,
            fresh: Vec::new(),
            gone: VecDeque::new(),
            just_forgotten: Vec::new(),
            timeline: Timeline::default(),
            last_tick_ns: 0,
            loss: Losses::default(),
            marks: [Losses::default(); 2],
            begins_ns: [0; 2],
            seeds: RandomState::new(),
        }
    }

    /// Applies one event.
    #[inline]
    pub fn apply(&mut self, event: &Event) {
        let Event { time_ns, pid, losses, .. } = *event;
        match event.what {
            What::Created { g, goid, parent, gopc, startpc, stack } => {
                let stack = StackId(stack.0.into());
                self.created(pid, Birth { time_ns, losses, g, goid, parent, gopc, startpc, stack });
            }
            What::Exited { g } => {
                if let Some(instance) = self.instance_at(pid, time_ns, false) {
                    let budget = &mut self.budget;
                    if let Some(instance) = self.instances[instance.slot()].as_mut() {
                        instance.exited(Exit { time_ns, losses, g }, budget);
                    }
                }
            }
            What::Exec => self.end(pid, time_ns, End::Exec),
            What::Fork { child, thread } => self.forked(pid, child, thread, time_ns),
            What::Test { point, goid, thread, name } => self.tested(pid, time_ns, point, goid, thread, name),
            What::ProcessExit => {
                self.end(pid, time_ns, End::Exit);
                self.started.remove(&pid);
            }
        }
    }

    fn forked(&mut self, pid: u32, child: u32, thread: u32, time_ns: u64) {
        if child == pid {
            return;
        }
        self.end(child, time_ns, End::Replaced);
        let by = self.pids.get(&pid).and_then(|known| known.current);
        let runs = by.and_then(|id| self.instances[id.slot()].as_mut()?.test_runs.as_mut());
        let origin = runs.and_then(|runs| runs.forked(thread));
        // What a child starts goes back to the same test. A new thread stands here like a process, which does no harm.
        let started = by.zip(origin).or_else(|| self.started.get(&pid).copied());
        match started.filter(|_| self.started.len() < MOST_STARTED) {
            Some(started) => _ = self.started.insert(child, started),
            None => _ = self.started.remove(&child),
        }
    }

    #[cold]
    fn tested(&mut self, pid: u32, time_ns: u64, point: TestPoint, goid: u64, thread: u32, name: TestName) {
        let grace_ns = self.budget.limits.grace_ns;
        let Some(id) = self.instance_at(pid, time_ns, false) else { return };
        let Some(instance) = self.instances[id.slot()].as_mut() else { return };
        let table = &instance.table;
        let begins = point == TestPoint::Main;
        let runs = instance.test_runs.get_or_insert_with(|| Box::new(TestRuns::new(grace_ns, begins, table)));
        runs.reached(point, goid, thread, name, time_ns);
    }

    fn created(&mut self, pid: u32, birth: Birth) {
        // The first goroutine of a process has goid 1, so whoever sees its creation sees that of all goroutines.
        let from_start = birth.goid == 1;
        let Some(id) = self.instance_at(pid, birth.time_ns, from_start) else { return };
        let Some(instance) = self.instances[id.slot()].as_mut() else { return };
        if let Err(Reused) = instance.created(birth, &mut self.budget) {
            self.end(pid, birth.time_ns, End::Replaced);
            if let Some(id) = self.instance_at(pid, birth.time_ns.saturating_add(1), from_start)
                && let Some(instance) = self.instances[id.slot()].as_mut()
            {
                let _ = instance.created(birth, &mut self.budget);
            }
        }
    }

    /// Samples the live count of every site at the boot time `now_ns`. Call it at a regular pace.
    pub fn tick(&mut self, now_ns: u64) {
        self.last_tick_ns = now_ns;
        let tick = self.timeline.tick(now_ns);
        if tick == Tick::Skip {
            return;
        }
        for instance in self.instances.iter_mut().flatten() {
            let ended = instance.ended.is_some();
            for site in &mut instance.sites {
                if matches!(tick, Tick::HalveAndSample(_)) {
                    site.series.halve();
                }
                if !ended {
                    site.sample(tick);
                }
            }
        }
    }

    /// Adds to the number of records that did not reach the tracker.
    pub fn lost(&mut self, more: Lost) {
        self.loss.lost.created += more.created;
        self.loss.lost.exited += more.exited;
        self.loss.lost.process += more.process;
        self.loss.lost.read_faults += more.read_faults;
        self.loss.lost.undecodable += more.undecodable;
    }

    /// Takes note of a process. `start_ns` is the boot time in ns when it started, as precise as /proc, and `existed`
    /// says whether it had goroutines before its probes were in place. If another process was known under its pid, that
    /// one has ended.
    pub fn process_started(&mut self, pid: u32, start_ns: u64, existed: bool, now_ns: u64) -> InstanceId {
        let known = self.pids.get(&pid).and_then(|known| known.start_ns);
        if known.is_some_and(|known| known != start_ns) {
            self.end(pid, now_ns, End::Replaced);
            self.pids.remove(&pid);
        }
        let current = self.pids.get(&pid).and_then(|known| known.current);
        let id = current.unwrap_or_else(|| self.new_instance(pid, now_ns, existed));
        if let Some(entry) = self.pids.get_mut(&pid) {
            entry.start_ns = Some(start_ns);
        }
        if let Some(instance) = self.instances[id.slot()].as_mut() {
            instance.start_ns = Some(start_ns);
            instance.existed &= existed;
        }
        id
    }

    /// Begins a scan of a process's goroutines: from now until its list is applied, exits are remembered.
    pub fn begin_scan(&mut self, pid: u32, now_ns: u64) {
        let limit = self.budget.limits.max_remembered;
        if let Some((instance, _)) = self.current(pid) {
            instance.scan = Some(OpenScan::new(now_ns, limit));
        }
    }

    /// Takes in the goroutines that existed at attach, from a scan that ended at `now_ns`. Their age is at least the
    /// time since then. Events from the time of the scan may be applied before or after.
    pub fn adopt(&mut self, pid: u32, list: impl Iterator<Item = Existing>, now_ns: u64) {
        self.apply_list(pid, list, now_ns, Missing::Keep);
    }

    /// Compares the table with the runtime's list, from a scan that ended at `now_ns`. A goroutine that was born before
    /// the scan began and is not listed is removed, and one that is listed and not known is added; both are counted.
    /// Call [`Tracker::begin_scan`] before the scan.
    pub fn reconcile(&mut self, pid: u32, list: impl Iterator<Item = Existing>, now_ns: u64) {
        self.apply_list(pid, list, now_ns, Missing::Remove);
    }

    fn apply_list(&mut self, pid: u32, list: impl Iterator<Item = Existing>, now_ns: u64, missing: Missing) {
        let last_tick_ns = self.last_tick_ns;
        if let Some((instance, budget)) = self.current(pid) {
            if instance.has_unknown_goroutines() {
                instance.complete_from_ns = now_ns.max(last_tick_ns.saturating_add(1));
            }
            instance.apply_list(list, now_ns, missing, budget);
        }
    }

    /// Returns the instances that appeared since the last call, so that the caller can find out what they are.
    pub fn take_new(&mut self) -> Vec<InstanceId> {
        std::mem::take(&mut self.fresh)
    }

    /// Returns the instances that were forgotten since the last call, of those that [`Tracker::take_new`] has returned.
    pub fn take_forgotten(&mut self) -> Vec<InstanceId> {
        std::mem::take(&mut self.just_forgotten)
    }

    /// An instance by its id; `None` once it is forgotten.
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(id.slot())?.as_deref().filter(|instance| instance.id == id)
    }

    /// The instance that runs under a pid now; `None` where none is known.
    pub fn current_instance(&self, pid: u32) -> Option<InstanceId> {
        self.pids.get(&pid)?.current
    }

    /// All instances, in the order in which they appeared.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        let mut instances: Vec<&Instance> =
            self.instances.iter().flatten().map(|instance| &**instance).collect();
        instances.sort_unstable_by_key(|instance| instance.id);
        instances.into_iter()
    }

    /// Whether goroutines of this instance end whose creation should have been seen, while hardly any creation is seen
    /// and no record was lost. If so, the program creates goroutines at a place that has no probe.
    pub fn misses_creations(&self, instance: &Instance) -> bool {
        const ENOUGH: u64 = 16;
        let created: u64 = instance.sites.iter().map(|site| site.created_in_window()).sum();
        let (lost, unmatched_exits) = (self.loss().lost, instance.gaps().unmatched_exits);
        (lost.created, lost.read_faults) == (0, 0) && unmatched_exits >= ENOUGH && unmatched_exits > created
    }

    /// How many living goroutines are followed, over all processes that run.
    pub fn live(&self) -> usize {
        self.budget.goroutines
    }

    /// For how long in ns a goroutine must outlive its test to have been left behind: see [`Limits::grace_ns`].
    pub fn grace_ns(&self) -> u64 {
        self.budget.limits.grace_ns
    }

    /// The times at which live counts were sampled.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What is missing in the time that reports cover.
    pub fn loss(&self) -> Losses {
        let (now, begin) = (self.loss, self.marks[0]);
        Losses {
            lost: Lost {
                created: now.lost.created - begin.lost.created,
                exited: now.lost.exited - begin.lost.exited,
                process: now.lost.process - begin.lost.process,
                read_faults: now.lost.read_faults - begin.lost.read_faults,
                undecodable: now.lost.undecodable - begin.lost.undecodable,
            },
            forgotten: now.forgotten - begin.forgotten,
            late: now.late - begin.late,
        }
    }

    /// Begins another epoch: from now on, reports cover the time since the begin of the epoch that ends now. Processes
    /// that ended before that are forgotten. Call it when all records from before `now_ns` have been applied.
    pub fn begin_epoch(&mut self, now_ns: u64) {
        self.marks = [self.marks[1], self.loss];
        self.begins_ns = [self.begins_ns[1], now_ns];
        let samples = self.timeline.begin_epoch();
        for instance in self.instances.iter_mut().flatten() {
            instance.begin_epoch(now_ns, samples);
        }
        let begin_ns = self.begins_ns[0];
        let is_over = |instance: &Instance| instance.ended.is_some_and(|ended| ended.time_ns < begin_ns);
        while self.gone.front().is_some_and(|id| self.instance(*id).is_none_or(is_over)) {
            self.forget_oldest();
        }
    }

    /// The instance that an event of this time belongs to, a new one where none is known. `None` if the event is older
    /// than the end of the last instance with this pid.
    #[inline]
    fn instance_at(&mut self, pid: u32, time_ns: u64, from_start: bool) -> Option<InstanceId> {
        match self.last {
            Some((last, id)) if last == pid => Some(id),
            _ => self.find_instance(pid, time_ns, from_start),
        }
    }

    #[cold]
    fn find_instance(&mut self, pid: u32, time_ns: u64, from_start: bool) -> Option<InstanceId> {
        let known = self.pids.get(&pid).copied().unwrap_or_default();
        let id = match known.current {
            Some(id) => id,
            None if known.ended_ns != 0 && time_ns <= known.ended_ns => {
                self.loss.late += 1;
                return None;
            }
            None => self.new_instance(pid, time_ns, !from_start),
        };
        self.last = Some((pid, id));
        Some(id)
    }

    fn new_instance(&mut self, pid: u32, now_ns: u64, existed: bool) -> InstanceId {
        let slot = self.free_slots.pop().unwrap_or(self.instances.len());
        let id = InstanceId::new(self.serial, slot);
        self.serial += 1;
        let entry = self.pids.entry(pid).or_default();
        entry.current = Some(id);
        let mut instance = Instance::new(id, pid, now_ns, self.seeds.hash_one(id));
        (instance.execs, instance.start_ns) = (entry.execs, entry.start_ns);
        // A program whose exec was seen has no goroutines from before that.
        instance.existed = existed && entry.execs == 0;
        instance.started_by = self.started.get(&pid).copied();
        match self.instances.get_mut(slot) {
            Some(free) => *free = Some(Box::new(instance)),
            None => self.instances.push(Some(Box::new(instance))),
        }
        self.fresh.push(id);
        id
    }

    fn current(&mut self, pid: u32) -> Option<(&mut Instance, &mut Budget)> {
        let id = self.pids.get(&pid)?.current?;
        Some((self.instances[id.slot()].as_deref_mut()?, &mut self.budget))
    }

    fn end(&mut self, pid: u32, time_ns: u64, how: End) {
        let Some(entry) = self.pids.get_mut(&pid) else { return };
        let current = entry.current.and_then(|id| self.instances[id.slot()].as_deref());
        if current.is_some_and(|instance| !instance.can_end(time_ns, how)) {
            return;
        }
        match how {
            End::Exec => entry.execs += 1,
            End::Exit | End::Replaced => *entry = Pid { current: entry.current, ..Pid::default() },
        }
        let Some(id) = entry.current.take() else { return };
        entry.ended_ns = time_ns;
        self.last = None;
        if let Some(instance) = self.instances[id.slot()].as_mut() {
            instance.end(time_ns, how, &mut self.budget);
        }
        self.gone.push_back(id);
        if self.gone.len() > self.budget.limits.max_gone {
            self.loss.forgotten += 1;
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(id) = self.gone.pop_front() else { return };
        let Some(instance) = self.instances[id.slot()].take() else { return };
        self.budget.lineages -= instance.lineages.taken;
        self.budget.sites -= instance.sites.iter().filter(|site| !site.overflow).count();
        if self.pids.get(&instance.pid).is_some_and(|known| known.current.is_none()) {
            self.pids.remove(&instance.pid);
        }
        match self.fresh.iter().position(|fresh| *fresh == id) {
            // Nobody was told of this instance, so nobody is told that it is forgotten.
            Some(at) => _ = self.fresh.swap_remove(at),
            None => self.just_forgotten.push(id),
        }
        self.free_slots.push(id.slot());
    }
}
