//! Real client programs against a broker: what each writes, each reads; alone and in groups; old message formats; and
//! log folders that change hands between barnabas and JVM brokers.
//!
//! `BARNABAS_TEST_BROKER=jvm-3.9.1` runs the same tests against Apache Kafka, which proves the tests.

#[path = "../support/mod.rs"]
mod support;

mod compaction;
mod console;
mod disk;
mod dynamic;
mod groups;
mod matrix;
mod old_formats;
mod operator;
mod scripts;
mod session;
mod side_by_side;
mod tools;
mod transactions;
mod written_formats;
