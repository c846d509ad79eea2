use super::*;
use proptest::prelude::*;

const REFERENCE: &str = include_str!("../../tests/golden/broker-configs-3.9.txt");

/// What the broker the reference was read from had set.
const SET_THERE: &[(&str, &str)] = &[
    ("broker.id", "0"),
    ("node.id", "0"),
    ("listeners", "PLAINTEXT://127.0.0.1:19092"),
    ("log.dirs", ""),
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("zookeeper.connect", "127.0.0.1:12181"),
];

fn load(pairs: &[(&str, &str)]) -> Result<(BrokerConfig, Vec<Warning>), ConfigError> {
    let mut all = vec![("zookeeper.connect".to_owned(), "localhost:2181".to_owned())];
    all.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    BrokerConfig::load(&[], [], &all)
}

fn ok(pairs: &[(&str, &str)]) -> BrokerConfig {
    load(pairs).expect("a valid config").0
}

fn err(pairs: &[(&str, &str)]) -> String {
    load(pairs).expect_err("an invalid config").to_string()
}

#[test]
fn every_key_of_the_reference_is_known_with_its_default() {
    let mut reference: BTreeMap<&str, &str> = REFERENCE.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(reference.len(), 313);
    // The reference was printed by a tool that passes over names with capitals.
    reference.insert("zookeeper.clientCnxnSocket", "null");
    for def in keys() {
        let expected = reference.remove(def.name).unwrap_or_else(|| panic!("{} is not Kafka's", def.name));
        let shown = def.default.map_or("null".to_owned(), |_| def.default_value().to_string());
        match SET_THERE.iter().find(|(name, _)| *name == def.name) {
            Some((_, set)) => assert_eq!(*set, expected, "{}", def.name),
            None => assert_eq!(shown, expected, "{}", def.name),
        }
    }
    assert!(reference.is_empty(), "missing: {reference:?}");
}

#[test]
fn every_default_is_valid_and_every_key_has_a_doc() {
    let mut seen = std::collections::BTreeSet::new();
    for def in keys().chain(REMOVED_KEYS) {
        if let Some(text) = def.default {
            def.parse(text).unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(def.doc.ends_with('.'), "{}", def.name);
        assert!(seen.insert(def.name), "{} twice", def.name);
    }
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    assert_eq!(
        err(&[("num.partitions", "0")]),
        "num.partitions=0 is not valid: allowed is a whole number of 32 bits, at least 1"
    );
    assert!(err(&[("compression.type", "brotli")]).contains("one of uncompressed, zstd, lz4, snappy, gzip, producer"));
    assert!(err(&[("log.message.timestamp.type", "x")]).contains("CreateTime"));
    // A key without effect is checked as well.
    assert!(err(&[("ssl.client.auth", "maybe")]).contains("ssl.client.auth=maybe"));
    assert!(err(&[("listener.name.a.max.connections", "-1")]).contains("max.connections=-1"));
}

#[test]
fn zookeeper_connect_is_asked_for() {
    let error = BrokerConfig::load(&[], [], &[]).unwrap_err();
    assert_eq!(error.key(), Some("zookeeper.connect"));
    assert_eq!(ok(&[("zookeeper.connect", "a,b:2/c")]).zookeeper().expect("set").to_string(), "a:2181,b:2/c");
}

#[test]
fn what_has_no_effect_is_said() {
    let (_, warnings) = load(&[
        ("log.retenton.ms", "1"),
        ("ssl.protocol", "TLSv1.2"),
        ("background.threads", "3"),
        ("quota.producer.default", "7"),
        ("listener.name.plaintext.scram-sha-256.sasl.jaas.config", "x"),
        ("log.message.format.version", "0.10.0"),
    ])
    .expect("valid");
    let text: Vec<String> = warnings.iter().map(Warning::to_string).collect();
    let text = text.join("\n");
    for part in [
        "log.retenton.ms is not a known config and is ignored; the nearest known one is log.retention.ms",
        "ssl.protocol is known to Kafka; Barnabas does not act on it yet",
        "background.threads has no effect",
        "quota.producer.default was removed",
        "sasl.jaas.config is known to Kafka",
        "log.message.format.version has no effect",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(warnings.len(), 6);
}

#[test]
fn what_would_be_unsafe_stops_the_start() {
    for (key, value) in [
        ("authorizer.class.name", "kafka.security.authorizer.AclAuthorizer"),
        ("process.roles", "broker"),
        ("zookeeper.set.acl", "true"),
        ("zookeeper.ssl.client.enable", "true"),
        ("create.topic.policy.class.name", "x.Y"),
    ] {
        assert!(err(&[(key, value)]).starts_with(&format!("{key}={value} cannot be ignored safely")));
    }
    assert!(err(&[("listeners", "PLAINTEXT://:1,SSL://:2")]).contains("SSL://:2 cannot be ignored"));
    let mapped = [
        ("listeners", "IN://:1"),
        ("inter.broker.listener.name", "IN"),
        ("listener.security.protocol.map", "IN:SASL_PLAINTEXT"),
    ];
    assert!(err(&mapped).contains("cannot be ignored safely"));
    load(&[("authorizer.class.name", ""), ("process.roles", ""), ("zookeeper.set.acl", "false")]).expect("harmless");
}

#[test]
fn finer_units_go_first() {
    assert_eq!(ok(&[]).retention_ms(), 604_800_000);
    assert_eq!(ok(&[("log.retention.hours", "1")]).retention_ms(), 3_600_000);
    assert_eq!(ok(&[("log.retention.hours", "1"), ("log.retention.minutes", "1")]).retention_ms(), 60_000);
    assert_eq!(ok(&[("log.retention.minutes", "1"), ("log.retention.ms", "5")]).retention_ms(), 5);
    assert_eq!(ok(&[("log.retention.ms", "-7")]).retention_ms(), -1);
    assert!(err(&[("log.retention.hours", "0")]).starts_with("log.retention.hours=0"));
    assert_eq!(ok(&[("log.roll.ms", "9"), ("log.roll.hours", "2")]).roll_ms(), 9);
    assert_eq!(ok(&[("log.roll.jitter.hours", "1")]).roll_jitter_ms(), 3_600_000);
    assert_eq!(ok(&[("log.flush.scheduler.interval.ms", "8")]).flush_interval_ms(), 8);
    assert_eq!(ok(&[("log.flush.scheduler.interval.ms", "8"), ("log.flush.interval.ms", "3")]).flush_interval_ms(), 3);
}

#[test]
fn folders_come_from_log_dirs_or_log_dir() {
    assert_eq!(ok(&[]).log_directories(), [PathBuf::from("/tmp/kafka-logs")]);
    assert_eq!(ok(&[("log.dir", "/a"), ("log.dirs", "/b, /c")]).log_directories(), [PathBuf::from("/b"), "/c".into()]);
    assert_eq!(ok(&[("log.dir", "/a"), ("log.dirs", "")]).log_directories(), [PathBuf::from("/a")]);
    assert!(err(&[("log.dirs", ",")]).contains("at least one folder"));
}

#[test]
fn listeners_go_before_the_old_host_and_port() {
    let written = |endpoints: &[Endpoint]| endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(written(ok(&[]).endpoints()), "PLAINTEXT://:9092");
    let old = ok(&[("port", "1"), ("host.name", "h"), ("advertised.host.name", "a"), ("advertised.port", "2")]);
    assert_eq!(written(old.endpoints()), "PLAINTEXT://h:1");
    assert_eq!(written(old.advertised_endpoints()), "PLAINTEXT://a:2");
    let new = ok(&[("port", "1"), ("listeners", "PLAINTEXT://x:5")]);
    assert_eq!(written(new.endpoints()), "PLAINTEXT://x:5");
    assert_eq!(written(new.advertised_endpoints()), "PLAINTEXT://x:5");
}

#[test]
fn listeners_fit_together() {
    let two = [
        ("listeners", "IN://:1,OUT://:2"),
        ("listener.security.protocol.map", "IN:PLAINTEXT,OUT:PLAINTEXT"),
        ("inter.broker.listener.name", "in"),
    ];
    let config = ok(&two);
    assert_eq!((config.inter_broker_listener(), config.endpoints().len()), ("IN", 2));
    assert_eq!(config.inter_broker_protocol(), SecurityProtocol::Plaintext);
    assert!(err(&two[..2]).starts_with("security.inter.broker.protocol=PLAINTEXT"));
    let with = |key, value| err(&[two[0], two[1], two[2], (key, value)]);
    assert!(with("security.inter.broker.protocol", "PLAINTEXT").contains("cannot be set together"));
    assert!(with("advertised.listeners", "OUT://h:1").contains("no listener of that name"));
    assert!(with("advertised.listeners", "PLAINTEXT://h:1").contains("does not say what"));
    assert!(err(&[("advertised.listeners", "SSL://h:1")]).contains("not one of listeners"));
    assert!(err(&[("listeners", "PLAINTEXT://0.0.0.0:1")]).contains("clients cannot connect to 0.0.0.0"));
    ok(&[("listeners", "PLAINTEXT://0.0.0.0:1"), ("advertised.listeners", "PLAINTEXT://h:1")]);
    assert_eq!(config.control_plane_listener(), None);
    let apart = ok(&[two[0], two[1], two[2], ("control.plane.listener.name", "Out")]);
    assert_eq!(apart.control_plane_listener(), Some("OUT"));
    assert!(with("control.plane.listener.name", "in").contains("another listener than"));
    assert!(with("control.plane.listener.name", "THIRD").contains("no listener of that name"));
    let shared = [("listeners", "IN://:1,OUT://:1"), two[1], two[2]];
    assert!(err(&shared).contains("share port 1"));
    ok(&[("listeners", "IN://127.0.0.1:1,OUT://[::1]:1"), two[1], two[2]]);
}

#[test]
fn ids_agree() {
    assert_eq!(ok(&[]).broker_id, -1);
    assert_eq!(ok(&[("node.id", "3")]).broker_id, 3);
    assert_eq!(ok(&[("broker.id", "3")]).node_id, 3);
    assert!(err(&[("broker.id", "3"), ("node.id", "4")]).contains("same as broker.id"));
    assert!(err(&[("broker.id", "1001")]).contains("reserved.broker.max.id"));
    assert!(err(&[("broker.id.generation.enable", "false")]).contains("at least 0"));
    ok(&[("broker.id", "1001"), ("broker.id.generation.enable", "false")]);
}

#[test]
fn limits_by_host_and_listener_are_read() {
    let config =
        ok(&[("max.connections.per.ip.overrides", "h:1, [::1]:2"), ("listener.name.plaintext.max.connections", "5")]);
    assert_eq!(config.per_ip_overrides(), [("h".to_owned(), 1), ("::1".to_owned(), 2)]);
    assert_eq!(config.listener_max_connections("PLAINTEXT"), 5);
    assert_eq!(config.listener_max_connections("OTHER"), i32::MAX);
    assert!(err(&[("max.connections.per.ip.overrides", "h")]).contains("host:count"));
}

#[test]
fn numbers_at_odds_are_refused() {
    for (key, value) in [
        ("replica.fetch.wait.max.ms", "40000"),
        ("offsets.commit.required.acks", "4"),
        ("offsets.topic.compression.codec", "5"),
        ("group.min.session.timeout.ms", "9999999"),
        ("queued.max.request.bytes", "5"),
        ("log.roll.ms", "0"),
    ] {
        assert!(err(&[(key, value)]).starts_with(&format!("{key}={value} ")), "{key}");
    }
}

#[test]
fn the_environment_counts_when_it_is_handed_over() {
    let env = [
        ("KAFKA_ZOOKEEPER_CONNECT", "z:1"),
        ("KAFKA_HEAP_OPTS", "-X"),
        ("KAFKA_NUM_PARTITIONS", "5"),
        ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
        ("HOME", "/x"),
    ];
    let env = env.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let overrides = [("num.partitions".to_owned(), "6".to_owned())];
    let (config, warnings) = BrokerConfig::load(&[], env, &overrides).expect("valid");
    assert_eq!(config.num_partitions, 6);
    assert_eq!(config.zookeeper().expect("set").to_string(), "z:1");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// The code outside this room, without its comments.
fn other_rooms() -> String {
    fn walk(dir: &Path, all: &mut String) {
        for entry in std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                walk(&entry, all);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).expect("a text");
                all.extend(
                    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]),
                );
            }
        }
    }
    let mut all = String::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for room in std::fs::read_dir(&src).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if room.is_dir() && !room.ends_with("config") {
            walk(&room, &mut all);
        }
    }
    all + &std::fs::read_to_string(src.join("server.rs")).expect("a text")
}

#[test]
fn no_key_is_accepted_and_silently_ignored() {
    let (rooms, own) = (other_rooms(), [include_str!("broker.rs"), include_str!("rules.rs")].concat());
    let topic_defaults: Vec<&str> = crate::config::topic::TOPIC_KEYS.iter().filter_map(|key| key.synonym).collect();
    for def in ACTED_KEYS {
        let field = format!(".{}", def.name.replace('.', "_"));
        let read = |text: &str| {
            text.match_indices(&field)
                .any(|(at, _)| !text[at + field.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        };
        let acted = read(&rooms) || topic_defaults.contains(&def.name);
        match def.support {
            Support::Acts => {
                assert!(acted || read(&own), "nobody reads {}: mark its line in broker_keys.rs NotYet", def.name);
            }
            _ => assert!(!acted, "{} is read now: take NotYet from its line in broker_keys.rs", def.name),
        }
    }
}

proptest! {
    #[test]
    fn no_setting_panics(pick in 0usize..314, text in "[ -~]{0,20}") {
        let def = keys().nth(pick).expect("a key");
        let _ = BrokerConfig::from_pairs([(def.name, text)]);
    }
}
