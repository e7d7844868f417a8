//! What is left to do, who does it, and what may be given out next.
//!
//! Order: rows whose owner died, then followers that are ready, then fresh chunks, ascending.
//! A row is in at most one live lease (I2). A worker holds no more unfinished rows than [`Window`]
//! allows: what it will need later is not leased before its time, so that a crash leaves few rows
//! in doubt. A few rows that the target answers with nothing but errors are set aside: a last pass
//! tries them once more when everything else is done.

use super::followers::{Followers, Released};
use crate::ledger::{Carry, Change, Fate, FollowerFacts, JobImage};
use crate::model::{
    ChunkId, ChunkSpec, LeaseId, Mono, Reached, RowNumber, RowOutcome, RowState, ServerMs,
    WorkerId, plant,
};
use crate::protocol::{Grant, RowContext};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Followers are given out early once this many are ready, so that they do not trickle.
const READY_ENOUGH: usize = 64;

/// The code of a row whose attempts were all answered with errors or not at all.
const SERVER_ERROR: &str = "server_error";

/// After this many deaths of its owners a lease's rows are granted one by one.
const DEATHS_BEFORE_SPLIT: u8 = 2;

/// After this many deaths of the owners of one row alone, the row is taken for the cause.
const DEATHS_ALONE: u8 = 2;

/// Rows that may be set aside for the last pass; more than that at once are no exception.
pub const LAST_PASS_MAX: usize = 8;

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
    /// Rows without an outcome, ascending. They mostly settle in order: the front is cheap to take.
    left: VecDeque<RowNumber>,
    deaths: u8,
    /// The worker was told: its death may have to do with these rows.
    delivered: bool,
}

impl LiveLease {
    /// Returns whether workers died with its rows.
    const fn is_deadly(&self) -> bool {
        self.deaths >= DEATHS_BEFORE_SPLIT
    }
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

/// How freely rows are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leasing {
    /// As many as a worker asks for: nothing is ever sent, and so nothing is ever in doubt.
    Rehearsed,
    /// To workers that have this many rows in flight at most, under a limit. What is in doubt after
    /// a crash is looked up under that limit too, so it is to be little.
    Limited(usize),
    /// The same without a limit. A lease is a commit, and its rows are done within milliseconds: it
    /// is to be worth it.
    Unlimited(usize),
}

/// How many rows may be leased to one worker without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// At most this many, ever.
    max: usize,
    /// With more than this many it waits for a unit that fits; with fewer it gets a part of one, so
    /// that it never runs dry at the end of a chunk: more than it has in flight, because rows are
    /// finished while a lease is on its way to the disk, and outcomes while they are on theirs.
    low: usize,
}

impl Window {
    fn new(chunk_rows: usize, leasing: Leasing) -> Self {
        let chunk_rows = chunk_rows.max(1);
        let whole_chunks = |rows: usize| rows.max(1).div_ceil(chunk_rows);
        match leasing {
            Leasing::Rehearsed => Self {
                max: usize::MAX,
                low: usize::MAX,
            },
            // A chunk, or as many whole ones as it can have in flight.
            Leasing::Limited(in_flight) => {
                let max = whole_chunks(in_flight) * chunk_rows;
                Self {
                    max,
                    low: (in_flight * 3).min(max * 3 / 4),
                }
            }
            // Room for a whole one beside all that is in flight, so that none is ever parted.
            Leasing::Unlimited(in_flight) => Self {
                max: whole_chunks(in_flight * 4).max(2) * chunk_rows,
                low: 0,
            },
        }
    }
}

/// Where rows to give out come from: where they go back to when they are not given out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Again,
    Ready,
    Fresh,
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
    window: Window,
    /// The next chunk that was never leased (or is complete: then it is passed over).
    fresh: usize,
    complete: BTreeSet<ChunkId>,
    /// Rows left in chunks that are neither untouched nor complete and were never leased.
    remaining: BTreeMap<ChunkId, Vec<RowNumber>>,
    t_lo: BTreeMap<ChunkId, ServerMs>,
    again: BTreeMap<(ChunkId, RowNumber), Unit>,
    /// What was taken from a fresh chunk and not given out yet.
    fresh_rest: Option<Unit>,
    ready: BTreeMap<ChunkId, BTreeSet<RowNumber>>,
    ready_count: usize,
    followers: Followers,
    suspects: BTreeSet<RowNumber>,
    /// When a worker died last, or the run began: see [`RowContext::doubt_since`].
    doubt_since: Mono,
    carry: BTreeMap<RowNumber, Carry>,
    live: BTreeMap<LeaseId, LiveLease>,
    /// How many of them hold rows that workers died with: mostly none, and then nobody has to look
    /// for them after every event.
    deadly: usize,
    /// Rows that wait for the last pass.
    set_aside: BTreeSet<RowNumber>,
    /// Rows that had, or will have, their last pass.
    last_pass: BTreeSet<RowNumber>,
    /// Rows in live leases, by worker.
    unfinished: BTreeMap<WorkerId, usize>,
    last_lease: LeaseId,
}

impl Work {
    /// Takes a job as the ledger knows it; returns followers that are doomed already.
    /// Rows after `limit` are left for another run.
    pub(super) fn load(
        image: &mut JobImage,
        leasing: Leasing,
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
            window: Window::new(chunk_rows_max as usize, leasing),
            fresh: 0,
            complete: image.complete.iter().copied().collect(),
            remaining: std::mem::take(&mut image.remaining),
            t_lo: image
                .leases
                .iter()
                .map(|(chunk, lease)| (*chunk, lease.t_lo))
                .collect(),
            again: BTreeMap::new(),
            fresh_rest: None,
            ready: BTreeMap::new(),
            ready_count: 0,
            followers,
            suspects: BTreeSet::new(),
            doubt_since: Mono::default(),
            carry: std::mem::take(&mut image.carry),
            live: BTreeMap::new(),
            deadly: 0,
            set_aside: BTreeSet::new(),
            last_pass: BTreeSet::new(),
            unfinished: BTreeMap::new(),
            last_lease: image.last_lease,
        };
        // Followers that are free already need no further word: their chunk was either leased (they
        // are among what is left of it) or is fresh (they go with it).
        work.load_suspects(image);
        (work, released.doomed)
    }

    /// Rows that were leased and have no outcome are given out first: before they are settled,
    /// nothing else comes into doubt. What is left beside them is as if it had never been leased.
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
            let mut open = self.open_rows(*chunk);
            if plant::is(9) {
                open.pop();
            }
            // A suspect follower that waits is given out again when it is freed.
            let (again, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|row| {
                let may_go = self.is_within(*row) && !self.followers.is_held(*row);
                may_go && lease.suspects.binary_search(row).is_ok()
            });
            self.remaining.insert(*chunk, rest);
            self.give_again(Unit {
                chunk: *chunk,
                rows: again,
                deaths: 0,
            });
        }
    }

    /// Returns the chunks of which no row was leased in this run, or ever.
    pub(super) fn fresh_chunks(&self) -> impl Iterator<Item = &ChunkSpec> {
        let rest = self.fresh_rest.as_ref().map(|unit| unit.chunk.0 as usize);
        let first = rest.unwrap_or(self.fresh);
        let fresh = self.chunks.get(first..).unwrap_or_default().iter();
        fresh.filter(|chunk| {
            !self.complete.contains(&chunk.id)
                && self.is_within(chunk.first_row)
                && self
                    .remaining
                    .get(&chunk.id)
                    .is_none_or(|rows| !rows.is_empty())
        })
    }

    /// Returns the chunks that no run ever leased a row of, each with how many open rows of it are
    /// this run's. What was leased before may be at the target because of this job.
    pub(super) fn untouched_chunks(&self) -> impl Iterator<Item = (&ChunkSpec, u32)> {
        // Only of those that are still to come: what is passed over is forgotten to be complete.
        let open = self.fresh_chunks().map(|chunk| {
            let open = if self.t_lo.contains_key(&chunk.id) {
                0
            } else if let Some(rows) = self.remaining.get(&chunk.id) {
                rows.partition_point(|row| self.is_within(*row))
            } else {
                self.rows_within(chunk)
            };
            (chunk, u32::try_from(open).unwrap_or(chunk.rows))
        });
        open.filter(|(_, open)| *open > 0)
    }

    fn rows_within(&self, chunk: &ChunkSpec) -> usize {
        let before = chunk.first_row.0.saturating_sub(1);
        let limit = self.limit.map(|limit| limit.0.saturating_sub(before));
        limit.unwrap_or(chunk.rows).min(chunk.rows) as usize
    }

    /// Returns the open rows of an untouched chunk whose user this job cannot have made: a further
    /// row of a user may follow one that is settled, and a retry opens rows that were worked on.
    pub(super) fn untouched_rows(&self, chunk: ChunkId) -> Vec<RowNumber> {
        let mut rows = self.open_rows(chunk);
        rows.retain(|row| {
            self.is_within(*row)
                && !self.followers.contains(*row)
                && !self.carry.contains_key(row)
                && !self.suspects.contains(row)
        });
        rows
    }

    /// Returns the next rows to give to `worker`; none when there are none, or when it has to finish
    /// some first.
    pub(super) fn next_unit(&mut self, worker: WorkerId) -> Option<Unit> {
        let unfinished = self.unfinished(worker);
        let room = self.window.max.saturating_sub(unfinished);
        let (mut unit, origin) = self.take_unit()?;
        if unit.rows.len() <= room {
            return Some(unit);
        }
        if unfinished > self.window.low || room == 0 {
            self.put_back(unit, origin);
            return None;
        }
        let rest = Unit {
            rows: unit.rows.split_off(room),
            ..unit
        };
        self.put_back(rest, origin);
        Some(unit)
    }

    /// Returns how many rows are leased to `worker` without an outcome.
    pub(super) fn unfinished(&self, worker: WorkerId) -> usize {
        self.unfinished.get(&worker).copied().unwrap_or_default()
    }

    /// Returns how many workers hold rows.
    pub(super) fn holders(&self) -> usize {
        self.unfinished.values().filter(|rows| **rows > 0).count()
    }

    fn take_unit(&mut self) -> Option<(Unit, Origin)> {
        if let Some((_, unit)) = self.again.pop_first() {
            return Some((unit, Origin::Again));
        }
        let ready = |work: &mut Self| Some((work.ready_unit()?, Origin::Ready));
        if self.ready_count >= READY_ENOUGH {
            return ready(self);
        }
        if let Some(unit) = self.fresh_unit() {
            return Some((unit, Origin::Fresh));
        }
        ready(self).or_else(|| {
            self.begin_last_pass();
            let (_, unit) = self.again.pop_first()?;
            Some((unit, Origin::Again))
        })
    }

    fn put_back(&mut self, unit: Unit, origin: Origin) {
        match origin {
            Origin::Again => self.give_again(unit),
            Origin::Ready => {
                self.ready_count += unit.rows.len();
                self.ready.entry(unit.chunk).or_default().extend(unit.rows);
            }
            Origin::Fresh => self.fresh_rest = Some(unit),
        }
    }

    /// Returns whether there is anything to give out.
    pub(super) fn has_next(&mut self) -> bool {
        if !self.again.is_empty() || self.ready_count > 0 {
            return true;
        }
        // A chunk that holds only waiting followers is no work: find out by looking.
        self.fresh_rest = self.fresh_unit();
        self.fresh_rest.is_some() || self.begin_last_pass()
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

    fn give_again(&mut self, unit: Unit) {
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
            .filter(|row| !self.leads(**row))
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
        *self.unfinished.entry(worker).or_default() += unit.rows.len();
        let left = unit.rows.into();
        self.deadly += usize::from(unit.deaths >= DEATHS_BEFORE_SPLIT);
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

    /// Returns whether a row that is open again has the user of its group made: it goes on as the
    /// one that leads, whoever of the group is ahead of it.
    fn leads(&self, row: RowNumber) -> bool {
        let reached = self.carry.get(&row).and_then(|it| it.reached.as_ref());
        reached.is_some_and(|reached| reached.leads)
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
        self.deadly > 0
            && self
                .live
                .values()
                .any(|live| live.worker == worker && live.is_deadly())
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
        let at = live.left.binary_search(&row).map_err(|_| NotItsRow)?;
        live.left.remove(at);
        if live.left.is_empty() {
            self.end_lease(lease);
        }
        if let Some(unfinished) = self.unfinished.get_mut(&worker) {
            *unfinished = unfinished.saturating_sub(1);
        }
        self.suspects.remove(&row);
        self.carry.remove(&row);
        Ok(())
    }

    /// Forgets a lease whose rows are settled, or whose worker is gone.
    fn end_lease(&mut self, lease: LeaseId) -> Option<LiveLease> {
        let live = self.live.remove(&lease)?;
        self.deadly -= usize::from(live.is_deadly());
        Some(live)
    }

    /// Keeps back a row that the target could not take, if it is to be tried once more; returns the
    /// outcome otherwise. What was sent for it may have been applied: it stays in doubt.
    pub(super) fn unless_set_aside(&mut self, outcome: RowOutcome) -> Option<RowOutcome> {
        let unsettled = outcome.state == RowState::Parked
            && outcome
                .error
                .as_ref()
                .is_some_and(|error| error.code == SERVER_ERROR);
        let row = outcome.row;
        if !unsettled || self.last_pass.len() >= LAST_PASS_MAX || !self.last_pass.insert(row) {
            return Some(outcome);
        }
        self.suspects.insert(row);
        let facts = Carry {
            reached: Reached::of(&outcome),
            user: outcome.user,
            suspect: true,
        };
        self.carry.insert(row, facts);
        self.set_aside.insert(row);
        None
    }

    /// The run begins, or a worker died: rows in doubt are in doubt since now.
    pub(super) const fn doubt_from(&mut self, now: Mono) {
        self.doubt_since = now;
    }

    /// Returns how many rows are in live leases.
    pub(super) fn under_way(&self) -> usize {
        self.unfinished.values().sum()
    }

    /// Everything else is done: what was set aside is given out, each row for itself.
    fn begin_last_pass(&mut self) -> bool {
        if !self.live.is_empty() || self.set_aside.is_empty() {
            return false;
        }
        for row in std::mem::take(&mut self.set_aside) {
            if let Some(chunk) = self.chunk_of(row).map(|chunk| chunk.id) {
                self.give_again(Unit {
                    chunk,
                    rows: vec![row],
                    deaths: 0,
                });
            }
        }
        true
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
        self.unfinished.remove(&worker);
        let (mut poison, mut held) = (Vec::new(), 0);
        for live in ids
            .iter()
            .filter_map(|id| self.end_lease(*id))
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
                        doubt_since: self.doubt_since,
                        t_lo,
                        user,
                        reached: carry.and_then(|carry| carry.reached.clone().map(Box::new)),
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
            if !self.is_within(*row) {
                continue;
            }
            let suspect = self.suspects.contains(row);
            if self.is_fresh(chunk) {
                // Its chunk was not given out yet: the row goes with it, unless it is in doubt.
                let Some(open) = self.remaining.get_mut(&chunk).filter(|_| suspect) else {
                    continue;
                };
                open.retain(|other| other != row);
            }
            if suspect {
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
        if let Some(rest) = self.fresh_rest.take() {
            return Some(rest);
        }
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
        let mut rows = self.open_rows(chunk);
        rows.retain(|row| self.is_within(*row) && !self.followers.is_held(*row));
        rows
    }

    /// Returns the unsettled rows of a chunk that was not given out in this run.
    fn open_rows(&self, chunk: ChunkId) -> Vec<RowNumber> {
        if let Some(rows) = self.remaining.get(&chunk) {
            return rows.clone();
        }
        let Some(spec) = self.spec(chunk) else {
            return Vec::new();
        };
        let first = spec.first_row.0;
        (first..first.saturating_add(spec.rows))
            .map(RowNumber)
            .collect()
    }

    fn spec(&self, chunk: ChunkId) -> Option<&ChunkSpec> {
        self.chunks.get(chunk.0 as usize)
    }
}

#[cfg(test)]
mod tests;
