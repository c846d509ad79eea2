//! THE table of API keys. A line gives a key its name, its versions and its handler; ApiVersions, the answer to an unknown
//! version, decoding, encoding and request logging come from that line. A key that is not here is not advertised.

use std::future::Future;
use std::pin::Pin;

use super::{Call, Context};
use crate::network::Outcome;

/// What a handler gives back: boxed once for each request.
pub type HandlerFuture<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// One API key.
pub struct Api {
    /// The key on the wire.
    pub key: i16,
    /// Kafka's name for it.
    pub name: &'static str,
    /// The oldest version served.
    pub min_version: i16,
    /// The newest version served.
    pub max_version: i16,
    /// Decodes, handles, encodes.
    pub handler: for<'a> fn(&'a Context, Call) -> HandlerFuture<'a>,
}

impl Api {
    /// Whether `version` is served.
    pub fn serves(&self, version: i16) -> bool {
        (self.min_version..=self.max_version).contains(&version)
    }
}

/// Declares the table. `typed` handlers are `async fn(&Context, &Call, Request) -> Response`; `raw` ones are
/// `async fn(&Context, Call) -> Outcome` and decode and encode themselves.
macro_rules! apis {
    ($($key:literal $name:literal $min:literal..=$max:literal $kind:ident $($handler:ident)::+;)*) => {
        /// Every key that is served, by rising key.
        static APIS: &[Api] = &[$(Api {
            key: $key,
            name: $name,
            min_version: $min,
            max_version: $max,
            handler: apis!(@$kind $($handler)::+),
        }),*];
    };
    (@typed $($handler:ident)::+) => {
        |ctx, mut call| Box::pin(async move {
            match call.decode() {
                Ok(request) => {
                    let response = super::$($handler)::+(ctx, &call, request).await;
                    call.reply(&response)
                }
                Err(outcome) => outcome,
            }
        })
    };
    (@raw $($handler:ident)::+) => {
        |ctx, call| Box::pin(super::$($handler)::+(ctx, call))
    };
}

apis! {
    0 "Produce" 0..=11 raw produce::handle;
    1 "Fetch" 0..=17 raw fetch::handle;
    2 "ListOffsets" 0..=9 typed list_offsets::handle;
    3 "Metadata" 0..=12 typed metadata::handle;
    4 "LeaderAndIsr" 0..=7 typed control::leader_and_isr;
    5 "StopReplica" 0..=4 typed control::stop_replica;
    6 "UpdateMetadata" 0..=8 typed control::update_metadata;
    7 "ControlledShutdown" 0..=3 typed controlled_shutdown::handle;
    8 "OffsetCommit" 0..=9 typed offset_commit::handle;
    9 "OffsetFetch" 0..=9 typed offset_fetch::handle;
    10 "FindCoordinator" 0..=6 typed find_coordinator::handle;
    11 "JoinGroup" 0..=9 typed join_group::handle;
    12 "Heartbeat" 0..=4 typed heartbeat::handle;
    13 "LeaveGroup" 0..=5 typed leave_group::handle;
    14 "SyncGroup" 0..=5 typed sync_group::handle;
    15 "DescribeGroups" 0..=5 typed describe_groups::handle;
    16 "ListGroups" 0..=5 typed list_groups::handle;
    18 "ApiVersions" 0..=4 raw api_versions::handle;
    19 "CreateTopics" 0..=7 typed create_topics::handle;
    20 "DeleteTopics" 0..=6 typed delete_topics::handle;
    21 "DeleteRecords" 0..=2 typed delete_records::handle;
    22 "InitProducerId" 0..=5 typed init_producer_id::handle;
    23 "OffsetForLeaderEpoch" 0..=4 typed offset_for_leader_epoch::handle;
    24 "AddPartitionsToTxn" 0..=5 typed add_partitions_to_txn::handle;
    25 "AddOffsetsToTxn" 0..=4 typed add_offsets_to_txn::handle;
    26 "EndTxn" 0..=4 typed end_txn::handle;
    27 "WriteTxnMarkers" 0..=1 typed write_txn_markers::handle;
    28 "TxnOffsetCommit" 0..=4 typed txn_offset_commit::handle;
    32 "DescribeConfigs" 0..=4 typed describe_configs::handle;
    33 "AlterConfigs" 0..=2 typed alter_configs::replace;
    34 "AlterReplicaLogDirs" 0..=2 typed alter_replica_log_dirs::handle;
    35 "DescribeLogDirs" 0..=4 typed describe_log_dirs::handle;
    37 "CreatePartitions" 0..=3 typed create_partitions::handle;
    42 "DeleteGroups" 0..=2 typed delete_groups::handle;
    43 "ElectLeaders" 0..=2 typed elect_leaders::handle;
    44 "IncrementalAlterConfigs" 0..=1 typed alter_configs::incremental;
    45 "AlterPartitionReassignments" 0..=0 typed reassignments::alter;
    46 "ListPartitionReassignments" 0..=0 typed reassignments::list;
    47 "OffsetDelete" 0..=0 typed offset_delete::handle;
    56 "AlterPartition" 0..=3 typed alter_partition::handle;
    60 "DescribeCluster" 0..=1 typed describe_cluster::handle;
    61 "DescribeProducers" 0..=0 typed describe_producers::handle;
    65 "DescribeTransactions" 0..=0 typed describe_transactions::handle;
    66 "ListTransactions" 0..=1 typed list_transactions::handle;
    67 "AllocateProducerIds" 0..=0 typed allocate_producer_ids::handle;
    68 "ConsumerGroupHeartbeat" 0..=0 typed consumer_group::heartbeat;
    69 "ConsumerGroupDescribe" 0..=0 typed consumer_group::describe;
}

const SLOTS: usize = 128;

/// Where each key stands in [`APIS`]; `u8::MAX` where it does not.
static INDEX: [u8; SLOTS] = index();

const fn index() -> [u8; SLOTS] {
    let mut out = [u8::MAX; SLOTS];
    let mut at = 0;
    while at < APIS.len() {
        // Keys are literals of the table above: never negative, never above 127, and fewer than 255.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        {
            assert!(out[APIS[at].key as usize] == u8::MAX, "a key stands twice in the table");
            out[APIS[at].key as usize] = at as u8;
        }
        at += 1;
    }
    out
}

/// The line of `key`, if it is served.
pub fn find(key: i16) -> Option<&'static Api> {
    let slot = *INDEX.get(usize::try_from(key).ok()?)?;
    APIS.get(usize::from(slot))
}

/// Every line, by rising key: what ApiVersions lists.
pub fn advertised() -> impl Iterator<Item = &'static Api> {
    APIS.iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found_by_key() {
        assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key));
        for api in APIS {
            assert_eq!(find(api.key).map(|found| found.name), Some(api.name));
            assert!(api.serves(api.min_version) && api.serves(api.max_version) && !api.serves(api.max_version + 1));
        }
        assert!(find(-1).is_none() && find(127).is_none() && find(i16::MAX).is_none());
    }
}
