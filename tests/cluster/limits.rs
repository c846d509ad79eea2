//! The limits on sizes and connections hold.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::records::noise;
use crate::support::wire::{Wire, batch, produce_request};
use crate::support::{PATIENCE, wait_for};
use kafka_protocol::messages::ApiVersionsRequest;
use std::time::{Duration, Instant};

fn is_served(wire: &mut Wire) -> bool {
    wire.try_call(0, &ApiVersionsRequest::default()).is_ok()
}

#[test]
fn socket_request_max_bytes() {
    let cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("socket.request.max.bytes", 100_000);
    });
    let mut wire = cluster.broker.wire();
    wire.create_topic("t", 1, &[]);
    wire.append("t", 0, &noise(1, 90_000));
    let large = noise(2, 120_000);
    let refused = wire.try_call(7, &produce_request("t", 0, -1, batch(&[&large])));
    assert!(refused.is_err(), "the connection is closed");
    assert_eq!(cluster.broker.wire().list_offset("t", 0, -1), (0, 1));
}

#[test]
fn message_max_bytes() {
    let cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("message.max.bytes", 50_000);
    });
    let mut wire = cluster.broker.wire();
    wire.create_topic("t", 1, &[]);
    wire.create_topic("wide", 1, &[("max.message.bytes", "200000")]);
    wire.append("t", 0, &noise(1, 40_000));
    let large = noise(2, 60_000);
    assert_eq!(wire.produce("t", 0, -1, batch(&[&large])).0, 10, "MESSAGE_TOO_LARGE");
    wire.append("wide", 0, &large);
    wire.append("t", 0, "the connection goes on");
}

#[test]
fn connections_per_ip() {
    let cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("max.connections.per.ip", 1_000).set("max.connections.per.ip.overrides", "127.0.0.1:12");
    });
    // The broker may hold a few to itself; it takes some until the limit, and closes what comes beyond.
    let mut open: Vec<Wire> = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut wire = cluster.broker.wire();
        if is_served(&mut wire) { open.push(wire) } else { refused += 1 }
    }
    assert!((8..=12).contains(&open.len()), "{} connections at a limit of 12", open.len());
    assert_eq!(refused, 40 - open.len());
    drop(open.pop());
    wait_for("room for another", PATIENCE, || {
        is_served(&mut Wire::connect(&cluster.broker.address()).ok()?).then_some(())
    });
}

#[test]
fn max_connections() {
    let cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("max.connections", 15);
    });
    let mut open: Vec<Wire> = Vec::new();
    for _ in 0..40 {
        let mut wire = cluster.broker.wire();
        wire.stream.set_read_timeout(Some(Duration::from_millis(700))).expect("a time-out");
        if !is_served(&mut wire) {
            break;
        }
        open.push(wire);
    }
    assert!((11..=15).contains(&open.len()), "{} connections at a limit of 15", open.len());
    open.truncate(open.len() - 3);
    wait_for("room for another", PATIENCE, || {
        let mut wire = Wire::connect(&cluster.broker.address()).ok()?;
        wire.stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        is_served(&mut wire).then_some(())
    });
}

#[test]
fn idle_connections_are_closed() {
    let cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("connections.max.idle.ms", 2_000);
    });
    let mut idle = cluster.broker.wire();
    let mut active = cluster.broker.wire();
    assert!(is_served(&mut idle) && is_served(&mut active));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert!(is_served(&mut active), "an active connection stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(idle.closed_within(Duration::from_millis(2_000)), "an idle connection is closed");
}
