//! github.com/robfig/cron: schedulers that are not stopped.

use super::{Library, Row, closed};

pub(super) const LIBRARY: Library = Library { paths: &["github.com/robfig/cron"], copies: &[], rows: ROWS };

const ROWS: &[Row] = &[closed(".(*Cron).run", "Cron.Stop")];
