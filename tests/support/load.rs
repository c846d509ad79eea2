//! A steady load of numbered records that outlives whatever befalls the brokers, and the check that every acknowledged
//! record is there, once and in order. The producer is idempotent with acks=all (librdkafka); a consumer group reads along.

use super::{PATIENCE, dirs, wait_for};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pause between two records.
const PACE: Duration = Duration::from_millis(2);
/// More records than any test sends.
const MOST: u64 = 400_000;

/// What came back from the brokers.
#[derive(Default)]
struct Acked {
    /// Of each partition the numbers that were acknowledged, with their offsets.
    offsets: BTreeMap<i32, BTreeMap<u64, i64>>,
    failures: Vec<String>,
    last: Option<Instant>,
    longest_gap: Duration,
}

struct Context(Arc<Mutex<Acked>>, fs::File);

impl ClientContext for Context {
    /// What librdkafka says of its producer id, epochs and retries goes to a file that is kept when the test fails.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (now.as_secs() % 86_400, now.subsec_millis());
        let now = format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let _ = writeln!(&self.1, "{now} {facility} {message}");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Self::DeliveryOpaque) {
        let mut acked = self.0.lock().expect("no panic while locked");
        match result {
            Ok(message) => {
                let now = Instant::now();
                let gap = acked.last.map_or(Duration::ZERO, |last| now - last);
                acked.longest_gap = acked.longest_gap.max(gap);
                acked.last = Some(now);
                acked.offsets.entry(message.partition()).or_default().insert(*number, message.offset());
            }
            Err((error, _)) => acked.failures.push(error.to_string()),
        }
    }
}

/// The load under way.
pub struct Load {
    bootstrap: String,
    topic: String,
    partitions: i32,
    acked: Arc<Mutex<Acked>>,
    sent: Arc<AtomicU64>,
    consumed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Writes to all partitions of a topic in turn, and reads along in a group.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Load {
        Load::start_in(bootstrap, topic, partitions, || {})
    }

    /// As [`Load::start`], with `enter` called first on each thread: it may move the thread to another network.
    pub fn start_in(bootstrap: &str, topic: &str, partitions: i32, enter: impl Fn() + Clone + Send + 'static) -> Load {
        Load::run(bootstrap, topic, partitions, 5, enter)
    }

    /// As [`Load::start`], with one request under way on a connection, for clusters with JVM brokers. With more, a JVM
    /// broker that becomes leader between two of them refuses the first with NOT_LEADER_OR_FOLLOWER and the second with
    /// OUT_OF_ORDER_SEQUENCE_NUMBER; then librdkafka begins a new epoch, under which it sends again what was stored and not
    /// acknowledged before a leader stopped. That happens in clusters of JVM brokers alone, too.
    pub fn start_in_step(bootstrap: &str, topic: &str, partitions: i32) -> Load {
        Load::run(bootstrap, topic, partitions, 1, || {})
    }

    fn run(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        in_flight: usize,
        enter: impl Fn() + Clone + Send + 'static,
    ) -> Load {
        let mut load = Load {
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            partitions,
            acked: Arc::default(),
            sent: Arc::default(),
            consumed: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let (produce, consume) = (load.producer(in_flight), load.consumer());
        let entered = enter.clone();
        load.threads.push(std::thread::spawn(move || {
            entered();
            produce();
        }));
        load.threads.push(std::thread::spawn(move || {
            enter();
            consume();
        }));
        load.wait_progress("the first records", 10);
        load
    }

    fn producer(&self, in_flight: usize) -> impl FnOnce() + Send + 'static {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", in_flight.to_string())
            .set("linger.ms", "1")
            .set("debug", "eos")
            .set_log_level(RDKafkaLogLevel::Debug)
            .set("message.timeout.ms", "240000")
            .set("request.timeout.ms", "10000")
            .set("socket.timeout.ms", "11000")
            .set("retry.backoff.ms", "50")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("topic.metadata.refresh.interval.ms", "2000");
        let (acked, sent, stop) = (self.acked.clone(), self.sent.clone(), self.stop.clone());
        let (topic, partitions) = (self.topic.clone(), self.partitions);
        let log = fs::File::create(dirs::root().join(format!("producer-{topic}.log"))).expect("a log file");
        move || {
            let producer: ThreadedProducer<Context> =
                ThreadedProducer::from_config_and_context(&config, Context(acked, log)).expect("a producer");
            for number in 0..MOST {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let value = number.to_string();
                let partition = (number % partitions as u64) as i32;
                let mut record = BaseRecord::<(), _, _>::with_opaque_to(&topic, Box::new(number))
                    .payload(&value)
                    .partition(partition);
                while let Err((error, back)) = producer.send(record) {
                    let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                    assert!(full, "record {number} could not be queued: {error}");
                    record = back;
                    std::thread::sleep(PACE);
                }
                sent.store(number + 1, Ordering::Relaxed);
                std::thread::sleep(PACE);
            }
            producer.flush(PATIENCE * 3).expect("everything is answered in the end");
        }
    }

    fn consumer(&self) -> impl FnOnce() + Send + 'static {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", format!("{}-group", self.topic))
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "10000")
            .set("reconnect.backoff.max.ms", "200");
        let (topic, consumed, stop) = (self.topic.clone(), self.consumed.clone(), self.stop.clone());
        move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            consumer.subscribe(&[&topic]).expect("subscribed");
            let mut next: BTreeMap<i32, i64> = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                // After a rebalance some records come again, but none is ever skipped.
                let expected = next.entry(message.partition()).or_insert(0);
                let skipped = message.offset() - *expected;
                assert!(skipped <= 0, "the group skipped {skipped} records of partition {}", message.partition());
                if skipped == 0 {
                    *expected += 1;
                    consumed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// How many records were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acked.lock().expect("no panic while locked").offsets.values().map(BTreeMap::len).sum()
    }

    /// Waits until every partition has `count` more acknowledged records, and the group has read on too.
    pub fn wait_progress(&self, what: &str, count: usize) {
        let each = || -> Vec<usize> {
            let acked = self.acked.lock().expect("no panic while locked");
            (0..self.partitions).map(|p| acked.offsets.get(&p).map_or(0, BTreeMap::len)).collect()
        };
        let (before, read) = (each(), self.consumed.load(Ordering::Relaxed));
        wait_for(&format!("writes to go on: {what}"), PATIENCE, || {
            (0..).zip(each()).all(|(p, now): (usize, usize)| now >= before[p] + count).then_some(())
        });
        wait_for(&format!("the group to read on: {what}"), PATIENCE, || {
            (self.consumed.load(Ordering::Relaxed) >= read + count as u64).then_some(())
        });
    }

    /// The longest time without any acknowledgement so far; starts anew with each call.
    pub fn take_longest_gap(&self) -> Duration {
        let mut acked = self.acked.lock().expect("no panic while locked");
        let running = acked.last.map_or(Duration::ZERO, |last| last.elapsed());
        std::mem::take(&mut acked.longest_gap).max(running)
    }

    /// Stops, waits for the last answers, reads everything back and checks it. Answers how many records there were.
    pub fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("the load ran to its end");
        }
        let acked = std::mem::take(&mut *self.acked.lock().expect("no panic while locked"));
        assert!(acked.failures.is_empty(), "{} records failed: {}", acked.failures.len(), acked.failures[0]);
        let sent = self.sent.load(Ordering::Relaxed);
        let total: usize = acked.offsets.values().map(BTreeMap::len).sum();
        assert_eq!(total as u64, sent, "every record was acknowledged in the end");
        for partition in 0..self.partitions {
            let expected = &acked.offsets[&partition];
            let found = read_all(&self.bootstrap, &self.topic, partition);
            let numbers: Vec<u64> = found.iter().map(|(_, number)| *number).collect();
            let wanted: Vec<u64> = expected.keys().copied().collect();
            assert!(numbers == wanted, "partition {partition}: {}", difference(&wanted, &numbers));
            for (offset, number) in found {
                let said = expected[&number];
                // A retried batch that was answered as a duplicate may carry no offset.
                assert!(said < 0 || said == offset, "partition {partition}: {number} is at {offset}, not at {said}");
            }
        }
        total
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// All records of a partition with their offsets.
fn read_all(bootstrap: &str, topic: &str, partition: i32) -> Vec<(i64, u64)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "check").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let high = wait_for("the end of the partition", PATIENCE, || {
        consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)).ok().map(|(_, high)| high)
    });
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    consumer.assign(&assignment).expect("assigned");
    let mut found = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while found.last().is_none_or(|(offset, _)| offset + 1 < high) && high > 0 {
        assert!(Instant::now() < deadline, "partition {partition} ends at {high}, read {:?}", found.last());
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
        let text = std::str::from_utf8(message.payload().unwrap_or_default()).expect("a number");
        found.push((message.offset(), text.parse().expect("a number")));
    }
    found
}

fn difference(wanted: &[u64], found: &[u64]) -> String {
    let missing: Vec<_> = wanted.iter().filter(|n| !found.contains(n)).take(5).collect();
    let mut seen = std::collections::BTreeSet::new();
    let twice: Vec<_> = found.iter().filter(|n| !seen.insert(**n)).take(5).collect();
    let disordered = found.windows(2).find(|pair| pair[0] >= pair[1]);
    format!(
        "{} wanted, {} found; missing {missing:?}, twice {twice:?}, out of order {disordered:?}",
        wanted.len(),
        found.len()
    )
}
