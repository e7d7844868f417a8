//! Applying changes inside one transaction, with the rules that must hold after each.

use super::codes::Code;
use super::error::Fault;
use super::rows::{self, RowSet};
use super::totals::Totals;
use super::types::{
    Change, CommitReply, FollowerAsk, FollowerFacts, OrgRecord, OrgState, RunSnapshot,
};
use crate::model::{
    ChunkId, LeaseId, MembershipState, OrgKey, RowNumber, RowOutcome, ServerMs, WorkerId,
};
use lru::LruCache;
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

/// How many organization ids are remembered with their numbers; others cost a query.
const ORG_CODES_KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// What the writer keeps in memory so that a settled row costs one insert.
#[derive(Debug)]
pub(super) struct Known {
    /// Chunks in order: first row, rows.
    spans: Vec<Span>,
    /// As committed.
    pub(super) totals: Totals,
    pub(super) generation: u32,
    /// The run of this process, once begun.
    pub(super) run: Option<i64>,
    org_codes: LruCache<String, i64>,
}

/// The rows of one chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: u32,
    pub(super) rows: u32,
}

impl Span {
    /// Returns the rows as a range of numbers.
    pub(super) fn range(self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.rows)
    }
}

/// What a transaction may change in [`Known`] and must be undone when it fails.
#[derive(Clone, Copy)]
pub(super) struct Volatile {
    totals: Totals,
    generation: u32,
    run: Option<i64>,
}

impl Known {
    pub(super) fn load(conn: &Connection) -> Result<Self, Fault> {
        let sql = "SELECT rows, generation FROM job";
        let (total, generation) = conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut spans = Vec::new();
        let mut read = conn.prepare("SELECT first_row, rows FROM chunk ORDER BY id")?;
        let mut found = read.query([])?;
        while let Some(row) = found.next()? {
            spans.push(Span {
                first: row.get(0)?,
                rows: row.get(1)?,
            });
        }
        let totals = Totals::load(conn, total)?;
        let org_codes = LruCache::new(ORG_CODES_KEPT);
        Ok(Self {
            spans,
            totals,
            generation,
            run: None,
            org_codes,
        })
    }

    /// Returns how many rows the file has.
    fn rows(&self) -> u32 {
        u32::try_from(self.totals.rows.total).unwrap_or(u32::MAX)
    }

    pub(super) fn volatile(&self) -> Volatile {
        Volatile {
            totals: self.totals,
            generation: self.generation,
            run: self.run,
        }
    }

    pub(super) fn restore(&mut self, before: Volatile) {
        self.totals = before.totals;
        self.generation = before.generation;
        self.run = before.run;
        // A number given out inside the failed transaction may be given to another id later.
        self.org_codes.clear();
    }

    pub(super) fn span(&self, chunk: ChunkId) -> Option<Span> {
        usize::try_from(chunk.0)
            .ok()
            .and_then(|at| self.spans.get(at))
            .copied()
    }

    /// Returns the chunk that holds `row`.
    pub(super) fn chunk_of(&self, row: RowNumber) -> Option<ChunkId> {
        let after = self.spans.partition_point(|span| span.first <= row.0);
        let at = after.checked_sub(1)?;
        let holds = self.spans.get(at)?.range().contains(&row.0);
        holds.then(|| u32::try_from(at).ok().map(ChunkId)).flatten()
    }
}

/// One transaction at work.
pub(super) struct Work<'a> {
    conn: &'a Connection,
    known: &'a mut Known,
    before: Totals,
    /// Rows settled per chunk by this transaction, as they came: a chunk may be in it several times.
    settled: Vec<(ChunkId, u32)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(conn: &'a Connection, known: &'a mut Known) -> Self {
        let before = known.totals;
        Self {
            conn,
            known,
            before,
            settled: Vec::new(),
        }
    }

    /// Applies the changes of one request, in order.
    pub(super) fn apply_all(&mut self, changes: &[Change]) -> Result<CommitReply, Fault> {
        let mut reply = CommitReply::default();
        for change in changes {
            match change {
                Change::Lease {
                    id,
                    chunk,
                    worker,
                    at,
                    rows,
                    followers,
                } => {
                    self.lease(*id, *chunk, *worker, *at, rows.as_deref())?;
                    for ask in followers {
                        reply.followers.push(self.follower_facts(*ask)?);
                    }
                }
                Change::Settle(outcomes) => self.settle(outcomes)?,
                Change::OrgIntent { key, at } => self.org_intent(key, *at)?,
                Change::Org { key, record } => self.org(key, record)?,
                Change::Run(snapshot) => write_snapshot(self.conn, self.known.run, snapshot)?,
            }
        }
        Ok(reply)
    }

    /// Writes the counters that the changes moved.
    pub(super) fn finish(self) -> Result<(), Fault> {
        let mut add = self
            .conn
            .prepare_cached("UPDATE chunk SET settled = settled + ?1 WHERE id = ?2")?;
        for (chunk, n) in &self.settled {
            add.execute((n, chunk.0))?;
        }
        self.known.totals.store(self.conn, Some(&self.before))
    }

    fn lease(
        &self,
        id: LeaseId,
        chunk: ChunkId,
        worker: WorkerId,
        at: ServerMs,
        rows: Option<&[RowNumber]>,
    ) -> Result<(), Fault> {
        let span = self.known.span(chunk).ok_or_else(|| {
            Fault::Invariant(
                "I2",
                format!("lease {id} is for chunk {chunk}, which is not there"),
            )
        })?;
        let covered = match rows {
            Some(rows) => Some(self.exactly(id, span, rows)?),
            None => self.all_but_waiting(span)?,
        };
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO lease VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
        )?;
        let (generation, run) = (self.known.generation, self.known.run);
        let covered = covered.map(|set| set.0);
        let id_stored = id.0.cast_signed();
        let values = (id_stored, chunk.0, generation, run, worker.0, at.0, covered);
        if insert.execute(values)? == 0 {
            return Err(Fault::Invariant(
                "I2",
                format!("lease {id} was committed before"),
            ));
        }
        Ok(())
    }

    fn exactly(&self, id: LeaseId, span: Span, rows: &[RowNumber]) -> Result<RowSet, Fault> {
        let refuse = |row| {
            let detail = format!("lease {id} names row {row}, settled or of another chunk");
            Err(Fault::Invariant("I2", detail))
        };
        if let Some(row) = rows.iter().find(|row| !span.range().contains(&row.0)) {
            return refuse(*row);
        }
        let ends = [rows.iter().min(), rows.iter().max()].map(|end| end.map(|row| row.0));
        // Rows are mostly leased side by side and nothing between them is settled: one look.
        let mut read = self
            .conn
            .prepare_cached("SELECT row FROM outcome WHERE row BETWEEN ?1 AND ?2")?;
        let mut settled = read.query(ends)?;
        while let Some(row) = settled.next()? {
            let row = RowNumber(row.get(0)?);
            if rows.contains(&row) {
                return refuse(row);
            }
        }
        Ok(RowSet::of(rows.iter().map(|row| row.0 - span.first)))
    }

    /// Returns `None` when the lease covers every row of the chunk, otherwise the rows that do not
    /// wait. A follower whose leader and pair are settled counts as covered: whether it was sent
    /// is unknown, and to look it up in vain is cheap.
    fn all_but_waiting(&self, span: Span) -> Result<Option<RowSet>, Fault> {
        let mut read = self.conn.prepare_cached(
            "SELECT row FROM follower AS f WHERE row >= ?1 AND row < ?2
             AND NOT EXISTS (SELECT 1 FROM outcome WHERE row = f.row)
             AND (NOT EXISTS (SELECT 1 FROM outcome WHERE row = f.leader)
                  OR (previous_pair IS NOT NULL
                      AND NOT EXISTS (SELECT 1 FROM outcome WHERE row = f.previous_pair)))",
        )?;
        let range = span.range();
        let mut waiting = BTreeSet::new();
        let mut found = read.query((range.start, range.end))?;
        while let Some(row) = found.next()? {
            waiting.insert(row.get::<_, u32>(0)?);
        }
        if waiting.is_empty() {
            return Ok(None);
        }
        let free = range
            .filter(|row| !waiting.contains(row))
            .map(|row| row - span.first);
        Ok(Some(RowSet::of(free)))
    }

    fn follower_facts(&self, ask: FollowerAsk) -> Result<FollowerFacts, Fault> {
        let missing = |row: RowNumber, what: &str| {
            let detail = format!("follower {} builds on row {row}, which {what}", ask.row);
            Fault::Invariant("I3", detail)
        };
        let leader = rows::find(self.conn, ask.leader)?
            .ok_or_else(|| missing(ask.leader, "is not settled"))?;
        let user = leader
            .user
            .ok_or_else(|| missing(ask.leader, "has no user"))?;
        let mut membership_id = None;
        let mut pair = ask.previous_pair;
        // A pair row that failed for itself has none: then a lower one of the same pair may.
        while let Some(row) = pair.filter(|_| membership_id.is_none()) {
            let settled =
                rows::find(self.conn, row)?.ok_or_else(|| missing(row, "is not settled"))?;
            membership_id = membership_of(&settled);
            if membership_id.is_none() {
                pair = previous_pair(self.conn, row)?.filter(|lower| *lower < row);
            }
        }
        // After a retry a higher row may have made the membership that this one is for; before
        // one, no row is settled ahead of a lower one of its pair.
        let mut pair = None;
        if self.known.generation > 1 && membership_id.is_none() {
            pair = self.next_pair(ask.row)?;
        }
        while let Some(row) = pair.filter(|_| membership_id.is_none()) {
            membership_id = rows::find(self.conn, row)?.and_then(|row| membership_of(&row));
            pair = self.next_pair(row)?.filter(|higher| *higher > row);
        }
        Ok(FollowerFacts {
            row: ask.row,
            user,
            membership_id,
        })
    }

    /// Returns the next higher row with the same user and organization.
    fn next_pair(&self, row: RowNumber) -> Result<Option<RowNumber>, Fault> {
        let mut read = self.conn.prepare_cached(
            "SELECT row FROM follower WHERE previous_pair = ?1
             AND leader = coalesce((SELECT leader FROM follower WHERE row = ?1), ?1)",
        )?;
        let found: Option<u32> = read.query_row([row.0], |row| row.get(0)).optional()?;
        Ok(found.map(RowNumber))
    }

    fn settle(&mut self, outcomes: &[RowOutcome]) -> Result<(), Fault> {
        let conn = self.conn;
        let mut insert = rows::Insert::new(conn)?;
        for outcome in outcomes {
            let org = match outcome.org_id.as_deref() {
                None => None,
                Some(id) => Some(self.org_code(id)?),
            };
            if insert.add(outcome, org)? {
                self.known.totals.settle(outcome);
                self.count_settled(outcome.row)?;
            } else {
                same_as_before(conn, outcome)?;
            }
        }
        Ok(())
    }

    /// Rows of one chunk come together, so the chunk of the last one is nearly always that of the
    /// next.
    fn count_settled(&mut self, row: RowNumber) -> Result<(), Fault> {
        if let Some((chunk, n)) = self.settled.last_mut()
            && let Some(span) = self.known.span(*chunk)
            && span.range().contains(&row.0)
        {
            *n += 1;
            return Ok(());
        }
        let chunk = self
            .known
            .chunk_of(row)
            .ok_or_else(|| Fault::Invariant("I3", format!("row {row} is not in the file")))?;
        self.settled.push((chunk, 1));
        Ok(())
    }

    /// Returns the number that stands for an organization's id, a new one if it has none.
    fn org_code(&mut self, id: &str) -> Result<i64, Fault> {
        if let Some(code) = self.known.org_codes.get(id) {
            return Ok(*code);
        }
        let mut find = self
            .conn
            .prepare_cached("SELECT code FROM org_id WHERE id = ?1")?;
        let known = find.query_row([id], |row| row.get(0)).optional()?;
        let code = if let Some(code) = known {
            code
        } else {
            self.conn
                .prepare_cached("INSERT INTO org_id (id) VALUES (?1)")?
                .execute([id])?;
            self.conn.last_insert_rowid()
        };
        self.known.org_codes.put(id.to_owned(), code);
        Ok(code)
    }

    fn org_intent(&self, key: &OrgKey, at: ServerMs) -> Result<(), Fault> {
        if let Some(state @ OrgState::Ready { .. }) = find_org(self.conn, key)? {
            let detail = format!("creating organization {key} is intended, but it is {state:?}");
            return Err(Fault::Invariant("I9", detail));
        }
        // The first intent stays: what was made since then may be ours.
        let (kind, key) = org_key_columns(key);
        self.conn
            .prepare_cached(
                "INSERT INTO org (kind, key, intent_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET intent_ms = coalesce(intent_ms, excluded.intent_ms)",
            )?
            .execute((kind, key, at.0))?;
        Ok(())
    }

    fn org(&mut self, key: &OrgKey, record: &OrgRecord) -> Result<(), Fault> {
        let tally = &mut self.known.totals.organizations;
        match find_org(self.conn, key)? {
            Some(state) if state == record.state => return Ok(()),
            // It was not there, or could not be made, at the time.
            Some(OrgState::Failed { .. }) => tally.failed = tally.failed.saturating_sub(1),
            Some(state @ OrgState::Ready { .. }) => {
                let detail = format!(
                    "organization {key} is {state:?} and cannot become {:?}",
                    record.state
                );
                return Err(Fault::Invariant("I8", detail));
            }
            None => {}
        }
        write_org(self.conn, key, &record.state)?;
        *match &record.state {
            OrgState::Ready { origin, .. } if origin.is_made() => &mut tally.created,
            OrgState::Ready { .. } => &mut tally.found,
            OrgState::Failed { .. } => &mut tally.failed,
        } += 1;
        Ok(())
    }
}

/// Returns the next lower row with the same user and organization, settled or not.
pub(super) fn previous_pair(conn: &Connection, row: RowNumber) -> Result<Option<RowNumber>, Fault> {
    let mut read = conn.prepare_cached("SELECT previous_pair FROM follower WHERE row = ?1")?;
    let found: Option<Option<u32>> = read.query_row([row.0], |row| row.get(0)).optional()?;
    Ok(found.flatten().map(RowNumber))
}

/// The same outcome again is the echo of a commit whose answer was lost; another one is a bug.
fn same_as_before(conn: &Connection, outcome: &RowOutcome) -> Result<(), Fault> {
    let stored = RowOutcome {
        // Nobody stores it.
        unknown_role: None,
        ..outcome.clone()
    };
    match rows::find(conn, outcome.row)? {
        Some(known) if known == stored => Ok(()),
        known => {
            let known = known.map_or("gone", |known| known.state.as_str());
            let detail = format!(
                "row {} is settled as {known}, and was to be settled differently as {}",
                outcome.row, outcome.state
            );
            Err(Fault::Invariant("I8", detail))
        }
    }
}

/// Writes the counters of the run that this process began.
pub(super) fn write_snapshot(
    conn: &Connection,
    run: Option<i64>,
    snapshot: &RunSnapshot,
) -> Result<(), Fault> {
    let refuse = |detail| Fault::Invariant("I14", detail);
    let run = run.ok_or_else(|| refuse("a run reports before it began".to_owned()))?;
    let text = serde_json::to_string(snapshot)
        .map_err(|error| refuse(format!("the run's counters: {error}")))?;
    conn.prepare_cached("UPDATE run SET snapshot = ?1 WHERE id = ?2")?
        .execute((text, run))?;
    super::series::add(conn, run, snapshot)
}

pub(super) fn org_key_columns(key: &OrgKey) -> (i64, &str) {
    match key {
        OrgKey::Id(id) => (0, id),
        OrgKey::External(id) => (1, id),
        OrgKey::Name(name) => (2, name),
    }
}

fn find_org(conn: &Connection, key: &OrgKey) -> Result<Option<OrgState>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT id, origin, code, message, http_status, parked FROM org
         WHERE kind = ?1 AND key = ?2",
    )?;
    let found = read.query_row(org_key_columns(key), |row| Ok(org_state(row, 0)));
    Ok(found.optional()?.transpose()?.flatten())
}

/// Reads the state of an organization from the six columns at `at`.
pub(super) fn org_state(row: &rusqlite::Row<'_>, at: usize) -> Result<Option<OrgState>, Fault> {
    if let Some(user) = rows::user(row, at)? {
        return Ok(Some(OrgState::Ready {
            id: user.id,
            origin: user.origin,
        }));
    }
    Ok(match row.get(at + 2)? {
        None => None,
        Some(code) => Some(OrgState::Failed {
            code,
            message: row.get(at + 3)?,
            http_status: row.get(at + 4)?,
            parked: row.get(at + 5)?,
        }),
    })
}

fn write_org(conn: &Connection, key: &OrgKey, state: &OrgState) -> Result<(), Fault> {
    let (kind, key) = org_key_columns(key);
    match state {
        OrgState::Ready { id, origin } => conn
            .prepare_cached(
                "INSERT INTO org (kind, key, id, origin) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET id = excluded.id, origin = excluded.origin,
                     code = NULL, message = NULL, http_status = NULL, parked = NULL",
            )?
            .execute((kind, key, id, origin.code()))?,
        OrgState::Failed {
            code,
            message,
            http_status,
            parked,
        } => conn
            .prepare_cached(
                "INSERT INTO org (kind, key, code, message, http_status, parked)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET code = excluded.code, message = excluded.message,
                     http_status = excluded.http_status, parked = excluded.parked",
            )?
            .execute((kind, key, code, message, http_status, parked))?,
    };
    Ok(())
}

/// Reads every value of every outcome, and compares every stored total with what they say.
pub(super) fn verify(conn: &Connection, known: &Known) -> Result<(), Fault> {
    let counted = count(conn, known, 0..=u32::MAX)?;
    compare(conn, known, counted)
}

/// Compares every stored total with what was counted of the whole file.
pub(super) fn compare(conn: &Connection, known: &Known, counted: Counted) -> Result<(), Fault> {
    let stored = Totals::load(conn, known.rows())?;
    let Counted { totals, settled } = counted;
    let counted = Totals {
        organizations: Totals::organizations_in(conn)?,
        ..totals
    };
    if stored != counted || stored != known.totals {
        let detail = format!(
            "stored {stored:?}, counted {counted:?}, remembered {:?}",
            known.totals
        );
        return Err(Fault::Invariant("I14", detail));
    }
    let mut read = conn.prepare("SELECT id, settled FROM chunk ORDER BY id")?;
    let mut chunks = read.query([])?;
    let mut settled = settled.into_iter();
    while let Some(chunk) = chunks.next()? {
        let (id, stored): (u32, u32) = (chunk.get(0)?, chunk.get(1)?);
        let counted = settled.next().unwrap_or_default();
        if stored != counted {
            let detail =
                format!("chunk {id} is stored as having {stored} settled rows, and has {counted}");
            return Err(Fault::Invariant("I14", detail));
        }
    }
    Ok(())
}

/// What the outcomes of some rows say: totals, and the settled rows of every chunk.
#[derive(Debug)]
pub(super) struct Counted {
    totals: Totals,
    settled: Vec<u32>,
}

impl Counted {
    /// Adds what the outcomes of other rows say.
    pub(super) fn add(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        for (n, more) in self.settled.iter_mut().zip(&other.settled) {
            *n += more;
        }
    }
}

/// Counts the outcomes of `rows`, and the settled rows of every chunk, in one reading.
pub(super) fn count(
    conn: &Connection,
    known: &Known,
    rows: RangeInclusive<u32>,
) -> Result<Counted, Fault> {
    let total = known.rows();
    let mut totals = Totals::of_rows(total);
    let mut settled = vec![0; known.spans.len()];
    let columns = rows::OUTCOME_ALONE;
    let sql = format!("SELECT {columns} WHERE o.row BETWEEN ?1 AND ?2 ORDER BY o.row");
    let mut read = conn.prepare(&sql)?;
    let mut found = read.query((rows.start(), rows.end()))?;
    let mut chunk = ChunkId(0);
    while let Some(row) = found.next()? {
        let outcome = rows::outcome(row)?;
        let row = outcome.row;
        // Rows come in order: it is mostly the chunk of the one before.
        let is_there = |span: &Span| span.range().contains(&row.0);
        if !known.span(chunk).as_ref().is_some_and(is_there) {
            chunk = known.chunk_of(row).ok_or_else(|| {
                let words = format!("row {row} has an outcome, and the file has {total} rows");
                Fault::Stored(words)
            })?;
        }
        totals.settle(&outcome);
        if let Some(n) = settled.get_mut(chunk.0 as usize) {
            *n += 1;
        }
    }
    Ok(Counted { totals, settled })
}

/// Returns the membership a settled row has.
fn membership_of(outcome: &RowOutcome) -> Option<String> {
    let membership = outcome.membership.as_ref();
    membership
        .filter(|membership| membership.state != MembershipState::Failed)
        .and_then(|membership| membership.id.clone())
}
