//! Which life each broker is in: the czxid of its registration, as the server's watch on `/brokers/ids` last read it
//! (UpdateMetadata does not tell). With the metadata cache it decides who may be in an ISR (KIP-903).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::isr::IsrEligibility;
use super::metadata_cache::MetadataCache;
use crate::base::ids::{BrokerEpoch, BrokerId};

/// The epochs of the registered brokers. Written by whoever watches the registrations.
#[derive(Debug, Default)]
pub struct BrokerEpochs {
    known: RwLock<Option<BTreeMap<BrokerId, BrokerEpoch>>>, // locked for a look only
}

impl BrokerEpochs {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All registrations as they are now.
    pub fn set(&self, epochs: BTreeMap<BrokerId, BrokerEpoch>) {
        *self.known.write() = Some(epochs);
    }

    /// Whether a fetch of `broker` in the life `fetched_in` is of its present life. Without a watch, or from a broker that
    /// does not tell its epoch (Fetch below v15), any is. A life that is newer than what the watch has seen counts: the
    /// watch lags behind, never ahead.
    pub fn is_present_life(&self, broker: BrokerId, fetched_in: BrokerEpoch) -> bool {
        let known = self.known.read();
        match known.as_ref() {
            None => true,
            Some(_) if fetched_in == BrokerEpoch::NONE => true,
            Some(epochs) => epochs.get(&broker).is_none_or(|registered| fetched_in >= *registered),
        }
    }
}

/// A broker may be in an ISR if the controller calls it alive, and if it fetched in its present life.
pub struct LiveBrokers {
    /// Who is alive.
    pub metadata: Arc<MetadataCache>,
    /// In which life.
    pub epochs: Arc<BrokerEpochs>,
}

impl IsrEligibility for LiveBrokers {
    fn is_eligible(&self, broker: BrokerId, fetched_in: BrokerEpoch) -> bool {
        self.metadata.snapshot().broker(broker).is_some() && self.epochs.is_present_life(broker, fetched_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_life_does_not_count() {
        let (epochs, two) = (BrokerEpochs::new(), BrokerId(2));
        assert!(epochs.is_present_life(two, BrokerEpoch(5)), "nobody watches");
        epochs.set([(two, BrokerEpoch(9))].into());
        assert!(!epochs.is_present_life(two, BrokerEpoch(5)));
        assert!(epochs.is_present_life(two, BrokerEpoch(9)));
        assert!(epochs.is_present_life(two, BrokerEpoch(12)), "the watch lags");
        assert!(epochs.is_present_life(two, BrokerEpoch::NONE), "a broker before KIP-903");
        assert!(epochs.is_present_life(BrokerId(3), BrokerEpoch(1)), "the watch has not seen it yet");
    }
}
