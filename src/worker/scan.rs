//! Walking the lists of a target, page after page.
//!
//! # Owns
//! What is asked next on a list, and when a walk is over.
//! # Never
//! Sleeps, sends, keeps what it finds: the shell around it does, as told by a [`WalkAction`].
//! Concludes that something is absent: a walk that ends early only knows less.

use super::attempts::Attempts;
use crate::model::scan::ScanTally;
use crate::model::{OrgKey, ServerMs};
use crate::target::{ListPage, Op, PageOf, StopReason, Verdict};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

/// Entities of a page; the longest the API allows.
const PAGE: u32 = 100;

/// Longest wait before a page is asked for again: a drain waits for it.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// More pages than any directory has: a list that leads in a circle ends there.
const PAGES_MAX: u32 = 4_000_000;

/// Organizations of a file that are told apart; with more of them each has few rows.
const ORGS_MAX: usize = 50_000;

/// An organization that fewer rows name is asked for row by row: that costs no more.
const ROWS_PER_ORG_MIN: u32 = 2;

/// What is walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// Users, from one end or from the other. Every page names the next one, so that one walk is
    /// bound by the time of a round trip; two of them meet half way.
    Users {
        /// From which.
        oldest_first: bool,
    },
    /// The memberships of one organization.
    Memberships {
        /// Which.
        org_id: String,
    },
    /// Organizations.
    Orgs,
}

/// What is done next.
#[derive(Debug)]
pub enum WalkAction {
    /// Send this, then call [`Walk::on_answer`].
    Send(Op),
    /// Wait this long, then call [`Walk::next`].
    Backoff(Duration),
    /// The walk is over.
    Done,
    /// The run stops.
    Halt(StopReason),
}

/// What the walks of one listing share.
#[derive(Debug)]
pub struct Course {
    /// What was found so far.
    pub tally: ScanTally,
    pages_left: u32,
    /// How far the walk from the oldest and the one from the newest user have come.
    from_oldest: Option<ServerMs>,
    from_newest: Option<ServerMs>,
    /// There are users without a date: the two walks cannot tell when they meet.
    undated: bool,
    all_users: bool,
    cut_short: bool,
    /// The last users of the walk from the newest and of the one from the oldest: where both meet
    /// they pass each other by some pages, and nobody is counted twice.
    recent: [VecDeque<String>; 2],
}

/// Users that are kept of each walk: more pages than two walks pass each other by.
const RECENT_MAX: usize = 1_000;

impl Course {
    /// Begins a listing of at most that many pages; those under way then come on top.
    pub fn new(pages_max: Option<u32>) -> Self {
        Self {
            tally: ScanTally::default(),
            pages_left: pages_max.unwrap_or(PAGES_MAX).min(PAGES_MAX),
            from_oldest: None,
            from_newest: None,
            undated: false,
            all_users: false,
            cut_short: false,
            recent: Default::default(),
        }
    }

    fn count_users(&mut self, oldest_first: bool, page: &ListPage) {
        let [newest, oldest] = &mut self.recent;
        let (own, other) = if oldest_first {
            (oldest, newest)
        } else {
            (newest, oldest)
        };
        let seen: HashSet<&String> = other.iter().collect();
        let ids = page.items.iter().map(|item| &item.entity.id);
        self.tally.users += ids.clone().filter(|id| !seen.contains(id)).count() as u64;
        own.extend(ids.cloned());
        let surplus = own.len().saturating_sub(RECENT_MAX);
        own.drain(..surplus);
    }

    /// Returns what was found in all.
    pub fn end(&self) -> ScanTally {
        ScanTally {
            whole: !self.cut_short && self.all_users,
            ..self.tally
        }
    }

    /// Takes note of users; returns whether the walk that found them has anything left to find.
    fn on_users(&mut self, oldest_first: bool, page: &ListPage) -> bool {
        let dates = page.items.iter().map(|item| item.entity.created_at);
        self.undated |= dates.clone().any(|date| date.is_none());
        let dates = dates.flatten();
        let goes_on = if oldest_first {
            let reached = dates.max().max(self.from_oldest);
            let back = page.items.iter().any(|item| {
                item.entity.created_at.is_some() && item.entity.created_at < self.from_oldest
            });
            self.from_oldest = reached;
            !back
        } else {
            let reached = dates.min();
            let before = self.from_newest;
            self.from_newest = match (reached, before) {
                (Some(reached), Some(before)) => Some(reached.min(before)),
                (reached, before) => reached.or(before),
            };
            true
        };
        let met = match (self.from_oldest, self.from_newest) {
            // Not if they are equal: several users may have been made at that very moment.
            (Some(oldest), Some(newest)) => oldest > newest && !self.undated,
            _ => false,
        };
        self.all_users |= met || page.after.is_none();
        goes_on && !self.all_users && (oldest_first || !self.undated)
    }
}

/// One list on its way.
#[derive(Debug)]
pub struct Walk {
    list: List,
    after: Option<String>,
    limit: u32,
    attempts: Attempts,
    /// Pages it may take.
    left: u32,
}

impl Walk {
    /// Begins at the start of a list.
    pub fn new(list: List) -> Self {
        Self::within(list, PAGES_MAX)
    }

    /// Begins at the start of a list of which only so many pages are worth their time.
    pub fn within(list: List, pages_max: u32) -> Self {
        Self {
            list,
            after: None,
            limit: PAGE,
            attempts: Attempts::default(),
            left: pages_max,
        }
    }

    /// Returns what is walked.
    pub const fn list(&self) -> &List {
        &self.list
    }

    /// Returns what comes next.
    pub fn next(&self, course: &mut Course) -> WalkAction {
        if matches!(self.list, List::Users { .. }) && course.all_users {
            return WalkAction::Done;
        }
        if course.pages_left == 0 {
            course.cut_short = true;
        }
        if course.pages_left == 0 || self.left == 0 {
            return WalkAction::Done;
        }
        let page = PageOf {
            after: self.after.clone(),
            limit: self.limit,
        };
        WalkAction::Send(match &self.list {
            List::Users { oldest_first } => Op::ListUsers {
                oldest_first: *oldest_first,
                page,
            },
            List::Memberships { org_id } => Op::ListMemberships {
                org_id: org_id.clone(),
                page,
            },
            List::Orgs => Op::ListOrgs(page),
        })
    }

    /// Goes on with what an answer means; `page` is what it showed, if it went well. `alive` counts
    /// successes of other requests.
    pub fn on_answer(
        &mut self,
        verdict: &Verdict,
        page: Option<&ListPage>,
        alive: u64,
        course: &mut Course,
    ) -> WalkAction {
        match (verdict, page) {
            (Verdict::NotApplied(_), _) => self.next(course),
            (Verdict::Stop(reason), _) => WalkAction::Halt(reason.clone()),
            (Verdict::Absent, _) => WalkAction::Done,
            (Verdict::Ok(_), Some(page)) => self.on_page(page, course),
            (Verdict::Ambiguous(why), _) if why.code == "oversized_answer" && self.limit > 1 => {
                self.limit /= 2;
                self.next(course)
            }
            _ => {
                let wait = self.attempts.note_unclear(alive);
                if self.attempts.are_spent() {
                    course.cut_short = true;
                    return WalkAction::Done;
                }
                WalkAction::Backoff(wait.min(BACKOFF_MAX))
            }
        }
    }

    fn on_page(&mut self, page: &ListPage, course: &mut Course) -> WalkAction {
        self.attempts.start_step();
        self.left = self.left.saturating_sub(1);
        course.pages_left = course.pages_left.saturating_sub(1);
        course.tally.pages += 1;
        let found = page.items.len() as u64;
        let goes_on = match &self.list {
            List::Users { oldest_first } => {
                course.count_users(*oldest_first, page);
                course.on_users(*oldest_first, page)
            }
            List::Memberships { .. } => {
                course.tally.memberships += found;
                true
            }
            List::Orgs => true,
        };
        let next = page.after.clone();
        if !goes_on || next.is_none() || next == self.after {
            return WalkAction::Done;
        }
        self.after = next;
        self.next(course)
    }
}

/// The organizations that rows name.
#[derive(Debug, Default)]
pub struct NamedOrgs {
    rows: BTreeMap<OrgKey, u32>,
    too_many: bool,
}

impl NamedOrgs {
    /// A row names this one.
    pub fn note(&mut self, key: &OrgKey) {
        if let Some(rows) = self.rows.get_mut(key) {
            *rows += 1;
        } else if self.rows.len() < ORGS_MAX {
            self.rows.insert(key.clone(), 1);
        } else {
            self.too_many = true;
        }
    }

    /// Returns those whose memberships are worth listing: the ids that rows give themselves, and
    /// what has to be found by another name.
    pub fn worth_listing(self) -> (Vec<String>, SoughtOrgs) {
        let (mut ids, mut sought) = (Vec::new(), SoughtOrgs::default());
        if self.too_many {
            return (ids, sought);
        }
        for (key, rows) in self.rows {
            match key {
                _ if rows < ROWS_PER_ORG_MIN => {}
                OrgKey::Id(id) => ids.push(id.into()),
                OrgKey::External(_) | OrgKey::Name(_) => sought.keys.push(key),
            }
        }
        (ids, sought)
    }
}

/// Organizations whose ids are to be found.
#[derive(Debug, Default)]
pub struct SoughtOrgs {
    /// Sorted.
    keys: Vec<OrgKey>,
}

impl SoughtOrgs {
    /// Returns how many are left, which is how many requests it would take to ask for each.
    pub fn count(&self) -> u32 {
        u32::try_from(self.keys.len()).unwrap_or(u32::MAX)
    }

    /// Returns them.
    pub fn keys(&self) -> &[OrgKey] {
        &self.keys
    }

    /// Returns those of a page that are sought.
    pub fn found_in(&mut self, page: &ListPage) -> Vec<String> {
        let mut ids = Vec::new();
        for item in &page.items {
            let external = item
                .entity
                .external_id
                .as_deref()
                .map(|id| OrgKey::External(id.into()));
            let name = item.name.as_deref().map(|name| OrgKey::Name(name.into()));
            for key in external.into_iter().chain(name) {
                if let Ok(at) = self.keys.binary_search(&key) {
                    // Another organization may have the same name: it is listed too.
                    if matches!(key, OrgKey::External(_)) {
                        self.keys.remove(at);
                    }
                    ids.push(item.entity.id.clone());
                    break;
                }
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests;
