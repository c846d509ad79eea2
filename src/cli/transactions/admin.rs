//! What the tool asks of brokers: coordinators for transactions, replicas for producers, leaders for markers.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, FindCoordinatorRequest, ListTransactionsRequest, ProducerId,
    TransactionalId, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::cli::cluster::{Cluster, refusal, topic_name};

/// What FindCoordinator is asked for.
const TRANSACTION: i8 = 1;
/// The first ListTransactions that filters by duration (KIP-994).
const FIRST_WITH_DURATION: i16 = 1;

/// A producer as a replica knows it.
pub(super) type Producer = ProducerState;

/// Where the producer's open transaction starts.
pub(super) fn open_since(producer: &Producer) -> Option<i64> {
    Some(producer.current_txn_start_offset).filter(|offset| *offset >= 0)
}

/// A transaction in a list.
pub(super) struct Listed {
    pub(super) transactional_id: String,
    pub(super) coordinator: String,
    pub(super) producer_id: i64,
    pub(super) state: String,
}

/// A cluster's transactions.
pub(super) struct Transactions {
    pub(super) cluster: Cluster,
}

impl Transactions {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// The transactions that all brokers know; of these producers only, if any is named, and only those that have run for
    /// more than `longer_than_ms`, unless that is negative.
    pub(super) async fn list(&mut self, producers: &[i64], longer_than_ms: i64) -> anyhow::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for id in self.cluster.broker_ids().await? {
            let node = self.cluster.broker(id).await?;
            let version = node.version_of::<ListTransactionsRequest>();
            if longer_than_ms >= 0 && version.is_none_or(|version| version < FIRST_WITH_DURATION) {
                bail!("the broker at {} cannot filter transactions by their duration", node.address);
            }
            let filters = producers.iter().map(|id| ProducerId(*id)).collect();
            let request = ListTransactionsRequest::default()
                .with_producer_id_filters(filters)
                .with_duration_filter(longer_than_ms);
            let answer = node.ask(|_| request).await?;
            if let Some(error) = refusal(answer.error_code, None) {
                return Err(error);
            }
            all.extend(answer.transaction_states.into_iter().map(|state| Listed {
                transactional_id: state.transactional_id.to_string(),
                coordinator: id.to_string(),
                producer_id: state.producer_id.0,
                state: state.transaction_state.to_string(),
            }));
        }
        Ok(all)
    }

    /// The state of a transactional id, and who coordinates it.
    pub(super) async fn describe(&mut self, transactional_id: &str) -> anyhow::Result<(i32, TransactionState)> {
        let key = StrBytes::from_string(transactional_id.to_owned());
        let any = self.cluster.any();
        let found = any.ask(|version| {
            let request = FindCoordinatorRequest::default().with_key_type(TRANSACTION);
            if version < 4 { request.with_key(key.clone()) } else { request.with_coordinator_keys(vec![key.clone()]) }
        });
        let found = found.await?;
        let (code, id) = match found.coordinators.first() {
            Some(one) => (one.error_code, one.node_id.0),
            None => (found.error_code, found.node_id.0),
        };
        if let Some(error) = refusal(code, None) {
            return Err(error);
        }
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(key)]);
        let mut answer = self.cluster.broker(id).await?.ask(|_| request).await?;
        let state = answer.transaction_states.pop().context("the coordinator does not answer for it")?;
        refusal(state.error_code, None).map_or(Ok((id, state)), Err)
    }

    /// The producers of a partition, as `replica` knows them, or the leader.
    pub(super) async fn producers(
        &mut self,
        tp: &TopicPartition,
        replica: Option<i32>,
    ) -> anyhow::Result<Vec<Producer>> {
        let mut of_all = self.producers_of(std::slice::from_ref(tp), replica).await?;
        of_all.remove(tp).context("the broker does not answer for it")
    }

    /// The producers of each partition, as `replica` knows them, or their leaders.
    pub(super) async fn producers_of(
        &mut self,
        partitions: &[TopicPartition],
        replica: Option<i32>,
    ) -> anyhow::Result<BTreeMap<TopicPartition, Vec<Producer>>> {
        let topics: Vec<String> = topics_of(partitions);
        let leaders = if replica.is_some() { BTreeMap::new() } else { self.cluster.leaders(&topics).await? };
        let mut by_broker: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for tp in partitions {
            let broker = match (replica, leaders.get(tp)) {
                (Some(broker), _) => broker,
                (None, Some(leader)) if *leader >= 0 => *leader,
                (None, Some(_)) => bail!("{tp}: {}", ErrorCode::LeaderNotAvailable),
                (None, None) => bail!("{tp}: {}", ErrorCode::UnknownTopicOrPartition),
            };
            by_broker.entry(broker).or_default().entry(&tp.topic).or_default().push(tp.partition);
        }
        let mut all = BTreeMap::new();
        for (broker, topics) in by_broker {
            let topics = topics.into_iter().map(|(topic, indexes)| {
                TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(indexes)
            });
            let request = DescribeProducersRequest::default().with_topics(topics.collect());
            let answer = self.cluster.broker(broker).await?.ask(|_| request).await?;
            for topic in answer.topics {
                for row in topic.partitions {
                    let tp = TopicPartition::new(topic.name.as_str(), row.partition_index);
                    if let Some(error) = refusal(row.error_code, row.error_message.as_ref()) {
                        return Err(error.context(tp.to_string()));
                    }
                    all.insert(tp, row.active_producers);
                }
            }
        }
        Ok(all)
    }

    /// Has the partition's leader write the marker that aborts a transaction.
    pub(super) async fn abort(
        &mut self,
        tp: &TopicPartition,
        producer: i64,
        epoch: i16,
        coordinator_epoch: i32,
    ) -> anyhow::Result<()> {
        let leader = self.cluster.leaders(&[tp.topic.to_string()]).await?.get(tp).copied();
        let leader = leader.filter(|id| *id >= 0).with_context(|| format!("{tp} has no leader"))?;
        let topic = WritableTxnMarkerTopic::default()
            .with_name(topic_name(&tp.topic))
            .with_partition_indexes(vec![tp.partition]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer))
            .with_producer_epoch(epoch)
            .with_coordinator_epoch(coordinator_epoch)
            .with_topics(vec![topic]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        let answer = self.cluster.broker(leader).await?.ask(|_| request).await?;
        let mut rows = answer.markers.iter().flat_map(|marker| &marker.topics).flat_map(|topic| &topic.partitions);
        rows.find_map(|row| refusal(row.error_code, None)).map_or(Ok(()), Err)
    }
}

fn topics_of(partitions: &[TopicPartition]) -> Vec<String> {
    let topics: std::collections::BTreeSet<&str> = partitions.iter().map(|tp| &*tp.topic).collect();
    topics.into_iter().map(str::to_owned).collect()
}
