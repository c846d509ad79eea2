//! What transactional records must have on their side before they are written (KIP-890, part 1): for Produce and
//! TxnOffsetCommit, which ask the coordinator at the transaction's first records in a partition, and in the codes that
//! clients of each version know.

use std::collections::HashMap;

use kafka_protocol::messages::ProduceRequest;

use super::Context;
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::coordinator::txn::verifier::Producer;
use crate::log::verification::Verification;
use crate::protocol::batch::BatchHeader;

/// From these versions on clients know TRANSACTION_ABORTABLE.
const FIRST_PRODUCE_WITH_ABORTABLE: i16 = 11;
const FIRST_COMMIT_WITH_ABORTABLE: i16 = 4;

/// Why a partition's records may not be written: a code, and what to say where that is not the code's own text.
pub type Refusal = (ErrorCode, Option<String>);

/// One transactional partition of a Produce request.
struct Asked<'a> {
    place: (usize, usize),
    topic: &'a str,
    partition: i32,
    header: BatchHeader,
}

/// What each partition of a Produce request has on its side, by its place. Empty for requests without transactions.
#[derive(Debug, Default)]
pub struct Verdicts(HashMap<(usize, usize), Result<Verification, Refusal>>);

impl Verdicts {
    /// What the records at `place` have on their side; nothing is asked of those that belong to no transaction.
    pub fn take(&mut self, place: (usize, usize)) -> Result<Verification, Refusal> {
        if self.0.is_empty() { Ok(Verification::Off) } else { self.0.remove(&place).unwrap_or(Ok(Verification::Off)) }
    }

    fn all(request: &ProduceRequest, error: ErrorCode, message: &str) -> Self {
        let topics = request.topic_data.iter().enumerate();
        let places = topics.flat_map(|(t, topic)| (0..topic.partition_data.len()).map(move |p| (t, p)));
        Self(places.map(|place| (place, Err((error, Some(message.to_owned()))))).collect())
    }
}

/// Whether a partition's records belong to a transaction, by their first batch.
fn transactional(records: Option<&bytes::Bytes>) -> Option<BatchHeader> {
    BatchHeader::read(records?).filter(|header| header.magic == 2 && header.is_transactional())
}

/// Finds the transactional partitions of a request, and has those verified in which the transaction is not open yet
/// (`ReplicaManager.handleProduceAppend`).
pub async fn verify_produce(ctx: &Context, version: i16, request: &ProduceRequest) -> Verdicts {
    let mut asked = asked(request);
    if asked.is_empty() {
        return Verdicts::default();
    }
    let Some(transactional_id) = request.transactional_id.as_deref() else {
        let code = ErrorCode::TransactionalIdAuthorizationFailed;
        return Verdicts::all(request, code, "transactional records come with no transactional id");
    };
    asked.retain(|one| one.header.has_producer_id());
    let Some(first) = asked.first().map(|asked| asked.header) else { return Verdicts::default() };
    let of = |header: &BatchHeader| (header.producer_id, header.producer_epoch);
    if asked.iter().any(|one| of(&one.header) != of(&first)) {
        let code = ErrorCode::InvalidProducerIdMapping;
        return Verdicts::all(request, code, "the transactional records are of more than one producer");
    }
    let producer = Producer { transactional_id, id: first.producer_id, epoch: first.producer_epoch };
    verify_all(ctx, producer, asked, version >= FIRST_PRODUCE_WITH_ABORTABLE).await
}

fn asked(request: &ProduceRequest) -> Vec<Asked<'_>> {
    let mut asked = Vec::new();
    for (t, topic) in request.topic_data.iter().enumerate() {
        for (p, data) in topic.partition_data.iter().enumerate() {
            if let Some(header) = transactional(data.records.as_ref()) {
                asked.push(Asked { place: (t, p), topic: &topic.name, partition: data.index, header });
            }
        }
    }
    asked
}

async fn verify_all(ctx: &Context, producer: Producer<'_>, asked: Vec<Asked<'_>>, knows_abortable: bool) -> Verdicts {
    if !ctx.replica_manager.verifies_transactions() {
        return Verdicts::default();
    }
    let mut verdicts = Verdicts::default();
    let (mut places, mut partitions) = (Vec::new(), Vec::new());
    for one in asked {
        let begun = ctx
            .replica_manager
            .partition(one.topic, one.partition)
            .and_then(|partition| partition.begin_verification(producer.id, producer.epoch, one.header.base_sequence));
        if matches!(begun, Ok(Verification::Guarded(_))) {
            places.push(one.place);
            partitions.push(TopicPartition::new(one.topic, one.partition));
        }
        verdicts.0.insert(one.place, begun.map_err(|error| (error, None)));
    }
    if !partitions.is_empty() {
        let codes = ctx.txn_verifier.verify(producer, &partitions).await;
        for (place, code) in places.into_iter().zip(codes).filter(|(_, code)| !code.is_none()) {
            verdicts.0.insert(place, Err(produce_refusal(known(code, knows_abortable))));
        }
    }
    verdicts
}

/// Has the partition of `__consumer_offsets` verified in which a transaction is about to commit offsets.
///
/// # Errors
/// What the coordinator says of it.
pub async fn verify_commit(
    ctx: &Context,
    version: i16,
    producer: Producer<'_>,
    tp: TopicPartition,
    begun: Verification,
) -> Result<Verification, ErrorCode> {
    if !matches!(begun, Verification::Guarded(_)) {
        return Ok(begun);
    }
    let code = ctx.txn_verifier.verify(producer, &[tp]).await.first().copied().unwrap_or(ErrorCode::None);
    match known(code, version >= FIRST_COMMIT_WITH_ABORTABLE) {
        ErrorCode::None => Ok(begun),
        // Older clients know how to try this one again (`GroupMetadataManager.maybeConvertOffsetCommitError`).
        ErrorCode::NetworkException => Err(ErrorCode::CoordinatorLoadInProgress),
        error => Err(error),
    }
}

fn known(code: ErrorCode, knows_abortable: bool) -> ErrorCode {
    if code == ErrorCode::TransactionAbortable && !knows_abortable { ErrorCode::InvalidTxnState } else { code }
}

/// What a producer is told. Trouble that passes becomes an error after which every client sends again, without asking for
/// the leader anew.
fn produce_refusal(code: ErrorCode) -> Refusal {
    match code {
        ErrorCode::InvalidTxnState => (code, Some("the partition was not added to the transaction".to_owned())),
        ErrorCode::ConcurrentTransactions
        | ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => {
            let message = format!("it could not be verified that the partition belongs to the transaction: {code}");
            (ErrorCode::NotEnoughReplicas, Some(message))
        }
        code => (code, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_passes_lets_every_client_try_again() {
        for code in [ErrorCode::ConcurrentTransactions, ErrorCode::NetworkException, ErrorCode::NotCoordinator] {
            assert_eq!(produce_refusal(code).0, ErrorCode::NotEnoughReplicas);
        }
        for code in [ErrorCode::InvalidTxnState, ErrorCode::InvalidProducerIdMapping, ErrorCode::InvalidProducerEpoch] {
            assert_eq!(produce_refusal(code).0, code);
        }
        assert_eq!(known(ErrorCode::TransactionAbortable, false), ErrorCode::InvalidTxnState);
        assert_eq!(known(ErrorCode::TransactionAbortable, true), ErrorCode::TransactionAbortable);
    }
}
