//! Places in the source, and stacks of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the last frame of a stack whose outer calls are not known, as in Go's own tracebacks.
pub const ELIDED: &str = "...additional frames elided...";

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Function, as Go prints it; its address where the name is not known.
    pub function: String,
    /// Path as compiled in.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
}

/// A frame and how many goroutines it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountedFrame {
    /// The frame.
    #[serde(flatten)]
    pub frame: Frame,
    /// How many.
    pub count: u64,
}

/// A creator's stack at the `go` statement, and how many goroutines came from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreationStack {
    /// Innermost first: the `go` statement, inlined frames included; empty where the stack could not be read. Where outer calls
    /// are not known, the last is `...additional frames elided...`, without file and line.
    pub frames: Vec<Frame>,
    /// Created since tracing began.
    pub created: u64,
    /// Of those, the living.
    pub live: u64,
}

impl Frame {
    /// Stands for code whose name is not known: its address, as it was loaded in the process.
    pub fn unnamed(address: u64) -> Frame {
        Frame { function: format!("{address:#x}"), ..Frame::default() }
    }
}
