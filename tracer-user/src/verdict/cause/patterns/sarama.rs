//! github.com/IBM/sarama, which was github.com/Shopify/sarama: clients of Kafka that are not closed.

use super::{Library, Row, closed};

pub(super) const LIBRARY: Library =
    Library { paths: &["github.com/IBM/sarama", "github.com/Shopify/sarama"], copies: &[], rows: ROWS };

const ROWS: &[Row] = &[
    closed(".(*asyncProducer).*", "AsyncProducer.Close"),
    closed(".(*topicProducer).*", "AsyncProducer.Close"),
    closed(".(*partitionProducer).*", "AsyncProducer.Close"),
    closed(".(*brokerProducer).*", "AsyncProducer.Close"),
    closed(".(*syncProducer).handle*", "SyncProducer.Close"),
];
