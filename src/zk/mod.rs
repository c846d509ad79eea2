//! ZooKeeper as the broker uses it: what the nodes hold, a client behind a trait, and the broker's own registration.
//!
//! Owns every path and every byte that Barnabas reads from or writes to ZooKeeper. Invariants: a node's path, encoding
//! and decoding stand together in [`znodes`]; an error is either definite or [`error::ZkError::Unknown`], after which
//! one reads again; what is written on behalf of the controller is fenced by the version of `/controller_epoch`.
//! It never knows of logs, sockets of Kafka clients, or how decisions are made.

pub mod backend;
pub mod client;
pub mod error;
pub mod memory;
pub mod real;
pub mod session;
pub mod session_file;
pub mod tree;
pub mod znodes;

pub use backend::{CreateMode, Node, Op, OpResult, Stat, WatchEvent, WatchKind, WatchSink};
pub use client::{SessionState, ZkClient};
pub use error::ZkError;
