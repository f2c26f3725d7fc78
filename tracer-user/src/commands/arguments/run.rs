//! What `golife run` alone can be asked for.

use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};

use super::super::completion;
use super::{Tracing, parse_duration};

/// `golife run`.
#[derive(Debug, Args)]
#[command(mut_arg("duration", |duration| duration.help(
    "Stop tracing after this long, e.g. 30s or 5m; CMD runs on, and golife says with which process id",
)))]
pub struct Run {
    /// How to trace.
    #[command(flatten)]
    pub tracing: Tracing,
    /// Do not keep the memory of CMD and its children after their end. Without this, golife keeps it until it has looked at
    /// what their goroutines wait for, for 50 ms at most. They are not stopped, and their parents hear of the end at once; but
    /// until then files that they had mapped count as in use
    #[arg(long)]
    pub no_hold: bool,
    /// Which of the processes are traced that CMD starts
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Children::Tests)]
    pub children: Children,
    /// How long a goroutine may outlive the test that led to it, and what that has to clean up, in a Go test that CMD is or
    /// starts. One that lives longer has leaked, and so has one that is blocked when its process ends
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub grace: Duration,
    /// Run CMD as this user, with the user's groups, HOME, USER and LOGNAME; golife itself stays who it is. Unless said, that
    /// is who has called sudo, if golife is root by that; root keeps root
    #[arg(long, value_name = "NAME|UID", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// How to see what CMD and its children do. scanned needs no more than the right to read their memory, as in most CI
    /// containers, but knows less: how many goroutines stay, not how many come and go, and `watch` and `proven` are all that
    /// it can tell
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    #[arg(add = completion::command())]
    pub command: Vec<std::ffi::OsString>,
}

/// How `golife run` sees what processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// By probes; where the kernel refuses them, by looks, which is said
    Auto,
    /// By probes, or not at all
    Traced,
    /// By looks into their memory, without probes
    Scanned,
}

/// Which of the processes are traced that CMD starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Children {
    /// None: only CMD itself
    None,
    /// All Go programs but Go's own tools, such as the compiler, which are only counted
    Tests,
    /// All Go programs
    Go,
    /// All Go programs, and what is none is listed as not traced
    All,
}

impl From<Children> for crate::targets::Children {
    fn from(children: Children) -> crate::targets::Children {
        match children {
            Children::None => crate::targets::Children::None,
            Children::Tests => crate::targets::Children::Tests,
            Children::Go => crate::targets::Children::Go,
            Children::All => crate::targets::Children::All,
        }
    }
}
