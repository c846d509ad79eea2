//! `kafka-configs.sh --bootstrap-server`: through the brokers, as 3.9's tool does it.

use anyhow::{anyhow, bail};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Entity, Kind, Options, Wanted};
use crate::cli::cluster::{Cluster, Node, refusal};
use crate::cli::properties;

/// `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
/// `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Does what the options say.
pub(super) async fn execute(options: &Options, wanted: &Wanted) -> anyhow::Result<()> {
    let config = options.command_config.as_deref().map(properties::read_file).transpose()?.unwrap_or_default();
    let mut cluster = Cluster::connect(options.bootstrap_server.as_deref().unwrap_or_default(), &config).await?;
    if options.alter { alter(&mut cluster, wanted).await } else { describe(options, &mut cluster, wanted).await }
}

/// The name of an entity in requests: the default of all brokers has none.
fn resource_name(entity: &Entity) -> &str {
    match entity {
        Entity::Named(name) => name,
        Entity::All | Entity::Default => "",
    }
}

/// Whom to ask: a broker's own configs and loggers only that broker knows.
async fn node(cluster: &mut Cluster, kind: Kind, entity: &Entity) -> anyhow::Result<std::rc::Rc<Node>> {
    match (kind, entity) {
        (Kind::Brokers | Kind::BrokerLoggers, Entity::Named(id)) => cluster.broker(id.parse()?).await,
        _ => Ok(cluster.any()),
    }
}

async fn alter(cluster: &mut Cluster, wanted: &Wanted) -> anyhow::Result<()> {
    let known = entries(cluster, wanted.kind, &wanted.entity, false).await?;
    let is_known = |name: &String| known.iter().any(|entry| entry.name.as_str() == name);
    // A logger that does not exist cannot be given a level either.
    let (what, added) = match wanted.kind {
        Kind::BrokerLoggers => ("broker logger", Some(wanted.add.keys())),
        Kind::Topics | Kind::Brokers => ("config", None),
    };
    let named = wanted.delete.iter().chain(added.into_iter().flatten());
    let unknown: Vec<&str> = named.filter(|name| !is_known(name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        bail!("Invalid {what}(s): {}", unknown.join(","));
    }
    let config = |name: &String, operation: i8, value: Option<&String>| {
        AlterableConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_config_operation(operation)
            .with_value(value.map(|value| StrBytes::from_string(value.clone())))
    };
    let mut configs: Vec<_> = wanted.add.iter().map(|(name, value)| config(name, SET, Some(value))).collect();
    configs.extend(wanted.delete.iter().map(|name| config(name, DELETE, None)));
    let name = resource_name(&wanted.entity);
    let resource = AlterConfigsResource::default()
        .with_resource_type(resource_type(wanted.kind))
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configs(configs);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = node(cluster, wanted.kind, &wanted.entity).await?.ask(|_| request).await?;
    let answered = answer.responses.first().ok_or_else(|| anyhow!("the broker's answer is empty"))?;
    if let Some(error) = refusal(answered.error_code, answered.error_message.as_ref()) {
        return Err(error);
    }
    if name.is_empty() {
        println!("Completed updating default config for {} in the cluster.", wanted.kind.plural());
    } else {
        println!("Completed updating config for {} {name}.", wanted.kind.singular());
    }
    Ok(())
}

fn resource_type(kind: Kind) -> i8 {
    match kind {
        Kind::Topics => TOPIC,
        Kind::Brokers => BROKER,
        Kind::BrokerLoggers => BROKER_LOGGER,
    }
}

async fn describe(options: &Options, cluster: &mut Cluster, wanted: &Wanted) -> anyhow::Result<()> {
    let kind = wanted.kind;
    let entities = match &wanted.entity {
        Entity::All => {
            let default = (kind == Kind::Brokers).then_some(Entity::Default);
            existing(cluster, kind).await?.into_iter().map(Entity::Named).chain(default).collect()
        }
        one => vec![one.clone()],
    };
    for entity in entities {
        match &entity {
            Entity::Named(name) => {
                let which = if options.all { "All" } else { "Dynamic" };
                println!("{which} configs for {} {name} are:", kind.singular());
            }
            _ => println!("Default configs for {} in the cluster are:", kind.plural()),
        }
        for entry in entries(cluster, kind, &entity, options.all).await? {
            println!("  {}", shown(&entry));
        }
    }
    Ok(())
}

/// The topics or brokers there are, by name.
async fn existing(cluster: &Cluster, kind: Kind) -> anyhow::Result<Vec<String>> {
    if kind == Kind::Brokers {
        let mut ids = cluster.broker_ids().await?;
        ids.sort_unstable();
        return Ok(ids.iter().map(i32::to_string).collect());
    }
    let metadata = cluster.metadata(None).await?;
    Ok(metadata.topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.to_string()).collect())
}

/// An entity's configs by name: those that are set for it, or all.
async fn entries(
    cluster: &mut Cluster,
    kind: Kind,
    entity: &Entity,
    all: bool,
) -> anyhow::Result<Vec<DescribeConfigsResourceResult>> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(resource_type(kind))
        .with_resource_name(StrBytes::from_string(resource_name(entity).to_owned()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let mut answer = node(cluster, kind, entity).await?.ask(|_| request).await?;
    let mut result = answer.results.pop().ok_or_else(|| anyhow!("the broker's answer is empty"))?;
    if let Some(error) = refusal(result.error_code, result.error_message.as_ref()) {
        return Err(error);
    }
    let source = match (kind, entity) {
        (Kind::Topics, _) => Source::Topic,
        (Kind::Brokers, Entity::Named(_)) => Source::Broker,
        (Kind::Brokers, _) => Source::Cluster,
        (Kind::BrokerLoggers, _) => Source::Logger,
    };
    result.configs.retain(|entry| all || entry.config_source == source as i8);
    result.configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(result.configs)
}

/// `DescribeConfigsResponse.ConfigSource`, of what is set while brokers run.
#[derive(Clone, Copy)]
enum Source {
    Topic = 1,
    Broker = 2,
    Cluster = 3,
    Logger = 6,
}

/// `ConfigEntry.ConfigSource` as Java names it.
fn source_name(code: i8) -> &'static str {
    match code {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        _ => "UNKNOWN",
    }
}

fn text(value: Option<&StrBytes>) -> &str {
    value.map_or("null", StrBytes::as_str)
}

fn shown(entry: &DescribeConfigsResourceResult) -> String {
    let synonyms = entry.synonyms.iter().map(|synonym| {
        format!("{}:{}={}", source_name(synonym.source), synonym.name.as_str(), text(synonym.value.as_ref()))
    });
    let synonyms = synonyms.collect::<Vec<_>>().join(", ");
    let value = text(entry.value.as_ref());
    format!("{}={value} sensitive={} synonyms={{{synonyms}}}", entry.name.as_str(), entry.is_sensitive)
}
