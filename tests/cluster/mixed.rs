//! Barnabas and JVM brokers in one cluster: each follows the other and leads it, whoever is controller, and the replicas are
//! equal byte for byte.

use crate::replication::{append, values};
use crate::support::broker::Kind;
use crate::support::brokers::Brokers;
use crate::support::jvm;

/// Two brokers, of which the first is controller: every partition of a topic has both as replicas, and each leads one.
fn replicate_both_ways(kinds: [Kind; 2], ibp: &str) {
    let mut cluster = Brokers::start(&kinds, |_, broker| {
        broker.set("inter.broker.protocol.version", ibp);
        broker.set("min.insync.replicas", 2);
        broker.set("controlled.shutdown.enable", false);
    });
    cluster.create_topic("t", 2, 2, &[]);
    let mut leaders = Vec::new();
    for partition in 0..2 {
        cluster.wait_isr("t", partition, &[0, 1]);
        append(&cluster, "t", partition, &values(0, 50));
        assert!(cluster.wait_same_bytes(&[0, 1], "t", partition) > 50 * 61);
        leaders.push(cluster.state("t", partition).leader);
    }
    leaders.sort_unstable();
    assert_eq!(leaders, [0, 1], "each leads one");

    // Each dies in turn, leaves the ISR, comes back and catches up.
    for stopped in [1, 0] {
        let other = 1 - stopped;
        cluster.brokers[stopped].kill();
        for partition in 0..2 {
            cluster.wait_isr("t", partition, &[other as i64]);
        }
        if kinds[stopped] != Kind::Barnabas {
            let node = format!("/brokers/ids/{stopped}");
            assert!(cluster.zookeeper.gone_within(&node, crate::support::PATIENCE), "its session ends");
        }
        cluster.brokers[stopped].start();
        for partition in 0..2 {
            cluster.wait_isr("t", partition, &[0, 1]);
            append(&cluster, "t", partition, &values(0, 10));
            cluster.wait_same_bytes(&[0, 1], "t", partition);
        }
    }
}

#[test]
fn with_3_9_as_controller() {
    replicate_both_ways([Kind::Jvm(jvm::NEW), Kind::Barnabas], "3.9");
}

#[test]
fn with_3_9_under_our_controller() {
    replicate_both_ways([Kind::Barnabas, Kind::Jvm(jvm::NEW)], "3.9");
}

#[test]
fn with_2_8_as_controller() {
    replicate_both_ways([Kind::Jvm(jvm::OLD), Kind::Barnabas], "2.8");
}

#[test]
fn with_2_8_under_our_controller() {
    replicate_both_ways([Kind::Barnabas, Kind::Jvm(jvm::OLD)], "2.8");
}
