//! A hash index that keeps a slot number per key instead of a copy of the key.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// The number of a slot in a store's table.
pub type Slot = u32;

/// Keys to slots. The owner compares keys, because only its table holds them.
#[derive(Debug, Default)]
pub struct Index {
    table: HashTable<(u32, Slot)>,
    hasher: RandomState,
}

impl Index {
    /// Finds the slot of `key`; `is_equal` tells whether a slot holds exactly that key.
    pub fn find(&self, key: &str, is_equal: impl Fn(Slot) -> bool) -> Option<Slot> {
        let hash = self.hash(key);
        self.table
            .find(spread(hash), |(other, slot)| {
                *other == hash && is_equal(*slot)
            })
            .map(|(_, slot)| *slot)
    }

    /// Adds a key that is not there.
    pub fn insert(&mut self, key: &str, slot: Slot) {
        let hash = self.hash(key);
        self.table
            .insert_unique(spread(hash), (hash, slot), |(hash, _)| spread(*hash));
    }

    /// Removes the entry of `key` that names `slot`.
    pub fn remove(&mut self, key: &str, slot: Slot) {
        let hash = self.hash(key);
        if let Ok(entry) = self
            .table
            .find_entry(spread(hash), |entry| *entry == (hash, slot))
        {
            entry.remove();
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "half a hash is a hash")]
    fn hash(&self, key: &str) -> u32 {
        self.hasher.hash_one(key) as u32
    }
}

/// The table reads both ends of a 64-bit hash: fills both from the 32 bits that are kept.
const fn spread(hash: u32) -> u64 {
    ((hash as u64) << 32 | hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..50), 0..400)) {
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            for (add, n) in steps {
                let key = format!("key{n}");
                if add && !model.contains_key(&key) {
                    index.insert(&key, n);
                    model.insert(key, n);
                } else if !add {
                    index.remove(&key, n);
                    model.remove(&key);
                }
            }
            for n in 0..50 {
                let key = format!("key{n}");
                prop_assert_eq!(index.find(&key, |slot| slot == n), model.get(&key).copied());
            }
        }
    }
}
