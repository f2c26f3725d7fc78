//! What is being traced at this moment: processes with their names and addresses, and what is known of each process
//! instance that the tracker has.
//!
//! Work per binary (ELF, function table, probe plan) is done once and kept. Work per process is only what differs
//! between processes: where the binary is mapped.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io,
    num::NonZeroU32,
    path::Path,
    sync::Arc,
};

use super::TraceError;
use super::attachments::{AttachError, Attachments, Written};
use super::creation_stacks::RawStacks;
use super::holds::Holds;
use super::known::{Known, LastLook, Traced};
use super::names::Names;
use super::notices::Notice;
use super::strangers::Strangers;
use super::trust::{self, Finding, Trust};
use super::unseen::unseen;
use crate::assemble::Described;
use crate::host::{FileId, RunningProcess};
use crate::inspect::{Mismatch, Places, ProcessMemory};
use crate::look::Findings;
use crate::probes::Scope;
use crate::report;
use crate::targets::binaries::Beside;
use crate::targets::subject::Belief;
use crate::targets::{Binaries, MappedBinary, PlannedBinary, ReadAhead, Subject, TargetError, describe};
use crate::tracker::{Instance, InstanceId, LineageId, Tracker};
use crate::verdict::{Parked, SeenCalls};

/// Most goroutines of a process whose places are remembered from one look to the next, at 24 bytes each. If a process
/// has more, only of the oldest ones it is known that they have not moved.
const MOST_PLACES: usize = 1 << 16;

/// Processes that are remembered because they cannot be traced. If there are more, those that have ended are forgotten.
const MOST_UNTRACED: usize = 1024;

/// All that is traced, and the means to trace more.
pub struct Session {
    /// The probes that are in place.
    pub attachments: Attachments,
    /// The binaries that were read.
    pub binaries: Binaries,
    /// Records of runtimes that are not looked at, in processes that have several.
    pub strangers: Strangers,
    /// The processes whose memory is kept beyond their end.
    pub holds: Holds,
    /// The only process that is traced although it is one of Go's own tools; `None` if all are.
    pub only_go_tool: Option<u32>,
    /// How many processes of Go's own tools are left out that had ended before anybody could see what they were.
    pub ended_go_tools: u64,
    raw_stacks: RawStacks,
    /// The current process of each pid.
    current: HashMap<u32, Arc<Traced>>,
    instances: HashMap<InstanceId, Known>,
    untraced: BTreeMap<u32, report::Process>,
    trust: Trust,
    /// Executables and libraries that were asked for. Their probes stay even if no process has them.
    asked_for: HashSet<FileId>,
    /// Files that processes are about to execute for the first time, by the process.
    pub expected: HashMap<u32, FileId>,
    /// Files of which was said that they have no lease.
    unleased: HashSet<FileId>,
    notices: Vec<Notice>,
    /// The number that the next [`Traced`] gets.
    next: u64,
    /// Whether something ended since binaries were last let go.
    has_ended: bool,
}

impl Session {
    /// Nothing is traced yet.
    pub fn new(binaries: Binaries, attachments: Attachments) -> Session {
        Session {
            attachments,
            binaries,
            strangers: Strangers::default(),
            holds: Holds::default(),
            only_go_tool: None,
            ended_go_tools: 0,
            raw_stacks: RawStacks::default(),
            current: HashMap::new(),
            instances: HashMap::new(),
            untraced: BTreeMap::new(),
            trust: Trust::default(),
            asked_for: HashSet::new(),
            expected: HashMap::new(),
            unleased: HashSet::new(),
            notices: Vec::new(),
            next: 0,
            has_ended: false,
        }
    }

    /// Puts the probes of a binary that was asked for in place, for every process that runs it or will.
    ///
    /// # Errors
    /// It is no Go program that golife knows, or the kernel refuses a probe.
    pub fn ask_for(&mut self, file: &File, path: &Path) -> Result<(), TraceError> {
        again_if_written(|| {
            let file = file.try_clone().map_err(|source| TargetError::File { path: path.into(), source })?;
            let planned = self.binaries.plan(file, path)?;
            self.asked_for.insert(planned.file);
            self.attach(&planned, Scope::Everyone, None)
        })
    }

    /// Puts the probes of a binary in place that a process is about to execute, for every process that runs it. They stay
    /// until none does.
    ///
    /// # Errors
    /// It is no Go program that golife knows, or the kernel refuses a probe.
    pub fn expect(&mut self, pid: u32, ahead: ReadAhead) -> Result<(), TraceError> {
        let planned = self.binaries.take_in(ahead)?;
        self.attach(&planned, Scope::Everyone, None)?;
        self.expected.insert(pid, planned.file);
        Ok(())
    }

    /// Takes note that a process has ended, or has executed what was expected of it.
    pub fn expect_no_more(&mut self, pid: u32) {
        self.has_ended |= self.expected.remove(&pid).is_some();
    }

    /// Puts the probes of a binary in place. Where they cannot be for every process, they are for `process` alone, and
    /// for nobody if that is `None`.
    fn attach(
        &mut self,
        planned: &PlannedBinary,
        scope: Scope,
        process: Option<NonZeroU32>,
    ) -> Result<(), TraceError> {
        let why = match self.attachments.attach(planned, scope) {
            Ok(()) => return Ok(()),
            Err(AttachError::Probe(error)) => return Err(error.into()),
            // Probes that were planned for another content would break the process, so it gets none.
            Err(written @ AttachError::Written) => {
                self.binaries.forget(planned.file);
                let path = planned.binary.path().to_path_buf();
                return Err(TargetError::File { path, source: io::Error::other(written) }.into());
            }
            Err(AttachError::NoLease(why)) => why,
        };
        if self.unleased.insert(planned.file) {
            let path = planned.binary.path().to_path_buf();
            self.notices.push(Notice::NoLease { path, why: why.to_string() });
        }
        match process {
            Some(process) => self.attach(planned, Scope::Process(process), None),
            None => Ok(()),
        }
    }

    /// Reads for the last time what is needed of the files that somebody is about to write. They have no probes any
    /// more.
    pub fn give_way(&mut self, tracker: &mut Tracker) {
        if !self.attachments.has_writer() {
            return;
        }
        self.bind(tracker);
        self.update_names(tracker);
        for Written { file, is_unchanged } in self.attachments.take_written() {
            self.lose(file, is_unchanged, tracker);
        }
    }

    /// Takes note that a file gets another content. If it may have it already, what was read last is not believed.
    fn lose(&mut self, file: FileId, is_unchanged: bool, tracker: &Tracker) {
        let path = self.binaries.planned(file).map(|planned| planned.binary.path().to_path_buf());
        self.binaries.forget(file);
        let has = |traced: &Traced| {
            let Subject { plugins, .. } = &traced.subject;
            traced.planned.file == file || plugins.iter().any(|plugin| plugin.file == file)
        };
        let concerned = |known: &Known| known.traced.as_ref().is_some_and(|traced| has(traced));
        let mut processes = 0;
        for (id, known) in self.instances.iter_mut() {
            if !concerned(known) || known.is_overwritten {
                continue;
            }
            known.is_overwritten = true;
            known.is_cut_short = tracker.instance(*id).is_some_and(|instance| instance.ended.is_none());
            processes += usize::from(known.is_cut_short);
            if !is_unchanged {
                known.names = Names::default();
            }
        }
        // What the file says of their code is no longer so, and they are not looked into any more.
        self.current.retain(|_, traced| !has(traced));
        self.has_ended = true;
        self.notices.push(Notice::Overwritten { path: path.unwrap_or_default(), processes });
    }

    /// Names the goroutines that have come since, while their binary is what it was.
    pub fn update_names(&mut self, tracker: &Tracker) {
        let Session { instances, attachments, raw_stacks, .. } = self;
        for instance in tracker.instances() {
            let known = instances.entry(instance.id).or_default();
            if let Some(traced) = known.traced.as_ref().filter(|_| !known.is_overwritten) {
                known.names.update(instance, &traced.subject, attachments, raw_stacks);
            }
        }
    }

    /// Starts to trace a process that runs already.
    ///
    /// # Errors
    /// The process cannot be looked at, has no Go runtime that can be traced, or the kernel refuses a probe.
    pub fn enter(&mut self, pid: u32, scope: Scope) -> Result<Arc<Traced>, TraceError> {
        again_if_written(|| self.try_to_enter(pid, scope))
    }

    fn try_to_enter(&mut self, pid: u32, scope: Scope) -> Result<Arc<Traced>, TraceError> {
        let subject = self.find(pid)?;
        let planned = self.binaries.plan_of(&subject)?;
        if subject.verify()? == Belief::Verified {
            self.trust.confirm(planned.file);
        }
        // The kernel knows a process by its first thread, which does not survive an exec by another one. Then the probes
        // that the process has for itself are in place no more.
        if self.attachments.is_for(pid, planned.file) && !has_probes(&subject, &planned) {
            self.attachments.leave(pid, planned.file);
        }
        self.attach(&planned, scope, NonZeroU32::new(pid))?;
        self.attach_plugins(pid, &subject.plugins, scope)?;
        self.notices.extend(subject.other_runtimes().map(Notice::OtherRuntime));
        self.notices.extend(subject.process.is_stopped().then_some(Notice::Stopped { pid }));
        Ok(self.know(subject, planned))
    }

    /// Finds the Go runtime of a process. Of several in libraries, one that has probes is preferred.
    fn find(&mut self, pid: u32) -> Result<Subject, TargetError> {
        if let Some(held) = self.holds.of(pid) {
            return self.binaries.find_executed(&held.executed, held.kept.memory().clone());
        }
        let (binaries, attachments) = (&mut self.binaries, &self.attachments);
        binaries.find(pid, |file| attachments.is_everywhere(file))
    }

    /// Looks for plugins that processes have loaded meanwhile.
    pub fn find_plugins(&mut self) {
        let opening = self.current.values().filter(|traced| traced.planned.binary.opens_plugins());
        for traced in opening.cloned().collect::<Vec<_>>() {
            let subject = &traced.subject;
            let (pid, binary) = (subject.process.pid, traced.planned.binary.clone());
            let mut whole = MappedBinary { file: traced.planned.file, binary, bias: subject.bias };
            let Beside { plugins, .. } = self.binaries.add_plugins(pid, &mut whole);
            if whole.binary.plugins() <= subject.binary.plugins() {
                continue;
            }
            let scope = match NonZeroU32::new(pid) {
                Some(pid) if !self.attachments.is_everywhere(traced.planned.file) => Scope::Process(pid),
                _ => Scope::Everyone,
            };
            if let Err(error) = self.attach_plugins(pid, &plugins, scope) {
                self.notices.push(Notice::PluginUntraced { pid, why: error.to_string() });
            }
            self.notices.push(Notice::PluginLoaded { pid });
            let subject = Subject { binary: whole.binary, plugins, ..subject.clone() };
            let now = Arc::new(Traced { subject, planned: traced.planned.clone(), number: traced.number });
            if let Some(known) = self.current.get_mut(&pid) {
                *known = now.clone();
            }
            for known in self.instances.values_mut().filter(|known| known.is_of(&traced)) {
                // An address that was in no function before may be in the plugin, so everything is named anew.
                (known.traced, known.names) = (Some(now.clone()), Names::default());
            }
        }
    }

    /// Puts probes on plugins. A plugin has a copy of the runtime's functions, which its code calls; the runtime's
    /// variables are only in the executable.
    fn attach_plugins(&mut self, pid: u32, plugins: &[MappedBinary], scope: Scope) -> Result<(), TraceError> {
        for plugin in plugins {
            let planned = self.binaries.plan_of_plugin(plugin)?;
            self.attach(&planned, scope, NonZeroU32::new(pid))?;
        }
        Ok(())
    }

    /// Takes note of a process whose binary has its probes in place.
    fn know(&mut self, subject: Subject, planned: Arc<PlannedBinary>) -> Arc<Traced> {
        let pid = subject.process.pid;
        self.strangers.expect(&subject);
        self.next += 1;
        let traced = Arc::new(Traced { subject, planned, number: self.next });
        self.untraced.remove(&pid);
        self.current.insert(pid, traced.clone());
        self.expect_no_more(pid);
        traced
    }

    /// Takes note of a process that nobody has entered, because the probes on its binary see it as well. `None` if its
    /// binary has no plan, so that it cannot have probes.
    pub fn recognise(&mut self, pid: u32) -> Option<Arc<Traced>> {
        let subject = self.find(pid).ok()?;
        let planned = self.binaries.plan_of(&subject).ok()?;
        if let Err(error) = self.attach_plugins(pid, &subject.plugins, Scope::Everyone) {
            self.notices.push(Notice::PluginUntraced { pid, why: error.to_string() });
        }
        Some(self.know(subject, planned))
    }

    /// The process that has this id now.
    pub fn current(&self, pid: u32) -> Option<&Arc<Traced>> {
        self.current.get(&pid)
    }

    /// Processes that are traced now.
    pub fn processes(&self) -> impl Iterator<Item = &Arc<Traced>> {
        self.current.values()
    }

    /// Binaries with a Go runtime that have probes.
    pub fn probed_binaries(&self) -> Vec<Arc<PlannedBinary>> {
        let files = self.attachments.files().into_iter();
        let planned = files.filter_map(|file| self.binaries.planned(file));
        planned.filter(|planned| planned.binary.has_runtime()).collect()
    }

    /// Takes note that a process executes another image or has ended, so that its pid has nothing to do with it any
    /// more.
    pub fn forget_process(&mut self, pid: u32) {
        self.strangers.forget(pid);
        self.attachments.leave_unleased(pid);
        self.has_ended = true;
        let Some(ended) = self.current.remove(&pid) else { return };
        for known in self.instances.values_mut().filter(|known| known.is_of(&ended)) {
            // What the last look has found is kept, but nothing is compared with it any more.
            if let Some(look) = &mut known.look {
                look.places = Arc::default();
            }
        }
    }

    /// Begins to keep the memory of a process that has just executed a Go program.
    pub fn hold(&mut self, pid: u32) {
        self.holds.begin(pid, &self.binaries);
    }

    /// Forgets the instances that the tracker has forgotten. With the last process of a binary go its probes, its file
    /// and what was read of it.
    pub fn let_go(&mut self, tracker: &mut Tracker) {
        for id in tracker.take_forgotten() {
            self.instances.remove(&id);
            self.has_ended = true;
        }
        if !std::mem::take(&mut self.has_ended) {
            return;
        }
        if self.untraced.len() > MOST_UNTRACED {
            self.untraced.retain(|pid, _| RunningProcess::look(*pid).is_ok());
        }
        for (id, known) in &mut self.instances {
            known.settle(tracker.instance(*id), &self.trust);
        }
        let mut used = self.asked_for.clone();
        used.extend(self.expected.values());
        let traced = self.instances.values().filter_map(|known| known.traced.as_ref());
        for traced in traced.chain(self.current.values()) {
            used.insert(traced.planned.file);
            let Subject { plugins, others, .. } = &traced.subject;
            used.extend(plugins.iter().chain(others).map(|mapped| mapped.file));
        }
        let current = &self.current;
        self.attachments.keep(&used, |pid| current.contains_key(&pid));
        self.trust.keep(&used);
        self.unleased.retain(|file| used.contains(file));
        self.binaries.keep(|file| used.contains(&file));
    }

    /// Gives names to the instances that the tracker has seen appear.
    pub fn bind(&mut self, tracker: &mut Tracker) {
        for id in tracker.take_new() {
            let Some(instance) = tracker.instance(id) else { continue };
            let known = match instance.ended {
                None => self.current.get(&instance.pid).cloned().or_else(|| self.recognise(instance.pid)),
                // Its pid is free or belongs to something else by now.
                Some(_) => None,
            };
            let fits =
                |traced: &Arc<Traced>| trust::check(instance, traced.binary(), traced.subject.bias).is_ok();
            let fitting = known.clone().filter(fits).or_else(|| self.identify(instance));
            let traced = fitting.or(known);
            if let Some(traced) = &traced {
                self.trust.watch(id, traced.planned.file);
            }
            // Others are known by their exec, unless they have ended by then.
            let is_go_tool =
                || traced.as_ref().is_some_and(|traced| traced.binary().build_info().is_go_tool());
            let is_left_out = self.only_go_tool.is_some_and(|only| only != instance.pid) && is_go_tool();
            self.ended_go_tools += u64::from(is_left_out);
            self.instances.insert(id, Known { traced, is_left_out, ..Known::default() });
        }
    }

    /// Finds the binary that the addresses of an instance fit, for instances that `/proc` knows nothing of any more. Its
    /// probes may be off by now.
    fn identify(&self, instance: &Instance) -> Option<Arc<Traced>> {
        self.binaries.all_planned().cloned().find_map(|planned| {
            let bias = trust::bias_of(instance, &planned.binary)?;
            let subject = Subject {
                process: unseen(instance, planned.binary.path().to_path_buf()),
                binary: planned.binary.clone(),
                bias,
                file: planned.file,
                opened: planned.opened.clone(),
                plugins: Vec::new(),
                others: Vec::new(),
                kept: None,
            };
            Some(Arc::new(Traced { subject, planned, number: 0 }))
        })
    }

    /// Checks the first records of processes whose memory could not be checked, and stops tracing the binaries that
    /// they do not fit. Returns what does not fit about the last of these. `last` says that no more records come, so
    /// that one check decides.
    pub fn drop_misfits(&mut self, tracker: &Tracker, last: bool) -> Option<Mismatch> {
        let mut misfit = None;
        for mut doubt in self.trust.take_doubts() {
            // What was written since says nothing about the records from before.
            let known = self.instances.get(&doubt.instance).filter(|known| !known.is_overwritten);
            let traced = known.and_then(|known| known.traced.clone());
            let (Some(instance), Some(traced)) = (tracker.instance(doubt.instance), traced) else { continue };
            if self.trust.is_trusted(traced.planned.file) || instance.execs > 0 && instance.ended.is_some() {
                continue;
            }
            match doubt.check(instance, traced.binary(), traced.subject.bias, last) {
                Finding::Fits => self.trust.confirm(traced.planned.file),
                Finding::Open => self.trust.keep_doubting(doubt),
                Finding::Unfit(mismatch) => {
                    self.give_up(&traced.planned, &mismatch);
                    misfit = Some(mismatch);
                }
            }
        }
        misfit
    }

    /// Stops tracing a binary whose records cannot be right.
    fn give_up(&mut self, planned: &PlannedBinary, mismatch: &Mismatch) {
        self.attachments.detach(planned.file);
        self.current.retain(|_, traced| traced.planned.file != planned.file);
        self.asked_for.remove(&planned.file);
        self.binaries.refuse(planned.file);
        for known in self.instances.values_mut() {
            if known.traced.as_ref().is_some_and(|traced| traced.planned.file == planned.file) {
                known.unfit = Some(mismatch.to_string());
            }
        }
        self.notices.push(Notice::NoLongerTraced(mismatch.clone()));
    }

    /// Gives a notice of each process that ends goroutines which it was not seen to create, once for each instance.
    pub fn raise_alarms(&mut self, tracker: &Tracker) {
        for instance in tracker.instances().filter(|instance| tracker.misses_creations(instance)) {
            let known = self.instances.entry(instance.id).or_default();
            if !std::mem::replace(&mut known.is_alarmed, true) {
                let (pid, ended) = (instance.pid, instance.unmatched_exits);
                self.notices.push(Notice::MissedCreations { pid, ended });
            }
        }
    }

    /// Takes in what a look at an instance has found. The look before is forgotten, since the new one knows for how
    /// long each goroutine has been where it is. But the calls in which it was seen that creators were are kept.
    pub fn looked(&mut self, id: InstanceId, mut findings: Findings, calls: HashMap<LineageId, SeenCalls>) {
        let mut places = std::mem::take(&mut findings.places);
        places.truncate(MOST_PLACES);
        let known = self.instances.entry(id).or_default();
        known.look = Some(LastLook::new(findings, Arc::new(places)));
        known.seen_calls.extend(calls);
    }

    /// Takes in what a glance at an instance has found. Later looks are compared with the one before it all the same.
    pub fn glanced(&mut self, id: InstanceId, findings: Findings) {
        let known = self.instances.entry(id).or_default();
        let places = known.look.take().map(|look| look.places).unwrap_or_default();
        known.look = Some(LastLook::new(findings, places));
    }

    /// Takes note of what goroutines of an instance are doing that tests may have left behind.
    pub fn saw_parked(&mut self, id: InstanceId, parked: HashMap<u64, Parked>) {
        self.instances.entry(id).or_default().parked = Some(parked);
    }

    /// Takes note of how long the memory of an instance was kept after its end.
    pub fn was_held(&mut self, id: InstanceId, held_ns: u64) {
        self.instances.entry(id).or_default().held_ns = Some(held_ns);
    }

    /// Where the goroutines of an instance were when they were last looked at.
    pub fn last_places(&self, id: InstanceId) -> Option<Arc<Places>> {
        Some(self.instances.get(&id)?.look.as_ref()?.places.clone())
    }

    /// Remembers for the report that a process is not traced, and why.
    pub fn refuse(&mut self, pid: u32, error: &TraceError) {
        self.untraced.insert(pid, describe::unsupported(pid, error));
    }

    /// The processes that are not traced, with the reasons.
    pub fn untraced(&self) -> Vec<report::Process> {
        self.untraced.values().cloned().collect()
    }

    /// Adds a notice.
    pub fn say(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Takes the notices that there are. The next call does not return them again.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.binaries.take_remarks().into_iter().map(Notice::Binary).collect();
        notices.append(&mut self.notices);
        notices
    }

    /// What is known of every instance beside its goroutines, for the report.
    pub fn describe(&mut self, tracker: &Tracker) -> HashMap<InstanceId, Described<'_>> {
        self.update_names(tracker);
        let Session { instances, attachments, .. } = self;
        let keeps_stacks = attachments.keep_stacks();
        tracker
            .instances()
            .filter_map(|instance| Some((instance, instances.get(&instance.id)?)))
            .map(|(instance, known)| (instance.id, known.described(instance, keeps_stacks)))
            .collect()
    }
}

/// Whether a process has other bytes than its file where a probe belongs; also if that cannot be told.
fn has_probes(subject: &Subject, planned: &PlannedBinary) -> bool {
    let Some(site) = planned.sites.first() else { return true };
    let own = planned.binary.image().bytes_from(site.address).and_then(|bytes| bytes.first_chunk::<4>());
    let mut now = [0; 4];
    let memory = ProcessMemory::new(subject.process.pid.cast_signed());
    memory.read(site.address.wrapping_add(subject.bias), &mut now).is_err() || own != Some(&now)
}

/// Does what reads a file and puts its probes in place, and does it once more if the file was written or touched in between:
/// what was read of it is forgotten then. A file that is written all the time is not waited for.
fn again_if_written<T>(mut act: impl FnMut() -> Result<T, TraceError>) -> Result<T, TraceError> {
    let is_written = |error: &TraceError| match error {
        TraceError::Target(TargetError::File { source, .. }) => {
            source.get_ref().is_some_and(|source| matches!(source.downcast_ref(), Some(AttachError::Written)))
        }
        _ => false,
    };
    act().or_else(|error| if is_written(&error) { act() } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_while_it_was_read_is_read_once_more() {
        let mut done = 0;
        let mut after = |errors: Vec<io::Error>| {
            let mut errors = errors.into_iter();
            done = 0;
            let result = again_if_written(|| {
                done += 1;
                let fail = |source| TargetError::File { path: "/srv/api".into(), source };
                errors.next().map_or(Ok(()), |source| Err(fail(source).into()))
            });
            (done, result.is_ok())
        };
        let written = || io::Error::other(AttachError::Written);
        assert_eq!(after(vec![]), (1, true));
        assert_eq!(after(vec![written()]), (2, true));
        assert_eq!(after(vec![written(), written()]), (2, false));
        assert_eq!(after(vec![io::ErrorKind::NotFound.into()]), (1, false));
    }
}
