//! A bounded view that slides over the file: one record at a time, hashed on the way.

use super::error::{Place, SourceError};
use super::records::{Fields, RECORD_BYTES_MAX, Scan, blank_len, lines_in};
use crate::model::{ChunkHash, RowNumber};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes per read: larger blocks were measured to be no faster.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Opens a regular file; anything else is refused before it could block.
pub(super) fn open(path: &Path) -> Result<File, SourceError> {
    let failed = |source| SourceError::Open {
        path: path.to_owned(),
        source,
    };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SourceError::NotAFile {
            path: path.to_owned(),
        });
    }
    File::open(path).map_err(failed)
}

/// Reads into `buffer` until something arrives; 0 is the end of the file.
pub(super) fn read_some(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, SourceError> {
    read_patiently(file, buffer).map_err(SourceError::Read)
}

/// As [`read_some`], for those who tell the error on.
pub(super) fn read_patiently(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The window: holds the unread rest of the last blocks, at most one record and one block.
pub(super) struct Window<R> {
    file: R,
    buffer: Vec<u8>,
    /// How much of `buffer` holds bytes of the file.
    filled: usize,
    /// Nothing follows what is in the buffer.
    last: bool,
    /// File offset behind the last NUL that was read: nothing after it has to be searched for one.
    nul_end: u64,
    walk: Walk,
}

/// How far the walk through the file has come; `buffer` is always the window's.
pub(super) struct Walk {
    /// The next byte to look at, an index of `buffer`.
    at: usize,
    /// The file offset of the first byte of `buffer`.
    base: u64,
    /// The physical line (from 1) of the byte at `counted`.
    line: u64,
    /// Up to here (an index of `buffer`) lines are counted; the rest when somebody asks.
    counted: usize,
    /// The row whose record comes next; `None` while the header does.
    row: Option<RowNumber>,
    chunk: blake3::Hasher,
    /// The chunk's bytes before this index of `buffer` are in its hash.
    hashed: usize,
}

/// Bytes at hand and the walk through them.
pub(super) struct Here<'a> {
    /// The next bytes, as far as they are text without NUL.
    pub(super) text: &'a str,
    /// Where the first of them stands in `buffer`.
    pub(super) start: usize,
    /// The window's bytes.
    pub(super) buffer: &'a [u8],
    /// The walk; it stands at the first byte of `text`.
    pub(super) walk: &'a mut Walk,
}

impl Walk {
    /// Steps to an index of the buffer.
    pub(super) fn step_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Says which row's record comes next.
    pub(super) fn set_row(&mut self, row: RowNumber) {
        self.row = Some(row);
    }

    /// Returns the file offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Returns the physical line of the next byte.
    pub(super) fn line(&self, buffer: &[u8]) -> u64 {
        let since = buffer.get(self.counted..self.at).unwrap_or_default();
        self.line + lines_in(since)
    }

    /// Counts the lines that were stepped over.
    fn count_lines(&mut self, buffer: &[u8]) {
        self.line = self.line(buffer);
        self.counted = self.at;
    }

    /// Starts a new chunk at the next byte.
    pub(super) fn begin_chunk(&mut self, buffer: &[u8]) {
        self.chunk.reset();
        self.hashed = self.at;
        self.count_lines(buffer);
    }

    /// Returns the hash of the chunk's bytes up to the next byte.
    pub(super) fn end_chunk(&mut self, buffer: &[u8]) -> ChunkHash {
        self.hash_chunk(buffer);
        truncated(&self.chunk.finalize())
    }

    fn hash_chunk(&mut self, buffer: &[u8]) {
        let bytes = buffer.get(self.hashed..self.at).unwrap_or_default();
        self.chunk.update(bytes);
        self.hashed = self.at;
    }
}

impl<R: Read> Window<R> {
    /// Starts at the first byte of `file`.
    pub(super) fn new(file: R) -> Self {
        Self {
            file,
            buffer: vec![0; 2 * BLOCK_BYTES],
            filled: 0,
            last: false,
            nul_end: 0,
            walk: Walk {
                at: 0,
                base: 0,
                line: 1,
                counted: 0,
                row: None,
                chunk: blake3::Hasher::new(),
                hashed: 0,
            },
        }
    }

    /// Returns the bytes in memory and the walk through them.
    pub(super) fn walk(&mut self) -> (&[u8], &mut Walk) {
        (&self.buffer, &mut self.walk)
    }

    /// Returns what was read and not yet stepped over, up to the first byte that is no text.
    pub(super) fn here(&mut self) -> Here<'_> {
        let has_nul = self.offset() < self.nul_end;
        let buffer = self.buffer.get(..self.filled).unwrap_or_default();
        let start = self.walk.at;
        let mut bytes = buffer.get(start..).unwrap_or_default();
        if has_nul {
            let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
            bytes = bytes.get(..end).unwrap_or_default();
        }
        Here {
            text: text_at_start(bytes),
            start,
            buffer,
            walk: &mut self.walk,
        }
    }

    /// Looks at the first bytes: skips a byte order mark.
    pub(super) fn begin(&mut self, on_bytes: &mut dyn FnMut(u64)) -> Result<(), SourceError> {
        while self.filled < UTF8_MARK.len() && !self.last {
            self.fill(on_bytes)?;
        }
        if self.rest().starts_with(UTF8_MARK) {
            self.walk.at = UTF8_MARK.len();
        }
        Ok(())
    }

    /// Moves to the next record and returns its length; `None` at the end of the file.
    pub(super) fn next_record(
        &mut self,
        fields: &mut Fields,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Option<usize>, SourceError> {
        let (begin, line) = (self.offset(), self.walk.line);
        loop {
            let found = if self.skip_blank(on_bytes)? {
                Some(self.scanned(fields, on_bytes)?)
            } else {
                None
            };
            // All blank lines between two records belong to a chunk that somebody has to read.
            if self.offset() - begin > RECORD_BYTES_MAX as u64 {
                return Err(SourceError::BlankLines {
                    at: Place {
                        row: self.walk.row,
                        line,
                        column: None,
                        byte: begin,
                    },
                });
            }
            let record = found.and_then(|length| self.rest().get(..length));
            if !record.is_some_and(|record| fields.is_blank_line(record)) {
                return Ok(found);
            }
            self.advance(found.unwrap_or_default());
        }
    }

    /// Returns the length of the record that comes next.
    fn scanned(
        &mut self,
        fields: &mut Fields,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<usize, SourceError> {
        loop {
            match fields.scan(self.rest(), self.last) {
                Scan::Record(length) if length <= RECORD_BYTES_MAX => return Ok(length),
                Scan::More(quote) if self.rest().len() <= RECORD_BYTES_MAX => {
                    if self.last {
                        let at = self.place_at(quote.unwrap_or_default());
                        return Err(SourceError::QuoteUnclosed { at });
                    }
                }
                Scan::Record(_) => return Err(self.too_long(None)),
                Scan::More(quote) => return Err(self.too_long(quote)),
            }
            self.fill(on_bytes)?;
        }
    }

    fn too_long(&self, quote: Option<usize>) -> SourceError {
        SourceError::RecordTooLong {
            at: self.place_at(0),
            quote: quote.map(|offset| Box::new(self.place_at(offset))),
        }
    }

    /// Skips blank lines; tells whether a record follows.
    fn skip_blank(&mut self, on_bytes: &mut dyn FnMut(u64)) -> Result<bool, SourceError> {
        if !matches!(self.rest().first(), None | Some(b'\n' | b'\r')) {
            return Ok(true);
        }
        let at = self.place_at(0);
        loop {
            let blank = blank_len(self.rest());
            self.advance(blank);
            if self.offset() - at.byte > RECORD_BYTES_MAX as u64 {
                return Err(SourceError::BlankLines { at });
            }
            if !self.rest().is_empty() {
                return Ok(true);
            }
            if self.last {
                return Ok(false);
            }
            self.fill(on_bytes)?;
        }
    }

    /// Returns the text of the record [`Self::next_record`] found.
    pub(super) fn record(&self, length: usize) -> Result<&str, SourceError> {
        let bytes = self.rest().get(..length).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let offset = error.valid_up_to();
            SourceError::NotUtf8 {
                value: bytes.get(offset).copied().unwrap_or_default(),
                at: self.place_at(offset),
            }
        })?;
        match self.nul_in(bytes) {
            Some(offset) => Err(SourceError::Nul {
                at: self.place_at(offset),
            }),
            None => Ok(text),
        }
    }

    /// Returns where a NUL stands in `bytes`, which are the next ones.
    fn nul_in(&self, bytes: &[u8]) -> Option<usize> {
        if self.offset() >= self.nul_end {
            return None;
        }
        memchr::memchr(0, bytes)
    }

    /// Steps over `length` bytes.
    pub(super) fn advance(&mut self, length: usize) {
        self.walk.at = (self.walk.at + length).min(self.filled);
    }

    /// Says which row's record comes next.
    pub(super) fn set_row(&mut self, row: RowNumber) {
        self.walk.set_row(row);
    }

    /// Returns how many bytes were read so far: the size of the file at its end.
    pub(super) fn bytes_read(&self) -> u64 {
        self.walk.base + self.filled as u64
    }

    /// Returns where the bytes come from.
    pub(super) const fn file(&self) -> &R {
        &self.file
    }

    /// Returns the file offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.walk.offset()
    }

    /// Returns the physical line of the next byte.
    fn line(&self) -> u64 {
        self.walk.line(&self.buffer)
    }

    /// Returns the place `ahead` bytes after the next byte.
    pub(super) fn place_at(&self, ahead: usize) -> Place {
        let between = self.rest().get(..ahead).unwrap_or_default();
        Place {
            row: self.walk.row,
            line: self.line() + lines_in(between),
            column: None,
            byte: self.offset() + ahead as u64,
        }
    }

    fn rest(&self) -> &[u8] {
        self.buffer
            .get(self.walk.at..self.filled)
            .unwrap_or_default()
    }

    /// Drops what was stepped over and reads one more block.
    fn fill(&mut self, on_bytes: &mut dyn FnMut(u64)) -> Result<(), SourceError> {
        let walk = &mut self.walk;
        walk.hash_chunk(&self.buffer);
        walk.count_lines(&self.buffer);
        self.buffer.copy_within(walk.at..self.filled, 0);
        walk.base += walk.at as u64;
        self.filled -= walk.at;
        (walk.at, walk.hashed, walk.counted) = (0, 0, 0);
        if self.buffer.len() < self.filled + BLOCK_BYTES {
            self.buffer.resize(self.filled + BLOCK_BYTES, 0);
        }
        let end = self.filled + BLOCK_BYTES;
        let block = self.buffer.get_mut(self.filled..end).unwrap_or_default();
        let read = read_some(&mut self.file, block)?;
        let block = block.get(..read).unwrap_or_default();
        if let Some(nul) = memchr::memrchr(0, block) {
            self.nul_end = self.walk.base + (self.filled + nul) as u64 + 1;
        }
        self.filled += read;
        self.last = read == 0;
        on_bytes(self.bytes_read());
        Ok(())
    }
}

/// Returns the text that `bytes` start with.
fn text_at_start(bytes: &[u8]) -> &str {
    if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        return text;
    }
    // Nearly always a sign that goes on in the next block.
    let end = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let bytes = bytes.get(..end).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Returns the first 128 bits: what binds a chunk.
pub(super) fn truncated(hash: &blake3::Hash) -> ChunkHash {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    ChunkHash(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Delimiter;
    use proptest::prelude::*;

    /// Gives a few bytes at a time, as a slow disk may.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    type Seen = Vec<(u64, u64, String)>;

    type Walked = Result<(Seen, u64, ChunkHash), String>;

    /// Bytes that mean something to a CSV, and others.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let telling = prop::sample::select(b"ab\",\r\n\n\"".to_vec());
        let byte = prop_oneof![30 => telling, 1 => any::<u8>()];
        prop::collection::vec(byte, 0..48)
    }

    fn walk(bytes: &[u8], step: usize) -> Walked {
        walk_through(Trickle(bytes, step))
    }

    fn walk_through(file: impl Read) -> Walked {
        walk_by(Delimiter::Comma, file)
    }

    fn walk_by(delimiter: Delimiter, file: impl Read) -> Walked {
        let mut window = Window::new(file);
        let mut fields = Fields::new(delimiter);
        let mut seen = Vec::new();
        let words = |error: SourceError| format!("{} {:?}", error.code(), error.place());
        window.begin(&mut |_| {}).map_err(words)?;
        window.walk.begin_chunk(&window.buffer);
        while let Some(length) = window
            .next_record(&mut fields, &mut |_| {})
            .map_err(words)?
        {
            let text = window.record(length).map_err(words)?.to_owned();
            seen.push((window.offset(), window.line(), text));
            window.advance(length);
        }
        Ok((
            seen,
            window.bytes_read(),
            window.walk.end_chunk(&window.buffer),
        ))
    }

    proptest! {
        #[test]
        fn the_size_of_reads_changes_nothing(soup in "[ab\",;\t|\r\né\u{feff}]{0,60}", step in 1usize..9) {
            for delimiter in Delimiter::ALL {
                let whole = walk_by(delimiter, Trickle(soup.as_bytes(), BLOCK_BYTES));
                prop_assert_eq!(walk_by(delimiter, Trickle(soup.as_bytes(), step)), whole);
            }
        }

        #[test]
        fn a_read_that_ends_anywhere_changes_nothing(soup in bytes()) {
            let whole = walk(&soup, BLOCK_BYTES);
            for cut in 0..=soup.len() {
                let (left, right) = soup.split_at(cut);
                // A read of nothing is the end of a file: only the second part may have none.
                let pieces = if left.is_empty() { right.chain(left) } else { left.chain(right) };
                prop_assert_eq!(walk_through(pieces), whole.clone(), "cut at {}", cut);
            }
        }
    }

    #[test]
    fn the_chunk_hash_covers_its_bytes_across_reads() {
        let bytes = b"a,b\n\n\"c\nd\",e\nlast";
        for step in 1..6 {
            let (seen, read, chunk) = walk(bytes, step).unwrap();
            assert_eq!((seen.len(), read), (3, bytes.len() as u64));
            assert_eq!(chunk, truncated(&blake3::hash(bytes)));
        }
    }
}
