//! The last offset of each key of the part of a log that is being compacted (`SkimpyOffsetMap`): an open-addressing table
//! over hashes of the keys, so that its memory is bounded by the number of keys and not by their length.
//!
//! A slot has 24 bytes as in the original, 16 of hash and 8 of offset, so the same memory holds the same number of keys. Two
//! keys of one hash would be taken for one key, and the older one's value be lost. The hash has 128 bits: among the
//! 5 million keys that the default of 128 MB holds, two meet with a probability of about 2^-84, so that a broker that fills
//! the table each second would wait for some 10^17 years. It is not a cryptographic hash, but neither is the original's MD5
//! any more, for which anyone can make two keys that meet; here each cleaning takes a seed of its own that nobody can know.
//!
//! Invariant: what is asked for in one call is looked up together, so that the waits for memory overlap. The table is mapped
//! for one cleaning, no larger than that needs, and given back to the system afterwards.

use std::io;

use memmap2::MmapMut;
use twox_hash::XxHash3_128;

use crate::base::ids::Offset;

/// Bytes of a slot.
pub const SLOT: usize = 24;
/// So many look-ups wait for memory at the same time.
const AT_ONCE: usize = 32;

/// Hashes keys under one cleaning's seed.
#[derive(Debug, Clone, Copy)]
pub struct KeyHasher {
    seed: u64,
}

impl KeyHasher {
    /// A hasher with a seed of its own, by chance.
    pub fn random() -> Self {
        Self { seed: rand::random() }
    }

    /// The key's hash.
    #[inline]
    pub fn hash(self, key: &[u8]) -> u128 {
        XxHash3_128::oneshot_with_seed(self.seed, key)
    }
}

/// A key's hash and the offset of a record that has it.
pub type KeyOffset = (u128, Offset);

/// Keys' hashes to their last offsets.
#[derive(Debug)]
pub struct OffsetMap {
    /// Slots: hash (16 bytes), offset plus one (8); all zero where there is none.
    slots: MmapMut,
    count: usize,
    len: usize,
    most: usize,
    latest: Offset,
}

impl OffsetMap {
    /// A table of at most `budget` bytes that takes `keys` keys, or as many of them as fit when it is filled to
    /// `load_factor`.
    ///
    /// # Errors
    /// If the system gives no memory.
    pub fn new(budget: u64, load_factor: f64, keys: u64) -> io::Result<Self> {
        // One slot stays empty, where every search ends.
        let slots = (budget / SLOT as u64).max(2);
        let fill = |slots: u64| fraction(slots, load_factor);
        // Room for all keys at a lower filling than is allowed, as that is faster, if there is so much.
        let wanted = keys.saturating_add(keys / 2).saturating_add(16);
        let slots = if fill(wanted) as u64 >= keys { slots.min(wanted) } else { slots };
        let count = usize::try_from(slots).unwrap_or(usize::MAX / SLOT);
        let map = MmapMut::map_anon(count * SLOT)?;
        // Fewer misses of the address translation. Where the system has no large pages it goes without.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { slots: map, count, len: 0, most: fill(slots), latest: Offset::UNKNOWN })
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many keys it takes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes of memory it may use.
    pub fn bytes(&self) -> usize {
        self.count * SLOT
    }

    /// Up to where the log's keys are in it; nothing is known of what lies behind.
    pub fn latest_offset(&self) -> Offset {
        self.latest
    }

    /// Notes that all keys up to `offset` are in it.
    pub fn update_latest_offset(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// Notes that the keys were seen at these offsets, in this order. `false` if it became full on the way; the keys
    /// before the one that found no room are in it.
    pub fn put_all(&mut self, keys: &[KeyOffset]) -> bool {
        keys.chunks(AT_ONCE).all(|some| {
            self.touch(some.iter().map(|(hash, _)| *hash));
            some.iter().all(|(hash, offset)| self.put(*hash, *offset))
        })
    }

    /// Appends to `found` the last offset of each key, [`Offset::UNKNOWN`] where there is none.
    pub fn get_all(&self, hashes: &[u128], found: &mut Vec<Offset>) {
        for some in hashes.chunks(AT_ONCE) {
            self.touch(some.iter().copied());
            found.extend(some.iter().map(|hash| self.get(*hash)));
        }
    }

    /// Brings the slots that a search begins at near: loads that do not depend on each other overlap.
    fn touch(&self, hashes: impl Iterator<Item = u128>) {
        let mut all = 0;
        for hash in hashes {
            all |= self.slots[self.home(hash) * SLOT];
        }
        std::hint::black_box(all);
    }

    fn put(&mut self, hash: u128, offset: Offset) -> bool {
        let value = stored(offset);
        let mut at = self.home(hash);
        loop {
            let slot = &mut self.slots[at * SLOT..][..SLOT];
            let (known, known_hash) = read(slot);
            if known == 0 {
                if self.len >= self.most {
                    return false;
                }
                slot[..16].copy_from_slice(&hash.to_ne_bytes());
                slot[16..].copy_from_slice(&value.to_ne_bytes());
                self.len += 1;
                return true;
            }
            if known_hash == hash {
                slot[16..].copy_from_slice(&value.to_ne_bytes());
                return true;
            }
            at = self.after(at);
        }
    }

    fn get(&self, hash: u128) -> Offset {
        let mut at = self.home(hash);
        loop {
            let (known, known_hash) = read(&self.slots[at * SLOT..][..SLOT]);
            if known == 0 {
                return Offset::UNKNOWN;
            }
            if known_hash == hash {
                return Offset((known - 1).cast_signed());
            }
            at = self.after(at);
        }
    }

    /// Where the search for a hash begins: its upper half, scaled to the number of slots.
    fn home(&self, hash: u128) -> usize {
        let scaled = (hash >> 64) * self.count as u128;
        usize::try_from(scaled >> 64).unwrap_or(0)
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.count { 0 } else { at + 1 }
    }
}

/// An offset as a slot has it, where 0 means that there is none.
fn stored(offset: Offset) -> u64 {
    offset.get().cast_unsigned().wrapping_add(1)
}

fn read(slot: &[u8]) -> (u64, u128) {
    let (mut hash, mut offset) = ([0; 16], [0; 8]);
    hash.copy_from_slice(&slot[..16]);
    offset.copy_from_slice(&slot[16..SLOT]);
    (u64::from_ne_bytes(offset), u128::from_ne_bytes(hash))
}

/// So many of `slots` may be filled: at least one, and one fewer than there are, where every search ends.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn fraction(slots: u64, load_factor: f64) -> usize {
    let filled = (slots as f64 * load_factor) as u64;
    usize::try_from(filled.clamp(1, slots.saturating_sub(1).max(1))).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(puts in prop::collection::vec((0_u16..300, 0_i64..1 << 40), 0..600), asked in prop::collection::vec(0_u16..400, 1..80)) {
            let hasher = KeyHasher::random();
            let mut map = OffsetMap::new(1 << 20, 0.9, 300).expect("memory");
            let mut model = HashMap::new();
            for (key, offset) in &puts {
                prop_assert!(map.put_all(&[(hasher.hash(&key.to_be_bytes()), Offset(*offset))]));
                model.insert(*key, Offset(*offset));
            }
            prop_assert_eq!(map.len(), model.len());
            let hashes: Vec<u128> = asked.iter().map(|key| hasher.hash(&key.to_be_bytes())).collect();
            let mut found = Vec::new();
            map.get_all(&hashes, &mut found);
            let expected: Vec<Offset> = asked.iter().map(|key| model.get(key).copied().unwrap_or(Offset::UNKNOWN)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn it_takes_as_many_keys_as_the_original_and_no_more() {
        let hasher = KeyHasher::random();
        for (budget, load_factor, expected) in [(24_000, 0.9, 900), (24_000, 0.5, 500), (48, 0.9, 1), (240, 1.0, 9)] {
            let mut map = OffsetMap::new(budget, load_factor, u64::MAX).expect("memory");
            assert_eq!((map.most(), map.bytes() as u64), (expected, budget));
            let keys: Vec<KeyOffset> =
                (0..=expected as u64).map(|n| (hasher.hash(&n.to_be_bytes()), Offset(n as i64))).collect();
            assert!(map.put_all(&keys[..expected]), "{budget} bytes");
            assert!(!map.put_all(&keys), "{budget} bytes");
            assert!(map.put_all(&keys[..expected]), "known keys need no room");
            assert_eq!(map.len(), expected);
        }
        let small = OffsetMap::new(128 << 20, 0.9, 1000).expect("memory");
        assert!(small.bytes() < 40_000 && small.most() >= 1000, "{} bytes for 1,000 keys", small.bytes());
    }

    #[test]
    fn offset_zero_is_an_offset() {
        let mut map = OffsetMap::new(1000, 0.9, 10).expect("memory");
        map.put_all(&[(0, Offset(0))]);
        let mut found = Vec::new();
        map.get_all(&[0, 1], &mut found);
        assert_eq!(found, [Offset(0), Offset::UNKNOWN]);
    }
}
