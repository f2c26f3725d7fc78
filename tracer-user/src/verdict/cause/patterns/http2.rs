//! HTTP/2, on both sides: golang.org/x/net/http2, and the copies of it that net/http has. These are in net/http itself
//! under names that begin with `http2`, and from Go 1.27 on in a package of their own.

use super::{Library, Row, row};
use crate::go::Activity::{IoWait, Select};
use crate::report::Cause;
use crate::verdict::waits::HttpClients::Asking;

pub(super) const LIBRARY: Library = Library {
    paths: &["golang.org/x/net/http2", "net/http/internal/http2"],
    copies: &[("net/http.(*http2", ".(*"), ("net/http.http2", ".")],
    rows: ROWS,
};

const BODY: &str = "a request{made} got a response whose body is neither read to its end nor closed: defer response.Body.Close() after every successful request";
const NO_ANSWER: &str =
    "a request{made} gets no answer: set http.Client.Timeout, or give it a context with a deadline";
const ASKED: &str = "the request made at {place} gets no answer: set http.Client.Timeout, or give it a context with a deadline";
const NO_CONNECTION: &str =
    "the request made at {place} gets no connection: give it a context with a deadline";
const DIAL: &str = "nobody answers the connection dialled for a request{made}: give it a context with a deadline, and dial with a Timeout";
const IDLE_CLIENT: &str = "connections{opened} stay open after their requests: share one Transport instead of making one a request, or set its IdleConnTimeout";
const IDLE_SERVER: &str =
    "clients keep their HTTP/2 connections open: set ReadTimeout and IdleTimeout of the http.Server{started}";
const UNREAD: &str =
    "a client does not read what is sent to it from {place}: set WriteTimeout of the http.Server";
const UNREAD_FRAMES: &str =
    "clients do not read what is sent to them: set WriteTimeout of the http.Server{started}";
const NO_BODY: &str = "the rest of the body read at {place} does not come: give the request a context with a deadline, on a server set ReadTimeout";

const ROWS: &[Row] = &[
    row(".(*pipe).Read", Cause::Io, NO_BODY),
    row(".(*ClientConn).roundTrip", Cause::Io, ASKED).while_in(Select),
    row(".(*ClientConn).*", Cause::Io, IDLE_CLIENT).while_in(IoWait),
    row(".(*clientConnReadLoop).*", Cause::Io, IDLE_CLIENT).while_in(IoWait),
    // A stream has a goroutine until its response is read.
    row(".(*clientStream).*", Cause::Io, NO_ANSWER).where_clients(Asking),
    row(".(*clientStream).*", Cause::HttpBody, BODY),
    row(".(*clientConnPool).*", Cause::Io, NO_CONNECTION),
    row(".(*dialCall).*", Cause::Io, DIAL),
    row(".(*serverConn).writeDataFromHandler", Cause::Io, UNREAD),
    row(".(*serverConn).writeHeaders", Cause::Io, UNREAD),
    row(".(*serverConn).writeFrameAsync", Cause::Io, UNREAD_FRAMES),
    row(".(*serverConn).serve", Cause::Io, IDLE_SERVER).while_in(Select),
    row(".(*serverConn).readFrames", Cause::Io, IDLE_SERVER),
    row(".(*serverConn).readPreface*", Cause::Io, IDLE_SERVER),
];
