//! What the replica room needs from outside to follow leaders and to change ISRs: threads of its own, ways to other
//! brokers and to the controller, and who is registered in which life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::controller_channel::ControllerChannel;
use super::parts::positive;
use super::settings::millis;
use crate::base::ids::{BrokerEpoch, BrokerId};
use crate::config::broker::BrokerConfig;
use crate::replica::alter_partition::{AlterPartitionSender, BuildRequest};
use crate::replica::broker_epochs::BrokerEpochs;
use crate::replica::fetcher::leader::NetworkConnector;
use crate::replica::manager::ReplicaManager;
use crate::zk::backend::WatchSink;
use crate::zk::client::{SessionState, ZkClient};
use crate::zk::error::ZkError;
use crate::zk::znodes::broker_ids;

/// How long one ISR change is tried before what came meanwhile is sent along.
const ISR_PATIENCE: Duration = Duration::from_secs(10);
/// Wait before registrations that could not be read are read again.
const REREAD_BACKOFF: Duration = Duration::from_millis(500);

/// The threads of the fetchers: an append may wait for the disk, and then holds up neither ZooKeeper nor connections.
pub struct ReplicationThreads(Option<Runtime>);

impl ReplicationThreads {
    /// One thread for each of `num.replica.fetchers`, and one more.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(config: &BrokerConfig) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(positive(config.num_replica_fetchers).max(1) + 1)
            .thread_name("replication")
            .enable_all()
            .build()
            .context("the system gives no threads")?;
        Ok(Self(Some(runtime)))
    }

    /// What runs on them.
    pub fn handle(&self) -> Handle {
        // There until it is dropped.
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for ReplicationThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets `manager` follow leaders over the inter-broker listener.
pub fn start_fetchers(config: &BrokerConfig, manager: &Arc<ReplicaManager>, threads: &ReplicationThreads) {
    let connector = NetworkConnector::new(
        Arc::clone(manager.metadata()),
        config.inter_broker_listener().to_owned(),
        manager.broker_id(),
        millis(i64::from(config.replica_socket_timeout_ms)),
    );
    manager.start_fetchers(Arc::new(connector), threads.handle());
}

/// ISR changes by way of the controller channel.
pub struct IsrSender(pub Arc<ControllerChannel>);

impl AlterPartitionSender for IsrSender {
    fn alter_partition<'a>(
        &'a self,
        max_version: i16,
        build: BuildRequest<'a>,
    ) -> BoxFuture<'a, Result<(i16, AlterPartitionResponse), String>> {
        async move {
            let sent = self.0.send::<AlterPartitionRequest>(max_version, ISR_PATIENCE, build).await;
            sent.map(|(response, version)| (version, response)).map_err(|error| error.to_string())
        }
        .boxed()
    }
}

/// Extends the broker's lease for as long as its registration is seen to hold, for ever.
pub async fn keep_lease(zk: ZkClient, manager: Arc<ReplicaManager>) {
    let path = broker_ids::path(manager.broker_id());
    loop {
        let timeout = zk.session_timeout().unwrap_or(REREAD_BACKOFF);
        let begun_ms = manager.clock().monotonic_ms();
        // The leader of the ensemble is asked: a server that is cut off from it would still answer reads.
        let seen = async {
            zk.sync(&path).await?;
            zk.exists(&path).await
        };
        if let Ok(Ok(Some(stat))) = tokio::time::timeout(timeout / 3, seen).await
            && BrokerEpoch(stat.czxid) == manager.broker_epoch()
        {
            // ZooKeeper ends the session no sooner than its time-out after this. A third of it is for clocks that differ.
            let safe_ms = i64::try_from((timeout * 2 / 3).as_millis()).unwrap_or(i64::MAX);
            manager.lease().extend(begun_ms.saturating_add(safe_ms));
        }
        tokio::time::sleep(timeout / 6).await;
    }
}

/// Keeps `epochs` as the registrations in ZooKeeper are, for ever.
pub async fn watch_broker_epochs(zk: ZkClient, epochs: Arc<BrokerEpochs>) {
    let changed = Arc::new(Notify::new());
    let sink: WatchSink = {
        let changed = Arc::clone(&changed);
        Arc::new(move |_| changed.notify_one())
    };
    let mut state = zk.state();
    loop {
        match read_epochs(&zk, &sink).await {
            Ok(read) => {
                debug!("registered brokers and their epochs: {read:?}");
                epochs.set(read);
            }
            Err(error) => {
                warn!("the brokers' epochs could not be read: {error}");
                tokio::time::sleep(REREAD_BACKOFF).await;
                continue;
            }
        }
        // A watch ends with its session.
        let is_open = |state: &SessionState| matches!(state, SessionState::Open { .. });
        let ended = tokio::select! {
            biased;
            () = changed.notified() => false,
            _ = state.wait_for(|state| !is_open(state)) => true,
        };
        if ended && state.wait_for(is_open).await.is_err() {
            return;
        }
    }
}

async fn read_epochs(zk: &ZkClient, sink: &WatchSink) -> Result<BTreeMap<BrokerId, BrokerEpoch>, ZkError> {
    let names = zk.children_and_watch(broker_ids::PATH, sink).await?;
    let ids: Vec<BrokerId> = names.iter().filter_map(|name| name.parse().ok()).map(BrokerId).collect();
    let paths: Vec<String> = ids.iter().map(|id| broker_ids::path(*id)).collect();
    let nodes = zk.get_many(&paths).await?;
    let found = ids.into_iter().zip(nodes).filter_map(|(id, node)| Some((id, BrokerEpoch(node?.stat.czxid))));
    Ok(found.collect())
}
