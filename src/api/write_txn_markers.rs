//! WriteTxnMarkers (27), v0–1: a transaction's coordinator ends it in the partitions led here (KIP-98). Each marker is
//! answered once every in-sync replica has it; offsets that the transaction committed hold by then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::base::topic_names::GROUP_METADATA_TOPIC;
use crate::log::producer_state::Origin;
use crate::protocol::builder::{BatchBuilder, BatchSpec};
use crate::replica::manager::Pending;

/// All in-sync replicas.
const ALL: i16 = -1;

/// One marker of the request, and what becomes of it.
struct Marker {
    producer: ProducerId,
    commit: bool,
    result: WritableTxnMarkerResult,
}

/// Where in the answer a partition stands: marker, topic, partition.
type Place = (usize, usize, usize);

/// Writes the markers, waits for the replicas, completes what groups committed.
pub async fn handle(ctx: &Context, _call: &Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let (mut markers, mut waiting) = (Vec::with_capacity(request.markers.len()), Vec::new());
    for marker in &request.markers {
        let batch = batch(marker, ctx.clock.now_ms());
        let at = markers.len();
        markers.push(append(ctx, marker, batch, |t, p, pending| waiting.push(((at, t, p), pending))));
    }
    if !waiting.is_empty() {
        wait(ctx, &mut markers, waiting).await;
    }
    markers.iter().for_each(|marker| complete(ctx, marker));
    WriteTxnMarkersResponse::default().with_markers(markers.into_iter().map(|marker| marker.result).collect())
}

/// The control batch of a marker (`MemoryRecords.withEndTransactionMarker`): the key holds a version and what kind of end
/// it is, the value a version and the coordinator's epoch.
fn batch(marker: &WritableTxnMarker, now_ms: i64) -> Option<Bytes> {
    let spec = BatchSpec {
        producer_id: ProducerId(marker.producer_id.0),
        producer_epoch: ProducerEpoch(marker.producer_epoch),
        transactional: true,
        control: true,
        ..BatchSpec::default()
    };
    let key = [0, 0, 0, u8::from(marker.transaction_result)];
    let mut value = [0; 6];
    value[2..].copy_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mut batch = BatchBuilder::new(spec);
    batch.append(now_ms, Some(&key), Some(&value));
    batch.build().ok().map(|(_, bytes)| bytes)
}

/// Appends a marker to each of its partitions; `wait` is told of those that the replicas do not have yet.
fn append(
    ctx: &Context,
    marker: &WritableTxnMarker,
    batch: Option<Bytes>,
    mut wait: impl FnMut(usize, usize, Pending),
) -> Marker {
    let mut result = WritableTxnMarkerResult::default().with_producer_id(marker.producer_id);
    for (t, topic) in marker.topics.iter().enumerate() {
        let mut rows = Vec::with_capacity(topic.partition_indexes.len());
        for (p, &index) in topic.partition_indexes.iter().enumerate() {
            let error = match append_one(ctx, &topic.name, index, batch.clone()) {
                Ok(None) => ErrorCode::None,
                Ok(Some(pending)) => {
                    wait(t, p, pending);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            let row = WritableTxnMarkerPartitionResult::default().with_partition_index(index);
            rows.push(row.with_error_code(error.code()));
        }
        let topic = WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(rows);
        result.topics.push(topic);
    }
    Marker { producer: ProducerId(marker.producer_id.0), commit: marker.transaction_result, result }
}

fn append_one(ctx: &Context, topic: &str, partition: i32, batch: Option<Bytes>) -> Result<Option<Pending>, ErrorCode> {
    let batch = batch.ok_or(ErrorCode::UnknownServerError)?;
    // A partition without a log here is unknown, whoever leads it (`ReplicaManager.getMagic`): the coordinator looks again.
    let hosted = ctx.replica_manager.partition(topic, partition).ok().filter(|partition| partition.log().is_some());
    let partition = hosted.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let result = ctx.replica_manager.append_to(&partition, batch, Origin::Coordinator, ALL, LeaderEpoch::NONE);
    if result.error.is_none() { Ok(result.pending) } else { Err(result.error) }
}

async fn wait(ctx: &Context, markers: &mut [Marker], waiting: Vec<(Place, Pending)>) {
    let (places, pending): (Vec<Place>, Vec<Pending>) = waiting.into_iter().unzip();
    let timeout = Duration::from_millis(u64::try_from(ctx.config.request_timeout_ms).unwrap_or(0));
    let results = ctx.replica_manager.wait_replicated(&pending, timeout).await;
    for ((m, t, p), result) in places.into_iter().zip(results) {
        if let Err(error) = result {
            markers[m].result.topics[t].partitions[p].error_code = error.code();
        }
    }
}

/// Tells the group coordinator of the markers that are in partitions of the offsets topic.
fn complete(ctx: &Context, marker: &Marker) {
    let topics = marker.result.topics.iter().filter(|topic| **topic.name == *GROUP_METADATA_TOPIC);
    for row in topics.flat_map(|topic| &topic.partitions).filter(|row| row.error_code == ErrorCode::None.code()) {
        let groups = Arc::clone(&ctx.groups);
        groups.on_transaction_completed(row.partition_index, marker.producer, marker.commit);
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProducerId as WireProducerId;

    use super::*;
    use crate::protocol::batch::{BatchHeader, HEADER_LEN, crc_is_valid};

    #[test]
    fn a_marker_is_what_the_original_writes() {
        let marker = WritableTxnMarker::default()
            .with_producer_id(WireProducerId(7))
            .with_producer_epoch(3)
            .with_transaction_result(true)
            .with_coordinator_epoch(0x0102_0304);
        let bytes = batch(&marker, 1_000).expect("a batch");
        assert!(crc_is_valid(&bytes));
        let header = BatchHeader::read(&bytes).expect("a header");
        assert_eq!((header.attributes, header.base_sequence, header.record_count), (0x30, -1, 1));
        assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(7), ProducerEpoch(3)));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_000));
        // Length 16, attributes, deltas 0; a key of 4 bytes; a value of 6; no header. Lengths are zigzag.
        let record = [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 1, 2, 3, 4, 0];
        assert_eq!(&bytes[HEADER_LEN..], &record);
    }
}
