//! The contract of `zk::backend` that `src/zk/client_tests.rs` holds the model to, held by real servers.

use std::sync::Arc;
use std::time::Instant;

use barnabas::zk::{CreateMode, Op, SessionState, WatchKind, WatchSink, ZkError};
use parking_lot::Mutex;

use super::expire::expire;
use super::support::zookeeper::ZooKeeper;
use super::{connect, eventually, outside};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multis_fences_and_watches_hold() {
    let zookeeper = ZooKeeper::single();
    let zk = connect(&zookeeper.connect()).await;
    let failed = zk.multi(vec![Op::create("/a", "x"), Op::create("/a/b", "y"), Op::check("/a", 3)]).await.unwrap();
    assert_eq!(failed, Err((2, ZkError::BadVersion)));
    assert_eq!(zk.find("/a").await.unwrap(), None);

    zk.create("/fence", b"1", CreateMode::Persistent).await.unwrap();
    let ops: Vec<Op> = (0..2500).map(|i| Op::create(format!("/n{i}"), "data")).collect();
    let done = zk.write_fenced(&Op::check("/fence", 0), ops.clone()).await.unwrap();
    assert!(done.len() == 2500 && done.iter().all(Result::is_ok));
    let paths: Vec<String> = (0..2501).map(|i| format!("/n{i}")).collect();
    let read = zk.get_many(&paths).await.unwrap();
    assert!(
        read[..2500].iter().all(|node| node.as_ref().is_some_and(|node| node.data == b"data")) && read[2500].is_none()
    );
    let mixed = vec![ops[0].clone(), Op::create("/new", ""), Op::set("/n1", "other", Some(0))];
    let again = zk.write_fenced(&Op::check("/fence", 0), mixed).await.unwrap();
    assert_eq!(again[0], Err(ZkError::NodeExists));
    assert!(again[1].is_ok() && again[2].is_ok());
    assert_eq!(zk.get("/n1").await.unwrap().stat.version, 1);
    zk.set("/fence", b"2", Some(0)).await.unwrap();
    assert_eq!(zk.write_fenced(&Op::check("/fence", 0), ops).await, Err(ZkError::BadVersion));

    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let sink: WatchSink = Arc::new(move |event| log.lock().push((event.path, event.kind)));
    assert_eq!(zk.exists_and_watch("/w", &sink).await.unwrap(), None);
    zk.create("/w", b"", CreateMode::Persistent).await.unwrap();
    zk.children_and_watch("/w", &sink).await.unwrap();
    let (path, stat) = zk.create("/w/n_", b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(path, "/w/n_0000000000");
    assert!(stat.czxid > 0);
    zk.get_and_watch(&path, &sink).await.unwrap();
    zk.delete(&path, Some(0)).await.unwrap();
    let expected = vec![
        ("/w".to_owned(), WatchKind::Created),
        ("/w".to_owned(), WatchKind::ChildrenChanged),
        (path, WatchKind::Deleted),
    ];
    eventually("three events", async || seen.lock().len() == 3).await;
    assert_eq!(*seen.lock(), expected);
    zk.close().await;
    assert_eq!(zk.get("/w").await, Err(ZkError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ended_from_outside_is_replaced_below_its_chroot() {
    let zookeeper = ZooKeeper::single();
    let chrooted = format!("{}/kafka/one", zookeeper.connect());
    let zk = connect(&chrooted).await;
    zk.create("/mine", b"", CreateMode::Ephemeral).await.unwrap();
    assert!(outside(|| zookeeper.read("/kafka/one/mine")).is_some());
    let mut state = zk.state();
    outside(|| expire(&zookeeper.connect(), zk.session_id().unwrap()));
    let begin = Instant::now();
    state.wait_for(|state| matches!(state, SessionState::Open { generation: 2, .. })).await.unwrap();
    assert!(begin.elapsed() < super::SESSION, "a new session took {:?}", begin.elapsed());
    assert_eq!(zk.find("/mine").await.unwrap(), None);
    zk.create("/mine", b"again", CreateMode::Ephemeral).await.unwrap();
    zk.close().await;
    assert_eq!(outside(|| zookeeper.read("/kafka/one/mine")), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensemble_may_lose_any_member() {
    let mut zookeeper = ZooKeeper::start(3);
    let zk = connect(&zookeeper.connect()).await;
    zk.create("/mine", b"", CreateMode::Ephemeral).await.unwrap();
    let session = zk.session_id().unwrap();
    for index in 0..3 {
        zookeeper.kill(index);
        let mut version = zk.get("/mine").await.unwrap().stat.version;
        for _ in 0..20 {
            version += 1;
            assert_eq!(
                zk.set("/mine", version.to_string().as_bytes(), Some(version - 1)).await.unwrap().version,
                version
            );
        }
        zookeeper.restart(index);
    }
    assert_eq!(zk.session_id().unwrap(), session, "the session outlives any one server");
    assert_eq!(zk.get("/mine").await.unwrap().stat.ephemeral_owner, session);
}
