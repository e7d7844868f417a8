//! Rows whose hashes meet, found without sorting all of them.
//!
//! Two bits for each of many places tell which hashes may come twice: a look at all entries sets
//! them, a second look picks those few and sorts them. What does not fit in memory waits in one
//! temporary file, hashes and row numbers, nothing of a person; there the entries are kept in parts
//! by the first bits of their hash, so that the places of one part stay in the processor's cache.

use super::error::SourceError;
use super::sorter::{Entry as _, Sorted, Sorter};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

/// `(hash, row)`: what the one pass keeps.
pub(super) type Seen = (u64, u32);

/// Bits of a hash that choose its part of the file.
const PART_BITS: u32 = 4;

/// Entries read at once.
const PIECE_ENTRIES: usize = 16 << 10;

/// Places for every entry: one in eight entries is sorted for nothing.
const PLACES_EACH: usize = 8;

/// Places at most: 16 MiB, enough for ten million entries of one part.
const PLACES_MAX: usize = 1 << 26;

/// Places in a word.
const PLACES_WORD: usize = 32;

/// Collects entries in any order.
pub(super) struct Meet {
    held: Vec<Seen>,
    held_max: usize,
    bytes_max: usize,
    spill: Option<Spill>,
}

/// Entries in a file, part by part.
struct Spill {
    file: File,
    /// How much of the file is written.
    end: u64,
    parts: Vec<Vec<Piece>>,
}

/// Some entries of one part.
struct Piece {
    offset: u64,
    bytes: usize,
}

impl Meet {
    /// Makes a collector that keeps at most `bytes_max` bytes of entries in memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            held: Vec::new(),
            held_max: (bytes_max / size_of::<Seen>()).max(1),
            bytes_max,
            spill: None,
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
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::new()?),
        };
        spill.write(&self.held)?;
        self.held.clear();
        Ok(())
    }

    /// Returns the rows whose hash another row has too, ascending; two of them may still be
    /// strangers.
    pub(super) fn finish(mut self, bytes_max: usize) -> Result<Sorted<u32>, SourceError> {
        let mut rows = Sorter::new(bytes_max);
        if self.spill.is_some() {
            self.write().map_err(SourceError::Spill)?;
        }
        let Some(spill) = self.spill else {
            meet(&self.held[..], 0, self.bytes_max, &mut rows)?;
            return rows.finish();
        };
        self.held = Vec::new();
        for part in &spill.parts {
            meet(
                (&spill.file, &part[..]),
                PART_BITS,
                self.bytes_max,
                &mut rows,
            )?;
        }
        rows.finish()
    }
}

impl Spill {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            end: 0,
            parts: std::iter::repeat_with(Vec::new)
                .take(1 << PART_BITS)
                .collect(),
        })
    }

    fn write(&mut self, entries: &[Seen]) -> io::Result<()> {
        let usual = (entries.len() >> PART_BITS) * Seen::BYTES;
        let mut parts: Vec<Vec<u8>> = self
            .parts
            .iter()
            .map(|_| Vec::with_capacity(usual + usual / 8))
            .collect();
        for entry in entries {
            let part = usize::try_from(entry.0 >> (u64::BITS - PART_BITS)).unwrap_or_default();
            if let Some(part) = parts.get_mut(part) {
                entry.put(part);
            }
        }
        for (bytes, pieces) in parts.iter().zip(&mut self.parts) {
            self.file.write_all(bytes)?;
            pieces.push(Piece {
                offset: self.end,
                bytes: bytes.len(),
            });
            self.end += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Entries that can be looked at more than once.
trait Entries: Copy {
    /// Returns how many there are.
    fn count(self) -> usize;
    /// Shows every one.
    fn each(self, visit: impl FnMut(Seen) -> Result<(), SourceError>) -> Result<(), SourceError>;
}

impl Entries for &[Seen] {
    fn count(self) -> usize {
        self.len()
    }

    fn each(self, visit: impl FnMut(Seen) -> Result<(), SourceError>) -> Result<(), SourceError> {
        self.iter().copied().try_for_each(visit)
    }
}

/// One part of a file.
impl Entries for (&File, &[Piece]) {
    fn count(self) -> usize {
        let bytes: usize = self.1.iter().map(|piece| piece.bytes).sum();
        bytes / Seen::BYTES
    }

    fn each(
        self,
        mut visit: impl FnMut(Seen) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let (file, pieces) = self;
        let mut bytes = vec![0; PIECE_ENTRIES * Seen::BYTES];
        for piece in pieces {
            for offset in (0..piece.bytes).step_by(bytes.len()) {
                let length = bytes.len().min(piece.bytes - offset);
                let block = bytes.get_mut(..length).unwrap_or_default();
                file.read_exact_at(block, piece.offset + offset as u64)
                    .map_err(SourceError::Spill)?;
                let mut rest: &[u8] = block;
                while let Some(entry) = Seen::take(&mut rest) {
                    visit(entry)?;
                }
            }
        }
        Ok(())
    }
}

/// Adds the rows whose hash another row has too; the first `skip` bits of all hashes are equal.
fn meet(
    entries: impl Entries,
    skip: u32,
    bytes_max: usize,
    rows: &mut Sorter<u32>,
) -> Result<(), SourceError> {
    let mut places = Places::new(entries.count(), skip);
    entries.each(|(hash, _)| {
        places.note(hash);
        Ok(())
    })?;
    let mut may_meet = Sorter::new(bytes_max);
    entries.each(|(hash, row)| {
        if places.is_shared(hash) {
            may_meet.push((hash, row))
        } else {
            Ok(())
        }
    })?;
    // What follows wants the room.
    drop(places);
    not_alone(may_meet.finish()?, rows)
}

/// For every place, whether a hash fell on it: `00` none, `01` one, `11` more.
struct Places {
    words: Vec<u64>,
    skip: u32,
    shift: u32,
}

impl Places {
    /// Makes places for that many entries; a hash's bits after the first `skip` choose its place.
    fn new(entries: usize, skip: u32) -> Self {
        let places = entries.saturating_mul(PLACES_EACH).next_power_of_two();
        let places = places.clamp(PLACES_WORD, PLACES_MAX);
        Self {
            words: vec![0; places / PLACES_WORD],
            skip,
            shift: u64::BITS - places.ilog2(),
        }
    }

    /// Returns the index of a place's word, and where its bits are in it.
    fn find(&self, hash: u64) -> (usize, u64) {
        let place = usize::try_from((hash << self.skip) >> self.shift).unwrap_or_default();
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
        self.words
            .get(word)
            .is_some_and(|word| word >> bit & 2 != 0)
    }
}

/// Adds the rows whose hash another row has too.
fn not_alone(seen: Sorted<Seen>, rows: &mut Sorter<u32>) -> Result<(), SourceError> {
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
    Ok(())
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
