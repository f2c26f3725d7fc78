//! github.com/nats-io/nats.go: subscriptions that go on, and connections that are not closed.

use super::{Library, Row, closed};

pub(super) const LIBRARY: Library =
    Library { paths: &["github.com/nats-io/nats%2ego"], copies: &[], rows: ROWS };

const ROWS: &[Row] = &[
    closed(".(*Conn).waitForMsgs", "Subscription.Unsubscribe"),
    closed(".(*Conn).readLoop", "Conn.Close"),
    closed(".(*Conn).flusher", "Conn.Close"),
    closed(".(*Conn).doReconnect", "Conn.Close"),
    closed(".(*asyncCallbacksHandler).asyncCBDispatcher", "Conn.Close"),
];
