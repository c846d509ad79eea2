//! Kafka Streams with `exactly_once_v2`: a word count whose every step is seen once, and a join that joins each pair once,
//! while the program and the brokers are killed.

use std::collections::BTreeMap;

use super::loops::three;
use crate::support::copies::Reader;
use crate::support::dirs::{self, TestDir};
use crate::support::process::Talking;
use crate::support::several::Several;
use crate::support::{PATIENCE, jvm, wait_for};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

const PARTITIONS: i32 = 2;
/// Rounds of input, with pauses between them in which things are killed.
const ROUNDS: usize = 4;
const LINES: usize = 100;
const WORDS: [&str; 5] = ["apple", "pear", "plum", "fig", "quince"];

/// Starts a topology; `words` are its name and topics.
fn start(cluster: &Several, application: &str, state: &TestDir, words: &[&str], run: usize) -> Talking {
    let mut command = jvm::program("StreamsApp");
    command.args([&cluster.bootstrap(), application, &state.join("state").display().to_string(), "3"]).args(words);
    let name = format!("{application}-{run}");
    Talking::start(&name, command, &dirs::root().join(format!("{name}.log")))
}

/// Writes records with acks=all and waits for them.
fn write(cluster: &Several, topic: &str, records: impl Iterator<Item = (String, String)>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap()).set("enable.idempotence", "true");
    let producer: ThreadedProducer<_> = config.create().expect("a producer");
    for (key, value) in records {
        producer.send(BaseRecord::to(topic).key(&key).payload(&value)).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("all is acknowledged");
}

fn leave(mut app: Talking) {
    app.close_stdin();
    let status = app.process.wait(PATIENCE).expect("it ends when it is asked to");
    assert!(status.success(), "ended with {status}\n{}", app.process.log_tail());
}

/// Reads a topic from its beginning until `enough`, and then to its end.
fn read_until(
    cluster: &Several,
    topic: &str,
    enough: impl Fn(&[(i32, String, String)]) -> bool,
) -> Vec<(String, String)> {
    let mut reader = Reader::new(&cluster.bootstrap(), topic, PARTITIONS, "read_committed");
    let mut found = Vec::new();
    let waited = std::time::Instant::now();
    while !(enough(&found) && reader.is_at_end()) {
        assert!(waited.elapsed() < 2 * PATIENCE, "{topic}: only {} records came", found.len());
        found.extend(reader.next());
    }
    found.into_iter().map(|(_, key, value)| (key, value)).collect()
}

/// Kills what runs between the rounds of input: the program, a broker, both.
fn in_rounds(
    cluster: &mut Several,
    start: impl Fn(&Several, usize) -> Talking,
    write: impl Fn(&Several, usize),
) -> Talking {
    let mut app = start(cluster, 0);
    for round in 0..ROUNDS {
        write(cluster, round);
        // In the midst of it.
        let running = |app: &Talking| app.lines().iter().any(|line| line == "RUNNING").then_some(());
        wait_for("the topology to run", 2 * PATIENCE, || running(&app));
        match round {
            0 => {
                app.process.kill();
                app = start(cluster, 1);
            }
            1 => {
                cluster.broker(1).kill();
                write(cluster, ROUNDS);
                cluster.broker(1).start();
            }
            2 => {
                cluster.broker(3).kill();
                app.process.kill();
                app = start(cluster, 2);
                cluster.broker(3).start();
            }
            _ => {}
        }
    }
    app
}

#[test]
fn a_word_count_counts_each_word_once() {
    let mut cluster = three();
    cluster.create_topic("lines", PARTITIONS, &[]);
    cluster.create_topic("counts", PARTITIONS, &[]);
    let state = TestDir::new("streams");
    let app = in_rounds(
        &mut cluster,
        |cluster, run| start(cluster, "word-count", &state, &["count", "lines", "counts"], run),
        |cluster, _| {
            let line = |number: usize| format!("{} {}", WORDS[number % 5], WORDS[number % 3]);
            write(cluster, "lines", (0..LINES).map(|number| (number.to_string(), line(number))));
        },
    );
    // Each line has two words; all rounds, and the one while a broker was away.
    let total = 2 * LINES * (ROUNDS + 1);
    let counts = read_until(&cluster, "counts", |found| found.len() >= total);
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (word, count) in &counts {
        let before = last.entry(word).or_default();
        assert_eq!(count, &(*before + 1).to_string(), "the count of {word} went on from {before}");
        *before += 1;
    }
    assert_eq!(last.values().sum::<usize>(), total, "{last:?}");
    leave(app);
}

#[test]
fn a_windowed_join_joins_each_pair_once() {
    let mut cluster = three();
    for topic in ["left", "right", "joined"] {
        cluster.create_topic(topic, PARTITIONS, &[]);
    }
    let state = TestDir::new("streams");
    let app = in_rounds(
        &mut cluster,
        |cluster, run| start(cluster, "join", &state, &["join", "left", "right", "joined"], run),
        |cluster, round| {
            for side in ["left", "right"] {
                let keys = (0..LINES).map(|number| format!("{round}-{number}"));
                write(cluster, side, keys.map(|key| (key.clone(), format!("{side}-{key}"))));
            }
        },
    );
    let total = LINES * (ROUNDS + 1);
    let joined = read_until(&cluster, "joined", |found| found.len() >= total);
    let mut seen = BTreeMap::new();
    for (key, value) in joined {
        assert_eq!(value, format!("left-{key}+right-{key}"));
        *seen.entry(key).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), total);
    assert!(seen.values().all(|count| *count == 1), "{:?}", seen.iter().find(|(_, count)| **count > 1));
    leave(app);
}
