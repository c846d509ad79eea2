//! `kafka-configs.sh --zookeeper`: on the znodes, as 2.8's tool does it. Brokers take the change from there.

use std::collections::BTreeMap;

use anyhow::bail;

use super::{Entity, Kind, Options, Wanted};
use crate::admin::AdminError;
use crate::admin::configs::{self, Configs};
use crate::base::error::ErrorCode;
use crate::cli::zookeeper_client;
use crate::config::dynamic;
use crate::config::{BrokerConfig, TopicConfig};
use crate::zk::client::ZkClient;
use crate::zk::znodes::configs::{DEFAULT_ENTITY, EntityType};
use crate::zk::znodes::{broker_ids, topics};

/// What may be changed in ZooKeeper while the broker runs; anything else goes through the broker, which checks it.
const WHILE_RUNNING: &[&str] = &[
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// Does what the options say.
pub(super) async fn execute(connect: &str, options: &Options, wanted: &Wanted) -> anyhow::Result<()> {
    println!("Warning: --zookeeper is deprecated and will be removed in a future version of Kafka.");
    println!("Use --bootstrap-server instead to specify a broker to connect to.");
    let zk = zookeeper_client::connect(connect).await?;
    let done = if options.alter { alter(&zk, wanted).await } else { describe(&zk, wanted).await };
    zk.close().await;
    done
}

/// Whose configs stand in ZooKeeper.
fn entity_type(kind: Kind) -> anyhow::Result<EntityType> {
    match kind {
        Kind::Topics => Ok(EntityType::Topics),
        Kind::Brokers => Ok(EntityType::Brokers),
        Kind::BrokerLoggers => {
            bail!("--bootstrap-server must be specified for {}: only the broker itself knows them", kind.plural())
        }
    }
}

/// The node's name, and how the original writes the entity.
fn named(kind: EntityType, entity: &Entity) -> (String, String) {
    let what = if kind == EntityType::Topics { "topic" } else { "brokers" };
    match entity {
        Entity::Named(name) => (name.clone(), format!("{what} '{name}'")),
        Entity::Default | Entity::All => (DEFAULT_ENTITY.to_owned(), format!("default {what}")),
    }
}

async fn alter(zk: &ZkClient, wanted: &Wanted) -> anyhow::Result<()> {
    let kind = entity_type(wanted.kind)?;
    let (name, shown) = named(kind, &wanted.entity);
    if kind == EntityType::Brokers {
        only_without_broker(zk, wanted).await?;
    } else if zk.exists(&topics::path(&name)).await?.is_none() {
        bail!("Topic '{name}' does not exist.");
    }
    let change = |before: &Configs| changed(before, kind, wanted);
    configs::alter(zk, kind, &name, false, change).await?;
    println!("Completed updating config for entity: {shown}.");
    Ok(())
}

/// Brokers that run must check what is changed themselves.
async fn only_without_broker(zk: &ZkClient, wanted: &Wanted) -> anyhow::Result<()> {
    let others: Vec<&str> =
        wanted.add.keys().map(String::as_str).filter(|name| !WHILE_RUNNING.contains(name)).collect();
    if others.is_empty() {
        return Ok(());
    }
    let message = format!("--bootstrap-server option must be specified to update broker configs {}", others.join(", "));
    match &wanted.entity {
        Entity::Named(id) if zk.exists(&format!("{}/{id}", broker_ids::PATH)).await?.is_some() => {
            bail!("{message} when broker {id} is running.");
        }
        Entity::Named(_) => {}
        _ if !zk.children(broker_ids::PATH).await?.is_empty() => {
            bail!("{message} for default cluster if any broker is running.");
        }
        _ => {}
    }
    Ok(())
}

fn changed(before: &Configs, kind: EntityType, wanted: &Wanted) -> Result<Configs, AdminError> {
    let refused = |error: crate::config::ConfigError| AdminError::new(ErrorCode::InvalidConfig, error.to_string());
    let unknown: Vec<&str> =
        wanted.delete.iter().map(String::as_str).filter(|name| !before.contains_key(*name)).collect();
    if !unknown.is_empty() {
        return Err(AdminError::new(ErrorCode::InvalidConfig, format!("Invalid config(s): {}", unknown.join(","))));
    }
    let mut after = before.clone();
    after.extend(wanted.add.clone());
    wanted.delete.iter().for_each(|name| drop(after.remove(name)));
    if kind == EntityType::Topics {
        TopicConfig::validate(&BrokerConfig::default(), &after).map_err(refused)?;
    } else {
        let check = if wanted.entity == Entity::Default { dynamic::check_for_all } else { dynamic::check };
        wanted.add.iter().try_for_each(|(name, text)| check(name, text)).map_err(refused)?;
    }
    Ok(after)
}

async fn describe(zk: &ZkClient, wanted: &Wanted) -> anyhow::Result<()> {
    let kind = entity_type(wanted.kind)?;
    let entities = match &wanted.entity {
        Entity::All => {
            let folder = match kind {
                EntityType::Topics => topics::PATH.to_owned(),
                _ => format!("/config/{}", kind.folder()),
            };
            let mut names = zk.children(&folder).await?;
            names.sort_unstable();
            let entity = |name: String| if name == DEFAULT_ENTITY { Entity::Default } else { Entity::Named(name) };
            names.into_iter().map(entity).collect()
        }
        one => vec![one.clone()],
    };
    for entity in entities {
        let (name, shown) = named(kind, &entity);
        let found: BTreeMap<String, String> = configs::read(zk, kind, &name).await?.configs;
        let pairs: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        println!("Configs for {shown} are {}", pairs.join(","));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::base::ids::BrokerId;
    use crate::zk::backend::CreateMode;
    use crate::zk::memory::MemoryZk;
    use crate::zk::session::create_persistent_paths;

    async fn tool(zk: &ZkClient, line: &str) -> anyhow::Result<()> {
        let args = ["kafka-configs", "--zookeeper", "z"].into_iter().chain(line.split_whitespace());
        let options = Options::try_parse_from(args)?;
        let wanted = options.wanted()?;
        if options.alter { alter(zk, &wanted).await } else { describe(zk, &wanted).await }
    }

    #[tokio::test]
    async fn configs_are_changed_on_the_znodes() {
        let zk = ZkClient::connect(Arc::new(MemoryZk::new()), Duration::from_secs(1)).await.expect("a session");
        create_persistent_paths(&zk).await.expect("paths");
        zk.create(&topics::path("t"), b"", CreateMode::Persistent).await.expect("a topic");
        tool(&zk, "--alter --topic t --add-config retention.ms=5,cleanup.policy=[compact,delete]").await.expect("set");
        tool(&zk, "--alter --topic t --delete-config retention.ms").await.expect("gone");
        let left = configs::read(&zk, EntityType::Topics, "t").await.expect("read").configs;
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [("cleanup.policy".to_owned(), "compact,delete".to_owned())]);
        tool(&zk, "--describe --entity-type topics").await.expect("shown");
        for (line, said) in [
            ("--alter --topic t --delete-config retention.ms", "Invalid config(s): retention.ms"),
            ("--alter --topic t --add-config retention.ms=x", "retention.ms=x is not valid"),
            ("--alter --topic u --add-config retention.ms=1", "Topic 'u' does not exist."),
            ("--alter --broker 3 --add-config log.dirs=/x", "log.dirs cannot be changed"),
            ("--alter --broker-defaults --add-config advertised.listeners=PLAINTEXT://a:1", "for one broker at a time"),
            ("--describe --broker-logger 3", "--bootstrap-server must be specified for broker-loggers"),
        ] {
            let error = tool(&zk, line).await.expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
        tool(&zk, "--alter --broker 3 --add-config log.retention.ms=5").await.expect("before it runs");
        zk.create(&broker_ids::path(BrokerId(3)), b"", CreateMode::Ephemeral).await.expect("it runs");
        for entity in ["--broker 3", "--broker-defaults"] {
            let error =
                tool(&zk, &format!("--alter {entity} --add-config log.retention.ms=6")).await.expect_err("running");
            assert!(error.to_string().starts_with("--bootstrap-server option must be specified"), "{error}");
        }
    }
}
