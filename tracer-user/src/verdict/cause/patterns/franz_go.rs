//! github.com/twmb/franz-go: clients of Kafka that are not closed.

use super::{Library, Row, closed};

pub(super) const LIBRARY: Library = Library { paths: &["github.com/twmb/franz-go"], copies: &[], rows: ROWS };

const ROWS: &[Row] = &[
    closed("/pkg/kgo.(*Client).updateMetadataLoop", "Client.Close"),
    closed("/pkg/kgo.(*Client).reapConnectionsLoop", "Client.Close"),
    closed("/pkg/kgo.(*Client).pushMetrics", "Client.Close"),
];
