//! AlterConfigs and IncrementalAlterConfigs: what is refused, what is written, and that DescribeConfigs shows it; the
//! levels of loggers the same way.

use barnabas::base::error::ErrorCode;
use barnabas::zk::session::create_persistent_paths;
use barnabas::zk::znodes::configs;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource as Replaced, AlterableConfig as Whole};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use crate::harness::{Broker, ME, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn broker() -> Broker {
    let broker = Broker::start().await;
    create_persistent_paths(&broker.context.zk).await.expect("ZooKeeper's nodes");
    broker.topic("a", 1).await;
    broker
}

fn resource(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let config = |(name, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(*operation).with_value(value.map(text))
    };
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(config).collect())
}

/// Changes configs; the first answer's error and message.
async fn change(broker: &Broker, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> (ErrorCode, String) {
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource(kind, name, changes)]);
    let response = broker.call(1, &request).await.responses.remove(0);
    (ErrorCode::from_code(response.error_code), response.error_message.map(|m| m.to_string()).unwrap_or_default())
}

/// The value of a config and its source's number.
async fn shown(broker: &Broker, kind: i8, name: &str, config: &str) -> Option<(String, i8)> {
    let asked = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(config)]));
    let mut answer = broker.call(4, &DescribeConfigsRequest::default().with_resources(vec![asked])).await;
    let found = answer.results.remove(0).configs.pop()?;
    Some((found.value.map(|value| value.to_string()).unwrap_or_default(), found.config_source))
}

fn value(text: &str, source: i8) -> Option<(String, i8)> {
    Some((text.to_owned(), source))
}

#[tokio::test]
async fn a_topics_configs_are_changed_and_shown() {
    let broker = broker().await;
    let none = (ErrorCode::None, String::new());
    assert_eq!(change(&broker, TOPIC, "a", &[("retention.ms", SET, Some(" 5 "))]).await, none);
    assert_eq!(change(&broker, TOPIC, "a", &[("cleanup.policy", APPEND, Some("compact"))]).await, none);
    assert_eq!(shown(&broker, TOPIC, "a", "retention.ms").await, value("5", 1));
    assert_eq!(shown(&broker, TOPIC, "a", "cleanup.policy").await, value("delete,compact", 1));
    assert_eq!(change(&broker, TOPIC, "a", &[("retention.ms", DELETE, None)]).await, none);
    assert_eq!(shown(&broker, TOPIC, "a", "retention.ms").await, value("604800000", 5));

    let whole = vec![Whole::default().with_name(text("segment.bytes")).with_value(Some(text("1000")))];
    let replaced = |validate_only| {
        let resource = Replaced::default().with_resource_type(TOPIC).with_resource_name(text("a"));
        let resource = resource.with_configs(whole.clone());
        AlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only)
    };
    assert_eq!(broker.call(2, &replaced(true)).await.responses[0].error_code, 0);
    assert_eq!(shown(&broker, TOPIC, "a", "cleanup.policy").await, value("delete,compact", 1), "only checked");
    assert_eq!(broker.call(2, &replaced(false)).await.responses[0].error_code, 0);
    assert_eq!(shown(&broker, TOPIC, "a", "cleanup.policy").await, value("delete", 5));
    assert_eq!(shown(&broker, TOPIC, "a", "segment.bytes").await, value("1000", 1));
    let notified = broker.context.zk.children(configs::CHANGES_PATH).await.expect("children");
    assert_eq!(notified.len(), 4);
}

#[tokio::test]
async fn a_brokers_configs_are_changed_and_shown() {
    let broker = broker().await;
    let (own, none) = (ME.to_string(), (ErrorCode::None, String::new()));
    let key = "log.retention.ms";
    assert_eq!(change(&broker, BROKER, "", &[(key, SET, Some("7"))]).await, none);
    assert_eq!(shown(&broker, BROKER, &own, key).await, value("7", 3));
    assert_eq!(change(&broker, BROKER, &own, &[(key, SET, Some("8"))]).await, none);
    assert_eq!(shown(&broker, BROKER, &own, key).await, value("8", 2));
    assert_eq!(shown(&broker, BROKER, "", key).await, value("7", 3));
    assert_eq!(shown(&broker, TOPIC, "a", "retention.ms").await, value("8", 2), "a topic's default follows");
    assert_eq!(change(&broker, BROKER, &own, &[(key, DELETE, None)]).await, none);
    let rate = "leader.replication.throttled.rate";
    assert_eq!(shown(&broker, BROKER, &own, rate).await, None, "it stands in no file");
    assert_eq!(change(&broker, BROKER, &own, &[(rate, SET, Some("9"))]).await, none);
    assert_eq!(shown(&broker, BROKER, &own, rate).await, value("9", 2));
    assert_eq!(shown(&broker, BROKER, &own, key).await, value("7", 3));
}

/// Resource type and name, key and value, and the error with the words that it must say.
type Refused<'a> = (i8, &'a str, &'a str, Option<&'a str>, ErrorCode, &'a str);

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let broker = broker().await;
    let own = ME.to_string();
    let cases: &[Refused<'_>] = &[
        (TOPIC, "a", "retention.ms", Some("soon"), ErrorCode::InvalidConfig, "retention.ms=soon is not valid"),
        (TOPIC, "a", "no.such.key", Some("1"), ErrorCode::InvalidConfig, "no.such.key is not a topic config"),
        (TOPIC, "a", "retention.ms", None, ErrorCode::InvalidRequest, "Null value not supported for : retention.ms"),
        (TOPIC, "", "retention.ms", Some("1"), ErrorCode::InvalidRequest, "Default topic resources are not allowed."),
        (TOPIC, "b", "retention.ms", Some("1"), ErrorCode::UnknownTopicOrPartition, "The topic 'b' does not exist."),
        (BROKER, &own, "log.dirs", Some("/x"), ErrorCode::InvalidRequest, "log.dirs cannot be changed while"),
        (BROKER, "", "num.io.threads", Some("9"), ErrorCode::InvalidRequest, "num.io.threads cannot be changed while"),
        (BROKER, &own, "log.segment.bytes", Some("1"), ErrorCode::InvalidRequest, "log.segment.bytes=1 is not valid"),
        (BROKER, "77", "log.retention.ms", Some("1"), ErrorCode::InvalidRequest, "Unexpected broker id, expected 1"),
        (BROKER, "x", "log.retention.ms", Some("1"), ErrorCode::InvalidRequest, "Node id must be an integer"),
        (9, &own, "kafka", Some("DEBUG"), ErrorCode::InvalidRequest, "Unknown resource type 9"),
    ];
    for (kind, name, key, to, code, said) in cases {
        let (error, message) = change(&broker, *kind, name, &[(key, SET, *to)]).await;
        assert!(error == *code && message.contains(said), "{name} {key}: {error:?} {message}");
    }
    let twice = vec![resource(TOPIC, "a", &[("retention.ms", SET, Some("1"))]), resource(TOPIC, "a", &[])];
    let answer = broker.call(0, &IncrementalAlterConfigsRequest::default().with_resources(twice)).await;
    assert!(answer.responses.iter().all(|one| one.error_code == ErrorCode::InvalidRequest.code()));
    assert!(broker.context.zk.children(configs::CHANGES_PATH).await.expect("children").is_empty());
}

#[tokio::test]
async fn levels_of_loggers_are_shown_and_changed() {
    let broker = broker().await;
    let (own, none) = (ME.to_string(), (ErrorCode::None, String::new()));
    let level = async |logger: &str| shown(&broker, BROKER_LOGGER, &own, logger).await;
    assert_eq!(level("root").await, value("INFO", 6));
    assert_eq!(level("barnabas.log").await, value("INFO", 6));
    let debug = [("barnabas", SET, Some("DEBUG")), ("root", SET, Some("ERROR")), ("barnabas.zk", SET, Some("FATAL"))];
    assert_eq!(change(&broker, BROKER_LOGGER, &own, &debug).await, none);
    for (logger, now) in [("root", "ERROR"), ("barnabas", "DEBUG"), ("barnabas.log", "DEBUG"), ("barnabas.zk", "FATAL")]
    {
        assert_eq!(level(logger).await, value(now, 6), "{logger}");
    }
    let back = [("barnabas", DELETE, None), ("barnabas.zk", DELETE, Some(""))];
    assert_eq!(change(&broker, BROKER_LOGGER, &own, &back).await, none);
    assert_eq!(level("barnabas.zk").await, value("ERROR", 6), "the root's");
    assert!(
        broker.context.zk.children(configs::CHANGES_PATH).await.expect("children").is_empty(),
        "ZooKeeper is not told"
    );

    let asked = DescribeConfigsResource::default().with_resource_type(BROKER_LOGGER).with_resource_name(text(&own));
    let asked = DescribeConfigsRequest::default().with_resources(vec![asked.with_configuration_keys(None)]);
    for version in 0..=4 {
        let answer = broker.call(version, &asked.clone()).await.results.remove(0);
        let root = answer.configs.iter().find(|config| config.name.as_str() == "root").expect("the root");
        assert!(answer.configs.len() > 10 && !root.read_only && !root.is_sensitive && !root.is_default);
        assert!(root.synonyms.is_empty() && root.config_type == 0 && root.documentation == Some(text("")));
    }
}

#[tokio::test]
async fn levels_that_cannot_be_are_refused_and_none_changes() {
    let broker = broker().await;
    let own = ME.to_string();
    let supported = "not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN";
    type Case<'a> = (&'a str, (&'a str, i8, Option<&'a str>), ErrorCode, &'a str);
    let cases: &[Case<'_>] = &[
        (&own, ("no.such", SET, Some("INFO")), ErrorCode::InvalidConfig, "Logger no.such does not exist!"),
        (&own, ("no.such", DELETE, None), ErrorCode::InvalidConfig, "Logger no.such does not exist!"),
        (&own, ("root", SET, Some("LOUD")), ErrorCode::InvalidConfig, supported),
        (&own, ("root", SET, Some("debug")), ErrorCode::InvalidConfig, supported),
        (&own, ("root", SET, Some("OFF")), ErrorCode::InvalidConfig, supported),
        (&own, ("root", SET, None), ErrorCode::InvalidRequest, "Null value not supported for : root"),
        (
            &own,
            ("root", DELETE, None),
            ErrorCode::InvalidRequest,
            "Removing the log level of the root logger is not allowed",
        ),
        (
            &own,
            ("root", APPEND, Some("INFO")),
            ErrorCode::InvalidRequest,
            "APPEND operation is not allowed for the BROKER_LOGGER",
        ),
        (
            &own,
            ("root", SUBTRACT, Some("INFO")),
            ErrorCode::InvalidRequest,
            "SUBTRACT operation is not allowed for the BROKER_LOGGER",
        ),
        (&own, ("root", 9, Some("INFO")), ErrorCode::InvalidRequest, "Unknown operation 9"),
        (&own, ("barnabas", SET, Some("INFO")), ErrorCode::InvalidRequest, "Error due to duplicate config keys"),
        (
            "77",
            ("root", SET, Some("INFO")),
            ErrorCode::InvalidRequest,
            "Unexpected node id. Expected 1, but received 77",
        ),
        ("", ("root", SET, Some("INFO")), ErrorCode::InvalidRequest, "Node id must be an integer, but it is: "),
    ];
    for (name, wrong, code, said) in cases {
        let (error, message) = change(&broker, BROKER_LOGGER, name, &[("barnabas", SET, Some("TRACE")), *wrong]).await;
        assert!(error == *code && message.contains(said), "{wrong:?}: {error:?} {message}");
    }
    let trace = resource(BROKER_LOGGER, &own, &[("barnabas", SET, Some("TRACE"))]);
    let only_checked = IncrementalAlterConfigsRequest::default().with_resources(vec![trace]).with_validate_only(true);
    assert_eq!(broker.call(1, &only_checked).await.responses[0].error_code, 0);
    let whole = Whole::default().with_name(text("barnabas")).with_value(Some(text("TRACE")));
    let whole =
        Replaced::default().with_resource_type(BROKER_LOGGER).with_resource_name(text(&own)).with_configs(vec![whole]);
    let replaced =
        broker.call(2, &AlterConfigsRequest::default().with_resources(vec![whole])).await.responses.remove(0);
    assert_eq!(replaced.error_message.expect("refused").as_str(), "Unknown resource type 8");
    assert_eq!(shown(&broker, BROKER_LOGGER, &own, "barnabas").await, value("INFO", 6), "all or nothing");

    for (name, said) in [
        ("", "Broker id must not be empty"),
        ("77", "Unexpected broker id, expected 1 but received 77"),
        ("x", "Broker id must be an integer, but it is: x"),
    ] {
        let asked = DescribeConfigsResource::default().with_resource_type(BROKER_LOGGER).with_resource_name(text(name));
        let answer = broker.call(4, &DescribeConfigsRequest::default().with_resources(vec![asked])).await;
        assert_eq!(answer.results[0].error_message.as_ref().expect("refused").as_str(), said);
    }
}
