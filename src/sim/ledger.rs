//! The ledger as plain maps: what a commit changes, and what a coordinator finds.

use super::plan::Plan;
use crate::ledger::store::CONFLICT_IN_FILE;
use crate::ledger::{
    Change, CommitReply, Fate, FollowerFacts, FollowerImage, GroupFate, JobImage, LeaseImage,
    NewJob, OrgImage, OrgState, Totals,
};
use crate::model::{
    ChunkId, ChunkSpec, LeaseId, MembershipState, OrgKey, Origin, RowError, RowNumber, RowOutcome,
    RowTally, ServerMs, Step,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
struct Lease {
    id: LeaseId,
    chunk: ChunkId,
    at: ServerMs,
    covered: BTreeSet<RowNumber>,
}

/// The durable half.
#[derive(Clone, Debug)]
pub struct LedgerModel {
    outcomes: BTreeMap<RowNumber, RowOutcome>,
    leases: Vec<Lease>,
    orgs: BTreeMap<OrgKey, OrgImage>,
}

impl LedgerModel {
    /// A new job's.
    pub fn new(plan: &Plan) -> Self {
        let outcomes = plan.job.conflicts.iter().map(|conflict| {
            let (row, winner) = (conflict.row, conflict.winner);
            let message = format!(
                "row {row}, column external_id: row {winner} has the same external_id with \
                 another email; the first row keeps it: correct one of the two"
            );
            let error = RowError::local(CONFLICT_IN_FILE, message);
            (row, RowOutcome::failed(row, Step::Validation, error))
        });
        Self {
            outcomes: outcomes.collect(),
            leases: Vec::new(),
            orgs: BTreeMap::new(),
        }
    }

    pub fn outcomes(&self) -> &BTreeMap<RowNumber, RowOutcome> {
        &self.outcomes
    }

    pub fn orgs(&self) -> &BTreeMap<OrgKey, OrgImage> {
        &self.orgs
    }

    /// Returns how often `row` was leased.
    pub fn leases_of(&self, row: RowNumber) -> usize {
        let covers = |lease: &&Lease| lease.covered.contains(&row);
        self.leases.iter().filter(covers).count()
    }

    /// Returns whether a lease covers `row`, or it has an outcome (I1).
    pub fn covers(&self, row: RowNumber) -> bool {
        self.outcomes.contains_key(&row)
            || self.leases.iter().any(|lease| lease.covered.contains(&row))
    }

    /// Returns whether creating `key` is intended durably (I1 for organizations).
    pub fn intends(&self, key: &OrgKey) -> bool {
        self.orgs.get(key).is_some_and(|org| org.intent.is_some())
    }

    /// Applies the changes of one request; an error names the invariant it would break.
    pub fn apply(&mut self, job: &NewJob, changes: &[Change]) -> Result<CommitReply, String> {
        let mut reply = CommitReply::default();
        for change in changes {
            match change {
                Change::Lease {
                    id,
                    chunk,
                    at,
                    rows,
                    followers,
                    ..
                } => {
                    self.lease(job, (*id, *chunk, *at), rows.as_deref())?;
                    for ask in followers {
                        let leader = self.outcomes.get(&ask.leader);
                        let user = leader.and_then(|leader| leader.user.clone());
                        let user = user.ok_or_else(|| {
                            format!("I3: follower {} builds on row {}", ask.row, ask.leader)
                        })?;
                        let mut membership_id = None;
                        let mut pair = ask.previous_pair;
                        while let Some(row) = pair.filter(|_| membership_id.is_none()) {
                            let lower = self.outcomes.get(&row);
                            let lower =
                                lower.ok_or_else(|| format!("I3: the pair of {}", ask.row))?;
                            let membership = lower.membership.as_ref();
                            membership_id = membership
                                .filter(|found| found.state != MembershipState::Failed)
                                .and_then(|found| found.id.clone());
                            let next = job.followers.iter().find(|follower| follower.row == row);
                            pair = next.and_then(|follower| follower.previous_pair);
                        }
                        reply.followers.push(FollowerFacts {
                            row: ask.row,
                            user,
                            membership_id,
                        });
                    }
                }
                Change::Settle(outcomes) => self.settle(job, outcomes)?,
                Change::OrgIntent { key, at } => {
                    let org = self.orgs.entry(key.clone()).or_default();
                    if let Some(state @ OrgState::Ready { .. }) = &org.state {
                        return Err(format!("I9: {key} is intended, but it is {state:?}"));
                    }
                    org.intent.get_or_insert(*at);
                }
                Change::Org { key, record } => {
                    let org = self.orgs.entry(key.clone()).or_default();
                    let ready = |state: &&OrgState| matches!(state, OrgState::Ready { .. });
                    let known = org.state.as_ref().filter(ready);
                    if let Some(state) = known.filter(|state| **state != record.state) {
                        return Err(format!("I8: {key} is {state:?}, not {:?}", record.state));
                    }
                    org.state = Some(record.state.clone());
                }
                Change::Run(_) => {}
            }
        }
        Ok(reply)
    }

    fn lease(
        &mut self,
        job: &NewJob,
        (id, chunk, at): (LeaseId, ChunkId, ServerMs),
        rows: Option<&[RowNumber]>,
    ) -> Result<(), String> {
        let spec = job
            .chunks
            .get(chunk.0 as usize)
            .ok_or("I2: no such chunk")?;
        if self.leases.iter().any(|lease| lease.id == id) {
            return Err(format!("I2: lease {id} was committed before"));
        }
        let covered = match rows {
            Some(rows) => {
                for row in rows {
                    if !spec.contains(*row) || self.outcomes.contains_key(row) {
                        return Err(format!("I2: lease {id} names row {row}"));
                    }
                }
                rows.iter().copied().collect()
            }
            None => rows_of(spec).filter(|row| !self.waits(job, *row)).collect(),
        };
        self.leases.push(Lease {
            id,
            chunk,
            at,
            covered,
        });
        Ok(())
    }

    fn waits(&self, job: &NewJob, row: RowNumber) -> bool {
        let open = |row: RowNumber| !self.outcomes.contains_key(&row);
        let follower = job.followers.iter().find(|follower| follower.row == row);
        open(row)
            && follower.is_some_and(|follower| {
                open(follower.leader) || follower.previous_pair.is_some_and(open)
            })
    }

    fn settle(&mut self, job: &NewJob, outcomes: &[RowOutcome]) -> Result<(), String> {
        for outcome in outcomes {
            if outcome.row.0 == 0 || outcome.row.0 > job.rows {
                return Err(format!("I3: row {} is not in the file", outcome.row));
            }
            match self.outcomes.get(&outcome.row) {
                Some(known) if known == outcome => {}
                Some(known) => {
                    return Err(format!(
                        "I8: row {} is {}, and was to be {}",
                        outcome.row, known.state, outcome.state
                    ));
                }
                None => {
                    self.outcomes.insert(outcome.row, outcome.clone());
                }
            }
        }
        Ok(())
    }

    /// Counts rows, memberships and organizations.
    pub fn totals(&self, job: &NewJob) -> Totals {
        let mut totals = Totals {
            rows: RowTally::of(u64::from(job.rows)),
            ..Totals::default()
        };
        for outcome in self.outcomes.values() {
            totals.rows.settle(outcome.state);
            if let Some(membership) = &outcome.membership {
                totals.memberships.count(membership);
            }
        }
        for state in self.orgs.values().filter_map(|org| org.state.as_ref()) {
            let orgs = &mut totals.organizations;
            *match state {
                OrgState::Ready {
                    origin: Origin::Before,
                    ..
                } => &mut orgs.found,
                OrgState::Ready { .. } => &mut orgs.created,
                OrgState::Failed { .. } => &mut orgs.failed,
            } += 1;
        }
        totals
    }

    /// Returns what a coordinator starts with.
    pub fn image(&self, job: &NewJob) -> JobImage {
        let totals = self.totals(job);
        let last = self.leases.iter().map(|lease| lease.id).max();
        let users = self
            .outcomes
            .values()
            .rev()
            .filter_map(|outcome| outcome.user.as_ref());
        let mut image = JobImage {
            sentinels: users.take(5).map(|user| user.id.clone()).collect(),
            chunks: job.chunks.clone(),
            orgs: self.orgs.clone(),
            org_names: job.org_names.clone(),
            hash_key: job.hash_key,
            last_lease: last.unwrap_or_default(),
            rows: totals.rows,
            memberships: totals.memberships,
            organizations: totals.organizations,
            ..JobImage::default()
        };
        for spec in &job.chunks {
            self.add_chunk(&mut image, spec);
        }
        let open = |row: RowNumber| !self.outcomes.contains_key(&row);
        let waiting = job.followers.iter().filter(|follower| open(follower.row));
        for follower in waiting.copied() {
            let previous = |row: RowNumber| {
                let of = job.followers.iter().find(|other| other.row == row);
                of.and_then(|other| other.previous_pair)
            };
            let mut pair = std::iter::successors(follower.previous_pair, |row| previous(*row));
            image.followers.push(FollowerImage {
                follower,
                waits_for: pair.find(|row| open(*row)),
            });
            self.add_fates(&mut image, job, follower.leader);
        }
        for leader in job.followers.iter().map(|follower| follower.leader) {
            let known = image.remaining.values().any(|rows| rows.contains(&leader));
            if known {
                self.add_fates(&mut image, job, leader);
            }
        }
        image
    }

    /// How what is settled of a group bears on what waits.
    fn add_fates(&self, image: &mut JobImage, job: &NewJob, leader: RowNumber) {
        let group = job.followers.iter().filter(|other| other.leader == leader);
        for row in group.map(|other| other.row).chain([leader]) {
            if let Some(outcome) = self.outcomes.get(&row) {
                let fate = Fate::of(outcome);
                image.fates.insert(row, GroupFate { leader, fate });
            }
        }
    }

    fn add_chunk(&self, image: &mut JobImage, spec: &ChunkSpec) {
        let open: Vec<RowNumber> = rows_of(spec)
            .filter(|row| !self.outcomes.contains_key(row))
            .collect();
        if open.is_empty() {
            image.complete.push(spec.id);
            return;
        }
        let leases = || self.leases.iter().filter(|lease| lease.chunk == spec.id);
        let first = leases().min_by_key(|lease| lease.id);
        if first.is_some() || open.len() < spec.rows as usize {
            image.remaining.insert(spec.id, open.clone());
        }
        if let Some(first) = first {
            let is_covered = |row: &RowNumber| leases().any(|lease| lease.covered.contains(row));
            let suspects = open.into_iter().filter(is_covered).collect();
            image.leases.insert(
                spec.id,
                LeaseImage {
                    t_lo: first.at,
                    suspects,
                },
            );
        }
    }
}

fn rows_of(spec: &ChunkSpec) -> impl Iterator<Item = RowNumber> + use<> {
    let first = spec.first_row.0;
    (first..first + spec.rows).map(RowNumber)
}
