//! Three brokers under an idempotent acks=all producer and a consumer group, while networks are cut: every acknowledged
//! record is there, once and in order, writing goes on, and a broker that is cut off does nothing that it no longer may.
//!
//! Every server stands in a network namespace of its own (`support::netns`). Packets are dropped without a word, so that
//! nothing is reset or refused: only time-outs tell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest};

use crate::support::broker::Kind;
use crate::support::load::Load;
use crate::support::netns::Net;
use crate::support::several::Several;
use crate::support::wire::{Wire, batch, produce_request, topic_name};
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, wait_for};

const PARTITIONS: i32 = 6;
const SESSION: Duration = Duration::from_secs(3);
/// What a write or the creation of a topic may take where it must fail.
const SHORT_MS: i32 = 1_000;

/// Nodes of the network. Brokers are on 1, 2 and 3, the members of the ensemble on 5 and so on. Nothing is ever cut off
/// from the test itself.
const TEST: usize = 0;
const LOAD: usize = 4;
const ZOOKEEPER: usize = 5;

struct Cluster<'a> {
    net: &'a Net,
    several: Several,
}

/// Runs `test` on the network's node of its own, with three brokers and a topic `t`.
fn in_network(ensemble: usize, test: impl FnOnce(&mut Cluster<'_>, Load) + Send) {
    let Some(net) = Net::new(ZOOKEEPER + ensemble) else { return };
    net.within(TEST, || {
        let places: Vec<_> = (0..ensemble).map(|member| net.place(ZOOKEEPER + member)).collect();
        let kind = Kind::under_test();
        let several = Several::around(ZooKeeper::start_at(&places), &[kind; 3], |id, broker| {
            broker.move_to(net.place(node(id)));
            broker.set("zookeeper.session.timeout.ms", SESSION.as_millis());
            broker.set("auto.leader.rebalance.enable", false);
        });
        several.create_topic("t", PARTITIONS, &[]);
        let load = Load::start_in(&several.bootstrap(), "t", PARTITIONS, net.entrance(LOAD));
        test(&mut Cluster { net: &net, several }, load);
    });
}

fn node(broker: i32) -> usize {
    usize::try_from(broker).expect("an id")
}

impl Cluster<'_> {
    fn controller(&self) -> i32 {
        wait_for("a controller", PATIENCE, || self.several.controller())
    }

    /// Both brokers but this one.
    fn others(&self, broker: i32) -> [i32; 2] {
        [broker % 3 + 1, (broker + 1) % 3 + 1]
    }

    /// Creates a topic of one partition; the first of the replicas leads.
    fn create_led_by(&self, topic: &str, leader: i32) {
        let code = create(&self.wire(self.controller()), topic, &self.led_by(leader), 20_000);
        assert_eq!(code, Some(0), "creating {topic}");
        self.several.wait_in_sync(topic, 1, 3);
    }

    fn led_by(&self, leader: i32) -> [i32; 3] {
        let [second, third] = self.others(leader);
        [leader, second, third]
    }

    fn wire(&self, broker: i32) -> String {
        self.several.brokers[node(broker) - 1].address()
    }

    /// Leader and ISR of a partition as ZooKeeper has them.
    fn state(&self, topic: &str, partition: i32) -> Option<(i32, Vec<i32>)> {
        let text = self.several.zookeeper.read(&format!("/brokers/topics/{topic}/partitions/{partition}/state"))?;
        let state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let id = |value: &serde_json::Value| value.as_i64().and_then(|id| i32::try_from(id).ok()).expect("an id");
        let mut isr: Vec<i32> = state["isr"].as_array().expect("a list").iter().map(id).collect();
        isr.sort_unstable();
        Some((id(&state["leader"]), isr))
    }

    fn wait_state(&self, what: &str, topic: &str, partition: i32, wanted: impl Fn(i32, &[i32]) -> bool) {
        wait_for(&format!("{topic}-{partition}: {what}"), PATIENCE, || {
            self.state(topic, partition).filter(|(leader, isr)| wanted(*leader, isr))
        });
    }

    fn wait_led_by_another(&self, topic: &str, partitions: i32, old: i32) {
        for partition in 0..partitions {
            self.wait_state("another leads", topic, partition, |leader, isr| leader != old && !isr.contains(&old));
        }
    }

    /// Everybody is in sync again, and everything that was acknowledged is there.
    fn finish(&self, load: Load) {
        self.several.wait_in_sync("t", PARTITIONS as usize, 3);
        load.wait_progress("at the end", 20);
        println!("longest time without any acknowledgement: {} ms", load.take_longest_gap().as_millis());
        load.finish();
        self.several.wait_same_logs("t", PARTITIONS);
    }

    /// The topic holds these values and no others, on all brokers.
    fn assert_holds(&self, topic: &str, values: &[&str]) {
        self.several.wait_in_sync(topic, 1, 3);
        let (leader, _) = self.state(topic, 0).expect("a state");
        let found = Wire::connect(&self.wire(leader)).expect("it accepts").read_values(topic, 0, 0);
        let found: Vec<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(found, values);
        self.several.wait_same_logs(topic, 1);
    }
}

fn append(address: &str, topic: &str, value: &str) {
    Wire::connect(address).expect("it accepts").append(topic, 0, value);
}

/// Asks that broker to create a topic; the error code of its answer, `None` without an answer.
fn create(address: &str, topic: &str, replicas: &[i32], timeout_ms: i32) -> Option<i16> {
    let assignment = CreatableReplicaAssignment::default()
        .with_partition_index(0)
        .with_broker_ids(replicas.iter().copied().map(BrokerId).collect());
    let wanted = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(timeout_ms);
    let answer = Wire::connect(address).ok()?.try_call(4, &request).ok()?;
    Some(answer.topics[0].error_code)
}

/// What became of writes to a broker that may not take them.
#[derive(Debug, Default)]
struct Told {
    /// The error codes of writes with acks=all; the broker answered each.
    all: Vec<i16>,
    /// Those of writes with acks=1, and when they came.
    one: Vec<(Instant, i16)>,
}

impl Told {
    fn assert_nothing_acknowledged(&self) {
        assert!(self.all.len() > 1, "it was written to: {self:?}");
        assert!(self.all.iter().all(|code| *code != 0), "acknowledged what is lost: {self:?}");
    }

    /// A write with acks=1 may be lost with its leader, but none is taken by one who cannot know whether it still leads.
    fn assert_refused_since(&self, when: Instant) {
        assert!(self.one.iter().any(|(at, _)| *at > when), "it was written to: {self:?}");
        let taken = self.one.iter().filter(|(at, code)| *at > when && *code == 0).count();
        assert!(Kind::under_test() != Kind::Barnabas || taken == 0, "took {taken} writes too many: {self:?}");
    }
}

/// Writes to a topic of that broker with acks=all and acks=1 in turn, whatever it answers, until `stop`.
fn write_on(address: &str, topic: &str, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    let mut wire = Wire::connect(address).expect("the broker accepts");
    while !stop.load(Ordering::Relaxed) {
        for acks in [-1, 1] {
            let request = produce_request(topic, 0, acks, batch(&["lost"])).with_timeout_ms(SHORT_MS);
            let answer = wire.try_call(7, &request).expect("an answer");
            let code = answer.responses[0].partition_responses[0].error_code;
            match acks {
                1 => told.one.push((Instant::now(), code)),
                _ => told.all.push(code),
            }
        }
        sleep(Duration::from_millis(20));
    }
    told
}

/// Writes to `topic` of broker `old` from `node` while `meanwhile` runs.
fn writing_to<T>(
    cluster: &Cluster<'_>,
    node: usize,
    old: i32,
    topic: &str,
    meanwhile: impl FnOnce() -> T,
) -> (Told, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (address, stop) = (cluster.wire(old), &stop);
        let enter = cluster.net.entrance(node);
        let writer = scope.spawn(move || {
            enter();
            write_on(&address, topic, stop)
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stop.store(true, Ordering::Relaxed);
        let told = writer.join().expect("the writer");
        (told, done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[test]
fn a_controller_that_leads_is_unplugged() {
    in_network(1, |cluster, load| {
        let old = cluster.controller();
        cluster.create_led_by("u", old);
        append(&cluster.wire(old), "u", "before");
        // A break that is shorter than the session changes nothing.
        let term = cluster.several.zookeeper.node("/controller").map(|(_, czxid)| czxid);
        cluster.net.unplug(node(old));
        sleep(SESSION / 3);
        cluster.net.plug(node(old));
        load.wait_progress("after a short break", 20);
        assert_eq!(cluster.several.zookeeper.node("/controller").map(|(_, czxid)| czxid), term);

        cluster.net.unplug(node(old));
        let (told, deposed) = writing_to(cluster, node(old), old, "u", || {
            let new = cluster.several.wait_other_controller(old);
            cluster.wait_led_by_another("u", 1, old);
            let deposed = Instant::now();
            cluster.wait_led_by_another("t", PARTITIONS, old);
            let (leader, _) = cluster.state("u", 0).expect("a state");
            append(&cluster.wire(leader), "u", "after");
            let created = cluster.net.within(node(old), || create(&cluster.wire(old), "w", &[old], SHORT_MS));
            assert_ne!(created, Some(0), "a controller that is cut off");
            assert_eq!(create(&cluster.wire(new), "v", &[new], 20_000), Some(0));
            load.wait_progress("with the old leader unplugged", 20);
            deposed
        });
        told.assert_nothing_acknowledged();
        told.assert_refused_since(deposed);
        cluster.net.plug(node(old));
        cluster.assert_holds("u", &["before", "after"]);
        cluster.finish(load);
    });
}

#[test]
fn a_controller_that_leads_is_cut_off_from_zookeeper_alone() {
    in_network(1, |cluster, load| {
        let old = cluster.controller();
        cluster.create_led_by("u", old);
        append(&cluster.wire(old), "u", "before");
        cluster.net.cut(&[node(old)], &[ZOOKEEPER]);
        let new = cluster.several.wait_other_controller(old);
        cluster.wait_led_by_another("u", 1, old);
        // It takes some time for a fetch of those who were its followers to be old.
        let deposed = Instant::now() + SESSION;
        // Clients and brokers reach it still, and it does not know.
        let (told, deposed) = writing_to(cluster, LOAD, old, "u", || {
            let (leader, _) = cluster.state("u", 0).expect("a state");
            append(&cluster.wire(leader), "u", "after");
            assert_ne!(create(&cluster.wire(old), "w", &[old], SHORT_MS), Some(0), "a controller without ZooKeeper");
            assert_eq!(create(&cluster.wire(new), "v", &[new], 20_000), Some(0));
            cluster.wait_led_by_another("t", PARTITIONS, old);
            load.wait_progress("with the old leader cut off from ZooKeeper", 20);
            sleep((deposed + SESSION / 3).saturating_duration_since(Instant::now()));
            deposed
        });
        told.assert_nothing_acknowledged();
        told.assert_refused_since(deposed);
        cluster.net.heal();
        cluster.assert_holds("u", &["before", "after"]);
        cluster.finish(load);
    });
}

#[test]
fn two_brokers_are_cut_off_from_one_another() {
    in_network(1, |cluster, load| {
        let controller = cluster.controller();
        let [one, other] = cluster.others(controller);
        let leaders = || -> Vec<i32> { (0..PARTITIONS).filter_map(|p| Some(cluster.state("t", p)?.0)).collect() };
        let before = leaders();
        cluster.net.cut(&[node(one)], &[node(other)]);
        for (partition, leader) in (0..).zip(&before) {
            let out = |id: i32| if id == one { other } else { one };
            let wanted = |isr: &[i32]| *leader == controller || !isr.contains(&out(*leader));
            cluster.wait_state("the other leaves the ISR", "t", partition, |_, isr| wanted(isr) && isr.len() >= 2);
        }
        load.wait_progress("with two brokers cut off from one another", 50);
        assert_eq!(leaders(), before, "nobody lost a leadership");
        cluster.net.heal();
        cluster.finish(load);
    });
}

#[test]
fn a_follower_hears_neither_its_leader_nor_the_controller() {
    in_network(1, |cluster, load| {
        let controller = cluster.controller();
        let [follower, third] = cluster.others(controller);
        // It leads nothing any more: a leader whom the controller does not hear cannot leave anybody out of its ISRs.
        cluster.several.broker(follower).stop();
        cluster.several.broker(follower).start();
        cluster.several.wait_in_sync("t", PARTITIONS as usize, 3);
        cluster.create_led_by("u", controller);
        append(&cluster.wire(controller), "u", "before");
        // It is not heard, but nothing keeps the controller's words from it; without answers that is worth nothing.
        cluster.net.cut_one_way(node(follower), node(controller));
        // Waits until the follower has left the ISR; as long as there is nothing new, it would stay.
        append(&cluster.wire(controller), "u", "meanwhile");
        cluster.wait_state("the follower has left", "u", 0, |leader, isr| {
            leader == controller && !isr.contains(&follower)
        });
        // What it shall lead it is told later.
        let code = create(&cluster.wire(controller), "v", &[follower, third, controller], SHORT_MS);
        assert!(matches!(code, Some(0 | 7)), "created, though not everywhere: {code:?}");
        cluster.wait_state("created", "v", 0, |leader, _| leader == follower);
        load.wait_progress("with a follower cut off from its leader", 50);
        cluster.net.heal();
        append(&cluster.wire(follower), "v", "told at last");
        cluster.assert_holds("u", &["before", "meanwhile"]);
        cluster.assert_holds("v", &["told at last"]);
        cluster.finish(load);
    });
}

#[test]
fn the_controller_is_on_the_minoritys_side_of_a_split_ensemble() {
    in_network(3, |cluster, load| {
        let old = cluster.controller();
        let [one, other] = cluster.others(old);
        cluster.create_led_by("u", old);
        append(&cluster.wire(old), "u", "before");
        // The leader of the ensemble goes with it: the worst case, as it goes on believing that it leads for a while.
        let minority = cluster.several.zookeeper.leader();
        let majority = (0..3).filter(|member| *member != minority).map(|member| ZOOKEEPER + member);
        let far: Vec<usize> = majority.chain([node(one), node(other)]).collect();
        cluster.net.cut(&[node(old), ZOOKEEPER + minority], &far);
        let (told, deposed) = writing_to(cluster, LOAD, old, "u", || {
            cluster.several.wait_other_controller(old);
            cluster.wait_led_by_another("u", 1, old);
            let deposed = Instant::now();
            cluster.wait_led_by_another("t", PARTITIONS, old);
            let (leader, _) = cluster.state("u", 0).expect("a state");
            append(&cluster.wire(leader), "u", "after");
            load.wait_progress("with the old controller in the minority", 20);
            deposed
        });
        told.assert_nothing_acknowledged();
        told.assert_refused_since(deposed);
        cluster.net.heal();
        cluster.assert_holds("u", &["before", "after"]);
        cluster.finish(load);
    });
}
