//! Copies of a numbered topic through transactions, by programs that are killed meanwhile, and the check that every number
//! arrived once and in order, to a reader of what is committed.

use super::process::Talking;
use super::{PATIENCE, cache, dirs, jvm};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whose transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copier {
    Java,
    /// franz-go.
    Go,
    /// librdkafka by way of Python.
    Python,
}

/// What is copied, from where to where.
#[derive(Clone, Debug)]
pub struct Copy {
    pub bootstrap: String,
    pub group: String,
    pub from: String,
    pub to: String,
    /// Every so many transactions one is aborted and done again; 0 for none.
    pub abort_each: u32,
}

impl Copier {
    /// Starts a member of the group that copies.
    pub fn start(self, copy: &Copy, transactional_id: &str) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut command = match self {
            Copier::Java => jvm::program("CopyLoop"),
            Copier::Go => Command::new(cache().join("bin/copy")),
            Copier::Python => {
                let mut command = Command::new(cache().join("venv/bin/python"));
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/copy_loop.py"));
                command
            }
        };
        command.args([&copy.bootstrap, &copy.group, transactional_id, &copy.from, &copy.to]);
        command.arg(copy.abort_each.to_string());
        let name = format!("{self:?}-copy-{}", NEXT.fetch_add(1, Ordering::Relaxed)).to_lowercase();
        let log = dirs::root().join(format!("{name}.log"));
        Running { talking: Talking::start(&name, command, &log) }
    }
}

/// A program that copies.
pub struct Running {
    pub talking: Talking,
}

impl Running {
    /// How many transactions it says to have ended that way: `committed` or `aborted`.
    pub fn count(&self, how: &str) -> usize {
        self.talking.lines().iter().filter(|line| line.starts_with(how)).count()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.talking.process.kill();
    }

    /// Asks it to end and waits until it has.
    pub fn leave(&mut self) {
        self.talking.close_stdin();
        let status = self.talking.process.wait(PATIENCE).expect("it ends when it is asked to");
        assert!(status.success(), "a copier ended with {status}\n{}", self.talking.process.log_tail());
    }
}

/// Reads records in the order of each partition from its beginning.
pub struct Reader {
    consumer: BaseConsumer,
    ended: Vec<bool>,
}

impl Reader {
    /// `isolation` is `read_committed` or `read_uncommitted`.
    pub fn new(bootstrap: &str, topic: &str, partitions: i32, isolation: &str) -> Reader {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "reads-copies")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation)
            .set("fetch.wait.max.ms", "100")
            .set("reconnect.backoff.max.ms", "200")
            .set_log_level(RDKafkaLogLevel::Error);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&assignment).expect("assigned");
        Reader { consumer, ended: vec![false; partitions as usize] }
    }

    /// The next record, as partition, key and value; `None` if none came for a while, or a partition ended.
    pub fn next(&mut self) -> Option<(i32, String, String)> {
        match self.consumer.poll(Duration::from_millis(200))? {
            Ok(message) => {
                self.ended[message.partition() as usize] = false;
                let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                Some((message.partition(), text(message.key()), text(message.payload())))
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                self.ended[partition as usize] = true;
                None
            }
            Err(_) => None,
        }
    }

    /// Everything there is now.
    pub fn all(mut self) -> Vec<(i32, String, String)> {
        let mut found = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !self.is_at_end() {
            assert!(Instant::now() < deadline, "the end is not reached; {} records read", found.len());
            found.extend(self.next());
        }
        found
    }

    /// Whether every partition was read to its end.
    pub fn is_at_end(&self) -> bool {
        self.ended.iter().all(|ended| *ended)
    }
}

/// Waits until a topic holds every number below `total`, each in the partition of its remainder, and checks on the way
/// that none is missing, comes twice, or out of order.
pub fn wait_copied(bootstrap: &str, topic: &str, partitions: i32, total: usize) {
    let mut reader = Reader::new(bootstrap, topic, partitions, "read_committed");
    let mut next: Vec<usize> = (0..partitions as usize).collect();
    let mut progress = Instant::now();
    while next.iter().any(|next| *next < total) || !reader.is_at_end() {
        assert!(progress.elapsed() < PATIENCE, "{topic}: nothing new for long; next are {next:?} of {total}");
        let Some((partition, _, value)) = reader.next() else { continue };
        progress = Instant::now();
        let expected = &mut next[partition as usize];
        assert_eq!(value, expected.to_string(), "{topic}-{partition}: another number was expected");
        *expected += partitions as usize;
    }
    assert!(next.iter().all(|next| *next < total + partitions as usize), "{topic}: more than was written");
}
