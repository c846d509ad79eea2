//! Registration with real sessions: the node, a successor on the same folder, a foreign broker, expiry.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use barnabas::base::clock::SystemClock;
use barnabas::base::ids::BrokerId;
use barnabas::zk::ZkClient;
use barnabas::zk::session::{RegisterError, Registration, create_persistent_paths, get_or_create_cluster_id};
use barnabas::zk::session_file::SessionFile;
use barnabas::zk::znodes::broker_ids::{self, BrokerInfo, Endpoint};

use super::expire::expire;
use super::support::zookeeper::ZooKeeper;
use super::{SESSION, connect, outside};

fn registration(zk: &ZkClient, folder: Option<&Path>) -> Arc<Registration> {
    let info = BrokerInfo::new(BrokerId(5), vec![Endpoint::plaintext("127.0.0.1", 9092)], 0);
    Arc::new(Registration::new(zk.clone(), info, folder.map(SessionFile::open), Arc::new(SystemClock)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_takes_over_from_its_own_dead_session_only() {
    let zookeeper = ZooKeeper::single();
    let folder = tempfile::tempdir().unwrap();
    let first = connect(&zookeeper.connect()).await;
    create_persistent_paths(&first).await.unwrap();
    let cluster = get_or_create_cluster_id(&first).await.unwrap();
    let before = registration(&first, Some(folder.path())).register().await.unwrap();
    let (data, czxid) = outside(|| zookeeper.node(&broker_ids::path(BrokerId(5)))).unwrap();
    assert_eq!(czxid, before.get());
    assert!(
        data.starts_with(r#"{"features":{},"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"#),
        "{data}"
    );

    // `first` stands for a process that was killed: its session lives on, nobody acts in it.
    let second = connect(&zookeeper.connect()).await;
    let begin = Instant::now();
    let after = registration(&second, Some(folder.path())).register().await.unwrap();
    assert!(begin.elapsed() < SESSION / 4, "a successor registered after {:?}", begin.elapsed());
    assert!(after > before);
    assert_eq!(get_or_create_cluster_id(&second).await.unwrap(), cluster);

    // Another folder: another broker, which must wait and then give up.
    let third = connect(&zookeeper.connect()).await;
    let other = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let refused = registration(&third, Some(other.path())).register().await.unwrap_err();
    assert!(matches!(refused, RegisterError::IdInUse { .. }), "{refused}");
    assert!(begin.elapsed() >= SESSION);
    assert_eq!(outside(|| zookeeper.node(&broker_ids::path(BrokerId(5)))).unwrap().1, after.get());
    first.close().await;
    assert!(
        outside(|| zookeeper.read(&broker_ids::path(BrokerId(5)))).is_some(),
        "the dead session's end takes nothing away"
    );
    second.close().await;
    assert!(outside(|| zookeeper.read(&broker_ids::path(BrokerId(5)))).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_broker_registers_anew() {
    let zookeeper = ZooKeeper::single();
    let folder = tempfile::tempdir().unwrap();
    let zk = connect(&zookeeper.connect()).await;
    create_persistent_paths(&zk).await.unwrap();
    let registration = registration(&zk, Some(folder.path()));
    let first = registration.register().await.unwrap();
    tokio::spawn(registration.clone().keep());
    let mut epoch = registration.epoch();
    outside(|| expire(&zookeeper.connect(), zk.session_id().unwrap()));
    let begin = Instant::now();
    let second = epoch.wait_for(|epoch| epoch.is_some_and(|epoch| epoch > first)).await.unwrap().unwrap();
    assert!(begin.elapsed() < SESSION, "registered anew after {:?}", begin.elapsed());
    assert_eq!(outside(|| zookeeper.node(&broker_ids::path(BrokerId(5)))).unwrap().1, second.get());
}
