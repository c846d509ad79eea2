//! `find-hanging`: transactions that are open in a partition for longer than any may be, and of which no coordinator knows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use clap::Args;

use super::admin::{Producer, Transactions, open_since};
use super::{now_ms, print_table};
use crate::base::ids::TopicPartition;

const MINUTE_MS: i64 = 60_000;

/// Where to look, and for what.
#[derive(Args, Debug)]
pub(super) struct Search {
    /// The broker whose partitions are searched
    #[arg(long)]
    broker_id: Option<i32>,
    /// The longest that a transaction may take, in minutes: only those that are older are looked at
    #[arg(long, default_value_t = 15)]
    max_transaction_timeout: i64,
    /// The topic that is searched
    #[arg(long)]
    topic: Option<String>,
    /// The partition of --topic
    #[arg(long)]
    partition: Option<i32>,
}

/// A transaction that is open in a partition.
struct Open {
    tp: TopicPartition,
    producer: Producer,
}

impl Search {
    pub(super) async fn run(&self, transactions: &mut Transactions) -> anyhow::Result<()> {
        self.check()?;
        let now = now_ms();
        let partitions = self.partitions(transactions).await.context("Failed to list the partitions to search")?;
        let mut found = Vec::new();
        if !partitions.is_empty() {
            let open = self.open(transactions, &partitions, now).await.context("Failed to describe producers")?;
            found = hanging(transactions, open).await?;
        }
        let headers = [
            "Topic",
            "Partition",
            "ProducerId",
            "ProducerEpoch",
            "CoordinatorEpoch",
            "StartOffset",
            "LastTimestamp",
            "Duration(min)",
        ];
        print_table(headers, found.iter().map(|open| open.row(now)));
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.broker_id.is_none() && self.topic.is_none() {
            bail!("The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search");
        }
        if self.partition.is_some() && self.topic.is_none() {
            bail!("The --partition argument requires --topic to be provided");
        }
        Ok(())
    }

    /// The partitions that are searched: of the topic, or all; with a replica on the broker, if one is named.
    async fn partitions(&self, transactions: &Transactions) -> anyhow::Result<Vec<TopicPartition>> {
        let topics = self.topic.clone().map(|topic| vec![topic]);
        let metadata = transactions.cluster.metadata(topics.as_deref()).await?;
        let mut found = Vec::new();
        for topic in &metadata.topics {
            let Some(name) = &topic.name else { continue };
            if let Some(error) = crate::cli::cluster::refusal(topic.error_code, None) {
                return Err(error.context(name.to_string()));
            }
            let on_broker = |nodes: &[kafka_protocol::messages::BrokerId]| {
                self.broker_id.is_none_or(|id| nodes.iter().any(|node| node.0 == id))
            };
            let rows = topic.partitions.iter().filter(|row| on_broker(&row.replica_nodes));
            let rows = rows.filter(|row| self.partition.is_none_or(|wanted| row.partition_index == wanted));
            found.extend(rows.map(|row| TopicPartition::new(name.as_str(), row.partition_index)));
        }
        Ok(found)
    }

    /// The transactions there that were last written to longer ago than a transaction may take.
    async fn open(
        &self,
        transactions: &mut Transactions,
        partitions: &[TopicPartition],
        now: i64,
    ) -> anyhow::Result<Vec<Open>> {
        let limit = self.max_transaction_timeout.saturating_mul(MINUTE_MS);
        let all = transactions.producers_of(partitions, self.broker_id).await?;
        let open = all
            .into_iter()
            .flat_map(|(tp, producers)| producers.into_iter().map(move |producer| Open { tp: tp.clone(), producer }));
        let old = |open: &Open| open_since(&open.producer).is_some() && now - open.producer.last_timestamp > limit;
        Ok(open.filter(old).collect())
    }
}

impl Open {
    fn row(&self, now: i64) -> [String; 8] {
        let Producer { producer_id, producer_epoch, coordinator_epoch, last_timestamp, .. } = &self.producer;
        [
            self.tp.topic.to_string(),
            self.tp.partition.to_string(),
            producer_id.0.to_string(),
            producer_epoch.to_string(),
            coordinator_epoch.to_string(),
            open_since(&self.producer).unwrap_or(-1).to_string(),
            last_timestamp.to_string(),
            ((now - last_timestamp) / MINUTE_MS).to_string(),
        ]
    }
}

/// Those of which their coordinator does not know: no transactional id has the producer's id, or the transaction does not
/// hold the partition.
async fn hanging(transactions: &mut Transactions, open: Vec<Open>) -> anyhow::Result<Vec<Open>> {
    let producers: BTreeSet<i64> = open.iter().map(|open| open.producer.producer_id.0).collect();
    if producers.is_empty() {
        return Ok(Vec::new());
    }
    let producers: Vec<i64> = producers.into_iter().collect();
    let listed = transactions.list(&producers, -1).await;
    let listed = listed.with_context(|| format!("Failed to list transactions for producers {producers:?}"))?;
    let ids: BTreeMap<i64, String> = listed.into_iter().map(|one| (one.producer_id, one.transactional_id)).collect();
    let mut known: BTreeSet<(i64, TopicPartition)> = BTreeSet::new();
    for (producer, id) in &ids {
        let described = transactions.describe(id).await;
        let (_, state) = described.with_context(|| format!("Failed to describe transactional id {id}"))?;
        let partitions = state
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|index| TopicPartition::new(topic.topic.as_str(), *index)));
        known.extend(partitions.map(|tp| (*producer, tp)));
    }
    Ok(unknown(open, &known))
}

fn unknown(open: Vec<Open>, known: &BTreeSet<(i64, TopicPartition)>) -> Vec<Open> {
    open.into_iter().filter(|open| !known.contains(&(open.producer.producer_id.0, open.tp.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(producer: i64, partition: i32) -> Open {
        let producer = Producer::default()
            .with_producer_id(producer.into())
            .with_coordinator_epoch(-1)
            .with_last_timestamp(60_000)
            .with_current_txn_start_offset(7);
        Open { tp: TopicPartition::new("t", partition), producer }
    }

    #[test]
    fn what_no_coordinator_knows_hangs() {
        let known = BTreeSet::from([(1, TopicPartition::new("t", 0))]);
        let found = unknown(vec![open(1, 0), open(1, 1), open(2, 0)], &known);
        let found: Vec<_> = found.iter().map(|open| (open.producer.producer_id.0, open.tp.partition)).collect();
        assert_eq!(found, [(1, 1), (2, 0)]);
        assert_eq!(open(3, 1).row(180_000), ["t", "1", "3", "0", "-1", "7", "60000", "2"].map(str::to_owned));
    }

    #[test]
    fn a_search_is_limited() {
        let search = |broker_id, topic: Option<&str>, partition| Search {
            broker_id,
            max_transaction_timeout: 15,
            topic: topic.map(str::to_owned),
            partition,
        };
        assert!(search(None, None, None).check().is_err());
        assert!(search(Some(1), None, Some(0)).check().is_err());
        assert!(search(Some(1), None, None).check().is_ok() && search(None, Some("t"), Some(0)).check().is_ok());
    }
}
