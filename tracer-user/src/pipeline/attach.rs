//! What is traced: at the beginning, and as processes start, execute something else and end.

use super::{looks::Purpose, *};

impl Pipeline {
    /// Puts probes on everything that is wanted and runs already.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        // First, so that nothing that starts from now on is missed.
        self.session.watch_processes(false)?;
        let mut failure = None;
        let executables: Vec<_> =
            self.targets.executables.iter().map(|exe| (exe.file.try_clone(), exe.path.clone())).collect();
        for (file, path) in executables {
            let file =
                file.map_err(|source| Error::System { what: "duplicate a file descriptor", source })?;
            let target = self.session.target(file, &path)?;
            self.session.attach(&target, Scope::Everyone)?;
        }
        if self.targets.searches() {
            let pids = process::all().map_err(|source| Error::System { what: "list /proc", source })?;
            let mut denied = 0;
            for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
                match is_wanted(&self.targets, pid, &mut self.session, true) {
                    Ok(Some(_)) => {
                        if let Err(error) = self.enter(pid, Scope::Everyone, true)
                            && !error.is_not_go()
                        {
                            self.session.refuse(pid, &error);
                            failure = Some(error);
                        }
                    }
                    Err(process::ProcessError::Permission { .. }) => denied += 1,
                    Ok(None) | Err(_) => {}
                }
            }
            if let Some(warning) = capabilities::about_denied(denied) {
                self.session.warn(warning);
            }
        }
        for pid in self.targets.pids.clone() {
            if let Some(scope) = NonZeroU32::new(pid).map(Scope::Process)
                && let Err(error) = self.enter(pid, scope, true)
            {
                self.session.refuse(pid, &error);
                failure = Some(error);
            }
        }
        // An executable may have no process yet, and a search goes on; named processes must be there.
        if self.session.binaries().is_empty() {
            return Err(match failure {
                Some(error) => error.into(),
                None => Error::Nothing(format!(
                    "no Go process matches {}; golife trace --all shows which there are, and why others are not traced",
                    self.targets
                )),
            });
        }
        Ok(())
    }

    /// Starts the user's program with its probes in place before its first instruction.
    pub(super) fn launch(&mut self, command: &[std::ffi::OsString]) -> Result<Child, Error> {
        let program = command.first().ok_or_else(|| Error::Nothing("no program to run".into()))?;
        let path = launch::resolve(program)?;
        let launch = Launch::fork(command)?;
        self.targets = Targets::family_of(launch.pid());
        self.session.watch_processes(true)?;
        if let Ok(file) = std::fs::File::open(&path) {
            match self.session.target(file, &path) {
                Ok(target) => {
                    self.session.attach(&target, Scope::Everyone)?;
                    self.session.count_cpu_time(launch.pid());
                }
                // A shell, a script, an interpreter: what it starts may be a Go program.
                Err(error) if error.is_not_go() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(launch.release()?)
    }

    /// Traces a process. `existed`: it may have goroutines already, which are read once its probes are in place.
    pub(super) fn enter(&mut self, pid: u32, scope: Scope, existed: bool) -> Result<(), session::Error> {
        let traced = self.session.enter(pid, scope)?;
        self.started(&traced, existed);
        Ok(())
    }

    /// Traces a process of a binary that had no probes. Who sees what `golife run` started start something else wants to
    /// know whether that is traced, too.
    fn join(&mut self, pid: u32) -> Result<(), session::Error> {
        self.enter(pid, Scope::Everyone, true)?;
        if self.targets.is_family()
            && let Some(traced) = self.session.current(pid)
        {
            let path = traced.subject.process.exe.display();
            let line = format!("tracing {path}, too{}", about(traced.binary().build_info()));
            eprintln!("{}", crate::human::clean(&line));
        }
        Ok(())
    }

    pub(super) fn started(&mut self, traced: &Arc<Traced>, existed: bool) {
        let pid = traced.subject.process.pid;
        self.tracker.process_started(pid, traced.start_ns(), existed, now_ns());
        self.session.bind(&mut self.tracker);
        if existed {
            self.tracker.begin_scan(pid, now_ns());
            self.looking += 1;
            let (scans, traced) = (self.scans.clone(), traced.clone());
            tokio::task::spawn_blocking(move || {
                let found = Look::at(&traced.subject, None, std::time::Instant::now() + MOST_TIME);
                // Nobody listens any more when the run is over.
                let _ = scans.send(Scan { traced, purpose: Purpose::Adopt, found });
            });
        }
    }

    pub(super) fn live_and_die(&mut self, event: &Event) {
        let pid = event.pid;
        match event.what {
            What::Fork { child } => self.targets.cloned(pid, child),
            What::ProcessExit => self.session.forget(pid),
            What::Exec => {
                self.session.forget(pid);
                let wanted = is_wanted(&self.targets, pid, &mut self.session, false);
                let Ok(Some(file)) = wanted else { return };
                let entered = if self.session.has_probes(file) {
                    self.session.recognise(pid);
                    Ok(())
                } else if self.targets.pids.contains(&pid) {
                    match NonZeroU32::new(pid) {
                        Some(only) => self.enter(pid, Scope::Process(only), true),
                        None => Ok(()),
                    }
                } else {
                    self.join(pid)
                };
                if let Err(error) = entered
                    && !error.is_not_go()
                {
                    self.session.refuse(pid, &error);
                }
            }
            What::Created { .. } | What::Exited { .. } => {}
        }
    }

    /// Stops tracing what cannot be right. An error where nothing else is traced; the program of `golife run` runs on,
    /// whatever golife makes of it.
    pub(super) fn check_fit(&mut self, last: bool) -> Result<(), Error> {
        let mut misfit = None;
        for (target, mismatch) in self.session.misfits(&self.tracker, last) {
            self.session.give_up(&target, &mismatch);
            misfit = Some(mismatch);
        }
        match misfit {
            Some(mismatch) if self.session.binaries().is_empty() && !self.targets.is_family() => {
                self.session.take_warnings();
                Err(Error::Unfit(mismatch))
            }
            _ => {
                self.print_warnings();
                Ok(())
            }
        }
    }

    /// Whether only named processes were traced and all of them have ended.
    pub(super) fn all_gone(&self) -> bool {
        !self.targets.can_grow() && self.session.processes().next().is_none()
    }
}
