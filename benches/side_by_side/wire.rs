//! Requests over plain sockets: as little work as possible, so that the broker is what is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, IncrementalAlterConfigsRequest, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// A topic, where configs are altered.
const TOPIC_RESOURCE: i8 = 2;

/// Versions without compact fields, which both brokers know and which are easy to read.
pub const PRODUCE: i16 = 7;
pub const FETCH: i16 = 11;
const METADATA: i16 = 7;
pub const CREATE_TOPICS: i16 = 4;
const DELETE_TOPICS: i16 = 3;
/// Bytes of a batch before its records.
const BATCH_HEADER: usize = 61;

pub struct Wire {
    pub stream: TcpStream,
}

impl Wire {
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream })
    }

    /// One request and its answer.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.stream.write_all(&frame(request, version)?)?;
        let mut body = self.receive()?;
        if R::Response::header_version(version) > 0 {
            ensure!(body.get_u8() == 0, "tagged fields in a response's header");
        }
        R::Response::decode(&mut body, version)
    }

    /// The next answer, from behind its correlation id.
    pub fn receive(&mut self) -> Result<Bytes> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(Bytes::from(body).slice(4..))
    }

    /// The next answer to a Produce request with one partition; fails if it is an error.
    pub fn receive_produced(&mut self) -> Result<()> {
        check_produced(self.receive()?)
    }

    /// The next answer to a Fetch request for one partition: reads the header and throws the records away inside the
    /// kernel. Returns how many bytes of records there were.
    pub fn receive_fetched(&mut self, topic: &str) -> Result<usize> {
        let mut header = vec![0; 4 + fetch_header_len(topic)];
        self.stream.read_exact(&mut header)?;
        let len = fetched_len(&header[4..])?;
        self.discard(len)?;
        Ok(len)
    }

    /// Throws `len` bytes away without copying them.
    pub fn discard(&mut self, mut len: usize) -> Result<()> {
        while len > 0 {
            // SAFETY: with MSG_TRUNC, TCP throws the bytes away and never touches the buffer, so there need be none.
            let n = unsafe { libc::recv(self.stream.as_raw_fd(), std::ptr::null_mut(), len, libc::MSG_TRUNC) };
            match usize::try_from(n) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(n) => len -= n,
                Err(_) => return Err(std::io::Error::last_os_error().into()),
            }
        }
        Ok(())
    }

    pub fn metadata(&mut self, topics: &[&str]) -> Result<MetadataResponse> {
        let topics = topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic)))).collect();
        self.call(&MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false), METADATA)
    }

    /// Creates topics in one request and returns once all their partitions have leaders.
    pub fn create_topics(&mut self, topics: &[(String, i32)]) -> Result<()> {
        let creatable = topics.iter().map(|(topic, partitions)| {
            CreatableTopic::default().with_name(name(topic)).with_num_partitions(*partitions).with_replication_factor(1)
        });
        self.create(creatable.collect())
    }

    /// Creates a topic of one partition with configs of its own.
    pub fn create_configured(&mut self, topic: &str, configs: &[(&str, &str)]) -> Result<()> {
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        let creatable = CreatableTopic::default().with_name(name(topic)).with_num_partitions(1);
        self.create(vec![creatable.with_replication_factor(1).with_configs(configs.collect())])
    }

    fn create(&mut self, topics: Vec<CreatableTopic>) -> Result<()> {
        let names: Vec<TopicName> = topics.iter().map(|topic| topic.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(|name| &***name).collect();
        let wanted: usize = topics.iter().map(|topic| topic.num_partitions as usize).sum();
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(120_000);
        for topic in self.call(&request, CREATE_TOPICS)?.topics {
            let name = topic.name.as_str();
            ensure!(topic.error_code == 0, "creating {name} failed with error {}", topic.error_code);
        }
        super::process::wait_for("leaders", Duration::from_secs(120), || {
            Ok((led_partitions(&self.metadata(&names)?) == wanted).then_some(()))
        })
    }

    /// Sets one config of a topic.
    pub fn configure(&mut self, topic: &str, key: &str, value: &str) -> Result<()> {
        let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(topic))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        for answer in self.call(&request, 0)?.responses {
            ensure!(answer.error_code == 0, "altering {topic} failed with error {}", answer.error_code);
        }
        Ok(())
    }

    pub fn delete_topic(&mut self, topic: &str) -> Result<()> {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(60_000);
        for answer in self.call(&request, DELETE_TOPICS)?.responses {
            ensure!(answer.error_code == 0, "deleting {topic} failed with error {}", answer.error_code);
        }
        Ok(())
    }
}

pub fn led_partitions(metadata: &MetadataResponse) -> usize {
    let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0).count()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.into()))
}

/// A whole frame with its length.
pub fn frame<R: Request>(request: &R, version: i16) -> Result<Bytes> {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    header.encode(&mut frame, R::header_version(version))?;
    request.encode(&mut frame, version)?;
    let len = i32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    Ok(frame.freeze())
}

/// A Produce request with one batch.
pub fn produce_frame(topic: &str, partition: i32, acks: i16, batch: Bytes) -> Result<Bytes> {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    frame(&request, PRODUCE)
}

pub fn check_produced(mut body: Bytes) -> Result<()> {
    let response = ProduceResponse::decode(&mut body, PRODUCE)?;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.map(|partition| partition.error_code).find(|&code| code != 0) {
        Some(code) => bail!("producing failed with error {code}"),
        None => Ok(()),
    }
}

/// A Fetch request without a session.
pub fn fetch_request(topic: &str, partitions: &[(i32, i64)], max_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    let partitions = partitions.iter().map(|&(partition, offset)| {
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(max_bytes)
    });
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// The bytes of a Fetch response of version 11 for one partition without aborted transactions, up to its records.
fn fetch_header_len(topic: &str) -> usize {
    4 + 4 + 2 + 4 + 4 + (2 + topic.len()) + 4 + (4 + 2 + 8 + 8 + 8 + 4 + 4 + 4)
}

/// Reads such a header; returns the length of the records.
pub fn fetched_len(mut header: &[u8]) -> Result<usize> {
    header.advance(8);
    ensure!(header.get_i16() == 0, "a fetch failed");
    header.advance(8);
    let topic_len = header.get_i16() as usize;
    header.advance(topic_len + 8);
    let code = header.get_i16();
    ensure!(code == 0, "a fetch failed with error {code}");
    header.advance(24);
    ensure!(header.get_i32() <= 0, "aborted transactions where there are none");
    header.advance(4);
    Ok(header.get_i32().max(0) as usize)
}

fn varint_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    ((64 - zigzag.leading_zeros()).max(1) as usize).div_ceil(7)
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}

/// A batch of magic 2 of `count` records without keys, each with a value of `value_len` bytes that begins with `stamp`.
pub fn batch(count: usize, value_len: usize, stamp: u64) -> Result<Bytes> {
    batch_of((0..count).map(|_| None), value_len, stamp)
}

/// As [`batch`], with a key for each record.
pub fn keyed_batch<'a>(keys: impl Iterator<Item = &'a [u8]>, value_len: usize) -> Result<Bytes> {
    batch_of(keys.map(Some), value_len, 0)
}

fn batch_of<'a>(keys: impl Iterator<Item = Option<&'a [u8]>>, value_len: usize, stamp: u64) -> Result<Bytes> {
    let mut out = BytesMut::with_capacity(BATCH_HEADER + keys.size_hint().0 * (value_len + 32));
    out.put_bytes(0, BATCH_HEADER);
    let mut value: Vec<u8> = (0..value_len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    value[..8].copy_from_slice(&stamp.to_be_bytes());
    let mut count = 0_usize;
    for (offset, key) in (0_i64..).zip(keys) {
        let (key_len, key) = (key.map_or(-1, |key| key.len() as i64), key.unwrap_or_default());
        let lens = varint_len(key_len) + key.len() + varint_len(value_len as i64) + value_len;
        put_varint(&mut out, (1 + 1 + varint_len(offset) + lens + 1) as i64);
        out.put_u8(0);
        put_varint(&mut out, 0);
        put_varint(&mut out, offset);
        put_varint(&mut out, key_len);
        out.put_slice(key);
        put_varint(&mut out, value_len as i64);
        out.put_slice(&value);
        put_varint(&mut out, 0);
        count += 1;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    let len = i32::try_from(out.len() - 12)?;
    let mut header = BytesMut::with_capacity(BATCH_HEADER);
    header.put_i64(0);
    header.put_i32(len);
    header.put_i32(-1);
    header.put_u8(2);
    header.put_u32(0);
    header.put_i16(0);
    header.put_i32(count as i32 - 1);
    header.put_i64(now);
    header.put_i64(now);
    header.put_i64(-1);
    header.put_i16(-1);
    header.put_i32(-1);
    header.put_i32(count as i32);
    out[..BATCH_HEADER].copy_from_slice(&header);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &out[21..]) as u32;
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(out.freeze())
}

/// Where the stamp of a one-record batch lies, from the start of the batch.
pub fn stamp_position(value_len: usize) -> usize {
    let body = 1 + 1 + 1 + 1 + varint_len(value_len as i64) + value_len + 1;
    BATCH_HEADER + varint_len(body as i64) + 4 + varint_len(value_len as i64)
}

/// Reads the stamps out of batches of one record and equal length.
pub fn stamps(records: &[u8], batch_len: usize, value_len: usize) -> Result<Vec<u64>> {
    let at = stamp_position(value_len);
    records
        .chunks_exact(batch_len)
        .map(|batch| Ok(u64::from_be_bytes(*batch[at..].first_chunk().context("a stamp")?)))
        .collect()
}
