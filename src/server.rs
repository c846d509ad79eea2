//! Builds everything in order, stops it in reverse. Owns the runtimes, the background tasks and what ties the rooms
//! together; decides nothing itself.
//!
//! ```text
//!   start                                       stop
//!   configuration, open files                   end the ZooKeeper session: deregistered
//!   lock the log dirs, bind the ports           flush, checkpoints, mark of an orderly stop
//!   ZooKeeper session | load the logs           cleaner, network threads
//!   check the ids, topic configurations         answer those who wait, drain the connections
//!   replicas, fetchers, coordinators, register  coordinators, fetchers
//!   controller, cleaner, background, accept     controller, background tasks
//!                                               leaderships handed on
//! ```

mod background;
mod broker_configs;
mod broker_links;
mod config_changes;
mod control_plane;
mod controlled_shutdown;
pub mod controller_channel;
mod failures;
mod live_config;
pub mod logging;
mod parts;
pub mod replication;
pub mod resources;
pub mod settings;
mod transaction_coordinators;
pub mod transactions;
pub mod upward;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use self::controller_channel::ControllerChannel;
use self::transaction_coordinators::NetworkCoordinators;
use crate::api::{Context, Dispatcher};
use crate::base::clock::{Clock, SystemClock};
use crate::base::ids::{BrokerEpoch, BrokerId};
use crate::base::watch;
use crate::config::broker::BrokerConfig;
use crate::controller;
use crate::coordinator::group::coordinator::GroupCoordinator;
use crate::coordinator::replica_log::ReplicaLog;
use crate::coordinator::txn::coordinator::{Surroundings, TxnCoordinator};
use crate::coordinator::txn::producer_ids::ProducerIds;
use crate::coordinator::txn::verifier::TxnVerifier;
use crate::log::cleaner::LogCleaner;
use crate::log::manager::LogManager;
use crate::network::listener::SocketServer;
use crate::network::threads::NetworkThreads;
use crate::replica::fetch_session::FetchSessions;
use crate::replica::manager::ReplicaManager;
use crate::zk::client::ZkClient;
use crate::zk::session::Registration;

/// Threads of the runtime for ZooKeeper, the controller, timers and chores.
const CONTROL_THREADS: usize = 2;
/// How long requests in work may take at a stop.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// How long the controller may take to resign; the end of the ZooKeeper session ends its term anyway.
const CONTROLLER_PATIENCE: Duration = Duration::from_millis(500);

/// Runs a broker until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting, in one sentence.
pub fn run(properties: &Path, overrides: &[(String, String)]) -> anyhow::Result<()> {
    let started = Instant::now();
    let (config, warnings) = BrokerConfig::load(&[properties], std::env::vars(), overrides)?;
    let _logging = logging::start()?;
    for warning in warnings {
        warn!("{}", warning.0);
    }
    let control = control_runtime()?;
    let ended = control.block_on(serve(config, control.handle().clone(), started));
    control.shutdown_background();
    ended
}

/// From the start to the stop of one broker.
async fn serve(config: BrokerConfig, control: Handle, started: Instant) -> anyhow::Result<()> {
    let mut stop_signal = std::pin::pin!(resources::stop_signal());
    let server = tokio::select! {
        server = Server::start(config, control) => server?,
        name = &mut stop_signal => {
            info!("{}: stopping before the start was complete", name?);
            return Ok(());
        }
    };
    let id = server.broker_id();
    info!("[KafkaServer id={id}] started in {} ms", started.elapsed().as_millis());
    let reason = tokio::select! {
        name = stop_signal => Ok(name?),
        () = server.failed() => Err(anyhow::anyhow!("every log dir has failed: nothing is left to serve")),
    };
    match &reason {
        Ok(name) => info!("[KafkaServer id={id}] stopping on {name}"),
        Err(error) => error!("[KafkaServer id={id}] stopping: {error}"),
    }
    let began = Instant::now();
    server.stop().await;
    info!("[KafkaServer id={id}] stopped in {} ms", began.elapsed().as_millis());
    reason.map(drop)
}

/// The runtime for everything but connections.
///
/// # Errors
/// If the system gives no threads.
pub fn control_runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the system gives no threads")
}

/// What a broker stands on: its logs are loaded, its ports bound, ZooKeeper is there.
struct Ground {
    clock: Arc<dyn Clock>,
    logs: Arc<LogManager>,
    sockets: SocketServer,
    zk: ZkClient,
    cluster_id: String,
}

/// A start that failed once the logs were loaded leaves them as after an orderly stop, and nothing in ZooKeeper.
async fn give_up(logs: Arc<LogManager>, zk: Option<ZkClient>) {
    let close = tokio::task::spawn_blocking(move || {
        logs.shutdown(logs.previous_broker_epoch().unwrap_or(BrokerEpoch::NONE));
    });
    if let Err(error) = close.await {
        warn!("the logs were not closed in order: {error}");
    }
    if let Some(zk) = zk {
        zk.close().await;
    }
}

/// A running broker.
pub struct Server {
    context: Arc<Context>,
    sockets: SocketServer,
    /// Locked while their number changes.
    threads: Arc<Mutex<NetworkThreads>>,
    control_plane: Option<NetworkThreads>,
    zk: ZkClient,
    cleaner: Arc<LogCleaner>,
    /// Dropped last: connections of fetchers live on them.
    replication: replication::ReplicationThreads,
    tasks: Vec<JoinHandle<()>>,
    controller_task: JoinHandle<()>,
    none_left: Arc<Notify>,
}

impl Server {
    /// Starts a broker; its ZooKeeper session, controller and chores run on `control`, which must have several threads.
    ///
    /// # Errors
    /// Whatever keeps it from starting, in one sentence.
    pub async fn start(config: BrokerConfig, control: Handle) -> anyhow::Result<Self> {
        resources::raise_open_files();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let logs = Arc::new(LogManager::open(parts::log_options(&config))?);
        parts::check_broker_id(&config, &logs)?;
        let sockets = SocketServer::bind(&settings::endpoints(&config), settings::sockets(&config)?)?;
        let (zk, loaded) = tokio::join!(parts::connect_zookeeper(&config), load(&config, &logs, &clock));
        loaded?;
        let session = zk.as_ref().ok().map(|(zk, _)| zk.clone());
        let built = match zk {
            Ok((zk, cluster_id)) => {
                let ground = Ground { clock, logs: Arc::clone(&logs), sockets, zk, cluster_id };
                Self::build(ground, config, control).await
            }
            Err(error) => Err(error),
        };
        if built.is_err() {
            give_up(logs, session).await;
        }
        built
    }

    async fn build(ground: Ground, config: BrokerConfig, control: Handle) -> anyhow::Result<Self> {
        let Ground { clock, logs, mut sockets, zk, cluster_id } = ground;
        let broker_id = parts::broker_id(&config, &logs, &zk).await?;
        logs.check_ids(broker_id, &cluster_id)?;
        let source = Arc::new(config_changes::ZkTopicConfigs::new(zk.clone()));
        let manager = Arc::new(ReplicaManager::new(broker_id, &config, Arc::clone(&clock), Arc::clone(&logs), source));
        let brokers =
            broker_configs::BrokerConfigs::new(zk.clone(), broker_id, Arc::clone(&manager), sockets.quotas().clone());
        let mut config_changes = config_changes::ConfigChanges::new(zk.clone(), Arc::clone(&manager), brokers);
        config_changes.load_all().await.context("the configurations cannot be read from ZooKeeper")?;
        let internal_log = Arc::new(ReplicaLog::new(Arc::clone(&manager)));
        let groups = GroupCoordinator::new(
            settings::groups(&config),
            Arc::clone(&internal_log) as Arc<_>,
            Arc::clone(&clock),
            control.clone(),
        );
        let blocks = Arc::new(transactions::LateBlocks::default());
        let producer_ids = Arc::new(ProducerIds::new(Arc::clone(&blocks) as Arc<_>));
        let transactions = TxnCoordinator::new(
            settings::transactions(&config),
            Surroundings {
                log: internal_log,
                producer_ids: Arc::clone(&producer_ids),
                channel: Arc::new(transactions::MarkerConnections::new(&config, Arc::clone(&manager), control.clone())),
                clock: Arc::clone(&clock),
                runtime: control.clone(),
            },
        );
        manager.set_listener(Box::new(upward::Upward::new(Arc::clone(&groups), Arc::clone(&transactions))));
        let none_left = failures::watch(&logs, &manager, &zk, &control);

        // What was set while brokers ran goes before the file from here on.
        let in_force = manager.configs().broker();
        let replication = replication::ReplicationThreads::start(&in_force)?;
        replication::start_fetchers(&config, &manager, &replication);

        let info = settings::broker_info(&in_force, broker_id, sockets.local_addresses())?;
        let file = parts::session_file(&logs);
        let registration = Arc::new(Registration::new(zk.clone(), info, file, Arc::clone(&clock)));
        manager.set_broker_epoch(registration.register_first().await?);
        let (controller, controller_task) = controller::start(
            control_plane::controller_config(&in_force, broker_id),
            zk.clone(),
            registration.epoch(),
            Arc::new(control_plane::ControlChannel::new(&config, Arc::clone(&manager))),
            Arc::clone(&clock),
        );
        let channel = Arc::new(ControllerChannel::new(&config, Arc::clone(&manager), controller.clone()));
        blocks.open(&config, zk.clone(), Arc::clone(&manager), Arc::clone(&channel));
        manager.start_isr_changes(Arc::new(replication::IsrSender(channel)), &control);
        let cleaner = LogCleaner::start(Arc::clone(&logs), parts::cleaner_options(&in_force), Arc::clone(&clock))
            .context("the system gives no threads")?;
        let cleaner = Arc::new(cleaner);
        let mut tasks = background::start(&config, &manager, &control);
        let epochs = Arc::clone(manager.broker_epochs());
        tasks.push(control.spawn(replication::keep_lease(zk.clone(), Arc::clone(&manager))));
        tasks.push(control.spawn(replication::watch_broker_epochs(zk.clone(), epochs)));
        tasks.push(control.spawn(Arc::clone(&registration).keep()));
        tasks.push(control.spawn(follow_epoch(registration.epoch(), Arc::clone(&manager))));
        tasks.push(control.spawn(Arc::clone(&groups).run()));
        tasks.push(control.spawn(Arc::clone(&transactions).run()));
        let threads = NetworkThreads::start("network", parts::positive(in_force.num_network_threads))
            .context("the system gives no threads")?;
        let threads = Arc::new(Mutex::new(threads));
        config_changes.reach(live_config::LiveConfig {
            manager: Arc::clone(&manager),
            cleaner: Arc::clone(&cleaner),
            controller: controller.clone(),
            registration,
            addresses: sockets.local_addresses().to_vec(),
            threads: Arc::clone(&threads),
            lanes: sockets.lanes().clone(),
        });
        tasks.push(control.spawn(config_changes.run()));
        let coordinators = NetworkCoordinators::new(&config, Arc::clone(&manager), control.clone());
        let context = Arc::new(Context {
            broker_id,
            txn_verifier: TxnVerifier::new(Arc::clone(manager.metadata()), Arc::new(coordinators)),
            cluster_id,
            fetch_sessions: FetchSessions::new(parts::positive(config.max_incremental_fetch_session_cache_slots)),
            config,
            zk: zk.clone(),
            controller,
            clock,
            control: control.clone(),
            replica_manager: manager,
            producer_ids,
            groups,
            transactions,
            loggers: logging::loggers(),
        });
        let dispatcher = Arc::new(Dispatcher::new(Arc::clone(&context)));
        let control_plane = control_plane::thread(&context.config)?;
        let apart =
            control_plane.as_ref().and_then(|(listener, thread)| Some((listener.as_str(), thread.handles().pop()?)));
        let handles = threads.lock().handles();
        let started = sockets.start_apart(&control, &handles, apart, dispatcher);
        started.context("the listeners cannot be started")?;
        let control_plane = control_plane.map(|(_, thread)| thread);
        Ok(Self {
            context,
            sockets,
            threads,
            control_plane,
            zk,
            cleaner,
            replication,
            tasks,
            controller_task,
            none_left,
        })
    }

    /// This broker's id.
    pub fn broker_id(&self) -> BrokerId {
        self.context.broker_id
    }

    /// What its handlers use.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Waits until the last log dir has failed: then there is nothing left to serve.
    pub async fn failed(&self) {
        self.none_left.notified().await;
    }

    /// Where it listens, with the ports the system chose.
    pub fn addresses(&self) -> &[(Arc<str>, std::net::SocketAddr)] {
        self.sockets.local_addresses()
    }

    /// Stops in order: hands leaderships on, answers those who wait, drains, flushes, deregisters.
    pub async fn stop(mut self) {
        controlled_shutdown::run(&self.context).await;
        self.tasks.iter().for_each(JoinHandle::abort);
        self.context.controller.shut_down();
        if tokio::time::timeout(CONTROLLER_PATIENCE, &mut self.controller_task).await.is_err() {
            self.controller_task.abort();
        }
        self.context.groups.stop();
        self.context.transactions.stop();
        self.context.replica_manager.stop_replication();
        self.context.replica_manager.stop_waiting();
        self.sockets.shutdown(DRAIN_PATIENCE).await;
        let manager = Arc::clone(&self.context.replica_manager);
        let (threads, control_plane, cleaner) = (self.threads, self.control_plane, self.cleaner);
        let closed = tokio::task::spawn_blocking(move || {
            cleaner.stop();
            threads.lock().stop();
            drop(control_plane);
            manager.log_manager().shutdown(manager.broker_epoch());
        });
        // The registration goes only when no more can be appended; flushing needs no ZooKeeper.
        let (closed, ()) = tokio::join!(closed, self.zk.close());
        if let Err(error) = closed {
            warn!("the logs were not closed in order: {error}");
        }
        drop(self.replication);
    }
}

/// Opens the logs, recovering what an unclean stop left, on a thread that may block.
async fn load(config: &BrokerConfig, manager: &Arc<LogManager>, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
    let began = Instant::now();
    let defaults = parts::default_log_config(config)?;
    let (manager, now_ms) = (Arc::clone(manager), clock.now_ms());
    // Topics' own settings come from ZooKeeper, which is being connected meanwhile.
    let loading = tokio::task::spawn_blocking(move || manager.load(&|_| Arc::clone(&defaults), now_ms));
    let summary = loading.await.context("loading the logs failed")??;
    if summary.partitions > 0 {
        info!("loaded {} partitions in {} ms", summary.partitions, began.elapsed().as_millis());
    }
    Ok(())
}

/// Control requests are fenced by the epoch of the registration that holds now.
async fn follow_epoch(mut epoch: watch::Receiver<Option<BrokerEpoch>>, manager: Arc<ReplicaManager>) {
    while epoch.changed().await.is_ok() {
        let now = *epoch.borrow_and_update();
        if let Some(now) = now {
            manager.set_broker_epoch(now);
        }
    }
}
