//! kill -9 at random points under load, on a small log: whatever was acknowledged is there after the next start, at its
//! offset, once; a folder that cannot be opened never comes about. A thousand rounds with `--long`.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::wire::{Wire, batch_of, produce_request};
use crate::support::{PATIENCE, long, wait_for};
use kafka_protocol::messages::InitProducerIdRequest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PARTITIONS: i32 = 3;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// One producer's side of a partition.
struct Producer {
    partition: i32,
    producer_id: i64,
    next_sequence: i32,
    next_value: u64,
    /// Sent, but not known to be acknowledged: sent again after the crash, and stored once.
    unanswered: Option<Vec<String>>,
    acknowledged: BTreeMap<i64, String>,
}

impl Producer {
    fn new(wire: &mut Wire, partition: i32) -> Producer {
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let answer = wait_for("a producer id", PATIENCE, || {
            let answer = wire.call(1, &request);
            (answer.error_code == 0).then_some(answer)
        });
        Producer {
            partition,
            producer_id: answer.producer_id.0,
            next_sequence: 0,
            next_value: 0,
            unanswered: None,
            acknowledged: BTreeMap::new(),
        }
    }

    /// Sends until the connection breaks; every refusal is a fault.
    fn run(&mut self, address: &str, seed: u64) {
        let Ok(mut wire) = Wire::connect(address) else { return };
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            let values = self.unanswered.clone().unwrap_or_else(|| self.fresh(&mut random));
            self.unanswered = Some(values.clone());
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let records = batch_of(&texts, self.producer_id, 0, self.next_sequence);
            let Ok(answer) = wire.try_call(7, &produce_request("t", self.partition, -1, records)) else { return };
            let answer = &answer.responses[0].partition_responses[0];
            if [3, 5, 6].contains(&answer.error_code) {
                // Just started: not the leader yet.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            assert_eq!(answer.error_code, 0, "partition {}, sequence {}", self.partition, self.next_sequence);
            for (index, value) in values.into_iter().enumerate() {
                let offset = answer.base_offset + index as i64;
                let before = self.acknowledged.insert(offset, value);
                assert!(before.is_none(), "offset {offset} was given twice");
                self.next_sequence += 1;
            }
            self.unanswered = None;
        }
    }

    fn fresh(&mut self, random: &mut StdRng) -> Vec<String> {
        let count = random.random_range(1..6);
        (0..count)
            .map(|_| {
                self.next_value += 1;
                let length = random.random_range(0..900);
                format!("{}-{}-{}", self.partition, self.next_value, "x".repeat(length))
            })
            .collect()
    }

    /// Everything acknowledged from the log's start on is there; nothing is there twice.
    fn check(&mut self, wire: &mut Wire, round: usize) {
        // Retention goes on meanwhile: when it overtakes the reader, the reader begins again.
        let (start, found) = wait_for("a read that retention does not overtake", PATIENCE, || {
            let (_, start) = wire.list_offset("t", self.partition, -2);
            match wire.try_read_values("t", self.partition, start) {
                Ok(values) => Some((start, values.into_iter().collect::<BTreeMap<i64, String>>())),
                Err(OFFSET_OUT_OF_RANGE) => None,
                Err(error) => panic!("round {round}: reading {} from {start}: error {error}", self.partition),
            }
        });
        for (offset, value) in self.acknowledged.range(start..) {
            let there = found.get(offset).map(String::as_str);
            assert!(
                there == Some(value),
                "round {round}: {}-{offset} holds {:?}",
                self.partition,
                there.map(|t| &t[..20.min(t.len())])
            );
        }
        let mut names: Vec<&str> = found.values().map(|value| &value[..value.rfind('-').unwrap_or(0)]).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "round {round}: a record is stored twice");
        self.acknowledged = self.acknowledged.split_off(&start);
    }
}

/// What may befall the files of a machine that lost power: only beyond what was flushed.
fn damage(data: &Path, random: &mut StdRng) {
    let partition = random.random_range(0..PARTITIONS);
    let dir = data.join(format!("t-{partition}"));
    let mut logs: Vec<PathBuf> = files(&dir, "log");
    logs.sort();
    let Some(active) = logs.last() else { return };
    match random.random_range(0..5) {
        0 => {
            // A torn tail: the beginning of a batch that never came whole.
            let garbage: Vec<u8> = (0..random.random_range(1..200)).map(|_| random.random()).collect();
            let mut bytes = fs::read(active).expect("a log");
            bytes.extend(garbage);
            fs::write(active, bytes).expect("a log");
        }
        1 => {
            let mut bytes = fs::read(active).expect("a log");
            bytes.resize(bytes.len() + random.random_range(1..5_000), 0);
            fs::write(active, bytes).expect("a log");
        }
        2 => {
            for index in files(&dir, "index").into_iter().chain(files(&dir, "timeindex")) {
                fs::remove_file(index).expect("an index");
            }
        }
        3 => {
            for index in files(&dir, "index") {
                fs::write(index, [0xff; 37]).expect("an index");
            }
        }
        _ => {}
    }
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

fn crash(rounds: usize, with_damage: bool, seed: u64) {
    let mut cluster = Cluster::with(Kind::under_test(), |broker| {
        for (key, value) in [
            ("log.segment.bytes", "60000"),
            ("log.index.interval.bytes", "500"),
            ("log.retention.bytes", "600000"),
            ("log.retention.check.interval.ms", "500"),
            ("log.flush.offset.checkpoint.interval.ms", "300"),
            ("log.flush.scheduler.interval.ms", "100"),
            ("log.flush.interval.ms", "200"),
            ("log.cleaner.enable", "false"),
        ] {
            broker.set(key, value);
        }
    });
    let mut random = StdRng::seed_from_u64(seed);
    cluster.broker.wire().create_topic("t", PARTITIONS, &[]);
    let mut producers: Vec<Producer> = {
        let mut wire = cluster.broker.wire();
        (0..PARTITIONS).map(|partition| Producer::new(&mut wire, partition)).collect()
    };
    for round in 0..rounds {
        let address = cluster.broker.address();
        let pause = Duration::from_millis(random.random_range(1..250));
        std::thread::scope(|scope| {
            for producer in &mut producers {
                let (address, seed) = (&address, random.random());
                scope.spawn(move || producer.run(address, seed));
            }
            std::thread::sleep(pause);
            cluster.broker.kill();
        });
        if cluster.broker.kind != Kind::Barnabas {
            cluster.wait_unregistered();
        }
        if with_damage {
            damage(&cluster.broker.data(), &mut random);
        }
        // Sometimes it dies again while it recovers.
        while cluster.broker.kind == Kind::Barnabas && random.random_ratio(1, 3) {
            cluster.broker.launch();
            std::thread::sleep(Duration::from_millis(random.random_range(0..120)));
            cluster.broker.kill();
        }
        cluster.broker.start();
        let ready = || cluster.broker.wire().topic_ready("t", PARTITIONS as usize).then_some(());
        wait_for("the partitions", PATIENCE, ready);
        let mut wire = cluster.broker.wire();
        for producer in &mut producers {
            producer.check(&mut wire, round);
        }
    }
    let total: u64 = producers.iter().map(|producer| producer.next_value).sum();
    assert!(total as usize > rounds * 3, "there was load");
    println!("{rounds} crashes, {total} records");
}

fn rounds(short: usize, long_run: usize) -> usize {
    match (Kind::under_test(), long()) {
        (Kind::Barnabas, true) => long_run,
        (Kind::Barnabas, false) => short,
        _ => 2,
    }
}

#[test]
fn killed_under_load() {
    crash(rounds(25, 1_000), false, 11);
}

#[test]
fn killed_under_load_with_damaged_tails_and_indexes() {
    crash(rounds(25, 1_000), true, 13);
}
