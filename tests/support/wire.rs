//! A bare, blocking client of the wire protocol, for requests that no client library would send.

use super::{PATIENCE, wait_for};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse,
    ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use std::io::{self, Error, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// What a partition answers while it has no leader here yet: unknown, leader not available, not leader.
const NOT_LED: [i16; 3] = [3, 5, 6];

pub struct Wire {
    pub stream: TcpStream,
    next_correlation: i32,
}

/// What one partition of a Fetch answered.
pub struct Fetched {
    pub error: i16,
    pub high_watermark: i64,
    pub log_start: i64,
    pub records: Bytes,
}

impl Wire {
    /// Connects with time-outs of 20 s.
    pub fn connect(address: &str) -> io::Result<Wire> {
        let mut stream = Err(Error::other("no address"));
        for one in address.to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&one, Duration::from_secs(20));
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Wire { stream, next_correlation: 1 })
    }

    /// Sends a request and waits for its answer; panics when anything fails.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.try_call(version, request).unwrap_or_else(|error| panic!("request {} v{version}: {error}", R::KEY))
    }

    pub fn try_call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    /// Sends without waiting, for requests in a pipeline or without an answer.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<()> {
        let frame = frame(self.next_correlation, version, request);
        self.next_correlation += 1;
        self.stream.write_all(&frame)
    }

    /// The next answer, which must be to an `R`.
    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut body = self.receive_frame()?;
        ResponseHeader::decode(&mut body, R::Response::header_version(version)).map_err(Error::other)?;
        let response = R::Response::decode(&mut body, version).map_err(Error::other)?;
        if body.has_remaining() {
            return Err(Error::other(format!("{} bytes after the answer", body.remaining())));
        }
        Ok(response)
    }

    /// The next frame, without its length.
    pub fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Whether the peer closes the connection (or resets it) before `limit`; bytes it still sends are dropped.
    pub fn closed_within(&mut self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).expect("a time-out");
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }

    pub fn try_metadata(&mut self, topics: &[&str]) -> io::Result<MetadataResponse> {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let topics = topics.iter().map(topic).collect();
        self.try_call(5, &MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false))
    }

    /// Whether every partition of the topic has a leader now.
    pub fn topic_ready(&mut self, topic: &str, partitions: usize) -> bool {
        let Ok(answer) = self.try_metadata(&[topic]) else { return false };
        answer.topics.iter().any(|t| {
            t.error_code == 0 && t.partitions.len() == partitions && t.partitions.iter().all(|p| p.leader_id.0 >= 0)
        })
    }

    /// Creates a topic with one replica and waits until all its partitions are led.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| {
            let value = Some(StrBytes::from_string((*value).to_owned()));
            CreatableTopicConfig::default().with_name(StrBytes::from_string((*name).to_owned())).with_value(value)
        });
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
        let answer = self.call(4, &request);
        assert_eq!(answer.topics[0].error_code, 0, "creating {topic}: {:?}", answer.topics[0].error_message);
        wait_for(&format!("leaders of {topic}"), PATIENCE, || {
            self.topic_ready(topic, partitions as usize).then_some(())
        });
    }

    /// Whether a topic of one replica could be created, or was there.
    pub fn try_create_topic(&mut self, topic: &str, partitions: i32) -> bool {
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(5_000);
        self.try_call(4, &request).is_ok_and(|answer| [0, 36].contains(&answer.topics[0].error_code))
    }

    pub fn delete_topic(&mut self, topic: &str) -> i16 {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(topic)]).with_timeout_ms(30_000);
        self.call(3, &request).responses[0].error_code
    }

    /// Produces an encoded batch; answers the error code and the base offset.
    pub fn produce(&mut self, topic: &str, partition: i32, acks: i16, records: Bytes) -> (i16, i64) {
        let answer = self.call(7, &produce_request(topic, partition, acks, records));
        let partition = &answer.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    /// Appends one record; asks again while the partition has no leader, as clients do; panics on any other error.
    pub fn append(&mut self, topic: &str, partition: i32, value: &str) -> i64 {
        let records = batch(&[value]);
        wait_for(&format!("a leader of {topic}-{partition}"), PATIENCE, || {
            match self.produce(topic, partition, -1, records.clone()) {
                (0, offset) => Some(offset),
                (error, _) => {
                    assert!(NOT_LED.contains(&error), "appending to {topic}-{partition}: error {error}");
                    None
                }
            }
        })
    }

    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, max_bytes: i32) -> Fetched {
        let mut answer = self.call(11, &fetch_request(topic, partition, offset, max_bytes, 0, 0));
        if answer.error_code != 0 || answer.responses.is_empty() {
            return Fetched { error: answer.error_code, high_watermark: -1, log_start: -1, records: Bytes::new() };
        }
        let partition = answer.responses.remove(0).partitions.remove(0);
        Fetched {
            error: partition.error_code,
            high_watermark: partition.high_watermark,
            log_start: partition.log_start_offset,
            records: partition.records.unwrap_or_default(),
        }
    }

    /// All values from `offset` to the high watermark, with their offsets.
    pub fn read_values(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<(i64, String)> {
        let read = self.try_read_values(topic, partition, offset);
        read.unwrap_or_else(|error| panic!("fetching {topic}-{partition} from {offset}: error {error}"))
    }

    /// As [`Wire::read_values`], but answers the error code of a fetch that fails.
    pub fn try_read_values(&mut self, topic: &str, partition: i32, mut offset: i64) -> Result<Vec<(i64, String)>, i16> {
        let mut values = Vec::new();
        loop {
            let fetched = wait_for(&format!("a leader of {topic}-{partition}"), PATIENCE, || {
                Some(self.fetch(topic, partition, offset, 1 << 20)).filter(|f| !NOT_LED.contains(&f.error))
            });
            if fetched.error != 0 {
                return Err(fetched.error);
            }
            if offset >= fetched.high_watermark {
                return Ok(values);
            }
            let before = values.len();
            for (at, value) in decode(fetched.records) {
                if at >= offset {
                    offset = at + 1;
                    values.push((at, value));
                }
            }
            assert!(values.len() > before, "no progress in {topic}-{partition} at {offset}");
        }
    }

    /// ListOffsets: timestamp -1 for the end, -2 for the start.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64) {
        let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer = self.call(2, &request);
        let partition = &answer.topics[0].partitions[0];
        (partition.error_code, partition.offset)
    }
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A whole request frame with its length.
pub fn frame<R: Request>(correlation: i32, version: i16, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("tests")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).expect("a header");
    request.encode(&mut body, version).unwrap_or_else(|error| panic!("encoding {} v{version}: {error}", R::KEY));
    framed(&body)
}

/// `body` behind its length.
pub fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len() + 4);
    frame.put_u32(body.len() as u32);
    frame.put_slice(body);
    frame.freeze()
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

pub fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    max_bytes: i32,
    max_wait_ms: i32,
    min_bytes: i32,
) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(min_bytes)
        .with_max_bytes(max_bytes)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// One uncompressed batch of these values.
pub fn batch(values: &[&str]) -> Bytes {
    batch_of(values, -1, -1, -1)
}

/// As [`batch`], from an idempotent producer when `producer_id` is not -1.
pub fn batch_of(values: &[&str], producer_id: i64, producer_epoch: i16, first_sequence: i32) -> Bytes {
    let now = super::records::now_ms();
    let records: Vec<Record> = values
        .iter()
        .enumerate()
        .map(|(index, value)| Record {
            transactional: false,
            control: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch,
            timestamp_type: TimestampType::Creation,
            timestamp: now,
            offset: index as i64,
            // The encoder begins another batch where these do not follow one another.
            sequence: first_sequence + index as i32,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: IndexMap::new(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, records.iter(), &options).expect("a batch");
    bytes.freeze()
}

/// Offsets and values in a set of uncompressed batches; a torn batch at its end is left out, as clients do.
pub fn decode(mut records: Bytes) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    while records.len() >= 12 {
        let length = 12 + u32::from_be_bytes(records[8..12].try_into().expect("four bytes")) as usize;
        if records.len() < length {
            break;
        }
        let mut one = records.split_to(length);
        for set in RecordBatchDecoder::decode_all(&mut one).expect("batches that decode") {
            for record in set.records {
                let value = record.value.map(|v| String::from_utf8_lossy(&v).into_owned());
                values.push((record.offset, value.unwrap_or_default()));
            }
        }
    }
    values
}
