//! A broker's process: the real log manager, replica manager, controller and request handlers, put together as
//! `server.rs` does, over the simulated network and ZooKeeper.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barnabas::api::{Context, Dispatcher};
use barnabas::base::clock::Clock;
use barnabas::base::ids::{BrokerEpoch, BrokerId};
use barnabas::base::watch;
use barnabas::config::broker::BrokerConfig;
use barnabas::controller::{self, ControllerConfig, ControllerHandle};
use barnabas::coordinator::group::config::GroupConfig;
use barnabas::coordinator::group::coordinator::GroupCoordinator;
use barnabas::coordinator::internal_log::InternalLog;
use barnabas::coordinator::replica_log::ReplicaLog;
use barnabas::coordinator::txn::config::TxnConfig;
use barnabas::coordinator::txn::coordinator::{Surroundings, TxnCoordinator};
use barnabas::coordinator::txn::producer_ids::{ProducerIds, ZkBlocks};
use barnabas::coordinator::txn::verifier::TxnVerifier;
use barnabas::log::cleaner::{Cleaner, Share, Throttle, clean_filthiest};
use barnabas::log::manager::{LogManager, ManagerOptions};
use barnabas::network::{ConnectionInfo, Dispatch, Outcome};
use barnabas::protocol::frame::{self, RequestHeader};
use barnabas::protocol::payload::{Part, Payload};
use barnabas::replica::fetch_session::FetchSessions;
use barnabas::replica::manager::ReplicaManager;
use barnabas::replica::topic_configs::default_log_config;
use barnabas::server::replication::{keep_lease, watch_broker_epochs};
use barnabas::zk::ZkClient;
use barnabas::zk::session::{Registration, create_persistent_paths, get_or_create_cluster_id};
use barnabas::zk::session_file::SessionFile;
use barnabas::zk::znodes::broker_ids::{self, BrokerInfo, Endpoint};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{BrokerId as WireBroker, ControlledShutdownRequest, LeaderAndIsrRequest};
use kafka_protocol::protocol::Request;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::channels::{LISTENER, SimChannel, SimCoordinators, SimIsrChanges, SimLeaders, SimMarkers, SimUpward};
use crate::compaction::{CLEANINGS, Configs, DEDUPE_BYTES};
use crate::kernel::{Node, Sim};
use crate::network::{Accepted, Connection};
use crate::old::{self, Heard};
use crate::zookeeper::SESSION_TIMEOUT;

/// How often flushes are looked for and checkpoints written, in ms.
const CHORES: u64 = 250;
const CONTROLLED_SHUTDOWN: i16 = 3;

/// What the checker sees of a running broker.
pub struct View {
    pub manager: Arc<ReplicaManager>,
    pub controller: ControllerHandle,
    pub groups: Arc<GroupCoordinator>,
    pub transactions: Arc<TxnCoordinator>,
    zk: ZkClient,
    sim: Sim,
    /// Whether it has ceased to serve, in good order.
    pub stopped: Arc<AtomicBool>,
}

impl View {
    /// Stops the broker in order, as `server.rs` does: hands its leaderships on (`server::controlled_shutdown`), then ends.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + 'static {
        let (manager, controller, zk) = (Arc::clone(&self.manager), self.controller.clone(), self.zk.clone());
        let (groups, transactions) = (Arc::clone(&self.groups), Arc::clone(&self.transactions));
        let (sim, stopped) = (self.sim.clone(), Arc::clone(&self.stopped));
        async move {
            if !sim.core().old.stops_without_asking {
                hand_on(&sim, &manager, &controller).await;
            }
            stopped.store(true, Ordering::Relaxed);
            controller.shut_down();
            groups.stop();
            transactions.stop();
            manager.stop_replication();
            manager.stop_waiting();
            manager.log_manager().shutdown(manager.broker_epoch());
            zk.close().await;
        }
    }
}

/// How often a broker that stops asks for its leaderships to be moved, and how long it waits in between.
const HAND_ON: (usize, Duration) = (3, Duration::from_millis(50));

/// ControlledShutdown.
async fn hand_on(sim: &Sim, manager: &ReplicaManager, controller: &ControllerHandle) {
    let me = manager.broker_id().get();
    for _ in 0..HAND_ON.0 {
        let request = ControlledShutdownRequest::default()
            .with_broker_id(WireBroker(me))
            .with_broker_epoch(manager.broker_epoch().get());
        let answer = match controller.controller_id() {
            _ if controller.is_active() => Ok(controller.controlled_shutdown(request).await),
            Some(to) => Connection::open(sim, me, to.get()).ask(CONTROLLED_SHUTDOWN, &request).await,
            None => Err("nobody is the controller".to_owned()),
        };
        sim.note(&format!("{me} asks to stop: {answer:?}"));
        if answer.is_ok_and(|answer| answer.error_code == 0 && answer.remaining_partitions.is_empty()) {
            return;
        }
        tokio::time::sleep(HAND_ON.1).await;
    }
}

/// What a broker is started with.
#[derive(Clone)]
pub struct Setup {
    pub sim: Sim,
    pub node: Node,
    pub dir: PathBuf,
    pub pairs: Vec<(String, String)>,
    /// Tells of the broker once it is up.
    pub up: mpsc::UnboundedSender<View>,
}

/// The process's time: that of its own runtime, which stands still while it is frozen and jumps when it goes on.
struct SimClock {
    origin: Instant,
    offset_ms: i64,
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        let passed = Instant::now().saturating_duration_since(self.origin).as_millis();
        self.offset_ms + i64::try_from(passed).expect("a short simulation")
    }
}

/// Milliseconds since 1970 at the beginning of every simulation.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Runs a broker until its process ends.
///
/// # Errors
/// Whatever keeps it from starting; then the process ends.
pub async fn run(setup: Setup) -> anyhow::Result<()> {
    let started_at = i64::try_from(setup.sim.core().now)?;
    let clock: Arc<dyn Clock> = Arc::new(SimClock { origin: Instant::now(), offset_ms: EPOCH_MS + started_at });
    let config = BrokerConfig::from_pairs(setup.pairs.clone())?;
    let me = BrokerId(setup.node);
    let (manager, zk, cluster_id) = stand_up(&setup, &config, &clock).await?;
    let producer_ids = Arc::new(ProducerIds::new(Arc::new(ZkBlocks::new(zk.clone(), me))));
    let (groups, transactions) = coordinators(&setup.sim, &config, &clock, &manager, &producer_ids);
    manager.start_fetchers(Arc::new(SimLeaders { sim: setup.sim.clone(), node: setup.node }), Handle::current());
    let endpoint = Endpoint::plaintext(format!("host-{me}"), 9092);
    let info = BrokerInfo::new(me, vec![endpoint], clock.now_ms());
    let file = SessionFile::open(&setup.dir);
    let registration = Arc::new(Registration::new(zk.clone(), info, Some(file), Arc::clone(&clock)));
    manager.set_broker_epoch(registration.register_first().await?);
    let (controller, _) = controller::start(
        ControllerConfig::new(me),
        zk.clone(),
        registration.epoch(),
        Arc::new(SimChannel::new(setup.sim.clone(), Arc::clone(&manager))),
        Arc::clone(&clock),
    );
    let changes = SimIsrChanges { sim: setup.sim.clone(), node: setup.node, controller: controller.clone() };
    manager.start_isr_changes(Arc::new(changes), &Handle::current());
    tokio::spawn(watch_broker_epochs(zk.clone(), Arc::clone(manager.broker_epochs())));
    tokio::spawn(keep_lease(zk.clone(), Arc::clone(&manager)));
    let old = setup.sim.core().old;
    if old.gives_up_its_node {
        let info = registration.info();
        tokio::spawn(old::register_or_give_up(zk.clone(), broker_ids::path(info.id), info.encode()));
    } else {
        tokio::spawn(Arc::clone(&registration).keep());
    }
    tokio::spawn(follow_epoch(registration.epoch(), Arc::clone(&manager)));
    tokio::spawn(chores(Arc::clone(&manager)));
    let context = Arc::new(Context {
        broker_id: me,
        txn_verifier: TxnVerifier::new(
            Arc::clone(manager.metadata()),
            Arc::new(SimCoordinators::new(setup.sim.clone(), setup.node)),
        ),
        cluster_id,
        fetch_sessions: FetchSessions::new(100),
        config,
        zk: zk.clone(),
        controller: controller.clone(),
        clock,
        control: Handle::current(),
        replica_manager: Arc::clone(&manager),
        producer_ids,
        groups: Arc::clone(&groups),
        transactions: Arc::clone(&transactions),
        loggers: Arc::default(),
    });
    let sim = setup.sim.clone();
    let manager_too = Arc::clone(&manager);
    let view = View { manager: manager_too, controller, groups, transactions, zk, sim, stopped: Arc::default() };
    let _ = setup.up.send(view);
    serve(setup, manager, Arc::new(Dispatcher::new(context))).await;
    Ok(())
}

/// The coordinators, at work, told of leaderships by the replica manager.
fn coordinators(
    sim: &Sim,
    config: &BrokerConfig,
    clock: &Arc<dyn Clock>,
    manager: &Arc<ReplicaManager>,
    producer_ids: &Arc<ProducerIds>,
) -> (Arc<GroupCoordinator>, Arc<TxnCoordinator>) {
    let log: Arc<dyn InternalLog> = Arc::new(ReplicaLog::new(Arc::clone(manager)));
    let log = sim.core().old.internal_log(log);
    let groups =
        GroupCoordinator::new(GroupConfig::from(config), Arc::clone(&log), Arc::clone(clock), Handle::current());
    let around = Surroundings {
        log,
        producer_ids: Arc::clone(producer_ids),
        channel: Arc::new(SimMarkers::new(sim.clone(), Arc::clone(manager))),
        clock: Arc::clone(clock),
        runtime: Handle::current(),
    };
    let transactions = TxnCoordinator::new(TxnConfig::from(config), around);
    manager.set_listener(Box::new(SimUpward(Arc::downgrade(&groups), Arc::downgrade(&transactions))));
    tokio::spawn(Arc::clone(&groups).run());
    tokio::spawn(Arc::clone(&transactions).run());
    (groups, transactions)
}

/// The logs, recovered, and a session.
async fn stand_up(
    setup: &Setup,
    config: &BrokerConfig,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Arc<ReplicaManager>, ZkClient, String)> {
    let logs = Arc::new(LogManager::open(ManagerOptions::new([setup.dir.as_path()]))?);
    let defaults = default_log_config(config)?;
    logs.load(&|_| Arc::clone(&defaults), clock.now_ms())?;
    let connector = Arc::new(crate::session::SimConnector { sim: setup.sim.clone(), node: setup.node });
    let zk = ZkClient::connect(connector, Duration::from_secs(5)).await?;
    create_persistent_paths(&zk).await?;
    let cluster_id = get_or_create_cluster_id(&zk).await?;
    let me = BrokerId(setup.node);
    logs.check_ids(me, &cluster_id)?;
    let manager = Arc::new(ReplicaManager::new(me, config, Arc::clone(clock), logs, Arc::new(Configs)));
    manager.wait_in_turn();
    Ok((manager, zk, cluster_id))
}

async fn follow_epoch(mut epoch: watch::Receiver<Option<BrokerEpoch>>, manager: Arc<ReplicaManager>) {
    while epoch.changed().await.is_ok() {
        let now = *epoch.borrow_and_update();
        if let Some(now) = now {
            manager.set_broker_epoch(now);
        }
    }
}

/// What `server/background.rs` does, on this thread.
async fn chores(manager: Arc<ReplicaManager>) {
    let throttle = Arc::new(Throttle::new(f64::MAX, Arc::clone(manager.clock())));
    let share = Share { dedupe_bytes: DEDUPE_BYTES, load_factor: 0.9, buffer_bytes: 1 };
    let mut cleaner = Cleaner::new(share, throttle, Arc::default());
    // Not all at the same time, so that replicas differ.
    let every = usize::try_from(manager.broker_id().get()).unwrap_or(1).max(1);
    for round in 0_usize.. {
        tokio::time::sleep(Duration::from_millis(CHORES)).await;
        let logs = manager.log_manager();
        logs.run_flushes(manager.clock().now_ms());
        logs.checkpoint_recovery_points();
        logs.checkpoint_high_watermarks();
        if round.is_multiple_of(every) {
            let now_ms = manager.clock().now_ms();
            // One log after the other, until none is left to be cleaned.
            let _ = (0..CLEANINGS).take_while(|_| clean_filthiest(logs, &mut cleaner, now_ms)).count();
        }
    }
}

async fn serve(setup: Setup, manager: Arc<ReplicaManager>, dispatcher: Arc<Dispatcher>) {
    let (sender, mut accepted) = mpsc::unbounded_channel();
    setup.sim.core().listen(setup.node, sender);
    let heard = Arc::new(Heard::default());
    while let Some(connection) = accepted.recv().await {
        let (sim, manager) = (setup.sim.clone(), Arc::clone(&manager));
        tokio::spawn(serve_connection(sim, connection, manager, Arc::clone(&dispatcher), Arc::clone(&heard)));
    }
}

/// One request after the other, as `network::connection` does.
async fn serve_connection(
    sim: Sim,
    mut connection: Accepted,
    manager: Arc<ReplicaManager>,
    dispatcher: Arc<Dispatcher>,
    heard: Arc<Heard>,
) {
    let peer = SocketAddr::from(([127, 0, 0, 1], u16::try_from(connection.from).unwrap_or(0)));
    let info = Arc::new(ConnectionInfo { id: "sim".into(), peer, listener: LISTENER.into() });
    while let Some(frame) = connection.frames.recv().await {
        let old = sim.core().old;
        if let Some(request) = leader_and_isr(&frame) {
            old.leader_and_isr(&manager, &request);
        }
        let frame = old.group_request(&heard, frame);
        match dispatcher.dispatch(Arc::clone(&info), frame).await {
            Outcome::Reply(payload) => sim.reply(connection.id, flat(&payload)),
            Outcome::NoReply => {}
            Outcome::Close(why) => {
                sim.note(&format!("a connection from {} is closed: {why}", connection.from));
                return sim.hang_up(connection.id);
            }
        }
    }
}

fn leader_and_isr(frame: &Bytes) -> Option<LeaderAndIsrRequest> {
    let mut body = frame.clone();
    let header = RequestHeader::parse(&mut body).ok().filter(|header| header.api_key == LeaderAndIsrRequest::KEY)?;
    frame::decode(body, header.api_version).ok()
}

/// A payload's bytes, those in files too.
fn flat(payload: &Payload) -> Bytes {
    use std::os::unix::fs::FileExt;
    let mut out = BytesMut::new();
    for part in &payload.parts {
        match part {
            Part::Bytes(bytes) => out.extend_from_slice(bytes),
            Part::File(slice) => {
                let mut bytes = vec![0; slice.len];
                slice.file.read_exact_at(&mut bytes, slice.position).expect("the slice is there");
                out.extend_from_slice(&bytes);
            }
        }
    }
    out.freeze()
}

/// The settings of a broker on `dir`.
pub fn settings(node: Node, dir: &Path, pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all = vec![
        ("broker.id".to_owned(), node.to_string()),
        ("log.dirs".to_owned(), dir.display().to_string()),
        ("zookeeper.session.timeout.ms".to_owned(), SESSION_TIMEOUT.to_string()),
        ("min.insync.replicas".to_owned(), "2".to_owned()),
        ("replica.lag.time.max.ms".to_owned(), "400".to_owned()),
        ("replica.fetch.wait.max.ms".to_owned(), "100".to_owned()),
        ("replica.fetch.backoff.ms".to_owned(), "50".to_owned()),
        ("replica.socket.timeout.ms".to_owned(), "400".to_owned()),
        ("log.index.size.max.bytes".to_owned(), "4096".to_owned()),
        ("log.flush.interval.ms".to_owned(), "500".to_owned()),
    ];
    all.extend(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    all
}
