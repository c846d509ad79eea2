//! Barnabas: a ZooKeeper-coordinated message broker, faithful to classic Apache Kafka.
//!
//! The modules stand in layer order; `tests/tidy.rs` holds who may use whom. ARCHITECTURE.md draws the picture.

pub mod base;
pub mod config;
pub mod protocol;

pub mod log;
pub mod network;

pub mod replica;
pub mod zk;

pub mod admin;
pub mod controller;
pub mod coordinator;

pub mod api;
pub mod server;

pub mod cli;
