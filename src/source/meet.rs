//! Rows whose hashes meet, found without sorting all of them.
//!
//! Two bits for each of many places tell which hashes may come twice: a look at all entries sets
//! them, a second look picks those few and sorts them. What does not fit in memory waits in one
//! temporary file: hashes and row numbers, nothing of a person.

use super::error::SourceError;
use super::sorter::{Entry as _, Sorted, Sorter};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

/// `(hash, row)`: what the one pass keeps.
pub(super) type Seen = (u64, u32);

/// Entries written or read at once.
const PIECE_ENTRIES: usize = 16 << 10;

/// Places for every entry: one in eight entries is sorted for nothing.
const PLACES_EACH: usize = 8;

/// Places at most: 32 MiB, a place for ten million entries each and some more.
const PLACES_MAX: usize = 1 << 27;

/// Places in a word.
const PLACES_WORD: usize = 32;

/// Collects entries in any order.
pub(super) struct Meet {
    held: Vec<Seen>,
    held_max: usize,
    bytes_max: usize,
    spill: Option<File>,
    /// Entries in the file.
    away: usize,
}

impl Meet {
    /// Makes a collector that keeps at most `bytes_max` bytes of entries in memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            held: Vec::new(),
            held_max: (bytes_max / size_of::<Seen>()).max(1),
            bytes_max,
            spill: None,
            away: 0,
        }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, hash: u64, row: u32) -> Result<(), SourceError> {
        if self.held.len() >= self.held_max {
            self.write().map_err(SourceError::Spill)?;
        }
        self.held.push((hash, row));
        Ok(())
    }

    /// Moves what is in memory to the file.
    fn write(&mut self) -> io::Result<()> {
        let file = match &mut self.spill {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let mut bytes = Vec::with_capacity(PIECE_ENTRIES * Seen::BYTES);
        for piece in self.held.chunks(PIECE_ENTRIES) {
            bytes.clear();
            for entry in piece {
                entry.put(&mut bytes);
            }
            file.write_all(&bytes)?;
        }
        self.away += self.held.len();
        self.held.clear();
        Ok(())
    }

    /// Returns the rows whose hash another row has too, ascending; two of them may still be
    /// strangers.
    pub(super) fn finish(self, bytes_max: usize) -> Result<Sorted<u32>, SourceError> {
        let mut places = Places::new(self.away + self.held.len());
        self.each(|(hash, _)| {
            places.note(hash);
            Ok(())
        })?;
        let mut may_meet = Sorter::new(self.bytes_max);
        self.each(|(hash, row)| {
            if places.is_shared(hash) {
                may_meet.push((hash, row))
            } else {
                Ok(())
            }
        })?;
        // What follows wants the room.
        drop(places);
        drop(self);
        not_alone(may_meet.finish()?, bytes_max)
    }

    /// Shows every entry.
    fn each(
        &self,
        mut visit: impl FnMut(Seen) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        if let Some(file) = &self.spill {
            let mut bytes = vec![0; PIECE_ENTRIES * Seen::BYTES];
            let end = self.away * Seen::BYTES;
            for offset in (0..end).step_by(bytes.len()) {
                let length = bytes.len().min(end - offset);
                let piece = bytes.get_mut(..length).unwrap_or_default();
                file.read_exact_at(piece, offset as u64)
                    .map_err(SourceError::Spill)?;
                let mut rest: &[u8] = piece;
                while let Some(entry) = Seen::take(&mut rest) {
                    visit(entry)?;
                }
            }
        }
        self.held.iter().copied().try_for_each(visit)
    }
}

/// For every place, whether a hash fell on it: `00` none, `01` one, `11` more.
struct Places {
    words: Vec<u64>,
    /// The first bits of a hash choose the place: it is what this shift leaves.
    shift: u32,
}

impl Places {
    fn new(entries: usize) -> Self {
        let places = entries.saturating_mul(PLACES_EACH).next_power_of_two();
        let places = places.clamp(PLACES_WORD, PLACES_MAX);
        Self {
            words: vec![0; places / PLACES_WORD],
            shift: u64::BITS - places.ilog2(),
        }
    }

    /// Returns the index of a place's word, and where its bits are in it.
    fn find(&self, hash: u64) -> (usize, u64) {
        let place = usize::try_from(hash >> self.shift).unwrap_or_default();
        (place / PLACES_WORD, (place % PLACES_WORD) as u64 * 2)
    }

    fn note(&mut self, hash: u64) {
        let (word, bit) = self.find(hash);
        if let Some(word) = self.words.get_mut(word) {
            let before = *word >> bit & 1;
            *word |= (1 | before << 1) << bit;
        }
    }

    fn is_shared(&self, hash: u64) -> bool {
        let (word, bit) = self.find(hash);
        self.words.get(word).is_some_and(|word| word >> bit & 2 != 0)
    }
}

/// Returns the rows whose hash another row has too, ascending.
fn not_alone(seen: Sorted<Seen>, bytes_max: usize) -> Result<Sorted<u32>, SourceError> {
    let mut rows = Sorter::new(bytes_max);
    let mut before: Option<Seen> = None;
    let mut before_is_in = false;
    for entry in seen {
        let (hash, row) = entry?;
        let met = before.filter(|(other, _)| *other == hash);
        if let Some((_, other)) = met {
            if !before_is_in {
                rows.push(other)?;
            }
            rows.push(row)?;
        }
        before_is_in = met.is_some();
        before = Some((hash, row));
    }
    rows.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn met(hashes: &[u64], bytes_max: usize) -> Vec<u32> {
        let mut meet = Meet::new(bytes_max);
        for (row, hash) in (1..).zip(hashes) {
            meet.push(*hash, row).unwrap();
        }
        let rows = meet.finish(bytes_max).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn naive(hashes: &[u64]) -> Vec<u32> {
        let often = |hash: &u64| hashes.iter().filter(|other| *other == hash).count() > 1;
        let rows = (1..).zip(hashes).filter(|(_, hash)| often(hash));
        rows.map(|(row, _)| row).collect()
    }

    /// Hashes of few places, some of them equal.
    fn hashes() -> impl Strategy<Value = Vec<u64>> {
        let hash = (0_u64..3, 0_u64..40, 0_u64..3);
        let hash = hash.prop_map(|(place, low, high)| (place << 62) | (high << 30) | low);
        prop::collection::vec(hash, 0..200)
    }

    proptest! {
        #[test]
        fn those_that_meet_are_found_whatever_fits_in_memory(
            hashes in hashes(),
            bytes_max in prop_oneof![1_usize..3000, Just(1 << 20)],
        ) {
            prop_assert_eq!(met(&hashes, bytes_max), naive(&hashes));
        }
    }

    #[test]
    fn zero_is_a_hash_like_any_other() {
        assert_eq!(met(&[0, 5, 0], 1 << 20), [1, 3]);
        assert_eq!(met(&[0, 5, 7], 1 << 20), [0_u32; 0]);
    }

    #[test]
    fn one_hash_in_every_row_is_sorted_in_pieces() {
        let hashes = vec![1 << 60; 40_000];
        let all: Vec<u32> = (1..=40_000).collect();
        assert_eq!(met(&hashes, 64 << 10), all);
    }
}
