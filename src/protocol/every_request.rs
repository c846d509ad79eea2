//! Every request by its key, for property tests and fuzz targets: decode whatever key came, and encode it again.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AllocateProducerIdsRequest, AlterClientQuotasRequest,
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, AlterPartitionRequest, AlterReplicaLogDirsRequest,
    AlterUserScramCredentialsRequest, ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ControlledShutdownRequest, CreateAclsRequest, CreateDelegationTokenRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeAclsRequest, DescribeClientQuotasRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeDelegationTokenRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, DescribeUserScramCredentialsRequest, ElectLeadersRequest, EndTxnRequest,
    EnvelopeRequest, ExpireDelegationTokenRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaderAndIsrRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, ListTransactionsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    RenewDelegationTokenRequest, SaslAuthenticateRequest, SaslHandshakeRequest, StopReplicaRequest, SyncGroupRequest,
    TxnOffsetCommitRequest, UpdateFeaturesRequest, UpdateMetadataRequest, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::Request;

use super::frame::{self, DecodeError};
use super::shape::ShapeError;

macro_rules! every_request {
    ($($request:ident)*) => {
        /// The keys and the newest version of each.
        pub const KEYS: &[(i16, i16)] = &[$((<$request as Request>::KEY, newest::<$request>())),*];

        /// Decodes the body of request `key` behind the guard, and encodes it again.
        ///
        /// # Errors
        /// [`DecodeError`] if it cannot be decoded, or what was decoded cannot be encoded.
        pub fn decode_and_encode(key: i16, version: i16, body: Bytes) -> Result<Bytes, DecodeError> {
            match key {
                $(<$request as Request>::KEY => through::<$request>(version, body),)*
                _ => Err(ShapeError::UnknownKey(key).into()),
            }
        }

        /// Decodes the response to a request of `key`, and says which request it answers.
        ///
        /// # Errors
        /// [`DecodeError`] if it cannot be decoded.
        pub fn correlation_id(key: i16, version: i16, response: Bytes) -> Result<i32, DecodeError> {
            match key {
                $(<$request as Request>::KEY => frame::decode_response::<$request>(response, version).map(|it| it.0),)*
                _ => Err(ShapeError::UnknownKey(key).into()),
            }
        }
    };
}

every_request! {
    ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest LeaderAndIsrRequest StopReplicaRequest UpdateMetadataRequest ControlledShutdownRequest OffsetCommitRequest OffsetFetchRequest FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest TxnOffsetCommitRequest DescribeAclsRequest CreateAclsRequest DeleteAclsRequest DescribeConfigsRequest AlterConfigsRequest AlterReplicaLogDirsRequest DescribeLogDirsRequest SaslAuthenticateRequest CreatePartitionsRequest CreateDelegationTokenRequest RenewDelegationTokenRequest ExpireDelegationTokenRequest DescribeDelegationTokenRequest DeleteGroupsRequest ElectLeadersRequest IncrementalAlterConfigsRequest AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest OffsetDeleteRequest DescribeClientQuotasRequest AlterClientQuotasRequest DescribeUserScramCredentialsRequest AlterUserScramCredentialsRequest AlterPartitionRequest UpdateFeaturesRequest EnvelopeRequest DescribeClusterRequest DescribeProducersRequest DescribeTransactionsRequest ListTransactionsRequest AllocateProducerIdsRequest ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest
}

const fn newest<T: Request>() -> i16 {
    T::VERSIONS.max
}

fn through<T: Request>(version: i16, body: Bytes) -> Result<Bytes, DecodeError> {
    let request: T = frame::decode(body, version)?;
    let mut out = BytesMut::new();
    request.encode(&mut out, version).map_err(|error| DecodeError::Body(error.to_string()))?;
    Ok(out.freeze())
}
