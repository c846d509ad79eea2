use super::*;
use proptest::prelude::*;

const REFERENCE: &str = include_str!("../../tests/golden/topic-configs-3.9.txt");

fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn broker(pairs: &[(&'static str, &'static str)]) -> BrokerConfig {
    BrokerConfig::from_pairs(pairs.iter().copied()).expect("a valid config")
}

#[test]
fn every_key_of_the_reference_is_known_with_its_default() {
    let reference: Vec<&str> = REFERENCE.lines().collect();
    let config = BrokerConfig::default();
    let mut ours: Vec<String> =
        TOPIC_KEYS.iter().map(|k| format!("{}={}", k.def.name, broker_default(&config, k))).collect();
    ours.sort();
    assert_eq!(ours, reference);
    for key in TOPIC_KEYS {
        assert_eq!(key.def.default, Some(broker_default(&config, key).as_str()), "{}", key.def.name);
        if let Some(synonym) = key.synonym {
            let def = super::super::broker::key(synonym).expect("a broker key");
            assert_eq!(def.kind, key.def.kind, "{synonym}");
        }
    }
}

#[test]
fn a_topic_overlays_the_broker() {
    let broker = broker(&[("log.segment.bytes", "1000"), ("log.retention.minutes", "1"), ("log.roll.hours", "1")]);
    let config = TopicConfig::resolve(&broker, &overrides(&[("retention.ms", "7"), ("from.a.newer.broker", "x")]));
    let config = config.expect("valid");
    assert_eq!((config.segment_bytes, config.retention_ms, config.segment_ms), (1000, 7, 3_600_000));
    assert!(config.delete && !config.compact);
    let both = TopicConfig::resolve(&broker, &overrides(&[("cleanup.policy", "compact,delete")])).expect("valid");
    assert!(both.delete && both.compact && both.retention_ms == 60_000);
}

#[test]
fn names_and_values_are_checked() {
    let broker = BrokerConfig::default();
    let err = |key: &str, value: &str| {
        TopicConfig::validate(&broker, &overrides(&[(key, value)])).expect_err(key).to_string()
    };
    assert_eq!(err("retention.m", "1"), "retention.m is not a topic config; did you mean retention.ms?");
    assert!(err("retention.ms", "-2").starts_with("retention.ms=-2 is not valid"));
    assert!(err("segment.bytes", "13").contains("at least 14"));
    assert!(err("cleanup.policy", "").contains("delete, compact, or both"));
    assert!(err("remote.storage.enable", "true").contains("does not support"));
    let lags =
        overrides(&[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")]);
    assert!(TopicConfig::validate(&broker, &lags).is_err());
}

#[test]
fn the_format_follows_the_protocol_of_the_cluster() {
    let magic = |ibp: &'static str, version: &'static str| {
        let broker = broker(&[("inter.broker.protocol.version", ibp), ("log.message.format.version", version)]);
        TopicConfig::resolve(&broker, &overrides(&[])).expect("valid").magic
    };
    assert_eq!(
        (magic("2.8", "0.9.0"), magic("2.8", "0.10.2"), magic("2.8", "2.0"), magic("3.9", "0.9.0")),
        (0, 1, 2, 2)
    );
}

#[test]
fn the_newer_limits_of_time_go_first() {
    let old = broker(&[("log.message.timestamp.difference.max.ms", "9")]);
    let config = TopicConfig::resolve(&old, &overrides(&[("message.timestamp.after.max.ms", "3")])).expect("valid");
    assert_eq!((config.message_timestamp_before_max_ms, config.message_timestamp_after_max_ms), (9, 3));
}

#[test]
fn codecs_have_their_numbers() {
    let codec = |text: &str| {
        let config = TopicConfig::resolve(&BrokerConfig::default(), &overrides(&[("compression.type", text)]));
        config.expect("valid").compression_type.codec()
    };
    assert_eq!(
        (codec("producer"), codec("uncompressed"), codec("gzip"), codec("zstd")),
        (None, Some(0), Some(1), Some(4))
    );
}

proptest! {
    #[test]
    fn no_override_panics(pick in 0..TOPIC_KEYS.len(), text in "[ -~]{0,20}") {
        let _ = TopicConfig::validate(&BrokerConfig::default(), &overrides(&[(TOPIC_KEYS[pick].def.name, &text)]));
    }
}
