//! Rows that share an email or an external id.
//!
//! The one pass keeps 64 bits of hash and the row number of each; rows whose hashes meet are
//! read again and compared by 128 bits of another keyed hash, so memory stays bounded and no email
//! is kept.

use super::Columns;
use super::cells::Cells;
use super::chunk::read_bytes_into;
use super::error::SourceError;
use super::keyed::{Keyed, Purpose, Quick, put_org};
use super::meet::Meet;
use super::records::Seek;
use super::row::{OrgRef, is_lower_ascii, org_ref, put_email_norm, trimmed};
use super::sorter::{Sorted, Sorter};
use crate::model::{ChunkSpec, ExternalIdConflict, Follower, OrgMode, RowNumber};
use std::collections::BTreeMap;
use std::fs::File;

/// The share of a sorter's memory that each of the two later ones gets: they hold few rows.
const LATER_SHARE: usize = 4;

/// `(email, row, organization or 0, user fields)` of a row whose email hash is not alone; among
/// the rows of one email, 64 bits tell organizations apart.
type EmailFact = ([u64; 2], u32, u64, u64);
/// `(external id, row, email)` of a row whose external id hash is not alone; among the rows of
/// one external id, 64 bits tell emails apart.
type ExternalFact = ([u64; 2], u32, u64);

/// What the one pass collects.
pub(super) struct Repeats {
    keyed: Keyed,
    quick: Quick,
    bytes_max: usize,
    emails: Meet,
    externals: Meet,
    /// The email of one row, lower-cased.
    email: String,
}

/// What the rows share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Rows that repeat a lower row's email, ascending.
    pub(super) followers: Vec<Follower>,
    /// Those of them that differ from their leader in a user field, ascending.
    pub(super) differing: Vec<RowNumber>,
    /// Rows whose external id a lower row with another email uses, ascending.
    pub(super) conflicts: Vec<ExternalIdConflict>,
}

/// Where the rows can be read again.
pub(super) struct Again<'a> {
    /// The file.
    pub(super) file: &'a File,
    /// Its chunks.
    pub(super) chunks: &'a [ChunkSpec],
    /// Which column is which.
    pub(super) columns: &'a Columns,
    /// Where organizations come from.
    pub(super) org_mode: &'a OrgMode,
}

impl Repeats {
    /// Starts; every sorter keeps at most `bytes_max` bytes in memory.
    pub(super) fn new(keyed: Keyed, bytes_max: usize) -> Self {
        Self {
            keyed,
            quick: keyed.quick(),
            bytes_max,
            emails: Meet::new(bytes_max),
            externals: Meet::new(bytes_max),
            email: String::new(),
        }
    }

    /// Takes note of one row that is not left out. One without an email shares nothing, it fails by
    /// itself.
    pub(super) fn note(&mut self, row: RowNumber, cells: &Cells<'_>) -> Result<(), SourceError> {
        let email = cells.value(cells.columns.email);
        let email = norm_of(&email, &mut self.email);
        if email.is_empty() {
            return Ok(());
        }
        let hash = self.quick.hash(Purpose::Email, email.as_bytes());
        self.emails.push(hash, row.0)?;
        if let Some(external) = cells.some(cells.columns.external_id) {
            let external = trimmed(&external).as_bytes();
            let hash = self.quick.hash(Purpose::ExternalId, external);
            self.externals.push(hash, row.0)?;
        }
        Ok(())
    }

    /// Reads again the rows whose hashes met, and tells what they share.
    pub(super) fn finish(self, again: &Again<'_>) -> Result<Shared, SourceError> {
        let bytes_max = self.bytes_max / LATER_SHARE;
        let mut facts = Facts {
            keyed: self.keyed,
            quick: self.quick,
            email: self.email,
            bytes: Vec::new(),
            room: Vec::new(),
            emails: Sorter::new(bytes_max),
            externals: Sorter::new(bytes_max),
        };
        let mut wanted = Wanted {
            emails: Ahead::new(self.emails.finish(bytes_max)?)?,
            externals: Ahead::new(self.externals.finish(bytes_max)?)?,
        };
        for spec in again.chunks {
            if wanted.next_row().is_some_and(|row| spec.contains(row)) {
                facts.read(spec, &mut wanted, again)?;
            }
        }
        let mut shared = Shared::default();
        shared.find_conflicts(facts.externals.finish()?)?;
        shared.find_followers(facts.emails.finish()?)?;
        Ok(shared)
    }
}

/// Returns the email by which rows are compared; `room` is for one that is not written so.
#[inline]
fn norm_of<'a>(email: &'a str, room: &'a mut String) -> &'a str {
    let email = trimmed(email);
    if is_lower_ascii(email) {
        return email;
    }
    room.clear();
    put_email_norm(email, room);
    room
}

/// A stream of rows with its head looked at.
struct Ahead {
    rows: Sorted<u32>,
    head: Option<u32>,
}

impl Ahead {
    fn new(mut rows: Sorted<u32>) -> Result<Self, SourceError> {
        let head = rows.next().transpose()?;
        Ok(Self { rows, head })
    }

    /// Tells whether `row` is the head, and steps over it.
    fn take(&mut self, row: RowNumber) -> Result<bool, SourceError> {
        let is_head = self.head == Some(row.0);
        if is_head {
            self.head = self.rows.next().transpose()?;
        }
        Ok(is_head)
    }
}

/// The rows to read again, ascending.
struct Wanted {
    emails: Ahead,
    externals: Ahead,
}

impl Wanted {
    fn next_row(&self) -> Option<RowNumber> {
        let heads = [self.emails.head, self.externals.head];
        heads.into_iter().flatten().min().map(RowNumber)
    }
}

/// What the second look at a row keeps of it.
struct Facts {
    keyed: Keyed,
    quick: Quick,
    /// The email of one row, lower-cased.
    email: String,
    /// The bytes of one chunk.
    bytes: Vec<u8>,
    /// What of one row is hashed in one piece.
    room: Vec<u8>,
    emails: Sorter<EmailFact>,
    externals: Sorter<ExternalFact>,
}

impl Facts {
    fn read(
        &mut self,
        spec: &ChunkSpec,
        wanted: &mut Wanted,
        again: &Again<'_>,
    ) -> Result<(), SourceError> {
        let mut bytes = std::mem::take(&mut self.bytes);
        read_bytes_into(again.file, spec, &mut bytes)?;
        // The index checked this very text before.
        let text = simdutf8::basic::from_utf8(&bytes).unwrap_or_default();
        let mut seek = Seek::new(text.as_bytes(), spec, again.columns.delimiter);
        while let Some(row) = wanted.next_row().filter(|row| spec.contains(*row)) {
            let Some((range, fields)) = seek.row(row) else {
                break;
            };
            let record = text.get(range).unwrap_or_default();
            let cells = Cells::new(record, fields, again.columns);
            self.note(row, &cells, wanted, again.org_mode)?;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Keeps what is wanted of one row.
    fn note(
        &mut self,
        row: RowNumber,
        cells: &Cells<'_>,
        wanted: &mut Wanted,
        org_mode: &OrgMode,
    ) -> Result<(), SourceError> {
        let columns = cells.columns;
        let email = cells.value(columns.email);
        let email = norm_of(&email, &mut self.email);
        let email = self.keyed.wide(Purpose::Email, email.as_bytes());
        let [short_email, _] = email;
        if wanted.emails.take(row)? {
            let org = self.organization(cells, org_mode);
            let user = self.user_fields(cells);
            self.emails.push((email, row.0, org, user))?;
        }
        let by_external = wanted.externals.take(row)?;
        let external = cells.some(columns.external_id);
        if let Some(external) = external.filter(|_| by_external) {
            let external = trimmed(&external).as_bytes();
            let external = self.keyed.wide(Purpose::ExternalId, external);
            self.externals.push((external, row.0, short_email))?;
        }
        Ok(())
    }

    /// Returns what two rows of one organization have in common; 0 for a row without any.
    fn organization(&mut self, cells: &Cells<'_>, org_mode: &OrgMode) -> u64 {
        let (keyed, room) = (self.keyed, &mut self.room);
        let mut hash = |org: OrgRef<'_>| {
            room.clear();
            put_org(org, room);
            keyed.hash(Purpose::Organization, room).max(1)
        };
        let hash = match org_mode {
            OrgMode::Single { key, .. } => Some(hash(OrgRef::of(key))),
            OrgMode::Columns => with_org(cells, false, hash),
            OrgMode::ColumnsByName => with_org(cells, true, hash),
        };
        hash.unwrap_or_default()
    }

    /// Returns what two rows with equal user fields have in common.
    fn user_fields(&mut self, cells: &Cells<'_>) -> u64 {
        let columns = cells.columns;
        let password = columns.password;
        let columns = [
            columns.first_name,
            columns.last_name,
            columns.email_verified,
            columns.external_id,
            columns.locale,
            columns.metadata,
            columns.password,
            columns.password_hash,
            columns.password_hash_type,
            columns.totp_secret,
            columns.totp_issuer,
        ];
        let all = &mut self.room;
        all.clear();
        for column in columns.into_iter().flatten() {
            let value = cells.value(column);
            // Blanks around a password belong to it, unless it is nothing else.
            let trimmed = trimmed(&value);
            let whole = Some(column) == password && !trimmed.is_empty();
            let value = if whole { &*value } else { trimmed };
            // The length in front keeps `a`, `bc` apart from `ab`, `c`.
            all.extend_from_slice(&value.len().to_le_bytes());
            all.extend_from_slice(value.as_bytes());
        }
        self.quick.hash(Purpose::Attributes, all)
    }
}

/// Shows `then` the organization a row names, if it names exactly one; `by_name`: also by name
/// alone.
pub(super) fn with_org<T>(
    cells: &Cells<'_>,
    by_name: bool,
    then: impl FnOnce(OrgRef<'_>) -> T,
) -> Option<T> {
    let id = cells.some(cells.columns.org_id);
    let external = cells.some(cells.columns.org_external_id);
    let name = cells.some(cells.columns.org_name.filter(|_| by_name));
    let org = org_ref(
        id.as_deref().unwrap_or_default(),
        external.as_deref().unwrap_or_default(),
        name.as_deref().unwrap_or_default(),
    );
    org.map(then)
}

impl Shared {
    fn find_followers(&mut self, facts: Sorted<EmailFact>) -> Result<(), SourceError> {
        let mut leader: Option<EmailFact> = None;
        let mut last_by_org = BTreeMap::new();
        // A row that fails before any request joins nothing: the next one looks past it.
        let conflicts = std::mem::take(&mut self.conflicts);
        let joins = |row| conflicts.binary_search_by_key(&row, |it| it.row.0).is_err();
        for fact in facts {
            let fact = fact?;
            let (email, row, org, user) = fact;
            match leader {
                Some((same, lowest, _, its_user)) if same == email => {
                    if user != its_user {
                        self.differing.push(RowNumber(row));
                    }
                    let previous_pair = if org == 0 {
                        None
                    } else if joins(row) {
                        last_by_org.insert(org, row)
                    } else {
                        last_by_org.get(&org).copied()
                    };
                    self.followers.push(Follower {
                        row: RowNumber(row),
                        leader: RowNumber(lowest),
                        previous_pair: previous_pair.map(RowNumber),
                    });
                }
                _ => {
                    last_by_org.clear();
                    if joins(row) {
                        last_by_org.insert(org, row);
                    }
                    leader = Some(fact);
                }
            }
        }
        self.followers.sort_unstable_by_key(|follower| follower.row);
        self.differing.sort_unstable();
        self.conflicts = conflicts;
        Ok(())
    }

    fn find_conflicts(&mut self, facts: Sorted<ExternalFact>) -> Result<(), SourceError> {
        let mut winner: Option<ExternalFact> = None;
        for fact in facts {
            let fact = fact?;
            let (external, row, email) = fact;
            match winner {
                Some((same, lowest, its_email)) if same == external => {
                    if email != its_email {
                        self.conflicts.push(ExternalIdConflict {
                            row: RowNumber(row),
                            winner: RowNumber(lowest),
                        });
                    }
                }
                _ => winner = Some(fact),
            }
        }
        self.conflicts.sort_unstable_by_key(|conflict| conflict.row);
        Ok(())
    }
}
