//! Producer ids, unique in the cluster (KIP-98): brokers take blocks of a thousand from ZooKeeper's
//! `/latest_producer_id_block` and give them out one by one (`ZkProducerIdManager`).

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ids::{BrokerId, ProducerId};
use crate::zk::client::ZkClient;
use crate::zk::error::ZkError;
use crate::zk::znodes::cluster::{PRODUCER_ID_BLOCK_PATH, ProducerIdBlock};

/// How many ids a block has.
const BLOCK_SIZE: i64 = 1000;
/// How often another broker may take the block first before giving up.
const ATTEMPTS: usize = 10;

/// What taking a block gives.
pub type BlockFuture<'a> = Pin<Box<dyn Future<Output = Result<Range<i64>, String>> + Send + 'a>>;

/// Where blocks come from: ZooKeeper, or a test's hands.
pub trait BlockSource: Send + Sync {
    /// A block that nobody else has.
    fn next_block(&self) -> BlockFuture<'_>;
}

/// Gives out producer ids.
pub struct ProducerIds {
    source: Arc<dyn BlockSource>,
    /// What is left of the block. Held while a new block is taken, so that two requests do not take one each.
    left: tokio::sync::Mutex<Range<i64>>,
    /// How often no block could be had.
    failures: AtomicU64,
}

impl ProducerIds {
    /// Ids out of the blocks of `source`; the first is taken when the first id is asked for.
    pub fn new(source: Arc<dyn BlockSource>) -> Self {
        Self { source, left: tokio::sync::Mutex::new(0..0), failures: AtomicU64::new(0) }
    }

    /// A producer id that nobody had before; an error says why no block could be had.
    pub async fn generate(&self) -> Result<ProducerId, String> {
        let failures = self.failures.load(Ordering::SeqCst);
        let mut left = self.left.lock().await;
        if left.is_empty() {
            // Many may have waited while the source did not answer: they are not to wait one after the other.
            if self.failures.load(Ordering::SeqCst) != failures {
                return Err("another request waited for a block of producer ids in vain".to_owned());
            }
            match self.source.next_block().await {
                Ok(block) => *left = block,
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::SeqCst);
                    return Err(error);
                }
            }
        }
        left.next().map(ProducerId).ok_or_else(|| "the block of producer ids was empty".to_owned())
    }
}

/// Blocks out of ZooKeeper.
pub struct ZkBlocks {
    zk: ZkClient,
    broker: BrokerId,
}

impl ZkBlocks {
    /// Blocks for `broker`.
    pub fn new(zk: ZkClient, broker: BrokerId) -> Self {
        Self { zk, broker }
    }

    /// One try; `None` if another broker was faster.
    async fn try_next(&self) -> Result<Option<Range<i64>>, String> {
        let node = self.zk.find(PRODUCER_ID_BLOCK_PATH).await.map_err(text)?;
        let start = match &node {
            Some(node) if !node.data.is_empty() => ProducerIdBlock::decode(&node.data).map_err(text)?.end + 1,
            _ => 0,
        };
        let end = start.checked_add(BLOCK_SIZE - 1).ok_or("all producer ids have been given out")?;
        let data = ProducerIdBlock { broker: self.broker.get(), start, end }.encode();
        let written = match &node {
            Some(node) => self.zk.set(PRODUCER_ID_BLOCK_PATH, &data, Some(node.stat.version)).await.map(drop),
            None => self.zk.create_recursive(PRODUCER_ID_BLOCK_PATH, &data).await,
        };
        match written {
            Ok(()) => Ok(Some(start..end + 1)),
            Err(ZkError::BadVersion | ZkError::NodeExists | ZkError::NoNode) => Ok(None),
            Err(error) => Err(text(error)),
        }
    }
}

impl BlockSource for ZkBlocks {
    fn next_block(&self) -> BlockFuture<'_> {
        Box::pin(async {
            for _ in 0..ATTEMPTS {
                if let Some(block) = self.try_next().await? {
                    tracing::info!("took the producer ids {} to {}", block.start, block.end - 1);
                    return Ok(block);
                }
            }
            Err("other brokers were always faster in taking a block of producer ids".to_owned())
        })
    }
}

fn text(error: ZkError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;
    use std::time::Duration;

    use crate::zk::memory::MemoryZk;

    struct Counted(AtomicI64);

    impl BlockSource for Counted {
        fn next_block(&self) -> BlockFuture<'_> {
            let start = self.0.fetch_add(2, Ordering::Relaxed);
            Box::pin(std::future::ready(Ok(start..start + 2)))
        }
    }

    #[tokio::test]
    async fn ids_go_on_from_block_to_block() {
        let ids = ProducerIds::new(Arc::new(Counted(AtomicI64::new(0))));
        for expected in 0..5 {
            assert_eq!(ids.generate().await, Ok(ProducerId(expected)));
        }
    }

    /// A source that answers when it is told to: an error each time but the third.
    #[derive(Default)]
    struct Held {
        told: tokio::sync::Notify,
        asked: AtomicI64,
    }

    impl BlockSource for Held {
        fn next_block(&self) -> BlockFuture<'_> {
            Box::pin(async {
                let asked = self.asked.fetch_add(1, Ordering::SeqCst);
                self.told.notified().await;
                if asked == 2 { Ok(0..10) } else { Err("nobody answers".to_owned()) }
            })
        }
    }

    #[tokio::test]
    async fn those_who_wait_together_are_refused_together() {
        let source = Arc::new(Held::default());
        let ids = ProducerIds::new(Arc::clone(&source) as Arc<dyn BlockSource>);
        for asked in 1..=2 {
            let all = futures::future::join_all((0..5).map(|_| ids.generate()));
            let (given, ()) = tokio::join!(all, async { source.told.notify_one() });
            assert!(given.iter().all(Result::is_err), "{given:?}");
            assert_eq!(source.asked.load(Ordering::SeqCst), asked);
        }
        let all = futures::future::join_all((0..5).map(|_| ids.generate()));
        let (given, ()) = tokio::join!(all, async { source.told.notify_one() });
        assert!(given.iter().all(Result::is_ok), "{given:?}");
    }

    #[tokio::test]
    async fn two_brokers_share_no_id() {
        let ensemble = Arc::new(MemoryZk::new());
        let zk = ZkClient::connect(ensemble, Duration::from_secs(1)).await.expect("connected");
        let one = ProducerIds::new(Arc::new(ZkBlocks::new(zk.clone(), BrokerId(1))));
        let two = ProducerIds::new(Arc::new(ZkBlocks::new(zk.clone(), BrokerId(2))));
        assert_eq!(one.generate().await, Ok(ProducerId(0)));
        assert_eq!(two.generate().await, Ok(ProducerId(1000)));
        assert_eq!(one.generate().await, Ok(ProducerId(1)));
        let node = zk.get(PRODUCER_ID_BLOCK_PATH).await.expect("the node");
        assert_eq!(ProducerIdBlock::decode(&node.data).expect("a block").end, 1999);
    }
}
