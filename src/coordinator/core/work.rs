//! What is left to do, who does it, and what may be given out next.
//!
//! Order: rows whose owner died, then followers that are ready, then fresh chunks, ascending.
//! A row is in at most one live lease (I2).

use super::followers::{Followers, Released};
use crate::ledger::{Carry, Change, Fate, FollowerFacts, JobImage};
use crate::model::{ChunkId, ChunkSpec, LeaseId, RowNumber, ServerMs, WorkerId, plant};
use crate::protocol::{Grant, RowContext};
use std::collections::{BTreeMap, BTreeSet};

/// Followers are given out early once this many are ready, so that they do not trickle.
const READY_ENOUGH: usize = 64;

/// After this many deaths of its owners a lease's rows are granted one by one.
const DEATHS_BEFORE_SPLIT: u8 = 2;

/// After this many deaths of the owners of one row alone, the row is taken for the cause.
const DEATHS_ALONE: u8 = 2;

/// Rows of one chunk that are given out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) chunk: ChunkId,
    /// Ascending, at least one.
    pub(super) rows: Vec<RowNumber>,
    /// Workers that died with these rows.
    deaths: u8,
}

#[derive(Debug)]
struct LiveLease {
    worker: WorkerId,
    chunk: ChunkId,
    left: BTreeSet<RowNumber>,
    deaths: u8,
    /// The worker was told: its death may have to do with these rows.
    delivered: bool,
}

/// A lease about to be committed.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) worker: WorkerId,
    pub(super) grant: Grant,
    /// Rows it holds.
    pub(super) size: u32,
    /// Followers among them need facts from the ledger.
    asks: bool,
}

impl Draft {
    /// Returns whether its grant needs no facts from the ledger.
    pub(super) const fn asks_nothing(&self) -> bool {
        !self.asks
    }
}

/// Why a worker's outcome was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotItsRow;

/// The work of a job.
#[derive(Debug)]
pub(super) struct Work {
    chunks: Vec<ChunkSpec>,
    chunk_rows_max: usize,
    /// Rows after this one are left for another run.
    limit: Option<RowNumber>,
    /// The next chunk that was never leased (or is complete: then it is passed over).
    fresh: usize,
    complete: BTreeSet<ChunkId>,
    /// Rows left in chunks that are neither untouched nor complete and were never leased.
    remaining: BTreeMap<ChunkId, Vec<RowNumber>>,
    t_lo: BTreeMap<ChunkId, ServerMs>,
    again: BTreeMap<(ChunkId, RowNumber), Unit>,
    ready: BTreeMap<ChunkId, BTreeSet<RowNumber>>,
    ready_count: usize,
    followers: Followers,
    suspects: BTreeSet<RowNumber>,
    carry: BTreeMap<RowNumber, Carry>,
    live: BTreeMap<LeaseId, LiveLease>,
    last_lease: LeaseId,
}

impl Work {
    /// Takes a job as the ledger knows it; returns followers that are doomed already.
    pub(super) fn load(
        image: &mut JobImage,
        limit: Option<RowNumber>,
    ) -> (Self, Vec<(RowNumber, Fate)>) {
        let (followers, released) = Followers::load(&image.followers, &image.fates);
        let chunk_rows_max = image
            .chunks
            .iter()
            .map(|chunk| chunk.rows)
            .max()
            .unwrap_or(1);
        let mut work = Self {
            chunks: std::mem::take(&mut image.chunks),
            chunk_rows_max: chunk_rows_max as usize,
            limit,
            fresh: 0,
            complete: image.complete.iter().copied().collect(),
            remaining: std::mem::take(&mut image.remaining),
            t_lo: image
                .leases
                .iter()
                .map(|(chunk, lease)| (*chunk, lease.t_lo))
                .collect(),
            again: BTreeMap::new(),
            ready: BTreeMap::new(),
            ready_count: 0,
            followers,
            suspects: BTreeSet::new(),
            carry: std::mem::take(&mut image.carry),
            live: BTreeMap::new(),
            last_lease: image.last_lease,
        };
        // Followers that are free already need no further word: their chunk was either leased (they
        // are among what is left of it) or is fresh (they go with it).
        work.load_suspects(image);
        (work, released.doomed)
    }

    /// Rows of chunks that were leased are given out again first, with what is left beside them.
    fn load_suspects(&mut self, image: &JobImage) {
        let carried = self
            .carry
            .iter()
            .filter(|(_, carry)| carry.suspect)
            .map(|(row, _)| *row);
        self.suspects.extend(carried);
        for (chunk, lease) in &image.leases {
            if !plant::is(21) {
                self.suspects.extend(&lease.suspects);
            }
            let mut rows = self.rows_of(*chunk);
            if plant::is(9) {
                rows.pop();
            }
            self.complete.insert(*chunk);
            self.remaining.remove(chunk);
            if !rows.is_empty() {
                self.give_again(Unit {
                    chunk: *chunk,
                    rows,
                    deaths: 0,
                });
            }
        }
    }

    /// Returns the next rows to give out.
    pub(super) fn next_unit(&mut self) -> Option<Unit> {
        if let Some((_, unit)) = self.again.pop_first() {
            return Some(unit);
        }
        if self.ready_count >= READY_ENOUGH {
            return self.ready_unit();
        }
        self.fresh_unit().or_else(|| self.ready_unit())
    }

    /// Returns whether [`Work::next_unit`] would return something.
    pub(super) fn has_next(&mut self) -> bool {
        if !self.again.is_empty() || self.ready_count > 0 {
            return true;
        }
        // A chunk that holds only waiting followers is no work: find out by looking.
        match self.fresh_unit() {
            Some(unit) => {
                self.give_again(unit);
                true
            }
            None => false,
        }
    }

    /// Returns whether some row of the job is left for another run.
    pub(super) fn is_limited(&self) -> bool {
        let last = self.chunks.last();
        last.is_some_and(|chunk| {
            !self.is_within(RowNumber(chunk.first_row.0 + chunk.rows.saturating_sub(1)))
        })
    }

    /// Returns whether `row` is one that this run works on.
    fn is_within(&self, row: RowNumber) -> bool {
        self.limit.is_none_or(|limit| row <= limit)
    }

    /// Returns whether nothing is leased and nothing can be.
    pub(super) fn is_idle(&mut self) -> bool {
        self.live.is_empty() && !self.has_next()
    }

    /// Puts a unit back that was taken and not leased.
    pub(super) fn give_again(&mut self, unit: Unit) {
        if let Some(first) = unit.rows.first() {
            self.again.insert((unit.chunk, *first), unit);
        }
    }

    /// Makes the lease of `unit` for `worker`: what to commit, and what to grant then.
    pub(super) fn lease(
        &mut self,
        unit: Unit,
        worker: WorkerId,
        server_now: ServerMs,
    ) -> Option<(Change, Draft)> {
        let spec = self.spec(unit.chunk)?.clone();
        if plant::is(10) {
            self.t_lo.remove(&unit.chunk);
        }
        let t_lo = *self.t_lo.entry(unit.chunk).or_insert(server_now);
        self.last_lease = LeaseId(self.last_lease.0 + 1);
        let id = self.last_lease;
        let followers = unit
            .rows
            .iter()
            .filter_map(|row| self.followers.ask(*row))
            .collect::<Vec<_>>();
        let asks = !followers.is_empty();
        let whole = unit.rows.len() == spec.rows as usize;
        let any_follower = unit.rows.iter().any(|row| self.followers.contains(*row));
        let change = Change::Lease {
            id,
            chunk: unit.chunk,
            worker,
            at: server_now,
            rows: if whole && !any_follower {
                None
            } else {
                Some(unit.rows.clone())
            },
            followers,
        };
        let grant = Grant {
            lease: id,
            chunk: spec,
            rows: if whole { None } else { Some(unit.rows.clone()) },
            t_lo,
            contexts: self.contexts(&unit.rows, t_lo),
        };
        let size = u32::try_from(unit.rows.len()).unwrap_or(u32::MAX);
        let left = unit.rows.into_iter().collect();
        self.live.insert(
            id,
            LiveLease {
                worker,
                chunk: unit.chunk,
                left,
                deaths: unit.deaths,
                delivered: false,
            },
        );
        Some((
            change,
            Draft {
                worker,
                grant,
                size,
                asks,
            },
        ))
    }

    /// Adds what the ledger said about followers to a grant.
    pub(super) fn add_facts(grant: &mut Grant, facts: Vec<FollowerFacts>) {
        let t_lo = grant.t_lo;
        let mut contexts: BTreeMap<RowNumber, RowContext> =
            std::mem::take(&mut grant.contexts).into_iter().collect();
        for fact in facts {
            let context = contexts.entry(fact.row).or_default();
            context.t_lo = t_lo;
            context.follower = true;
            context.user = Some(fact.user);
            context.pair_membership = fact.membership_id;
        }
        grant.contexts = contexts.into_iter().collect();
    }

    /// The grant of a lease was sent.
    pub(super) fn on_delivered(&mut self, lease: LeaseId) {
        if let Some(live) = self.live.get_mut(&lease) {
            live.delivered = true;
        }
    }

    /// Returns whether the next unit has to be alone with its worker: workers died with it.
    pub(super) fn next_is_suspicious(&self) -> bool {
        let next = self.again.first_key_value();
        next.is_some_and(|(_, unit)| unit.deaths >= DEATHS_BEFORE_SPLIT)
    }

    /// Returns whether `worker` is alone with a row that others died with.
    pub(super) fn is_quarantined(&self, worker: WorkerId) -> bool {
        self.live
            .values()
            .any(|live| live.worker == worker && live.deaths >= DEATHS_BEFORE_SPLIT)
    }

    /// Takes a worker's word that `row` has an outcome; it is settled only once committed.
    pub(super) fn on_outcome(
        &mut self,
        worker: WorkerId,
        lease: LeaseId,
        row: RowNumber,
    ) -> Result<(), NotItsRow> {
        let live = self
            .live
            .get_mut(&lease)
            .filter(|live| live.worker == worker);
        if live.is_none() && plant::is(6) {
            return Ok(());
        }
        let live = live.ok_or(NotItsRow)?;
        if !live.left.remove(&row) {
            return Err(NotItsRow);
        }
        if live.left.is_empty() {
            self.live.remove(&lease);
        }
        self.suspects.remove(&row);
        self.carry.remove(&row);
        Ok(())
    }

    /// Takes the committed fate of a row; returns followers that are doomed by it.
    pub(super) fn on_settled(&mut self, row: RowNumber, fate: Fate) -> Vec<(RowNumber, Fate)> {
        let released = self.followers.on_settled(row, fate);
        self.take_freed(&released);
        released.doomed
    }

    /// Takes back what a dead worker held; returns rows that are taken for the cause of death,
    /// and how many rows were held.
    pub(super) fn on_worker_gone(&mut self, worker: WorkerId) -> (Vec<RowNumber>, u32) {
        let ids: Vec<LeaseId> = self
            .live
            .iter()
            .filter(|(_, live)| live.worker == worker)
            .map(|(id, _)| *id)
            .collect();
        let (mut poison, mut held) = (Vec::new(), 0);
        for live in ids
            .iter()
            .filter_map(|id| self.live.remove(id))
            .collect::<Vec<_>>()
        {
            held += u32::try_from(live.left.len()).unwrap_or(u32::MAX);
            self.suspects.extend(&live.left);
            poison.extend(self.take_back(live));
        }
        (poison, held)
    }

    /// Returns whether `worker` holds a live lease.
    pub(super) fn has_live_leases(&self, worker: WorkerId) -> bool {
        self.live.values().any(|live| live.worker == worker)
    }

    /// Returns where `row` lies.
    pub(super) fn chunk_of(&self, row: RowNumber) -> Option<&ChunkSpec> {
        let at = self
            .chunks
            .partition_point(|chunk| chunk.first_row <= row)
            .checked_sub(1)?;
        self.chunks.get(at).filter(|chunk| chunk.contains(row))
    }

    fn take_back(&mut self, live: LiveLease) -> Vec<RowNumber> {
        let rows: Vec<RowNumber> = live.left.into_iter().collect();
        let deaths = live.deaths.saturating_add(u8::from(live.delivered));
        let alone = rows.len() == 1;
        if alone && deaths >= DEATHS_BEFORE_SPLIT + DEATHS_ALONE {
            self.suspects.retain(|row| !rows.contains(row));
            return rows;
        }
        if !alone && deaths >= DEATHS_BEFORE_SPLIT {
            for row in rows {
                let deaths = DEATHS_BEFORE_SPLIT;
                self.give_again(Unit {
                    chunk: live.chunk,
                    rows: vec![row],
                    deaths,
                });
            }
        } else {
            self.give_again(Unit {
                chunk: live.chunk,
                rows,
                deaths,
            });
        }
        Vec::new()
    }

    fn contexts(&self, rows: &[RowNumber], t_lo: ServerMs) -> Vec<(RowNumber, RowContext)> {
        let special = rows.iter().filter_map(|row| {
            let carry = self.carry.get(row);
            let suspect = self.suspects.contains(row);
            (suspect || carry.is_some()).then(|| {
                let user = carry.and_then(|carry| carry.user.clone());
                (
                    *row,
                    RowContext {
                        suspect,
                        t_lo,
                        user,
                        ..RowContext::default()
                    },
                )
            })
        });
        special.collect()
    }

    fn take_freed(&mut self, released: &Released) {
        for row in &released.freed {
            let Some(chunk) = self.chunk_of(*row).map(|chunk| chunk.id) else {
                continue;
            };
            // Its chunk was not given out yet: the row goes with it. Or it is not for this run.
            if self.is_fresh(chunk) || !self.is_within(*row) {
                continue;
            }
            if self.suspects.contains(row) {
                self.give_again(Unit {
                    chunk,
                    rows: vec![*row],
                    deaths: 0,
                });
            } else if self.ready.entry(chunk).or_default().insert(*row) {
                self.ready_count += 1;
            }
        }
    }

    fn is_fresh(&self, chunk: ChunkId) -> bool {
        chunk.0 as usize >= self.fresh && !self.complete.contains(&chunk)
    }

    fn ready_unit(&mut self) -> Option<Unit> {
        let mut entry = self.ready.first_entry()?;
        let chunk = *entry.key();
        let rows: Vec<RowNumber> = entry
            .get()
            .iter()
            .copied()
            .take(self.chunk_rows_max)
            .collect();
        for row in &rows {
            entry.get_mut().remove(row);
        }
        if entry.get().is_empty() {
            entry.remove();
        }
        self.ready_count = self.ready_count.saturating_sub(rows.len());
        Some(Unit {
            chunk,
            rows,
            deaths: 0,
        })
    }

    fn fresh_unit(&mut self) -> Option<Unit> {
        while let Some(spec) = self.chunks.get(self.fresh) {
            if !self.is_within(spec.first_row) {
                return None;
            }
            let chunk = spec.id;
            self.fresh += 1;
            if self.complete.remove(&chunk) {
                continue;
            }
            let rows = self.rows_of(chunk);
            self.remaining.remove(&chunk);
            if !rows.is_empty() {
                return Some(Unit {
                    chunk,
                    rows,
                    deaths: 0,
                });
            }
        }
        None
    }

    /// Returns the rows of a chunk that may be given out: unsettled, and no waiting follower.
    fn rows_of(&self, chunk: ChunkId) -> Vec<RowNumber> {
        let may_go = |row: &RowNumber| self.is_within(*row) && !self.followers.is_held(*row);
        if let Some(rows) = self.remaining.get(&chunk) {
            return rows.iter().copied().filter(may_go).collect();
        }
        let Some(spec) = self.spec(chunk) else {
            return Vec::new();
        };
        let first = spec.first_row.0;
        (first..first.saturating_add(spec.rows))
            .map(RowNumber)
            .filter(may_go)
            .collect()
    }

    fn spec(&self, chunk: ChunkId) -> Option<&ChunkSpec> {
        self.chunks.get(chunk.0 as usize)
    }
}
