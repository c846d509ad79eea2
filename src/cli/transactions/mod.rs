//! `kafka-transactions.sh`: look at transactions and their producers, find those that nobody ends, and abort them
//! (KIP-664). Speaks like 3.9's tool.

mod admin;
mod hanging;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};

use self::admin::{Producer, Transactions};
use super::cluster::{self, Cluster};
use super::properties;
use crate::base::ids::TopicPartition;

/// Analyze the transactional state of producers in the cluster: detect and recover from hanging transactions.
#[derive(Parser, Debug)]
#[command(name = "kafka-transactions", infer_long_args = true)]
struct Options {
    /// A properties file for the admin client
    #[arg(long)]
    command_config: Option<PathBuf>,
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List transactions
    List {
        /// Only those that have run for longer than so many milliseconds; all if negative
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        duration_filter: i64,
    },
    /// Describe the state of an active transactional id
    Describe {
        /// The transactional id
        #[arg(long)]
        transactional_id: String,
    },
    /// Describe the states of the active producers of a partition
    DescribeProducers {
        /// The replica to ask; the leader if none is named
        #[arg(long)]
        broker_id: Option<i32>,
        #[command(flatten)]
        of: Partition,
    },
    /// Abort a hanging transaction
    Abort(Abort),
    /// Find hanging transactions
    FindHanging(hanging::Search),
}

#[derive(Args, Debug)]
struct Partition {
    /// The topic
    #[arg(long)]
    topic: String,
    /// The partition's number
    #[arg(long)]
    partition: i32,
}

impl Partition {
    fn named(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }
}

#[derive(Args, Debug)]
struct Abort {
    #[command(flatten)]
    of: Partition,
    /// Where the transaction starts (brokers of 3.0 and later)
    #[arg(long)]
    start_offset: Option<i64>,
    /// The producer's id (older brokers)
    #[arg(long)]
    producer_id: Option<i64>,
    /// The producer's epoch (older brokers)
    #[arg(long)]
    producer_epoch: Option<i16>,
    /// The coordinator's epoch (older brokers)
    #[arg(long, allow_negative_numbers = true)]
    coordinator_epoch: Option<i32>,
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let options: Options = match super::parse("kafka-transactions", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    cluster::block_on(async {
        let config = options.command_config.as_deref().map(properties::read_file).transpose()?.unwrap_or_default();
        let cluster = Cluster::connect(&options.bootstrap_server, &config).await?;
        carry_out(&options.command, &mut Transactions::new(cluster)).await
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn carry_out(command: &Command, transactions: &mut Transactions) -> anyhow::Result<()> {
    match command {
        Command::List { duration_filter } => {
            let listed = transactions.list(&[], *duration_filter).await.context("Failed to list transactions")?;
            let rows =
                listed.into_iter().map(|t| [t.transactional_id, t.coordinator, t.producer_id.to_string(), t.state]);
            print_table(["TransactionalId", "Coordinator", "ProducerId", "TransactionState"], rows);
        }
        Command::Describe { transactional_id } => describe(transactions, transactional_id).await?,
        Command::DescribeProducers { broker_id, of } => {
            let tp = of.named();
            let described = transactions.producers(&tp, *broker_id).await;
            let producers = described.with_context(|| {
                let asked = broker_id.map(|id| format!(" on broker {id}")).unwrap_or_default();
                format!("Failed to describe producers for partition {tp}{asked}")
            })?;
            print_producers(&producers);
        }
        Command::Abort(abort) => abort.run(transactions).await?,
        Command::FindHanging(search) => search.run(transactions).await?,
    }
    Ok(())
}

async fn describe(transactions: &mut Transactions, transactional_id: &str) -> anyhow::Result<()> {
    let described = transactions.describe(transactional_id).await;
    let (coordinator, state) = described
        .with_context(|| format!("Failed to describe transaction state of transactional-id `{transactional_id}`"))?;
    let started = Some(state.transaction_start_time_ms).filter(|ms| *ms >= 0);
    let or_none = |ms: Option<i64>| ms.map_or_else(|| "None".to_owned(), |ms| ms.to_string());
    let partitions = state
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| format!("{}-{partition}", topic.topic.as_str())));
    let row = [
        coordinator.to_string(),
        transactional_id.to_owned(),
        state.producer_id.0.to_string(),
        state.producer_epoch.to_string(),
        state.transaction_state.to_string(),
        state.transaction_timeout_ms.to_string(),
        or_none(started),
        or_none(started.map(|ms| now_ms() - ms)),
        partitions.collect::<Vec<_>>().join(","),
    ];
    let headers = [
        "CoordinatorId",
        "TransactionalId",
        "ProducerId",
        "ProducerEpoch",
        "TransactionState",
        "TransactionTimeoutMs",
        "CurrentTransactionStartTimeMs",
        "TransactionDurationMs",
        "TopicPartitions",
    ];
    print_table(headers, [row]);
    Ok(())
}

fn print_producers(producers: &[Producer]) {
    let rows = producers.iter().map(|p| {
        [
            p.producer_id.0.to_string(),
            p.producer_epoch.to_string(),
            p.coordinator_epoch.to_string(),
            p.last_sequence.to_string(),
            p.last_timestamp.to_string(),
            admin::open_since(p).map_or_else(|| "None".to_owned(), |offset| offset.to_string()),
        ]
    });
    let headers = [
        "ProducerId",
        "ProducerEpoch",
        "LatestCoordinatorEpoch",
        "LastSequence",
        "LastTimestamp",
        "CurrentTransactionStartOffset",
    ];
    print_table(headers, rows);
}

impl Abort {
    async fn run(&self, transactions: &mut Transactions) -> anyhow::Result<()> {
        let tp = self.of.named();
        let (id, epoch, coordinator_epoch) = match (self.start_offset, self.producer_id) {
            (None, None) => bail!(
                "The transaction to abort must be identified either with --start-offset (for brokers on 3.0 or above) \
                 or with --producer-id, --producer-epoch, and --coordinator-epoch (for older brokers)"
            ),
            (None, Some(id)) => {
                let epoch = self.producer_epoch.context("Missing required argument --producer-epoch")?;
                (id, epoch, self.coordinator_epoch.context("Missing required argument --coordinator-epoch")?)
            }
            (Some(start), _) => {
                let described = transactions.producers(&tp, None).await;
                let producers = described.with_context(|| format!("Failed to find a transaction of partition {tp}"))?;
                let found = producers.iter().find(|p| p.current_txn_start_offset == start).with_context(|| {
                    format!("Could not find any open transactions starting at offset {start} on partition {tp}")
                })?;
                (found.producer_id.0, i16::try_from(found.producer_epoch)?, found.coordinator_epoch)
            }
        };
        // -1 is told where the producer's first transaction hangs: no coordinator of another epoch has ended one before.
        let aborted = transactions.abort(&tp, id, epoch, coordinator_epoch.max(0)).await;
        aborted.with_context(|| format!("Failed to abort the transaction of producer {id} in partition {tp}"))
    }
}

fn now_ms() -> i64 {
    use crate::base::clock::Clock;
    crate::base::clock::SystemClock.now_ms()
}

/// A table as the original's tools print it: columns as wide as their widest cell, each with a tab behind it.
fn print_table<const N: usize>(headers: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    print!("{}", table(headers, rows));
}

fn table<const N: usize>(headers: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let all: Vec<[String; N]> = std::iter::once(headers.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; N] = std::array::from_fn(|at| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}\t"));
        cells.collect::<String>() + "\n"
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_the_original_prints_them() {
        let rows = [["1".to_owned(), "long one".to_owned()]];
        assert_eq!(table(["Topic", "Id"], rows), "Topic\tId      \t\n1    \tlong one\t\n");
        assert_eq!(table(["Topic", "Id"], []), "Topic\tId\t\n");
    }

    #[test]
    fn subcommands_have_their_options() {
        let parse = |line: &str| Options::try_parse_from(line.split(' '));
        let line = "x --bootstrap-server a:1 list --duration-filter -5";
        assert!(matches!(parse(line).expect("valid").command, Command::List { duration_filter: -5 }));
        assert!(parse("x list").is_err() && parse("x --bootstrap-server a:1").is_err());
        assert!(parse("x --bootstrap-server a:1 describe").is_err());
        assert!(parse("x --bootstrap-server a:1 abort --topic t --partition 0 --coordinator-epoch -1").is_ok());
    }
}
