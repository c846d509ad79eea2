//! The table of Kafka's error codes (`Errors.java` of 3.9): code, whether a client may retry, and what it means.

/// Declares [`ErrorCode`] from one line for each code.
macro_rules! error_codes {
    ($($code:literal $name:ident $retriable:literal $text:literal;)*) => {
        /// An error as the wire knows it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $text] $name = $code,)*
        }

        impl ErrorCode {
            /// Whether a client may send the same request again.
            pub const fn is_retriable(self) -> bool {
                match self { $(Self::$name => $retriable,)* }
            }

            /// What it means, in one sentence without a full stop.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The error for a code read off the wire; an unknown code reads as [`ErrorCode::UnknownServerError`].
            pub const fn from_code(code: i16) -> Self {
                match code { $($code => Self::$name,)* _ => Self::UnknownServerError }
            }
        }
    };
}

error_codes! {
    -1 UnknownServerError false "something unexpected went wrong on the broker";
    0 None false "no error";
    1 OffsetOutOfRange false "the offset lies outside the partition's log";
    2 CorruptMessage true "the records fail their CRC, have a wrong size, or lack a key on a compacted topic";
    3 UnknownTopicOrPartition true "this broker does not host that topic or partition";
    4 InvalidFetchSize false "the fetch size is not valid";
    5 LeaderNotAvailable true "the partition has no leader at the moment";
    6 NotLeaderOrFollower true "this broker is not the leader, or not a replica, of that partition";
    7 RequestTimedOut true "the request timed out";
    8 BrokerNotAvailable false "the broker is not available";
    9 ReplicaNotAvailable true "the replica is not available";
    10 MessageTooLarge false "the records are larger than max.message.bytes allows";
    11 StaleControllerEpoch false "a newer controller has been elected";
    12 OffsetMetadataTooLarge false "the metadata of the committed offset is longer than offset.metadata.max.bytes";
    13 NetworkException true "the connection broke before an answer came";
    14 CoordinatorLoadInProgress true "the coordinator is still loading its partition";
    15 CoordinatorNotAvailable true "the coordinator is not available";
    16 NotCoordinator true "this broker is not the coordinator";
    17 InvalidTopicException false "the topic's name is not valid, or the topic may not be written to";
    18 RecordListTooLarge false "the batch is larger than a segment may be";
    19 NotEnoughReplicas true "fewer replicas are in sync than min.insync.replicas asks for";
    20 NotEnoughReplicasAfterAppend true "the records were written, but to fewer in-sync replicas than min.insync.replicas asks for";
    21 InvalidRequiredAcks false "acks must be 0, 1 or -1 (all)";
    22 IllegalGeneration false "the group has moved on to another generation";
    23 InconsistentGroupProtocol false "the member shares no protocol with the group";
    24 InvalidGroupId false "the group id is not valid";
    25 UnknownMemberId false "the group does not know this member";
    26 InvalidSessionTimeout false "the session time-out is outside group.min.session.timeout.ms and group.max.session.timeout.ms";
    27 RebalanceInProgress false "the group is rebalancing: join again";
    28 InvalidCommitOffsetSize false "the offset commit is too large";
    29 TopicAuthorizationFailed false "not authorized for the topic";
    30 GroupAuthorizationFailed false "not authorized for the group";
    31 ClusterAuthorizationFailed false "not authorized for the cluster";
    32 InvalidTimestamp false "the record's timestamp lies too far from the broker's clock";
    33 UnsupportedSaslMechanism false "the SASL mechanism is not enabled here";
    34 IllegalSaslState false "the request does not fit the state of the SASL exchange";
    35 UnsupportedVersion false "that version of the request, or what it asks for, is not supported";
    36 TopicAlreadyExists false "a topic of that name exists already";
    37 InvalidPartitions false "the number of partitions is not valid";
    38 InvalidReplicationFactor false "the replication factor is below 1 or above the number of brokers";
    39 InvalidReplicaAssignment false "the replica assignment is not valid";
    40 InvalidConfig false "a config is not valid";
    41 NotController true "this broker is not the controller";
    42 InvalidRequest false "the request is malformed or contradicts itself";
    43 UnsupportedForMessageFormat false "the partition's message format does not allow that";
    44 PolicyViolation false "a policy of this cluster forbids that";
    45 OutOfOrderSequenceNumber false "the producer's sequence number does not follow the last one";
    46 DuplicateSequenceNumber false "the producer's sequence number was seen before";
    47 InvalidProducerEpoch false "the producer's epoch is older than the one known";
    48 InvalidTxnState false "the transaction's state does not allow that";
    49 InvalidProducerIdMapping false "the producer id does not belong to that transactional id";
    50 InvalidTransactionTimeout false "the transaction time-out is above transaction.max.timeout.ms";
    51 ConcurrentTransactions false "another operation on the same transaction is under way";
    52 TransactionCoordinatorFenced false "the transaction coordinator that sent this is no longer in charge";
    53 TransactionalIdAuthorizationFailed false "not authorized for the transactional id";
    54 SecurityDisabled false "security is not enabled";
    55 OperationNotAttempted false "not attempted, because another part of the request failed";
    56 KafkaStorageError true "the log directory failed";
    57 LogDirNotFound false "no such log directory on this broker";
    58 SaslAuthenticationFailed false "authentication failed";
    59 UnknownProducerId false "the broker knows nothing of that producer id any more";
    60 ReassignmentInProgress false "a reassignment of the partition is under way";
    61 DelegationTokenAuthDisabled false "delegation tokens are not enabled";
    62 DelegationTokenNotFound false "no such delegation token";
    63 DelegationTokenOwnerMismatch false "not the owner or a renewer of the token";
    64 DelegationTokenRequestNotAllowed false "delegation tokens cannot be managed over this kind of connection";
    65 DelegationTokenAuthorizationFailed false "not authorized for the delegation token";
    66 DelegationTokenExpired false "the delegation token has expired";
    67 InvalidPrincipalType false "that type of principal is not supported";
    68 NonEmptyGroup false "the group still has members";
    69 GroupIdNotFound false "no such group";
    70 FetchSessionIdNotFound true "no such fetch session";
    71 InvalidFetchSessionEpoch true "the epoch of the fetch session does not follow the last one";
    72 ListenerNotFound true "the leader has no listener of that name";
    73 TopicDeletionDisabled false "delete.topic.enable is false";
    74 FencedLeaderEpoch true "the leader epoch in the request is older than the broker's";
    75 UnknownLeaderEpoch true "the leader epoch in the request is newer than the broker's";
    76 UnsupportedCompressionType false "the client's version cannot read that compression";
    77 StaleBrokerEpoch false "the request was meant for an earlier life of this broker";
    78 OffsetNotAvailable true "the new leader does not know its high watermark yet";
    79 MemberIdRequired false "join again with the member id in this answer";
    80 PreferredLeaderNotAvailable true "the preferred leader is not available";
    81 GroupMaxSizeReached false "the group has group.max.size members already";
    82 FencedInstanceId false "another member took over that group.instance.id";
    83 EligibleLeadersNotAvailable true "no replica may become leader at the moment";
    84 ElectionNotNeeded true "the partition has the wanted leader already";
    85 NoReassignmentInProgress false "no reassignment of the partition is under way";
    86 GroupSubscribedToTopic false "the group is still subscribed to the topic";
    87 InvalidRecord false "a record fails the broker's checks";
    88 UnstableOffsetCommit true "offsets of an open transaction are pending";
    89 ThrottlingQuotaExceeded true "the quota for such requests is used up";
    90 ProducerFenced false "a newer producer with the same transactional id has taken over";
    91 ResourceNotFound false "no such resource";
    92 DuplicateResource false "the same resource is named twice";
    93 UnacceptableCredential false "the credential does not meet the requirements";
    94 InconsistentVoterSet false "the sender or the receiver is not one of the voters";
    95 InvalidUpdateVersion false "the update version is not valid";
    96 FeatureUpdateFailed false "the feature could not be updated";
    97 PrincipalDeserializationFailure false "the forwarded principal could not be read";
    98 SnapshotNotFound false "no such snapshot";
    99 PositionOutOfRange false "the position lies outside the snapshot";
    100 UnknownTopicId true "no topic of that id here";
    101 DuplicateBrokerRegistration false "that broker id is registered already";
    102 BrokerIdNotRegistered false "that broker id is not registered";
    103 InconsistentTopicId true "the topic id does not match the one in the log";
    104 InconsistentClusterId false "the cluster id does not match this cluster's";
    105 TransactionalIdNotFound false "no such transactional id";
    106 FetchSessionTopicIdError true "the fetch session mixes requests with and without topic ids";
    107 IneligibleReplica false "a replica proposed for the ISR may not join it";
    108 NewLeaderElected false "the request elected a new leader";
    109 OffsetMovedToTieredStorage false "the offset was moved to remote storage";
    110 FencedMemberEpoch false "the member's epoch is fenced by the group coordinator";
    111 UnreleasedInstanceId false "another member still holds that instance id";
    112 UnsupportedAssignor false "the assignor is not supported";
    113 StaleMemberEpoch false "the member's epoch is stale";
    114 MismatchedEndpointType false "the request went to an endpoint of the wrong type";
    115 UnsupportedEndpointType false "that endpoint type is not supported";
    116 UnknownControllerId false "no such controller";
    117 UnknownSubscriptionId false "no such telemetry subscription";
    118 TelemetryTooLarge false "the telemetry is larger than allowed";
    119 InvalidRegistration false "the registration is not valid";
    120 TransactionAbortable false "the transaction must be aborted";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether this is no error at all.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn every_code_reads_back() {
        for code in -1..=120 {
            assert_eq!(ErrorCode::from_code(code).code(), code);
        }
        assert_eq!(ErrorCode::from_code(12_345), ErrorCode::UnknownServerError);
    }
}
