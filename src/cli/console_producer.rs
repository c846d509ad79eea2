//! `kafka-console-producer.sh`: each line of standard input becomes a record.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};

use super::client_config::{self, QuietContext};
use super::line_reader::{Line, LineReader};
use super::properties::{self, Properties};

/// Read lines from standard input and write each to a topic.
#[derive(Parser)]
#[command(name = "kafka-console-producer")]
struct Options {
    /// The topic to write to
    #[arg(long)]
    topic: String,
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long, required_unless_present = "broker_list")]
    bootstrap_server: Option<String>,
    /// The older name of --bootstrap-server
    #[arg(long)]
    broker_list: Option<String>,
    /// Wait for each record's acknowledgement before the next line
    #[arg(long)]
    sync: bool,
    /// none, gzip, snappy, lz4 or zstd; gzip if no codec is named
    #[arg(long, num_args = 0..=1, default_missing_value = "gzip")]
    compression_codec: Option<String>,
    /// The size of a batch in bytes [default: 16384]
    #[arg(long)]
    batch_size: Option<u32>,
    /// How often a record is sent again before it is given up (`retries`) [default: 3]
    #[arg(long)]
    message_send_max_retries: Option<u32>,
    /// Milliseconds between two tries (`retry.backoff.ms`) [default: 100]
    #[arg(long)]
    retry_backoff_ms: Option<u64>,
    /// The longest a record waits for others to fill its batch, in milliseconds (`linger.ms`) [default: 1000]
    #[arg(long)]
    timeout: Option<u64>,
    /// 0, 1, or -1 (all) (`acks`) [default: -1]
    #[arg(long, allow_hyphen_values = true)]
    request_required_acks: Option<String>,
    /// How long the broker may take to acknowledge, in milliseconds [default: 1500]
    #[arg(long)]
    request_timeout_ms: Option<u32>,
    /// The age in milliseconds at which metadata is asked for anew (`metadata.max.age.ms`) [default: 300000]
    #[arg(long)]
    metadata_expiry_ms: Option<u64>,
    /// How long a line may wait for room in the buffer, in milliseconds (`max.block.ms`) [default: 60000]
    #[arg(long)]
    max_block_ms: Option<u64>,
    /// The buffer's size in bytes (`buffer.memory`) [default: 33554432]
    #[arg(long)]
    max_memory_bytes: Option<u64>,
    /// The size of a partition's batch in bytes (`batch.size`); wins over --batch-size
    #[arg(long)]
    max_partition_memory_bytes: Option<u32>,
    /// The class that reads lines; only LineMessageReader is there
    #[arg(long)]
    line_reader: Option<String>,
    /// The socket's send buffer in bytes (`send.buffer.bytes`) [default: 102400]
    #[arg(long)]
    socket_buffer_size: Option<u32>,
    /// key=value for the line reader: parse.key, key.separator, parse.headers, headers.delimiter, headers.separator,
    /// headers.key.separator, ignore.error, null.marker
    #[arg(long)]
    property: Vec<String>,
    /// A properties file for the line reader; --property wins over it
    #[arg(long)]
    reader_config: Option<PathBuf>,
    /// key=value for the producer
    #[arg(long)]
    producer_property: Vec<String>,
    /// A properties file for the producer; --producer-property wins over it
    #[arg(long = "producer.config")]
    producer_config: Option<PathBuf>,
}

impl Options {
    /// The producer's properties: defaults, then the file, then `--producer-property`, then the options given.
    fn producer_properties(&self) -> anyhow::Result<Properties> {
        let mut all = Properties::from(
            [
                ("acks", "-1"),
                ("retries", "3"),
                ("retry.backoff.ms", "100"),
                ("linger.ms", "1000"),
                ("request.timeout.ms", "1500"),
                ("metadata.max.age.ms", "300000"),
                ("max.block.ms", "60000"),
                ("delivery.timeout.ms", "120000"),
                ("buffer.memory", "33554432"),
                ("batch.size", "16384"),
                ("send.buffer.bytes", "102400"),
                ("client.id", "console-producer"),
                // The Java client's partitioner: the same key goes to the same partition from both.
                ("partitioner", "murmur2_random"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        all.extend(properties::layered(self.producer_config.as_deref(), &self.producer_property)?);
        all.extend(self.given());
        Ok(all)
    }

    fn given(&self) -> Properties {
        fn text<T: ToString>(value: Option<T>) -> Option<String> {
            value.map(|value| value.to_string())
        }
        let servers = self.bootstrap_server.as_ref().or(self.broker_list.as_ref());
        [
            ("bootstrap.servers", servers.cloned()),
            ("compression.type", self.compression_codec.clone()),
            ("batch.size", text(self.max_partition_memory_bytes.or(self.batch_size))),
            ("retries", text(self.message_send_max_retries)),
            ("retry.backoff.ms", text(self.retry_backoff_ms)),
            ("linger.ms", text(self.timeout)),
            ("acks", self.request_required_acks.clone()),
            ("request.timeout.ms", text(self.request_timeout_ms)),
            ("metadata.max.age.ms", text(self.metadata_expiry_ms)),
            ("max.block.ms", text(self.max_block_ms)),
            ("buffer.memory", text(self.max_memory_bytes)),
            ("send.buffer.bytes", text(self.socket_buffer_size)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

/// Notes whether any record failed, and says so as it happens.
struct Deliveries {
    failed: Arc<AtomicBool>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        QuietContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        QuietContext.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            use rdkafka::Message;
            self.failed.store(true, Ordering::Relaxed);
            let bytes = message.payload_len();
            eprintln!("Error when sending a record of {bytes} bytes to topic {}: {error}", message.topic());
        }
    }
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let options: Options = match super::parse("kafka-console-producer", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if let Some(class) = options.line_reader.as_deref()
        && class.rsplit('.').next() != Some("LineMessageReader")
        && class != "kafka.tools.ConsoleProducer$LineMessageReader"
    {
        bail!("--line-reader {class}: Java classes cannot be loaded here; only LineMessageReader is built in");
    }
    let reader = LineReader::new(properties::layered(options.reader_config.as_deref(), &options.property)?)?;
    let properties = options.producer_properties()?;
    let (block, delivery) = (duration(&properties, "max.block.ms")?, duration(&properties, "delivery.timeout.ms")?);
    let failed = Arc::new(AtomicBool::new(false));
    let producer: ThreadedProducer<Deliveries> =
        client_config::build(&properties)?.create_with_context(Deliveries { failed: failed.clone() })?;
    let mut sender =
        Sender { producer, topic: options.topic, sync: options.sync, block, delivery, known: false, failed };
    let read = sender.send_lines(&reader, std::io::stdin().lock());
    sender.flush()?;
    read?;
    let failed = sender.failed;
    Ok(if failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn duration(properties: &Properties, name: &str) -> anyhow::Result<Duration> {
    let ms = properties[name].parse().with_context(|| format!("{name} is not a number of milliseconds"))?;
    Ok(Duration::from_millis(ms))
}

/// Sends lines. The producer's own thread tells of trouble and of acknowledgements while this one waits for a line.
struct Sender {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    sync: bool,
    /// `max.block.ms`: how long a line may wait for the topic to be known, and for room in the buffer.
    block: Duration,
    /// `delivery.timeout.ms`: how long a record in the buffer may take.
    delivery: Duration,
    /// Whether the topic was seen.
    known: bool,
    failed: Arc<AtomicBool>,
}

/// How long one try to learn of the topic takes.
const TRY: Duration = Duration::from_millis(500);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

impl Sender {
    fn send_lines(&mut self, reader: &LineReader, mut input: impl BufRead) -> anyhow::Result<()> {
        let prompt = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut line = Vec::new();
        for number in 1.. {
            if prompt {
                print!(">");
                std::io::stdout().flush()?;
            }
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            self.send(&reader.read(text.strip_suffix('\r').unwrap_or(text), number)?)?;
        }
        Ok(())
    }

    /// Waits until the cluster knows the topic; asking makes it where the brokers make topics on demand. As the Java
    /// producer, each line waits for itself, and the next one is tried when it is given up.
    fn topic_is_known(&mut self) -> bool {
        let deadline = Instant::now() + self.block;
        while !self.known {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let metadata = self.producer.client().fetch_metadata(Some(&self.topic), left.min(TRY));
            self.known = metadata
                .is_ok_and(|all| all.topics().iter().any(|t| t.error().is_none() && !t.partitions().is_empty()));
            if !self.known {
                std::thread::sleep(left.min(PAUSE));
            }
        }
        true
    }

    fn flush(&self) -> anyhow::Result<()> {
        // Each record ends by its own time-out; the second more is for the last of them to be told.
        let patience = self.delivery.saturating_add(Duration::from_secs(1));
        self.producer.flush(patience).context("not every record was acknowledged")
    }

    fn send(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        if !self.topic_is_known() {
            self.failed.store(true, Ordering::Relaxed);
            let (topic, ms) = (&self.topic, self.block.as_millis());
            eprintln!(
                "Error when sending a record to topic {topic}: Topic {topic} not present in metadata after {ms} ms."
            );
            return Ok(());
        }
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(&self.topic);
        record.key = line.key;
        record.payload = line.value;
        if !line.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(line.headers.len());
            record.headers =
                Some(line.headers.iter().fold(headers, |all, (key, value)| all.insert(Header { key, value: *value })));
        }
        let deadline = Instant::now() + self.block;
        while let Err((error, back)) = self.producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) || Instant::now() >= deadline {
                return Err(error).context("a record could not be sent");
            }
            record = back;
            std::thread::sleep(PAUSE);
        }
        if self.sync { self.flush() } else { Ok(()) }
    }
}
