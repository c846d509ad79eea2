//! Fetch (1), v0–17: what sessions and partitions give becomes a list of bytes and file slices; no record byte is read
//! here, but for clients that need an older format. Lets go of the request's frame before it waits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId};
use crate::config::topic::CompressionType;
use crate::log::partition_log::ReadUpTo;
use crate::network::Outcome;
use crate::protocol::convert;
use crate::protocol::fetch_encoder::{
    self, AbortedTransaction, FetchPartition, FetchResponse, FetchTopic, NodeEndpoint,
};
use crate::protocol::payload::{FileSlice, Part};
use crate::replica::fetch_session::{FIRST_TOPIC_ID_VERSION, FetchContext, FetchSpec, FetchTarget, Outline};
use crate::replica::manager::{FetchParams, FetchResult};
use crate::replica::metadata_cache::MetadataSnapshot;
use crate::replica::partition::ReadRules;

const READ_COMMITTED: i8 = 1;
/// From this version on an answer may pass the limit with one batch.
const FIRST_WITH_SOFT_LIMIT: i16 = 3;
/// From this version on clients read batches of magic 2.
const FIRST_WITH_MAGIC_2: i16 = 4;
/// From this version on clients know KAFKA_STORAGE_ERROR.
const FIRST_WITH_STORAGE_ERROR: i16 = 6;
/// From this version on clients read zstd (KIP-110).
const FIRST_WITH_ZSTD: i16 = 10;
/// From this version on followers may answer consumers (KIP-392).
const FIRST_FROM_FOLLOWERS: i16 = 11;
const FIRST_WITH_REPLICA_STATE: i16 = 15;
/// The most that the records of one partition may become when they are converted.
const MAX_CONVERTED_BYTES: usize = 128 << 20;
/// From this version on the answer names the new leader (KIP-951).
const FIRST_WITH_LEADER: i16 = 16;

/// Takes the request into its session, reads, waits if there is too little, answers.
pub async fn handle(ctx: &Context, mut call: Call) -> Outcome {
    let request: FetchRequest = match call.decode() {
        Ok(request) => request,
        Err(outcome) => return outcome,
    };
    let version = call.version();
    // Neither of them may keep the read buffer while the fetch waits.
    call.header.client_id = None;
    let params = params(ctx, &call, &request);
    let spec = spec(ctx, request, version);
    let correlation_id = call.header.correlation_id;
    let now_ms = ctx.clock.now_ms();
    let mut context = match ctx.fetch_sessions.begin(spec, now_ms) {
        Ok(context) => context,
        Err(error) => return failed(correlation_id, version, error),
    };
    resolve_names(ctx, &mut context.targets);
    let mut results = ctx.replica_manager.fetch_messages(&params, &context.targets).await;
    ctx.replica_manager.note_served(&params, &context.targets, &results);
    let converted = adapt(ctx, version, &context.targets, &mut results).await;
    answer(ctx, &call, context, results, converted)
}

fn failed(correlation_id: i32, version: i16, error: ErrorCode) -> Outcome {
    let response = FetchResponse { error_code: Some(error), ..FetchResponse::default() };
    Outcome::Reply(fetch_encoder::encode(correlation_id, version, response))
}

fn params(ctx: &Context, call: &Call, request: &FetchRequest) -> FetchParams {
    let version = call.version();
    let (replica_id, replica_epoch) = if version >= FIRST_WITH_REPLICA_STATE {
        (request.replica_state.replica_id.0, request.replica_state.replica_epoch)
    } else {
        (request.replica_id.0, BrokerEpoch::NONE.get())
    };
    let from_follower = replica_id >= 0;
    let max_bytes = ctx.replica_manager.bounded_max_bytes(request.max_bytes);
    let up_to = match (replica_id, request.isolation_level) {
        // A consumer is -1; a debugging one, -2, sees what a follower sees.
        (-1, READ_COMMITTED) => ReadUpTo::LastStableOffset,
        (-1, _) => ReadUpTo::HighWatermark,
        _ => ReadUpTo::LogEnd,
    };
    FetchParams {
        replica_id: BrokerId(replica_id),
        replica_epoch: BrokerEpoch(replica_epoch),
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        hard_max_bytes: version < FIRST_WITH_SOFT_LIMIT,
        rules: ReadRules { up_to, only_leader: from_follower || version < FIRST_FROM_FOLLOWERS },
        client: (version >= FIRST_FROM_FOLLOWERS && !from_follower)
            .then(|| (request.rack_id.to_string(), Arc::clone(&call.connection.listener))),
    }
}

/// What the session needs of the request, in memory of its own.
fn spec(ctx: &Context, request: FetchRequest, version: i16) -> FetchSpec {
    let by_id = version >= FIRST_TOPIC_ID_VERSION;
    let name_of = |name: &str| -> Arc<str> {
        if by_id { Arc::from("") } else { ctx.replica_manager.topic_key(name).unwrap_or_else(|| Arc::from(name)) }
    };
    let follower =
        if version >= FIRST_WITH_REPLICA_STATE { request.replica_state.replica_id } else { request.replica_id };
    let mut targets = Vec::with_capacity(request.topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in &request.topics {
        let name = name_of(&topic.topic);
        targets.extend(topic.partitions.iter().map(|p| FetchTarget {
            topic: Arc::clone(&name),
            topic_id: topic.topic_id,
            partition: p.partition,
            fetch_offset: Offset(p.fetch_offset),
            max_bytes: p.partition_max_bytes,
            current_leader_epoch: LeaderEpoch(p.current_leader_epoch),
            last_fetched_epoch: LeaderEpoch(p.last_fetched_epoch),
            log_start_offset: Offset(p.log_start_offset),
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name = name_of(&topic.topic);
        forgotten.extend(topic.partitions.iter().map(|&p| (Arc::clone(&name), topic.topic_id, p)));
    }
    FetchSpec {
        version,
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        from_follower: follower.0 >= 0,
        targets,
        forgotten,
    }
}

/// Gives targets named by id the names they have now; what stays empty is answered with UNKNOWN_TOPIC_ID.
fn resolve_names(ctx: &Context, targets: &mut [FetchTarget]) {
    if targets.iter().all(|target| target.topic_id.is_nil()) {
        return;
    }
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let mut last: Option<(TopicId, Arc<str>)> = None;
    for target in targets.iter_mut().filter(|target| !target.topic_id.is_nil()) {
        let name = match &last {
            Some((id, name)) if *id == target.topic_id => Arc::clone(name),
            _ => snapshot.topic_name(target.topic_id).cloned().unwrap_or_else(|| Arc::from("")),
        };
        last = Some((target.topic_id, Arc::clone(&name)));
        target.topic = name;
    }
}

/// Makes the results fit an old client: records in the format it reads, errors it knows. Returns the records that had to
/// be converted, by place.
async fn adapt(
    ctx: &Context,
    version: i16,
    targets: &[FetchTarget],
    results: &mut [FetchResult],
) -> Vec<Option<Bytes>> {
    if version >= FIRST_WITH_ZSTD {
        return Vec::new();
    }
    let mut converted = vec![None; results.len()];
    for ((target, result), converted) in targets.iter().zip(results).zip(&mut converted) {
        if result.error == ErrorCode::KafkaStorageError && version < FIRST_WITH_STORAGE_ERROR {
            result.error = ErrorCode::NotLeaderOrFollower;
        }
        let Some(slice) = result.read.as_ref().and_then(|read| read.log.data.clone()) else { continue };
        let settings = ctx.replica_manager.configs().get(&target.topic);
        let config = &settings.topic;
        let outcome = if config.compression_type == CompressionType::Zstd {
            Err(ErrorCode::UnsupportedCompressionType)
        } else if version >= FIRST_WITH_MAGIC_2 {
            Ok(None)
        } else if !config.message_downconversion_enable {
            Err(ErrorCode::UnsupportedVersion)
        } else {
            down_convert(slice, version, target.fetch_offset).await.map(Some)
        };
        match outcome {
            Ok(bytes) => *converted = bytes,
            Err(error) => *result = FetchResult { error, read: None },
        }
    }
    converted
}

/// Reads the records and writes them anew in the format that clients of `version` read.
async fn down_convert(slice: FileSlice, version: i16, fetch_offset: Offset) -> Result<Bytes, ErrorCode> {
    let work = move || {
        let mut bytes = vec![0; slice.len];
        std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.position)
            .map_err(|_| ErrorCode::KafkaStorageError)?;
        let magic = convert::magic_for_fetch(version);
        if !convert::needs_down_conversion(&bytes, magic) {
            return Ok(Bytes::from(bytes));
        }
        convert::down_convert(&bytes, magic, fetch_offset, MAX_CONVERTED_BYTES).map_err(|error| error.code())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ErrorCode::UnknownServerError))
}

fn answer(
    ctx: &Context,
    call: &Call,
    context: FetchContext,
    results: Vec<FetchResult>,
    mut converted: Vec<Option<Bytes>>,
) -> Outcome {
    let (version, correlation_id) = (call.version(), call.header.correlation_id);
    let outlines: Vec<Outline> = results.iter().map(outline).collect();
    let mut keep = vec![true; results.len()];
    let targets: Vec<(Arc<str>, TopicId, i32)> =
        context.targets.iter().map(|t| (Arc::clone(&t.topic), t.topic_id, t.partition)).collect();
    let head = ctx.fetch_sessions.finish(context, &outlines, &mut keep, ctx.clock.now_ms());
    if !head.error.is_none() {
        return failed(correlation_id, version, head.error);
    }
    let mut leaders = Leaders { ctx, listener: &call.connection.listener, snapshot: None, nodes: Vec::new() };
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (at, ((name, id, index), result)) in targets.into_iter().zip(results).enumerate() {
        if !keep[at] {
            continue;
        }
        let mut partition = partition(index, result, converted.get_mut(at).and_then(Option::take));
        if version >= FIRST_WITH_LEADER && is_about_leader(partition.error_code) {
            partition.current_leader = leaders.find(&name, index);
        }
        match topics.last_mut().filter(|topic| topic.id == id && topic.name == name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic { name, id, partitions: vec![partition] }),
        }
    }
    let response = FetchResponse {
        throttle_time_ms: 0,
        error_code: None,
        session_id: head.session_id,
        topics,
        node_endpoints: leaders.nodes,
    };
    Outcome::Reply(fetch_encoder::encode(correlation_id, version, response))
}

fn outline(result: &FetchResult) -> Outline {
    let unknown = Offset::UNKNOWN;
    let read = result.read.as_ref();
    Outline {
        error: result.error,
        bytes: read.map_or(0, |read| read.bytes()),
        high_watermark: read.map_or(unknown, |read| read.log.high_watermark),
        log_start_offset: read.map_or(unknown, |read| read.log.log_start_offset),
        must_tell: read.is_some_and(|read| read.must_tell()),
    }
}

fn partition(index: i32, result: FetchResult, converted: Option<Bytes>) -> FetchPartition {
    let Some(read) = result.read else { return FetchPartition::error(index, result.error) };
    let records = match (converted, read.log.data) {
        (Some(bytes), _) => Part::Bytes(bytes),
        (None, Some(slice)) => Part::File(slice),
        (None, None) => Part::Bytes(Bytes::new()),
    };
    let aborted = read.log.aborted.map(|aborted| {
        let short = |txn: crate::log::txn_index::AbortedTxn| AbortedTransaction {
            producer_id: txn.producer_id,
            first_offset: txn.first_offset,
        };
        aborted.into_iter().map(short).collect()
    });
    FetchPartition {
        index,
        error_code: ErrorCode::None,
        high_watermark: read.log.high_watermark,
        last_stable_offset: read.log.last_stable_offset,
        log_start_offset: read.log.log_start_offset,
        aborted_transactions: aborted,
        preferred_read_replica: read.preferred.unwrap_or(BrokerId::NONE).get(),
        records,
        diverging_epoch: read.diverging,
        current_leader: None,
    }
}

fn is_about_leader(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)
}

/// Looks up the leaders of partitions that moved, and collects their addresses.
struct Leaders<'a> {
    ctx: &'a Context,
    listener: &'a str,
    snapshot: Option<Arc<MetadataSnapshot>>,
    nodes: Vec<NodeEndpoint>,
}

impl Leaders<'_> {
    fn find(&mut self, topic: &str, partition: i32) -> Option<(i32, LeaderEpoch)> {
        let snapshot = self.snapshot.get_or_insert_with(|| self.ctx.replica_manager.metadata().snapshot());
        let known = snapshot.partition(topic, partition)?;
        let leader = known.leader.get();
        let endpoint = snapshot.endpoint(known.leader, self.listener);
        if let Some(endpoint) = endpoint.filter(|_| self.nodes.iter().all(|node| node.node_id != leader)) {
            let rack = snapshot.broker(known.leader).and_then(|broker| broker.rack.as_deref()).map(Arc::from);
            let host = Arc::from(endpoint.host.as_str());
            self.nodes.push(NodeEndpoint { node_id: leader, host, port: endpoint.port, rack });
        }
        Some((leader, known.leader_epoch))
    }
}
