//! Places in the source, and stacks of them.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::human::imported;

/// The function name of the last frame of a stack whose outer calls are not known, as in Go's own tracebacks.
pub const ELIDED: &str = "...additional frames elided...";

/// A place in the source code of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Name of the function, as Go prints it. Where the name is not known, it is the code's address in the process, in
    /// hexadecimal.
    pub function: String,
    /// Path of the source file, as it was compiled in; `null` where it is not known.
    pub file: Option<String>,
    /// Line in the source file; `null` where it is not known.
    pub line: Option<u32>,
}

/// A place in the source code, and how many goroutines it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountedFrame {
    /// The place in the source code.
    #[serde(flatten)]
    pub frame: Frame,
    /// Number of goroutines that the place concerns.
    pub count: u64,
}

/// The stack of a creator at the `go` statement, and how many goroutines were created from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreationStack {
    /// Calls of the stack, innermost first: the first is the `go` statement, and inlined calls are included. Empty
    /// where the stack could not be read. Where the outer calls are not known, the last frame is
    /// `...additional frames elided...`, without file and line.
    pub frames: Vec<Frame>,
    /// Number of goroutines that were created from this stack in the time that the report covers.
    pub created: u64,
    /// Number of goroutines created from this stack that are alive, or were alive when the process ended.
    pub live: u64,
}

impl Frame {
    /// Whether a pattern matches the function, as it is here or as text shows it (see [`imported`]), or the file and line such
    /// as `/src/hub.go:88`.
    pub fn matches(&self, pattern: &Regex) -> bool {
        let place = || match (&self.file, self.line) {
            (Some(file), Some(line)) => Some(format!("{file}:{line}")),
            (file, _) => file.clone(),
        };
        let shown = imported(&self.function);
        let is_function = pattern.is_match(&self.function) || pattern.is_match(&shown);
        is_function || place().is_some_and(|place| pattern.is_match(&place))
    }

    /// A frame for code whose name is not known. It is named by its address in the process.
    pub fn unnamed(address: u64) -> Frame {
        Frame { function: format!("{address:#x}"), ..Frame::default() }
    }
}
