//! Which processes are asked for, as plain values: a command line, a configuration file or a program may make them.

use std::{fmt, path::PathBuf};

use regex::Regex;

/// Which processes are wanted: those that any of these selects.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    /// Processes, by id.
    pub pids: Vec<u32>,
    /// Every process of these executables or libraries, running now or started later.
    pub executables: Vec<PathBuf>,
    /// Every process whose program name matches one of these.
    pub names: Vec<Regex>,
    /// Every Go process of the host.
    pub all: bool,
}

/// Which descendants of a family's root are traced. The root always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Children {
    /// None.
    None,
    /// All Go programs but Go's own tools, which are only counted.
    #[default]
    Tests,
    /// All Go programs.
    Go,
    /// All Go programs; and all others are in the report as processes that are not traced.
    All,
}

impl Children {
    /// Whether a descendant is not traced. Whether it is one of Go's own tools is asked only where that matters.
    pub fn leave_out(self, is_go_tool: impl FnOnce() -> bool) -> bool {
        match self {
            Children::None => true,
            Children::Tests => is_go_tool(),
            Children::Go | Children::All => false,
        }
    }
}

impl Selectors {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.executables.is_empty() && self.names.is_empty() && !self.all
    }
}

/// Writes the selectors as one would type them.
impl fmt::Display for Selectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pids = self.pids.iter().map(|pid| format!("--pid {pid}"));
        let executables = self.executables.iter().map(|path| format!("--exe {}", path.display()));
        let names = self.names.iter().map(|name| format!("--name {name}"));
        let all = self.all.then(|| "--all".to_owned());
        f.write_str(&pids.chain(executables).chain(names).chain(all).collect::<Vec<_>>().join(" "))
    }
}
