//! Sockets: listening, one task for each connection, sending files, and the client that brokers and tools use. Knows
//! frames and payloads, not what is in them.
//!
//! A [`listener::SocketServer`] accepts on one or more endpoints and deals the sockets out to the [`threads`], each of
//! which runs its connections as tasks of one single-threaded runtime. Handlers run inside the connection's task, so
//! that a request that need not wait never changes its thread.

pub mod buffers;
pub mod client;

pub mod connection;
pub mod lanes;
pub mod limits;
pub mod listener;
pub mod output;
pub mod sendfile;
pub mod threads;
pub mod vigil;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::payload::Payload;

/// What is known of a client's connection; shared by all its requests.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Kafka's id for the connection: local address, remote address, a counter.
    pub id: Arc<str>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener it came in by, for example `PLAINTEXT`.
    pub listener: Arc<str>,
}

/// What to do after a request.
#[derive(Debug)]
pub enum Outcome {
    /// Send this.
    Reply(Payload),
    /// Send nothing and go on with the next request (acks=0).
    NoReply,
    /// Close the connection; the text says why, for the log.
    Close(String),
}

/// The one way from a connection up into the broker.
pub trait Dispatch: Send + Sync + 'static {
    /// Handles one request: `frame` is all of it behind the four bytes of its length.
    ///
    /// `frame` may be a slice of a read buffer of a megabyte or more, which cannot be used again as long as any slice
    /// of it lives. So let go of it when the request is answered, and copy what has to outlive the request.
    fn dispatch(
        &self,
        connection: Arc<ConnectionInfo>,
        frame: Bytes,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>>;
}
