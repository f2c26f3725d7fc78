//! Decides what is traced: at the beginning, and as processes start, execute something else and end.

use std::num::NonZeroU32;
use std::path::Path;

use super::family::Family;
use super::notices::{Notice, build_text};
use super::settings::Targets;
use super::{TraceError, Tracer};
use crate::event::{Event, What};
use crate::host::clock::now_ns;
use crate::host::{FileId, ProcessError, capabilities, process};
use crate::probes::Scope;
use crate::targets::wanted::Search;
use crate::targets::{Children, Wanted};

impl Tracer {
    /// Puts probes on everything that is wanted.
    pub(super) fn begin(&mut self, targets: &Targets) -> Result<(), TraceError> {
        match targets {
            Targets::Selectors(selectors) => {
                self.wanted = Wanted::resolve(selectors)?;
                self.begin_selected()
            }
            Targets::Family { root, program, children, gate, hold: _ } => {
                self.family = Family::new(*root, *children);
                self.session.only_go_tool = (*children == Children::Tests).then_some(*root);
                self.begin_family(*root, program)?;
                if let Some(name) = gate
                    && let Err(error) = self.family.open_gate(name)
                {
                    self.session.say(Notice::NoGate { why: error.to_string() });
                }
                Ok(())
            }
        }
    }

    fn begin_selected(&mut self) -> Result<(), TraceError> {
        let system = |what| move |source| TraceError::System { what, source };
        // This comes first, so that no process that starts from now on is missed.
        self.session.attachments.watch_processes(false)?;
        let mut failure = None;
        for executable in &self.wanted.executables {
            self.session.ask_for(&executable.file, &executable.path)?;
        }
        if self.wanted.searches() {
            let mut denied = 0;
            let pids = process::all().map_err(system("list /proc"))?;
            for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
                match self.wanted.find(pid, &mut self.session.binaries, Search::Libraries) {
                    Ok(Some(_)) => {
                        if let Err(error) = self.enter(pid, Scope::Everyone)
                            && !error.is_not_go()
                        {
                            self.session.refuse(pid, &error);
                            failure = Some(error);
                        }
                    }
                    Err(ProcessError::Permission { .. }) => denied += 1,
                    Ok(None) | Err(_) => {}
                }
            }
            // Some processes cannot be looked at by anybody, so this is only said if a capability would help.
            if denied > 0 && capabilities::lacks_ptrace() {
                self.session.say(Notice::Denied { processes: denied });
            }
        }
        for pid in self.wanted.pids.clone() {
            if let Some(scope) = NonZeroU32::new(pid).map(Scope::Process)
                && let Err(error) = self.enter(pid, scope)
            {
                self.session.refuse(pid, &error);
                failure = Some(error);
            }
        }
        // An executable that was named has its probes even before a process runs it. Other selectors must have found a
        // process.
        if !self.session.probed_binaries().is_empty() || !self.wanted.executables.is_empty() {
            return Ok(());
        }
        Err(failure.unwrap_or_else(|| {
            TraceError::Nothing(format!(
                "no Go process matches {}; golife trace --all shows which there are, and why others are not traced",
                self.wanted
            ))
        }))
    }

    /// Puts probes on the program that the root of the family will execute. The root waits before its first
    /// instruction.
    fn begin_family(&mut self, root: u32, program: &Path) -> Result<(), TraceError> {
        self.wanted = Wanted::family_of(root);
        self.session.attachments.watch_processes(true)?;
        let Ok(file) = std::fs::File::open(program) else { return Ok(()) };
        match self.session.ask_for(&file, program) {
            Ok(()) => {
                self.accounts.count_cpu_time(root);
                Ok(())
            }
            // It may be a shell, a script or an interpreter, and what that starts may be a Go program.
            Err(error) if error.is_not_go() => Ok(()),
            other => other,
        }
    }

    /// Traces a process that runs already. Its goroutines are read once its probes are in place.
    fn enter(&mut self, pid: u32, scope: Scope) -> Result<(), TraceError> {
        let traced = self.session.enter(pid, scope)?;
        self.accounts.begin(&traced.subject.process);
        self.tracker.process_started(pid, traced.start_ns(), true, now_ns());
        self.session.bind(&mut self.tracker);
        self.look_at_existing(traced);
        Ok(())
    }

    /// Traces a process of a binary that had no probes. In a family that is worth a notice, since the user has only
    /// named the program of the root.
    fn join(&mut self, pid: u32) -> Result<(), TraceError> {
        self.enter(pid, Scope::Everyone)?;
        if self.wanted.is_family()
            && let Some(traced) = self.session.current(pid)
        {
            let exe = traced.subject.process.exe.clone();
            let build = build_text(traced.binary().build_info());
            self.session.say(Notice::Joined { exe, build });
        }
        Ok(())
    }

    /// Follows a process that has forked, executes something else or has ended.
    pub(super) fn follow(&mut self, event: &Event) {
        let pid = event.pid;
        match event.what {
            What::Fork { child, .. } => self.wanted.cloned(pid, child),
            What::ProcessExit if self.session.holds.of(pid).is_some() => self.look_at_end(event),
            What::ProcessExit => self.end(event),
            What::Exec => {
                self.family.executed(pid);
                self.session.forget_process(pid);
                // This comes first, since the process may soon end.
                if self.wanted.is_family() && self.wanted.names_pid(pid) {
                    if self.leaves_out(pid) {
                        self.session.holds.let_go(pid);
                        return;
                    }
                    self.session.hold(pid);
                }
                let Some(file) = self.executes_wanted(pid) else {
                    self.list_as_untraced(pid);
                    return;
                };
                let entered = if self.session.attachments.is_everywhere(file) {
                    if let Some(traced) = self.session.recognise(pid) {
                        self.accounts.begin(&traced.subject.process);
                    }
                    Ok(())
                } else if self.wanted.pids.contains(&pid) {
                    match NonZeroU32::new(pid) {
                        Some(only) => self.enter(pid, Scope::Process(only)),
                        None => Ok(()),
                    }
                } else {
                    self.join(pid)
                };
                self.count_test_binary(pid);
                let Err(error) = entered else { return };
                self.session.holds.let_go(pid);
                if !error.is_not_go() || self.family.lists_all() && self.wanted.names_pid(pid) {
                    self.session.refuse(pid, &error);
                }
            }
            // These have waited until it was known what their process executes.
            What::Created { .. } | What::Exited { .. } | What::Test { .. } => {
                if !self.wanted.leaves_out(pid) {
                    self.tracker.apply(event);
                }
            }
        }
    }

    /// The file that a process has just executed, if the process is wanted and that may have Go in it.
    fn executes_wanted(&mut self, pid: u32) -> Option<FileId> {
        if let Some(held) = self.session.holds.of(pid) {
            return FileId::of(&held.executed.file).ok();
        }
        self.wanted.find(pid, &mut self.session.binaries, Search::Executable).ok().flatten()
    }

    /// Takes note of the end of a process.
    fn end(&mut self, event: &Event) {
        if self.wanted.is_family() {
            self.tracker.apply(event);
        }
        self.session.forget_process(event.pid);
        self.session.expect_no_more(event.pid);
        self.family.executed(event.pid);
        self.wanted.ended(event.pid);
    }

    /// Takes note of the end of a process whose memory was kept, once that was looked at.
    pub(super) fn end_held(&mut self, event: &Event) {
        self.session.bind(&mut self.tracker);
        if let Some(id) = self.tracker.current_instance(event.pid) {
            self.session.was_held(id, now_ns().saturating_sub(event.time_ns));
        }
        self.session.holds.let_go(event.pid);
        self.end(event);
    }

    /// Stops tracing binaries that the records do not fit. `last` says that no more records come, so that every doubt
    /// is decided now.
    ///
    /// # Errors
    /// [`TraceError::Unfit`] if nothing else is traced. A family is no error then: its root runs on, and may start
    /// other programs.
    pub(super) fn check_fit(&mut self, last: bool) -> Result<(), TraceError> {
        match self.session.drop_misfits(&self.tracker, last) {
            Some(mismatch) if self.session.probed_binaries().is_empty() && !self.wanted.is_family() => {
                self.session.take_notices();
                Err(TraceError::Unfit(mismatch))
            }
            _ => Ok(()),
        }
    }

    /// Whether only named processes were traced and all of them have ended.
    pub(super) fn all_gone(&self) -> bool {
        !self.wanted.can_grow() && self.session.processes().next().is_none()
    }
}
