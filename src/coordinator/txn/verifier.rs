//! Asking a transaction's coordinator whether it knows of a partition in the transaction, before the first records of it
//! are written there (KIP-890, part 1; `AddPartitionsToTxnManager`). Knows no socket: brokers are asked through
//! [`TransactionCoordinators`].

use std::sync::Arc;

use futures::future::BoxFuture;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ProducerId as WireProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tracing::{debug, warn};

use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, ProducerEpoch, ProducerId, TopicPartition};
use crate::base::topic_names::TRANSACTION_STATE_TOPIC;
use crate::coordinator::partitioner;
use crate::replica::metadata_cache::MetadataCache;

/// The first AddPartitionsToTxn that can ask without adding.
pub const FIRST_TO_VERIFY: i16 = 4;

/// What a broker says when it is asked.
#[derive(Debug)]
pub enum Answer {
    /// Its answer.
    Answered(AddPartitionsToTxnResponse),
    /// It knows no AddPartitionsToTxn that only asks, as brokers before 3.5.
    Unsupported,
    /// None came, for this reason.
    Lost(String),
}

/// The way to the brokers that coordinate transactions.
pub trait TransactionCoordinators: Send + Sync {
    /// Sends a request of version 4 or later to `broker`.
    fn ask(&self, broker: BrokerId, request: AddPartitionsToTxnRequest) -> BoxFuture<'_, Answer>;
}

/// Whose transaction it is.
#[derive(Debug, Clone, Copy)]
pub struct Producer<'a> {
    /// Its `transactional.id`.
    pub transactional_id: &'a str,
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// Finds coordinators and asks them.
pub struct TxnVerifier {
    metadata: Arc<MetadataCache>,
    coordinators: Arc<dyn TransactionCoordinators>,
}

impl TxnVerifier {
    /// A verifier that finds coordinators in `metadata`.
    pub fn new(metadata: Arc<MetadataCache>, coordinators: Arc<dyn TransactionCoordinators>) -> Self {
        Self { metadata, coordinators }
    }

    /// Asks whether each of `partitions` belongs to the producer's open transaction. One code for each, `None` for those
    /// that do, and for all where the coordinator cannot tell.
    pub async fn verify(&self, producer: Producer<'_>, partitions: &[TopicPartition]) -> Vec<ErrorCode> {
        let Some(coordinator) = self.coordinator(producer.transactional_id) else {
            return vec![ErrorCode::CoordinatorNotAvailable; partitions.len()];
        };
        match self.coordinators.ask(coordinator, request(producer, partitions)).await {
            Answer::Answered(response) => verdicts(producer.transactional_id, partitions, &response),
            Answer::Unsupported => {
                debug!("broker {coordinator} cannot verify transactions: they are taken as they come");
                vec![ErrorCode::None; partitions.len()]
            }
            Answer::Lost(why) => {
                warn!("transactions could not be verified with broker {coordinator}: {why}");
                vec![ErrorCode::NetworkException; partitions.len()]
            }
        }
    }

    /// The broker that coordinates the transactions of that id, if it lives.
    fn coordinator(&self, transactional_id: &str) -> Option<BrokerId> {
        let snapshot = self.metadata.snapshot();
        let count = i32::try_from(snapshot.partition_count(TRANSACTION_STATE_TOPIC)?).ok()?;
        let partition = partitioner::partition_for(transactional_id, count);
        let leader = snapshot.partition(TRANSACTION_STATE_TOPIC, partition)?.leader;
        snapshot.broker(leader).map(|_| leader)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn request(producer: Producer<'_>, partitions: &[TopicPartition]) -> AddPartitionsToTxnRequest {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for tp in partitions {
        match topics.iter_mut().find(|topic| **topic.name == *tp.topic) {
            Some(topic) => topic.partitions.push(tp.partition),
            None => topics.push(
                AddPartitionsToTxnTopic::default()
                    .with_name(TopicName(text(&tp.topic)))
                    .with_partitions(vec![tp.partition]),
            ),
        }
    }
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(TransactionalId(text(producer.transactional_id)))
        .with_producer_id(WireProducerId(producer.id.get()))
        .with_producer_epoch(producer.epoch.get())
        .with_verify_only(true)
        .with_topics(topics);
    AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
}

/// What the coordinator says of each partition, in the codes that producers know.
fn verdicts(
    transactional_id: &str,
    partitions: &[TopicPartition],
    response: &AddPartitionsToTxnResponse,
) -> Vec<ErrorCode> {
    let whole = ErrorCode::from_code(response.error_code);
    if !whole.is_none() {
        warn!("a coordinator refuses to verify the transaction of {transactional_id}: {whole}");
        // That brokers may not ask each other is nothing that a producer could understand.
        let told = if whole == ErrorCode::ClusterAuthorizationFailed { ErrorCode::InvalidTxnState } else { whole };
        return vec![told; partitions.len()];
    }
    let results = response.results_by_transaction.iter().filter(|one| **one.transactional_id == *transactional_id);
    let topics: Vec<_> = results.flat_map(|one| &one.topic_results).collect();
    let verdict = |tp: &TopicPartition| {
        let rows =
            topics.iter().filter(|topic| **topic.name == *tp.topic).flat_map(|topic| &topic.results_by_partition);
        let code = rows.into_iter().find(|row| row.partition_index == tp.partition)?.partition_error_code;
        Some(match ErrorCode::from_code(code) {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            code => code,
        })
    };
    // What is not answered was not refused (as the original has it).
    partitions.iter().map(|tp| verdict(tp).unwrap_or(ErrorCode::None)).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    };

    use super::*;

    fn answer(rows: &[(&str, i32, ErrorCode)]) -> AddPartitionsToTxnResponse {
        let topics = rows.iter().map(|(topic, partition, error)| {
            let row = AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(error.code());
            AddPartitionsToTxnTopicResult::default()
                .with_name(TopicName(text(topic)))
                .with_results_by_partition(vec![row])
        });
        let result = AddPartitionsToTxnResult::default()
            .with_transactional_id(TransactionalId(text("id")))
            .with_topic_results(topics.collect());
        AddPartitionsToTxnResponse::default().with_results_by_transaction(vec![result])
    }

    #[test]
    fn a_question_names_each_topic_once() {
        let partitions = [TopicPartition::new("a", 0), TopicPartition::new("b", 1), TopicPartition::new("a", 2)];
        let producer = Producer { transactional_id: "id", id: ProducerId(5), epoch: ProducerEpoch(2) };
        let request = request(producer, &partitions);
        let transaction = &request.transactions[0];
        assert!(transaction.verify_only);
        assert_eq!((transaction.producer_id.0, transaction.producer_epoch), (5, 2));
        let topics: Vec<_> = transaction.topics.iter().map(|t| (t.name.to_string(), t.partitions.clone())).collect();
        assert_eq!(topics, [("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![1])]);
    }

    #[test]
    fn answers_are_told_in_codes_that_producers_know() {
        let partitions = [TopicPartition::new("a", 0), TopicPartition::new("b", 1), TopicPartition::new("c", 0)];
        let response = answer(&[
            ("b", 1, ErrorCode::ProducerFenced),
            ("a", 0, ErrorCode::None),
            ("a", 1, ErrorCode::InvalidTxnState),
        ]);
        let told = verdicts("id", &partitions, &response);
        assert_eq!(told, [ErrorCode::None, ErrorCode::InvalidProducerEpoch, ErrorCode::None]);
        assert_eq!(verdicts("other", &partitions[1..2], &response), [ErrorCode::None]);
        let refused = |code: ErrorCode| {
            let response = AddPartitionsToTxnResponse::default().with_error_code(code.code());
            verdicts("id", &partitions[..1], &response)[0]
        };
        assert_eq!(refused(ErrorCode::ClusterAuthorizationFailed), ErrorCode::InvalidTxnState);
        assert_eq!(refused(ErrorCode::NotCoordinator), ErrorCode::NotCoordinator);
    }
}
