//! The image of a job: everything a coordinator needs, without reading what is over.

use super::codes::Code as _;
use super::commit::{self, Known};
use super::error::Fault;
use super::rows::{self, RowSet};
use super::store::read_job;
use super::types::{Carry, Fate, FollowerImage, GroupFate, JobImage, LeaseImage, OrgImage};
use crate::model::{
    ChunkHash, ChunkId, ChunkSpec, Follower, LeaseId, OrgKey, Reached, RowNumber, ServerMs, Step,
};
use rusqlite::{Connection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// Users a run asks the target about before it goes on.
const SENTINELS: u32 = 5;

pub(super) fn load(conn: &Connection, known: &Known) -> Result<JobImage, Fault> {
    let job = read_job(conn)?;
    let chunks = chunks(conn)?;
    let leases = leases(conn, known, &chunks)?;
    let remaining = remaining(conn, &chunks, &leases)?;
    let followers = followers(conn, known, &chunks, &remaining)?;
    let leaders = open_leaders(conn, &chunks, &remaining)?;
    let fates = fates(conn, known, &chunks, (&followers, &leaders))?;
    let carry = carry(conn, &followers, &leaders)?;
    let complete = chunks
        .iter()
        .filter(|chunk| chunk.is_complete())
        .map(|chunk| chunk.spec.id);
    let last_lease: Option<i64> = conn.query_row("SELECT max(id) FROM lease", [], |r| r.get(0))?;
    Ok(JobImage {
        complete: complete.collect(),
        leases: suspects(leases, &remaining, &chunks),
        remaining,
        followers,
        fates,
        carry,
        orgs: orgs(conn)?,
        sentinels: sentinels(conn)?,
        every_org_intent: job.record.rebuilt_from,
        org_names: org_names(conn)?,
        hash_key: job.hash_key,
        last_lease: LeaseId(last_lease.unwrap_or_default().cast_unsigned()),
        rows: known.totals.rows,
        memberships: known.totals.memberships,
        organizations: known.totals.organizations,
        chunks: chunks.into_iter().map(|chunk| chunk.spec).collect(),
    })
}

/// A chunk with its counter.
struct Counted {
    spec: ChunkSpec,
    settled: u32,
}

impl Counted {
    fn is_complete(&self) -> bool {
        self.settled == self.spec.rows
    }

    fn range(&self) -> std::ops::Range<u32> {
        self.spec.first_row.0..self.spec.first_row.0.saturating_add(self.spec.rows)
    }
}

fn is_complete(chunks: &[Counted], id: ChunkId) -> bool {
    let at = usize::try_from(id.0).ok();
    at.and_then(|at| chunks.get(at))
        .is_some_and(Counted::is_complete)
}

fn chunks(conn: &Connection) -> Result<Vec<Counted>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT id, offset, length, first_row, rows, first_line, hash, settled FROM chunk
         ORDER BY id",
    )?;
    let mut chunks = Vec::new();
    let mut found = read.query([])?;
    while let Some(row) = found.next()? {
        chunks.push(Counted {
            spec: spec(row)?,
            settled: row.get(7)?,
        });
    }
    Ok(chunks)
}

/// Returns where every chunk lies, ascending.
pub(super) fn specs(conn: &Connection) -> Result<Vec<ChunkSpec>, Fault> {
    Ok(chunks(conn)?.into_iter().map(|chunk| chunk.spec).collect())
}

fn spec(row: &Row<'_>) -> Result<ChunkSpec, Fault> {
    let (offset, first_line): (i64, i64) = (row.get(1)?, row.get(5)?);
    Ok(ChunkSpec {
        id: ChunkId(row.get(0)?),
        offset: offset.cast_unsigned(),
        length: row.get(2)?,
        first_row: RowNumber(row.get(3)?),
        rows: row.get(4)?,
        first_line: first_line.cast_unsigned(),
        hash: ChunkHash(row.get(6)?),
    })
}

/// Leases of one chunk: the first ever, and what those of this generation cover.
struct Leased {
    t_lo: ServerMs,
    /// `None` in it stands for every row.
    covered: Vec<Option<RowSet>>,
}

fn leases(
    conn: &Connection,
    known: &Known,
    chunks: &[Counted],
) -> Result<BTreeMap<ChunkId, Leased>, Fault> {
    let mut read = conn
        .prepare_cached("SELECT at_ms, generation, rows FROM lease WHERE chunk = ?1 ORDER BY id")?;
    let mut leases = BTreeMap::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_complete()) {
        let mut found = read.query([chunk.spec.id.0])?;
        while let Some(row) = found.next()? {
            let t_lo = ServerMs(row.get(0)?);
            let leased = leases.entry(chunk.spec.id).or_insert_with(|| Leased {
                t_lo,
                covered: Vec::new(),
            });
            if row.get::<_, u32>(1)? == known.generation {
                leased
                    .covered
                    .push(row.get::<_, Option<Vec<u8>>>(2)?.map(RowSet));
            }
        }
    }
    Ok(leases)
}

/// Rows without an outcome of chunks that were leased or settled in part.
fn remaining(
    conn: &Connection,
    chunks: &[Counted],
    leases: &BTreeMap<ChunkId, Leased>,
) -> Result<BTreeMap<ChunkId, Vec<RowNumber>>, Fault> {
    let mut read =
        conn.prepare_cached("SELECT row FROM outcome WHERE row >= ?1 AND row < ?2 ORDER BY row")?;
    let mut remaining = BTreeMap::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_complete()) {
        if chunk.settled == 0 && !leases.contains_key(&chunk.spec.id) {
            continue;
        }
        let range = chunk.range();
        let mut rows = Vec::new();
        let mut next = range.start;
        let mut found = read.query((range.start, range.end))?;
        while let Some(row) = found.next()? {
            let settled: u32 = row.get(0)?;
            rows.extend((next..settled).map(RowNumber));
            next = settled.saturating_add(1);
        }
        rows.extend((next..range.end).map(RowNumber));
        let open = chunk.spec.rows.checked_sub(chunk.settled);
        if open.map(u64::from) != u64::try_from(rows.len()).ok() {
            let id = chunk.spec.id;
            return Err(Fault::Stored(format!(
                "the counter of chunk {id} contradicts its rows"
            )));
        }
        remaining.insert(chunk.spec.id, rows);
    }
    Ok(remaining)
}

/// Followers without an outcome: of chunks that are not complete, whole ones without a look at
/// outcomes.
fn followers(
    conn: &Connection,
    known: &Known,
    chunks: &[Counted],
    remaining: &BTreeMap<ChunkId, Vec<RowNumber>>,
) -> Result<Vec<FollowerImage>, Fault> {
    let chunk_of = |row| known.chunk_of(row).filter(|id| !is_complete(chunks, *id));
    let is_open = |row: RowNumber| {
        chunk_of(row).is_some_and(|id| {
            let open = remaining.get(&id);
            open.is_none_or(|rows| rows.binary_search(&row).is_ok())
        })
    };
    let mut read = conn.prepare_cached(
        "SELECT row, leader, previous_pair FROM follower WHERE row >= ?1 AND row < ?2 ORDER BY row",
    )?;
    let mut followers = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_complete()) {
        let open = remaining.get(&chunk.spec.id);
        let range = chunk.range();
        let mut found = read.query((range.start, range.end))?;
        while let Some(row) = found.next()? {
            let follower = Follower {
                row: RowNumber(row.get(0)?),
                leader: RowNumber(row.get(1)?),
                previous_pair: row.get::<_, Option<u32>>(2)?.map(RowNumber),
            };
            if open.is_none_or(|rows| rows.binary_search(&follower.row).is_ok()) {
                let waits_for = open_pair(conn, follower.previous_pair, &is_open)?;
                followers.push(FollowerImage {
                    follower,
                    waits_for,
                });
            }
        }
    }
    Ok(followers)
}

/// Returns the highest row without an outcome among `pair` and the lower rows of the same pair. What
/// is settled costs a query, and no two open rows walk over the same ones.
fn open_pair(
    conn: &Connection,
    mut pair: Option<RowNumber>,
    is_open: &impl Fn(RowNumber) -> bool,
) -> Result<Option<RowNumber>, Fault> {
    while let Some(row) = pair.filter(|row| !is_open(*row)) {
        pair = commit::previous_pair(conn, row)?.filter(|lower| *lower < row);
    }
    Ok(pair)
}

/// Leaders that were leased or settled before and have no outcome: a retry opened them, or a crash
/// left them. Their followers may be ahead of them.
fn open_leaders(
    conn: &Connection,
    chunks: &[Counted],
    remaining: &BTreeMap<ChunkId, Vec<RowNumber>>,
) -> Result<BTreeSet<RowNumber>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT DISTINCT leader FROM follower WHERE leader >= ?1 AND leader < ?2",
    )?;
    let mut leaders = BTreeSet::new();
    for chunk in chunks {
        let Some(open) = remaining.get(&chunk.spec.id) else {
            continue;
        };
        let range = chunk.range();
        let mut found = read.query((range.start, range.end))?;
        while let Some(row) = found.next()? {
            let leader = RowNumber(row.get(0)?);
            if open.binary_search(&leader).is_ok() {
                leaders.insert(leader);
            }
        }
    }
    Ok(leaders)
}

/// Users of the last rows that have one.
fn sentinels(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT user_id FROM outcome WHERE user_id IS NOT NULL ORDER BY row DESC LIMIT ?1",
    )?;
    let ids = read.query_map([SENTINELS], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// How settled rows of groups with an open row bear on those that wait. A row of a chunk in which nothing
/// is settled costs no query.
fn fates(
    conn: &Connection,
    known: &Known,
    chunks: &[Counted],
    (followers, open_leaders): (&[FollowerImage], &BTreeSet<RowNumber>),
) -> Result<BTreeMap<RowNumber, GroupFate>, Fault> {
    let begun = |row: RowNumber| {
        let chunk = known
            .chunk_of(row)
            .and_then(|id| usize::try_from(id.0).ok());
        chunk
            .and_then(|at| chunks.get(at))
            .is_some_and(|chunk| chunk.settled > 0)
    };
    let mut members =
        conn.prepare_cached("SELECT row FROM follower WHERE leader = ?1 ORDER BY row")?;
    let waited_for = followers.iter().map(|f| f.follower.leader);
    let leaders: BTreeSet<RowNumber> = waited_for.chain(open_leaders.iter().copied()).collect();
    let mut fates = BTreeMap::new();
    for leader in leaders {
        let mut group = vec![leader];
        let mut found = members.query([leader.0])?;
        while let Some(row) = found.next()? {
            group.push(RowNumber(row.get(0)?));
        }
        for row in group.into_iter().filter(|row| begun(*row)) {
            if let Some(outcome) = rows::find(conn, row)? {
                let fate = Fate::of(&outcome);
                fates.insert(row, GroupFate { leader, fate });
            }
        }
    }
    Ok(fates)
}

fn suspects(
    leases: BTreeMap<ChunkId, Leased>,
    remaining: &BTreeMap<ChunkId, Vec<RowNumber>>,
    chunks: &[Counted],
) -> BTreeMap<ChunkId, LeaseImage> {
    let first = |id: ChunkId| {
        let at = usize::try_from(id.0).ok();
        at.and_then(|at| chunks.get(at))
            .map_or(0, |chunk| chunk.spec.first_row.0)
    };
    let image = |(id, leased): (ChunkId, Leased)| {
        let first = first(id);
        let is_covered = |row: &RowNumber| {
            let position = row.0.saturating_sub(first);
            leased
                .covered
                .iter()
                .any(|set| set.as_ref().is_none_or(|set| set.has(position)))
        };
        let open = remaining.get(&id).map(Vec::as_slice).unwrap_or_default();
        let suspects = open.iter().copied().filter(is_covered).collect();
        (
            id,
            LeaseImage {
                t_lo: leased.t_lo,
                suspects,
            },
        )
    };
    leases.into_iter().map(image).collect()
}

/// Returns every row that is leased in this generation and has no outcome.
pub(super) fn all_suspects(conn: &Connection, known: &Known) -> Result<Vec<RowNumber>, Fault> {
    let chunks = chunks(conn)?;
    let leases = leases(conn, known, &chunks)?;
    let remaining = remaining(conn, &chunks, &leases)?;
    let images = suspects(leases, &remaining, &chunks);
    Ok(images
        .into_values()
        .flat_map(|image| image.suspects)
        .collect())
}

/// Facts of earlier generations. A user that a follower made in its leader's place is the user of
/// the leader, who goes first.
fn carry(
    conn: &Connection,
    followers: &[FollowerImage],
    open_leaders: &BTreeSet<RowNumber>,
) -> Result<BTreeMap<RowNumber, Carry>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT c.row, c.user_id, c.user_origin, c.suspect, h.step, g.id, h.membership,
                h.membership_id, h.membership_repeat
         FROM carry AS c
         LEFT JOIN outcome_history AS h ON h.row = c.row AND h.generation =
             (SELECT max(generation) FROM outcome_history WHERE row = c.row AND step IN (5, 6))
         LEFT JOIN org_id AS g ON g.code = h.org
         WHERE NOT EXISTS (SELECT 1 FROM outcome WHERE row = c.row)",
    )?;
    let mut carry = BTreeMap::new();
    let mut found = read.query([])?;
    while let Some(row) = found.next()? {
        let facts = Carry {
            user: rows::user(row, 1)?,
            suspect: row.get(3)?,
            reached: reached(row)?,
        };
        carry.insert(RowNumber(row.get(0)?), facts);
    }
    for FollowerImage { follower, .. } in followers {
        let made = carry
            .get(&follower.row)
            .and_then(|facts| facts.user.clone());
        if let Some(user) = made.filter(|_| open_leaders.contains(&follower.leader)) {
            let leader = carry.entry(follower.leader).or_default();
            leader.user.get_or_insert(user);
            let facts = carry.get_mut(&follower.row);
            if let Some(reached) = facts.and_then(|facts| facts.reached.as_mut()) {
                reached.leads = false;
            }
        }
    }
    Ok(carry)
}

/// What a row had reached when it ended at one of its last steps: factor (5) or locale (6).
fn reached(row: &Row<'_>) -> Result<Option<Reached>, Fault> {
    let step = row.get::<_, Option<i64>>(4)?.map(Step::of).transpose()?;
    let Some(step) = step.filter(|step| step.is_last()) else {
        return Ok(None);
    };
    Ok(Some(Reached {
        org_id: row.get(5)?,
        membership: rows::membership(row, 6)?,
        locale_set: step == Step::Factor,
        leads: true,
    }))
}

fn orgs(conn: &Connection) -> Result<BTreeMap<OrgKey, OrgImage>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT kind, key, intent_ms, id, origin, code, message, http_status, parked FROM org",
    )?;
    let mut orgs = BTreeMap::new();
    let mut found = read.query([])?;
    while let Some(row) = found.next()? {
        let text = row.get::<_, String>(1)?.into();
        let key = match row.get::<_, i64>(0)? {
            0 => OrgKey::Id(text),
            1 => OrgKey::External(text),
            2 => OrgKey::Name(text),
            kind => {
                return Err(Fault::Stored(format!(
                    "{kind} is no kind of organization key"
                )));
            }
        };
        let intent = row.get::<_, Option<i64>>(2)?.map(ServerMs);
        orgs.insert(
            key,
            OrgImage {
                intent,
                state: commit::org_state(row, 3)?,
            },
        );
    }
    Ok(orgs)
}

fn org_names(conn: &Connection) -> Result<Vec<(u64, RowNumber)>, Fault> {
    let mut read = conn.prepare_cached("SELECT hash, row FROM org_name")?;
    let mut names = Vec::new();
    let mut found = read.query([])?;
    while let Some(row) = found.next()? {
        let hash: i64 = row.get(0)?;
        names.push((hash.cast_unsigned(), RowNumber(row.get(1)?)));
    }
    names.sort_unstable();
    Ok(names)
}
