//! context: the goroutine that waits for the end of a parent context whose type the package does not know.

use super::{Library, Row, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["context"], copies: &[], rows: ROWS };

const FOREIGN: &str = "a context{made} derives from one of another type and is never cancelled: defer its cancel function where it is made";

const ROWS: &[Row] = &[
    row(".(*cancelCtx).propagateCancel.*", Cause::Context, FOREIGN),
    row(".propagateCancel.*", Cause::Context, FOREIGN),
];
