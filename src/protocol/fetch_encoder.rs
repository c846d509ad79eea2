//! The Fetch response, v0 to v17, as a list of bytes and file slices: records are never brought into memory for it.
//!
//! All bytes beside the records go into one buffer, which is then cut at the places where records stand. A field that the
//! version lacks is left out, whatever it holds.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::put_compact_len;
use super::payload::{Part, Payload};
use super::records::put_unsigned_varint;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, ProducerId, TopicId};

/// The first flexible version (KIP-482).
const FLEXIBLE: i16 = 12;
/// About what a partition takes without its records, for the buffer's first size.
const PARTITION_LEN: usize = 64;

/// A whole response.
#[derive(Debug, Clone, Default)]
pub struct FetchResponse {
    /// How long the client was or should be throttled, in milliseconds (v1).
    pub throttle_time_ms: i32,
    /// An error of the whole request, for example of its session (v7).
    pub error_code: Option<ErrorCode>,
    /// The fetch session, 0 for none (v7, KIP-227).
    pub session_id: i32,
    /// The topics with what was read.
    pub topics: Vec<FetchTopic>,
    /// Where the leaders named by the partitions are (v16, KIP-951).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The partitions of one topic.
#[derive(Debug, Clone)]
pub struct FetchTopic {
    /// Its name (up to v12).
    pub name: Arc<str>,
    /// Its id (from v13).
    pub id: TopicId,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// What was read of one partition.
#[derive(Debug, Clone)]
pub struct FetchPartition {
    /// The partition's number.
    pub index: i32,
    /// Why nothing was read, or [`ErrorCode::None`].
    pub error_code: ErrorCode,
    /// The high watermark; -1 with an error.
    pub high_watermark: Offset,
    /// The last stable offset (v4); -1 with an error.
    pub last_stable_offset: Offset,
    /// The log start offset (v5); -1 with an error.
    pub log_start_offset: Offset,
    /// For read_committed the aborted transactions among the records, else none (v4).
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica to read from instead, or -1 (v11, KIP-392).
    pub preferred_read_replica: i32,
    /// The records, possibly none.
    pub records: Part,
    /// Where a follower's log parts from the leader's: largest common epoch and its end (v12, KIP-595).
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    /// The leader, if the client asked the wrong broker: id and epoch (v12, KIP-951).
    pub current_leader: Option<(i32, LeaderEpoch)>,
}

impl FetchPartition {
    /// A partition of which nothing could be read.
    pub fn error(index: i32, error_code: ErrorCode) -> Self {
        Self {
            index,
            error_code,
            high_watermark: Offset(-1),
            last_stable_offset: Offset(-1),
            log_start_offset: Offset(-1),
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Part::Bytes(Bytes::new()),
            diverging_epoch: None,
            current_leader: None,
        }
    }
}

/// A transaction whose records a read_committed consumer must skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its first offset.
    pub first_offset: Offset,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker's id.
    pub node_id: i32,
    /// Its host.
    pub host: Arc<str>,
    /// Its port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<Arc<str>>,
}

/// Writes the response with its header.
pub fn encode(correlation_id: i32, version: i16, response: FetchResponse) -> Payload {
    let partitions: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut encoder = Encoder {
        version,
        out: Vec::with_capacity(PARTITION_LEN * (partitions + response.topics.len() + 1)),
        cuts: Vec::with_capacity(partitions),
    };
    encoder.response(correlation_id, response);
    encoder.finish()
}

/// How many bytes [`encode`] makes of `partition` beside its records: what a session may reckon with.
pub fn partition_overhead(version: i16, partition: &FetchPartition) -> usize {
    let mut encoder = Encoder { version, out: Vec::with_capacity(PARTITION_LEN), cuts: Vec::new() };
    encoder.partition(FetchPartition { records: Part::Bytes(Bytes::new()), ..partition.clone() });
    encoder.out.len()
}

struct Encoder {
    version: i16,
    /// Everything but the records.
    out: Vec<u8>,
    /// Records, each with its place in `out`.
    cuts: Vec<(usize, Part)>,
}

impl Encoder {
    fn response(&mut self, correlation_id: i32, response: FetchResponse) {
        self.i32(correlation_id);
        self.no_tags();
        if self.version >= 1 {
            self.i32(response.throttle_time_ms);
        }
        if self.version >= 7 {
            self.i16(response.error_code.map_or(0, ErrorCode::code));
            self.i32(response.session_id);
        }
        self.count(response.topics.len());
        for topic in response.topics {
            self.topic(topic);
        }
        self.endpoints(&response.node_endpoints);
    }

    fn topic(&mut self, topic: FetchTopic) {
        if self.version >= 13 {
            self.out.extend_from_slice(topic.id.as_bytes());
        } else {
            self.string(&topic.name);
        }
        self.count(topic.partitions.len());
        for partition in topic.partitions {
            self.partition(partition);
        }
        self.no_tags();
    }

    fn partition(&mut self, partition: FetchPartition) {
        self.i32(partition.index);
        self.i16(partition.error_code.code());
        self.i64(partition.high_watermark.get());
        if self.version >= 4 {
            self.i64(partition.last_stable_offset.get());
        }
        if self.version >= 5 {
            self.i64(partition.log_start_offset.get());
        }
        if self.version >= 4 {
            self.aborted(partition.aborted_transactions.as_deref());
        }
        if self.version >= 11 {
            self.i32(partition.preferred_read_replica);
        }
        self.count(partition.records.len());
        if !partition.records.is_empty() {
            self.cuts.push((self.out.len(), partition.records));
        }
        if self.version >= FLEXIBLE {
            self.partition_tags(partition.diverging_epoch, partition.current_leader);
        }
    }

    fn aborted(&mut self, aborted: Option<&[AbortedTransaction]>) {
        let Some(aborted) = aborted else { return self.null() };
        self.count(aborted.len());
        for transaction in aborted {
            self.i64(transaction.producer_id.get());
            self.i64(transaction.first_offset.get());
            self.no_tags();
        }
    }

    fn partition_tags(&mut self, diverging: Option<(LeaderEpoch, Offset)>, leader: Option<(i32, LeaderEpoch)>) {
        self.out.push(u8::from(diverging.is_some()) + u8::from(leader.is_some()));
        if let Some((epoch, end_offset)) = diverging {
            self.out.extend_from_slice(&[0, 4 + 8 + 1]);
            self.i32(epoch.get());
            self.i64(end_offset.get());
            self.no_tags();
        }
        if let Some((id, epoch)) = leader {
            self.out.extend_from_slice(&[1, 4 + 4 + 1]);
            self.i32(id);
            self.i32(epoch.get());
            self.no_tags();
        }
    }

    fn endpoints(&mut self, endpoints: &[NodeEndpoint]) {
        if self.version < 16 || endpoints.is_empty() {
            return self.no_tags();
        }
        let mut inner = Self { version: self.version, out: Vec::new(), cuts: Vec::new() };
        inner.count(endpoints.len());
        for endpoint in endpoints {
            inner.i32(endpoint.node_id);
            inner.string(&endpoint.host);
            inner.i32(endpoint.port);
            match &endpoint.rack {
                Some(rack) => inner.string(rack),
                None => inner.out.push(0),
            }
            inner.no_tags();
        }
        self.out.extend_from_slice(&[1, 0]);
        put_unsigned_varint(&mut self.out, u32::try_from(inner.out.len()).unwrap_or(u32::MAX));
        self.out.extend_from_slice(&inner.out);
    }

    fn finish(self) -> Payload {
        let bytes = Bytes::from(self.out);
        let mut parts = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut start = 0;
        for (at, records) in self.cuts {
            parts.push(Part::Bytes(bytes.slice(start..at)));
            parts.push(records);
            start = at;
        }
        if start < bytes.len() {
            parts.push(Part::Bytes(bytes.slice(start..)));
        }
        Payload { parts }
    }

    fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// The length of an array or of bytes.
    fn count(&mut self, count: usize) {
        if self.version >= FLEXIBLE {
            put_compact_len(&mut self.out, count);
        } else {
            self.i32(i32::try_from(count).unwrap_or(i32::MAX));
        }
    }

    /// The length of an array that is null.
    fn null(&mut self) {
        if self.version >= FLEXIBLE { self.out.push(0) } else { self.i32(-1) }
    }

    fn string(&mut self, text: &str) {
        if self.version >= FLEXIBLE {
            put_compact_len(&mut self.out, text.len());
        } else {
            self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    fn no_tags(&mut self) {
        if self.version >= FLEXIBLE {
            self.out.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use kafka_protocol::messages as wire;
    use kafka_protocol::messages::fetch_response as wire_fetch;
    use kafka_protocol::protocol::StrBytes;
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::frame;
    use crate::protocol::payload::FileSlice;

    fn flatten(payload: &Payload) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &payload.parts {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(bytes),
                Part::File(slice) => {
                    let mut bytes = vec![0; slice.len];
                    slice.file.read_exact_at(&mut bytes, slice.position).expect("reads");
                    out.extend_from_slice(&bytes);
                }
            }
        }
        out
    }

    fn on_disk(bytes: &[u8]) -> Part {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"before").expect("writes");
        file.write_all(bytes).expect("writes");
        Part::File(FileSlice { file: Arc::new(file), position: 6, len: bytes.len() })
    }

    type Numbers = (i32, i16, i64, i64, i64, i32);
    type Partition = (Numbers, Option<Vec<(i64, i64)>>, Vec<u8>, bool, Tags);
    type Tags = (Option<(i32, i64)>, Option<(i32, i32)>);

    fn partition() -> impl Strategy<Value = Partition> {
        (any::<Numbers>(), any::<Option<Vec<(i64, i64)>>>(), any::<Vec<u8>>(), any::<bool>(), any::<Tags>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_version_is_what_kafka_protocol_writes(
            top in any::<(i32, i16, i32, i32)>(),
            topics in prop::collection::vec(("[a-z]{0,200}", any::<u128>(), prop::collection::vec(partition(), 0..4)), 0..4),
            endpoints in prop::collection::vec((any::<i32>(), "[a-z]{0,9}", any::<i32>(), any::<Option<bool>>()), 0..3),
        ) {
            for version in 0..=17 {
                let (ours, theirs) = both(version, &top, &topics, &endpoints);
                let expected = frame::encode_response(top.3, version, &theirs).expect("encodes");
                let ours = encode(top.3, version, ours);
                prop_assert_eq!(&flatten(&ours)[..], &expected[..], "version {}", version);
                prop_assert_eq!(ours.len(), expected.len());
            }
        }
    }

    type Topics = [(String, u128, Vec<Partition>)];

    fn both(
        version: i16,
        top: &(i32, i16, i32, i32),
        topics: &Topics,
        endpoints: &[(i32, String, i32, Option<bool>)],
    ) -> (FetchResponse, wire::FetchResponse) {
        let mut ours = FetchResponse {
            throttle_time_ms: top.0,
            error_code: Some(ErrorCode::from_code(top.1)),
            session_id: top.2,
            ..FetchResponse::default()
        };
        let mut theirs = wire::FetchResponse::default().with_throttle_time_ms(top.0);
        if version >= 7 {
            theirs = theirs.with_error_code(ErrorCode::from_code(top.1).code()).with_session_id(top.2);
        }
        for (name, id, partitions) in topics {
            let id = TopicId::from_u128(*id);
            let (our, their): (Vec<_>, Vec<_>) =
                partitions.iter().map(|partition| both_partitions(version, partition)).unzip();
            ours.topics.push(FetchTopic { name: name.as_str().into(), id, partitions: our });
            let name = wire::TopicName(StrBytes::from_string(name.clone()));
            theirs.responses.push(
                wire_fetch::FetchableTopicResponse::default().with_topic(name).with_topic_id(id).with_partitions(their),
            );
        }
        for (id, host, port, rack) in endpoints {
            let rack = rack.map(|long| if long { "rack" } else { "" });
            let endpoint =
                NodeEndpoint { node_id: *id, host: host.as_str().into(), port: *port, rack: rack.map(Arc::from) };
            ours.node_endpoints.push(endpoint);
            let endpoint = wire_fetch::NodeEndpoint::default()
                .with_node_id((*id).into())
                .with_host(StrBytes::from_string(host.clone()))
                .with_port(*port)
                .with_rack(rack.map(StrBytes::from_static_str));
            theirs.node_endpoints.extend((version >= 16).then_some(endpoint));
        }
        (ours, theirs)
    }

    fn both_partitions(
        version: i16,
        (numbers, aborted, records, in_file, (diverging, leader)): &Partition,
    ) -> (FetchPartition, wire_fetch::PartitionData) {
        let ours = FetchPartition {
            index: numbers.0,
            error_code: ErrorCode::from_code(numbers.1),
            high_watermark: Offset(numbers.2),
            last_stable_offset: Offset(numbers.3),
            log_start_offset: Offset(numbers.4),
            aborted_transactions: aborted.as_ref().map(|aborted| {
                aborted
                    .iter()
                    .map(|(id, offset)| AbortedTransaction {
                        producer_id: ProducerId(*id),
                        first_offset: Offset(*offset),
                    })
                    .collect()
            }),
            preferred_read_replica: numbers.5,
            records: if *in_file { on_disk(records) } else { Part::Bytes(records.clone().into()) },
            diverging_epoch: diverging.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end))),
            current_leader: leader.map(|(id, epoch)| (id, LeaderEpoch(epoch))),
        };
        let mut theirs = wire_fetch::PartitionData::default()
            .with_partition_index(numbers.0)
            .with_error_code(ours.error_code.code())
            .with_high_watermark(numbers.2)
            .with_last_stable_offset(numbers.3)
            .with_log_start_offset(numbers.4)
            .with_records(Some(records.clone().into()));
        if version >= 4 {
            theirs.aborted_transactions = aborted.as_ref().map(|aborted| {
                let one = |(id, offset): &(i64, i64)| {
                    wire_fetch::AbortedTransaction::default().with_producer_id((*id).into()).with_first_offset(*offset)
                };
                aborted.iter().map(one).collect()
            });
        }
        if version >= 11 {
            theirs.preferred_read_replica = numbers.5.into();
        }
        if version >= FLEXIBLE {
            if let Some((epoch, end)) = diverging {
                theirs.diverging_epoch.epoch = *epoch;
                theirs.diverging_epoch.end_offset = *end;
            }
            if let Some((id, epoch)) = leader {
                theirs.current_leader.leader_id = (*id).into();
                theirs.current_leader.leader_epoch = *epoch;
            }
        }
        (ours, theirs)
    }
}
