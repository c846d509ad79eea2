//! The controller of this broker, and how its requests reach brokers: in process to this one, over the inter-broker
//! listener to others, in the versions of the cluster's inter.broker.protocol.version.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::settings::millis;
use crate::base::address::host_port;
use crate::base::ids::{BrokerEpoch, BrokerId, TopicId};
use crate::config::broker::BrokerConfig;
use crate::config::version::KafkaVersion;
use crate::controller::{BrokerChannel, ControlRequest, ControlResponse, ControllerConfig, Rebalance};
use crate::network::client::{Connection, Options};
use crate::network::threads::NetworkThreads;
use crate::network::vigil;
use crate::replica::manager::ReplicaManager;
use crate::zk::znodes::broker_ids::{BrokerInfo, LiveBroker};

/// What the controller wants to know of the configuration.
pub fn controller_config(config: &BrokerConfig, broker_id: BrokerId) -> ControllerConfig {
    let version = config.inter_broker_version();
    ControllerConfig {
        broker_id,
        delete_topic_enable: config.delete_topic_enable,
        unclean_leader_election_enable: config.unclean_leader_election_enable,
        min_insync_replicas: config.min_insync_replicas,
        inter_broker_listener: config.inter_broker_listener().to_owned(),
        rebalance: config.auto_leader_rebalance_enable.then(|| Rebalance {
            interval: Duration::from_secs(u64::try_from(config.leader_imbalance_check_interval_seconds).unwrap_or(1)),
            percentage: config.leader_imbalance_per_broker_percentage,
        }),
        use_topic_ids: version >= KafkaVersion::of("2.8-IV0"),
        feature_version: match version {
            version if version >= KafkaVersion::of("3.3-IV0") => Some(2),
            version if version >= KafkaVersion::of("2.7-IV0") => Some(1),
            _ => None,
        },
    }
}

/// The versions of the control requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Versions {
    leader_and_isr: i16,
    update_metadata: i16,
    stop_replica: i16,
}

impl Versions {
    /// What this broker takes in process.
    const LATEST: Self = Self { leader_and_isr: 7, update_metadata: 8, stop_replica: 4 };

    /// What every broker of a cluster on that version understands (`ControllerChannelManager`).
    fn of(version: KafkaVersion) -> Self {
        let table = [
            (KafkaVersion::of("3.4-IV0"), Self::LATEST),
            (KafkaVersion::of("3.2-IV0"), Self { leader_and_isr: 6, update_metadata: 7, stop_replica: 3 }),
            (KafkaVersion::of("2.8-IV1"), Self { leader_and_isr: 5, update_metadata: 7, stop_replica: 3 }),
        ];
        let found = table.into_iter().find(|(from, _)| version >= *from);
        found.map_or(Self { leader_and_isr: 4, update_metadata: 6, stop_replica: 3 }, |(_, versions)| versions)
    }
}

/// Carries the controller's requests to all brokers.
pub struct ControlChannel {
    manager: Arc<ReplicaManager>,
    versions: Versions,
    /// Where brokers are reached: the first of these listeners that they advertise.
    listeners: Vec<String>,
    timeout: Duration,
    connections: Mutex<HashMap<BrokerId, (BrokerEpoch, Arc<Connection>)>>, // one for each broker; locked for a look only
}

impl ControlChannel {
    /// A channel to `manager`, this broker's own, and to all others.
    pub fn new(config: &BrokerConfig, manager: Arc<ReplicaManager>) -> Self {
        Self {
            manager,
            versions: Versions::of(config.inter_broker_version()),
            listeners: config
                .control_plane_listener()
                .into_iter()
                .chain([config.inter_broker_listener()])
                .map(str::to_owned)
                .collect(),
            timeout: millis(i64::from(config.controller_socket_timeout_ms)),
            connections: Mutex::new(HashMap::new()),
        }
    }

    async fn send_here(&self, request: ControlRequest) -> ControlResponse {
        let versions = Versions::LATEST;
        match request {
            ControlRequest::LeaderAndIsr(request) => ControlResponse::LeaderAndIsr(
                self.manager.become_leader_or_follower(&request, versions.leader_and_isr).await,
            ),
            ControlRequest::UpdateMetadata(request) => {
                ControlResponse::UpdateMetadata(self.manager.update_metadata(&request).await)
            }
            ControlRequest::StopReplica(request) => {
                ControlResponse::StopReplica(self.manager.stop_replica(&request, versions.stop_replica).await)
            }
        }
    }

    fn address(&self, broker: &LiveBroker) -> Option<String> {
        address_of(&broker.info, &self.listeners)
    }

    /// Where another broker is watched; this one needs no watching.
    fn watched(&self, broker: &LiveBroker) -> Option<String> {
        self.address(broker).filter(|_| broker.info.id != self.manager.broker_id())
    }

    async fn connection(&self, broker: &LiveBroker) -> Result<Arc<Connection>, String> {
        let known = self.connections.lock().get(&broker.info.id).cloned();
        if let Some((epoch, connection)) = known
            && epoch == broker.epoch
            && !connection.is_closed()
        {
            return Ok(connection);
        }
        let address = self.address(broker);
        let address = address.ok_or_else(|| format!("it has no listener {}", self.listeners.join(" or ")))?;
        let options = Options { connect_timeout: self.timeout, request_timeout: self.timeout, ..Options::default() };
        let connection = Connection::connect_with(&address, options).await.map_err(|error| error.to_string())?;
        let connection = Arc::new(connection);
        self.connections.lock().insert(broker.info.id, (broker.epoch, Arc::clone(&connection)));
        Ok(connection)
    }

    async fn send_over(&self, broker: &LiveBroker, request: ControlRequest) -> Result<ControlResponse, String> {
        let connection = self.connection(broker).await?;
        let versions = self.versions;
        let answer = match fitted(request, versions) {
            ControlRequest::LeaderAndIsr(request) => {
                connection.send(&request, versions.leader_and_isr).await.map(ControlResponse::LeaderAndIsr)
            }
            ControlRequest::UpdateMetadata(request) => {
                connection.send(&request, versions.update_metadata).await.map(ControlResponse::UpdateMetadata)
            }
            ControlRequest::StopReplica(request) => {
                connection.send(&request, versions.stop_replica).await.map(ControlResponse::StopReplica)
            }
        };
        answer.map_err(|error| error.to_string())
    }
}

impl BrokerChannel for ControlChannel {
    fn send(&self, broker: &LiveBroker, request: ControlRequest) -> BoxFuture<'_, Result<ControlResponse, String>> {
        if broker.info.id == self.manager.broker_id() {
            return self.send_here(request).map(Ok).boxed();
        }
        let broker = broker.clone();
        async move { self.send_over(&broker, request).await }.boxed()
    }

    fn died(&self, broker: &LiveBroker) -> BoxFuture<'_, ()> {
        match self.watched(broker) {
            Some(address) => async move { vigil::until_dead(&address).await }.boxed(),
            None => futures::future::pending().boxed(),
        }
    }

    fn returned(&self, broker: &LiveBroker) -> BoxFuture<'_, ()> {
        match self.watched(broker) {
            Some(address) => async move { vigil::until_back(&address).await }.boxed(),
            None => futures::future::pending().boxed(),
        }
    }
}

/// `host:port` of the first of these listeners that a broker advertises.
fn address_of(broker: &BrokerInfo, listeners: &[String]) -> Option<String> {
    let endpoint = listeners.iter().find_map(|listener| broker.endpoint(listener))?;
    Some(host_port(&endpoint.host, endpoint.port))
}

/// The listener of `control.plane.listener.name` and the thread for its connections, if there is one.
///
/// # Errors
/// The system gives no threads.
pub fn thread(config: &BrokerConfig) -> anyhow::Result<Option<(String, NetworkThreads)>> {
    let Some(listener) = config.control_plane_listener() else { return Ok(None) };
    let thread = NetworkThreads::start("control-plane", 1).context("the system gives no threads")?;
    Ok(Some((listener.to_owned(), thread)))
}

/// Takes out what the versions do not know.
fn fitted(mut request: ControlRequest, versions: Versions) -> ControlRequest {
    match &mut request {
        ControlRequest::LeaderAndIsr(request) => {
            for topic in &mut request.topic_states {
                if versions.leader_and_isr < 5 {
                    topic.topic_id = TopicId::nil();
                }
                if versions.leader_and_isr < 6 {
                    topic.partition_states.iter_mut().for_each(|state| state.leader_recovery_state = 0);
                }
            }
        }
        ControlRequest::UpdateMetadata(request) if versions.update_metadata < 7 => {
            request.topic_states.iter_mut().for_each(|topic| topic.topic_id = TopicId::nil());
        }
        ControlRequest::UpdateMetadata(_) | ControlRequest::StopReplica(_) => {}
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controllers_own_listener_goes_first_where_it_is_advertised() {
        use crate::zk::znodes::broker_ids::Endpoint;
        let control = Endpoint { listener: "CONTROL".into(), ..Endpoint::plaintext("::1", 2) };
        let with = BrokerInfo::new(BrokerId(1), vec![Endpoint::plaintext("h", 1), control], 0);
        let without = BrokerInfo::new(BrokerId(2), vec![Endpoint::plaintext("h", 1)], 0);
        let listeners = ["CONTROL".to_owned(), "PLAINTEXT".to_owned()];
        assert_eq!(address_of(&with, &listeners).as_deref(), Some("[::1]:2"));
        assert_eq!(address_of(&without, &listeners).as_deref(), Some("h:1"));
        assert_eq!(address_of(&without, &listeners[..1]), None);
    }

    #[test]
    fn versions_follow_the_clusters_version() {
        let of = |text| {
            let versions = Versions::of(KafkaVersion::parse(text).expect("a version"));
            (versions.leader_and_isr, versions.update_metadata, versions.stop_replica)
        };
        assert_eq!(of("2.7"), (4, 6, 3));
        assert_eq!(of("2.8"), (5, 7, 3));
        assert_eq!(of("3.2"), (6, 7, 3));
        assert_eq!(of("3.9"), (7, 8, 4));
    }
}
