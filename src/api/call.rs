//! One request on its way through the table.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};

use crate::network::{ConnectionInfo, Outcome};
use crate::protocol::frame::{self, RequestHeader};

/// A request whose header has been read: who sent it, which version it is, and the body's bytes.
#[derive(Debug)]
pub struct Call {
    /// The connection it came in by.
    pub connection: Arc<ConnectionInfo>,
    /// Key, version, correlation id, client id.
    pub header: RequestHeader,
    /// The bytes behind the header.
    pub body: Bytes,
}

impl Call {
    /// The request's version.
    pub fn version(&self) -> i16 {
        self.header.api_version
    }

    /// The client's id, or an empty string.
    pub fn client_id(&self) -> &str {
        self.header.client_id_str()
    }

    /// Decodes the body behind the shape guard. An error closes the connection, as in Kafka (`InvalidRequestException`
    /// out of `RequestContext.parseRequest`).
    pub fn decode<R: Request>(&mut self) -> Result<R, Outcome> {
        let body = std::mem::take(&mut self.body);
        frame::decode::<R>(body, self.version()).map_err(|error| Outcome::Close(error.to_string()))
    }

    /// Encodes the answer in the request's version.
    pub fn reply<R: Encodable + HeaderVersion>(&self, response: &R) -> Outcome {
        self.reply_as(response, self.version())
    }

    /// Encodes the answer in another version than the request's: ApiVersions answers a version too new with its v0.
    pub fn reply_as<R: Encodable + HeaderVersion>(&self, response: &R, version: i16) -> Outcome {
        match frame::encode_response(self.header.correlation_id, version, response) {
            Ok(bytes) => Outcome::Reply(bytes.into()),
            Err(error) => Outcome::Close(format!("the answer could not be encoded: {error}")),
        }
    }
}
