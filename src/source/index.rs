//! The one pass over the file: chunks, hashes, and rows that share an email or an external id.

use super::ahead::Ahead;
use super::cells::Cells;
use super::chunk::{CHUNK_BYTES_MAX, reason_of};
use super::error::{Ragged, RaggedRow};
use super::keyed::{Keyed, Purpose, Quick, org_bytes};
use super::marks::Blocks;
use super::pairs::{Again, Repeats, with_org};
use super::profile::ProfileChoice;
use super::records::Fields;
use super::row::{OrgRef, trimmed};
use super::window::{self, BLOCK_BYTES, Here, Walk, Window, read_some};
use super::{Columns, Input, SourceError, header};
use crate::model::escape::shown;
use crate::model::{
    ChunkHash, ChunkId, ChunkSpec, Delimiter, ExternalIdConflict, Follower, OrgKey, OrgMode,
    Rename, RowNumber,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Bytes of entries each sorter keeps in memory before it writes a run: 2 million rows.
const SORTER_BYTES_MAX: usize = 32 << 20;

/// Names are sorted again when this many arrived beyond twice the organizations known.
const ORG_NAMES_SLACK: usize = 4096;

/// What shapes an index.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Rows per chunk, 1 to 1000.
    pub chunk_size: u32,
    /// Where organizations come from (organization columns with a single organization are refused).
    pub org_mode: OrgMode,
    /// The key of the 64-bit keyed hashes.
    pub hash_key: u64,
    /// What stands between two cells.
    pub delimiter: Delimiter,
    /// Columns that get another name.
    pub renames: Vec<Rename>,
    /// How the file's profile is chosen.
    pub profile: ProfileChoice,
}

/// Everything one pass over the file tells.
#[derive(Clone, Debug)]
pub struct Index {
    /// Size of the file.
    pub bytes: u64,
    /// BLAKE3 of the whole file, as hex.
    pub hash: String,
    /// How many rows.
    pub rows: u32,
    /// Which column is which.
    pub columns: Columns,
    /// Its chunks, ascending.
    pub chunks: Vec<ChunkSpec>,
    /// Rows that repeat a lower row's email, ascending.
    pub followers: Vec<Follower>,
    /// Those of them that differ from their leader in a user field (the leader's values count),
    /// ascending.
    pub differing: Vec<RowNumber>,
    /// Rows whose `external_id` belongs to a lower row with another email, ascending.
    pub conflicts: Vec<ExternalIdConflict>,
    /// `(org_key_hash, lowest row that gives this organization a name)`, sorted by hash.
    pub org_names: Vec<(u64, RowNumber)>,
    /// Sentences for people: unknown columns with the nearest known name.
    pub warnings: Vec<String>,
    /// What the file was read as, and what becomes of its columns; `None` without a profile.
    pub read_as: Option<String>,
    /// How many rows are left out and why, in words; `None` when none is.
    pub left_out: Option<String>,
}

/// Indexes the file at `path` in one streaming pass; calls `on_bytes` with the bytes read so far.
///
/// Rows whose email or external id may be shared are read once more at the end.
pub fn build(
    path: &Path,
    options: &IndexOptions,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Index, SourceError> {
    build_within(SORTER_BYTES_MAX, path, options, on_bytes)
}

fn build_within(
    sorter_bytes_max: usize,
    path: &Path,
    options: &IndexOptions,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Index, SourceError> {
    let file = window::open(path)?;
    std::thread::scope(|scope| {
        let text = Ahead::start(scope, &file)?;
        let pass = Pass::begin(&file, text, options, sorter_bytes_max, on_bytes)?;
        pass.run(on_bytes)
    })
}

/// Returns size and BLAKE3 (hex) of a source: what resume compares.
pub fn file_hash(
    input: &Input,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(u64, String), SourceError> {
    let mut file = input.open()?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        let read = read_some(&mut file, &mut block)?;
        if read == 0 {
            return Ok((bytes, hasher.finalize().to_hex().to_string()));
        }
        hasher.update(block.get(..read).unwrap_or_default());
        bytes += read as u64;
        on_bytes(bytes);
    }
}

/// Returns the keyed hash under which [`Index::org_names`] knows an organization.
pub fn org_key_hash(hash_key: u64, key: &OrgKey) -> u64 {
    Keyed(hash_key).hash(Purpose::Organization, &org_bytes(key))
}

/// The pass while it runs.
struct Pass<'a> {
    file: &'a File,
    options: &'a IndexOptions,
    window: Window<Ahead>,
    fields: Fields,
    columns: Columns,
    /// Fields a record must have.
    named: usize,
    warnings: Vec<String>,
    /// The header's cells, for messages.
    names: Vec<String>,
    read_as: Option<String>,
    chunks: Chunks,
    rows: u32,
    noted: Noted<'a>,
    /// Rows with another number of fields: the file is refused once all of them are known.
    ragged: Ragged,
}

impl<'a> Pass<'a> {
    /// Reads the header.
    fn begin(
        file: &'a File,
        text: Ahead,
        options: &'a IndexOptions,
        sorter_bytes_max: usize,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Self, SourceError> {
        let mut window = Window::new(text);
        let mut fields = Fields::new(options.delimiter);
        window.begin(on_bytes)?;
        let Some(length) = window.next_record(&mut fields, on_bytes)? else {
            return Err(SourceError::HeaderMissing);
        };
        let text = window.record(length)?;
        let at = window.place_at(0);
        let mut header = header::parse(
            text,
            &fields,
            &at,
            &options.org_mode,
            &options.renames,
            &options.profile,
        )?;
        let names = header::shown_names(text, &fields);
        window.advance(length);
        header.columns.header_bytes = window.offset();
        window.set_row(RowNumber(1));
        Ok(Self {
            file,
            options,
            window,
            fields,
            columns: header.columns,
            named: header.named,
            warnings: header.warnings,
            names,
            read_as: header.read_as,
            chunks: Chunks {
                size: options.chunk_size,
                closed: Vec::new(),
                open: None,
            },
            rows: 0,
            noted: Noted::new(options, sorter_bytes_max),
            ragged: Ragged::default(),
        })
    }

    /// Goes through all rows.
    fn run(mut self, on_bytes: &mut dyn FnMut(u64)) -> Result<Index, SourceError> {
        loop {
            match self.row(on_bytes) {
                Ok(true) => self.rows_here()?,
                Ok(false) => return self.finish(),
                Err(error @ SourceError::Read(_)) => return Err(error),
                // The first reason to refuse the file is the one that is told.
                Err(error) => return Err(self.ragged().unwrap_or(error)),
            }
        }
    }

    /// Indexes the next row, reading on where needed; tells whether there was one.
    fn row(&mut self, on_bytes: &mut dyn FnMut(u64)) -> Result<bool, SourceError> {
        let Some(length) = self.window.next_record(&mut self.fields, on_bytes)? else {
            let (buffer, walk) = self.window.walk();
            self.chunks.close(buffer, walk);
            return Ok(false);
        };
        let Some(rows) = self.rows.checked_add(1) else {
            let at = self.window.place_at(0);
            return Err(SourceError::TooManyRows { at });
        };
        let text = match self.window.record(length) {
            Ok(text) => text,
            Err(error) => return Err(self.with_column(error)),
        };
        self.rows = rows;
        let row = RowNumber(rows);
        if !self.fields.fit(text, self.named, self.columns.count) {
            let at = self.window.place_at(0);
            self.ragged.note(RaggedRow::of(text, self.fields.len(), at));
        }
        // Nothing else is of use once one was found.
        if self.ragged.count == 0 {
            self.noted
                .note(row, &Cells::new(text, &self.fields, &self.columns))?;
            let (buffer, walk) = self.window.walk();
            self.chunks.add(row, length, buffer, walk);
        }
        self.window.advance(length);
        self.window.set_row(RowNumber(row.0.saturating_add(1)));
        Ok(true)
    }

    /// Indexes the rows that lie whole in what was read: most of them. Stops before one that
    /// [`Self::row`] may refuse.
    fn rows_here(&mut self) -> Result<(), SourceError> {
        if self.ragged.count > 0 {
            return Ok(());
        }
        let Here {
            text,
            start,
            buffer,
            walk,
        } = self.window.here();
        let mut blocks = Blocks::new(text.as_bytes());
        let mut at = 0;
        while let Some((begin, length)) = self.fields.next_whole(&mut blocks, at) {
            let Some(record) = text.get(begin..begin + length) else {
                break;
            };
            if !self.fields.fit(record, self.named, self.columns.count) {
                break;
            }
            let Some(rows) = self.rows.checked_add(1) else {
                break;
            };
            self.rows = rows;
            let row = RowNumber(rows);
            walk.step_to(start + begin);
            self.chunks.add(row, length, buffer, walk);
            self.noted
                .note(row, &Cells::new(record, &self.fields, &self.columns))?;
            at = begin + length;
            walk.step_to(start + at);
            walk.set_row(RowNumber(row.0.saturating_add(1)));
        }
        Ok(())
    }

    /// Returns the refusal for such records, if there were any.
    fn ragged(&mut self) -> Option<SourceError> {
        std::mem::take(&mut self.ragged).refusal(self.columns.count)
    }

    /// Names the column of a byte that is no text.
    fn with_column(&self, mut error: SourceError) -> SourceError {
        if let SourceError::NotUtf8 { at, .. } | SourceError::Nul { at } = &mut error {
            let ahead = at.byte.saturating_sub(self.window.offset());
            let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
            at.column = self.names.get(self.fields.at(ahead)).cloned();
        }
        error
    }

    fn finish(mut self) -> Result<Index, SourceError> {
        if let Some(refusal) = self.ragged() {
            return Err(refusal);
        }
        let noted = self.noted;
        same_name(noted.names_alone.finish(), &noted.names_with_id.finish())?;
        let bytes = self.window.bytes_read();
        let hash = self.window.file().hash()?;
        // The window's blocks are not needed while rows are read again.
        drop(self.window);
        let shared = noted.repeats.finish(&Again {
            file: self.file,
            chunks: &self.chunks.closed,
            columns: &self.columns,
            org_mode: &self.options.org_mode,
        })?;
        Ok(Index {
            bytes,
            hash: hash.to_hex().to_string(),
            rows: self.rows,
            columns: self.columns,
            chunks: self.chunks.closed,
            followers: shared.followers,
            differing: shared.differing,
            conflicts: shared.conflicts,
            org_names: noted.org_names.finish(),
            warnings: self.warnings,
            read_as: self.read_as,
            left_out: noted.left_out.told(),
        })
    }
}

/// The chunks of the rows so far.
struct Chunks {
    /// Rows of each.
    size: u32,
    closed: Vec<ChunkSpec>,
    /// The chunk being filled; its length and hash are not known yet.
    open: Option<ChunkSpec>,
}

impl Chunks {
    /// Puts the record of `length` bytes that comes next into the open chunk, or into a new one.
    #[inline]
    fn add(&mut self, row: RowNumber, length: usize, buffer: &[u8], walk: &mut Walk) {
        let end = walk.offset() + length as u64;
        match &mut self.open {
            Some(chunk)
                if chunk.rows < self.size && end - chunk.offset <= CHUNK_BYTES_MAX as u64 =>
            {
                chunk.rows += 1;
            }
            _ => self.begin(row, buffer, walk),
        }
    }

    /// Starts a chunk with the record that comes next.
    fn begin(&mut self, row: RowNumber, buffer: &[u8], walk: &mut Walk) {
        self.close(buffer, walk);
        walk.begin_chunk(buffer);
        self.open = Some(ChunkSpec {
            id: ChunkId(u32::try_from(self.closed.len()).unwrap_or(u32::MAX)),
            offset: walk.offset(),
            length: 0,
            first_row: row,
            rows: 1,
            first_line: walk.line(buffer),
            hash: ChunkHash([0; 16]),
        });
    }

    /// Ends the open chunk at the next byte.
    fn close(&mut self, buffer: &[u8], walk: &mut Walk) {
        if let Some(mut chunk) = self.open.take() {
            let length = walk.offset() - chunk.offset;
            // Records and blank lines are capped far below: see `chunk::read_bytes`.
            chunk.length = u32::try_from(length).unwrap_or(u32::MAX);
            chunk.hash = walk.end_chunk(buffer);
            self.closed.push(chunk);
        }
    }
}

/// What is kept of the rows.
struct Noted<'a> {
    options: &'a IndexOptions,
    quick: Quick,
    repeats: Repeats,
    org_names: OrgNames,
    left_out: LeftOut,
    names_alone: OrgNames,
    names_with_id: OrgNames,
}

impl<'a> Noted<'a> {
    fn new(options: &'a IndexOptions, sorter_bytes_max: usize) -> Self {
        let keyed = Keyed(options.hash_key);
        Self {
            options,
            quick: keyed.quick(),
            repeats: Repeats::new(keyed, sorter_bytes_max),
            org_names: OrgNames::default(),
            left_out: LeftOut::default(),
            names_alone: OrgNames::default(),
            names_with_id: OrgNames::default(),
        }
    }

    fn note(&mut self, row: RowNumber, cells: &Cells<'_>) -> Result<(), SourceError> {
        if let Some(reason) = cells.some(cells.columns.skip) {
            self.left_out.note(&reason);
            return Ok(());
        }
        self.repeats.note(row, cells)?;
        let Some(name) = cells.some(cells.columns.org_name) else {
            return Ok(());
        };
        if let Some(external) = named_org(cells) {
            self.note_org(row, &external);
        }
        if self.options.org_mode == OrgMode::ColumnsByName {
            self.note_name(row, &name, cells);
        }
        Ok(())
    }

    /// Takes note of the organization that a row gives a name to.
    fn note_org(&mut self, row: RowNumber, external: &str) {
        let external = trimmed(external);
        let key = self.options.hash_key;
        self.org_names.note(row, external, &self.quick, || {
            org_key_hash(key, &OrgKey::External(external.into()))
        });
    }

    /// Takes note of the name that a row gives its organization, if it names exactly one.
    fn note_name(&mut self, row: RowNumber, name: &str, cells: &Cells<'_>) {
        let names = match with_org(cells, true, |org| matches!(org, OrgRef::Name(_))) {
            None => return,
            Some(true) => &mut self.names_alone,
            Some(false) => &mut self.names_with_id,
        };
        let name = trimmed(name);
        let key = self.options.hash_key;
        names.note(row, name, &self.quick, || {
            org_key_hash(key, &OrgKey::Name(name.into()))
        });
    }
}

/// Returns the external id of the organization a row names by nothing else: a key that is a name
/// needs no other row to say it, and a known id needs no name.
#[inline]
fn named_org<'a>(cells: &Cells<'a>) -> Option<Cow<'a, str>> {
    let external = cells.some(cells.columns.org_external_id)?;
    match cells.some(cells.columns.org_id) {
        Some(_) => None,
        None => Some(external),
    }
}

/// Rows that are left out, by reason.
#[derive(Debug, Default)]
struct LeftOut {
    rows: u64,
    reasons: BTreeMap<String, u64>,
}

/// Most reasons that are told apart.
const REASONS_MAX: usize = 10;

impl LeftOut {
    fn note(&mut self, cell: &str) {
        self.rows += 1;
        let reason = reason_of(cell).unwrap_or_default();
        if let Some(count) = self.reasons.get_mut(reason) {
            *count += 1;
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(shown(reason), 1);
        }
    }

    fn told(&self) -> Option<String> {
        let told: Vec<String> = match self.reasons.len() {
            1 => self.reasons.keys().cloned().collect(),
            _ => self
                .reasons
                .iter()
                .map(|(why, n)| format!("{why} ({n})"))
                .collect(),
        };
        let rows = match self.rows {
            0 => return None,
            1 => "1 row is".to_owned(),
            n => format!("{n} rows are"),
        };
        Some(format!(
            "{rows} left out by the profile: {}",
            told.join(", ")
        ))
    }
}

/// Refuses a name that stands alone in one row and beside an id in another: whichever of the two
/// comes first would find nothing and make one, and there would be two of that name.
fn same_name(
    alone: Vec<(u64, RowNumber)>,
    with_id: &[(u64, RowNumber)],
) -> Result<(), SourceError> {
    let pairs = alone.into_iter().filter_map(|(hash, alone)| {
        let at = with_id.binary_search_by_key(&hash, |entry| entry.0).ok()?;
        with_id.get(at).map(|(_, keyed)| (alone, *keyed))
    });
    match pairs.min() {
        None => Ok(()),
        Some((alone, keyed)) => Err(SourceError::NameInTwoWays { alone, keyed }),
    }
}

/// Texts that are kept to be known again, each in the place its hash gives it.
const RECENT: usize = 8192;

/// Longest text that is kept, in bytes.
const RECENT_BYTES_MAX: usize = 128;

/// The lowest row that names each organization, in memory that grows with organizations only.
#[derive(Debug, Default)]
struct OrgNames {
    entries: Vec<(u64, RowNumber)>,
    /// How many entries the last sorting left.
    known: usize,
    /// Texts noted not long ago: later rows tell nothing new of them.
    recent: Vec<Box<str>>,
}

impl OrgNames {
    /// Takes note of a row, which is higher than those before; `hash` returns the hash of `text`.
    fn note(&mut self, row: RowNumber, text: &str, quick: &Quick, hash: impl FnOnce() -> u64) {
        if self.is_recent(text, quick) {
            return;
        }
        self.entries.push((hash(), row));
        if self.entries.len() > 2 * self.known + ORG_NAMES_SLACK {
            self.settle();
        }
    }

    /// Tells whether a text, which is not empty, is kept, and keeps it from now on.
    fn is_recent(&mut self, text: &str, quick: &Quick) -> bool {
        if self.recent.is_empty() {
            self.recent = vec![Box::default(); RECENT];
        }
        let place = quick.hash(Purpose::Organization, text.as_bytes()) % RECENT as u64;
        let Some(kept) = usize::try_from(place)
            .ok()
            .and_then(|place| self.recent.get_mut(place))
        else {
            return false;
        };
        let is_recent = **kept == *text;
        if !is_recent && text.len() <= RECENT_BYTES_MAX {
            *kept = text.into();
        }
        is_recent
    }

    fn settle(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup_by_key(|entry| entry.0);
        self.known = self.entries.len();
    }

    fn finish(mut self) -> Vec<(u64, RowNumber)> {
        self.settle();
        self.entries
    }
}

#[cfg(test)]
mod tests;
