//! github.com/IBM/sarama, which was github.com/Shopify/sarama: clients of Kafka that are not closed.

use super::{Library, Row, remedy};

pub(super) const LIBRARY: Library =
    Library { paths: &["github.com/IBM/sarama", "github.com/Shopify/sarama"], copies: &[], rows: ROWS };

const PRODUCER: &str = "a producer{made} is not closed: share one, or read its channels until it is closed";
const CLIENT: &str = "a client{made} is not closed: share one, or close it with what is built on it";

const ROWS: &[Row] = &[
    remedy(".(*asyncProducer).*", PRODUCER).closed_by("AsyncProducer.Close"),
    remedy(".(*topicProducer).*", PRODUCER).closed_by("AsyncProducer.Close"),
    remedy(".(*partitionProducer).*", PRODUCER).closed_by("AsyncProducer.Close"),
    remedy(".(*brokerProducer).*", PRODUCER).closed_by("AsyncProducer.Close"),
    remedy(".(*syncProducer).handle*", PRODUCER).closed_by("SyncProducer.Close"),
    remedy(".(*client).backgroundMetadataUpdater", CLIENT).closed_by("Client.Close"),
    remedy(".(*Broker).responseReceiver", CLIENT).closed_by("Client.Close"),
];
