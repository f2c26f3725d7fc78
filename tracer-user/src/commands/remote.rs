//! The other end of `golife sweep --hosts`: the golife that was sent to a host. It reads what it is asked for, sweeps, and
//! prints the report as one line.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use clap::Parser;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::alarm;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::arguments::{Cli, Command, Sweep, Targets};
use super::sweep;
use crate::host::ssh::ASK;

/// Most bytes of a request.
const MOST_REQUEST: u64 = 16 << 20;

/// Matches nothing.
const NOTHING: &str = r"[^\s\S]";

/// What a host is asked for, as one line of JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// The arguments of `golife sweep` there.
    pub arguments: Vec<String>,
    /// What stands in the file of `--patterns`.
    pub patterns: Option<String>,
    /// What stands in the file of `--baseline`.
    pub baseline: Option<String>,
    /// After how many seconds it ends, whether anybody still listens or not.
    pub limit_s: u32,
}

/// Sweeps this host for the golife that has started this one. It ends with its standard input, which is when the connection
/// does.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    println!("{ASK}");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().take(MOST_REQUEST).read_line(&mut line).context("cannot read the request")?;
    let request: Request = serde_json::from_str(&line).context("there is no request on standard input")?;
    // Where the network swallows everything, standard input does not end.
    alarm::set(request.limit_s.max(1));
    let now = Arc::new(AtomicBool::new(false));
    let hurry = now.clone();
    std::thread::spawn(move || {
        // One more line means that there is no more time.
        if io::stdin().lock().take(1).read_line(&mut String::new()).is_ok_and(|length| length > 0) {
            hurry.store(true, Ordering::Relaxed);
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        }
        std::process::exit(1);
    });
    let (mut arguments, files) = read(request)?;
    arguments.hosts.asked = Some(now);
    without_missing(&mut arguments.targets)?;
    let ended = sweep::run(&arguments);
    drop(files);
    ended
}

/// The arguments, with the files that they name, which are in memory alone.
fn read(request: Request) -> anyhow::Result<(Sweep, Vec<File>)> {
    let words = ["golife", "sweep"].map(str::to_owned).into_iter().chain(request.arguments);
    let Command::Sweep(mut arguments) = Cli::try_parse_from(words)?.command else {
        anyhow::bail!("the request is none for a sweep");
    };
    let mut files = Vec::new();
    let mut file = |text: String| -> anyhow::Result<PathBuf> {
        let mut file = File::from(memfd_create(c"golife", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(text.as_bytes())?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        files.push(file);
        Ok(path)
    };
    arguments.judging.patterns = request.patterns.map(&mut file).transpose()?;
    arguments.silenced.baseline = request.baseline.map(&mut file).transpose()?;
    Ok((arguments, files))
}

/// Leaves out the executables that this host does not have. That it runs none of them is an answer.
fn without_missing(targets: &mut Targets) -> anyhow::Result<()> {
    let before = targets.exe.len();
    targets.exe.retain(|path| !matches!(path.try_exists(), Ok(false)));
    if targets.exe.len() < before && targets.exe.is_empty() && targets.name.is_empty() {
        // Without any selector, all processes would be wanted.
        targets.name.push(Regex::new(NOTHING)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_command_line_with_its_files() {
        let request = Request {
            arguments: ["--twice=250ms", "--name=^-a b'$", "--ignore=x\ny"].map(str::to_owned).into(),
            baseline: Some("main.f#1\n".into()),
            ..Request::default()
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'), "{line}");
        let again: Request = serde_json::from_str(&line).unwrap();
        assert_eq!(again, request);
        let (arguments, files) = read(again).unwrap();
        assert_eq!((arguments.targets.name[0].as_str(), files.len()), ("^-a b'$", 1));
        assert_eq!(arguments.silenced.ignore[0].as_str(), "x\ny");
        let baseline = arguments.silenced.baseline.unwrap();
        assert_eq!(std::fs::read_to_string(baseline).unwrap(), "main.f#1\n");
        let no_sweep = Request { arguments: vec!["web-1".into()], ..Request::default() };
        assert!(read(no_sweep).is_err());
    }

    #[test]
    fn an_executable_that_a_host_lacks_runs_nowhere_on_it() {
        let targets = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
            let (mut sweep, _) = read(Request { arguments, ..Request::default() }).unwrap();
            without_missing(&mut sweep.targets).unwrap();
            sweep.targets
        };
        let none = targets(&["--exe=/no/such/file"]);
        assert!(none.exe.is_empty() && !none.name[0].is_match("") && !none.name[0].is_match("dockerd"));
        let one = targets(&["--exe=/no/such/file", "--exe=/proc/self/exe"]);
        assert_eq!((one.exe.len(), one.name.len()), (1, 0));
        let named = targets(&["--exe=/no/such/file", "--name=api"]);
        assert_eq!((named.exe.len(), named.name[0].as_str()), (0, "api"));
        assert!(targets(&[]).name.is_empty());
    }
}
