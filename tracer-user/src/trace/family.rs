//! The descendants of a program that was started to be traced: which of them are, and how those are seen from their first
//! instruction on that wait at a gate.

use std::collections::HashSet;
use std::fs::{self, File};
use std::future::pending;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Tracer;
use crate::host::gate::{Gate, Waiting};
use crate::targets::{Children, ReadAhead, TargetError};

/// For how long nobody else may go on while a process has not executed its program. A test may end within milliseconds
/// from then on, and to keep its memory, golife must have nothing else to do at that moment.
const TO_EXECUTE: Duration = Duration::from_millis(20);

/// What happens at the gate.
pub(super) enum AtGate {
    /// A process waits.
    Comes(Waiting),
    /// The file of one that waits was read.
    IsRead(Waiting, Box<ReadAhead>),
}

/// What is to be done about the descendants of a family's root. By default there is no family.
#[derive(Default)]
pub(super) struct Family {
    root: u32,
    children: Children,
    gate: Option<Gate>,
    /// The files of those who wait, which are read on other threads: golife has to follow those who run meanwhile.
    reading: JoinSet<Option<(Waiting, ReadAhead)>>,
    /// Who has just gone on, and until when the next has to wait for its exec.
    executing: Option<(u32, Instant)>,
    /// How many processes of Go's own tools there were that are not traced.
    go_tools: u64,
    /// The test binaries that have run, by their paths: each is in a directory of its own.
    test_binaries: HashSet<PathBuf>,
}

impl Family {
    pub(super) fn new(root: u32, children: Children) -> Family {
        Family { root, children, ..Family::default() }
    }

    pub(super) fn open_gate(&mut self, name: &str) -> io::Result<()> {
        self.gate = Some(Gate::open(name)?);
        Ok(())
    }

    /// Lets everybody go on that waits, and all who come later.
    pub(super) fn close_gate(&mut self) {
        self.gate = None;
        self.reading = JoinSet::new();
    }

    /// What happens next at the gate. The future may be dropped at any time; nothing is lost by that.
    pub(super) async fn next(&mut self) -> AtGate {
        let Some(gate) = &mut self.gate else { return pending().await };
        loop {
            let until = self.executing.map(|(_, until)| until);
            tokio::select! {
                waiting = gate.next() => return AtGate::Comes(waiting),
                read = self.reading.join_next(), if until.is_none() && !self.reading.is_empty() => {
                    if let Some(Ok(Some((waiting, ahead)))) = read {
                        return AtGate::IsRead(waiting, Box::new(ahead));
                    }
                }
                () = async { match until { Some(until) => sleep_until(until).await, None => pending().await } } => {
                    self.executing = None;
                }
            }
        }
    }

    /// Takes note that a process has executed something or has ended.
    pub(super) fn executed(&mut self, pid: u32) {
        self.executing.take_if(|(executing, _)| *executing == pid);
    }

    /// Whether some Go programs of the family are not traced.
    pub(super) fn is_selective(&self) -> bool {
        self.root != 0 && matches!(self.children, Children::None | Children::Tests)
    }

    /// Whether processes that are no Go programs are in the report.
    pub(super) fn lists_all(&self) -> bool {
        self.children == Children::All
    }

    /// How many processes of Go's own tools there were that are not traced.
    pub(super) fn go_tools(&self) -> u64 {
        self.go_tools
    }

    /// How many test binaries have run.
    pub(super) fn test_binaries(&self) -> usize {
        self.test_binaries.len()
    }
}

impl Tracer {
    /// Whether what a process of the family has just executed is not to be traced. The root is what the user has named, so
    /// it is traced whatever it is.
    pub(super) fn leaves_out(&mut self, pid: u32) -> bool {
        let Family { root, children, .. } = self.family;
        let is_go_tool = || {
            File::open(format!("/proc/{pid}/exe")).is_ok_and(|file| self.session.binaries.is_go_tool(&file))
        };
        let is_left_out = pid != root && children.leave_out(is_go_tool);
        let is_first = self.wanted.leave_out(pid, is_left_out);
        self.family.go_tools += u64::from(is_left_out && is_first && children == Children::Tests);
        is_left_out
    }

    /// Begins to read what a process is about to execute, if that belongs to the family. All others go on at once.
    pub(super) fn receive(&mut self, waiting: Waiting) {
        // That it was forked may not have been read yet.
        self.drain_all();
        let is_to_be_traced = self.wanted.names_pid(waiting.pid)
            && !(self.family.is_selective() && self.session.binaries.is_go_tool(&waiting.file));
        if is_to_be_traced {
            self.family.reading.spawn_blocking(move || {
                let path = path_of(&waiting.file).unwrap_or_default();
                let ahead = ReadAhead::read(waiting.file.try_clone().ok()?, &path).ok()?;
                Some((waiting, ahead))
            });
        }
    }

    /// Puts the probes of a program in place that a process of the family is about to execute. Where they cannot be, the
    /// report says so once it has executed it.
    pub(super) fn admit(&mut self, waiting: &Waiting, ahead: ReadAhead) {
        let pid = waiting.pid;
        if self.session.expect(pid, ahead).is_ok() {
            self.family.executing = Some((pid, Instant::now() + TO_EXECUTE));
        }
    }

    /// Counts what a process of the family executes if that is a test binary.
    pub(super) fn count_test_binary(&mut self, pid: u32) {
        if self.wanted.is_family()
            && let Some(traced) = self.session.current(pid)
            && traced.binary().is_test()
        {
            self.family.test_binaries.insert(traced.subject.process.path().to_path_buf());
        }
    }

    /// Remembers for the report that a process of the family is no Go program, if such are to be in it.
    pub(super) fn list_as_untraced(&mut self, pid: u32) {
        if self.family.lists_all()
            && self.wanted.names_pid(pid)
            && let Some(error) = TargetError::no_go(pid)
        {
            self.session.refuse(pid, &error.into());
        }
    }
}

/// The path that leads to an open file, or did when it was opened.
fn path_of(file: &File) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
