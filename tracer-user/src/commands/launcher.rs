//! What runs in the place of a test binary: it waits until golife has put the probes into that, and becomes it.
//!
//! `go test -exec` and `go run -exec` start it, because golife has told them so in `GOFLAGS`. It starts for each test binary,
//! so it does nothing else, and knows nothing of the command line. Whatever goes wrong, the program is executed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::goflags::{self, FLAGS, GATE, Told};
use crate::host::gate;

/// Becomes the program that the arguments begin with, if this was started for that. `go` passes a path, which is none of
/// golife's subcommands.
pub fn become_program() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().filter(|program| program.as_encoded_bytes().contains(&b'/'))?;
    let is_in_flags = || env::var(FLAGS).is_ok_and(|flags| flags.contains("-exec="));
    if env::var_os(GATE).is_none() && !is_in_flags() {
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    let told = env::var(GATE).ok().and_then(|text| Told::read(&text));
    let mut command = match foreign(env::var_os("GOOS"), env::var_os("GOARCH")) {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(&program);
            command
        }
        None => {
            if let Some(told) = &told
                && let Ok(file) = File::open(&program)
            {
                let _ = gate::pass(&told.gate, &file);
            }
            Command::new(&program)
        }
    };
    // A test finds the environment that it would have without golife. Another program may be one that runs tests.
    let is_test = arguments.iter().any(|argument| argument.as_encoded_bytes().starts_with(b"-test."));
    if let Some(told) = told.filter(|told| is_test && env::var(FLAGS).is_ok_and(|flags| flags == told.flags))
    {
        command.env_remove(GATE);
        match told.flags_before {
            Some(before) => command.env(FLAGS, before),
            None => command.env_remove(FLAGS),
        };
    }
    let error = command.args(arguments).exec();
    super::say(&format!("golife: cannot run {}: {error}", program.display()));
    Some(ExitCode::from(if error.kind() == ErrorKind::NotFound { 127 } else { 126 }))
}

/// What runs programs of another system or CPU, if there is something. `go` looks for it by this name where it has no
/// `-exec`.
fn foreign(system: Option<OsString>, cpu: Option<OsString>) -> Option<OsString> {
    let or =
        |given: Option<OsString>, own: &str| given.filter(|given| !given.is_empty()).unwrap_or(own.into());
    let own = (OsString::from("linux"), OsString::from(goflags::CPU));
    let wanted = (or(system, "linux"), or(cpu, goflags::CPU));
    if wanted == own {
        return None;
    }
    let name = [OsStr::new("go"), &wanted.0, &wanted.1, OsStr::new("exec")].join(OsStr::new("_"));
    let path = env::var_os("PATH")?;
    env::split_paths(&path).any(|directory| is_there(&directory.join(&name))).then_some(name)
}

fn is_there(path: &Path) -> bool {
    path.is_file()
}
