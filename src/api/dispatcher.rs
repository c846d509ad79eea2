//! From a frame to an outcome: reads the header, finds the line of the table, runs its handler.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tracing::debug;

use super::{Call, Context, api_versions, find};
use crate::network::{ConnectionInfo, Dispatch, Outcome};
use crate::protocol::frame::{API_VERSIONS, RequestHeader};

/// Serves all keys of the table over one [`Context`].
pub struct Dispatcher {
    context: Arc<Context>,
}

impl Dispatcher {
    /// A dispatcher whose handlers use `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl Dispatch for Dispatcher {
    fn dispatch(
        &self,
        connection: Arc<ConnectionInfo>,
        frame: Bytes,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        let mut body = frame;
        let header = match RequestHeader::parse(&mut body) {
            Ok(header) => header,
            Err(error) => return ready(Outcome::Close(format!("the request's header cannot be read: {error}"))),
        };
        let Some(api) = find(header.api_key) else {
            return ready(Outcome::Close(format!("unknown API key {}", header.api_key)));
        };
        let call = Call { connection, header, body };
        if !api.serves(call.version()) {
            return ready(unsupported_version(api.name, &call));
        }
        debug!(target: "kafka.request", api = api.name, version = call.version(), client_id = call.client_id(),
            correlation_id = call.header.correlation_id, connection = %call.connection.id, "request");
        (api.handler)(&self.context, call)
    }
}

fn ready(outcome: Outcome) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
    Box::pin(std::future::ready(outcome))
}

/// ApiVersions answers a version too new with its v0, so that a newer client can find out (KIP-511); any other key's
/// unknown version ends the connection, as in Kafka.
fn unsupported_version(name: &str, call: &Call) -> Outcome {
    if call.header.api_key == API_VERSIONS {
        return api_versions::unsupported(call);
    }
    Outcome::Close(format!("version {} of {name} is not supported", call.version()))
}
