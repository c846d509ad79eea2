//! What every backend must hold, run here against the model; `tests/zookeeper.rs` runs it against the real thing.

use super::*;
use crate::zk::memory::{Fault, MemoryZk};
use parking_lot::Mutex;

async fn client(model: &MemoryZk) -> ZkClient {
    ZkClient::connect(Arc::new(model.clone()), Duration::from_secs(1)).await.unwrap()
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_counts_once() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    model.fail_next_writes(&[Fault::AnswerLost]);
    zk.create("/a", b"1", CreateMode::Persistent).await.unwrap();
    model.fail_next_writes(&[Fault::AnswerLost]);
    assert_eq!(zk.set("/a", b"2", Some(0)).await.unwrap().version, 1);
    model.fail_next_writes(&[Fault::Lost, Fault::AnswerLost]);
    zk.delete("/a", Some(1)).await.unwrap();
    assert_eq!(zk.find("/a").await.unwrap(), None);
}

#[tokio::test]
async fn a_retried_write_does_not_take_what_is_not_its_own() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    zk.create("/a", b"other", CreateMode::Persistent).await.unwrap();
    model.fail_next_writes(&[Fault::Lost]);
    assert_eq!(zk.create("/a", b"mine", CreateMode::Persistent).await, Err(ZkError::NodeExists));
    model.fail_next_writes(&[Fault::Lost]);
    assert_eq!(zk.set("/a", b"mine", Some(7)).await, Err(ZkError::BadVersion));
}

#[tokio::test]
async fn multis_take_effect_whole_or_not_at_all() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    let failed = zk.multi(vec![Op::create("/a", "x"), Op::create("/a/b", "y"), Op::check("/a", 3)]).await.unwrap();
    assert_eq!(failed, Err((2, ZkError::BadVersion)));
    assert!(model.dump().is_empty());
    let done = zk.multi(vec![Op::create("/a", "x"), Op::set("/a", "z", Some(0)), Op::check("/a", 1)]).await.unwrap();
    assert_eq!(done.unwrap().len(), 3);
    assert_eq!(model.dump(), vec![("/a".to_owned(), "z".to_owned())]);
}

#[tokio::test]
async fn fenced_writes_fail_as_a_whole_when_the_fence_moved() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    zk.create("/fence", b"1", CreateMode::Persistent).await.unwrap();
    let ops: Vec<Op> = (0..2500).map(|i| Op::create(format!("/n{i}"), "")).collect();
    let before = model.write_requests();
    let done = zk.write_fenced(&Op::check("/fence", 0), ops.clone()).await.unwrap();
    assert!(done.len() == 2500 && done.iter().all(Result::is_ok));
    assert_eq!(model.write_requests() - before, 3);
    let again = zk.write_fenced(&Op::check("/fence", 0), vec![ops[0].clone(), Op::create("/new", "")]).await.unwrap();
    assert_eq!(again[0], Err(ZkError::NodeExists));
    assert!(again[1].is_ok());
    zk.set("/fence", b"2", None).await.unwrap();
    assert_eq!(zk.write_fenced(&Op::check("/fence", 0), ops).await, Err(ZkError::BadVersion));
}

#[tokio::test]
async fn watches_fire_once() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let sink: WatchSink = Arc::new(move |event| log.lock().push(event));
    assert_eq!(zk.exists_and_watch("/a", &sink).await.unwrap(), None);
    zk.create("/a", b"", CreateMode::Persistent).await.unwrap();
    zk.children_and_watch("/a", &sink).await.unwrap();
    zk.create("/a/b", b"", CreateMode::Persistent).await.unwrap();
    zk.create("/a/c", b"", CreateMode::Persistent).await.unwrap();
    zk.get_and_watch("/a/b", &sink).await.unwrap();
    zk.set("/a/b", b"2", None).await.unwrap();
    zk.delete("/a/b", None).await.unwrap();
    use crate::zk::backend::WatchKind::*;
    let kinds: Vec<_> = seen.lock().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, vec![Created, ChildrenChanged, DataChanged]);
}

#[tokio::test]
async fn an_expired_session_is_replaced_and_told() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    let mut state = zk.state();
    zk.create("/mine", b"", CreateMode::Ephemeral).await.unwrap();
    model.set_down(true);
    model.expire(zk.session_id().unwrap());
    state.wait_for(|s| matches!(s, SessionState::Expired { generation: 1 })).await.unwrap();
    assert_eq!(zk.get("/mine").await, Err(ZkError::SessionExpired));
    model.set_down(false);
    state.wait_for(|s| matches!(s, SessionState::Open { generation: 2, .. })).await.unwrap();
    assert_eq!(zk.find("/mine").await.unwrap(), None);
    zk.close().await;
    assert_eq!(zk.get("/mine").await, Err(ZkError::Closed));
}

#[tokio::test]
async fn paths_are_made_and_listed_whole() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    zk.create_recursive("/a/b/c", b"x").await.unwrap();
    zk.ensure_path("/a/b").await.unwrap();
    zk.ensure_path("/a/d").await.unwrap();
    assert_eq!(zk.subtree("/a").await.unwrap(), vec!["/a", "/a/b", "/a/d", "/a/b/c"]);
    assert_eq!(zk.subtree("/none").await.unwrap(), Vec::<String>::new());
    let (path, _) = zk.create("/a/n_", b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(path, "/a/n_0000000000");
}

#[tokio::test]
async fn many_nodes_are_read_in_order() {
    let model = MemoryZk::new();
    let zk = client(&model).await;
    for i in (0..1200).step_by(2) {
        zk.create(&format!("/n{i}"), i.to_string().as_bytes(), CreateMode::Persistent).await.unwrap();
    }
    let paths: Vec<String> = (0..1200).map(|i| format!("/n{i}")).collect();
    for (i, node) in zk.get_many(&paths).await.unwrap().into_iter().enumerate() {
        assert_eq!(node.map(|node| node.data), (i % 2 == 0).then(|| i.to_string().into_bytes()));
    }
}
