//! go.etcd.io/etcd/client: watches and leases that go on.

use super::{Library, Row, remedy};

pub(super) const LIBRARY: Library = Library { paths: &["go.etcd.io/etcd/client"], copies: &[], rows: ROWS };

// One goroutine starts those of all watches of a client. So the line that they go back to is that of the first watch,
// and tells nothing of the others.
const WATCH: &str = "a watch of etcd goes on: cancel the context that Watch was given";
const LEASE: &str = "KeepAlive{called} goes on: cancel the context that it was given, or Revoke the lease";

const ROWS: &[Row] =
    &[remedy(".(*watchGRPCStream).serveSubstream", WATCH), remedy(".(*lessor).keepAliveCtxCloser", LEASE)];
