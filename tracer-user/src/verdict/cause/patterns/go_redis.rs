//! github.com/redis/go-redis, which was github.com/go-redis/redis: subscriptions that are not closed.

use super::{Library, Row, closed, remedy};

pub(super) const LIBRARY: Library =
    Library { paths: &["github.com/redis/go-redis", "github.com/go-redis/redis"], copies: &[], rows: ROWS };

const SUBSCRIPTION: &str =
    "the subscription read at {place} goes on: call PubSub.Close, or give the context of its reads an end";

const ROWS: &[Row] = &[
    closed(".(*channel).init*", "PubSub.Close"),
    // The program reads itself.
    remedy(".(*PubSub).Receive*", SUBSCRIPTION),
];
