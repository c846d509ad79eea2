//! From this broker to the controller, whichever broker that is (`NodeToControllerChannelManager`): finds it, connects over
//! the inter-broker listener, agrees on a version, and asks again when the controller moves. To a controller in this
//! process a request goes without the network, where the controller offers that. Knows no request's meaning: each says by
//! [`ControllerRequest`] where its answer tells that the controller is none.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::{AllocateProducerIdsRequest, AlterPartitionRequest, ControlledShutdownRequest};
use kafka_protocol::protocol::Request;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::settings::millis;
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;
use crate::config::broker::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::network::client::{ApiVersions, ClientError, Connection, Options};
use crate::replica::manager::ReplicaManager;

/// How long to wait before looking for the controller again (`NodeToControllerRequestThread`: 50 ms).
const RETRY_BACKOFF: Duration = Duration::from_millis(50);
/// How often it is looked whether the controller moved while its answer is awaited.
const MOVED_CHECK: Duration = Duration::from_millis(250);

/// A request that only the controller answers.
pub trait ControllerRequest: Request + Send + Sync {
    /// The error of the whole answer.
    fn error(response: &Self::Response) -> i16;

    /// Hands the request to the controller in this process; `None` where it does not take it that way.
    fn in_process(
        _controller: &ControllerHandle,
        _request: Self,
        _version: i16,
    ) -> Option<BoxFuture<'_, Self::Response>> {
        None
    }
}

impl ControllerRequest for AlterPartitionRequest {
    fn error(response: &Self::Response) -> i16 {
        response.error_code
    }

    fn in_process(controller: &ControllerHandle, request: Self, version: i16) -> Option<BoxFuture<'_, Self::Response>> {
        Some(controller.alter_partition(request, version).boxed())
    }
}

impl ControllerRequest for ControlledShutdownRequest {
    fn error(response: &Self::Response) -> i16 {
        response.error_code
    }

    fn in_process(controller: &ControllerHandle, request: Self, _: i16) -> Option<BoxFuture<'_, Self::Response>> {
        Some(controller.controlled_shutdown(request).boxed())
    }
}

impl ControllerRequest for AllocateProducerIdsRequest {
    fn error(response: &Self::Response) -> i16 {
        response.error_code
    }

    fn in_process(controller: &ControllerHandle, request: Self, _: i16) -> Option<BoxFuture<'_, Self::Response>> {
        Some(controller.allocate_producer_ids(request).boxed())
    }
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The time is up.
    #[error("the controller did not answer in time: {0}")]
    TimedOut(String),
    /// The controller does not know the request, or no version that both know.
    #[error("the controller knows no version of the request that this broker may send")]
    Unsupported,
}

/// Where the controller is.
pub trait Finder: Send + Sync {
    /// The controller and its address; `None` while nobody is, or while its address is not known.
    fn find(&self) -> Option<(BrokerId, String)>;
    /// The controller of this process, if it is the active one.
    fn here(&self) -> Option<&ControllerHandle>;
}

/// Finds the controller by its node in ZooKeeper, and its address in what UpdateMetadata told.
struct ByMetadata {
    controller: ControllerHandle,
    manager: Arc<ReplicaManager>,
    listener: String,
}

impl Finder for ByMetadata {
    fn find(&self) -> Option<(BrokerId, String)> {
        let snapshot = self.manager.metadata().snapshot();
        let id = self.controller.controller_id().or(snapshot.controller())?;
        Some((id, snapshot.address(id, &self.listener)?))
    }

    fn here(&self) -> Option<&ControllerHandle> {
        self.controller.is_active().then_some(&self.controller)
    }
}

/// A connection to one controller.
struct Link {
    to: (BrokerId, String),
    connection: Connection,
    versions: ApiVersions,
}

/// The way to the controller. Shared by all who ask it.
pub struct ControllerChannel {
    finder: Box<dyn Finder>,
    options: Options,
    link: Mutex<Option<Arc<Link>>>, // locked for a look only
}

impl ControllerChannel {
    /// A channel of the broker of `manager`; `controller` is the one in this process.
    pub fn new(config: &BrokerConfig, manager: Arc<ReplicaManager>, controller: ControllerHandle) -> Self {
        let timeout = millis(i64::from(config.controller_socket_timeout_ms));
        let listener = config.inter_broker_listener().to_owned();
        Self::with(Box::new(ByMetadata { controller, manager, listener }), timeout)
    }

    /// A channel to whom `finder` finds; one answer may take `timeout`.
    pub fn with(finder: Box<dyn Finder>, timeout: Duration) -> Self {
        let options = Options { connect_timeout: timeout, request_timeout: timeout, ..Options::default() };
        Self { finder, options, link: Mutex::new(None) }
    }

    /// Asks the controller; `build` makes the request in the version that both sides know, `max_version` at most. Looks
    /// for the controller again while it is none, cannot be reached or does not answer, until `patience` is over.
    /// A request may therefore arrive twice.
    ///
    /// # Errors
    /// [`ChannelError`]; after a time-out nobody knows whether the request arrived.
    pub async fn send<R: ControllerRequest>(
        &self,
        max_version: i16,
        patience: Duration,
        build: impl Fn(i16) -> R,
    ) -> Result<(R::Response, i16), ChannelError> {
        let deadline = Instant::now() + patience;
        let mut why = "no controller is known".to_owned();
        loop {
            match timeout_at(deadline, self.attempt(max_version, &build)).await {
                Err(_) => return Err(ChannelError::TimedOut(why)),
                Ok(Ok(answer)) => return answer.ok_or(ChannelError::Unsupported),
                Ok(Err(error)) => {
                    debug!("the controller is asked again: {error}");
                    why = error;
                }
            }
            if Instant::now() + RETRY_BACKOFF >= deadline {
                return Err(ChannelError::TimedOut(why));
            }
            sleep(RETRY_BACKOFF).await;
        }
    }

    /// One try. `Ok(None)`: the controller cannot be asked that; an `Err` is worth another try.
    async fn attempt<R: ControllerRequest>(
        &self,
        max_version: i16,
        build: &impl Fn(i16) -> R,
    ) -> Result<Option<(R::Response, i16)>, String> {
        let here = max_version.min(R::VERSIONS.max);
        if let Some(work) = self.finder.here().and_then(|controller| R::in_process(controller, build(here), here)) {
            return answered::<R>(work.await, here).map(Some);
        }
        let link = self.link().await?;
        let Some(version) = link.versions.latest_up_to::<R>(max_version) else { return Ok(None) };
        let request = build(version);
        let response = tokio::select! {
            response = link.connection.send(&request, version) => response,
            () = self.moved(&link.to) => Err(ClientError::Closed("another broker is the controller now".into())),
        };
        let result = response.map_err(|error| error.to_string()).and_then(|response| answered::<R>(response, version));
        if result.is_err() {
            self.forget(&link);
        }
        result.map(Some)
    }

    /// The connection to who is the controller now.
    async fn link(&self) -> Result<Arc<Link>, String> {
        let to = self.finder.find().ok_or("no controller is known")?;
        let known = self.link.lock().clone();
        if let Some(link) = known.filter(|link| link.to == to && !link.connection.is_closed()) {
            return Ok(link);
        }
        let connecting = async {
            let connection = Connection::connect_with(&to.1, self.options.clone()).await?;
            let versions = connection.api_versions().await?;
            Ok((connection, versions))
        };
        let connected: Result<_, ClientError> = tokio::select! {
            connected = connecting => connected,
            () = self.moved(&to) => return Err("another broker is the controller now".to_owned()),
        };
        let (connection, versions) = connected.map_err(|error| format!("broker {} at {}: {error}", to.0, to.1))?;
        let link = Arc::new(Link { to, connection, versions });
        *self.link.lock() = Some(Arc::clone(&link));
        Ok(link)
    }

    fn forget(&self, link: &Arc<Link>) {
        let mut known = self.link.lock();
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
            *known = None;
        }
    }

    /// Resolves once the controller is somebody else: one that hangs would otherwise be waited for.
    async fn moved(&self, from: &(BrokerId, String)) {
        while self.finder.find().is_none_or(|now| now == *from) {
            sleep(MOVED_CHECK).await;
        }
    }
}

/// The answer, unless it says that who answered is not the controller.
fn answered<R: ControllerRequest>(response: R::Response, version: i16) -> Result<(R::Response, i16), String> {
    if R::error(&response) == ErrorCode::NotController.code() {
        return Err("the broker asked is not the controller".to_owned());
    }
    Ok((response, version))
}

#[cfg(test)]
mod tests;
