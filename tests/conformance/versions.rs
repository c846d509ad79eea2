//! Every key and version, and what is none.

use barnabas::api::{advertised, find};
use barnabas::base::error::ErrorCode;
use barnabas::network::Outcome;
use barnabas::protocol::frame;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AllocateProducerIdsRequest, AlterConfigsRequest,
    AlterPartitionReassignmentsRequest, AlterPartitionRequest, AlterReplicaLogDirsRequest, ApiVersionsRequest,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ControlledShutdownRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, ElectLeadersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaderAndIsrRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest,
    ListTransactionsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, StopReplicaRequest, SyncGroupRequest, TxnOffsetCommitRequest,
    UpdateMetadataRequest, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::Request;

use crate::harness::{Broker, flat, text};

/// Sends the default request of each type in each version that the table serves, and decodes the answer. Returns the keys.
macro_rules! all_versions {
    ($broker:expr; $($request:ty),* $(,)?) => {{
        let mut keys = Vec::new();
        $(
            let api = find(<$request>::KEY).unwrap_or_else(|| panic!("key {} is not served", <$request>::KEY));
            for version in api.min_version..=api.max_version {
                $broker.call(version, &<$request>::default()).await;
            }
            keys.push(api.key);
        )*
        keys
    }};
}

#[tokio::test]
async fn every_version_of_every_key_is_answered() {
    let broker = Broker::start().await;
    let mut answered = all_versions!(broker;
        FetchRequest, ListOffsetsRequest, MetadataRequest, LeaderAndIsrRequest, StopReplicaRequest,
        UpdateMetadataRequest, OffsetCommitRequest, OffsetFetchRequest, FindCoordinatorRequest, JoinGroupRequest,
        HeartbeatRequest, LeaveGroupRequest, SyncGroupRequest, DescribeGroupsRequest, ListGroupsRequest,
        ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, DescribeConfigsRequest,
        CreatePartitionsRequest, DeleteGroupsRequest, OffsetDeleteRequest, DescribeClusterRequest,
    ConsumerGroupHeartbeatRequest, ConsumerGroupDescribeRequest, DescribeLogDirsRequest, AlterPartitionRequest, ControlledShutdownRequest, ElectLeadersRequest, AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest, AllocateProducerIdsRequest, AlterConfigsRequest, IncrementalAlterConfigsRequest, OffsetForLeaderEpochRequest, AlterReplicaLogDirsRequest,
        AddPartitionsToTxnRequest, AddOffsetsToTxnRequest, EndTxnRequest, DescribeTransactionsRequest, ListTransactionsRequest,
    DeleteRecordsRequest, WriteTxnMarkersRequest, TxnOffsetCommitRequest, DescribeProducersRequest,
    );
    let api = find(ProduceRequest::KEY).expect("served");
    for version in api.min_version..=api.max_version {
        broker.call(version, &ProduceRequest::default().with_acks(1)).await;
        let silent = broker.outcome(version, &ProduceRequest::default().with_acks(0)).await;
        assert!(matches!(silent, Outcome::NoReply), "acks=0 is not answered");
    }
    answered.push(ProduceRequest::KEY);
    answered.sort_unstable();
    assert_eq!(answered, advertised().map(|api| api.key).collect::<Vec<_>>(), "a key is served but not tried here");
}

#[tokio::test]
async fn api_versions_lists_the_table() {
    let broker = Broker::start().await;
    for version in 0..=4 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request = request.with_client_software_name(text("a-client")).with_client_software_version(text("1.0"));
        }
        let response = broker.call(version, &request).await;
        assert_eq!(response.error_code, 0);
        let listed: Vec<_> = response.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
        let table: Vec<_> = advertised().map(|api| (api.key, api.min_version, api.max_version)).collect();
        assert_eq!(listed, table);
        assert!(response.finalized_features.is_empty() && response.supported_features.is_empty());
    }
    let nameless = broker.call(3, &ApiVersionsRequest::default()).await;
    assert_eq!(nameless.error_code, ErrorCode::InvalidRequest.code());
    assert!(nameless.api_keys.is_empty());
}

#[tokio::test]
async fn a_version_of_api_versions_that_is_too_new_is_answered_in_version_0() {
    let broker = Broker::start().await;
    let mut request = BytesMut::new();
    request.put_i16(18);
    request.put_i16(99);
    request.put_i32(7);
    request.put_i16(-1);
    request.put_u8(0);
    let Outcome::Reply(payload) = broker.raw(request.freeze()).await else { panic!("no answer") };
    let (_, response) = frame::decode_response::<ApiVersionsRequest>(flat(&payload), 0).expect("the v0 answer");
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!((response.api_keys[0].api_key, response.api_keys[0].max_version), (18, 4));
}

#[tokio::test]
async fn what_cannot_be_read_closes_the_connection() {
    let broker = Broker::start().await;
    let header = |key: i16, version: i16| {
        let mut out = BytesMut::new();
        out.put_i16(key);
        out.put_i16(version);
        out.put_i32(7);
        out.put_i16(-1);
        out
    };
    let unknown_key = header(999, 0).freeze();
    let unknown_version = header(3, 13).freeze();
    let mut huge_array = header(3, 1);
    huge_array.put_i32(i32::MAX);
    let short = Bytes::from_static(&[0, 3]);
    let empty_body = header(1, 4).freeze();
    for frame in [unknown_key, unknown_version, huge_array.freeze(), short, empty_body] {
        let outcome = broker.raw(frame).await;
        assert!(matches!(outcome, Outcome::Close(_)), "{outcome:?}");
    }
}

#[tokio::test]
async fn producer_ids_are_given_out() {
    let broker = Broker::start().await;
    let plain = InitProducerIdRequest::default().with_transactional_id(None);
    let first = broker.call(4, &plain).await;
    let second = broker.call(0, &plain).await;
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert_eq!(second.producer_id.0, first.producer_id.0 + 1);
    let half = plain.with_producer_epoch(3);
    assert_eq!(broker.call(4, &half).await.error_code, ErrorCode::InvalidRequest.code());
}
