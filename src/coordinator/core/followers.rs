//! Rows that wait for other rows: followers of a leader, and repeats of one membership.
//!
//! A follower becomes work once its leader's user is committed; a repeat of a lower row's
//! membership also waits for that row, so that which of them made it does not depend on timing.
//! A waiting follower holds no worker and no lease.

use crate::ledger::{Fate, FollowerAsk, FollowerImage, GroupFate};
use crate::model::{RowNumber, plant};
use std::collections::BTreeMap;

/// Where a follower stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For its leader, or for the lower row of its pair.
    Waiting,
    /// It is work, or was granted.
    Freed,
    /// Its outcome is committed.
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    row: RowNumber,
    leader: RowNumber,
    /// As indexed, 0 for none: what the ledger is asked about.
    previous_pair: u32,
    /// The highest lower row of its pair that was open at the start, 0 for none.
    waits_for: u32,
    stage: Stage,
    /// Every lower row of its group failed for its own data: this one makes the user.
    leads: bool,
}

/// What is known of a group of rows with one email.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// The settled row whose user the others join.
    source: Option<RowNumber>,
    /// Why nobody of the group will get a user from a lower row.
    ended: Option<Fate>,
    leader_settled: bool,
}

/// What a committed row means for rows that wait for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// These are work now.
    pub(super) freed: Vec<RowNumber>,
    /// These share their leader's fate without a request.
    pub(super) doomed: Vec<(RowNumber, Fate)>,
}

/// Every follower without an outcome at the start of the run, 24 bytes each.
#[derive(Debug, Default)]
pub(super) struct Followers {
    /// Ascending by row.
    entries: Vec<Entry>,
    /// Positions in `entries`, ascending by (leader, row).
    by_leader: Vec<u32>,
    /// Positions of those that wait for a row of their pair, ascending by (that row, row).
    by_pair: Vec<u32>,
    groups: BTreeMap<RowNumber, Group>,
}

impl Followers {
    /// Takes the followers of a job; returns what is work or doomed already.
    pub(super) fn load(
        images: &[FollowerImage],
        fates: &BTreeMap<RowNumber, GroupFate>,
    ) -> (Self, Released) {
        let mut entries: Vec<Entry> = images
            .iter()
            .map(|image| Entry {
                row: image.follower.row,
                leader: image.follower.leader,
                previous_pair: number(image.follower.previous_pair),
                waits_for: number(image.waits_for),
                stage: Stage::Waiting,
                leads: false,
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.row);
        let positions = 0..u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut followers = Self {
            by_leader: positions.clone().collect(),
            by_pair: positions.collect(),
            entries,
            groups: BTreeMap::new(),
        };
        let Self {
            entries,
            by_leader,
            by_pair,
            ..
        } = &mut followers;
        let entry = |at: u32| entries.get(at as usize);
        by_leader.sort_unstable_by_key(|at| entry(*at).map(|entry| (entry.leader, entry.row)));
        by_pair.retain(|at| entry(*at).is_some_and(|entry| entry.waits_for > 0));
        by_pair.sort_unstable_by_key(|at| entry(*at).map(|entry| (entry.waits_for, entry.row)));
        let released = followers.replay(fates);
        (followers, released)
    }

    /// Returns whether `row` is a follower that may not be granted.
    pub(super) fn is_held(&self, row: RowNumber) -> bool {
        self.entry(row)
            .is_some_and(|entry| entry.stage != Stage::Freed)
    }

    /// Returns whether `row` is a follower of this run at all.
    pub(super) fn contains(&self, row: RowNumber) -> bool {
        self.entry(row).is_some()
    }

    /// Returns what a grant of `row` needs to know from the ledger; none for a row that leads.
    pub(super) fn ask(&self, row: RowNumber) -> Option<FollowerAsk> {
        let Some(entry) = self.entry(row) else {
            return self.ask_for_leader(row);
        };
        if entry.leads {
            return None;
        }
        let leader = self.groups.get(&entry.leader)?.source?;
        Some(FollowerAsk {
            row,
            leader,
            previous_pair: row_of(entry.previous_pair),
        })
    }

    /// A leader that a retry opened while another row of its group has made the user follows it.
    fn ask_for_leader(&self, row: RowNumber) -> Option<FollowerAsk> {
        let leader = self.groups.get(&row)?.source?;
        (leader != row).then_some(FollowerAsk {
            row,
            leader,
            previous_pair: None,
        })
    }

    /// Takes the committed fate of any row.
    pub(super) fn on_settled(&mut self, row: RowNumber, fate: Fate) -> Released {
        let mut released = Released::default();
        if self.entries.is_empty() {
            return released;
        }
        let leader = self.entry(row).map_or(row, |entry| entry.leader);
        if let Some(entry) = self.entry_mut(row) {
            entry.stage = Stage::Settled;
        }
        if row == leader && self.members(leader).is_empty() {
            return released;
        }
        let group = self.groups.entry(leader).or_default();
        group.leader_settled |= row == leader;
        if group.source.is_some() {
            self.free_pairs_of(row, &mut released);
        } else if group.ended.is_none() {
            self.decide(leader, row, fate, &mut released);
        }
        released
    }

    /// The first row of a group to settle decides for the others.
    fn decide(&mut self, leader: RowNumber, row: RowNumber, fate: Fate, released: &mut Released) {
        let group = self.groups.entry(leader).or_default();
        match fate {
            Fate::User => {
                group.source = Some(row);
                self.free_eligible(leader, released);
            }
            Fate::OwnFault => self.promote(leader, released),
            Fate::Parked if plant::is(17) => {}
            Fate::Skipped | Fate::PolicyFailed | Fate::Parked => {
                group.ended = Some(fate);
                for at in self.members(leader).to_vec() {
                    if let Some(entry) = self.at_mut(at).filter(|e| e.stage == Stage::Waiting) {
                        // Never work again: its outcome is on its way to the ledger.
                        let planted = plant::is(26);
                        entry.stage = if planted {
                            Stage::Freed
                        } else {
                            Stage::Settled
                        };
                        released.doomed.push((entry.row, fate));
                    }
                }
            }
        }
    }

    /// Rebuilds every group from what settled before this run, in row order.
    fn replay(&mut self, fates: &BTreeMap<RowNumber, GroupFate>) -> Released {
        let mut settled: BTreeMap<RowNumber, Vec<(RowNumber, Fate)>> = BTreeMap::new();
        for (row, GroupFate { leader, fate }) in fates {
            settled.entry(*leader).or_default().push((*row, *fate));
        }
        let mut released = Released::default();
        for (leader, rows) in settled {
            let group = self.groups.entry(leader).or_default();
            group.leader_settled = rows.iter().any(|(row, _)| *row == leader);
            let led = group.leader_settled;
            // The row that got a user decides, else one that ended the group, else the next leads.
            let decisive = rows
                .iter()
                .find(|(_, fate)| *fate == Fate::User)
                .or_else(|| rows.iter().find(|(_, fate)| *fate != Fate::OwnFault))
                .or_else(|| rows.last().filter(|_| led));
            if let Some((row, fate)) = decisive {
                self.decide(leader, *row, *fate, &mut released);
            }
        }
        released
    }

    fn promote(&mut self, leader: RowNumber, released: &mut Released) {
        let waiting = self.members(leader).iter().copied().find(|at| {
            self.at(*at)
                .is_some_and(|entry| entry.stage == Stage::Waiting)
        });
        if let Some(entry) = waiting.and_then(|at| self.at_mut(at)) {
            entry.stage = Stage::Freed;
            entry.leads = true;
            released.freed.push(entry.row);
        }
    }

    fn free_eligible(&mut self, leader: RowNumber, released: &mut Released) {
        for at in self.members(leader).to_vec() {
            self.free_if_eligible(at, released);
        }
    }

    fn free_pairs_of(&mut self, row: RowNumber, released: &mut Released) {
        let key = |at: &u32| self.at(*at).map(|entry| entry.waits_for);
        let from = self.by_pair.partition_point(|at| key(at) < Some(row.0));
        let to = self.by_pair.partition_point(|at| key(at) <= Some(row.0));
        for at in self.by_pair.get(from..to).unwrap_or_default().to_vec() {
            self.free_if_eligible(at, released);
        }
    }

    fn free_if_eligible(&mut self, at: u32, released: &mut Released) {
        let Some(entry) = self.at(at).filter(|entry| entry.stage == Stage::Waiting) else {
            return;
        };
        if row_of(entry.waits_for).is_some_and(|lower| !self.is_settled(entry.leader, lower)) {
            return;
        }
        if let Some(entry) = self.at_mut(at) {
            entry.stage = Stage::Freed;
            released.freed.push(entry.row);
        }
    }

    fn is_settled(&self, leader: RowNumber, row: RowNumber) -> bool {
        match self.entry(row) {
            Some(entry) => entry.stage == Stage::Settled,
            // Not an entry: the leader itself, or a follower that settled before this run.
            None if row == leader => self
                .groups
                .get(&leader)
                .is_some_and(|group| group.leader_settled),
            None => true,
        }
    }

    fn members(&self, leader: RowNumber) -> &[u32] {
        let key = |at: &u32| self.at(*at).map(|entry| entry.leader);
        let from = self.by_leader.partition_point(|at| key(at) < Some(leader));
        let to = self.by_leader.partition_point(|at| key(at) <= Some(leader));
        self.by_leader.get(from..to).unwrap_or_default()
    }

    fn at(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)
    }

    fn at_mut(&mut self, at: u32) -> Option<&mut Entry> {
        self.entries.get_mut(at as usize)
    }

    fn entry(&self, row: RowNumber) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by_key(&row, |entry| entry.row)
            .ok()?;
        self.entries.get(at)
    }

    fn entry_mut(&mut self, row: RowNumber) -> Option<&mut Entry> {
        let at = self
            .entries
            .binary_search_by_key(&row, |entry| entry.row)
            .ok()?;
        self.entries.get_mut(at)
    }
}

/// Rows count from 1, so that 0 can stand for none: half the size of an `Option`, millions of times.
fn number(row: Option<RowNumber>) -> u32 {
    row.map_or(0, |row| row.0)
}

fn row_of(number: u32) -> Option<RowNumber> {
    (number > 0).then_some(RowNumber(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Follower;

    /// Rows as (row, leader, previous pair); 0 means none. Of a pair, what is neither open nor has
    /// settled below is left out of `rows`, and what has is in `fates`.
    fn load(rows: &[(u32, u32, u32)], fates: &[(u32, u32, Fate)]) -> (Followers, Released) {
        let settled = |row: u32| fates.iter().any(|(other, ..)| *other == row);
        let rows: Vec<_> = rows
            .iter()
            .map(|(row, leader, pair)| {
                let waits_for = if settled(*pair) { 0 } else { *pair };
                (*row, *leader, *pair, waits_for)
            })
            .collect();
        load_waiting(&rows, fates)
    }

    /// Rows as (row, leader, previous pair, the open row of its pair that it waits for).
    fn load_waiting(
        rows: &[(u32, u32, u32, u32)],
        fates: &[(u32, u32, Fate)],
    ) -> (Followers, Released) {
        let images: Vec<FollowerImage> = rows
            .iter()
            .map(|(row, leader, pair, waits_for)| FollowerImage {
                follower: Follower {
                    row: RowNumber(*row),
                    leader: RowNumber(*leader),
                    previous_pair: row_of(*pair),
                },
                waits_for: row_of(*waits_for),
            })
            .collect();
        let fates = fates
            .iter()
            .map(|(row, leader, fate)| {
                (
                    RowNumber(*row),
                    GroupFate {
                        leader: RowNumber(*leader),
                        fate: *fate,
                    },
                )
            })
            .collect();
        Followers::load(&images, &fates)
    }

    fn freed(released: &Released) -> Vec<u32> {
        released.freed.iter().map(|row| row.0).collect()
    }

    #[test]
    fn followers_wait_for_the_leaders_user() {
        let (mut followers, start) = load(&[(5, 1, 0), (9, 1, 0), (7, 2, 0)], &[]);
        assert_eq!(start, Released::default());
        assert!(followers.is_held(RowNumber(5)) && !followers.is_held(RowNumber(1)));
        assert_eq!(
            freed(&followers.on_settled(RowNumber(3), Fate::User)),
            [0_u32; 0]
        );
        assert_eq!(
            freed(&followers.on_settled(RowNumber(1), Fate::User)),
            [5, 9]
        );
        assert!(!followers.is_held(RowNumber(5)));
        let ask = followers.ask(RowNumber(9)).unwrap();
        assert_eq!((ask.leader, ask.previous_pair), (RowNumber(1), None));
        assert!(
            followers.ask(RowNumber(7)).is_none(),
            "its leader is not settled"
        );
    }

    #[test]
    fn repeats_of_one_membership_go_one_after_the_other() {
        let (mut followers, _) = load(&[(2, 1, 1), (3, 1, 2), (4, 1, 0)], &[]);
        assert_eq!(
            freed(&followers.on_settled(RowNumber(1), Fate::User)),
            [2, 4]
        );
        assert_eq!(
            freed(&followers.on_settled(RowNumber(4), Fate::User)),
            [0_u32; 0]
        );
        assert_eq!(freed(&followers.on_settled(RowNumber(2), Fate::User)), [3]);
    }

    #[test]
    fn a_leader_with_bad_data_hands_the_lead_to_the_lowest_follower() {
        let (mut followers, _) = load(&[(2, 1, 1), (3, 1, 0)], &[]);
        assert_eq!(
            freed(&followers.on_settled(RowNumber(1), Fate::OwnFault)),
            [2]
        );
        assert!(
            followers.ask(RowNumber(2)).is_none(),
            "it makes the user itself"
        );
        assert_eq!(
            freed(&followers.on_settled(RowNumber(2), Fate::OwnFault)),
            [3]
        );
        assert_eq!(
            followers.on_settled(RowNumber(3), Fate::User),
            Released::default()
        );
    }

    #[test]
    fn a_parked_leader_parks_its_followers() {
        let (mut followers, _) = load(&[(2, 1, 0), (3, 1, 2)], &[]);
        let released = followers.on_settled(RowNumber(1), Fate::Parked);
        let rows = [(RowNumber(2), Fate::Parked), (RowNumber(3), Fate::Parked)];
        assert_eq!(released.doomed, rows);
    }

    #[test]
    fn a_leader_that_is_open_again_follows_the_row_that_made_the_user() {
        let (followers, start) = load(&[], &[(2, 1, Fate::User)]);
        assert_eq!(start, Released::default());
        let ask = followers.ask(RowNumber(1)).unwrap();
        assert_eq!((ask.leader, ask.previous_pair), (RowNumber(2), None));
        assert!(!followers.is_held(RowNumber(1)));
        let (followers, _) = load(&[(3, 1, 1)], &[(2, 1, Fate::User)]);
        assert_eq!(followers.ask(RowNumber(1)).unwrap().leader, RowNumber(2));
        assert!(followers.is_held(RowNumber(3)), "its pair is open");
        let (followers, _) = load(&[], &[(1, 1, Fate::User)]);
        assert!(followers.ask(RowNumber(1)).is_none(), "itself");
    }

    #[test]
    fn a_row_waits_for_an_open_one_of_its_pair_past_settled_ones() {
        let settled = [(2, 1, Fate::User)];
        let (mut followers, start) = load_waiting(&[(3, 1, 2, 1)], &settled);
        assert_eq!(start, Released::default(), "row 1 is open again");
        assert!(followers.is_held(RowNumber(3)));
        let ask = followers.ask(RowNumber(1)).unwrap();
        assert_eq!(ask.leader, RowNumber(2), "row 1 goes first");
        assert_eq!(freed(&followers.on_settled(RowNumber(1), Fate::User)), [3]);
        let ask = followers.ask(RowNumber(3)).unwrap();
        assert_eq!(ask.previous_pair, Some(RowNumber(2)), "and all below");
        // The same between followers.
        let settled = [(1, 1, Fate::User), (3, 1, Fate::User)];
        let (mut followers, start) = load_waiting(&[(2, 1, 1, 0), (4, 1, 3, 2)], &settled);
        assert_eq!(freed(&start), [2]);
        assert_eq!(freed(&followers.on_settled(RowNumber(2), Fate::User)), [4]);
    }

    #[test]
    fn a_resumed_group_goes_on_where_it_was() {
        let (followers, start) = load(
            &[(3, 1, 0), (4, 1, 0)],
            &[(1, 1, Fate::OwnFault), (2, 1, Fate::User)],
        );
        assert_eq!(freed(&start), [3, 4]);
        assert_eq!(followers.ask(RowNumber(3)).unwrap().leader, RowNumber(2));
        let (_, start) = load(&[(2, 1, 0), (3, 1, 0)], &[(1, 1, Fate::OwnFault)]);
        assert_eq!(freed(&start), [2]);
        let (_, start) = load(&[(3, 1, 2)], &[(1, 1, Fate::User), (2, 1, Fate::User)]);
        assert_eq!(freed(&start), [3]);
        let (_, start) = load(&[(2, 1, 0)], &[(1, 1, Fate::Skipped)]);
        assert_eq!(start.doomed, [(RowNumber(2), Fate::Skipped)]);
    }
}
