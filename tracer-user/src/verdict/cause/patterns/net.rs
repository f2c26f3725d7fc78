//! net: connections that are dialled or accepted, and names that are looked up.

use super::{Library, Row, row};
use crate::go::Activity::{IoWait, Select};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["net"], copies: &[], rows: ROWS };

const DIAL: &str = "nobody answers the connection dialled at {place}: dial with a Timeout, or with a context that has a deadline";
const LISTENER: &str = "the listener that accepts at {place} is not closed: close it when its server ends";
const LOOKUP: &str =
    "the name looked up at {place} gets no answer: look it up with a context that has a deadline";

const ROWS: &[Row] = &[
    row(".(*netFD).connect", Cause::Io, DIAL).while_in(IoWait),
    row(".(*netFD).accept", Cause::Io, LISTENER).while_in(IoWait),
    row(".(*Resolver).*", Cause::Io, LOOKUP).while_in(Select),
];
