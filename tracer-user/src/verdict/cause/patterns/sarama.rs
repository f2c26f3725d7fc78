//! github.com/IBM/sarama, which was github.com/Shopify/sarama: clients of Kafka that are not closed.

use super::{Library, Row, closed, remedy};

pub(super) const LIBRARY: Library =
    Library { paths: &["github.com/IBM/sarama", "github.com/Shopify/sarama"], copies: &[], rows: ROWS };

const CLIENT: &str = "a client of Kafka{made} is not closed: Close it, or the producer or consumer that it was made for, or share one";

const ROWS: &[Row] = &[
    // A SyncProducer is built on an AsyncProducer.
    closed(".(*asyncProducer).*", "the producer's Close"),
    closed(".(*topicProducer).*", "the producer's Close"),
    closed(".(*partitionProducer).*", "the producer's Close"),
    closed(".(*brokerProducer).*", "the producer's Close"),
    closed(".(*syncProducer).handle*", "SyncProducer.Close"),
    closed(".(*partitionConsumer).*", "PartitionConsumer.Close"),
    // It fetches for the consumers of all partitions that a broker leads, as long as there is one.
    closed(".(*brokerConsumer).*", "PartitionConsumer.Close"),
    // A producer or consumer that was made without a client has one of its own.
    remedy(".(*client).backgroundMetadataUpdater", CLIENT),
    remedy(".(*Broker).responseReceiver", CLIENT),
];
