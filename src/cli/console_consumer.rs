//! `kafka-console-consumer.sh`: prints a topic's records.

use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};
use rdkafka::{Offset, TopicPartitionList};

use super::client_config::{self, QuietContext};
use super::formatter::{Formatter, Printable, Stamp};
use super::properties::{self, Properties};

impl ConsumerContext for QuietContext {}

/// Read a topic's records and print them.
#[derive(Parser)]
#[command(name = "kafka-console-consumer")]
struct Options {
    /// The topic to read
    #[arg(long, required_unless_present = "include")]
    topic: Option<String>,
    /// A regular expression: read every topic whose name it matches
    #[arg(long, visible_alias = "whitelist", conflicts_with = "topic")]
    include: Option<String>,
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: String,
    /// Read only this partition, from its end unless --offset says otherwise
    #[arg(long, requires = "topic")]
    partition: Option<i32>,
    /// Where to begin in the partition: a number, earliest or latest
    #[arg(long, requires = "partition", allow_hyphen_values = true)]
    offset: Option<String>,
    /// Begin with the earliest record if the group has no committed offset
    #[arg(long)]
    from_beginning: bool,
    /// Stop after so many records
    #[arg(long)]
    max_messages: Option<u64>,
    /// Stop when no record came for so many milliseconds
    #[arg(long, allow_hyphen_values = true)]
    timeout_ms: Option<i64>,
    /// Go on when a record cannot be printed
    #[arg(long)]
    skip_message_on_error: bool,
    /// The group to read as
    #[arg(long)]
    group: Option<String>,
    /// read_committed or read_uncommitted
    #[arg(long, default_value = "read_uncommitted", value_parser = ["read_committed", "read_uncommitted"])]
    isolation_level: String,
    /// The class that prints records: DefaultMessageFormatter or NoOpMessageFormatter
    #[arg(long)]
    formatter: Option<String>,
    /// A properties file for the formatter; --property wins over it
    #[arg(long)]
    formatter_config: Option<PathBuf>,
    /// key=value for the formatter: print.key, print.value, print.timestamp, print.partition, print.offset,
    /// print.headers, key.separator, line.separator, headers.separator, null.literal, ...
    #[arg(long)]
    property: Vec<String>,
    /// The class that reads keys: StringDeserializer, LongDeserializer, ...
    #[arg(long)]
    key_deserializer: Option<String>,
    /// The class that reads values
    #[arg(long)]
    value_deserializer: Option<String>,
    /// Also print when the consumer starts and stops
    #[arg(long)]
    enable_systest_events: bool,
    /// key=value for the consumer
    #[arg(long)]
    consumer_property: Vec<String>,
    /// A properties file for the consumer; --consumer-property wins over it
    #[arg(long = "consumer.config")]
    consumer_config: Option<PathBuf>,
}

impl Options {
    fn consumer_properties(&self) -> anyhow::Result<Properties> {
        let mut all = properties::layered(self.consumer_config.as_deref(), &self.consumer_property)?;
        self.set_group(&mut all)?;
        let reset = if self.from_beginning { "earliest" } else { "latest" };
        if self.from_beginning && all.get("auto.offset.reset").is_some_and(|given| given != "earliest") {
            bail!("--from-beginning contradicts auto.offset.reset={}", all["auto.offset.reset"]);
        }
        all.entry("auto.offset.reset".to_owned()).or_insert_with(|| reset.to_owned());
        all.entry("client.id".to_owned()).or_insert_with(|| "console-consumer".to_owned());
        all.entry("allow.auto.create.topics".to_owned()).or_insert_with(|| "true".to_owned());
        all.insert("isolation.level".to_owned(), self.isolation_level.clone());
        all.insert("bootstrap.servers".to_owned(), self.bootstrap_server.clone());
        Ok(all)
    }

    /// The group named once or with one voice; else one of our own that commits nothing.
    fn set_group(&self, all: &mut Properties) -> anyhow::Result<()> {
        match (&self.group, all.get("group.id")) {
            (Some(here), Some(there)) if here != there => {
                bail!("--group names the group '{here}', the consumer's properties '{there}'")
            }
            (Some(group), _) => {
                all.insert("group.id".to_owned(), group.clone());
            }
            (None, Some(_)) => {}
            (None, None) => {
                all.insert("group.id".to_owned(), format!("console-consumer-{}", rand::random_range(0..100_000)));
                all.entry("enable.auto.commit".to_owned()).or_insert_with(|| "false".to_owned());
            }
        }
        if self.partition.is_some() && self.group.is_some() {
            bail!("--group and --partition cannot be used together");
        }
        Ok(())
    }

    fn start_offset(&self) -> anyhow::Result<Offset> {
        match self.offset.as_deref() {
            None if self.from_beginning => Ok(Offset::Beginning),
            Some(_) if self.from_beginning => bail!("--from-beginning and --offset cannot be used together"),
            None | Some("latest") => Ok(Offset::End),
            Some("earliest") => Ok(Offset::Beginning),
            Some(text) => match text.parse() {
                Ok(offset) if offset >= 0 => Ok(Offset::Offset(offset)),
                _ => bail!("--offset {text}: a number from 0 on, earliest or latest"),
            },
        }
    }

    /// `None` prints nothing.
    fn formatter(&self) -> anyhow::Result<Option<Formatter>> {
        let mut all = properties::layered(self.formatter_config.as_deref(), &self.property)?;
        let classes = [("key.deserializer", &self.key_deserializer), ("value.deserializer", &self.value_deserializer)];
        for (name, class) in classes {
            if let Some(class) = class {
                all.insert(name.to_owned(), class.clone());
            }
        }
        let class = self.formatter.as_deref().unwrap_or("DefaultMessageFormatter");
        match class.rsplit('.').next() {
            Some("DefaultMessageFormatter") => Formatter::new(all).map(Some),
            Some("NoOpMessageFormatter") => Ok(None),
            _ => bail!("--formatter {class}: only DefaultMessageFormatter and NoOpMessageFormatter are built in"),
        }
    }
}

/// Runs the tool until Ctrl-C, `--max-messages` or `--timeout-ms`.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let options: Options = match super::parse("kafka-console-consumer", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let (formatter, start) = (options.formatter()?, options.start_offset()?);
    let config = client_config::build(&options.consumer_properties()?)?;
    let consumer: BaseConsumer<QuietContext> = BaseConsumer::from_config_and_context(&config, QuietContext)?;
    match (&options.topic, options.partition) {
        (Some(topic), Some(partition)) => {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, start)?;
            consumer.assign(&list)?;
        }
        (Some(topic), None) => consumer.subscribe(&[topic])?,
        (None, _) => {
            let pattern = options.include.as_deref().unwrap_or_default();
            let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
            consumer.subscribe(&[&format!("^{pattern}")])?;
        }
    }
    let stopped = stop_on_signal()?;
    event(&options, "startup_complete");
    let count = print_records(&options, &consumer, formatter.as_ref(), &stopped);
    consumer.unsubscribe();
    drop(consumer);
    event(&options, "shutdown_complete");
    let (count, outcome) = count;
    eprintln!("Processed a total of {count} messages");
    outcome.map(|()| ExitCode::SUCCESS)
}

fn event(options: &Options, name: &str) {
    if options.enable_systest_events {
        println!("{}", serde_json::json!({ "name": name }));
    }
}

fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            if let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                flag.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(stopped)
}

/// Prints until it is time to stop; how many records came, and what ended it.
fn print_records(
    options: &Options,
    consumer: &BaseConsumer<QuietContext>,
    formatter: Option<&Formatter>,
    stopped: &AtomicBool,
) -> (u64, anyhow::Result<()>) {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut count = 0;
    let patience = options.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    let mut last = Instant::now();
    while !stopped.load(Ordering::Relaxed) && options.max_messages.is_none_or(|most| count < most) {
        match consumer.poll(Duration::ZERO).or_else(|| {
            // Nothing at hand: show what there is before waiting.
            let _ = out.flush();
            consumer.poll(Duration::from_millis(100))
        }) {
            None => {}
            Some(Ok(message)) => {
                last = Instant::now();
                count += 1;
                match print_record(&message, formatter, &mut out) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        eprintln!("Unable to write to standard out, closing consumer.");
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::InvalidData && options.skip_message_on_error => {
                        eprintln!("Error processing message, skipping this message: {error}");
                    }
                    Err(error) => return (count, Err(error).context("Error processing message")),
                }
            }
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => return (count, Err(error.into())),
        }
        if patience.is_some_and(|patience| last.elapsed() >= patience) {
            break;
        }
    }
    let flushed = out.flush();
    (
        count,
        flushed
            .or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
            .map_err(Into::into),
    )
}

/// librdkafka goes on after these by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::PartitionEOF
        )
    )
}

fn print_record(
    message: &BorrowedMessage<'_>,
    formatter: Option<&Formatter>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let Some(formatter) = formatter else { return Ok(()) };
    let headers = message.headers();
    let headers = headers.map_or_else(Vec::new, |all| all.iter().map(|header| (header.key, header.value)).collect());
    let record = Printable {
        timestamp: match message.timestamp() {
            Timestamp::NotAvailable => Stamp::None,
            Timestamp::CreateTime(ms) => Stamp::Create(ms),
            Timestamp::LogAppendTime(ms) => Stamp::LogAppend(ms),
        },
        partition: message.partition(),
        offset: message.offset(),
        headers,
        key: message.key(),
        value: message.payload(),
    };
    formatter.write(&record, out)
}
