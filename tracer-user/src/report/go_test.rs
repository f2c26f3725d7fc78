//! What tests leave behind: goroutines that outlive the test which led to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use super::verdict::Cause;
use super::waiting::Waiting;

/// A test of a test binary, or other code of one that starts goroutines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Test {
    /// Import path of the package under test; `null` where it is not known.
    pub package: Option<String>,
    /// Its name as `go test` prints it, such as `TestPool/full`. For code outside of all tests it is `TestMain` or `init`; empty
    /// where it is not known.
    pub test: String,
    /// What it is.
    pub kind: TestKind,
    /// Id of the process that it ran in.
    pub pid: u32,
    /// How often it ran in that process; 0 for what is no test.
    pub runs: u64,
    /// How many of these runs had not ended when the process did or the report was made. Nothing of theirs has leaked.
    pub unfinished: u64,
    /// The goroutines that it has left behind, at most [`Test::MOST_LEAKED`]. One has leaked if it lives longer than the grace
    /// after the end of its test and of what that has to clean up, or is blocked at the end of the process.
    pub leaked: Vec<Leaked>,
    /// Number of goroutines that it has left behind, also of those that are not in `leaked`.
    pub leaked_count: u64,
    /// Number of goroutines that ran or could have run at the end of the process, so that they were about to end. They have
    /// not leaked.
    pub ending: u64,
    /// Number of goroutines that lived and have not leaked: those of tests that had not ended, those that were left behind for
    /// less than the grace by a process that still runs, and those that belong to no test.
    pub living: u64,
}

impl Test {
    /// The most goroutines of a test that a report has one by one.
    pub const MOST_LEAKED: usize = 100;

    /// Whether it has left goroutines behind that are neither ignored nor known.
    pub fn fails(&self) -> bool {
        self.leaked.iter().any(|leaked| !leaked.silenced)
    }
}

/// What starts goroutines in a test binary.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TestKind {
    /// A test function or a subtest.
    Test,
    /// A benchmark function or a part of one.
    Benchmark,
    /// A fuzz function. What it runs for each input is a subtest.
    Fuzz,
    /// An example.
    Example,
    /// `TestMain`, or what else runs before the first test and after the last one.
    TestMain,
    /// What packages do before `main`: `init` functions and variables.
    Init,
    /// It is not known what it goes back to. The runtime itself starts the functions of `time.AfterFunc`, for example.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A goroutine that a test has left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leaked {
    /// Its id.
    pub goid: u64,
    /// The `go` statement that created it.
    pub site: Frame,
    /// Which `go` statement of its function that is, from 1; `null` where it is not known.
    pub ordinal: Option<u32>,
    /// The function that it runs.
    pub entry: Frame,
    /// What it waits for, and where; `null` where nobody could look.
    pub waiting: Option<Waiting>,
    /// What keeps it from ending; `null` where it is not known.
    pub cause: Option<Cause>,
    /// What to do about it, for people to read; `null` where there is no cause.
    pub advice: Option<String>,
    /// For how long it has outlived its test, in nanoseconds.
    pub outlived_ns: u64,
    /// Whether it has ended in the end, while its process ran on.
    pub ended: bool,
    /// Whether its site is ignored, or known from a baseline.
    pub silenced: bool,
}

/// Who has started a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartedBy {
    /// Id of the process of the test.
    pub pid: u32,
    /// Import path of the package under test; `null` where it is not known.
    pub package: Option<String>,
    /// Name of the test.
    pub test: String,
}
