//! `kafka-configs.sh`: shows and changes the configs of topics and brokers, and the levels of brokers' logs. Speaks like 3.9's tool, with `--zookeeper` like
//! 2.8's.

mod bootstrap;
mod zookeeper;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{CommandFactory, Parser};

use super::cluster;
use super::properties::{self, Properties};
use super::usage::Given;

/// Add, remove or show configs of topics and brokers, and the levels of brokers' logs.
#[derive(Parser, Debug, Default)]
#[command(name = "kafka-configs", infer_long_args = true)]
struct Options {
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// ZooKeeper's servers, to read and write there without a broker: HOST1:PORT1,HOST2:PORT2/CHROOT
    #[arg(long)]
    zookeeper: Option<String>,
    /// A properties file for the admin client
    #[arg(long)]
    command_config: Option<PathBuf>,
    /// Change configs
    #[arg(long)]
    alter: bool,
    /// Show configs
    #[arg(long)]
    describe: bool,
    /// Show those too that nobody has set
    #[arg(long)]
    all: bool,
    /// What to look at: topics, brokers or broker-loggers
    #[arg(long)]
    entity_type: Option<String>,
    /// The topic's name or the broker's id
    #[arg(long)]
    entity_name: Option<String>,
    /// The default of all brokers
    #[arg(long)]
    entity_default: bool,
    /// Configs to add: k1=v1,k2=[v2,v3]
    #[arg(long)]
    add_config: Option<String>,
    /// A properties file with configs to add
    #[arg(long)]
    add_config_file: Option<PathBuf>,
    /// Configs to take away: k1,k2
    #[arg(long, value_delimiter = ',')]
    delete_config: Vec<String>,
    /// The topic: the same as --entity-type topics --entity-name TOPIC
    #[arg(long)]
    topic: Option<String>,
    /// The broker: the same as --entity-type brokers --entity-name ID
    #[arg(long)]
    broker: Option<String>,
    /// The broker whose loggers are meant: the same as --entity-type broker-loggers --entity-name ID
    #[arg(long)]
    broker_logger: Option<String>,
    /// The default of all brokers: the same as --entity-type brokers --entity-default
    #[arg(long)]
    broker_defaults: bool,
    /// Ask nothing; this tool never asks
    #[arg(long)]
    force: bool,
}

/// What has configs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Topics,
    Brokers,
    BrokerLoggers,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Brokers => "brokers",
            Self::BrokerLoggers => "broker-loggers",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Self::Topics => "topic",
            Self::Brokers => "broker",
            Self::BrokerLoggers => "broker-logger",
        }
    }
}

/// One entity, or all of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entity {
    All,
    Named(String),
    Default,
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kind: Kind,
    entity: Entity,
    /// Configs to add.
    add: Properties,
    /// Configs to take away.
    delete: Vec<String>,
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    if args.is_empty() {
        eprintln!("Add/Remove entity config for a topic, client, user, broker, ip or client-metrics\n");
        eprintln!("{}", Options::command().render_help());
        return Ok(ExitCode::FAILURE);
    }
    let options: Options = match super::parse("kafka-configs", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let wanted = options.wanted()?;
    match &options.zookeeper {
        Some(connect) => cluster::block_on(zookeeper::execute(connect, &options, &wanted))?,
        None => cluster::block_on(bootstrap::execute(&options, &wanted))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn wanted(&self) -> anyhow::Result<Wanted> {
        if self.alter == self.describe {
            bail!("Command must include exactly one action: --describe, --alter");
        }
        match (&self.bootstrap_server, &self.zookeeper) {
            (None, None) => bail!("One of the required --bootstrap-server or --zookeeper arguments must be specified"),
            (Some(_), Some(_)) => bail!("Only one of --bootstrap-server or --zookeeper can be specified"),
            (None, Some(_)) if self.command_config.is_some() => {
                bail!("Option \"[command-config]\" can't be used with option \"[zookeeper]\"")
            }
            _ => {}
        }
        let (kind, entity) = self.entity()?;
        let wanted = Wanted { kind, entity, add: self.to_add()?, delete: self.to_delete() };
        self.check(&wanted)?;
        Ok(wanted)
    }

    fn entity(&self) -> anyhow::Result<(Kind, Entity)> {
        let short = [
            self.topic.as_ref().map(|name| (Kind::Topics, Entity::Named(name.clone()))),
            self.broker.as_ref().map(|name| (Kind::Brokers, Entity::Named(name.clone()))),
            self.broker_logger.as_ref().map(|name| (Kind::BrokerLoggers, Entity::Named(name.clone()))),
            self.broker_defaults.then_some((Kind::Brokers, Entity::Default)),
        ];
        let mut short = short.into_iter().flatten();
        let long = self.entity_type.is_some() || self.entity_name.is_some() || self.entity_default;
        match (short.next(), short.next()) {
            (Some(_), _) if long => {
                bail!("--entity-{{type,name,default}} should not be used in conjunction with specific entity flags")
            }
            (Some(_), Some(_)) => {
                bail!("Only one of --topic, --broker, --broker-logger and --broker-defaults can be specified")
            }
            (Some(one), None) => return Ok(one),
            (None, _) => {}
        }
        let kind = match self.entity_type.as_deref() {
            Some("topics") => Kind::Topics,
            Some("brokers") => Kind::Brokers,
            Some("broker-loggers") => Kind::BrokerLoggers,
            Some(other) => {
                bail!("Invalid entity type {other}, the entity type must be one of topics, brokers, broker-loggers")
            }
            None => bail!("At least one entity type must be specified"),
        };
        let entity = match (&self.entity_name, self.entity_default) {
            (Some(_), true) => bail!("Only one of --entity-name and --entity-default can be specified"),
            (Some(name), false) => Entity::Named(name.clone()),
            (None, true) if kind == Kind::Topics => bail!("Topics have no default of their own: see --broker-defaults"),
            // Loggers have no default either; that a name is missing is said below.
            (None, true) if kind == Kind::BrokerLoggers => Entity::All,
            (None, true) => Entity::Default,
            (None, false) => Entity::All,
        };
        Ok((kind, entity))
    }

    fn check(&self, wanted: &Wanted) -> anyhow::Result<()> {
        let given = [
            ("alter", self.alter),
            ("describe", self.describe),
            ("all", self.all),
            ("add-config", self.add_config.is_some()),
            ("add-config-file", self.add_config_file.is_some()),
            ("delete-config", !self.delete_config.is_empty()),
            ("zookeeper", self.zookeeper.is_some()),
        ];
        let given = Given::new(&given);
        given.exclude("describe", &["add-config", "add-config-file", "delete-config"])?;
        given.exclude("alter", &["all"])?;
        given.exclude("zookeeper", &["all"])?;
        given.exclude("add-config", &["add-config-file"])?;
        let kind = wanted.kind.plural();
        if let (Kind::Brokers | Kind::BrokerLoggers, Entity::Named(name)) = (wanted.kind, &wanted.entity)
            && name.parse::<i32>().is_err()
        {
            bail!("The entity name for {kind} must be a valid integer broker id, but it is: {name}");
        }
        if self.describe && wanted.kind == Kind::BrokerLoggers && wanted.entity == Entity::All {
            bail!("an entity name must be specified with --describe of {kind}");
        }
        if self.alter && wanted.entity == Entity::All {
            bail!("an entity name must be specified with --alter of {kind}");
        }
        if self.alter && wanted.add.is_empty() && wanted.delete.is_empty() {
            bail!("At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter");
        }
        Ok(())
    }

    fn to_add(&self) -> anyhow::Result<Properties> {
        match (&self.add_config, &self.add_config_file) {
            (Some(text), _) => parse_configs(text),
            (None, Some(file)) => properties::read_file(file),
            (None, None) => Ok(Properties::new()),
        }
    }

    fn to_delete(&self) -> Vec<String> {
        self.delete_config.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    }
}

/// Reads `k1=v1,k2=[v2,v3]`: brackets hold commas together.
fn parse_configs(text: &str) -> anyhow::Result<Properties> {
    let mut configs = Properties::new();
    let mut depth = 0_i32;
    let pairs = text.split(|c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth <= 0
    });
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("Invalid entity config: all configs to be added must be in the format \"key=val\".");
        };
        configs.insert(name.trim().to_owned(), value.replace(['[', ']'], "").trim().to_owned());
    }
    Ok(configs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> anyhow::Result<Wanted> {
        let args = ["kafka-configs", "--bootstrap-server", "b:1"].into_iter().chain(line.split_whitespace());
        Options::try_parse_from(args)?.wanted()
    }

    #[test]
    fn brackets_hold_lists_together() {
        let configs = parse_configs("a=1,b=[2,3] , c=x=[4,5],d=").expect("valid");
        let shown: Vec<_> = configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["a=1", "b=2,3", "c=x=4,5", "d="]);
        assert!(parse_configs("a").is_err());
    }

    #[test]
    fn entities_are_named_in_two_ways() {
        let long = wanted("--describe --entity-type brokers --entity-default").expect("valid");
        assert_eq!(long, wanted("--describe --broker-defaults").expect("valid"));
        let long = wanted("--alter --entity-type topics --entity-name t --delete-config a,b").expect("valid");
        assert_eq!(long, wanted("--alter --topic t --delete-config a --delete-config b").expect("valid"));
        assert_eq!((long.entity, long.delete.len()), (Entity::Named("t".to_owned()), 2));
        let long = wanted("--describe --entity-type broker-loggers --entity-name 1").expect("valid");
        assert_eq!(long, wanted("--describe --broker-logger 1").expect("valid"));
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for (line, said) in [
            ("--topic t", "exactly one action"),
            ("--describe", "At least one entity type"),
            ("--describe --entity-type users", "Invalid entity type users"),
            ("--describe --topic t --broker 1", "Only one of"),
            ("--describe --topic t --entity-type topics", "should not be used"),
            ("--describe --topic t --add-config a=1", "add-config"),
            ("--describe --broker x", "must be a valid integer broker id, but it is: x"),
            (
                "--describe --broker-logger x",
                "The entity name for broker-loggers must be a valid integer broker id, but it is: x",
            ),
            (
                "--describe --entity-type broker-loggers",
                "an entity name must be specified with --describe of broker-loggers",
            ),
            (
                "--alter --entity-type broker-loggers --entity-default --add-config root=INFO",
                "an entity name must be specified with --alter of broker-loggers",
            ),
            ("--describe --broker 1 --broker-logger 1", "Only one of"),
            ("--alter --topic t", "At least one of --add-config"),
            (
                "--alter --entity-type topics --add-config a=1",
                "an entity name must be specified with --alter of topics",
            ),
            ("--alter --topic t --add-config a", "key=val"),
        ] {
            let error = wanted(line).expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
