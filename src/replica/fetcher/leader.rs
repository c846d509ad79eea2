//! The way to a leader: a trait, so that the simulator can put its own network in, and the real one over a connection.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};

use crate::base::ids::BrokerId;
use crate::network::client::{Connection, Options};
use crate::replica::metadata_cache::MetadataCache;

/// An answer, or in one sentence why there is none.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, String>>;

/// One fetcher's way to its leader. One request at a time; a future that is dropped leaves the way unusable until
/// [`LeaderEndpoint::reset`].
pub trait LeaderEndpoint: Send + Sync {
    /// Fetches.
    fn fetch(&mut self, request: FetchRequest, version: i16) -> Answer<'_, FetchResponse>;
    /// Asks for offsets.
    fn list_offsets(&mut self, request: ListOffsetsRequest, version: i16) -> Answer<'_, ListOffsetsResponse>;
    /// Asks where epochs end.
    fn offsets_for_leader_epoch(
        &mut self,
        request: OffsetForLeaderEpochRequest,
        version: i16,
    ) -> Answer<'_, OffsetForLeaderEpochResponse>;
    /// Gives up what is under way: the next request goes over a new connection.
    fn reset(&mut self);
}

/// Makes ways to leaders.
pub trait LeaderConnector: Send + Sync {
    /// The way of fetcher number `fetcher` to `leader`. Connects when it is used, and again after a failure.
    fn endpoint(&self, leader: BrokerId, fetcher: usize) -> Box<dyn LeaderEndpoint>;
}

/// Connects over the network, to the addresses that the metadata cache knows.
pub struct NetworkConnector {
    metadata: Arc<MetadataCache>,
    listener: String,
    options: Options,
}

impl NetworkConnector {
    /// Connects broker `me` to the `listener`s of others; one answer may take `timeout`.
    pub fn new(metadata: Arc<MetadataCache>, listener: String, me: BrokerId, timeout: Duration) -> Self {
        let client_id = StrBytes::from_string(format!("broker-{me}-fetcher"));
        let options = Options { client_id, connect_timeout: timeout, request_timeout: timeout, ..Options::default() };
        Self { metadata, listener, options }
    }
}

impl LeaderConnector for NetworkConnector {
    fn endpoint(&self, leader: BrokerId, fetcher: usize) -> Box<dyn LeaderEndpoint> {
        let client_id = StrBytes::from_string(format!("{}-{fetcher}", self.options.client_id.as_str()));
        Box::new(NetworkLeader {
            leader,
            metadata: Arc::clone(&self.metadata),
            listener: self.listener.clone(),
            options: Options { client_id, ..self.options.clone() },
            connection: None,
        })
    }
}

struct NetworkLeader {
    leader: BrokerId,
    metadata: Arc<MetadataCache>,
    listener: String,
    options: Options,
    connection: Option<Connection>,
}

impl NetworkLeader {
    fn address(&self) -> Result<String, String> {
        let address = self.metadata.snapshot().address(self.leader, &self.listener);
        address.ok_or_else(|| format!("no address of broker {} is known", self.leader))
    }

    async fn send<R: Request>(&mut self, request: R, version: i16) -> Result<R::Response, String> {
        let connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => {
                let address = self.address()?;
                let connecting = Connection::connect_with(&address, self.options.clone());
                connecting.await.map_err(|error| error.to_string())?
            }
        };
        // Kept only if it has answered: what is dropped half-way, or fails, ends the connection.
        let response = connection.send(&request, version).await.map_err(|error| error.to_string())?;
        self.connection = Some(connection);
        Ok(response)
    }
}

impl LeaderEndpoint for NetworkLeader {
    fn fetch(&mut self, request: FetchRequest, version: i16) -> Answer<'_, FetchResponse> {
        self.send(request, version).boxed()
    }

    fn list_offsets(&mut self, request: ListOffsetsRequest, version: i16) -> Answer<'_, ListOffsetsResponse> {
        self.send(request, version).boxed()
    }

    fn offsets_for_leader_epoch(
        &mut self,
        request: OffsetForLeaderEpochRequest,
        version: i16,
    ) -> Answer<'_, OffsetForLeaderEpochResponse> {
        self.send(request, version).boxed()
    }

    fn reset(&mut self) {
        self.connection = None;
    }
}
