//! The broker's place in the cluster: its registration, the cluster's id, generated broker ids.
//!
//! A registration lasts as long as a ZooKeeper session. [`Registration::keep`] registers anew in each new session and
//! tells the new broker epoch; the controller stands for election when it hears of it. While ZooKeeper is away the
//! broker keeps its last epoch and serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::backend::{CreateMode, Node, Op, WatchSink};
use super::client::{SessionState, ZkClient};
use super::error::ZkError;
use super::session_file::SessionFile;
use super::znodes::broker_ids::{self, BrokerInfo, Endpoint};
use super::znodes::{PERSISTENT_PATHS, cluster, controller};
use crate::base::clock::Clock;
use crate::base::ids::{BrokerEpoch, BrokerId};
use crate::base::watch;

/// Wait between attempts to register anew after an expiry.
const REGISTER_BACKOFF: Duration = Duration::from_secs(1);
/// How many sessions may end while a broker that starts registers.
const FIRST_ATTEMPTS: usize = 10;

/// Why a broker could not register.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Another live broker has the id.
    #[error(
        "broker id {id} is registered already by another live broker ({other}), in the ZooKeeper session {owner:#x}, \
         which did not end within {waited_ms} ms; is the same broker.id configured twice?"
    )]
    IdInUse {
        /// The id.
        id: BrokerId,
        /// Where the other broker listens.
        other: String,
        /// Its session.
        owner: i64,
        /// How long was waited for that session to end.
        waited_ms: u128,
    },
    /// ZooKeeper failed.
    #[error("cannot register in ZooKeeper: {0}")]
    ZooKeeper(#[from] ZkError),
    /// The session could not be noted in the data folder.
    #[error("cannot write the session file in the data folder: {0}")]
    SessionFile(#[from] std::io::Error),
}

/// Creates the persistent nodes that Kafka creates at start.
pub async fn create_persistent_paths(zk: &ZkClient) -> Result<(), ZkError> {
    let made = futures::future::join_all(PERSISTENT_PATHS.iter().map(|path| zk.ensure_path(path))).await;
    made.into_iter().collect()
}

/// The cluster's id; the first broker of a cluster makes one up.
pub async fn get_or_create_cluster_id(zk: &ZkClient) -> Result<String, ZkError> {
    if let Some(node) = zk.find(cluster::ID_PATH).await? {
        return cluster::decode_id(&node.data);
    }
    let fresh = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
    match zk.create_recursive(cluster::ID_PATH, &cluster::encode_id(&fresh)).await {
        Ok(()) => Ok(fresh),
        Err(ZkError::NodeExists) => cluster::decode_id(&zk.get(cluster::ID_PATH).await?.data),
        Err(error) => Err(error),
    }
}

/// A broker id above `reserved.broker.max.id` that nobody had before (`broker.id.generation.enable`).
pub async fn generate_broker_id(zk: &ZkClient, reserved_max: i32) -> Result<BrokerId, ZkError> {
    zk.ensure_path(broker_ids::SEQID_PATH).await?;
    let stat = zk.set(broker_ids::SEQID_PATH, b"", None).await?;
    Ok(BrokerId(reserved_max.saturating_add(stat.version)))
}

/// Registers this broker, and registers it anew after each expiry.
pub struct Registration {
    zk: ZkClient,
    info: Mutex<BrokerInfo>, // replaced when advertised listeners change; held for a clone only
    file: Mutex<Option<SessionFile>>, // read and written around registering only
    clock: Arc<dyn Clock>,
    epoch: watch::Sender<Option<BrokerEpoch>>,
    generation: AtomicU64,                   // the session generation it last registered in
    first_epoch: Mutex<Option<BrokerEpoch>>, // of the first registration of this process
}

impl Registration {
    /// `file` is that of the first usable data folder, whose lock the caller holds; without one, what a killed
    /// predecessor left is waited out.
    pub fn new(zk: ZkClient, info: BrokerInfo, file: Option<SessionFile>, clock: Arc<dyn Clock>) -> Self {
        let (epoch, _) = watch::channel(None);
        let (info, file, generation, first_epoch) =
            (Mutex::new(info), Mutex::new(file), AtomicU64::new(0), Mutex::new(None));
        Self { zk, info, file, clock, epoch, generation, first_epoch }
    }

    /// The epoch of this life of the broker, `None` before it registered; changes with each new session.
    pub fn epoch(&self) -> watch::Receiver<Option<BrokerEpoch>> {
        self.epoch.subscribe()
    }

    /// What is registered.
    pub fn info(&self) -> BrokerInfo {
        self.info.lock().clone()
    }

    /// Advertises other addresses from now on, in this session and those to come (`KafkaController.updateBrokerInfo`).
    ///
    /// # Errors
    /// ZooKeeper's; then they are advertised when the broker registers anew.
    pub async fn advertise(&self, endpoints: Vec<Endpoint>) -> Result<(), ZkError> {
        let info = {
            let mut info = self.info.lock();
            info.endpoints = endpoints;
            info.clone()
        };
        match self.zk.set(&broker_ids::path(info.id), &info.encode(), None).await {
            // Between two sessions: the next registration tells.
            Ok(_) | Err(ZkError::NoNode) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Registers when the broker starts. A session that ends meanwhile, as when ZooKeeper was away, does not keep it from
    /// starting: it registers in the next one.
    pub async fn register_first(&self) -> Result<BrokerEpoch, RegisterError> {
        let mut state = self.zk.state();
        for _ in 0..FIRST_ATTEMPTS {
            let tried = match *state.borrow() {
                SessionState::Open { generation, .. } | SessionState::Expired { generation } => generation,
                SessionState::Closed => return Err(ZkError::Closed.into()),
            };
            match self.register().await {
                Err(RegisterError::ZooKeeper(ZkError::SessionExpired)) => {
                    warn!("the session ended while registering; trying again in the next one");
                }
                registered => return registered,
            }
            state.wait_for(|state| is_after(state, tried)).await.map_err(|_| ZkError::Closed)?;
        }
        Err(ZkError::SessionExpired.into())
    }

    /// Registers in the open session. Takes the place of a killed predecessor on the same data folder at once; waits
    /// out any other session that holds the id.
    pub async fn register(&self) -> Result<BrokerEpoch, RegisterError> {
        let (session, generation) = match *self.zk.state().borrow() {
            SessionState::Open { session, generation } => (session, generation),
            SessionState::Expired { .. } => return Err(ZkError::SessionExpired.into()),
            SessionState::Closed => return Err(ZkError::Closed.into()),
        };
        self.note_session(session)?;
        let deadline = Instant::now() + self.expiry_wait()?;
        let info = {
            let mut info = self.info.lock();
            info.timestamp = self.clock.now_ms();
            info.first_epoch = *self.first_epoch.lock();
            info.clone()
        };
        self.release_predecessors_controllership(session).await?;
        let (path, data) = (broker_ids::path(info.id), info.encode());
        let epoch = loop {
            match self.zk.create(&path, &data, CreateMode::Ephemeral).await {
                Ok((_, stat)) if stat.czxid > 0 => break BrokerEpoch(stat.czxid),
                Ok(_) | Err(ZkError::NodeExists) => {}
                Err(error) => return Err(error.into()),
            }
            let Some(existing) = self.zk.find(&path).await? else { continue };
            let owner = existing.stat.ephemeral_owner;
            if owner == session {
                break BrokerEpoch(existing.stat.czxid);
            }
            if self.was_ours(owner) {
                info!("taking over {path} from the session {owner:#x} of this broker's earlier life");
                self.replace(&path, &data, &existing).await?;
                continue;
            }
            tokio::select! {
                biased;
                // What was watched in it will not be told any more.
                _ = self.session_is_over(generation) => return Err(ZkError::SessionExpired.into()),
                waited = self.await_end(&info, &path, &existing, deadline) => waited?,
            }
        };
        info!("registered broker {} at {path}, broker epoch {epoch}", info.id);
        self.generation.store(generation, Ordering::Relaxed);
        self.first_epoch.lock().get_or_insert(epoch);
        self.epoch.send_replace(Some(epoch));
        Ok(epoch)
    }

    /// Registers anew in every session after the one it registered in, until the client is closed.
    pub async fn keep(self: Arc<Self>) {
        let mut state = self.zk.state();
        let mut given_up = 0;
        loop {
            let seen = self.generation.load(Ordering::Relaxed).max(given_up);
            let generation = match state.wait_for(|state| is_after(state, seen)).await {
                Ok(SessionState::Open { generation, .. }) => generation,
                _ => return,
            };
            match self.register().await {
                Ok(_) => {}
                Err(RegisterError::ZooKeeper(error)) if error.ends_session() => {
                    warn!("the session ended while registering anew: {error}");
                    given_up = generation;
                }
                Err(error) => {
                    error!("cannot register anew, trying again: {error}");
                    tokio::time::sleep(REGISTER_BACKOFF).await;
                }
            }
        }
    }

    async fn session_is_over(&self, opened: u64) {
        let is_over = |state: &SessionState| match *state {
            SessionState::Open { generation, .. } => generation != opened,
            SessionState::Expired { .. } | SessionState::Closed => true,
        };
        let _ = self.zk.state().wait_for(is_over).await;
    }

    fn note_session(&self, session: i64) -> std::io::Result<()> {
        match self.file.lock().as_mut() {
            Some(file) => file.add(session),
            None => Ok(()),
        }
    }

    /// How long somebody else's session may take to end: its time-out, taken to be ours, and slack.
    fn expiry_wait(&self) -> Result<Duration, ZkError> {
        Ok(self.zk.session_timeout()? * 3 / 2)
    }

    fn was_ours(&self, session: i64) -> bool {
        self.file.lock().as_ref().is_some_and(|file| file.contains(session))
    }

    /// Deletes and creates the node in one step, so that no controller sees the id missing.
    async fn replace(&self, path: &str, data: &[u8], existing: &Node) -> Result<(), ZkError> {
        let ops = vec![Op::delete(path, Some(existing.stat.version)), Op::create_ephemeral(path, data)];
        match self.zk.multi(ops).await {
            Ok(Ok(_)) | Ok(Err((_, ZkError::NoNode | ZkError::BadVersion | ZkError::NodeExists))) => Ok(()),
            Ok(Err((_, error))) => Err(error),
            Err(ZkError::Unknown(why)) => {
                warn!("looking at {path} again: {why}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A killed controller's node would keep the cluster without one until its session ends. Safe, because the epoch
    /// node's version is read first and checked with the delete: a controller elected since would have raised it.
    async fn release_predecessors_controllership(&self, session: i64) -> Result<(), ZkError> {
        let Some(fence) = self.zk.exists(controller::EPOCH_PATH).await? else { return Ok(()) };
        let Some(node) = self.zk.find(controller::PATH).await? else { return Ok(()) };
        let owner = node.stat.ephemeral_owner;
        if owner == 0 || owner == session || !self.was_ours(owner) {
            return Ok(());
        }
        info!("removing {} of the session {owner:#x} of this broker's earlier life", controller::PATH);
        let ops = vec![Op::check(controller::EPOCH_PATH, fence.version), Op::delete(controller::PATH, None)];
        match self.zk.multi(ops).await {
            Ok(_) | Err(ZkError::Unknown(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until the node changes or goes, at most until the deadline.
    async fn await_end(
        &self,
        info: &BrokerInfo,
        path: &str,
        existing: &Node,
        deadline: Instant,
    ) -> Result<(), RegisterError> {
        let owner = existing.stat.ephemeral_owner;
        let gone = Arc::new(Notify::new());
        let notify = gone.clone();
        let sink: WatchSink = Arc::new(move |_| notify.notify_one());
        match self.zk.exists_and_watch(path, &sink).await? {
            Some(stat) if stat.ephemeral_owner == owner => {}
            _ => return Ok(()),
        }
        warn!("{path} is held by another session ({owner:#x}); waiting for that session to end");
        if tokio::time::timeout_at(deadline, gone.notified()).await.is_ok() {
            return Ok(());
        }
        let other = BrokerInfo::decode(info.id, &existing.data).map_or("unreadable".to_owned(), |other| {
            other.endpoints.iter().map(|e| format!("{}:{}", e.host, e.port)).collect::<Vec<_>>().join(", ")
        });
        let waited_ms = self.expiry_wait()?.as_millis();
        Err(RegisterError::IdInUse { id: info.id, other, owner, waited_ms })
    }
}

/// Whether a session after that of generation `seen` is open, or none will be.
fn is_after(state: &SessionState, seen: u64) -> bool {
    match *state {
        SessionState::Open { generation, .. } => generation > seen,
        SessionState::Expired { .. } => false,
        SessionState::Closed => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use crate::zk::memory::MemoryZk;

    struct Bench {
        model: MemoryZk,
        folder: tempfile::TempDir,
    }

    impl Bench {
        async fn new() -> Self {
            let bench = Self { model: MemoryZk::new(), folder: tempfile::tempdir().unwrap() };
            create_persistent_paths(&bench.client().await).await.unwrap();
            bench
        }

        async fn client(&self) -> ZkClient {
            ZkClient::connect(Arc::new(self.model.clone()), Duration::from_secs(1)).await.unwrap()
        }

        async fn registration(&self, with_file: bool) -> (ZkClient, Arc<Registration>) {
            let zk = self.client().await;
            let info = BrokerInfo::new(BrokerId(3), vec![Endpoint::plaintext("h", 1)], 0);
            let file = with_file.then(|| SessionFile::open(self.folder.path()));
            (zk.clone(), Arc::new(Registration::new(zk, info, file, Arc::new(ManualClock::new(9)))))
        }
    }

    #[tokio::test]
    async fn a_killed_predecessor_is_replaced_at_once() {
        let bench = Bench::new().await;
        let (zk, first) = bench.registration(true).await;
        let before = first.register().await.unwrap();
        zk.create(controller::EPOCH_PATH, b"1", CreateMode::Persistent).await.unwrap();
        zk.create(controller::PATH, b"{}", CreateMode::Ephemeral).await.unwrap();
        // The first process is dead, but its session lives on.
        let (zk, second) = bench.registration(true).await;
        let start = Instant::now();
        let after = second.register().await.unwrap();
        assert!(after > before);
        assert!(start.elapsed() < Duration::from_millis(100));
        assert_eq!(zk.find(controller::PATH).await.unwrap(), None);
        let node = zk.get(&broker_ids::path(BrokerId(3))).await.unwrap();
        assert_eq!(node.stat.ephemeral_owner, zk.session_id().unwrap());
    }

    #[tokio::test]
    async fn another_live_broker_is_never_pushed_out() {
        let bench = Bench::new().await;
        let (zk, first) = bench.registration(false).await;
        first.register().await.unwrap();
        let (_, second) = bench.registration(true).await;
        let refused = second.register().await.unwrap_err();
        assert!(matches!(refused, RegisterError::IdInUse { .. }), "{refused}");
        assert!(refused.to_string().contains("h:1"), "{refused}");
        let node = zk.get(&broker_ids::path(BrokerId(3))).await.unwrap();
        assert_eq!(node.stat.ephemeral_owner, zk.session_id().unwrap());
    }

    #[tokio::test]
    async fn a_foreign_session_that_ends_frees_the_id() {
        let bench = Bench::new().await;
        let (zk, first) = bench.registration(false).await;
        first.register().await.unwrap();
        let (_, second) = bench.registration(true).await;
        let registering = tokio::spawn(async move { second.register().await });
        tokio::task::yield_now().await;
        bench.model.expire(zk.session_id().unwrap());
        registering.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_session_that_ends_while_a_broker_registers_costs_no_start() {
        let bench = Bench::new().await;
        let (first_zk, first) = bench.registration(false).await;
        first.register().await.unwrap();
        let (zk, second) = bench.registration(true).await;
        let registering = tokio::spawn(async move { second.register_first().await });
        tokio::task::yield_now().await;
        let lost = zk.session_id().unwrap();
        bench.model.expire(lost);
        zk.state().wait_for(|state| matches!(state, SessionState::Open { generation: 2, .. })).await.unwrap();
        bench.model.expire(first_zk.session_id().unwrap());
        registering.await.unwrap().unwrap();
        let node = zk.get(&broker_ids::path(BrokerId(3))).await.unwrap();
        assert_eq!(node.stat.ephemeral_owner, zk.session_id().unwrap());
        assert_ne!(node.stat.ephemeral_owner, lost);
    }

    #[tokio::test]
    async fn expiry_leads_to_a_new_registration_with_a_new_epoch() {
        let bench = Bench::new().await;
        let (zk, registration) = bench.registration(true).await;
        let first = registration.register().await.unwrap();
        tokio::spawn(registration.clone().keep());
        let mut epoch = registration.epoch();
        bench.model.expire(zk.session_id().unwrap());
        let second = epoch.wait_for(|epoch| epoch.is_some_and(|epoch| epoch > first)).await.unwrap().unwrap();
        assert_eq!(zk.get(&broker_ids::path(BrokerId(3))).await.unwrap().stat.czxid, second.get());
    }

    #[tokio::test]
    async fn what_is_advertised_changes_without_a_new_life() {
        let bench = Bench::new().await;
        let (zk, registration) = bench.registration(true).await;
        let epoch = registration.register().await.unwrap();
        registration.advertise(vec![Endpoint::plaintext("elsewhere", 2)]).await.unwrap();
        let node = zk.get(&broker_ids::path(BrokerId(3))).await.unwrap();
        let info = BrokerInfo::decode(BrokerId(3), &node.data).unwrap();
        assert_eq!((info.endpoints, node.stat.czxid), (vec![Endpoint::plaintext("elsewhere", 2)], epoch.get()));
        bench.model.expire(zk.session_id().unwrap());
        registration.advertise(vec![Endpoint::plaintext("again", 3)]).await.ok();
        tokio::spawn(registration.clone().keep());
        registration.epoch().wait_for(|now| now.is_some_and(|now| now > epoch)).await.unwrap();
        let node = zk.get(&broker_ids::path(BrokerId(3))).await.unwrap();
        assert_eq!(BrokerInfo::decode(BrokerId(3), &node.data).unwrap().endpoints[0].host, "again");
    }

    #[tokio::test]
    async fn the_cluster_id_is_made_once_and_broker_ids_count_up() {
        let bench = Bench::new().await;
        let zk = bench.client().await;
        let id = get_or_create_cluster_id(&zk).await.unwrap();
        assert_eq!(id.len(), 22);
        assert_eq!(get_or_create_cluster_id(&bench.client().await).await.unwrap(), id);
        assert_eq!(generate_broker_id(&zk, 1000).await.unwrap(), BrokerId(1001));
        assert_eq!(generate_broker_id(&zk, 1000).await.unwrap(), BrokerId(1002));
    }
}
