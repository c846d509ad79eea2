//! Consumer groups of real clients: members come and go, every record is read, and commits say so.

use crate::support::broker::Kind;
use crate::support::clients::{Client, Member};
use crate::support::cluster::Cluster;
use crate::support::records::{OLD_FORMAT, Rec, Shape, sample};
use crate::support::wire::{Wire, topic_name};
use crate::support::{PATIENCE, jvm, wait_for};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

const PARTITIONS: i32 = 6;
const SMALL: Shape = Shape { large: false, nulls: false, timestamps: false, ..OLD_FORMAT };

/// Writes `count` more records to each partition; answers how many records that were.
fn feed(bootstrap: &str, topic: &str, tag: &str, count: usize) -> usize {
    let records: Vec<Rec> = (0..PARTITIONS)
        .flat_map(|partition| sample(topic, partition, &format!("{tag}-{partition}"), count, SMALL))
        .collect();
    let total = records.len();
    Client::Confluent.write(bootstrap, &[("lz4", records)]);
    total
}

/// How often each record was read by the group.
fn tally(members: &[Member]) -> BTreeMap<(i32, i64), usize> {
    let mut counts = BTreeMap::new();
    for (offset, record) in members.iter().flat_map(Member::records) {
        *counts.entry((record.partition, offset)).or_default() += 1;
    }
    counts
}

fn committed(wire: &mut Wire, group: &str, topic: &str) -> Vec<i64> {
    let wanted = OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes((0..PARTITIONS).collect());
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(vec![wanted]));
    let answer = wire.call(5, &request);
    assert_eq!(answer.error_code, 0, "OffsetFetch of {group}");
    let mut offsets: Vec<(i32, i64)> =
        answer.topics[0].partitions.iter().map(|p| (p.partition_index, p.committed_offset)).collect();
    offsets.sort();
    offsets.into_iter().map(|(_, offset)| offset).collect()
}

fn wait_read(members: &[Member], total: usize) {
    let what = format!("{total} records at the members");
    wait_for(&what, PATIENCE, || (tally(members).len() >= total).then_some(()));
}

fn wait_balanced(members: &[Member], among: &[usize]) {
    wait_for("a balanced group", PATIENCE, || {
        let owned: Vec<i64> = among.iter().map(|i| members[*i].owned()).collect::<Option<_>>()?;
        (owned.iter().sum::<i64>() == i64::from(PARTITIONS) && owned.iter().all(|n| *n > 0)).then_some(())
    });
}

/// Members of these clients join one by one, the first leaves in between, while records keep coming.
fn come_and_go(name: &str, clients: &[Client], options: &[&str]) {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let (topic, group) = (format!("group-{name}"), format!("g-{name}"));
    cluster.broker.wire().create_topic(&topic, PARTITIONS, &[]);
    let mut total = feed(&bootstrap, &topic, "before", 50);
    let mut members = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        members.push(client.join(&bootstrap, options, &group, &[&topic]));
        wait_balanced(&members, &(0..=index).collect::<Vec<_>>());
        total += feed(&bootstrap, &topic, &format!("join-{index}"), 20);
        wait_read(&members, total);
    }
    members[0].leave();
    wait_balanced(&members, &(1..clients.len()).collect::<Vec<_>>());
    total += feed(&bootstrap, &topic, "after", 20);
    wait_read(&members, total);
    for member in members.iter_mut().skip(1) {
        member.leave();
    }
    let counts = tally(&members);
    assert_eq!(counts.len(), total, "records read by the group");
    let twice: Vec<_> = counts.iter().filter(|(_, times)| **times > 1).collect();
    let failures: usize = members.iter().map(Member::commit_failures).sum();
    assert!(twice.is_empty(), "{} records read twice, {failures} commits failed: {:?}", twice.len(), twice.first());
    let ends: Vec<i64> = (0..PARTITIONS).map(|p| cluster.broker.wire().list_offset(&topic, p, -1).1).collect();
    assert_eq!(committed(&mut cluster.broker.wire(), &group, &topic), ends, "committed offsets");
}

#[test]
fn java_new_group() {
    come_and_go("java-new", &[Client::Java(jvm::NEW); 3], &[]);
}

#[test]
fn java_new_group_cooperative() {
    let assignor = "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    come_and_go("java-cooperative", &[Client::Java(jvm::NEW); 3], &[assignor]);
}

#[test]
fn java_old_group() {
    come_and_go("java-old", &[Client::Java(jvm::OLD); 3], &[]);
}

#[test]
fn confluent_group() {
    come_and_go("confluent", &[Client::Confluent; 3], &[]);
}

#[test]
fn kafkajs_group() {
    come_and_go("kafkajs", &[Client::Kafkajs; 3], &[]);
}

#[test]
fn sarama_group() {
    come_and_go("sarama", &[Client::Sarama; 3], &[]);
}

#[test]
fn franz_group() {
    come_and_go("franz", &[Client::Franz; 3], &[]);
}

/// Clients of five kinds in one group, with the assignor that they all know.
#[test]
fn mixed_group() {
    let clients = [Client::Confluent, Client::Franz, Client::Java(jvm::OLD), Client::Sarama, Client::Java(jvm::NEW)];
    come_and_go("mixed", &clients, &[]);
}

/// The cooperative-sticky assignor moves what must move, and nobody gives up more than that (KIP-429).
fn moves_only_what_must_move(client: Client, assignor: &str) {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let name = format!("moves-{}", client.name());
    cluster.broker.wire().create_topic(&name, PARTITIONS, &[]);
    let options = [assignor];
    let mut members = vec![client.join(&bootstrap, &options, &name, &[&name])];
    wait_balanced(&members, &[0]);
    let mut total = feed(&bootstrap, &name, "alone", 20);
    wait_read(&members, total);
    members.push(client.join(&bootstrap, &options, &name, &[&name]));
    wait_balanced(&members, &[0, 1]);
    total += feed(&bootstrap, &name, "both", 20);
    wait_read(&members, total);
    let gone = |member: &Member| {
        let mut partitions: Vec<i64> = ["revoked", "lost"].iter().flat_map(|e| member.told(e)).flatten().collect();
        partitions.sort();
        partitions
    };
    let came = |member: &Member| {
        let mut partitions: Vec<i64> = member.told("assigned").into_iter().flatten().collect();
        partitions.sort();
        partitions
    };
    let moved = came(&members[1]);
    assert_eq!(moved.len(), 3, "half of them: {moved:?}");
    assert_eq!(gone(&members[0]), moved, "the first gave up what the second got, and nothing else");
    assert_eq!(gone(&members[1]), Vec::<i64>::new());
    assert_eq!(came(&members[0]).len(), PARTITIONS as usize);
    members[1].leave();
    wait_balanced(&members, &[0]);
    total += feed(&bootstrap, &name, "alone-again", 20);
    wait_read(&members, total);
    assert_eq!(gone(&members[0]), moved, "what it kept it has kept all the time");
    members[0].leave();
    assert_eq!(tally(&members).values().filter(|times| **times != 1).count(), 0, "each record was read once");
}

#[test]
fn java_cooperative_moves_only_what_must_move() {
    let assignor = "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    moves_only_what_must_move(Client::Java(jvm::NEW), assignor);
}

#[test]
fn franz_cooperative_moves_only_what_must_move() {
    moves_only_what_must_move(Client::Franz, "partition.assignment.strategy=cooperative-sticky");
}

/// Static members that are killed and come back get what they had, and the others notice nothing (KIP-345, KIP-814).
fn comes_back_without_a_rebalance(client: Client) {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let name = format!("static-{}", client.name());
    cluster.broker.wire().create_topic(&name, PARTITIONS, &[]);
    let join = |id: usize| {
        let instance = format!("group.instance.id=i{id}");
        client.join(&bootstrap, &[&instance, "session.timeout.ms=30000"], &name, &[&name])
    };
    let owns = |member: &Member| {
        let mut partitions = member.told("assigned").pop().unwrap_or_default();
        partitions.sort();
        partitions
    };
    let mut members = vec![join(0)];
    wait_balanced(&members, &[0]);
    members.push(join(1));
    wait_balanced(&members, &[0, 1]);
    let mut total = feed(&bootstrap, &name, "before", 20);
    wait_read(&members, total);
    // One of them leads the group, so both are killed, one after the other.
    for (gone, other) in [(0, 1), (1, 0)] {
        let (had, rounds) = (owns(&members[gone]), members[other].told("assigned").len());
        assert_eq!(had.len(), 3);
        members[gone].kill();
        let back = join(gone);
        wait_for("the member to be back", PATIENCE, || back.owned());
        assert_eq!(owns(&back), had);
        // What the killed one read is counted too.
        let killed = std::mem::replace(&mut members[gone], back);
        members.push(killed);
        total += feed(&bootstrap, &name, &format!("without-{gone}"), 20);
        wait_read(&members, total);
        assert_eq!(members[other].told("assigned").len(), rounds, "the other was not disturbed");
        assert_eq!((owns(&members[gone]), members[gone].told("revoked").len()), (had, 0));
    }
    members[..2].iter_mut().for_each(Member::leave);
}

#[test]
fn java_new_static_members_come_back_without_a_rebalance() {
    comes_back_without_a_rebalance(Client::Java(jvm::NEW));
}

#[test]
fn java_old_static_members_come_back_without_a_rebalance() {
    comes_back_without_a_rebalance(Client::Java(jvm::OLD));
}

#[test]
fn franz_static_members_come_back_without_a_rebalance() {
    comes_back_without_a_rebalance(Client::Franz);
}

/// A member that dies without a word loses its partitions to the others after its session time-out.
#[test]
fn killed_member_is_replaced() {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    cluster.broker.wire().create_topic("group-killed", PARTITIONS, &[]);
    let mut total = feed(&bootstrap, "group-killed", "before", 20);
    let join = || Client::Confluent.join(&bootstrap, &["session.timeout.ms=6000"], "g-killed", &["group-killed"]);
    let mut members = vec![join(), join()];
    wait_balanced(&members, &[0, 1]);
    wait_read(&members, total);
    members[0].kill();
    total += feed(&bootstrap, "group-killed", "after", 20);
    wait_read(&members, total);
    wait_balanced(&members, &[1]);
    members[1].leave();
    let ends: Vec<i64> = (0..PARTITIONS).map(|p| cluster.broker.wire().list_offset("group-killed", p, -1).1).collect();
    assert_eq!(committed(&mut cluster.broker.wire(), "g-killed", "group-killed"), ends);
}

/// What was committed before the broker stopped (with SIGTERM, then with kill -9) is where the group goes on after it.
#[test]
fn commits_survive_restarts() {
    let mut cluster = Cluster::start(Kind::under_test());
    let bootstrap = cluster.broker.address();
    let clients = [Client::Java(jvm::NEW), Client::Confluent, Client::Franz, Client::Sarama];
    for client in clients {
        cluster.broker.wire().create_topic(&client.name(), PARTITIONS, &[]);
    }
    let mut totals = BTreeMap::new();
    for round in 0..3 {
        for client in clients {
            let total = feed(&bootstrap, &client.name(), &format!("round-{round}"), 20);
            let mut members = vec![client.join(&bootstrap, &[], &client.name(), &[&client.name()])];
            wait_read(&members, total);
            members[0].leave();
            let seen = tally(&members);
            assert_eq!(seen.len(), total, "{} read just the new records in round {round}", client.name());
            *totals.entry(client.name()).or_insert(0) += total as i64;
            let offsets = committed(&mut cluster.broker.wire(), &client.name(), &client.name());
            assert_eq!(offsets.iter().sum::<i64>(), totals[&client.name()], "{} committed", client.name());
        }
        match round {
            0 => {
                cluster.broker.stop();
                cluster.broker.start();
            }
            _ => cluster.kill_and_start(),
        }
    }
}
