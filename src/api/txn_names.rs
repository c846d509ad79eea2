//! What the handlers of transactions share.

use std::collections::BTreeSet;

use kafka_protocol::messages::ProducerId as WireProducerId;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;

use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::coordinator::txn::state::Producer;

/// A producer as a request names it.
pub fn producer(id: WireProducerId, epoch: i16) -> Producer {
    Producer::new(id.0, epoch)
}

/// Every partition of these topics.
pub fn partitions(topics: &[AddPartitionsToTxnTopic]) -> BTreeSet<TopicPartition> {
    let mut out = BTreeSet::new();
    for topic in topics {
        let name: std::sync::Arc<str> = topic.name.as_str().into();
        out.extend(topic.partitions.iter().map(|&index| TopicPartition::new(std::sync::Arc::clone(&name), index)));
    }
    out
}

/// Clients from before KIP-588 do not know `ProducerFenced`: to versions below `first` it is the error they do know.
pub fn for_version(error: ErrorCode, version: i16, first: i16) -> ErrorCode {
    if error == ErrorCode::ProducerFenced && version < first { ErrorCode::InvalidProducerEpoch } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_get_the_error_they_know() {
        assert_eq!(for_version(ErrorCode::ProducerFenced, 1, 2), ErrorCode::InvalidProducerEpoch);
        assert_eq!(for_version(ErrorCode::ProducerFenced, 2, 2), ErrorCode::ProducerFenced);
        assert_eq!(for_version(ErrorCode::InvalidTxnState, 0, 2), ErrorCode::InvalidTxnState);
    }
}
