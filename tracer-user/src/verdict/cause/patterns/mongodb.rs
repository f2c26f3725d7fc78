//! go.mongodb.org/mongo-driver: clients that are not disconnected.

use super::{Library, Row, closed};

pub(super) const LIBRARY: Library =
    Library { paths: &["go.mongodb.org/mongo-driver"], copies: &[], rows: ROWS };

const ROWS: &[Row] = &[
    closed("/x/mongo/driver/topology.(*Server).update", "Client.Disconnect"),
    closed("/x/mongo/driver/topology.(*pool).maintain", "Client.Disconnect"),
    closed("/x/mongo/driver/topology.(*pool).createConnections", "Client.Disconnect"),
];
