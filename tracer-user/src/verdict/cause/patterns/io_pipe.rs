//! io.Pipe: an end that nobody reads, writes or closes.

use super::{Library, Row, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["io"], copies: &[], rows: ROWS };

const READ: &str = "nobody writes to or closes the other end of the io.Pipe read at {place}: close the writer (CloseWithError) on every path";
const WRITE: &str =
    "nobody reads the other end of the io.Pipe written at {place}: read it to its end, or close the reader";

const ROWS: &[Row] = &[row(".(*pipe).read", Cause::Io, READ), row(".(*pipe).write", Cause::Io, WRITE)];
