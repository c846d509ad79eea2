//! The Java clients' property names as librdkafka, which the console tools are built on, knows them.
//!
//! Most names are the same. THE table below lists the others; a name in neither is handed to librdkafka, which refuses
//! what it does not know.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use rdkafka::ClientConfig;

use super::properties::Properties;

/// What becomes of a Java property.
enum Mapping {
    /// librdkafka has the same thing by another name.
    Name(&'static str),
    /// The same in KiB instead of bytes.
    Kibibytes(&'static str),
    /// The tool reads it itself.
    Own,
    /// It has no counterpart and no bearing on what is sent or read: a warning.
    NoCounterpart,
}

use Mapping::{Kibibytes, Name, NoCounterpart, Own};

const TABLE: &[(&str, Mapping)] = &[
    ("buffer.memory", Kibibytes("queue.buffering.max.kbytes")),
    ("max.request.size", Name("message.max.bytes")),
    ("send.buffer.bytes", Name("socket.send.buffer.bytes")),
    ("receive.buffer.bytes", Name("socket.receive.buffer.bytes")),
    ("fetch.max.wait.ms", Name("fetch.wait.max.ms")),
    ("max.partition.fetch.bytes", Name("fetch.message.max.bytes")),
    ("connections.max.idle.ms", Name("connections.max.idle.ms")),
    ("max.block.ms", Own),
    ("key.serializer", Own),
    ("value.serializer", Own),
    ("key.deserializer", Own),
    ("value.deserializer", Own),
    ("partition.assignment.strategy", Own),
    ("max.poll.records", NoCounterpart),
    ("metadata.max.idle.ms", NoCounterpart),
    ("metric.reporters", NoCounterpart),
    ("metrics.num.samples", NoCounterpart),
    ("metrics.recording.level", NoCounterpart),
    ("metrics.sample.window.ms", NoCounterpart),
    ("auto.include.jmx.reporter", NoCounterpart),
    ("enable.metrics.push", NoCounterpart),
    ("exclude.internal.topics", NoCounterpart),
    ("default.api.timeout.ms", NoCounterpart),
    ("client.dns.lookup", Own),
];

/// librdkafka's names of the Java consumer's assignors.
const ASSIGNORS: &[(&str, &str)] = &[
    ("RangeAssignor", "range"),
    ("RoundRobinAssignor", "roundrobin"),
    ("CooperativeStickyAssignor", "cooperative-sticky"),
    ("range", "range"),
    ("roundrobin", "roundrobin"),
    ("cooperative-sticky", "cooperative-sticky"),
];

/// Builds librdkafka's configuration. Warnings go to standard error; a property that librdkafka cannot honour is an
/// error.
pub fn build(properties: &Properties) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        match TABLE.iter().find(|(java, _)| java == name).map(|(_, mapping)| mapping) {
            None => {
                config.set(name, value);
            }
            Some(Name(theirs)) => {
                config.set(*theirs, value);
            }
            Some(Kibibytes(theirs)) => {
                let bytes: u64 =
                    value.parse().with_context(|| format!("{name} is '{value}', not a number of bytes"))?;
                config.set(*theirs, bytes.div_ceil(1024).to_string());
            }
            Some(NoCounterpart) => eprintln!("Warning: {name} has no meaning for this tool and is left out."),
            Some(Own) => set_own(&mut config, name, value)?,
        }
    }
    Ok(config)
}

fn set_own(config: &mut ClientConfig, name: &str, value: &str) -> anyhow::Result<()> {
    match name {
        "partition.assignment.strategy" => {
            config.set(name, assignors(value)?);
        }
        "client.dns.lookup" if value == "resolve_canonical_bootstrap_servers_only" => {
            config.set(name, value);
        }
        "key.serializer" | "value.serializer" => {
            let class = value.rsplit('.').next().unwrap_or(value);
            if !matches!(class, "StringSerializer" | "ByteArraySerializer") {
                bail!(
                    "{name} is {value}; this tool writes text as it reads it: StringSerializer or ByteArraySerializer"
                );
            }
        }
        // Read by the tool itself.
        _ => {}
    }
    Ok(())
}

fn assignors(value: &str) -> anyhow::Result<String> {
    let mut names = Vec::new();
    for class in value.split(',').map(str::trim) {
        let short = class.rsplit('.').next().unwrap_or(class);
        match ASSIGNORS.iter().find(|(java, _)| *java == short) {
            Some((_, theirs)) => names.push(*theirs),
            None => bail!("no assignor {class}: RangeAssignor, RoundRobinAssignor or CooperativeStickyAssignor"),
        }
    }
    Ok(names.join(","))
}

/// What librdkafka says to itself is only shown from warnings up, in one line each, and the same thing not again and again
/// while it tries.
pub struct QuietContext;

/// How long the same line is not repeated.
const QUIET: Duration = Duration::from_secs(30);

/// Says `text` on standard error unless it was said just now. Connections that fail in turn count as one thing.
fn say(about: &str, text: &str) {
    static SAID: Mutex<Vec<(String, Instant)>> = Mutex::new(Vec::new());
    let now = Instant::now();
    let mut said = SAID.lock();
    said.retain(|(_, at)| now.duration_since(*at) < QUIET);
    if !said.iter().any(|(other, _)| other == about) {
        said.push((about.to_owned(), now));
        eprintln!("{text}");
    }
}

impl rdkafka::ClientContext for QuietContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        use rdkafka::config::RDKafkaLogLevel::{Alert, Critical, Emerg, Error, Warning};
        if matches!(level, Emerg | Alert | Critical | Error | Warning) {
            // Behind the bracket stand times and counts, which differ each time.
            let about = message.split(" (").next().unwrap_or(message);
            say(about, &format!("[{facility}] {message}"));
        }
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        use rdkafka::error::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure};
        // The log has said so, with the reason.
        if !matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure)) {
            say(reason, &format!("{error}: {reason}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_names_are_translated() {
        let properties = Properties::from([
            ("buffer.memory".to_owned(), "33554432".to_owned()),
            ("acks".to_owned(), "all".to_owned()),
            (
                "partition.assignment.strategy".to_owned(),
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor".to_owned(),
            ),
        ]);
        let config = build(&properties).unwrap();
        assert_eq!(config.get("queue.buffering.max.kbytes"), Some("32768"));
        assert_eq!(config.get("acks"), Some("all"));
        assert_eq!(config.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    }

    #[test]
    fn unknown_classes_are_refused() {
        let properties = Properties::from([("key.serializer".to_owned(), "com.acme.Avro".to_owned())]);
        assert!(build(&properties).is_err());
    }
}
