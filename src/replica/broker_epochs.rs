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
    /// The newest life of each broker that was seen to be gone, without another in its place.
    gone: RwLock<BTreeMap<BrokerId, BrokerEpoch>>, // likewise; bounded by the brokers' ids
}

impl BrokerEpochs {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All registrations as they are now.
    pub fn set(&self, epochs: BTreeMap<BrokerId, BrokerEpoch>) {
        let mut known = self.known.write();
        let ended = known.iter().flatten().filter(|(id, _)| !epochs.contains_key(id)).map(|(id, epoch)| (*id, *epoch));
        self.gone.write().extend(ended);
        *known = Some(epochs);
    }

    /// Whether that life of `broker` was seen to have ended. Of one that does not tell its epoch: whether it is gone.
    pub fn is_over(&self, broker: BrokerId, life: BrokerEpoch) -> bool {
        let known = self.known.read();
        let registered = known.as_ref().and_then(|known| known.get(&broker).copied());
        if life == BrokerEpoch::NONE {
            return known.is_some() && registered.is_none();
        }
        let newest = registered.map(BrokerEpoch::get).max(self.gone.read().get(&broker).map(|gone| gone.get() + 1));
        newest.is_some_and(|newest| life.get() < newest)
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

    fn is_over(&self, broker: BrokerId, life: BrokerEpoch) -> bool {
        self.epochs.is_over(broker, life)
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

    #[test]
    fn a_life_is_over_once_it_was_seen_to_be() {
        let (epochs, two) = (BrokerEpochs::new(), BrokerId(2));
        epochs.set(BTreeMap::new());
        assert!(!epochs.is_over(two, BrokerEpoch(9)), "it may not have been seen yet");
        epochs.set([(two, BrokerEpoch(9))].into());
        assert!(!epochs.is_over(two, BrokerEpoch(9)) && epochs.is_over(two, BrokerEpoch(8)));
        assert!(!epochs.is_over(two, BrokerEpoch::NONE), "nobody knows which");
        epochs.set(BTreeMap::new());
        assert!(epochs.is_over(two, BrokerEpoch::NONE));
        assert!(epochs.is_over(two, BrokerEpoch(9)) && !epochs.is_over(two, BrokerEpoch(10)));
        epochs.set([(two, BrokerEpoch(12))].into());
        assert!(epochs.is_over(two, BrokerEpoch(9)) && !epochs.is_over(two, BrokerEpoch(12)));
    }
}
