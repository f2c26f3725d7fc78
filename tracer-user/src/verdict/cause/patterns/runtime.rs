//! What goroutines do in the runtime itself: calls of C code, and iterators of `iter.Pull`.

use super::{Library, Row, row};
use crate::go::Activity::{Coroutine, Syscall};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["runtime"], copies: &[], rows: ROWS };

const PULL: &str = "an iterator{pulled} was not told to stop: defer the stop function that iter.Pull returns";

const ROWS: &[Row] = &[
    row(".cgocall", Cause::Cgo, "").while_in(Syscall),
    row(".coro*", Cause::Other, PULL).while_in(Coroutine),
];
