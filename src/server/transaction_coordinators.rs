//! From this broker to those that coordinate transactions. Knows nothing of what is asked.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::AddPartitionsToTxnRequest;
use kafka_protocol::protocol::StrBytes;
use tokio::runtime::Handle;

use super::broker_links::BrokerLinks;
use crate::base::ids::BrokerId;
use crate::config::broker::BrokerConfig;
use crate::coordinator::txn::verifier::{Answer, FIRST_TO_VERIFY, TransactionCoordinators};
use crate::replica::manager::ReplicaManager;

/// Connections to coordinators.
pub struct NetworkCoordinators(BrokerLinks);

impl NetworkCoordinators {
    /// None yet; connections will live on `runtime`.
    pub fn new(config: &BrokerConfig, manager: Arc<ReplicaManager>, runtime: Handle) -> Self {
        let client_id = StrBytes::from_string(format!("AddPartitionsToTxnSenderThread-{}", manager.broker_id()));
        Self(BrokerLinks::new(config, manager, runtime, client_id))
    }

    async fn try_ask(&self, broker: BrokerId, request: &AddPartitionsToTxnRequest) -> Result<Answer, String> {
        let link = self.0.link(broker).await?;
        let versions = link.versions().await.map_err(|error| error.to_string())?;
        let version = versions.latest::<AddPartitionsToTxnRequest>().filter(|latest| *latest >= FIRST_TO_VERIFY);
        let Some(version) = version else { return Ok(Answer::Unsupported) };
        let answer = link.connection.send(request, version).await;
        answer.map(Answer::Answered).map_err(|error| error.to_string())
    }
}

impl TransactionCoordinators for NetworkCoordinators {
    fn ask(&self, broker: BrokerId, request: AddPartitionsToTxnRequest) -> BoxFuture<'_, Answer> {
        async move { self.try_ask(broker, &request).await.unwrap_or_else(Answer::Lost) }.boxed()
    }
}
