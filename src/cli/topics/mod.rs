//! `kafka-topics.sh`: creates, lists, describes, alters and deletes topics, through a broker or, as up to 2.8, right on the
//! znodes.

mod bootstrap;
mod view;
mod zookeeper;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{CommandFactory, Parser};
use regex::Regex;

use super::cluster;
use super::usage::Given;
use crate::base::topic_names::is_internal;
use crate::config::{BrokerConfig, TopicConfig, topic};

const ACTIONS: &[&str] = &["alter", "create", "describe", "list", "delete"];
const REPORTS: &[&str] =
    &["under-replicated-partitions", "under-min-isr-partitions", "at-min-isr-partitions", "unavailable-partitions"];

/// Create, delete, describe, or change a topic.
#[derive(Parser, Debug, Default)]
#[command(name = "kafka-topics", infer_long_args = true)]
struct Options {
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// A properties file for the admin client; only with --bootstrap-server
    #[arg(long)]
    command_config: Option<PathBuf>,
    /// Work on ZooKeeper instead: HOST1:PORT1,HOST2:PORT2/CHROOT
    #[arg(long)]
    zookeeper: Option<String>,
    /// List the topics
    #[arg(long)]
    list: bool,
    /// Create a topic
    #[arg(long)]
    create: bool,
    /// Delete topics
    #[arg(long)]
    delete: bool,
    /// Change the number of partitions, or (with --zookeeper) the configs
    #[arg(long)]
    alter: bool,
    /// Show partitions, leaders, replicas and configs
    #[arg(long)]
    describe: bool,
    /// The topic; a regular expression except with --create
    #[arg(long)]
    topic: Option<String>,
    /// The id of the topic to describe
    #[arg(long)]
    topic_id: Option<String>,
    /// A config of the topic, as name=value; may be given several times
    #[arg(long, value_name = "name=value")]
    config: Vec<String>,
    /// A config to take away from the topic; may be given several times; only with --zookeeper
    #[arg(long, value_name = "name")]
    delete_config: Vec<String>,
    /// How many partitions the topic shall have
    #[arg(long, allow_hyphen_values = true)]
    partitions: Option<i32>,
    /// How many replicas each partition shall have
    #[arg(long, allow_hyphen_values = true)]
    replication_factor: Option<i32>,
    /// Replicas for each partition: broker:broker,broker:broker,...
    #[arg(long)]
    replica_assignment: Option<String>,
    /// Describe only partitions with replicas that are not in sync
    #[arg(long)]
    under_replicated_partitions: bool,
    /// Describe only partitions without a live leader
    #[arg(long)]
    unavailable_partitions: bool,
    /// Describe only partitions with fewer in-sync replicas than min.insync.replicas
    #[arg(long)]
    under_min_isr_partitions: bool,
    /// Describe only partitions with just as many in-sync replicas as min.insync.replicas
    #[arg(long)]
    at_min_isr_partitions: bool,
    /// Describe only topics with configs of their own
    #[arg(long)]
    topics_with_overrides: bool,
    /// Do nothing if the topic does not exist
    #[arg(long)]
    if_exists: bool,
    /// Do nothing if the topic exists
    #[arg(long)]
    if_not_exists: bool,
    /// Spread replicas without regard to racks; only with --zookeeper
    #[arg(long)]
    disable_rack_aware: bool,
    /// Never asks anyway; kept so that old scripts run
    #[arg(long)]
    force: bool,
    /// Leave internal topics out of the list or the description
    #[arg(long)]
    exclude_internal: bool,
    /// How many partitions a broker may describe in one answer
    #[arg(long)]
    partition_size_limit_per_response: Option<u32>,
}

impl Options {
    fn given(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("bootstrap-server", self.bootstrap_server.is_some()),
            ("command-config", self.command_config.is_some()),
            ("zookeeper", self.zookeeper.is_some()),
            ("list", self.list),
            ("create", self.create),
            ("delete", self.delete),
            ("alter", self.alter),
            ("describe", self.describe),
            ("topic", self.topic.is_some()),
            ("topic-id", self.topic_id.is_some()),
            ("config", !self.config.is_empty()),
            ("delete-config", !self.delete_config.is_empty()),
            ("partitions", self.partitions.is_some()),
            ("replication-factor", self.replication_factor.is_some()),
            ("replica-assignment", self.replica_assignment.is_some()),
            ("under-replicated-partitions", self.under_replicated_partitions),
            ("unavailable-partitions", self.unavailable_partitions),
            ("under-min-isr-partitions", self.under_min_isr_partitions),
            ("at-min-isr-partitions", self.at_min_isr_partitions),
            ("topics-with-overrides", self.topics_with_overrides),
            ("if-exists", self.if_exists),
            ("if-not-exists", self.if_not_exists),
            ("disable-rack-aware", self.disable_rack_aware),
            ("exclude-internal", self.exclude_internal),
            ("partition-size-limit-per-response", self.partition_size_limit_per_response.is_some()),
        ]
    }

    /// Which options go together (`TopicCommandOptions.checkArgs` of 2.8 and 3.9).
    fn check(&self) -> anyhow::Result<()> {
        let options = self.given();
        let given = Given::new(&options);
        if ACTIONS.iter().filter(|action| given.has(action)).count() != 1 {
            bail!("Command must include exactly one action: --list, --describe, --create, --alter or --delete");
        }
        if given.has("bootstrap-server") == given.has("zookeeper") {
            bail!("Only one of --bootstrap-server or --zookeeper must be specified");
        }
        self.check_required(&given)?;
        for name in [
            "command-config",
            "topic-id",
            "partition-size-limit-per-response",
            "under-min-isr-partitions",
            "at-min-isr-partitions",
        ] {
            given.exclude(name, &["zookeeper"])?;
        }
        for name in ["delete-config", "disable-rack-aware"] {
            given.exclude(name, &["bootstrap-server"])?;
        }
        given.exclude("topic-id", &["topic"])?;
        for (name, actions) in [
            ("config", &["alter", "create"][..]),
            ("delete-config", &["alter"]),
            ("partitions", &["alter", "create"]),
            ("replication-factor", &["create"]),
            ("replica-assignment", &["alter", "create"]),
            ("disable-rack-aware", &["alter", "create"]),
            ("if-exists", &["alter", "delete", "describe"]),
            ("if-not-exists", &["create"]),
            ("exclude-internal", &["list", "describe"]),
            ("topics-with-overrides", &["describe"]),
            ("topic-id", &["describe"]),
            ("partition-size-limit-per-response", &["describe"]),
        ] {
            given.only_with(name, actions, ACTIONS)?;
        }
        if self.create {
            given.exclude("replica-assignment", &["partitions", "replication-factor"])?;
        }
        given.exclude("topics-with-overrides", REPORTS)?;
        for report in REPORTS {
            given.only_with(report, &["describe"], ACTIONS)?;
            given.exclude(report, REPORTS)?;
        }
        Ok(())
    }

    fn check_required(&self, given: &Given<'_>) -> anyhow::Result<()> {
        if !self.list && !self.describe {
            given.require(&["topic"])?;
        }
        if self.describe && self.if_exists && self.topic_id.is_none() {
            given.require(&["topic"])?;
        }
        if self.zookeeper.is_some() && self.create && self.replica_assignment.is_none() {
            given.require(&["partitions", "replication-factor"])?;
        }
        if self.bootstrap_server.is_some() && self.alter {
            if !self.config.is_empty() {
                bail!(
                    "Option combination \"[bootstrap-server],[config]\" can't be used with option \"[alter]\" (the \
                     kafka-configs CLI supports altering topic configs with a --bootstrap-server option)"
                );
            }
            given.require(&["partitions"])?;
        }
        Ok(())
    }

    /// The configs of `--config`, checked.
    fn configs(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut configs = BTreeMap::new();
        for pair in &self.config {
            let Some((name, value)) = pair.split_once('=').filter(|(_, value)| !value.contains('=')) else {
                bail!(
                    "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\"."
                );
            };
            configs.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        TopicConfig::validate(&BrokerConfig::default(), &configs)?;
        if let Some(version) = configs.get("message.format.version") {
            println!(
                "WARNING: The configuration message.format.version={version} is specified. This configuration will be \
                 ignored if the version is newer than the inter.broker.protocol.version specified in the broker."
            );
        }
        Ok(configs)
    }

    /// The names of `--delete-config`, checked.
    fn configs_to_delete(&self) -> anyhow::Result<Vec<&str>> {
        let names: Vec<&str> = self.delete_config.iter().map(|name| name.trim()).collect();
        match names.iter().find(|name| topic::key(name).is_none()) {
            Some(name) => bail!("Unknown topic config name: {name}"),
            None => Ok(names),
        }
    }

    /// The replicas of `--replica-assignment`, partition by partition.
    fn assignment(&self) -> anyhow::Result<Option<Vec<Vec<i32>>>> {
        let Some(text) = self.replica_assignment.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let mut all: Vec<Vec<i32>> = Vec::new();
        for (partition, part) in text.split(',').enumerate() {
            let brokers: Result<Vec<i32>, _> = part.split(':').map(|id| id.trim().parse()).collect();
            let brokers = brokers.map_err(|_| anyhow!("--replica-assignment {text}: broker ids are numbers"))?;
            let twice = brokers.iter().enumerate().find(|(at, id)| brokers[..*at].contains(id));
            if let Some((_, id)) = twice {
                bail!("Partition replica lists may not contain duplicate entries: {id}");
            }
            if all.first().is_some_and(|first| first.len() != brokers.len()) {
                bail!("Partition {partition} has different replication factor: {brokers:?}");
            }
            all.push(brokers);
        }
        Ok(Some(all))
    }

    /// The topics among `all` that `--topic` means, in order. Without it all of them.
    fn select(&self, mut all: Vec<String>) -> anyhow::Result<Vec<String>> {
        all.sort();
        let pattern = self.topic.as_deref().map(topic_pattern).transpose()?;
        all.retain(|topic| {
            !(self.exclude_internal && is_internal(topic))
                && pattern.as_ref().is_none_or(|pattern| pattern.is_match(topic))
        });
        Ok(all)
    }

    /// As [`Options::select`]; that there is none is an error unless `--if-exists` is given.
    fn select_existing(&self, all: Vec<String>) -> anyhow::Result<Vec<String>> {
        let found = self.select(all)?;
        match &self.topic {
            Some(topic) if found.is_empty() && !self.if_exists => bail!("Topic '{topic}' does not exist as expected"),
            _ => Ok(found),
        }
    }

    /// What is wrong with numbers before anyone is asked.
    fn check_numbers(&self) -> anyhow::Result<()> {
        if self.replication_factor.is_some_and(|factor| !(1..=i32::from(i16::MAX)).contains(&factor)) {
            bail!("The replication factor must be between 1 and {} inclusive", i16::MAX);
        }
        if self.partitions.is_some_and(|partitions| partitions < 1) {
            bail!("The partitions must be greater than 0");
        }
        Ok(())
    }
}

/// `--topic` as an expression that must match the whole name; commas separate alternatives (`TopicFilter`).
fn topic_pattern(text: &str) -> anyhow::Result<Regex> {
    let text = text.trim().replace(',', "|").replace(' ', "");
    let text = text.trim_matches(|c| c == '"' || c == '\'');
    Regex::new(&format!("^(?:{text})$")).map_err(|_| anyhow!("{text} is an invalid regex."))
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    if args.is_empty() {
        return Ok(usage("Create, delete, describe, or change a topic."));
    }
    let options: Options = match super::parse("kafka-topics", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if let Err(error) = options.check() {
        return Ok(usage(&error.to_string()));
    }
    match execute(&options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            println!("Error while executing topic command : {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn usage(message: &str) -> ExitCode {
    eprintln!("{message}\n\n{}", Options::command().render_help());
    ExitCode::FAILURE
}

fn execute(options: &Options) -> anyhow::Result<()> {
    options.check_numbers()?;
    if options.create && options.topic.as_deref().is_some_and(|topic| topic.contains(['.', '_'])) {
        println!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. \
             To avoid issues it is best to use either, but not both."
        );
    }
    match &options.zookeeper {
        Some(connect) => cluster::block_on(zookeeper::execute(options, connect)),
        None => cluster::block_on(bootstrap::execute(options)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Options {
        Options::try_parse_from(std::iter::once("kafka-topics").chain(line.split_whitespace())).expect("options")
    }

    fn refused(line: &str) -> String {
        parsed(line).check().expect_err(line).to_string()
    }

    #[test]
    fn the_quickstarts_commands_are_taken() {
        for line in [
            "--create --zookeeper localhost:2181 --partitions 1 --replication-factor 1 --topic test",
            "--describe --zookeeper localhost:2181 --topic test",
            "--create --bootstrap-server localhost:9092 --topic test",
            "--list --bootstrap-server=localhost:9092 --exclude-internal",
            "--alter --zookeeper z --topic t --config a=b --delete-config c",
            "--describe --bootstrap-server b --under-replicated-partitions",
        ] {
            parsed(line).check().expect(line);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, message) in [
            ("--list --create --zookeeper z --topic t", "exactly one action"),
            ("--list", "Only one of --bootstrap-server or --zookeeper"),
            ("--list --bootstrap-server b --zookeeper z", "Only one of"),
            ("--create --bootstrap-server b", "Missing required argument \"[topic]\""),
            ("--create --zookeeper z --topic t", "Missing required argument \"[partitions]\""),
            ("--alter --bootstrap-server b --topic t --config a=b", "kafka-configs CLI"),
            ("--alter --bootstrap-server b --topic t", "\"[partitions]\""),
            ("--delete --bootstrap-server b --topic t --if-not-exists", "can't be used with option \"[delete]\""),
            ("--describe --zookeeper z --under-min-isr-partitions", "can't be used with option \"[zookeeper]\""),
            ("--list --bootstrap-server b --delete-config c", "\"[delete-config]\""),
            ("--describe --bootstrap-server b --unavailable-partitions --topics-with-overrides", "can't be used"),
            ("--create --bootstrap-server b --topic t --replica-assignment 1 --partitions 1", "\"[partitions]\""),
        ] {
            assert!(refused(line).contains(message), "{line}: {}", refused(line));
        }
    }

    #[test]
    fn topics_are_chosen_by_expression() {
        let all = || ["test", "test2", "a.b", "__consumer_offsets"].map(str::to_owned).to_vec();
        assert_eq!(parsed("--topic test").select(all()).expect("valid"), ["test"]);
        assert_eq!(parsed("--topic test.*").select(all()).expect("valid"), ["test", "test2"]);
        assert_eq!(parsed("--topic test,a\\.b").select(all()).expect("valid"), ["a.b", "test"]);
        assert_eq!(parsed("--exclude-internal").select(all()).expect("valid").len(), 3);
        let error = parsed("--topic none").select_existing(all()).expect_err("none").to_string();
        assert_eq!(error, "Topic 'none' does not exist as expected");
        assert!(parsed("--topic none --if-exists").select_existing(all()).expect("valid").is_empty());
        assert!(parsed("--topic (").select(all()).is_err());
    }

    #[test]
    fn assignments_and_configs_are_checked() {
        assert_eq!(
            parsed("--replica-assignment 1:2,2:3").assignment().expect("valid"),
            Some(vec![vec![1, 2], vec![2, 3]])
        );
        for text in ["1:1", "1:2,3", "x"] {
            assert!(parsed(&format!("--replica-assignment {text}")).assignment().is_err(), "{text}");
        }
        let configs = parsed("--config retention.ms=5 --config cleanup.policy=compact").configs().expect("valid");
        assert_eq!(configs["retention.ms"], "5");
        for text in ["retention.ms", "retention.ms=x", "no.such=1", "a=b=c"] {
            assert!(parsed(&format!("--config {text}")).configs().is_err(), "{text}");
        }
        assert!(parsed("--partitions 0").check_numbers().is_err());
        assert!(parsed("--replication-factor 40000").check_numbers().is_err());
    }
}
