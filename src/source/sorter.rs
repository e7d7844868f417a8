//! Sorting more entries than memory should hold: sorted runs in one temporary file, merged.
//!
//! Entries are hashes and row numbers: nothing of a person reaches the temporary file.

use super::error::SourceError;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

/// Bytes a run is read back in.
const RUN_BUFFER_BYTES: usize = 16 << 10;

/// An entry of fixed size.
pub(super) trait Entry: Copy + Ord {
    /// Its size in a run.
    const BYTES: usize;
    /// Appends it to `out`.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes it off the front of `bytes`, which hold a whole entry.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! number_entry {
    ($($number:ty),+) => {$(
        impl Entry for $number {
            const BYTES: usize = size_of::<$number>();
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                bytes.split_off(..Self::BYTES)?.try_into().ok().map(Self::from_le_bytes)
            }
        }
    )+};
}
number_entry!(u32, u64);

impl Entry for [u64; 2] {
    const BYTES: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        let [high, low] = self;
        high.put(out);
        low.put(out);
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some([u64::take(bytes)?, u64::take(bytes)?])
    }
}

macro_rules! tuple_entry {
    ($($field:ident),+) => {
        impl<$($field: Entry),+> Entry for ($($field,)+) {
            const BYTES: usize = 0 $(+ $field::BYTES)+;
            #[expect(non_snake_case, reason = "the fields are named after their types")]
            fn put(&self, out: &mut Vec<u8>) {
                let ($($field,)+) = self;
                $($field.put(out);)+
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($field::take(bytes)?,)+))
            }
        }
    };
}
tuple_entry!(A, B);
tuple_entry!(A, B, C);
tuple_entry!(A, B, C, D);

/// Collects entries in any order.
pub(super) struct Sorter<T> {
    entries: Vec<T>,
    entries_max: usize,
    spill: Option<BufWriter<File>>,
    runs: Vec<usize>,
}

impl<T: Entry> Sorter<T> {
    /// Makes a sorter that keeps at most `bytes_max` bytes of entries in memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            entries_max: (bytes_max / size_of::<T>()).max(1),
            spill: None,
            runs: Vec::new(),
        }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, entry: T) -> Result<(), SourceError> {
        if self.entries.len() >= self.entries_max {
            self.write_run().map_err(SourceError::Spill)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.entries.sort_unstable();
        let file = match &mut self.spill {
            Some(file) => file,
            none => none.insert(BufWriter::with_capacity(256 << 10, tempfile::tempfile()?)),
        };
        let mut bytes = Vec::with_capacity(T::BYTES);
        for entry in &self.entries {
            bytes.clear();
            entry.put(&mut bytes);
            file.write_all(&bytes)?;
        }
        self.runs.push(self.entries.len());
        self.entries.clear();
        Ok(())
    }

    /// Returns every entry in ascending order.
    pub(super) fn finish(mut self) -> Result<Sorted<T>, SourceError> {
        if self.spill.is_none() {
            self.entries.sort_unstable();
            return Ok(Sorted::Memory(self.entries.into_iter()));
        }
        self.finish_runs().map_err(SourceError::Spill)
    }

    fn finish_runs(mut self) -> io::Result<Sorted<T>> {
        self.write_run()?;
        self.entries = Vec::new();
        let Some(spill) = self.spill else {
            return Err(io::Error::other("the runs have no file"));
        };
        let file = spill.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut offset = 0;
        let mut merge = Merge {
            file,
            runs: Vec::with_capacity(self.runs.len()),
            heads: BinaryHeap::with_capacity(self.runs.len()),
        };
        for (index, &entries) in self.runs.iter().enumerate() {
            let end = offset + (entries * T::BYTES) as u64;
            let mut run = Run {
                offset,
                end,
                buffer: Vec::new(),
                at: 0,
            };
            offset = end;
            if let Some(head) = run.next(&merge.file)? {
                merge.heads.push(Reverse((head, index)));
            }
            merge.runs.push(run);
        }
        Ok(Sorted::Merged(merge))
    }
}

/// The entries of a [`Sorter`] in ascending order.
pub(super) enum Sorted<T> {
    /// All of them fit in memory.
    Memory(std::vec::IntoIter<T>),
    /// They come from runs.
    Merged(Merge<T>),
}

/// Runs being merged.
pub(super) struct Merge<T> {
    file: File,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(T, usize)>>,
}

/// One sorted run in the temporary file, read piece by piece.
struct Run {
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Run {
    fn next<T: Entry>(&mut self, file: &File) -> io::Result<Option<T>> {
        if self.at == self.buffer.len() {
            let piece = (RUN_BUFFER_BYTES / T::BYTES * T::BYTES) as u64;
            let length = piece.min(self.end - self.offset);
            self.buffer
                .resize(usize::try_from(length).unwrap_or_default(), 0);
            file.read_exact_at(&mut self.buffer, self.offset)?;
            self.offset += length;
            self.at = 0;
        }
        let mut bytes = self.buffer.get(self.at..).unwrap_or_default();
        self.at = (self.at + T::BYTES).min(self.buffer.len());
        Ok(T::take(&mut bytes))
    }
}

impl<T: Entry> Merge<T> {
    fn next(&mut self) -> io::Result<Option<T>> {
        let Some(Reverse((entry, index))) = self.heads.pop() else {
            return Ok(None);
        };
        if let Some(run) = self.runs.get_mut(index)
            && let Some(head) = run.next(&self.file)?
        {
            self.heads.push(Reverse((head, index)));
        }
        Ok(Some(entry))
    }
}

impl<T: Entry> Iterator for Sorted<T> {
    type Item = Result<T, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(entries) => entries.next().map(Ok),
            Self::Merged(merge) => merge.next().map_err(SourceError::Spill).transpose(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_like_a_vec_whatever_fits_in_memory(
            entries in prop::collection::vec((0u64..50, 0u32..9), 0..300),
            bytes_max in 1usize..1200,
        ) {
            let mut sorter = Sorter::new(bytes_max);
            for &entry in &entries {
                sorter.push(entry).unwrap();
            }
            let got: Vec<_> = sorter.finish().unwrap().map(Result::unwrap).collect();
            let mut want = entries;
            want.sort_unstable();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn runs_longer_than_their_buffer_come_back_whole() {
        let mut sorter = Sorter::new(200_000);
        for n in (0..12_000u32).rev() {
            sorter
                .push(([u64::from(n), 0], n, u64::from(n), 1u64))
                .unwrap();
        }
        let got: Vec<u32> = sorter
            .finish()
            .unwrap()
            .map(|entry| entry.unwrap().1)
            .collect();
        assert_eq!(got, (0..12_000).collect::<Vec<_>>());
    }
}
