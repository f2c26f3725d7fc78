//! Package sync, golang.org/x/sync, and the locks of files. Locks before Go 1.20 and wait groups before Go 1.25 have the
//! wait reason `semacquire`.

use super::{Library, Row, row};
use crate::go::Activity::Semacquire;
use crate::report::Cause;

/// golang.org/x/sync, which is built on package sync.
pub(super) const EXTENDED: Library =
    Library { paths: &["golang.org/x/sync"], copies: &[], rows: ROWS_EXTENDED };

pub(super) const LIBRARY: Library = Library { paths: &["sync", "internal/poll"], copies: &[], rows: ROWS };

const ONCE: &str = "sync.Once.Do at {place} waits for itself or for a function that never returns: do not call Do within its own function";
const GROUP: &str =
    "a function of the errgroup waited for at {place} does not return: let each end with the group's context";

const ROWS_EXTENDED: &[Row] = &[
    row("/semaphore.(*Weighted).Acquire", Cause::Semaphore, ""),
    row("/errgroup.(*Group).Wait", Cause::WaitGroup, GROUP),
    row("/errgroup.(*Group).Go", Cause::Semaphore, ""),
];

const ROWS: &[Row] = &[
    row(".(*Once).*", Cause::Mutex, ONCE),
    row(".(*Mutex).*", Cause::Mutex, "").while_in(Semacquire),
    row(".(*RWMutex).*", Cause::Mutex, "").while_in(Semacquire),
    row(".(*WaitGroup).Wait", Cause::WaitGroup, "").while_in(Semacquire),
    row(".(*fdMutex).*", Cause::Io, "").while_in(Semacquire),
];
