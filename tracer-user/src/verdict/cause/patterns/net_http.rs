//! net/http on both sides, over HTTP/1; what HTTP/2 adds is in `http2`.

use super::{Library, Row, row};
use crate::go::Activity::{ChanReceive, IoWait, Select};
use crate::report::Cause;
use crate::verdict::waits::HttpClients::{Asking, Idle};

pub(super) const LIBRARY: Library = Library { paths: &["net/http"], copies: &[], rows: ROWS };

const BODY: &str = "a request{made} got a response whose body is neither read to its end nor closed: defer response.Body.Close() after every successful request";
const NO_ANSWER: &str =
    "a request{made} gets no answer: set http.Client.Timeout, or give it a context with a deadline";
const ASKED: &str = "the request made at {place} gets no answer: set http.Client.Timeout, or give it a context with a deadline";
const READ: &str = "the rest of the body read at {place} does not come: set http.Client.Timeout, or give the request a context with a deadline";
const NO_CONNECTION: &str = "the request made at {place} gets no connection: close the bodies of those before where MaxConnsPerHost is set, and give it a context with a deadline";
const DIAL: &str = "nobody answers the connection dialled for a request{made}: set Timeout of the net.Dialer whose DialContext its http.Transport has";
const HANDSHAKE: &str = "the TLS handshake for a request{made} gets no answer: set TLSHandshakeTimeout of its http.Transport, which only http.DefaultTransport has by itself";
const IDLE_CLIENT: &str = "connections{opened} stay open after their requests: share one http.Transport instead of making one a request, or set its IdleConnTimeout";
const IDLE_SERVER: &str = "clients keep their connections open: set ReadTimeout, WriteTimeout and IdleTimeout of the http.Server{started}";
const SHUTDOWN: &str = "the http.Server that is shut down at {place} still has connections in use: give Shutdown a context with a deadline, and Close the server after that";
const TEST_SERVER: &str = "an httptest.Server{started} is not closed: defer its Close right after NewServer";

const ROWS: &[Row] = &[
    // The two goroutines of a client's connection.
    row(".(*persistConn).readLoop", Cause::Io, NO_ANSWER).while_in(IoWait).where_clients(Asking),
    row(".(*persistConn).readLoop", Cause::Io, IDLE_CLIENT).while_in(IoWait),
    row(".(*persistConn).readLoop", Cause::HttpBody, BODY),
    row(".(*persistConn).writeLoop", Cause::Io, NO_ANSWER).where_clients(Asking),
    row(".(*persistConn).writeLoop", Cause::Io, IDLE_CLIENT).where_clients(Idle),
    row(".(*persistConn).writeLoop", Cause::HttpBody, BODY),
    // Who makes a request, and who connects for it: one goroutine dials, another one shakes hands.
    row(".(*persistConn).roundTrip", Cause::Io, ASKED).while_in(Select),
    row(".(*Transport).getConn", Cause::Io, NO_CONNECTION).while_in(Select),
    row(".(*bodyEOFSignal).*", Cause::Io, READ).while_in(IoWait),
    row(".(*persistConn).addTLS", Cause::Io, HANDSHAKE).while_in(ChanReceive),
    row(".(*persistConn).addTLS*", Cause::Io, HANDSHAKE).while_in(IoWait),
    row(".(*Transport).dialConn*", Cause::Io, DIAL).while_in(IoWait),
    // Servers.
    row(".(*body).*", Cause::Io, ""),
    row("/httptest.(*Server).*", Cause::Io, TEST_SERVER).while_in(IoWait),
    row(".(*Server).Shutdown", Cause::Io, SHUTDOWN).while_in(Select),
    row(".(*conn).serve", Cause::Io, IDLE_SERVER).while_in(IoWait),
    row(".(*connReader).backgroundRead", Cause::Io, IDLE_SERVER).while_in(IoWait),
];
