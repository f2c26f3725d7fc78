//! google.golang.org/grpc on both sides.

use super::{Library, Row, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["google.golang.org/grpc"], copies: &[], rows: ROWS };

const NOT_READY: &str = "no connection is ready for the call made at {place}: give its context a deadline";
const CALL: &str = "the call made at {place} gets no answer: give its context a deadline";
const STREAM: &str =
    "a gRPC stream{opened} is neither drained nor cancelled: cancel its context, or receive until an error";
const CHANNEL: &str = "a gRPC client connection{opened} is not closed: share one, or defer conn.Close()";
const CLIENTS: &str = "clients keep their connections to the gRPC server{started} open: set MaxConnectionIdle and MaxConnectionAge in its keepalive.ServerParameters";
const GRACEFUL: &str = "calls that do not end keep GracefulStop at {place} waiting: give streams an end, and Stop the server after a while";

const ROWS: &[Row] = &[
    row(".(*pickerWrapper).pick", Cause::Io, NOT_READY),
    row(".(*ClientConn).Invoke", Cause::Io, CALL),
    row(".newClientStream*", Cause::Context, STREAM),
    row(".(*clientStream).*", Cause::Context, STREAM),
    row(".(*Server).GracefulStop", Cause::Cond, GRACEFUL),
    // Both sides write with the same functions, in goroutines that another function has started.
    row("/internal/transport.NewServerTransport*", Cause::Io, CLIENTS),
    row("/internal/transport.(*http2Server).*", Cause::Io, CLIENTS),
    row("/internal/transport.(*http2Client).*", Cause::Io, CHANNEL),
    row("/internal/transport.(*controlBuffer).get", Cause::Io, CHANNEL),
    row("/internal/grpcsync.(*CallbackSerializer).run", Cause::Io, CHANNEL),
    row("/internal/resolver/dns.(*dnsResolver).watcher", Cause::Io, CHANNEL),
    row(".(*addrConn).*", Cause::Io, CHANNEL),
    row(".(*ccBalancerWrapper).watcher", Cause::Io, CHANNEL),
];
