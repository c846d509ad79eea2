//! A broker beside a real ZooKeeper in trouble: sessions that end, disks that fill, frames that lie, kill -9.
//!
//! `BARNABAS_TEST_BROKER=jvm-3.9.1` runs what Apache Kafka can do as well, which proves the tests.

#[path = "../support/mod.rs"]
mod support;

mod control_plane;
mod crash;
mod cut_off;
mod deaths;
mod disks;
mod dynamic;
mod exactly_once;
mod faults;
mod groups;
mod hostile;
mod jvm_peers;
mod kafkas_coordinator;
mod limits;
mod log_dir_moves;
mod mixed;
mod operator;
mod recovery;
mod replication;
mod retention;
mod sendfile;
mod stops;
mod swaps;
mod transactions;
mod zookeeper;
