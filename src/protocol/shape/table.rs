//! The wire shape of every request of Kafka 3.9's ZooKeeper mode: one entry for each key, in the order of the keys.
//!
//! A field stands with the versions that have it; without any, all versions of its request have it.

use super::{BYTES, Field, I8, I16, I32, I64, Request, STRING, UUID, list, nested, request, structs};

/// A version no request has: the request never became flexible (KIP-482).
const NEVER: i16 = i16::MAX;

/// The shapes, by key.
pub(super) static REQUESTS: &[Request] = &[
    // Produce
    request(0, 9, &[STRING.since(3), I16, I32, structs(&[STRING, structs(&[I32, BYTES])])]),
    // Fetch
    request(
        1,
        12,
        &[
            I32.until(14),
            I32,
            I32,
            I32.since(3),
            I8.since(4),
            I32.since(7),
            I32.since(7),
            structs(&[
                STRING.until(12),
                UUID.since(13),
                structs(&[I32, I32.since(9), I64, I32.since(12), I64.since(5), I32, UUID.tagged(0, 17)]),
            ]),
            structs(&[STRING.between(7, 12), UUID.since(13), list(I32).since(7)]).since(7),
            STRING.since(11),
            STRING.tagged(0, 12),
            nested(&[I32.since(15), I64.since(15)]).tagged(1, 15),
        ],
    ),
    // ListOffsets
    request(2, 6, &[I32, I8.since(2), structs(&[STRING, structs(&[I32, I32.since(4), I64, I32.until(0)])])]),
    // Metadata
    request(3, 9, &[structs(&[UUID.since(10), STRING]), I8.since(4), I8.between(8, 10), I8.since(8)]),
    // LeaderAndIsr
    request(
        4,
        4,
        &[
            I32,
            I8.since(7),
            I32,
            I64.since(2),
            I8.since(5),
            structs(&[
                STRING.until(1),
                I32,
                I32,
                I32,
                I32,
                list(I32),
                I32,
                list(I32),
                list(I32).since(3),
                list(I32).since(3),
                I8.since(1),
                I8.since(6),
            ])
            .until(1),
            structs(&[
                STRING.since(2),
                UUID.since(5),
                structs(&[
                    STRING.until(1),
                    I32,
                    I32,
                    I32,
                    I32,
                    list(I32),
                    I32,
                    list(I32),
                    list(I32).since(3),
                    list(I32).since(3),
                    I8.since(1),
                    I8.since(6),
                ])
                .since(2),
            ])
            .since(2),
            structs(&[I32, STRING, I32]),
        ],
    ),
    // StopReplica
    request(
        5,
        2,
        &[
            I32,
            I8.since(4),
            I32,
            I64.since(1),
            I8.until(2),
            structs(&[STRING.until(0), I32.until(0)]).until(0),
            structs(&[STRING.between(1, 2), list(I32).between(1, 2)]).between(1, 2),
            structs(&[STRING.since(3), structs(&[I32.since(3), I32.since(3), I8.since(3)]).since(3)]).since(3),
        ],
    ),
    // UpdateMetadata
    request(
        6,
        6,
        &[
            I32,
            I8.since(8),
            I32,
            I64.since(5),
            structs(&[STRING.until(4), I32, I32, I32, I32, list(I32), I32, list(I32), list(I32).since(4)]).until(4),
            structs(&[
                STRING.since(5),
                UUID.since(7),
                structs(&[STRING.until(4), I32, I32, I32, I32, list(I32), I32, list(I32), list(I32).since(4)]).since(5),
            ])
            .since(5),
            structs(&[
                I32,
                STRING.until(0),
                I32.until(0),
                structs(&[I32.since(1), STRING.since(1), STRING.since(3), I16.since(1)]).since(1),
                STRING.since(2),
            ]),
            I8.tagged(0, 8),
        ],
    ),
    // ControlledShutdown
    request(7, 3, &[I32, I64.since(2)]),
    // OffsetCommit
    request(
        8,
        8,
        &[
            STRING,
            I32.since(1),
            STRING.since(1),
            STRING.since(7),
            I64.between(2, 4),
            structs(&[STRING, structs(&[I32, I64, I32.since(6), I64.between(1, 1), STRING])]),
        ],
    ),
    // OffsetFetch
    request(
        9,
        6,
        &[
            STRING.until(7),
            structs(&[STRING.until(7), list(I32).until(7)]).until(7),
            structs(&[
                STRING.since(8),
                STRING.since(9),
                I32.since(9),
                structs(&[STRING.since(8), list(I32).since(8)]).since(8),
            ])
            .since(8),
            I8.since(7),
        ],
    ),
    // FindCoordinator
    request(10, 3, &[STRING.until(3), I8.since(1), list(STRING).since(4)]),
    // JoinGroup
    request(
        11,
        6,
        &[STRING, I32, I32.since(1), STRING, STRING.since(5), STRING, structs(&[STRING, BYTES]), STRING.since(8)],
    ),
    // Heartbeat
    request(12, 4, &[STRING, I32, STRING, STRING.since(3)]),
    // LeaveGroup
    request(13, 4, &[STRING, STRING.until(2), structs(&[STRING.since(3), STRING.since(3), STRING.since(5)]).since(3)]),
    // SyncGroup
    request(
        14,
        4,
        &[STRING, I32, STRING, STRING.since(3), STRING.since(5), STRING.since(5), structs(&[STRING, BYTES])],
    ),
    // DescribeGroups
    request(15, 5, &[list(STRING), I8.since(3)]),
    // ListGroups
    request(16, 3, &[list(STRING).since(4), list(STRING).since(5)]),
    // SaslHandshake
    request(17, NEVER, &[STRING]),
    // ApiVersions
    request(18, 3, &[STRING.since(3), STRING.since(3)]),
    // CreateTopics
    request(
        19,
        5,
        &[structs(&[STRING, I32, I16, structs(&[I32, list(I32)]), structs(&[STRING, STRING])]), I32, I8.since(1)],
    ),
    // DeleteTopics
    request(20, 4, &[structs(&[STRING.since(6), UUID.since(6)]).since(6), list(STRING).until(5), I32]),
    // DeleteRecords
    request(21, 2, &[structs(&[STRING, structs(&[I32, I64])]), I32]),
    // InitProducerId
    request(22, 2, &[STRING, I32, I64.since(3), I16.since(3)]),
    // OffsetForLeaderEpoch
    request(23, 4, &[I32.since(3), structs(&[STRING, structs(&[I32, I32.since(2), I32])])]),
    // AddPartitionsToTxn
    request(
        24,
        3,
        &[
            structs(&[
                STRING.since(4),
                I64.since(4),
                I16.since(4),
                I8.since(4),
                structs(&[STRING, list(I32)]).since(4),
            ])
            .since(4),
            STRING.until(3),
            I64.until(3),
            I16.until(3),
            structs(&[STRING, list(I32)]).until(3),
        ],
    ),
    // AddOffsetsToTxn
    request(25, 3, &[STRING, I64, I16, STRING]),
    // EndTxn
    request(26, 3, &[STRING, I64, I16, I8]),
    // WriteTxnMarkers
    request(27, 1, &[structs(&[I64, I16, I8, structs(&[STRING, list(I32)]), I32])]),
    // TxnOffsetCommit
    request(
        28,
        3,
        &[
            STRING,
            STRING,
            I64,
            I16,
            I32.since(3),
            STRING.since(3),
            STRING.since(3),
            structs(&[STRING, structs(&[I32, I64, I32.since(2), STRING])]),
        ],
    ),
    // DescribeAcls
    request(29, 2, &[I8, STRING, I8.since(1), STRING, STRING, I8, I8]),
    // CreateAcls
    request(30, 2, &[structs(&[I8, STRING, I8.since(1), STRING, STRING, I8, I8])]),
    // DeleteAcls
    request(31, 2, &[structs(&[I8, STRING, I8.since(1), STRING, STRING, I8, I8])]),
    // DescribeConfigs
    request(32, 4, &[structs(&[I8, STRING, list(STRING)]), I8.since(1), I8.since(3)]),
    // AlterConfigs
    request(33, 2, &[structs(&[I8, STRING, structs(&[STRING, STRING])]), I8]),
    // AlterReplicaLogDirs
    request(34, 2, &[structs(&[STRING, structs(&[STRING, list(I32)])])]),
    // DescribeLogDirs
    request(35, 2, &[structs(&[STRING, list(I32)])]),
    // SaslAuthenticate
    request(36, 2, &[BYTES]),
    // CreatePartitions
    request(37, 2, &[structs(&[STRING, I32, structs(&[list(I32)])]), I32, I8]),
    // CreateDelegationToken
    request(38, 2, &[STRING.since(3), STRING.since(3), structs(&[STRING, STRING]), I64]),
    // RenewDelegationToken
    request(39, 2, &[BYTES, I64]),
    // ExpireDelegationToken
    request(40, 2, &[BYTES, I64]),
    // DescribeDelegationToken
    request(41, 2, &[structs(&[STRING, STRING])]),
    // DeleteGroups
    request(42, 2, &[list(STRING)]),
    // ElectLeaders
    request(43, 2, &[I8.since(1), structs(&[STRING, list(I32)]), I32]),
    // IncrementalAlterConfigs
    request(44, 1, &[structs(&[I8, STRING, structs(&[STRING, I8, STRING])]), I8]),
    // AlterPartitionReassignments
    request(45, 0, &[I32, structs(&[STRING, structs(&[I32, list(I32)])])]),
    // ListPartitionReassignments
    request(46, 0, &[I32, structs(&[STRING, list(I32)])]),
    // OffsetDelete
    request(47, NEVER, &[STRING, structs(&[STRING, structs(&[I32])])]),
    // DescribeClientQuotas
    request(48, 1, &[structs(&[STRING, I8, STRING]), I8]),
    // AlterClientQuotas
    request(49, 1, &[structs(&[structs(&[STRING, STRING]), structs(&[STRING, I64, I8])]), I8]),
    // DescribeUserScramCredentials
    request(50, 0, &[structs(&[STRING])]),
    // AlterUserScramCredentials
    request(51, 0, &[structs(&[STRING, I8]), structs(&[STRING, I8, I32, BYTES, BYTES])]),
    // AlterPartition
    request(
        56,
        0,
        &[
            I32,
            I64,
            structs(&[
                STRING.until(1),
                UUID.since(2),
                structs(&[
                    I32,
                    I32,
                    list(I32).until(2),
                    structs(&[I32.since(3), I64.since(3)]).since(3),
                    I8.since(1),
                    I32,
                ]),
            ]),
        ],
    ),
    // UpdateFeatures
    request(57, 0, &[I32, structs(&[STRING, I16, I8.until(0), I8.since(1)]), I8.since(1)]),
    // Envelope
    request(58, 0, &[BYTES, BYTES, BYTES]),
    // DescribeCluster
    request(60, 0, &[I8, I8.since(1)]),
    // DescribeProducers
    request(61, 0, &[structs(&[STRING, list(I32)])]),
    // DescribeTransactions
    request(65, 0, &[list(STRING)]),
    // ListTransactions
    request(66, 0, &[list(STRING), list(I64), I64.since(1)]),
    // AllocateProducerIds
    request(67, 0, &[I32, I64]),
    // ConsumerGroupHeartbeat
    request(68, 0, &[STRING, STRING, I32, STRING, STRING, I32, list(STRING), STRING, structs(&[UUID, list(I32)])]),
    // ConsumerGroupDescribe
    request(69, 0, &[list(STRING), I8]),
];

/// What a consumer tells of itself when it joins a group (`ConsumerProtocolSubscription`, v0 to v3), without its version.
pub(super) static SUBSCRIPTION: &[Field] =
    &[list(STRING), BYTES, structs(&[STRING, list(I32)]).since(1), I32.since(2), STRING.since(3)];

/// What a consumer is assigned (`ConsumerProtocolAssignment`, v0 to v3), without its version.
pub(super) static ASSIGNMENT: &[Field] = &[structs(&[STRING, list(I32)]), BYTES];
