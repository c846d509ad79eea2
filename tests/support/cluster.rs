//! A broker beside a ZooKeeper, ready to serve: by itself for a test that breaks it, or shared by the tests of a binary.

use super::PATIENCE;
use super::broker::{Broker, Kind};
use super::zookeeper::ZooKeeper;
use std::sync::OnceLock;

pub struct Cluster {
    pub broker: Broker,
    pub zookeeper: ZooKeeper,
}

impl Cluster {
    pub fn start(kind: Kind) -> Cluster {
        Cluster::with(kind, |_| {})
    }

    /// `adjust` sets configuration before the start.
    pub fn with(kind: Kind, adjust: impl FnOnce(&mut Broker)) -> Cluster {
        let zookeeper = ZooKeeper::single();
        let mut broker = Broker::new(kind, &zookeeper.connect());
        adjust(&mut broker);
        broker.start();
        Cluster { broker, zookeeper }
    }

    /// kill -9 and at once a second start. A JVM broker cannot do that: it must wait until its old session has ended.
    pub fn kill_and_start(&mut self) {
        self.broker.kill();
        if self.broker.kind != Kind::Barnabas {
            self.wait_unregistered();
        }
        self.broker.start();
    }

    /// Waits until ZooKeeper has ended the session of a killed broker.
    pub fn wait_unregistered(&self) {
        for path in ["/brokers/ids/0", "/controller"] {
            assert!(self.zookeeper.gone_within(path, PATIENCE), "{path} stays");
        }
    }

    /// A broker of the kind under test that many tests use at the same time; nobody stops or breaks it.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start(Kind::under_test()))
    }
}
