//! What a shell offers when a value is typed: it asks golife itself, since only that knows which Go processes there are.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use clap::Command;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};

use crate::go::WaitReason;
use crate::host::{RunningProcess, process};
use crate::output::groups::Group;
use crate::targets::Binaries;

/// The variable in which a shell that asks for completions names itself.
const VARIABLE: &str = "COMPLETE";

/// Answers a shell that asks what could be typed next in a command line, and ends golife. Does nothing where none has
/// asked.
pub fn answer(line: fn() -> Command) {
    CompleteEnv::with_factory(line).var(VARIABLE).complete();
}

/// Writes what makes a shell ask.
pub(super) fn write(shell: &str, out: &mut dyn Write) -> io::Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell).ok_or(io::ErrorKind::Unsupported)?;
    shell.write_registration(VARIABLE, "golife", "golife", "golife", out)
}

/// The Go processes that this user may look at, with their commands.
pub(super) fn go_processes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut binaries = Binaries::default();
        let mut is_go = |pid| binaries.find(pid, |_| false).is_ok();
        let pids = process::all().unwrap_or_default().into_iter();
        let pids = pids.filter(|pid| *pid != std::process::id() && is_go(*pid));
        let candidate = |pid: u32| {
            let command = RunningProcess::look(pid).ok()?.command;
            Some(CompletionCandidate::new(pid.to_string()).help(Some(crate::human::clean(&command).into())))
        };
        pids.filter_map(candidate).collect()
    })
}

/// What goroutines can be grouped by.
pub(super) fn groups() -> ArgValueCandidates {
    let candidate =
        |(name, about): (&str, &str)| CompletionCandidate::new(name).help(Some(about.to_owned().into()));
    ArgValueCandidates::new(move || Group::NAMES.map(candidate).into())
}

/// What goroutines can wait for, in the words of Go's traceback.
pub(super) fn states() -> ArgValueCandidates {
    ArgValueCandidates::new(|| WaitReason::texts().map(CompletionCandidate::new).collect())
}

/// Files that may be saved reports.
pub(super) fn reports() -> ArgValueCompleter {
    let may_be_report = |path: &std::path::Path| path.extension().is_some_and(|end| end == "json");
    ArgValueCompleter::new(PathCompleter::file().filter(may_be_report))
}

/// A program of PATH or a path, and after that files.
pub(super) fn command() -> ArgValueCompleter {
    ArgValueCompleter::new(Program)
}

struct Program;

impl ValueCompleter for Program {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, at: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        let mut found = PathCompleter::any().complete(current);
        if at > 0 || current.as_encoded_bytes().contains(&b'/') {
            return found;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let entries =
            std::env::split_paths(&path).filter_map(|directory| directory.read_dir().ok()).flatten();
        let runs = |entry: &std::fs::DirEntry| {
            entry.path().metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        };
        let begins = |name: &OsStr| name.as_encoded_bytes().starts_with(current.as_encoded_bytes());
        let programs = entries.flatten().filter(|entry| begins(&entry.file_name()) && runs(entry));
        let mut programs: Vec<_> = programs.map(|entry| entry.file_name()).collect();
        programs.sort_unstable();
        programs.dedup();
        found.extend(programs.into_iter().map(CompletionCandidate::new));
        found
    }
}
