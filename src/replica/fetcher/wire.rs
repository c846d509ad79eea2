//! A fetcher's requests and their answers as the wire has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    BrokerId as WireBroker, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::session::{SessionRequest, Wanted};
use super::state::Question;
use super::versions::{FETCH_BY_IDS, FETCH_WITH_REPLICA_STATE};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition};

/// One partition of a Fetch answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its error.
    pub error: ErrorCode,
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// The leader's log start, or -1.
    pub log_start_offset: Offset,
    /// Where the logs part: the leader's epoch and its end (KIP-595).
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Records, maybe none.
    pub records: Bytes,
}

/// What all fetches of this broker have in common.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// This broker.
    pub me: BrokerId,
    /// `replica.fetch.wait.max.ms`.
    pub max_wait_ms: i32,
    /// `replica.fetch.min.bytes`.
    pub min_bytes: i32,
    /// `replica.fetch.response.max.bytes`.
    pub max_bytes: i32,
}

fn topic_name(name: &Arc<str>) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}

/// Puts partitions that follow each other in the order of their names into one entry a topic.
fn by_topic<T, G>(
    list: impl IntoIterator<Item = (TopicPartition, T)>,
    same: impl Fn(&G, &TopicPartition, &T) -> bool,
    open: impl Fn(&TopicPartition, &T) -> G,
    add: impl Fn(&mut G, i32, T),
) -> Vec<G> {
    let mut groups: Vec<G> = Vec::new();
    for (tp, item) in list {
        if !groups.last().is_some_and(|group| same(group, &tp, &item)) {
            groups.push(open(&tp, &item));
        }
        if let Some(group) = groups.last_mut() {
            add(group, tp.partition, item);
        }
    }
    groups
}

/// The Fetch request for what the session wants to tell, and its version: `version`, but 12 while a topic has no id.
pub fn fetch_request(
    limits: &FetchLimits,
    broker_epoch: BrokerEpoch,
    session: SessionRequest,
    version: i16,
) -> (FetchRequest, i16) {
    let version = if session.all_have_ids { version } else { version.min(FETCH_BY_IDS - 1) };
    let by_ids = version >= FETCH_BY_IDS;
    let name_of = |name: &Arc<str>| if by_ids { TopicName::default() } else { topic_name(name) };
    let id_of = |id: TopicId| if by_ids { id } else { TopicId::nil() };
    let topics = by_topic(
        session.send,
        |group: &(Arc<str>, FetchTopic), tp, w: &Wanted| group.0 == tp.topic && group.1.topic_id == id_of(w.topic_id),
        |tp, w| {
            let topic = FetchTopic::default().with_topic(name_of(&tp.topic)).with_topic_id(id_of(w.topic_id));
            (Arc::clone(&tp.topic), topic)
        },
        |group, partition, w| group.1.partitions.push(fetch_partition(partition, &w)),
    );
    let forgotten = by_topic(
        session.forget,
        |group: &(Arc<str>, ForgottenTopic), tp, id| group.0 == tp.topic && group.1.topic_id == id_of(*id),
        |tp, id| {
            let topic = ForgottenTopic::default().with_topic(name_of(&tp.topic)).with_topic_id(id_of(*id));
            (Arc::clone(&tp.topic), topic)
        },
        |group, partition, _| group.1.partitions.push(partition),
    );
    let request = FetchRequest::default()
        .with_max_wait_ms(limits.max_wait_ms)
        .with_min_bytes(limits.min_bytes)
        .with_max_bytes(limits.max_bytes)
        .with_session_id(session.session_id)
        .with_session_epoch(session.session_epoch)
        .with_topics(topics.into_iter().map(|(_, topic)| topic).collect())
        .with_forgotten_topics_data(forgotten.into_iter().map(|(_, topic)| topic).collect());
    let me = WireBroker(limits.me.get());
    let request = if version >= FETCH_WITH_REPLICA_STATE {
        let state = ReplicaState::default().with_replica_id(me).with_replica_epoch(broker_epoch.get());
        request.with_replica_state(state)
    } else {
        request.with_replica_id(me)
    };
    (request, version)
}

fn fetch_partition(partition: i32, wanted: &Wanted) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(wanted.leader_epoch.get())
        .with_fetch_offset(wanted.fetch_offset.get())
        .with_last_fetched_epoch(wanted.last_fetched_epoch.unwrap_or(LeaderEpoch::NONE).get())
        .with_log_start_offset(wanted.log_start_offset.get())
        .with_partition_max_bytes(wanted.max_bytes)
}

/// The partitions of a Fetch answer, by name; `asked` gives ids their names. What nobody asked for is left out.
pub fn fetch_response(
    response: FetchResponse,
    version: i16,
    asked: &BTreeMap<TopicPartition, Wanted>,
) -> BTreeMap<TopicPartition, Fetched> {
    let names: BTreeMap<TopicId, &Arc<str>> = match version {
        FETCH_BY_IDS.. => asked.iter().map(|(tp, wanted)| (wanted.topic_id, &tp.topic)).collect(),
        _ => BTreeMap::new(),
    };
    let mut found = BTreeMap::new();
    for topic in response.responses {
        let name = match version {
            FETCH_BY_IDS.. => match names.get(&topic.topic_id) {
                Some(name) => Arc::clone(name),
                None => continue,
            },
            _ => Arc::from(topic.topic.as_str()),
        };
        for p in topic.partitions {
            let diverging = (p.diverging_epoch.epoch >= 0)
                .then_some((LeaderEpoch(p.diverging_epoch.epoch), Offset(p.diverging_epoch.end_offset)));
            let fetched = Fetched {
                error: ErrorCode::from_code(p.error_code),
                high_watermark: Offset(p.high_watermark),
                log_start_offset: Offset(p.log_start_offset),
                diverging,
                records: p.records.unwrap_or_default(),
            };
            found.insert(TopicPartition::new(Arc::clone(&name), p.partition_index), fetched);
        }
    }
    found
}

/// Asks for one end of the logs: `timestamp` is -1 for the end, -2 for the start.
pub fn list_offsets_request(me: BrokerId, questions: &[Question], timestamp: i64) -> ListOffsetsRequest {
    let topics = by_topic(
        questions.iter().map(|q| (q.topic_partition.clone(), q)),
        |group: &ListOffsetsTopic, tp, _| group.name.as_str() == &*tp.topic,
        |tp, _| ListOffsetsTopic::default().with_name(topic_name(&tp.topic)),
        |group, partition, q| {
            group.partitions.push(
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(q.leader_epoch.get())
                    .with_timestamp(timestamp),
            );
        },
    );
    ListOffsetsRequest::default().with_replica_id(WireBroker(me.get())).with_topics(topics)
}

/// The offsets of a ListOffsets answer.
pub fn list_offsets_response(response: ListOffsetsResponse) -> BTreeMap<TopicPartition, Result<Offset, ErrorCode>> {
    let mut found = BTreeMap::new();
    for topic in response.topics {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        for p in topic.partitions {
            let answer = match ErrorCode::from_code(p.error_code) {
                ErrorCode::None => Ok(Offset(p.offset)),
                error => Err(error),
            };
            found.insert(TopicPartition::new(Arc::clone(&name), p.partition_index), answer);
        }
    }
    found
}

/// Asks where the last epochs end.
pub fn epochs_request(me: BrokerId, questions: &[Question]) -> OffsetForLeaderEpochRequest {
    let topics = by_topic(
        questions.iter().map(|q| (q.topic_partition.clone(), q)),
        |group: &OffsetForLeaderTopic, tp, _| group.topic.as_str() == &*tp.topic,
        |tp, _| OffsetForLeaderTopic::default().with_topic(topic_name(&tp.topic)),
        |group, partition, q| {
            group.partitions.push(
                OffsetForLeaderPartition::default()
                    .with_partition(partition)
                    .with_current_leader_epoch(q.leader_epoch.get())
                    .with_leader_epoch(q.last_epoch.get()),
            );
        },
    );
    OffsetForLeaderEpochRequest::default().with_replica_id(WireBroker(me.get())).with_topics(topics)
}

/// The epochs and their ends of an OffsetForLeaderEpoch answer.
#[allow(clippy::type_complexity)]
pub fn epochs_response(
    response: OffsetForLeaderEpochResponse,
) -> BTreeMap<TopicPartition, Result<(LeaderEpoch, Offset), ErrorCode>> {
    let mut found = BTreeMap::new();
    for topic in response.topics {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        for p in topic.partitions {
            let answer = match ErrorCode::from_code(p.error_code) {
                ErrorCode::None => Ok((LeaderEpoch(p.leader_epoch), Offset(p.end_offset))),
                error => Err(error),
            };
            found.insert(TopicPartition::new(Arc::clone(&name), p.partition), answer);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::fetcher::session::FetchSession;
    use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};

    const LIMITS: FetchLimits = FetchLimits { me: BrokerId(3), max_wait_ms: 500, min_bytes: 1, max_bytes: 1000 };

    fn wanted(id: u128) -> Wanted {
        Wanted {
            topic_id: TopicId::from_u128(id),
            fetch_offset: Offset(5),
            log_start_offset: Offset(1),
            max_bytes: 100,
            leader_epoch: LeaderEpoch(2),
            last_fetched_epoch: Some(LeaderEpoch(1)),
        }
    }

    fn asked(id: u128) -> BTreeMap<TopicPartition, Wanted> {
        [("a", 0), ("a", 1), ("b", 0)]
            .map(|(t, n)| (TopicPartition::new(t, n), wanted(id + u128::from(t.as_bytes()[0]))))
            .into()
    }

    #[test]
    fn versions_name_topics_and_the_follower_their_own_way() {
        for (version, by_id, state) in [(12, false, false), (13, true, false), (15, true, true), (17, true, true)] {
            let asked = asked(7);
            let (request, spoken) = fetch_request(&LIMITS, BrokerEpoch(9), FetchSession::new().build(asked), version);
            assert_eq!((spoken, request.topics.len()), (version, 2));
            assert_eq!(request.topics[0].topic.is_empty(), by_id);
            assert_eq!(!request.topics[0].topic_id.is_nil(), by_id);
            assert_eq!(request.topics[0].partitions.len(), 2);
            let replica = if state { request.replica_state.replica_id.0 } else { request.replica_id.0 };
            assert_eq!(replica, 3);
            assert_eq!(request.replica_state.replica_epoch, if state { 9 } else { -1 });
            let mut bytes = bytes::BytesMut::new();
            kafka_protocol::protocol::Encodable::encode(&request, &mut bytes, version).expect("it fits its version");
        }
    }

    #[test]
    fn without_ids_the_version_is_the_last_with_names() {
        let nameless = [(TopicPartition::new("a", 0), Wanted { topic_id: TopicId::nil(), ..wanted(0) })].into();
        let (request, spoken) = fetch_request(&LIMITS, BrokerEpoch(9), FetchSession::new().build(nameless), 17);
        assert_eq!((spoken, request.topics[0].topic.as_str(), request.replica_id.0), (12, "a", 3));
    }

    #[test]
    fn answers_are_found_by_name() {
        let data = PartitionData::default()
            .with_partition_index(1)
            .with_diverging_epoch(EpochEndOffset::default().with_epoch(4).with_end_offset(8));
        let asked = asked(7);
        let by_id = FetchableTopicResponse::default().with_topic_id(asked[&TopicPartition::new("a", 1)].topic_id);
        let stranger = FetchableTopicResponse::default().with_topic_id(TopicId::from_u128(99));
        let response = FetchResponse::default()
            .with_responses(vec![by_id.with_partitions(vec![data.clone()]), stranger.with_partitions(vec![data])]);
        let found = fetch_response(response, 13, &asked);
        assert_eq!(found.len(), 1);
        let fetched = &found[&TopicPartition::new("a", 1)];
        assert_eq!(fetched.diverging, Some((LeaderEpoch(4), Offset(8))));
    }
}
