//! Listing the target's users for the whole run: the walks side by side, and the file they fill.

use super::Server;
use crate::model::{ChunkSpec, OrgKey};
use crate::protocol::{FromWorker, SamplePick};
use crate::source::{CsvRecord, SourceError, SourceRow, parse_row, read_chunk};
use crate::target::{ListPage, Op, Verdict};
use crate::worker::gate::Turn;
use crate::worker::known::{KnownBuilder, KnownKey};
use crate::worker::scan::{Course, List, NamedOrgs, SoughtOrgs, Walk, WalkAction};
use crate::worker::shell::TurnedAway;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Organizations whose memberships are listed side by side, at most.
const SIDE_BY_SIDE: u32 = 32;

/// So few organizations are asked for one by one instead of being looked for in a list of all.
const ASK_FOR_ORGS: u32 = 3;

/// Pages between two reports.
const REPORT_PAGES: u32 = 20;

/// Why a listing came to nothing.
enum Failed {
    /// The run drains or stops; nobody waits for an answer.
    Away,
    /// The file cannot be written.
    File(io::Error),
    /// The rows cannot be read.
    Source(SourceError),
}

impl From<TurnedAway> for Failed {
    fn from(_: TurnedAway) -> Self {
        Self::Away
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// One listing under way.
struct Listing {
    server: Rc<Server>,
    number: u32,
    course: RefCell<Course>,
    builder: RefCell<KnownBuilder>,
    /// Organizations whose memberships are still to be listed.
    orgs: RefCell<VecDeque<String>>,
}

impl Server {
    /// Looks up the rows of a sample, all at once; the slots of reads space them.
    pub(super) fn fly_sample(self: &Rc<Self>, scan: u32, picks: Vec<SamplePick>) {
        let whole = Rc::clone(self);
        self.spawn_flight(async move |_| whole.sample(scan, picks).await);
    }

    async fn sample(self: &Rc<Self>, scan: u32, picks: Vec<SamplePick>) {
        let mut rows = Vec::new();
        for pick in &picks {
            match self.rows_of(&pick.chunk) {
                Ok(good) => {
                    let place = |row| good.binary_search_by_key(row, |it| it.number).ok();
                    let named: Vec<usize> = pick.rows.iter().filter_map(place).collect();
                    // Of the whole chunk: a file may be sorted by something that tells.
                    let step = (named.len() / pick.take.max(1)).max(1);
                    let meant = named.into_iter().step_by(step).take(pick.take);
                    rows.extend(meant.filter_map(|at| good.get(at).cloned()));
                }
                Err(error) => return self.shell.outbox.say(super::no_chunk(&error)),
            }
        }
        let mut asking = JoinSet::new();
        for row in rows {
            let server = Rc::clone(self);
            asking.spawn_local(async move { server.is_there(&row).await });
        }
        let (mut asked, mut found) = (0, 0);
        while let Some(answer) = asking.join_next().await {
            if let Ok(Some(there)) = answer {
                asked += 1;
                found += u32::from(there);
            }
        }
        let report = FromWorker::Sampled { scan, asked, found };
        self.shell.outbox.say(report);
    }

    /// Returns whether a row's user is there; `None` if the answer does not tell.
    async fn is_there(&self, row: &SourceRow) -> Option<bool> {
        let by_id = row.external_id.as_ref();
        let by_id = by_id.map(|id| Op::FindUserByExternalId(id.to_string()));
        let by_email = Op::FindUserByEmail(row.email_norm().to_owned());
        for op in by_id.into_iter().chain([by_email]) {
            match self.shell.call(&op, None, Turn::Fresh).await {
                Ok(Verdict::Ok(_)) => return Some(true),
                Ok(Verdict::Absent) => {}
                Ok(Verdict::Stop(reason)) => {
                    self.shell.halt(reason);
                    return None;
                }
                _ => return None,
            }
        }
        Some(false)
    }

    /// Returns the rows of a chunk that pass every local rule.
    fn rows_of(&self, chunk: &ChunkSpec) -> Result<Vec<Arc<SourceRow>>, SourceError> {
        let columns = &self.shell.config.columns;
        let records = read_chunk(&self.file, chunk, columns)?;
        let good = |record: &CsvRecord| {
            record.left_out(columns).is_none().then_some(())?;
            parse_row(record, columns, &self.rules).ok()
        };
        Ok(records.iter().filter_map(good).collect())
    }

    pub(super) fn fly_scan(
        self: &Rc<Self>,
        number: u32,
        pages_max: Option<u32>,
        chunks: Vec<ChunkSpec>,
    ) {
        let whole = Rc::clone(self);
        self.spawn_flight(async move |server| {
            let listed = Listing::run(whole, number, pages_max, &chunks).await;
            let result = match listed {
                Ok(tally) => Ok(tally),
                Err(Failed::Away) => return,
                Err(Failed::File(error)) => Err(error.to_string()),
                Err(Failed::Source(error)) => {
                    return server.shell.outbox.say(super::no_chunk(&error));
                }
            };
            let scan = number;
            server
                .shell
                .outbox
                .say(FromWorker::Scanned { scan, result });
        });
    }
}

impl Listing {
    async fn run(
        server: Rc<Server>,
        number: u32,
        pages_max: Option<u32>,
        chunks: &[ChunkSpec],
    ) -> Result<crate::model::scan::ScanTally, Failed> {
        let config = &server.shell.config;
        let builder = KnownBuilder::new(&config.known_in, KnownKey(config.known_key))?;
        let listing = Rc::new(Self {
            number,
            course: RefCell::new(Course::new(pages_max)),
            builder: RefCell::new(builder),
            orgs: RefCell::default(),
            server,
        });
        let mut walks = JoinSet::new();
        for oldest_first in [true, false] {
            let listing = Rc::clone(&listing);
            let users = Walk::new(List::Users { oldest_first });
            walks.spawn_local(async move { listing.walk(users, &mut |_| ()).await });
        }
        listing.find_orgs(chunks).await?;
        let side_by_side = listing.server.shell.config.concurrency.min(SIDE_BY_SIDE);
        for _ in 0..side_by_side {
            let listing = Rc::clone(&listing);
            walks.spawn_local(async move { listing.list_memberships().await });
        }
        while let Some(walked) = walks.join_next().await {
            // A walk that panics ends the process; one that was cancelled has nobody to tell.
            walked.map_err(|_cancelled| Failed::Away)??;
        }
        let Some(listing) = Rc::into_inner(listing) else {
            return Err(Failed::Away);
        };
        let mut merge = listing.builder.into_inner().merge(number)?;
        while merge.step()? {
            if listing.server.draining.get() {
                return Err(Failed::Away);
            }
            tokio::task::yield_now().await;
        }
        merge.finish()?;
        Ok(listing.course.into_inner().end())
    }

    async fn list_memberships(&self) -> Result<(), Failed> {
        loop {
            let next = self.orgs.borrow_mut().pop_front();
            let Some(org_id) = next else {
                return Ok(());
            };
            self.course.borrow_mut().tally.organizations += 1;
            self.walk(Walk::new(List::Memberships { org_id }), &mut |_| ())
                .await?;
        }
    }

    /// Reads which organizations the rows name, and finds out their ids.
    async fn find_orgs(&self, chunks: &[ChunkSpec]) -> Result<(), Failed> {
        let mut named = NamedOrgs::default();
        for chunk in chunks {
            for row in self.server.rows_of(chunk)? {
                if let Some(org) = &row.org {
                    named.note(org);
                }
            }
            tokio::task::yield_now().await;
        }
        let (ids, sought) = named.worth_listing();
        self.orgs.borrow_mut().extend(ids);
        if sought.count() <= ASK_FOR_ORGS {
            return self.ask_for_orgs(&sought).await;
        }
        let sought = RefCell::new(sought);
        let walk = Walk::within(List::Orgs, sought.borrow().count());
        let mut on_page = |page: &ListPage| {
            let found = sought.borrow_mut().found_in(page);
            self.orgs.borrow_mut().extend(found);
        };
        self.walk(walk, &mut on_page).await
    }

    async fn ask_for_orgs(&self, sought: &SoughtOrgs) -> Result<(), Failed> {
        for key in sought.keys() {
            let op = match key {
                OrgKey::External(id) => Op::FindOrgByExternalId(id.to_string()),
                OrgKey::Name(name) => Op::FindOrgByName(name.to_string()),
                OrgKey::Id(_) => continue,
            };
            match self.server.shell.call(&op, None, Turn::Fresh).await? {
                Verdict::Ok(org) => self.orgs.borrow_mut().push_back(org.id),
                Verdict::Stop(reason) => {
                    self.server.shell.halt(reason);
                    return Err(Failed::Away);
                }
                // Then its rows ask for their memberships one by one.
                _ => {}
            }
        }
        Ok(())
    }

    /// Walks a list to its end, and keeps what is on it.
    async fn walk(&self, mut walk: Walk, on_page: &mut dyn FnMut(&ListPage)) -> Result<(), Failed> {
        let shell = &self.server.shell;
        let mut action = walk.next(&mut self.course.borrow_mut());
        loop {
            action = match action {
                WalkAction::Send(op) => {
                    let (verdict, page) = shell.call_for_page(&op).await?;
                    let page = page.as_ref();
                    if let Some(page) = page {
                        self.keep(walk.list(), page)?;
                        on_page(page);
                    }
                    let alive = shell.alive(op.class());
                    let mut course = self.course.borrow_mut();
                    walk.on_answer(&verdict, page, alive, &mut course)
                }
                WalkAction::Backoff(wait) => {
                    shell.back_off(wait).await;
                    walk.next(&mut self.course.borrow_mut())
                }
                WalkAction::Done => return Ok(()),
                WalkAction::Halt(reason) => {
                    shell.halt(reason);
                    return Err(Failed::Away);
                }
            };
            self.report();
        }
    }

    fn keep(&self, list: &List, page: &ListPage) -> io::Result<()> {
        let mut builder = self.builder.borrow_mut();
        for item in &page.items {
            match (list, &item.user_id) {
                (List::Users { .. }, _) => builder.user(&item.entity)?,
                (List::Memberships { org_id }, Some(user_id)) => {
                    builder.membership(user_id, org_id, &item.entity)?;
                }
                (List::Memberships { .. }, None) | (List::Orgs, _) => {}
            }
        }
        Ok(())
    }

    fn report(&self) {
        let tally = self.course.borrow().tally;
        if tally.pages.is_multiple_of(REPORT_PAGES) {
            let scan = self.number;
            self.server
                .shell
                .outbox
                .say(FromWorker::Scanning { scan, tally });
        }
    }
}
