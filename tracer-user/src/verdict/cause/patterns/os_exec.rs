//! os/exec: child processes that do not end, or that nobody waits for.

use super::{Library, Row, row};
use crate::go::Activity::{ChanReceive, IoWait};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["os/exec"], copies: &[], rows: ROWS };

/// `os.Process`, which os/exec is built on.
pub(super) const PROCESS: Library = Library { paths: &["os"], copies: &[], rows: ROWS_OF_PROCESS };

const COMMAND: &str = "a command{started} is not waited for: call Wait after Start, and cancel its context";
const OUTPUT: &str = "the output of a command{started} stays open: end it (exec.CommandContext), and where what it starts lives longer than it, set its WaitDelay";
const OUTPUT_AWAITED: &str = "the command waited for at {place} has ended, but what it started keeps its output open: set its WaitDelay, or give it files for its output";
const CHILD: &str =
    "the child process waited for at {place} does not end: start it with exec.CommandContext and a deadline";

const ROWS: &[Row] = &[
    row(".(*Cmd).Wait", Cause::Process, OUTPUT_AWAITED).while_in(ChanReceive),
    row(".(*Cmd).Wait", Cause::Process, CHILD),
    row(".*", Cause::Process, OUTPUT).while_in(IoWait),
    row(".*", Cause::Process, COMMAND),
];

const ROWS_OF_PROCESS: &[Row] =
    &[row(".(*Process).Wait", Cause::Process, CHILD), row(".(*Process).wait", Cause::Process, CHILD)];
