//! What a process holds of ZooKeeper: the traits of `barnabas::zk::backend` over the model.

use std::sync::Arc;
use std::time::Duration;

use barnabas::zk::backend::{MultiResult, ZkConnector, ZkFuture, ZkSession};
use barnabas::zk::znodes::controller;
use barnabas::zk::{Node as Znode, Op, OpResult, Stat, WatchSink, ZkError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use crate::kernel::{Node, Sim};
use crate::zookeeper::{Answer, Request, SESSION_TIMEOUT};

/// Opens sessions for a machine's process.
pub struct SimConnector {
    pub sim: Sim,
    pub node: Node,
}

impl ZkConnector for SimConnector {
    fn connect(&self) -> ZkFuture<Arc<dyn ZkSession>> {
        let (sim, node) = (self.sim.clone(), self.node);
        async move {
            let (sender, opened) = oneshot::channel();
            sim.core().open_session(node, sender);
            let opened = opened.await.map_err(|_| ZkError::Unknown("no server answers".into()))?;
            Ok(Arc::new(SimSession { sim, id: opened.id, ended: opened.ended }) as Arc<dyn ZkSession>)
        }
        .boxed()
    }
}

struct SimSession {
    sim: Sim,
    id: i64,
    ended: watch::Receiver<bool>,
}

impl SimSession {
    fn ask(&self, request: Request) -> BoxFuture<'static, Result<Answer, ZkError>> {
        let (sim, id) = (self.sim.clone(), self.id);
        async move {
            let (reply, answer) = oneshot::channel();
            sim.core().ask_zookeeper(id, request, reply);
            answer.await.unwrap_or_else(|_| Err(ZkError::Unknown("the connection is lost".into())))
        }
        .boxed()
    }
}

fn odd<T>() -> Result<T, ZkError> {
    Err(ZkError::Refused("an answer of another kind".into()))
}

impl ZkSession for SimSession {
    fn id(&self) -> i64 {
        self.id
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(SESSION_TIMEOUT)
    }

    fn get(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Znode> {
        let answer = self.ask(Request::Get(path.to_owned(), watch));
        let hides_owner = path == controller::PATH && self.sim.core().old.ignores_its_election;
        async move {
            match answer.await? {
                Answer::Node(mut node) => {
                    if hides_owner {
                        node.stat.ephemeral_owner = -1;
                    }
                    Ok(node)
                }
                _ => odd(),
            }
        }
        .boxed()
    }

    fn get_many(&self, paths: Vec<String>) -> ZkFuture<Vec<Result<Znode, ZkError>>> {
        let answer = self.ask(Request::GetMany(paths));
        async move { if let Answer::Nodes(nodes) = answer.await? { Ok(nodes) } else { odd() } }.boxed()
    }

    fn exists(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Option<Stat>> {
        let answer = self.ask(Request::Exists(path.to_owned(), watch));
        async move { if let Answer::Stat(stat) = answer.await? { Ok(stat) } else { odd() } }.boxed()
    }

    fn children(&self, path: &str, watch: Option<WatchSink>) -> ZkFuture<Vec<String>> {
        let answer = self.ask(Request::Children(path.to_owned(), watch));
        async move { if let Answer::Names(names) = answer.await? { Ok(names) } else { odd() } }.boxed()
    }

    fn write(&self, op: Op) -> ZkFuture<OpResult> {
        let multi = self.multi(vec![op]);
        async move {
            match multi.await? {
                Ok(mut results) => results.pop().map_or_else(odd, Ok),
                Err((_, error)) => Err(error),
            }
        }
        .boxed()
    }

    fn multi(&self, ops: Vec<Op>) -> ZkFuture<MultiResult> {
        let ops = self.sim.core().old.writes(ops);
        let answer = self.ask(Request::Write(ops));
        async move { if let Answer::Written(result) = answer.await? { Ok(result) } else { odd() } }.boxed()
    }

    fn sync(&self, _path: &str) -> ZkFuture<()> {
        let answer = self.ask(Request::Sync);
        async move { answer.await.map(drop) }.boxed()
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        let mut ended = self.ended.clone();
        async move { drop(ended.wait_for(|ended| *ended).await) }.boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let answer = self.ask(Request::Close);
        async move { drop(answer.await) }.boxed()
    }
}
