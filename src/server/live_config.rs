//! What a change of this broker's configuration reaches beyond logs, partitions and limits of connections: the controller,
//! the fetchers, the registration, the network threads, the cleaner (`BrokerReconfigurable` and its kin). Decides nothing: each part
//! does what the new values say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{info, warn};

use super::parts::{cleaner_options, positive};
use super::settings;
use crate::config::broker::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::log::cleaner::LogCleaner;
use crate::network::lanes::Lanes;
use crate::network::threads::NetworkThreads;
use crate::replica::manager::ReplicaManager;
use crate::zk::session::Registration;

/// How long connections of a network thread that goes may answer what they are at.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// The parts that follow. They were started with the configuration that held then.
pub struct LiveConfig {
    /// Its fetchers follow `num.replica.fetchers`.
    pub manager: Arc<ReplicaManager>,
    /// Follows its keys, `log.cleaner.enable` but at a start.
    pub cleaner: Arc<LogCleaner>,
    /// Follows `unclean.leader.election.enable`.
    pub controller: ControllerHandle,
    /// Follows `advertised.listeners`.
    pub registration: Arc<Registration>,
    /// Where the broker listens.
    pub addresses: Vec<(Arc<str>, SocketAddr)>,
    /// Follow `num.network.threads`; locked while they do.
    pub threads: Arc<Mutex<NetworkThreads>>,
    /// What deals connections out to them.
    pub lanes: Lanes,
}

impl LiveConfig {
    /// Has every part follow what is different `now`.
    pub async fn apply(&self, before: &BrokerConfig, now: &BrokerConfig) {
        self.controller.allow_unclean_leaders(now.unclean_leader_election_enable);
        if before.num_replica_fetchers != now.num_replica_fetchers {
            self.manager.resize_fetchers(now.num_replica_fetchers).await;
        }
        if before.advertised_endpoints() != now.advertised_endpoints() {
            self.advertise(now).await;
        }
        if cleaner_options(before) != cleaner_options(now) {
            let (cleaner, options) = (Arc::clone(&self.cleaner), cleaner_options(now));
            // Waits for the cleaner's threads to end.
            match tokio::task::spawn_blocking(move || cleaner.reconfigure(options)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!("the cleaner has fewer threads than it should: {error}"),
                Err(error) => warn!("the cleaner did not start anew: {error}"),
            }
        }
        if before.num_network_threads != now.num_network_threads {
            self.resize_network(positive(now.num_network_threads)).await;
        }
    }

    async fn advertise(&self, now: &BrokerConfig) {
        let info = match settings::broker_info(now, self.manager.broker_id(), &self.addresses) {
            Ok(info) => info,
            Err(error) => return warn!("the broker goes on to advertise what it did: {error:#}"),
        };
        info!("the broker advertises {:?} from now on", info.endpoints);
        if let Err(error) = self.registration.advertise(info.endpoints).await {
            warn!("ZooKeeper was not told what the broker advertises now: {error}");
        }
    }

    async fn resize_network(&self, count: usize) {
        let now = self.lanes.len();
        info!("{count} network threads instead of {now}");
        if count < now {
            let left_over = self.lanes.remove(now - count, DRAIN_PATIENCE).await;
            let threads = Arc::clone(&self.threads);
            // Waits for the threads to end.
            let ended = tokio::task::spawn_blocking(move || threads.lock().shrink(left_over)).await;
            return ended.unwrap_or_else(|error| warn!("network threads did not end in order: {error}"));
        }
        let started = self.threads.lock().grow(count);
        match started {
            Ok(started) => self.lanes.add(&started),
            Err(error) => warn!("there are no more network threads than before: {error}"),
        }
    }
}
