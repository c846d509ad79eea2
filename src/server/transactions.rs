//! What the transaction coordinator needs from outside: the way of markers to the leaders of partitions, and blocks of
//! producer ids from the controller, or from ZooKeeper where the cluster is older.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::{
    AllocateProducerIdsRequest, BrokerId as WireBroker, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use tokio::runtime::Handle;
use tracing::info;

use super::broker_links::BrokerLinks;
use super::controller_channel::ControllerChannel;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::config::broker::BrokerConfig;
use crate::config::version::KafkaVersion;
use crate::coordinator::txn::markers::{MarkerChannel, Route};
use crate::coordinator::txn::producer_ids::{BlockFuture, BlockSource, ZkBlocks};
use crate::network::client::Options;
use crate::replica::manager::ReplicaManager;
use crate::replica::metadata_cache::MetadataSnapshot;
use crate::zk::client::ZkClient;

/// From this version on brokers ask the controller for producer ids (KIP-730).
const CONTROLLER_GIVES_IDS: KafkaVersion = KafkaVersion::of("3.0-IV0");
/// From this version on WriteTxnMarkers is flexible.
const FLEXIBLE_MARKERS: KafkaVersion = KafkaVersion::of("2.8-IV0");
/// How long a producer waits for a block of ids before it is told to come again.
const BLOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Markers over the inter-broker listener, to this broker too.
pub struct MarkerConnections {
    manager: Arc<ReplicaManager>,
    version: i16,
    links: BrokerLinks,
}

impl MarkerConnections {
    /// Connections of the broker of `manager`, which will live on `runtime`.
    pub fn new(config: &BrokerConfig, manager: Arc<ReplicaManager>, runtime: Handle) -> Self {
        Self {
            version: i16::from(config.inter_broker_version() >= FLEXIBLE_MARKERS),
            links: BrokerLinks::new(config, Arc::clone(&manager), runtime, Options::default().client_id),
            manager,
        }
    }
}

/// Where the markers of a partition go, as far as this broker knows the cluster.
pub fn route(cluster: &MetadataSnapshot, listener: &str, partition: &TopicPartition) -> Route {
    match cluster.partition(&partition.topic, partition.partition) {
        // Before the first UpdateMetadata nothing is known of any partition.
        None if cluster.brokers().next().is_none() => Route::NoLeader,
        None => Route::NoPartition,
        Some(known) if cluster.endpoint(known.leader, listener).is_some() => Route::Leader(known.leader),
        Some(_) => Route::NoLeader,
    }
}

impl MarkerChannel for MarkerConnections {
    fn route(&self, partition: &TopicPartition) -> Route {
        route(&self.manager.metadata().snapshot(), self.links.listener(), partition)
    }

    fn send(
        &self,
        broker: BrokerId,
        request: WriteTxnMarkersRequest,
    ) -> BoxFuture<'_, Result<WriteTxnMarkersResponse, String>> {
        async move {
            let link = self.links.link(broker).await?;
            link.connection.send(&request, self.version).await.map_err(|error| error.to_string())
        }
        .boxed()
    }
}

/// Where producer ids come from: the coordinator is there before the way to the controller is.
#[derive(Default)]
pub struct LateBlocks(OnceLock<Box<dyn BlockSource>>);

impl LateBlocks {
    /// Takes ids from the controller by way of `channel`, or from ZooKeeper where the cluster's version is older than that.
    pub fn open(
        &self,
        config: &BrokerConfig,
        zk: ZkClient,
        manager: Arc<ReplicaManager>,
        channel: Arc<ControllerChannel>,
    ) {
        let source: Box<dyn BlockSource> = if config.inter_broker_version() >= CONTROLLER_GIVES_IDS {
            Box::new(ControllerBlocks { channel, manager })
        } else {
            Box::new(ZkBlocks::new(zk, manager.broker_id()))
        };
        let _ = self.0.set(source);
    }
}

impl BlockSource for LateBlocks {
    fn next_block(&self) -> BlockFuture<'_> {
        match self.0.get() {
            Some(source) => source.next_block(),
            None => Box::pin(std::future::ready(Err("the broker is starting".to_owned()))),
        }
    }
}

/// Blocks from the controller.
struct ControllerBlocks {
    channel: Arc<ControllerChannel>,
    manager: Arc<ReplicaManager>,
}

impl BlockSource for ControllerBlocks {
    fn next_block(&self) -> BlockFuture<'_> {
        Box::pin(async {
            let build = |_| {
                AllocateProducerIdsRequest::default()
                    .with_broker_id(WireBroker(self.manager.broker_id().get()))
                    .with_broker_epoch(self.manager.broker_epoch().get())
            };
            let sent = self.channel.send(i16::MAX, BLOCK_PATIENCE, build).await;
            let (response, _) = sent.map_err(|error| error.to_string())?;
            let error = ErrorCode::from_code(response.error_code);
            if !error.is_none() {
                return Err(format!("the controller gives no producer ids: {error}"));
            }
            let start = response.producer_id_start.0;
            let end = start.saturating_add(i64::from(response.producer_id_len));
            info!("the controller gave the producer ids {start} to {}", end - 1);
            Ok(start..end)
        })
    }
}
