//! github.com/fsnotify/fsnotify: watchers that are not closed, or whose events nobody reads.

use super::{Library, Row, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library =
    Library { paths: &["github.com/fsnotify/fsnotify"], copies: &[], rows: ROWS };

const WATCHER: &str = "a Watcher{made} is not closed: share one, or defer watcher.Close()";
const EVENTS: &str =
    "nobody reads what a Watcher{made} has seen: read Events and Errors in one select until they are closed";

const ROWS: &[Row] = &[
    row(".(*inotify).sendEvent", Cause::ChanSend, EVENTS),
    row(".(*shared).sendEvent", Cause::ChanSend, EVENTS),
    row(".(*Watcher).sendEvent", Cause::ChanSend, EVENTS),
    row(".(*inotify).readEvents", Cause::Io, WATCHER),
    row(".(*Watcher).readEvents", Cause::Io, WATCHER),
];
