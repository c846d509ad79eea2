//! Sessions with a real ZooKeeper, over the `zookeeper-client` crate.
//!
//! Only this module names the crate. Its errors that say nothing definite become [`ZkError::Unknown`].

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use zookeeper_client as zk;

use super::backend::{
    CreateMode, MultiResult, Node, Op, OpResult, Stat, WatchEvent, WatchKind, WatchSink, ZkConnector, ZkFuture,
    ZkSession,
};
use super::error::ZkError;

/// How long a session's end may take to be confirmed at a clean stop.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens sessions with the ensemble that a `zookeeper.connect` string names, below its chroot.
#[derive(Debug, Clone)]
pub struct RealConnector {
    hosts: String,
    chroot: String,
    session_timeout: Duration,
    makes_chroot: bool,
}

impl RealConnector {
    /// `connect` is `host:port,host:port/chroot` as in `zookeeper.connect`; `session_timeout` as in
    /// `zookeeper.session.timeout.ms`.
    pub fn new(connect: &str, session_timeout: Duration) -> Self {
        let (hosts, chroot) = match connect.find('/') {
            Some(at) => (&connect[..at], connect[at..].trim_end_matches('/')),
            None => (connect, ""),
        };
        let hosts: Vec<&str> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
        Self { hosts: hosts.join(","), chroot: chroot.to_owned(), session_timeout, makes_chroot: true }
    }

    /// Leaves a chroot that is missing so: for tools, which only brokers precede (`createChrootIfNecessary`).
    pub fn without_making_chroot(self) -> Self {
        Self { makes_chroot: false, ..self }
    }

    async fn open(self) -> Result<Arc<dyn ZkSession>, ZkError> {
        let connector = zk::Client::connector().with_session_timeout(self.session_timeout);
        let mut client = connector.connect(&self.hosts).await.map_err(from_crate)?;
        if !self.chroot.is_empty() {
            if self.makes_chroot {
                let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
                client.mkdir(&self.chroot, &options).await.map_err(from_crate)?;
            }
            client = client
                .chroot(self.chroot.clone())
                .map_err(|_| ZkError::Refused(format!("{} is no valid chroot", self.chroot)))?;
        }
        let session = RealSession {
            id: client.session_id().0,
            timeout: client.session_timeout(),
            states: client.state_watcher(),
            client: RwLock::new(Some(Arc::new(client))),
            runtime: Handle::current(),
        };
        Ok(Arc::new(session))
    }
}

impl ZkConnector for RealConnector {
    fn connect(&self) -> ZkFuture<Arc<dyn ZkSession>> {
        self.clone().open().boxed()
    }
}

struct RealSession {
    id: i64,
    timeout: Duration,
    states: zk::StateWatcher,
    client: RwLock<Option<Arc<zk::Client>>>, // taken by close(); the crate ends the session when the last clone goes
    runtime: Handle,
}

impl RealSession {
    fn ask<T, F>(&self, ask: impl FnOnce(Arc<zk::Client>) -> F) -> ZkFuture<T>
    where
        F: Future<Output = Result<T, ZkError>> + Send + 'static,
        T: Send + 'static,
    {
        match self.client.read().clone() {
            Some(client) => ask(client).boxed(),
            None => std::future::ready(Err(ZkError::Closed)).boxed(),
        }
    }
}

impl ZkSession for RealSession {
    fn id(&self) -> i64 {
        self.id
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn get(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Node> {
        let (path, runtime) = (path.to_owned(), self.runtime.clone());
        self.ask(|client| async move {
            let (data, stat) = match watch {
                None => client.get_data(&path).await.map_err(from_crate)?,
                Some(sink) => {
                    let (data, stat, watcher) = client.get_and_watch_data(&path).await.map_err(from_crate)?;
                    forward(&runtime, watcher, sink);
                    (data, stat)
                }
            };
            Ok(Node { data, stat: from_stat(&stat) })
        })
    }

    fn get_many(&self, paths: Vec<String>) -> ZkFuture<Vec<Result<Node, ZkError>>> {
        self.ask(|client| async move {
            let mut reader = client.new_multi_reader();
            for path in &paths {
                reader.add_get_data(path).map_err(from_crate)?;
            }
            match reader.commit().await {
                Ok(results) => Ok(results.into_iter().map(from_multi_read).collect()),
                // Servers before 3.6 know no multi-read.
                Err(zk::Error::Unimplemented) => {
                    let each = paths.iter().map(|path| client.get_data(path));
                    let answers = join_all(each).await.into_iter();
                    let node = |(data, stat)| Node { data, stat: from_stat(&stat) };
                    Ok(answers.map(|answer| answer.map(node).map_err(from_crate)).collect())
                }
                Err(error) => Err(from_crate(error)),
            }
        })
    }

    fn exists(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Option<Stat>> {
        let (path, runtime) = (path.to_owned(), self.runtime.clone());
        self.ask(|client| async move {
            let stat = match watch {
                None => client.check_stat(&path).await.map_err(from_crate)?,
                Some(sink) => {
                    let (stat, watcher) = client.check_and_watch_stat(&path).await.map_err(from_crate)?;
                    forward(&runtime, watcher, sink);
                    stat
                }
            };
            Ok(stat.as_ref().map(from_stat))
        })
    }

    fn children(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Vec<String>> {
        let (path, runtime) = (path.to_owned(), self.runtime.clone());
        self.ask(|client| async move {
            match watch {
                None => client.list_children(&path).await.map_err(from_crate),
                Some(sink) => {
                    let (names, watcher) = client.list_and_watch_children(&path).await.map_err(from_crate)?;
                    forward(&runtime, watcher, sink);
                    Ok(names)
                }
            }
        })
    }

    fn write(&self, op: Op) -> ZkFuture<OpResult> {
        self.ask(|client| async move {
            match op {
                Op::Create { path, data, mode } => {
                    let (stat, sequence) = client.create(&path, &data, &options(mode)).await.map_err(from_crate)?;
                    let path =
                        if mode == CreateMode::PersistentSequential { format!("{path}{sequence}") } else { path };
                    Ok(OpResult::Created { path, stat: from_stat(&stat) })
                }
                Op::Set { path, data, version } => {
                    let stat = client.set_data(&path, &data, version).await.map_err(from_crate)?;
                    Ok(OpResult::Set(from_stat(&stat)))
                }
                Op::Delete { path, version } => {
                    client.delete(&path, version).await.map_err(from_crate)?;
                    Ok(OpResult::Deleted)
                }
                Op::Check { .. } => Err(ZkError::Refused("a check stands only in a multi".into())),
            }
        })
    }

    fn multi(&self, ops: Vec<Op>) -> ZkFuture<MultiResult> {
        self.ask(|client| async move {
            let mut writer = client.new_multi_writer();
            for op in &ops {
                match op {
                    Op::Create { path, data, mode } => writer.add_create(path, data, &options(*mode)),
                    Op::Set { path, data, version } => writer.add_set_data(path, data, *version),
                    Op::Delete { path, version } => writer.add_delete(path, *version),
                    Op::Check { path, version } => writer.add_check_version(path, *version),
                }
                .map_err(from_crate)?;
            }
            match writer.commit().await {
                Ok(results) => Ok(Ok(results.into_iter().map(from_multi).collect())),
                Err(zk::MultiWriteError::OperationFailed { index, source }) => Ok(Err((index, from_crate(source)))),
                Err(zk::MultiWriteError::RequestFailed { source }) => Err(from_crate(source)),
            }
        })
    }

    fn sync(&self, path: &str) -> ZkFuture<()> {
        let path = path.to_owned();
        self.ask(|client| async move { client.sync(&path).await.map_err(from_crate) })
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        let mut states = self.states.clone();
        async move {
            let mut state = states.peek_state();
            while !state.is_terminated() {
                state = states.changed().await;
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let client = self.client.write().take();
        let ended = self.ended();
        async move {
            drop(client);
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
        }
        .boxed()
    }
}

fn forward(runtime: &Handle, watcher: zk::OneshotWatcher, sink: WatchSink) {
    runtime.spawn(async move {
        let event = watcher.changed().await;
        let kind = match event.event_type {
            zk::EventType::NodeCreated => WatchKind::Created,
            zk::EventType::NodeDeleted => WatchKind::Deleted,
            zk::EventType::NodeDataChanged => WatchKind::DataChanged,
            zk::EventType::NodeChildrenChanged => WatchKind::ChildrenChanged,
            zk::EventType::Session => return, // the session's end is told by ZkClient::state
        };
        sink(WatchEvent { path: event.path, kind });
    });
}

fn options(mode: CreateMode) -> zk::CreateOptions<'static> {
    let mode = match mode {
        CreateMode::Persistent => zk::CreateMode::Persistent,
        CreateMode::Ephemeral => zk::CreateMode::Ephemeral,
        CreateMode::PersistentSequential => zk::CreateMode::PersistentSequential,
    };
    mode.with_acls(zk::Acls::anyone_all())
}

fn from_stat(stat: &zk::Stat) -> Stat {
    Stat { czxid: stat.czxid, mzxid: stat.mzxid, version: stat.version, ephemeral_owner: stat.ephemeral_owner }
}

fn from_multi(result: zk::MultiWriteResult) -> OpResult {
    match result {
        zk::MultiWriteResult::Create { path, stat } => OpResult::Created { path, stat: from_stat(&stat) },
        zk::MultiWriteResult::SetData { stat } => OpResult::Set(from_stat(&stat)),
        zk::MultiWriteResult::Delete => OpResult::Deleted,
        _ => OpResult::Checked,
    }
}

fn from_multi_read(result: zk::MultiReadResult) -> Result<Node, ZkError> {
    match result {
        zk::MultiReadResult::Data { data, stat } => Ok(Node { data, stat: from_stat(&stat) }),
        zk::MultiReadResult::Error { err } => Err(from_crate(err)),
        other => Err(ZkError::Refused(format!("a read was answered with {other:?}"))),
    }
}

fn from_crate(error: zk::Error) -> ZkError {
    match error {
        zk::Error::NoNode => ZkError::NoNode,
        zk::Error::NodeExists => ZkError::NodeExists,
        zk::Error::BadVersion => ZkError::BadVersion,
        zk::Error::NotEmpty => ZkError::NotEmpty,
        zk::Error::NoChildrenForEphemerals => ZkError::NoChildrenForEphemerals,
        zk::Error::NoAuth => ZkError::NoAuth,
        zk::Error::InvalidAcl => ZkError::InvalidAcl,
        zk::Error::SessionExpired | zk::Error::SessionMoved => ZkError::SessionExpired,
        zk::Error::AuthFailed => ZkError::AuthFailed,
        zk::Error::ClientClosed => ZkError::Closed,
        error @ (zk::Error::BadArguments(_)
        | zk::Error::Unimplemented
        | zk::Error::QuotaExceeded
        | zk::Error::MarshallingError
        | zk::Error::NotReadOnly) => ZkError::Refused(error.to_string()),
        error => ZkError::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_strings_are_split_at_the_chroot() {
        let plain = RealConnector::new("a:2181, b:2181", Duration::from_secs(6));
        assert_eq!((plain.hosts.as_str(), plain.chroot.as_str()), ("a:2181,b:2181", ""));
        let chrooted = RealConnector::new("a:2181,b:2181/kafka/one/", Duration::from_secs(6));
        assert_eq!((chrooted.hosts.as_str(), chrooted.chroot.as_str()), ("a:2181,b:2181", "/kafka/one"));
        assert_eq!(RealConnector::new("a:2181/", Duration::ZERO).chroot, "");
    }
}
