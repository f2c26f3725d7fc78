//! A sweep looks at every Go process of the host from outside, without probes and without anything that the processes
//! could notice.
//!
//! One look tells what there is. A second one tells what has not moved in between. Between the two there are glances,
//! which only see who is there, and with them it is known who comes and stays. That is no whole history, so a site that
//! grows is watched at most, never suspect.

use std::collections::HashMap;
use std::time::SystemTime;

use super::seen::{self, ProcessKey, Seen};
use crate::host::clock::now_ns;
use crate::host::{ProcessError, process};
use crate::report::{self, BootWindow, Loss, Report, Run, Selection};
use crate::targets::{Binaries, TargetError, Wanted, describe, wanted};
use crate::verdict::cause::Patterns;

/// Number of glances between two looks that make growth plain: they cut the time into as many parts, and one more.
pub const GLANCES: u32 = 15;

/// Looks at every process that is wanted, once or several times.
pub struct Sweep<'a> {
    wanted: &'a Wanted,
    patterns: &'a Patterns,
    binaries: Binaries,
    start_ns: u64,
    /// When the last look began.
    looked_ns: u64,
    /// What the last look found, process by process.
    seen: Vec<Seen>,
    untraced: Vec<report::Process>,
    forbidden: u64,
}

impl<'a> Sweep<'a> {
    /// A sweep over the processes that are wanted. The window of its report begins now. `patterns` are the user's own.
    pub fn new(wanted: &'a Wanted, patterns: &'a Patterns) -> Sweep<'a> {
        Sweep {
            wanted,
            patterns,
            binaries: Binaries::default(),
            start_ns: now_ns(),
            looked_ns: now_ns(),
            seen: Vec::new(),
            untraced: Vec::new(),
            forbidden: 0,
        }
    }

    /// Looks at all processes, and compares them with what the look before has found.
    ///
    /// # Errors
    /// `/proc` cannot be listed, or a process that was named by its id does not exist or cannot be looked into.
    pub fn look(&mut self) -> Result<(), TargetError> {
        self.untraced.clear();
        self.forbidden = 0;
        self.looked_ns = now_ns();
        let mut before: HashMap<ProcessKey, Seen> =
            std::mem::take(&mut self.seen).into_iter().map(|seen| (seen.key(), seen)).collect();
        let pids = process::all().map_err(|source| TargetError::File { path: "/proc".into(), source })?;
        for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
            let is_named = self.wanted.names_pid(pid);
            if !is_named && !self.is_wanted(pid) {
                continue;
            }
            match self.look_at(pid, &mut before) {
                Ok(seen) => self.seen.push(seen),
                Err(error) if is_named => return Err(error),
                Err(error) if error.is_not_go() => {}
                Err(error) if error.is_permission() => self.forbidden += 1,
                Err(error) => self.untraced.push(describe::unsupported(pid, &error)),
            }
        }
        let is_missing = |pid: &&u32| self.seen.iter().all(|seen| seen.subject.process.pid != **pid);
        match self.wanted.pids.iter().find(is_missing) {
            Some(pid) => Err(ProcessError::NoSuchProcess(*pid).into()),
            None => Ok(()),
        }
    }

    /// Sees who is there in the processes that the last look has found, and nothing more. What cannot be seen whole, as
    /// of a process that has ended, is left out.
    pub fn glance(&mut self) {
        self.seen.iter_mut().for_each(Seen::glance);
    }

    /// Lets the window begin anew with the last look: who came and went before it is not in the next report. How long the
    /// living have been there is kept.
    pub fn begin_anew(&mut self) {
        self.seen.iter_mut().for_each(Seen::begin_anew);
        self.start_ns = self.looked_ns;
    }

    /// Number of processes that this user may not look into. It is not known whether they are Go programs.
    pub fn forbidden(&self) -> u64 {
        self.forbidden
    }

    /// What the last look found, as a report of processes with the mode `scanned`.
    pub fn report(&self, selection: &Selection) -> Report {
        let run = Run {
            tool: describe::tool(),
            window: BootWindow { start_ns: self.start_ns, end_ns: now_ns(), end: SystemTime::now() },
            overhead: report::Overhead::default(),
            untraced: self.untraced.clone(),
        };
        let processes = self.seen.iter().map(|seen| seen.report(self.patterns, selection)).collect();
        run.report(Loss::default(), processes, selection)
    }

    /// Whether the selectors match the process, and it may be a Go program.
    fn is_wanted(&mut self, pid: u32) -> bool {
        match self.wanted.find(pid, &mut self.binaries, wanted::Search::Libraries) {
            Ok(file) => file.is_some(),
            Err(error) => {
                self.forbidden += u64::from(matches!(error, ProcessError::Permission { .. }));
                false
            }
        }
    }

    fn look_at(&mut self, pid: u32, before: &mut HashMap<ProcessKey, Seen>) -> Result<Seen, TargetError> {
        let subject = self.binaries.subject(pid)?;
        // After an exec the process has the same id and start time, but its goroutine ids mean other goroutines.
        let mut before = before.remove(&ProcessKey::of(&subject.process));
        let before = before.as_mut().filter(|before| before.subject.binary.is_same_file(&subject.binary));
        self.untraced.extend(seen::others(&subject));
        Ok(Seen::at(subject, before)?)
    }
}
