//! What changes while brokers run, beside Kafka: levels of logs and configs of brokers, on the wire and by both tools.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kafka_protocol::protocol::StrBytes;

use crate::support::broker::{Broker, Kind};
use crate::support::cluster::Cluster;
use crate::support::jvm::NEW;
use crate::support::{PATIENCE, wait_for};
use crate::tools::{LIMIT, ours, same, theirs, tool};

const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const SET: i8 = 0;
const DELETE: i8 = 1;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn change(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    let config = |(name, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(*operation).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(config).collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

fn described(kind: i8, name: &str, keys: &[&str], version: i16) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(keys.iter().map(|key| text(key)).collect()));
    DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(version > 0)
}

/// The error codes, messages and shapes of requests that concern loggers.
fn about_loggers(broker: &Broker) -> Vec<String> {
    let mut wire = broker.wire();
    let mut told = Vec::new();
    for (name, logger, operation, level) in [
        ("0", "no.such", 0, Some("INFO")),
        ("0", "no.such", 1, None),
        ("0", "root", 0, Some("LOUD")),
        ("0", "root", 0, Some("info")),
        ("0", "root", 0, Some("OFF")),
        ("0", "root", 0, None),
        ("0", "root", 1, None),
        ("0", "root", 2, Some("INFO")),
        ("0", "root", 3, Some("INFO")),
        ("x", "root", 0, Some("INFO")),
        ("", "root", 0, Some("INFO")),
        ("0", "root", 0, Some("WARN")),
    ] {
        let request = change(BROKER_LOGGER, name, &[(logger, operation, level)]);
        told.push(format!("{:?}", wire.call(1, &request)));
    }
    for (version, name, logger) in [
        (0, "0", "root"),
        (1, "0", "root"),
        (4, "0", "root"),
        (4, "0", "no.such"),
        (4, "", "root"),
        (4, "7", "root"),
        (4, "x", "root"),
    ] {
        let request = described(BROKER_LOGGER, name, &[logger], version);
        told.push(format!("{:?}", wire.call(version, &request)));
    }
    told
}

#[test]
fn loggers_are_shown_and_changed_as_kafka_does() {
    let jvm = Cluster::start(Kind::Jvm(NEW));
    let cluster = Cluster::start(Kind::under_test());
    let ours_says = about_loggers(&cluster.broker);
    for (mine, original) in ours_says.iter().zip(about_loggers(&jvm.broker)) {
        assert_eq!(*mine, original);
    }
    // Kafka's tool with our broker, and both with Kafka's.
    cluster.broker.wire().create_topic("logged", 1, &[]);
    let at = cluster.broker.address();
    let set = "--alter --entity-type broker-loggers --entity-name 0 --add-config barnabas.log=DEBUG,root=INFO";
    for line in [set, "--alter --broker-logger 0 --delete-config barnabas.zk"] {
        same(NEW, "kafka-configs", &format!("{line} --bootstrap-server {at}"));
    }
    for line in ["--describe --broker-logger 0", "--describe --entity-type broker-loggers --entity-name 0 --all"] {
        let line = format!("{line} --bootstrap-server {at}");
        // A logger may come between the two.
        wait_for("both tools to show the same", LIMIT, || {
            let (mine, original) = (ours("kafka-configs", &line, ""), theirs(NEW, "kafka-configs", &line));
            (mine.stdout == original.stdout && mine.status.success()).then_some(())
        });
    }
    let described = tool("kafka-configs", &format!("--describe --broker-logger 0 --bootstrap-server {at}"), "");
    assert!(described.contains("\n  barnabas.log.manager=DEBUG sensitive=false synonyms={}\n"), "{described}");
    for line in [
        "--alter --broker-logger 0 --add-config no.such=INFO,root=INFO",
        "--alter --broker-logger 0 --delete-config no.such",
        "--alter --broker-logger x --add-config root=INFO",
        "--alter --entity-type broker-loggers --add-config root=INFO",
        "--describe --entity-type broker-loggers",
    ] {
        let line = format!("{line} --bootstrap-server {}", jvm.broker.address());
        let (mine, original) = (ours("kafka-configs", &line, ""), theirs(NEW, "kafka-configs", &line));
        assert!(!mine.status.success() && !original.status.success(), "{line}");
        // Without what its client logs.
        let said = original.stderr.lines().rfind(|line| !line.contains(" INFO ")).unwrap_or_default();
        assert!(!said.is_empty() && mine.stderr.contains(said), "{line}: {} instead of {said}", mine.stderr);
    }
    let line = format!(
        "--alter --broker-logger 0 --add-config kafka.controller.KafkaController=TRACE --bootstrap-server {}",
        jvm.broker.address()
    );
    same(NEW, "kafka-configs", &line);
    let line = format!("--describe --broker-logger 0 --bootstrap-server {}", jvm.broker.address());
    let of_controller =
        |text: &str| text.lines().find(|line| line.contains(" kafka.controller.KafkaController=")).map(str::to_owned);
    let mine = of_controller(&ours("kafka-configs", &line, "").stdout);
    assert_eq!(mine.as_deref(), Some("  kafka.controller.KafkaController=TRACE sensitive=false synonyms={}"));
    assert_eq!(mine, of_controller(&theirs(NEW, "kafka-configs", &line).stdout));
}

/// The codes of changes one after the other, and what is shown of these configs in the end.
fn about_configs(broker: &Broker) -> Vec<String> {
    let keys = [
        "unclean.leader.election.enable",
        "num.replica.fetchers",
        "num.network.threads",
        "producer.id.expiration.ms",
        "max.connection.creation.rate",
        "log.retention.ms",
        "listener.name.plaintext.max.connections",
        "max.connections",
    ];
    let mut wire = broker.wire();
    let mut told = Vec::new();
    let for_all = [
        (keys[0], SET, Some("true")),
        (keys[1], SET, Some("2")),
        (keys[2], SET, Some("6")),
        (keys[3], SET, Some("77777")),
        (keys[4], SET, Some("1000")),
        (keys[5], SET, Some("88888")),
    ];
    for (name, changes) in [
        ("", &for_all[..]),
        ("0", &[(keys[5], SET, Some("99999")), (keys[3], SET, Some("66666")), (keys[6], SET, Some("500"))]),
        ("", &[(keys[6], SET, Some("400")), (keys[7], SET, Some("600"))]),
        ("0", &[(keys[6], SET, Some("x"))]),
        ("0", &[(keys[1], SET, Some("9"))]),
        ("", &[(keys[2], SET, Some("99"))]),
        ("", &[("advertised.listeners", SET, Some("PLAINTEXT://a:1"))]),
        ("0", &[("log.dirs", SET, Some("/x"))]),
        ("0", &[(keys[5], SET, Some("x"))]),
        ("7", &[(keys[5], SET, Some("1"))]),
        ("x", &[(keys[5], SET, Some("1"))]),
        ("0", &[(keys[3], DELETE, None)]),
    ] {
        let answer = wire.call(1, &change(BROKER, name, changes)).responses.remove(0);
        told.push(format!("{name} {changes:?}: {}", answer.error_code));
    }
    for name in ["0", ""] {
        let request = described(BROKER, name, &keys, 4);
        let shown = wait_for("what was set to be shown", PATIENCE, || {
            let mut answer = wire.call(4, &request);
            let mut configs = answer.results.remove(0).configs;
            configs.sort_by(|a, b| a.name.cmp(&b.name));
            let shown: Vec<String> = configs.iter().map(|config| format!("{config:?}")).collect();
            let is_there = |value: &str| shown.iter().any(|config| config.contains(value));
            let gone = name.is_empty() || !is_there("66666");
            (is_there("77777") && is_there(if name.is_empty() { "88888" } else { "99999" }) && gone).then_some(shown)
        });
        told.extend(shown);
    }
    told
}

#[test]
fn configs_of_brokers_are_changed_and_shown_as_kafka_does() {
    let (jvm, cluster) = (Cluster::start(Kind::Jvm(NEW)), Cluster::start(Kind::under_test()));
    let mine = about_configs(&cluster.broker);
    assert!(mine.len() > 18, "{mine:?}");
    for (mine, original) in mine.iter().zip(about_configs(&jvm.broker)) {
        assert_eq!(*mine, original);
    }
}

/// Every config of the broker, and whether it says that it may change while it runs.
fn changeable(broker: &Broker) -> BTreeMap<String, bool> {
    let answer = broker.wire().call(4, &described(BROKER, "0", &[], 4)).results.remove(0);
    answer.configs.into_iter().map(|config| (config.name.to_string(), !config.read_only)).collect()
}

#[test]
fn what_kafka_changes_while_it_runs_is_changed_or_refused_with_a_reason() {
    let (jvm, cluster) = (Cluster::start(Kind::Jvm(NEW)), Cluster::start(Kind::Barnabas));
    let (mine, theirs) = (changeable(&cluster.broker), changeable(&jvm.broker));
    assert!(theirs.values().filter(|changes| **changes).count() > 80, "{theirs:?}");
    let mut wire = cluster.broker.wire();
    for (name, changes) in &theirs {
        let changes_here = mine.get(name).copied().unwrap_or_else(|| panic!("{name} is not known"));
        if *changes && !changes_here {
            let answer = wire.call(1, &change(BROKER, "0", &[(name, SET, Some("1"))])).responses.remove(0);
            let said = answer.error_message.map(|said| said.to_string()).unwrap_or_default();
            let (_, why) = said.split_once(" cannot be changed while the broker runs: ").unwrap_or_default();
            assert!(answer.error_code == 42 && !why.is_empty(), "{name}: {} {said}", answer.error_code);
            assert_ne!(why, "set it in server.properties and restart the broker", "{name}");
        }
        assert!(*changes || !changes_here, "{name} does not change in Kafka");
    }
}
