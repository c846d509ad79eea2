//! Programs that lean on transactions, groups and compacted topics, unmodified, against a broker or a cluster: Kafka Streams,
//! Kafka Connect, MirrorMaker 2, and consume-transform-produce loops of three client libraries; killed and restarted, as
//! the brokers are.
//!
//! `BARNABAS_TEST_BROKER=jvm-3.9.1` runs the same tests against Apache Kafka, which proves the tests.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod loops;
mod mirror;
mod streams;
