//! ZooKeeper comes and goes, sessions end, brokers register.

use crate::support::broker::{Broker, Kind};
use crate::support::cluster::Cluster;
use crate::support::wire::Wire;
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, poll, wait_for};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

const BROKER: &str = "/brokers/ids/0";

/// Appends and reads back, over a connection that stays open.
fn serves(wire: &mut Wire, topic: &str, value: &str) {
    let offset = wire.append(topic, 0, value);
    assert_eq!(wire.read_values(topic, 0, offset), [(offset, value.to_owned())]);
}

/// Creating a topic needs ZooKeeper and a controller; retried until both are back.
fn can_create(broker: &Broker, topic: &str) {
    wait_for("a topic can be created", PATIENCE, || {
        let mut wire = Wire::connect(&broker.address()).ok()?;
        wire.try_create_topic(topic, 1).then_some(())
    });
    wait_for("its leader", PATIENCE, || broker.wire().topic_ready(topic, 1).then_some(()));
    serves(&mut broker.wire(), topic, "first");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_stands_in_zookeeper() {
    let cluster = Cluster::start(Kind::under_test());
    cluster.broker.wire().create_topic("t", 2, &[("retention.ms", "3600000")]);
    let zookeeper = &cluster.zookeeper;
    let port = cluster.broker.port;

    let node = json(&zookeeper.read(BROKER).expect("the broker is registered"));
    assert_eq!(node["version"], 5);
    assert_eq!(node["host"], "127.0.0.1");
    assert_eq!(node["port"], port);
    assert_eq!(node["endpoints"], serde_json::json!([format!("PLAINTEXT://127.0.0.1:{port}")]));
    assert_eq!(node["listener_security_protocol_map"], serde_json::json!({"PLAINTEXT": "PLAINTEXT"}));
    assert_eq!(node["features"], serde_json::json!({}));
    assert!(node["timestamp"].as_str().is_some_and(|text| text.parse::<i64>().is_ok()));
    assert!(node["jmx_port"].is_i64());

    let node = json(&zookeeper.read("/controller").expect("a controller"));
    assert_eq!(node["brokerid"], 0);
    assert!(zookeeper.read("/controller_epoch").expect("an epoch").parse::<i32>().is_ok());

    let node = json(&zookeeper.read("/cluster/id").expect("a cluster id"));
    assert_eq!(node["version"], "1");
    let meta = fs::read_to_string(cluster.broker.data().join("meta.properties")).expect("meta.properties");
    assert!(meta.contains(&format!("cluster.id={}", node["id"].as_str().expect("an id"))), "{meta}");
    assert!(meta.contains("broker.id=0") && meta.contains("version=0"), "{meta}");

    let node = json(&zookeeper.read("/brokers/topics/t").expect("a topic"));
    assert_eq!(node["version"], 3);
    assert_eq!(node["partitions"], serde_json::json!({"0": [0], "1": [0]}));
    assert_eq!(node["topic_id"].as_str().map(str::len), Some(22));
    let node = json(&zookeeper.read("/brokers/topics/t/partitions/1/state").expect("a partition"));
    assert_eq!(node["leader"], 0);
    assert_eq!(node["isr"], serde_json::json!([0]));
    assert_eq!(node["version"], 1);
    assert_eq!(node["leader_epoch"], 0);
    let node = json(&zookeeper.read("/config/topics/t").expect("a config"));
    assert_eq!(node["config"], serde_json::json!({"retention.ms": "3600000"}));
}

#[test]
fn chroot() {
    let zookeeper = ZooKeeper::single();
    let connect = format!("{}/some/where", zookeeper.connect());
    let broker = Broker::new(Kind::under_test(), &connect).started();
    can_create(&broker, "t");
    assert!(zookeeper.read("/some/where/brokers/ids/0").is_some());
    assert!(zookeeper.read("/some/where/brokers/topics/t").is_some());
    assert!(zookeeper.read("/brokers").is_none());
}

#[test]
fn ensemble_of_three_loses_its_leader() {
    let mut zookeeper = ZooKeeper::start(3);
    let mut broker = Broker::new(Kind::under_test(), &zookeeper.connect());
    broker.set("zookeeper.session.timeout.ms", 20_000).start();
    can_create(&broker, "before");
    let (_, epoch) = zookeeper.wait_node(BROKER, |_| true);
    let mut wire = broker.wire();
    for round in 0..2 {
        let leader = zookeeper.leader();
        zookeeper.kill(leader);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            serves(&mut wire, "before", "while the ensemble elects");
        }
        can_create(&broker, &format!("after-{round}"));
        let (_, now) = zookeeper.wait_node(BROKER, |_| true);
        assert_eq!(now, epoch, "the session moved to another server, the registration stayed");
        zookeeper.restart(leader);
    }
}

#[test]
fn serves_while_zookeeper_is_away() {
    let mut cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("zookeeper.session.timeout.ms", 2_000);
    });
    can_create(&cluster.broker, "t");
    let mut wire = cluster.broker.wire();
    cluster.zookeeper.kill(0);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_secs(8) {
        serves(&mut wire, "t", "ZooKeeper is away");
        serves(&mut cluster.broker.wire(), "t", "over a new connection");
        count += 2;
    }
    cluster.zookeeper.restart(0);
    cluster.zookeeper.wait_node(BROKER, |_| true);
    cluster.zookeeper.wait_node("/controller", |_| true);
    can_create(&cluster.broker, "after");
    assert_eq!(cluster.broker.wire().read_values("t", 0, 0).len(), count + 1);
    assert!(cluster.broker.is_running());
}

/// The process stands still (as a virtual machine may) until its session has ended.
#[test]
fn session_expires() {
    let mut cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("zookeeper.session.timeout.ms", 2_000);
    });
    can_create(&cluster.broker, "before");
    let mut epoch = cluster.zookeeper.wait_node(BROKER, |_| true).1;
    for round in 0..2 {
        cluster.broker.process().signal(libc::SIGSTOP);
        cluster.wait_unregistered();
        cluster.broker.process().signal(libc::SIGCONT);
        let (_, next) = cluster.zookeeper.wait_node(BROKER, |_| true);
        assert!(next > epoch, "registered anew");
        epoch = next;
        cluster.zookeeper.wait_node("/controller", |data| data.contains("\"brokerid\":0"));
        can_create(&cluster.broker, &format!("after-{round}"));
        serves(&mut cluster.broker.wire(), "before", "still here");
    }
    assert!(cluster.broker.is_running());
}

#[test]
fn killed_and_started_at_once() {
    if Kind::under_test() != Kind::Barnabas {
        // Apache Kafka exits with NodeExists as long as the old session lives.
        return;
    }
    let mut cluster = Cluster::with(Kind::Barnabas, |broker| {
        broker.set("zookeeper.session.timeout.ms", 30_000);
    });
    can_create(&cluster.broker, "t");
    let mut epoch = cluster.zookeeper.wait_node(BROKER, |_| true).1;
    for round in 0..5 {
        cluster.broker.kill();
        let took = cluster.broker.start();
        assert!(took < Duration::from_secs(8), "serves {took:?} after the second start");
        let (_, next) = cluster.zookeeper.wait_node(BROKER, |_| true);
        assert!(next > epoch, "registered anew, not as the dead one");
        epoch = next;
        serves(&mut cluster.broker.wire(), "t", "back");
        can_create(&cluster.broker, &format!("round-{round}"));
    }
}

/// Another live broker with the same id is an error of the operator's, not a predecessor.
#[test]
fn same_id_is_refused() {
    let mut cluster = Cluster::start(Kind::under_test());
    can_create(&cluster.broker, "t");
    let epoch = cluster.zookeeper.wait_node(BROKER, |_| true).1;
    let mut twin = Broker::new(cluster.broker.kind, &cluster.zookeeper.connect());
    twin.launch();
    let status = twin.process().wait(PATIENCE).expect("the twin gives up");
    assert!(!status.success());
    let text = twin.log_text();
    assert!(text.contains("/brokers/ids/0"), "the twin says which node is taken: {text}");
    assert_eq!(cluster.zookeeper.wait_node(BROKER, |_| true).1, epoch);
    serves(&mut cluster.broker.wire(), "t", "undisturbed");
    assert!(cluster.broker.is_running());
}

#[test]
fn same_folder_is_refused() {
    let mut cluster = Cluster::start(Kind::under_test());
    can_create(&cluster.broker, "t");
    let mut twin = Broker::with_id(cluster.broker.kind, 1, &cluster.zookeeper.connect());
    twin.set("log.dirs", cluster.broker.data().display());
    twin.launch();
    let status = twin.process().wait(PATIENCE).expect("the twin gives up");
    assert!(!status.success());
    assert!(twin.log_text().contains(&cluster.broker.data().display().to_string()), "{}", twin.log_text());
    serves(&mut cluster.broker.wire(), "t", "undisturbed");
    assert!(cluster.broker.is_running());
}

#[test]
fn meta_properties_are_checked() {
    let mut cluster = Cluster::start(Kind::under_test());
    cluster.broker.stop();
    let path = cluster.broker.data().join("meta.properties");
    let good = fs::read_to_string(&path).expect("meta.properties");
    let id = json(&cluster.zookeeper.read("/cluster/id").expect("an id"))["id"].as_str().expect("text").to_owned();
    for (bad, word) in
        [(good.replace(&id, "AAAAAAAAAAAAAAAAAAAAAA"), id.as_str()), (good.replace("broker.id=0", "broker.id=7"), "7")]
    {
        fs::write(&path, bad).expect("meta.properties");
        cluster.broker.launch();
        let status = cluster.broker.process().wait(PATIENCE).expect("it does not start");
        assert!(!status.success());
        assert!(cluster.broker.log_text().contains(word), "says what does not match: {}", cluster.broker.log_text());
    }
    fs::write(&path, good).expect("meta.properties");
    cluster.broker.start();
}

/// Topics that another tool writes to ZooKeeper (as kafka-topics --zookeeper does) come to life.
#[test]
fn topics_written_to_zookeeper() {
    let cluster = Cluster::start(Kind::under_test());
    cluster.zookeeper.create("/config/topics/direct", r#"{"version":1,"config":{}}"#);
    cluster.zookeeper.create("/brokers/topics/direct", r#"{"version":1,"partitions":{"0":[0],"1":[0]}}"#);
    wait_for("leaders", PATIENCE, || cluster.broker.wire().topic_ready("direct", 2).then_some(()));
    serves(&mut cluster.broker.wire(), "direct", "one");
    cluster.zookeeper.create("/admin/delete_topics/direct", "");
    assert!(cluster.zookeeper.gone_within("/brokers/topics/direct", PATIENCE));
    let gone = poll(PATIENCE, || (!cluster.broker.partition_dir("direct", 0).exists()).then_some(()));
    assert!(gone.is_some(), "the folder is renamed away");
}
