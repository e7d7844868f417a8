//! Where records and fields begin and end: the one scanner of the room.
//!
//! It follows the `csv` crate's opinion to the byte (whatever the delimiter), which a property
//! test holds it to: a quote opens a field only at its first byte, a doubled quote inside is one
//! quote, text after a closing quote is literal, `\n`, `\r\n` and a lone `\r` end a record, and
//! blank lines are no records. Lines of spaces and tabs are blank lines too, which is the one thing
//! that is ours: in the crate's eyes each is a record of one cell, and would refuse most files. Unlike the crate it keeps the exact byte range of every record
//! and tells when the last quote is never closed.

use super::marks::{BLOCK, Blocks, Masks, SeenBlock};
use crate::model::{ChunkSpec, Delimiter, RowNumber};
use std::borrow::Cow;
use std::ops::Range;

/// Longest record in bytes; a longer one is most likely a quote that was never closed.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// What the bytes from the start of a record hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A whole record of that many bytes, its line end included.
    Record(usize),
    /// The record goes on beyond these bytes; the offset of the quote that is open, if one is.
    More(Option<usize>),
}

/// The byte ranges of the fields of one record, quotes included.
#[derive(Debug, Default)]
pub(super) struct Fields {
    delimiter: Delimiter,
    /// Where each field ends; one delimiter later the next one starts.
    ends: Vec<usize>,
    /// The first field with text after its closing quote.
    stray: Option<usize>,
}

impl Fields {
    /// Starts with records whose cells that delimiter separates.
    pub(super) fn new(delimiter: Delimiter) -> Self {
        Self {
            delimiter,
            ends: Vec::new(),
            stray: None,
        }
    }

    /// Returns what separates the cells.
    pub(super) fn delimiter(&self) -> Delimiter {
        self.delimiter
    }

    /// Returns the first field that has text other than blanks after its closing quote: it is
    /// read as part of the cell, as every reader of CSV does, and is hardly meant.
    pub(super) fn stray(&self) -> Option<usize> {
        self.stray
    }

    /// Returns how many fields the record has.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the range of field `index`.
    #[inline]
    pub(super) fn range(&self, index: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(index)?;
        let before = index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before));
        Some(before.map_or(0, |before| before + 1)..end)
    }

    /// Returns the field that holds the byte at that offset of the record.
    pub(super) fn at(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset)
    }

    /// Returns the ranges of all fields.
    #[inline]
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let range = start..*end;
            start = end + 1;
            range
        })
    }

    /// Returns the fields as written.
    #[inline]
    pub(super) fn raw<'a>(&'a self, record: &'a str) -> impl Iterator<Item = &'a str> {
        self.ranges()
            .map(|range| record.get(range).unwrap_or_default())
    }

    /// Returns whether the record is a line of nothing but spaces and tabs: a blank line.
    pub(super) fn is_blank_line(&self, record: &[u8]) -> bool {
        matches!(record.first(), Some(b' ' | b'\t'))
            && self.len() == 1
            && record
                .iter()
                .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
    }

    /// Returns whether the record has the cells of a header of `count` cells, of which those up to
    /// `named` have names: blank ones may follow, and nameless ones may lack.
    #[inline]
    pub(super) fn fit(&self, record: &str, named: usize, count: usize) -> bool {
        let found = self.len();
        let is_blank = |raw: &str| unescape(raw).trim().is_empty();
        found == count || (found >= named && self.raw(record).skip(count).all(is_blank))
    }

    /// Returns field `index` unescaped; a field that is not there is empty.
    pub(super) fn value<'a>(&self, record: &'a str, index: usize) -> Cow<'a, str> {
        let raw = self.range(index).and_then(|range| record.get(range));
        raw.map_or(Cow::Borrowed(""), unescape)
    }

    /// Finds the end of the record that starts at the first byte of `bytes`, and its fields.
    ///
    /// `bytes` must not start with a line end; `last` says that nothing follows them.
    pub(super) fn scan(&mut self, bytes: &[u8], last: bool) -> Scan {
        // One loop for each delimiter: compared with a constant, a byte costs less.
        match self.delimiter {
            Delimiter::Comma => self.scan_by::<b','>(bytes, last),
            Delimiter::Semicolon => self.scan_by::<b';'>(bytes, last),
            Delimiter::Tab => self.scan_by::<b'\t'>(bytes, last),
            Delimiter::Bar => self.scan_by::<b'|'>(bytes, last),
        }
    }

    /// Does what [`Self::scan`] does with what stands at `start`, several times faster for the
    /// usual record.
    #[inline]
    pub(super) fn scan_next(&mut self, blocks: &mut Blocks<'_>, start: usize, last: bool) -> Scan {
        self.ends.clear();
        self.stray = None;
        let ends = &mut self.ends;
        match usual_record(self.delimiter, blocks, start, |end| ends.push(end)) {
            Some(length) => Scan::Record(length),
            None => self.scan(blocks.bytes().get(start..).unwrap_or_default(), last),
        }
    }

    /// Does what [`Self::scan_next`] does for a record whose fields nobody wants to know.
    #[inline]
    fn skip_next(&mut self, blocks: &mut Blocks<'_>, start: usize, last: bool) -> Scan {
        match usual_record(self.delimiter, blocks, start, |_| ()) {
            Some(length) => Scan::Record(length),
            None => self.scan(blocks.bytes().get(start..).unwrap_or_default(), last),
        }
    }

    /// Returns start and length of the first record at or after `from` that lies whole in the
    /// bytes; `None` also where more blank lines stand before it than a file may have.
    #[inline]
    pub(super) fn next_whole(
        &mut self,
        blocks: &mut Blocks<'_>,
        from: usize,
    ) -> Option<(usize, usize)> {
        let bytes = blocks.bytes();
        let mut start = from;
        loop {
            if matches!(bytes.get(start)?, b'\n' | b'\r') {
                start += blank_len(bytes.get(start..)?);
                if start == bytes.len() {
                    return None;
                }
            }
            let length = match self.scan_next(blocks, start, false) {
                Scan::Record(length) if length <= RECORD_BYTES_MAX => length,
                Scan::Record(_) | Scan::More(_) => return None,
            };
            if start - from > RECORD_BYTES_MAX {
                return None;
            }
            if !self.is_blank_line(bytes.get(start..start + length)?) {
                return Some((start, length));
            }
            start += length;
        }
    }

    fn scan_by<const DELIMITER: u8>(&mut self, bytes: &[u8], last: bool) -> Scan {
        self.ends.clear();
        self.stray = None;
        let mut marks = Marks::<DELIMITER>::new(bytes);
        let mut start = 0;
        loop {
            let mut at = start;
            let mut closed = None;
            if bytes.get(at) == Some(&b'"') {
                match marks.after_quoted(at + 1) {
                    Some(after) => (at, closed) = (after, Some(after)),
                    None => return Scan::More(Some(start)),
                }
                // The byte after a closing quote may be the second half of a doubled one.
                if at == bytes.len() && !last {
                    return Scan::More(Some(start));
                }
            }
            at = marks.field_end(at);
            if closed.is_some_and(|after| after < at) {
                self.note_stray(bytes.get(closed.unwrap_or(at)..at));
            }
            match bytes.get(at) {
                Some(byte) if *byte == DELIMITER => {
                    self.ends.push(at);
                    start = at + 1;
                }
                Some(b'\r') if at + 1 == bytes.len() && !last => return Scan::More(None),
                None if !last => return Scan::More(None),
                end => {
                    self.ends.push(at);
                    return Scan::Record(at + line_end(end, bytes.get(at + 1)));
                }
            }
        }
    }
}

/// Returns the length of the record at `start` when nothing about it is unusual: see
/// [`Blocks::record`].
#[inline]
fn usual_record(
    delimiter: Delimiter,
    blocks: &mut Blocks<'_>,
    start: usize,
    visit: impl FnMut(usize),
) -> Option<usize> {
    match delimiter {
        Delimiter::Comma => blocks.record::<b','>(start, visit),
        Delimiter::Semicolon => blocks.record::<b';'>(start, visit),
        Delimiter::Tab => blocks.record::<b'\t'>(start, visit),
        Delimiter::Bar => blocks.record::<b'|'>(start, visit),
    }
}

impl Fields {
    /// Looks at what follows a closing quote: rare, so that it costs the others nothing.
    #[cold]
    fn note_stray(&mut self, after: Option<&[u8]>) {
        let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
        if self.stray.is_none() && after.is_some_and(|after| after.iter().any(is_text)) {
            self.stray = Some(self.ends.len());
        }
    }
}

/// Where delimiters, line ends and quotes are, found block by block: a bit for each byte costs a
/// fraction of a branch for each.
struct Marks<'a, const DELIMITER: u8> {
    bytes: &'a [u8],
    /// The number of the block that `mask` is of.
    block: usize,
    mask: u64,
}

impl<'a, const DELIMITER: u8> Marks<'a, DELIMITER> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            block: usize::MAX,
            mask: 0,
        }
    }

    /// Returns the offset of the first mark at or after `from`.
    #[inline]
    fn next(&mut self, from: usize) -> Option<usize> {
        let block = from / BLOCK;
        if block != self.block {
            self.load(block)?;
        }
        let mut mask = self.mask & (u64::MAX << (from % BLOCK));
        while mask == 0 {
            self.load(self.block + 1)?;
            mask = self.mask;
        }
        Some(self.block * BLOCK + mask.trailing_zeros() as usize)
    }

    /// Kept out of [`Self::next`], which has to stay small enough to be inlined.
    #[inline(never)]
    fn load(&mut self, block: usize) -> Option<()> {
        self.mask = Masks::at::<DELIMITER>(self.bytes, block)?.any();
        self.block = block;
        Some(())
    }

    /// Returns the offset of the delimiter or line end at or after `at`, or of the end.
    #[inline]
    fn field_end(&mut self, mut at: usize) -> usize {
        while let Some(mark) = self.next(at) {
            if self.bytes.get(mark) != Some(&b'"') {
                return mark;
            }
            at = mark + 1;
        }
        self.bytes.len()
    }

    /// Returns the offset after the closing quote of a field whose text starts at `at`.
    #[inline]
    fn after_quoted(&mut self, mut at: usize) -> Option<usize> {
        loop {
            let mark = self.next(at)?;
            at = mark + 1;
            if self.bytes.get(mark) == Some(&b'"') {
                if self.bytes.get(at) != Some(&b'"') {
                    return Some(at);
                }
                at += 1;
            }
        }
    }
}

fn line_end(first: Option<&u8>, second: Option<&u8>) -> usize {
    match (first, second) {
        (Some(b'\r'), Some(b'\n')) => 2,
        (Some(_), _) => 1,
        (None, _) => 0,
    }
}

/// Returns how many bytes of blank lines `bytes` starts with, those of spaces and tabs included;
/// nothing follows `bytes`. A tab that is the delimiter makes cells, and no blank line.
#[inline]
pub(super) fn blank_lines_len(bytes: &[u8], delimiter: Delimiter) -> usize {
    match bytes.first() {
        Some(b'\n' | b'\r' | b' ' | b'\t') => some_blank_lines_len(bytes, delimiter),
        _ => 0,
    }
}

fn some_blank_lines_len(bytes: &[u8], delimiter: Delimiter) -> usize {
    let mut at = 0;
    loop {
        at += blank_len(bytes.get(at..).unwrap_or_default());
        let rest = bytes.get(at..).unwrap_or_default();
        let is_blank = |byte: u8| matches!(byte, b' ' | b'\t') && byte != delimiter.byte();
        if !rest.first().is_some_and(|byte| is_blank(*byte)) {
            return at;
        }
        let end = rest.iter().position(|byte| !is_blank(*byte));
        match end.and_then(|end| rest.get(end)) {
            None | Some(b'\n' | b'\r') => at += end.unwrap_or(rest.len()),
            Some(_) => return at,
        }
    }
}

/// Returns how many bytes of line ends `bytes` starts with: blank lines are no records.
pub(super) fn blank_len(bytes: &[u8]) -> usize {
    let text = bytes.iter().position(|byte| !matches!(byte, b'\n' | b'\r'));
    text.unwrap_or(bytes.len())
}

/// Returns how many physical lines end in `bytes`.
#[inline]
pub(super) fn lines_in(bytes: &[u8]) -> u64 {
    // Nearly always a record, whose only line end is its own: finding it costs less than counting.
    match memchr::memchr(b'\n', bytes) {
        None => 0,
        Some(at) if at + 1 == bytes.len() => 1,
        Some(_) => memchr::memchr_iter(b'\n', bytes).count() as u64,
    }
}

/// Returns the text of a field as written in the file.
#[inline]
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    // Asked of every cell several times: one byte answers it, a pattern would compare slices.
    if raw.as_bytes().first() == Some(&b'"') {
        unescape_quoted(raw)
    } else {
        Cow::Borrowed(raw)
    }
}

/// Kept out of [`unescape`], which has to stay small enough to be inlined.
#[inline(never)]
fn unescape_quoted(raw: &str) -> Cow<'_, str> {
    if let Some(text) = plain_text(raw) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(raw.len());
    put_unescaped(raw, &mut text);
    Cow::Owned(text)
}

/// Returns the text of a quoted field if it is what stands between its first byte and its last:
/// then it has no quote in it.
#[inline]
pub(super) fn plain_text(raw: &str) -> Option<&str> {
    let text = raw.get(1..)?.strip_suffix('"')?;
    let has_quote = memchr::memchr(b'"', text.as_bytes()).is_some();
    (!has_quote).then_some(text)
}

/// Appends the text of a quoted field to `out`.
pub(super) fn put_unescaped(raw: &str, out: &mut String) {
    let inner = raw.get(1..).unwrap_or_default();
    let mut put = |from: usize, to: usize| out.push_str(inner.get(from..to).unwrap_or_default());
    let bytes = inner.as_bytes();
    // Doubled quotes stand close together: a plain search is cheaper than a start of memchr's.
    let quote_from = |from: usize| {
        let ahead = bytes.get(from..)?.iter().position(|byte| *byte == b'"')?;
        Some(from + ahead)
    };
    let mut from = 0;
    while let Some(quote) = quote_from(from) {
        if bytes.get(quote + 1) != Some(&b'"') {
            put(from, quote);
            from = quote + 1;
            // What follows a closing quote is literal.
            break;
        }
        put(from, quote + 1);
        from = quote + 2;
    }
    put(from, bytes.len());
}

/// One record exactly as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// Its number.
    pub number: RowNumber,
    /// The physical line (from 1) on which it starts.
    pub line: u64,
    /// Byte offset of its first byte within the chunk.
    pub offset: usize,
    /// Its bytes, its line end included (the last record of a file may lack one).
    pub bytes: &'a [u8],
}

/// Returns the records of a chunk in order, byte for byte; blank lines between them belong to
/// none. `chunk` is what [`super::chunk::read_bytes`] returned for `spec`.
pub fn records<'a>(chunk: &'a [u8], spec: &ChunkSpec, delimiter: Delimiter) -> Records<'a> {
    Records::resume(chunk, Bookmark::new(spec, delimiter))
}

/// The iterator of [`records`].
#[derive(Debug)]
pub struct Records<'a> {
    seek: Seek<'a>,
    line: u64,
}

/// Where in a chunk its next record stands, for who reads on later.
#[derive(Debug, Default)]
pub(super) struct Bookmark {
    seen: SeenBlock,
    at: usize,
    number: RowNumber,
    line: u64,
    fields: Fields,
}

impl Bookmark {
    /// Starts at the first record: see [`records`].
    pub(super) fn new(spec: &ChunkSpec, delimiter: Delimiter) -> Self {
        Self {
            seen: SeenBlock::default(),
            at: 0,
            number: spec.first_row,
            line: spec.first_line,
            fields: Fields::new(delimiter),
        }
    }
}

impl<'a> Records<'a> {
    /// Goes on at a bookmark in the same bytes.
    pub(super) fn resume(chunk: &'a [u8], bookmark: Bookmark) -> Self {
        Records {
            seek: Seek {
                blocks: Blocks::resume(chunk, bookmark.seen),
                at: bookmark.at,
                number: bookmark.number,
                fields: bookmark.fields,
            },
            line: bookmark.line,
        }
    }

    /// Says where the next record stands.
    pub(super) fn bookmark(self) -> Bookmark {
        let Seek {
            blocks,
            at,
            number,
            fields,
        } = self.seek;
        Bookmark {
            seen: blocks.seen(),
            at,
            number,
            line: self.line,
            fields,
        }
    }

    /// Returns the next record and where its fields lie in it.
    pub(super) fn next_with_fields(&mut self) -> Option<(RawRecord<'a>, &Fields)> {
        let chunk = self.seek.blocks.bytes();
        let (before, number) = (self.seek.at, self.seek.number);
        let range = self.seek.step(Fields::scan_next)?;
        if before < range.start {
            self.line += lines_in(chunk.get(before..range.start)?);
        }
        let record = RawRecord {
            number,
            line: self.line,
            offset: range.start,
            bytes: chunk.get(range)?,
        };
        self.line += lines_in(record.bytes);
        Some((record, &self.seek.fields))
    }
}

/// The records of a chunk for who wants some of them.
#[derive(Debug)]
pub(super) struct Seek<'a> {
    blocks: Blocks<'a>,
    at: usize,
    /// The row whose record comes next.
    number: RowNumber,
    fields: Fields,
}

impl<'a> Seek<'a> {
    /// Starts with the first record of `chunk`: see [`records`].
    pub(super) fn new(chunk: &'a [u8], spec: &ChunkSpec, delimiter: Delimiter) -> Self {
        Self {
            blocks: Blocks::new(chunk),
            at: 0,
            number: spec.first_row,
            fields: Fields::new(delimiter),
        }
    }

    /// Returns where the record of a row lies in the chunk, and its fields in it; later calls ask
    /// for later rows.
    pub(super) fn row(&mut self, row: RowNumber) -> Option<(Range<usize>, &Fields)> {
        while self.number < row {
            self.step(Fields::skip_next)?;
        }
        let range = self.step(Fields::scan_next)?;
        Some((range, &self.fields))
    }

    /// Steps over the next record.
    #[inline]
    fn step(
        &mut self,
        scan: impl Fn(&mut Fields, &mut Blocks<'a>, usize, bool) -> Scan,
    ) -> Option<Range<usize>> {
        let chunk = self.blocks.bytes();
        let rest = chunk.get(self.at..)?;
        let blank = blank_lines_len(rest, self.fields.delimiter);
        let rest = rest.get(blank..).filter(|rest| !rest.is_empty())?;
        let start = self.at + blank;
        // A chunk ends where a record ends, so nothing of the last one can be missing.
        let length = match scan(&mut self.fields, &mut self.blocks, start, true) {
            Scan::Record(length) => length,
            Scan::More(_) => rest.len(),
        };
        self.at = start + length;
        self.number = RowNumber(self.number.0.saturating_add(1));
        Some(start..self.at)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = RawRecord<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with_fields().map(|(record, _)| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], delimiter: Delimiter) -> Vec<Vec<String>> {
        let mut fields = Fields::new(delimiter);
        let mut out = Vec::new();
        let mut at = 0;
        loop {
            at += blank_len(&bytes[at..]);
            if at == bytes.len() {
                return out;
            }
            let rest = &bytes[at..];
            let length = match fields.scan(rest, true) {
                Scan::Record(length) => length,
                Scan::More(_) => rest.len(),
            };
            let text = std::str::from_utf8(&rest[..length]).unwrap();
            out.push(
                fields
                    .raw(text)
                    .map(|raw| unescape(raw).into_owned())
                    .collect(),
            );
            at += length;
        }
    }

    fn by_csv(bytes: &[u8], delimiter: Delimiter) -> Vec<Vec<String>> {
        csv::ReaderBuilder::new()
            .delimiter(delimiter.byte())
            .has_headers(false)
            .flexible(true)
            .from_reader(bytes)
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect()
    }

    /// Holds what is found by blocks against what is found field by field, record by record.
    fn same_with_blocks(
        bytes: &[u8],
        delimiter: Delimiter,
        last: bool,
    ) -> Result<(), TestCaseError> {
        let (mut one, mut other) = (Fields::new(delimiter), Fields::new(delimiter));
        let mut blocks = Blocks::new(bytes);
        let mut at = blank_len(bytes);
        while at < bytes.len() {
            let found = one.scan(&bytes[at..], last);
            prop_assert_eq!(other.scan_next(&mut blocks, at, last), found);
            let Scan::Record(length) = found else {
                break;
            };
            prop_assert_eq!(other.skip_next(&mut blocks, at, last), found);
            other.scan_next(&mut blocks, at, last);
            prop_assert_eq!(&one.ends, &other.ends);
            prop_assert_eq!(one.stray, other.stray);
            at += length;
            at += blank_len(&bytes[at..]);
        }
        Ok(())
    }

    /// Closes a quote that is open at the end: the scanner refuses what the crate forgives.
    fn close(mut soup: String, delimiter: Delimiter) -> String {
        let mut fields = Fields::new(delimiter);
        let mut at = blank_len(soup.as_bytes());
        while at < soup.len() {
            match fields.scan(&soup.as_bytes()[at..], true) {
                Scan::Record(length) => at += length,
                Scan::More(_) => soup.push('"'),
            }
            at += blank_len(&soup.as_bytes()[at..]);
        }
        soup
    }

    proptest! {
        #![proptest_config(crate::fuzz::cases(2000))]

        #[test]
        fn any_soup_splits_as_the_csv_crate_splits_it(soup in "[ab\",;\t|\r\né]{0,40}") {
            for delimiter in Delimiter::ALL {
                let soup = close(soup.clone(), delimiter);
                let bytes = soup.as_bytes();
                prop_assert_eq!(all(bytes, delimiter), by_csv(bytes, delimiter));
            }
        }

        #[test]
        fn a_cut_never_invents_a_record_end(soup in "[ab\",;\t|\r\n]{1,30}") {
            for delimiter in Delimiter::ALL {
                let soup = close(format!("a{soup}"), delimiter);
                let bytes = soup.as_bytes();
                let mut fields = Fields::new(delimiter);
                let whole = fields.scan(bytes, true);
                for cut in 0..=bytes.len() {
                    let part = fields.scan(&bytes[..cut], false);
                    if let Scan::Record(_) = part {
                        prop_assert_eq!(part, whole);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn blocks_change_no_record(
            soup in prop::collection::vec(prop_oneof![
                3 => "[ab ]{0,40}",
                3 => "[\",;\t|\r\né]{0,3}",
                2 => "\"([a,\n\r;]|\"\"){0,30}\"",
                1 => "(,|;|\n|\r\n)",
            ], 0..24),
        ) {
            let soup = soup.concat();
            for delimiter in Delimiter::ALL {
                for last in [false, true] {
                    same_with_blocks(soup.as_bytes(), delimiter, last)?;
                }
            }
        }

        /// Longer than a block, with few marks: the borders of blocks are met everywhere.
        #[test]
        fn long_fields_split_as_the_csv_crate_splits_them(
            fields in prop::collection::vec(("[ab]{0,70}", "[\",;\n\r]{0,2}"), 1..6),
        ) {
            let soup: String = fields.into_iter().flat_map(|(text, mark)| [text, mark]).collect();
            for delimiter in Delimiter::ALL {
                let soup = close(format!("a{soup}"), delimiter);
                let bytes = soup.as_bytes();
                prop_assert_eq!(all(bytes, delimiter), by_csv(bytes, delimiter));
            }
        }
    }

    #[test]
    fn an_open_quote_is_told_with_its_place() {
        let mut fields = Fields::default();
        assert_eq!(fields.scan(b"a,\"b\nc", true), Scan::More(Some(2)));
        assert_eq!(fields.scan(b"a,\"b\"", false), Scan::More(Some(2)));
        assert_eq!(fields.scan(b"a,\"b\"", true), Scan::Record(5));
        assert_eq!(fields.scan(b"a\r", false), Scan::More(None));
        assert_eq!(fields.scan(b"a\r\nb", false), Scan::Record(3));
    }

    #[test]
    fn text_after_a_closing_quote_is_told() {
        let mut fields = Fields::default();
        for (text, stray) in [
            ("\"boss@x.org\"s,\"A\"\n", Some(0)),
            ("a,\"b\"c,\"d\"e\n", Some(1)),
            ("\"a\" ,\"b\"x", Some(1)),
            ("\"a\"\"b\",\"c\"\r\n", None),
            ("a\"b\"c,d\n", None),
            ("\"a\"", None),
        ] {
            fields.scan(text.as_bytes(), true);
            assert_eq!(fields.stray(), stray, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_row_is_found_whatever_was_skipped(
            rows in prop::collection::vec("[ab]{1,70},(\"[a,\n]{0,9}\")?[\r]?\n[ \n]{0,2}", 1..9),
            wanted in prop::collection::btree_set(1_u32..9, 0..5),
        ) {
            let chunk = rows.concat();
            let spec = spec(1);
            let all: Vec<_> = records(chunk.as_bytes(), &spec, Delimiter::Comma).collect();
            let mut seek = Seek::new(chunk.as_bytes(), &spec, Delimiter::Comma);
            for row in wanted {
                let found = seek.row(RowNumber(row)).map(|(range, fields)| (range, fields.len()));
                let record = all.iter().find(|record| record.number.0 == row);
                let range = record.map(|it| (it.offset..it.offset + it.bytes.len(), 2));
                prop_assert_eq!(found, range);
            }
        }
    }

    fn spec(first_row: u32) -> ChunkSpec {
        ChunkSpec {
            id: crate::model::ChunkId(0),
            offset: 0,
            length: 0,
            first_row: RowNumber(first_row),
            rows: 3,
            first_line: 10,
            hash: crate::model::ChunkHash([0; 16]),
        }
    }

    #[test]
    fn records_of_a_chunk_keep_their_bytes_numbers_and_lines() {
        let chunk = b"a,\"x\ny\"\r\n\r\n\nb,c\nlast";
        let spec = spec(7);
        let got: Vec<_> = records(chunk, &spec, Delimiter::Comma)
            .map(|record| (record.number.0, record.line, record.offset, record.bytes))
            .collect();
        assert_eq!(
            got,
            vec![
                (7, 10, 0, &b"a,\"x\ny\"\r\n"[..]),
                (8, 14, 12, &b"b,c\n"[..]),
                (9, 15, 16, &b"last"[..]),
            ]
        );
    }
}
