//! crypto/tls: handshakes that are never finished.

use super::{Library, Row, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["crypto/tls"], copies: &[], rows: ROWS };

const CLIENT: &str = "the TLS handshake at {place} gets no answer: use HandshakeContext, or dial with a tls.Dialer, with a context that has a deadline";
const SERVER: &str = "a client does not finish the TLS handshake at {place}: set a deadline on the connection before (SetDeadline), or use HandshakeContext with a context that has one";
const EITHER: &str =
    "the TLS handshake at {place} is not finished: use HandshakeContext with a context that has a deadline";

const ROWS: &[Row] = &[
    row(".(*Conn).clientHandshake", Cause::Io, CLIENT),
    row(".(*Conn).serverHandshake", Cause::Io, SERVER),
    row(".(*Conn).handshakeContext*", Cause::Io, EITHER),
];
