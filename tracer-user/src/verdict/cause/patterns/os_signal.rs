//! os/signal: contexts of signals that are not stopped.

use super::{Library, Row, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["os/signal"], copies: &[], rows: ROWS };

const NOTIFY: &str = "a context of signal.NotifyContext{made} is not stopped: defer its stop function";

const ROWS: &[Row] = &[row(".NotifyContext*", Cause::Context, NOTIFY)];
