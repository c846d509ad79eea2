//! SIGTERM: drained, flushed, checkpointed, deregistered; the next start finds everything and recovers nothing.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::wire::{Wire, batch};
use crate::support::{PATIENCE, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[test]
fn sigterm_is_clean_and_the_second_start_immediate() {
    let mut cluster = Cluster::start(Kind::under_test());
    let mut wire = cluster.broker.wire();
    wire.create_topic("t", 50, &[]);
    for partition in 0..50 {
        wire.append("t", partition, &format!("value of {partition}"));
    }
    cluster.broker.stop();
    for path in ["/brokers/ids/0", "/controller"] {
        assert!(cluster.zookeeper.read(path).is_none(), "{path} is gone as soon as the process is");
    }
    let data = cluster.broker.data();
    assert!(data.join(".kafka_cleanshutdown").exists(), "a clean stop leaves its mark");
    for name in ["recovery-point-offset-checkpoint", "replication-offset-checkpoint", "log-start-offset-checkpoint"] {
        let text = fs::read_to_string(data.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.starts_with("0\n"), "{name}: {text}");
    }
    let text = fs::read_to_string(data.join("recovery-point-offset-checkpoint")).expect("a checkpoint");
    assert_eq!(text.lines().filter(|line| line.starts_with("t ") && line.ends_with(" 1")).count(), 50, "{text}");
    cluster.broker.start();
    assert!(!data.join(".kafka_cleanshutdown").exists(), "the mark is gone once the logs are in use");
    let mut wire = cluster.broker.wire();
    for partition in 0..50 {
        assert_eq!(wire.read_values("t", partition, 0), [(0, format!("value of {partition}"))]);
    }
    if cluster.broker.kind == Kind::Barnabas {
        let text = cluster.broker.log_text();
        assert!(!text.contains("recovered"), "there is nothing to recover:\n{text}");
    }
}

/// Whatever was acknowledged while SIGTERM came is there after the next start.
#[test]
fn sigterm_under_load_loses_nothing() {
    let mut cluster = Cluster::start(Kind::under_test());
    cluster.broker.wire().create_topic("t", 4, &[]);
    for round in 0..3 {
        let address = cluster.broker.address();
        let (stopping, written) = (AtomicBool::new(false), AtomicUsize::new(0));
        let acknowledged: BTreeMap<(i32, i64), String> = std::thread::scope(|scope| {
            let load = |partition: i32| {
                let (address, stopping, written) = (address.clone(), &stopping, &written);
                move || produce_until_refused(&address, partition, round, stopping, written)
            };
            let threads: Vec<_> = (0..4).map(|partition| scope.spawn(load(partition))).collect();
            wait_for("load", PATIENCE, || (written.load(Ordering::Relaxed) > 100).then_some(()));
            stopping.store(true, Ordering::Relaxed);
            cluster.broker.stop();
            threads.into_iter().flat_map(|thread| thread.join().expect("a producer")).collect()
        });
        cluster.broker.start();
        let mut wire = cluster.broker.wire();
        let mut found = BTreeMap::new();
        for partition in 0..4 {
            found.extend(wire.read_values("t", partition, 0).into_iter().map(|(o, v)| ((partition, o), v)));
        }
        for (place, value) in &acknowledged {
            assert_eq!(found.get(place), Some(value), "acknowledged at {place:?} in round {round}");
        }
    }
}

fn produce_until_refused(
    address: &str,
    partition: i32,
    round: i32,
    stopping: &AtomicBool,
    written: &AtomicUsize,
) -> Vec<((i32, i64), String)> {
    let mut wire = Wire::connect(address).expect("the broker accepts");
    let mut acknowledged = Vec::new();
    for index in 0.. {
        let value = format!("{round}-{partition}-{index}");
        let request = crate::support::wire::produce_request("t", partition, -1, batch(&[&value]));
        match wire.try_call(7, &request) {
            Ok(answer) => {
                let answer = &answer.responses[0].partition_responses[0];
                if answer.error_code == 0 {
                    acknowledged.push(((partition, answer.base_offset), value));
                    written.fetch_add(1, Ordering::Relaxed);
                } else {
                    assert!(stopping.load(Ordering::Relaxed), "error {} before the stop", answer.error_code);
                    break;
                }
            }
            Err(error) => {
                assert!(stopping.load(Ordering::Relaxed), "{error} before the stop");
                break;
            }
        }
    }
    acknowledged
}
