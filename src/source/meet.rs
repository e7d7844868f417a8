//! Rows whose hashes meet, found without sorting all of them.
//!
//! Entries are kept in parts by the first bits of their hash, so that what is looked up for one
//! part stays in the processor's cache. There two bits for each of many places tell which hashes
//! may come twice: a look at all entries sets them, a second look picks those few and sorts them.
//! What does not fit in memory waits in one temporary file, hashes and row numbers, nothing of a
//! person.

use super::error::SourceError;
use super::sorter::{Entry as _, Sorted, Sorter};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

/// `(hash, row)`: what the one pass keeps.
pub(super) type Seen = (u64, u32);

/// Bits of a hash that choose its part.
const PART_BITS: u32 = 6;

/// Most entries of a piece: those of all parts that are being filled stay in the cache.
const PIECE_ENTRIES_MAX: usize = 512;

/// Entries read at once.
const READ_ENTRIES: usize = 16 << 10;

/// Bytes of a block of full pieces.
const BLOCK_BYTES: usize = 4 << 20;

/// Places for every entry: one in sixteen entries is sorted for nothing.
const PLACES_EACH: usize = 16;

/// Places at most: 16 MiB, enough for four million entries of one part.
const PLACES_MAX: usize = 1 << 26;

/// Places in a word.
const PLACES_WORD: usize = 32;

/// Collects entries in any order.
pub(super) struct Meet {
    /// The piece of each part that is being filled.
    open: Vec<Vec<u8>>,
    piece_bytes: usize,
    /// Full pieces, one after another.
    held: Held,
    /// The part of each of them.
    held_parts: Vec<usize>,
    bytes_max: usize,
    spill: Option<Spill>,
}

/// Pieces, one after another in blocks of memory, so that nothing moves when they become many.
struct Held {
    blocks: Vec<Vec<u8>>,
    /// Bytes of a full block: a whole number of pieces.
    block_bytes: usize,
    bytes: usize,
}

impl Held {
    fn new(piece_bytes: usize) -> Self {
        Self {
            blocks: Vec::new(),
            block_bytes: (BLOCK_BYTES / piece_bytes).max(1) * piece_bytes,
            bytes: 0,
        }
    }

    fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len();
        match self.blocks.last_mut() {
            Some(block) if block.len() < self.block_bytes => block.extend_from_slice(piece),
            _ => {
                let mut block = Vec::with_capacity(self.block_bytes);
                block.extend_from_slice(piece);
                self.blocks.push(block);
            }
        }
    }

    fn clear(&mut self) {
        self.blocks.clear();
        self.bytes = 0;
    }
}

/// Entries in a file, part by part.
struct Spill {
    file: File,
    /// How much of the file is written.
    end: u64,
    parts: Vec<Vec<Stretch>>,
}

/// Some entries of one part.
struct Stretch {
    offset: u64,
    bytes: usize,
}

impl Meet {
    /// Makes a collector that keeps at most about `bytes_max` bytes of entries in memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        // Half of a small memory is for pieces that are being filled.
        let piece = (bytes_max / Seen::BYTES) >> (PART_BITS + 1);
        let piece_bytes = piece.clamp(1, PIECE_ENTRIES_MAX) * Seen::BYTES;
        Self {
            open: vec![Vec::new(); 1 << PART_BITS],
            piece_bytes,
            held: Held::new(piece_bytes),
            held_parts: Vec::new(),
            bytes_max,
            spill: None,
        }
    }

    /// Adds an entry.
    #[inline]
    pub(super) fn push(&mut self, hash: u64, row: u32) -> Result<(), SourceError> {
        let part = part_of(hash);
        let Some(piece) = self.open.get_mut(part) else {
            return Ok(());
        };
        (hash, row).put(piece);
        if piece.len() < self.piece_bytes {
            return Ok(());
        }
        self.close(part)
    }

    /// Keeps a full piece.
    #[cold]
    fn close(&mut self, part: usize) -> Result<(), SourceError> {
        if self.held.bytes + self.piece_bytes > self.bytes_max {
            self.write().map_err(SourceError::Spill)?;
        }
        if let Some(piece) = self.open.get_mut(part) {
            self.held.push(piece);
            self.held_parts.push(part);
            piece.clear();
        }
        Ok(())
    }

    /// Moves the full pieces to the file.
    fn write(&mut self) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::new()?),
        };
        let pieces = Pieces::new(&self.held, self.piece_bytes, &self.held_parts);
        for part in 0..1 << PART_BITS {
            spill.write(part, &pieces.of(part))?;
        }
        self.held.clear();
        self.held_parts.clear();
        Ok(())
    }

    /// Returns the rows whose hash another row has too, ascending; two of them may still be
    /// strangers.
    pub(super) fn finish(mut self, bytes_max: usize) -> Result<Sorted<u32>, SourceError> {
        if self.spill.is_some() {
            self.write().map_err(SourceError::Spill)?;
            self.held.clear();
        }
        let mut rows = Sorter::new(bytes_max);
        let pieces = Pieces::new(&self.held, self.piece_bytes, &self.held_parts);
        for (part, open) in self.open.iter().enumerate() {
            let mut entries = Part {
                file: None,
                memory: pieces.of(part),
            };
            entries.memory.push(open);
            if let Some(spill) = &self.spill {
                entries.file = spill.parts.get(part).map(|them| (&spill.file, &them[..]));
            }
            meet(&entries, self.bytes_max, &mut rows)?;
        }
        rows.finish()
    }
}

/// Returns the part of a hash.
#[inline]
fn part_of(hash: u64) -> usize {
    usize::try_from(hash >> (u64::BITS - PART_BITS)).unwrap_or_default()
}

/// The full pieces in memory, by part.
struct Pieces<'a> {
    parts: Vec<Vec<&'a [u8]>>,
}

impl<'a> Pieces<'a> {
    fn new(held: &'a Held, piece_bytes: usize, held_parts: &[usize]) -> Self {
        let mut parts = vec![Vec::new(); 1 << PART_BITS];
        let pieces = held.blocks.iter();
        let pieces = pieces.flat_map(|block| block.chunks(piece_bytes));
        for (piece, part) in pieces.zip(held_parts) {
            if let Some(part) = parts.get_mut(*part) {
                part.push(piece);
            }
        }
        Self { parts }
    }

    fn of(&self, part: usize) -> Vec<&'a [u8]> {
        self.parts.get(part).cloned().unwrap_or_default()
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

    fn write(&mut self, part: usize, pieces: &[&[u8]]) -> io::Result<()> {
        if pieces.is_empty() {
            return Ok(());
        }
        let bytes = pieces.concat();
        self.file.write_all(&bytes)?;
        if let Some(part) = self.parts.get_mut(part) {
            part.push(Stretch {
                offset: self.end,
                bytes: bytes.len(),
            });
        }
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// The entries of one part; they can be looked at more than once.
struct Part<'a> {
    file: Option<(&'a File, &'a [Stretch])>,
    memory: Vec<&'a [u8]>,
}

impl Part<'_> {
    /// Returns how many there are.
    fn count(&self) -> usize {
        let in_file = self.file.into_iter().flat_map(|(_, them)| them);
        let in_file: usize = in_file.map(|stretch| stretch.bytes).sum();
        let in_memory: usize = self.memory.iter().map(|piece| piece.len()).sum();
        (in_file + in_memory) / Seen::BYTES
    }

    /// Shows every one.
    fn each(
        &self,
        mut visit: impl FnMut(Seen) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        for piece in &self.memory {
            each_in(piece, &mut visit)?;
        }
        let Some((file, stretches)) = self.file else {
            return Ok(());
        };
        let mut bytes = vec![0; READ_ENTRIES * Seen::BYTES];
        for stretch in stretches {
            for offset in (0..stretch.bytes).step_by(bytes.len()) {
                let length = bytes.len().min(stretch.bytes - offset);
                let block = bytes.get_mut(..length).unwrap_or_default();
                file.read_exact_at(block, stretch.offset + offset as u64)
                    .map_err(SourceError::Spill)?;
                each_in(block, &mut visit)?;
            }
        }
        Ok(())
    }
}

/// Shows every entry in `bytes`.
#[inline]
fn each_in(
    bytes: &[u8],
    visit: &mut impl FnMut(Seen) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let (entries, _) = bytes.as_chunks::<{ Seen::BYTES }>();
    for entry in entries {
        if let Some(entry) = Seen::take(&mut &entry[..]) {
            visit(entry)?;
        }
    }
    Ok(())
}

/// Adds the rows of a part whose hash another row has too.
fn meet(entries: &Part<'_>, bytes_max: usize, rows: &mut Sorter<u32>) -> Result<(), SourceError> {
    let count = entries.count();
    if count < 2 {
        return Ok(());
    }
    let mut places = Places::new(count);
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
    shift: u32,
}

impl Places {
    /// Makes places for that many entries of one part; the bits of a hash after those that chose
    /// the part choose its place.
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
        let place = usize::try_from((hash << PART_BITS) >> self.shift).unwrap_or_default();
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
