//! One cluster of JVM brokers and barnabas: they join each other's ISRs, lead, are controller, and take each other's place
//! on the same id and folder under load. Nothing may be lost or stored twice, and replicas are equal byte for byte.

use crate::support::broker::{Broker, Kind};
use crate::support::load::Load;
use crate::support::several::Several;
use crate::support::{PATIENCE, jvm, wait_for};

const PARTITIONS: i32 = 6;
const NEW: Kind = Kind::Jvm(jvm::NEW);
const OLD: Kind = Kind::Jvm(jvm::OLD);

/// Two JVM brokers and one barnabas, on the protocol that both speak.
fn two_and_one(jvm: Kind) -> Several {
    Several::start(&[jvm, jvm, Kind::Barnabas], 1, |broker| on_protocol_of(jvm, broker))
}

fn on_protocol_of(jvm: Kind, broker: &mut Broker) {
    if jvm == OLD {
        broker.set("inter.broker.protocol.version", "2.8");
    }
}

/// The third broker, ours, holds replicas and leads; every replica's log is the same to the byte.
fn joins_and_leads(jvm: Kind) {
    let mut cluster = two_and_one(jvm);
    cluster.create_topic("mixed", PARTITIONS, &[]);
    let load = Load::start_in_step(&cluster.bootstrap(), "mixed", PARTITIONS);
    let led_by = |cluster: &Several, id| cluster.partitions("mixed").values().filter(|p| p.leader_id.0 == id).count();
    assert!(led_by(&cluster, 3) > 0, "barnabas leads its share from the start");
    load.wait_progress("with every broker leading", 50);
    for id in [1, 3, 2] {
        cluster.broker(id).stop();
        load.wait_progress(&format!("without broker {id}"), 50);
        assert_eq!(led_by(&cluster, id), 0, "a broker that stopped leads nothing");
        cluster.broker(id).start();
        cluster.wait_in_sync("mixed", PARTITIONS as usize, 3);
    }
    let records = load.finish();
    cluster.wait_same_logs("mixed", PARTITIONS);
    println!("{jvm:?}: {records} records");
}

#[test]
fn barnabas_joins_isrs_and_leads_beside_kafka_3_9() {
    joins_and_leads(NEW);
}

#[test]
fn barnabas_joins_isrs_and_leads_beside_kafka_2_8() {
    joins_and_leads(OLD);
}

/// Has the controller take every partition of a topic from three brokers to one, each to another, with the record that it
/// has; the other two let go of it.
fn gather_each_on_one_broker(cluster: &Several, topic: &str) {
    let target = |partition: i32| (partition + 1) % 3 + 1;
    for partition in 0..3 {
        let leader = cluster.leader(topic, partition);
        let value = format!("kept-{partition}");
        assert_eq!(cluster.brokers[leader as usize - 1].wire().append(topic, partition, &value), 0);
    }
    cluster.reassign(topic, (0..3).map(|partition| (partition, vec![target(partition)])));
    for partition in 0..3 {
        wait_for(&format!("{topic}-{partition} to be on broker {} alone", target(partition)), PATIENCE, || {
            let has = |id: i32| cluster.brokers[id as usize - 1].partition_dir(topic, partition).exists();
            let there: Vec<i32> = (1..=3).filter(|id| has(*id)).collect();
            (there == [target(partition)] && cluster.leader(topic, partition) == target(partition)).then_some(())
        });
        let read = cluster.brokers[target(partition) as usize - 1].wire().read_values(topic, partition, 0);
        assert_eq!(read, [(0, format!("kept-{partition}"))], "{topic}-{partition} moved with what it had");
    }
}

/// Has the controller delete a topic; nobody keeps its folders.
fn delete(cluster: &Several, topic: &str) {
    let controller = wait_for("a controller", PATIENCE, || cluster.controller());
    let code = cluster.brokers[controller as usize - 1].wire().delete_topic(topic);
    assert_eq!(code, 0, "deleting {topic} at controller {controller}");
    wait_for(&format!("the folders of {topic} to go"), PATIENCE, || {
        let here = |broker: &Broker| (0..3).any(|partition| broker.partition_dir(topic, partition).exists());
        (!cluster.brokers.iter().any(here)).then_some(())
    });
}

/// Whoever is controller creates, reassigns and deletes topics, which all obey, and finishes what its predecessor was told.
fn controller_moves(jvm: Kind) {
    let mut cluster = two_and_one(jvm);
    cluster.create_topic("steady", 3, &[]);
    let load = Load::start_in_step(&cluster.bootstrap(), "steady", 3);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..6 {
        let controller = wait_for("a controller", PATIENCE, || cluster.controller());
        seen.insert(controller == 3);
        let topic = format!("made-{round}");
        cluster.create_topic(&topic, 3, &[]);
        gather_each_on_one_broker(&cluster, &topic);
        if round > 0 {
            delete(&cluster, &format!("made-{}", round - 1));
        }
        load.wait_progress(&format!("with controller {controller}"), 20);
        if seen.len() == 2 && round >= 3 {
            break;
        }
        cluster.broker(controller).stop();
        cluster.wait_other_controller(controller);
        cluster.broker(controller).start();
        cluster.wait_in_sync("steady", 3, 3);
    }
    assert_eq!(seen.len(), 2, "both a JVM broker and barnabas were controller");
    load.finish();
    cluster.wait_same_logs("steady", 3);
}

#[test]
fn the_controller_moves_between_kafka_3_9_and_barnabas() {
    controller_moves(NEW);
}

#[test]
fn the_controller_moves_between_kafka_2_8_and_barnabas() {
    controller_moves(OLD);
}

/// All three brokers are replaced one after the other on their own ids and folders, and back again, under load.
fn rolling_replacement(jvm: Kind) {
    let mut cluster = Several::start(&[jvm, jvm, jvm], 1, |broker| on_protocol_of(jvm, broker));
    cluster.create_topic("rolled", PARTITIONS, &[("segment.bytes", "200000")]);
    let load = Load::start_in_step(&cluster.bootstrap(), "rolled", PARTITIONS);
    for (there, name) in [(Kind::Barnabas, "there"), (jvm, "back")] {
        for id in 1..=3 {
            let broker = cluster.broker(id);
            broker.stop();
            broker.kind = there;
            broker.start();
            cluster.wait_in_sync("rolled", PARTITIONS as usize, 3);
            cluster.wait_in_sync("__consumer_offsets", 3, 3);
            load.wait_progress(&format!("{name}: broker {id} is {there:?}"), 50);
        }
    }
    load.finish();
    cluster.wait_same_logs("rolled", PARTITIONS);
}

#[test]
fn a_cluster_of_kafka_3_9_is_replaced_broker_by_broker_and_back() {
    rolling_replacement(NEW);
}

#[test]
fn a_cluster_of_kafka_2_8_is_replaced_broker_by_broker_and_back() {
    rolling_replacement(OLD);
}
