//! Kafka's wire and record formats, as views over bytes. Knows no socket, no file on disk beyond a slice to send, no
//! partition.

pub mod batch;
pub mod builder;
pub mod compress;
pub mod convert;
pub mod deep;
pub mod every_request;
pub mod fetch_encoder;
pub mod frame;
pub mod legacy;
pub mod payload;
pub mod records;
pub mod shape;
pub mod validate;
