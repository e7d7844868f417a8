//! What a listing of the target found, as a file that every worker of the run looks things up in.
//!
//! # Owns
//! The file: sorted records of fixed size under keyed 128-bit hashes, written by the one worker
//! that lists, read by all with `pread`. No memory grows with it.
//! # Never
//! Holds an email, a name or an external id, only hashes of them under a key that is on no disk.
//! Says that something is absent: a miss means nothing. Outlives its run, see [`forget`].

use crate::model::ServerMs;
use crate::target::Entity;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// First bytes of a file, and what its number is.
const MAGIC: &[u8; 8] = b"UFKNOWN1";
const HEADER_BYTES: usize = 32;

/// Longest id that is kept: an entity with a longer one is asked for row by row.
const ID_BYTES_MAX: usize = 39;

/// Key, what else identifies it, when it was made, id.
const RECORD_BYTES: usize = 16 + 16 + 8 + 1 + ID_BYTES_MAX;

/// Records sorted in memory before they are written out: 2.6 MB.
const RUN_RECORDS: usize = 32 * 1024;

/// Records of one run that are read back at once: 8 KB, so that a thousand runs fit.
const MERGE_RECORDS: usize = 100;

/// Records of one read at the end of a search.
const SEARCH_RECORDS: usize = 50;

const NAME: &str = "known-users-";

/// The key of the hashes: drawn anew for every run, told to workers, written nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownKey(pub [u64; 4]);

type Record = [u8; RECORD_BYTES];
type Hash = [u8; 16];

/// A hash that stands for "there is none".
const NONE: Hash = [0; 16];

impl KnownKey {
    fn hash(self, purpose: u8, parts: [&str; 2]) -> Hash {
        let mut key = [0; 32];
        for (to, from) in key.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&[purpose]);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(hasher.finalize().as_bytes().get(..16).unwrap_or(&NONE));
        hash
    }

    fn email(self, norm: &str) -> Hash {
        self.hash(1, [norm, ""])
    }

    fn external_id(self, id: &str) -> Hash {
        self.hash(2, [id, ""])
    }

    fn membership(self, user_id: &str, org_id: &str) -> Hash {
        self.hash(3, [user_id, org_id])
    }
}

/// What a record holds beside its key.
struct Held {
    other: Hash,
    created_at: Option<ServerMs>,
    id: String,
}

fn record(key: Hash, other: Hash, entity: &Entity) -> Option<Record> {
    let id = entity.id.as_bytes();
    if id.len() > ID_BYTES_MAX {
        return None;
    }
    let mut out = [0; RECORD_BYTES];
    let (head, tail) = out.split_at_mut(40);
    let created = entity.created_at.map_or(i64::MIN, |at| at.0);
    for (to, from) in head
        .iter_mut()
        .zip(key.iter().chain(&other).chain(&created.to_be_bytes()))
    {
        *to = *from;
    }
    let length = [u8::try_from(id.len()).ok()?];
    for (to, from) in tail.iter_mut().zip(length.iter().chain(id)) {
        *to = *from;
    }
    Some(out)
}

fn key_of(record: &Record) -> Hash {
    let (key, _) = record.split_first_chunk().unwrap_or((&NONE, &[]));
    *key
}

fn held(record: &Record) -> Option<Held> {
    let (_, rest) = record.split_first_chunk::<16>()?;
    let (other, rest) = rest.split_first_chunk::<16>()?;
    let (created, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first()?;
    let created = i64::from_be_bytes(*created);
    Some(Held {
        other: *other,
        created_at: (created != i64::MIN).then_some(ServerMs(created)),
        id: String::from_utf8(rest.get(..usize::from(*length))?.to_vec()).ok()?,
    })
}

/// Collects what a listing finds, in memory that does not grow with it.
#[derive(Debug)]
pub struct KnownBuilder {
    key: KnownKey,
    run: Vec<Record>,
    /// Sorted runs, one after the other; without a name, so that it ends with the process.
    spill: BufWriter<File>,
    /// Records of each run.
    runs: Vec<usize>,
    folder: PathBuf,
}

impl KnownBuilder {
    /// Begins a file in `folder`.
    pub fn new(folder: &Path, key: KnownKey) -> io::Result<Self> {
        Ok(Self {
            key,
            run: Vec::new(),
            spill: BufWriter::with_capacity(64 << 10, tempfile::tempfile_in(folder)?),
            runs: Vec::new(),
            folder: folder.to_owned(),
        })
    }

    /// Adds a user.
    pub fn user(&mut self, user: &Entity) -> io::Result<()> {
        let norm = user.email.as_deref().map(crate::source::email_norm);
        let email = norm.map_or(NONE, |norm| self.key.email(&norm));
        let external = user.external_id.as_deref().map(str::trim);
        let external = external.filter(|id| !id.is_empty());
        let external = external.map_or(NONE, |id| self.key.external_id(id));
        for (key, other) in [(email, external), (external, email)] {
            if key != NONE {
                self.add(record(key, other, user))?;
            }
        }
        Ok(())
    }

    /// Adds a membership.
    pub fn membership(&mut self, user_id: &str, org_id: &str, found: &Entity) -> io::Result<()> {
        let mut status = NONE;
        let word = match found.status.as_deref() {
            Some("active") | None => 1,
            Some("inactive") => 2,
            Some("pending") => 3,
            Some(_) => return Ok(()),
        };
        status[0] = word;
        let key = self.key.membership(user_id, org_id);
        self.add(record(key, status, found))
    }

    fn add(&mut self, record: Option<Record>) -> io::Result<()> {
        self.run.extend(record);
        if self.run.len() >= RUN_RECORDS {
            self.write_run()?;
        }
        Ok(())
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        for record in &self.run {
            self.spill.write_all(record)?;
        }
        self.runs.push(self.run.len());
        self.run.clear();
        Ok(())
    }

    /// Begins to merge the runs into the file number `number`.
    pub fn merge(mut self, number: u32) -> io::Result<KnownMerge> {
        self.write_run()?;
        let spill = self
            .spill
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let place = path(&self.folder, number);
        let part = place.with_extension("part");
        let out = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        let mut out = BufWriter::with_capacity(256 << 10, out);
        out.write_all(&[0; HEADER_BYTES])?;
        let mut merge = KnownMerge {
            key: self.key,
            spill,
            out,
            runs: Vec::new(),
            heads: BinaryHeap::new(),
            group: None,
            written: 0,
            part,
            place,
        };
        let mut at = 0;
        for records in self.runs {
            let end = at + records as u64;
            merge.runs.push(Run {
                at,
                end,
                buffer: Vec::new(),
            });
            at = end;
            merge.refill(merge.runs.len() - 1)?;
        }
        Ok(merge)
    }
}

/// A run on its way into the file.
#[derive(Debug)]
struct Run {
    /// In records.
    at: u64,
    end: u64,
    /// Read back and not used yet, the next one last.
    buffer: Vec<Record>,
}

/// What is known of the records with the current key.
#[derive(Debug)]
struct Group {
    record: Record,
    /// Two entities have it: then neither is known by it.
    disputed: bool,
}

/// Runs that become one file, a piece at a time.
#[derive(Debug)]
pub struct KnownMerge {
    key: KnownKey,
    spill: File,
    out: BufWriter<File>,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
    group: Option<Group>,
    written: u64,
    part: PathBuf,
    place: PathBuf,
}

impl KnownMerge {
    /// Merges some records; returns whether there are more.
    pub fn step(&mut self) -> io::Result<bool> {
        for _ in 0..RUN_RECORDS {
            let Some(Reverse((record, run))) = self.heads.pop() else {
                return Ok(false);
            };
            self.refill(run)?;
            self.take(record)?;
        }
        Ok(true)
    }

    /// Ends the file: from now on it can be opened.
    pub fn finish(mut self) -> io::Result<()> {
        self.close_group()?;
        let out = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        out.write_all_at(&header(self.key, self.written), 0)?;
        fs::rename(&self.part, &self.place)
    }

    fn refill(&mut self, index: usize) -> io::Result<()> {
        let Some(run) = self.runs.get_mut(index) else {
            return Ok(());
        };
        if run.buffer.is_empty() {
            let count =
                MERGE_RECORDS.min(usize::try_from(run.end - run.at).unwrap_or(MERGE_RECORDS));
            let mut bytes = vec![0; count * RECORD_BYTES];
            self.spill
                .read_exact_at(&mut bytes, run.at * RECORD_BYTES as u64)?;
            run.at += count as u64;
            let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
            run.buffer.extend(records.iter().rev());
        }
        if let Some(head) = run.buffer.pop() {
            self.heads.push(Reverse((head, index)));
        }
        Ok(())
    }

    fn take(&mut self, record: Record) -> io::Result<()> {
        match &mut self.group {
            Some(group) if key_of(&group.record) == key_of(&record) => {
                group.disputed |= group.record != record;
                Ok(())
            }
            _ => {
                self.close_group()?;
                self.group = Some(Group {
                    record,
                    disputed: false,
                });
                Ok(())
            }
        }
    }

    fn close_group(&mut self) -> io::Result<()> {
        if let Some(group) = self.group.take().filter(|group| !group.disputed) {
            self.out.write_all(&group.record)?;
            self.written += 1;
        }
        Ok(())
    }
}

fn header(key: KnownKey, records: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    // The last part tells the files of one run from those of any other.
    let parts = MAGIC.iter().copied().chain(records.to_le_bytes());
    for (to, from) in out.iter_mut().zip(parts.chain(key.hash(0, ["", ""]))) {
        *to = from;
    }
    out
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{NAME}{number}"))
}

/// Removes the files of this or of an earlier run: what they say may not be true any more.
pub fn forget(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAME)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(%error, "a list of known users could not be removed");
        }
    }
}

/// A finished file.
#[derive(Debug)]
pub struct KnownUsers {
    key: KnownKey,
    file: File,
    records: u64,
}

impl KnownUsers {
    /// Opens the file number `number`, if it is a whole one of this run.
    pub fn open(folder: &Path, number: u32, key: KnownKey) -> io::Result<Self> {
        let file = File::open(path(folder, number))?;
        let mut start = [0; HEADER_BYTES];
        file.read_exact_at(&mut start, 0)?;
        let bytes = file.metadata()?.len();
        let records = bytes.saturating_sub(HEADER_BYTES as u64) / RECORD_BYTES as u64;
        let whole = bytes == HEADER_BYTES as u64 + records * RECORD_BYTES as u64;
        if !whole || start != header(key, records) {
            return Err(io::Error::other("it is not a whole list of this run"));
        }
        Ok(Self { key, file, records })
    }

    /// Returns the user with this external id, else the one with this email. Of a user, the email
    /// and the external id are only known if they are the ones asked for; others are blank words.
    pub fn user(&self, email_norm: &str, external_id: Option<&str>) -> io::Result<Option<Entity>> {
        let email = self.key.email(email_norm);
        let external = external_id.map_or(NONE, |id| self.key.external_id(id));
        let by_external = match external_id {
            Some(_) => self.find(external)?,
            None => None,
        };
        let (theirs, found) = match by_external {
            Some(found) => ((found.other, external), found),
            None => match self.find(email)? {
                Some(found) => ((email, found.other), found),
                None => return Ok(None),
            },
        };
        let shown = |theirs: Hash, ours: Hash, word: Option<&str>| {
            if theirs == NONE {
                None
            } else if theirs == ours {
                word.map(str::to_owned)
            } else {
                Some(SOMETHING_ELSE.to_owned())
            }
        };
        Ok(Some(Entity {
            id: found.id,
            email: shown(theirs.0, email, Some(email_norm)),
            external_id: shown(theirs.1, external, external_id),
            created_at: found.created_at,
            ..Entity::default()
        }))
    }

    /// Returns the membership of a user in an organization.
    pub fn membership(&self, user_id: &str, org_id: &str) -> io::Result<Option<Entity>> {
        let found = self.find(self.key.membership(user_id, org_id))?;
        Ok(found.map(|found| Entity {
            id: found.id,
            status: Some(
                match found.other.first() {
                    Some(1) => "active",
                    Some(2) => "inactive",
                    _ => "pending",
                }
                .to_owned(),
            ),
            created_at: found.created_at,
            ..Entity::default()
        }))
    }

    fn find(&self, key: Hash) -> io::Result<Option<Held>> {
        let (mut low, mut high) = (0, self.records);
        while high - low > SEARCH_RECORDS as u64 {
            let middle = low + (high - low) / 2;
            let mut at = NONE;
            self.file.read_exact_at(&mut at, offset(middle))?;
            if at <= key {
                low = middle;
            } else {
                high = middle;
            }
        }
        let mut bytes = [0; SEARCH_RECORDS * RECORD_BYTES];
        let length = usize::try_from(high - low).unwrap_or(SEARCH_RECORDS) * RECORD_BYTES;
        let Some(bytes) = bytes.get_mut(..length) else {
            return Ok(None);
        };
        self.file.read_exact_at(bytes, offset(low))?;
        let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
        let found = records.iter().find(|record| key_of(record) == key);
        Ok(found.and_then(held))
    }
}

/// Stands for an email or an external id that is there and is not the one asked for; no row can
/// have it.
const SOMETHING_ELSE: &str = "\u{0}";

const fn offset(record: u64) -> u64 {
    HEADER_BYTES as u64 + record * RECORD_BYTES as u64
}

#[cfg(test)]
mod tests;
