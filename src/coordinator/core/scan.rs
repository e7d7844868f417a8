//! Listing the target's users before the rows are worked on: whether, by whom, for how long.
//!
//! A user who is there already costs a row a refused creation and two or three reads. A page of a
//! list costs one read and shows a hundred users. Whether that pays is not known beforehand, so a
//! few rows are looked up first; and a listing that takes longer than asking for every row would
//! have taken is stopped: nothing ever costs more than about twice what it had to. Work waits
//! meanwhile, everything else goes on as ever.

use super::crew::Phase;
use super::{Core, WorkerId};
use crate::model::event::RunEvent;
use crate::model::scan::{ExistingScan, ScanNews, ScanTally};
use crate::model::{ChunkSpec, RateLimit, RateLimits};
use crate::protocol::{SamplePick, ToWorker};
use std::time::Duration;

/// Fewer rows than this are done before a sample says anything.
pub const ROWS_MIN: u64 = 200;

/// Rows that are looked up to decide, at most.
const SAMPLE: usize = 40;

/// Rows that are named for each one that is looked up: some break a local rule.
const NAMED_PER_ROW: usize = 4;

/// Chunks told in one message.
const CHUNKS_PER_MESSAGE: usize = 4096;

/// After so many deaths of workers that listed, nobody lists any more.
const DEATHS_MAX: u8 = 3;

/// What a row whose user is there costs when it asks for itself: a creation that is refused, and
/// two reads.
const ROW_WRITES: f64 = 1.0;
const ROW_READS: f64 = 2.0;

/// Returns how many pages cost as much time as asking for every row of `pending` would, if as many
/// of them are there as of the sample; none if listing cannot pay.
pub fn pages_worth(asked: u32, found: u32, pending: u64, limits: &RateLimits) -> Option<u32> {
    if asked == 0 || found == 0 {
        return None;
    }
    let there = pending as f64 * f64::from(found) / f64::from(asked);
    // Seconds per request; without limits a request is as good as another.
    let cost = |limit: Option<RateLimit>| limit.map_or(0.0, |limit| 1.0 / limit.per_second());
    let (write, read, total) = (cost(limits.writes), cost(limits.reads), cost(limits.total));
    let row = (ROW_WRITES * write)
        .max(ROW_READS * read)
        .max((ROW_WRITES + ROW_READS) * total);
    let page = read.max(total);
    let pages_per_row = if page > 0.0 {
        row / page
    } else {
        ROW_WRITES + ROW_READS
    };
    // A number of pages, not of seconds: the conversion is the one that cannot go wrong.
    let pages = Duration::try_from_secs_f64(there * pages_per_row).unwrap_or(Duration::MAX);
    let pages = u32::try_from(pages.as_secs()).unwrap_or(u32::MAX);
    (pages > 0).then_some(pages)
}

/// Returns at most `n` of `all`, evenly spread, beginning with the one at `from`.
fn spread<T: Clone>(all: &[T], n: usize, from: usize) -> Vec<T> {
    let n = n.min(all.len());
    let at = |k| (from + k * all.len() / n.max(1)) % all.len().max(1);
    (0..n).filter_map(|k| all.get(at(k)).cloned()).collect()
}

/// What is to be done, or is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Sample,
    List { pages_max: Option<u32> },
}

#[derive(Debug)]
enum State {
    /// The run has not begun.
    Undecided,
    /// Somebody has to do it.
    Due(Task),
    UnderWay(Task, u32, WorkerId),
    Over,
}

/// The listing of a run.
#[derive(Debug)]
pub(super) struct Scan {
    mode: ExistingScan,
    rows_min: u64,
    state: State,
    /// The target said that it has no users.
    empty: bool,
    last: u32,
    deaths: u8,
    /// The file that workers use.
    known: Option<u32>,
}

impl Scan {
    pub(super) const fn new(mode: ExistingScan, rows_min: u64) -> Self {
        Self {
            mode,
            rows_min,
            state: State::Undecided,
            empty: false,
            last: 0,
            deaths: 0,
            known: None,
        }
    }

    /// Returns whether rows wait for it.
    pub(super) const fn holds_back(&self) -> bool {
        !matches!(self.state, State::Over)
    }

    /// Returns whether that worker is busy with it.
    pub(super) fn is_with(&self, worker: WorkerId) -> bool {
        matches!(self.state, State::UnderWay(_, _, with) if with == worker)
    }

    /// The first probe told whether the target has users.
    pub(super) const fn on_probed(&mut self, empty: bool) {
        self.empty = empty;
    }

    /// Returns the task that ended, if that worker was doing it under that number.
    fn ended(&mut self, worker: WorkerId, number: u32) -> Option<Task> {
        match &self.state {
            State::UnderWay(task, it, with) if (*it, *with) == (number, worker) => {
                let task = task.clone();
                self.state = State::Over;
                Some(task)
            }
            _ => None,
        }
    }
}

impl Core {
    /// Begins what is due, as soon as somebody can do it.
    pub(super) fn run_scan(&mut self) {
        if !self.stage.is_running() || self.breaker.is_open() {
            return;
        }
        if matches!(self.scan.state, State::Undecided) {
            self.scan.state = self.first_task().map_or(State::Over, State::Due);
        }
        let State::Due(task) = &self.scan.state else {
            return;
        };
        let task = task.clone();
        let Some(worker) = self.crew.in_phase(Phase::Ready).first().copied() else {
            return;
        };
        self.scan.last += 1;
        let scan = self.scan.last;
        match task {
            Task::Sample => {
                let picks = self.sample_picks();
                if picks.is_empty() {
                    self.scan.state = State::Over;
                    return;
                }
                self.send(worker, ToWorker::Sample { scan, picks });
            }
            Task::List { pages_max } => {
                let chunks: Vec<ChunkSpec> = self.work.fresh_chunks().cloned().collect();
                for part in chunks.chunks(CHUNKS_PER_MESSAGE) {
                    self.send(worker, ToWorker::ScanChunks(part.to_vec()));
                }
                self.send(worker, ToWorker::Scan { scan, pages_max });
            }
        }
        self.scan.state = State::UnderWay(task, scan, worker);
    }

    /// Spreads the sample over the file.
    fn sample_picks(&self) -> Vec<SamplePick> {
        let chunks: Vec<&ChunkSpec> = self.work.untouched_chunks().map(|(it, _)| it).collect();
        let chunks = spread(&chunks, SAMPLE, 0);
        let (each, over) = (SAMPLE / chunks.len().max(1), SAMPLE % chunks.len().max(1));
        let pick = |(n, chunk): (usize, &ChunkSpec)| {
            let take = each + usize::from(n < over);
            // Not always the first one: a file may be sorted by something that tells.
            let rows = spread(&self.work.untouched_rows(chunk.id), take * NAMED_PER_ROW, n);
            SamplePick {
                chunk: chunk.clone(),
                rows,
                take,
            }
        };
        let picks = chunks.into_iter().enumerate().map(pick);
        picks.filter(|pick| !pick.rows.is_empty()).collect()
    }

    fn first_task(&self) -> Option<Task> {
        if self.config.dry_run {
            return None;
        }
        match self.scan.mode {
            ExistingScan::Probe => None,
            ExistingScan::List => {
                let any = self.work.fresh_chunks().next().is_some();
                any.then_some(Task::List { pages_max: None })
            }
            ExistingScan::Auto => {
                let rows = self.untouched();
                (rows > 0 && rows >= self.scan.rows_min && !self.scan.empty).then_some(Task::Sample)
            }
        }
    }

    /// Returns how many rows of this run nobody has worked on.
    fn untouched(&self) -> u64 {
        let chunks = self.work.untouched_chunks();
        chunks.map(|(_, open)| u64::from(open)).sum()
    }

    pub(super) fn on_sampled(&mut self, worker: WorkerId, scan: u32, asked: u32, found: u32) {
        if self.scan.ended(worker, scan).is_none() {
            return;
        }
        let pages_max = pages_worth(asked, found, self.untouched(), &self.config.limits);
        let news = ScanNews::Sampled {
            asked,
            found,
            pages_max,
        };
        self.emit(RunEvent::Existing(news));
        if pages_max.is_some() {
            self.scan.state = State::Due(Task::List { pages_max });
        }
    }

    pub(super) fn on_scanning(&mut self, worker: WorkerId, scan: u32, tally: ScanTally) {
        if self.scan.is_with(worker) && self.scan.last == scan {
            self.emit(RunEvent::Existing(ScanNews::Listing(tally)));
        }
    }

    pub(super) fn on_scanned(
        &mut self,
        worker: WorkerId,
        scan: u32,
        result: Result<ScanTally, String>,
    ) {
        if self.scan.ended(worker, scan).is_none() {
            return;
        }
        match result {
            Ok(tally) => {
                self.scan.known = Some(scan);
                self.emit(RunEvent::Existing(ScanNews::Listed(tally)));
                for worker in self.crew.in_phase(Phase::Ready) {
                    self.tell_known(worker);
                }
            }
            Err(words) => self.emit(RunEvent::Existing(ScanNews::Failed(words))),
        }
    }

    /// Tells a worker what may be used, if there is anything.
    pub(super) fn tell_known(&mut self, worker: WorkerId) {
        if let Some(scan) = self.scan.known {
            self.send(worker, ToWorker::Known { scan });
        }
    }

    /// Another one does it, unless too many died of it.
    pub(super) fn on_scanner_gone(&mut self, worker: WorkerId) {
        if !self.scan.is_with(worker) {
            return;
        }
        let State::UnderWay(task, ..) = std::mem::replace(&mut self.scan.state, State::Over) else {
            return;
        };
        self.scan.deaths += 1;
        if self.scan.deaths < DEATHS_MAX {
            self.scan.state = State::Due(task);
        } else {
            let words = "workers that list it die".to_owned();
            self.emit(RunEvent::Existing(ScanNews::Failed(words)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_found_or_nobody_asked_is_no_reason_to_list() {
        assert_eq!(pages_worth(0, 0, 1_000_000, &RateLimits::WORKOS), None);
        assert_eq!(pages_worth(40, 0, 1_000_000, &RateLimits::WORKOS), None);
    }

    #[test]
    fn a_spread_names_nothing_twice_and_ends_with_what_there_is() {
        assert_eq!(spread(&[1, 2, 3, 4, 5, 6], 3, 1), [2, 4, 6]);
        assert_eq!(spread(&[1, 2, 3], 9, 2), [3, 1, 2]);
        assert!(spread::<u8>(&[], 9, 2).is_empty());
    }

    #[test]
    fn a_listing_may_cost_what_asking_for_every_row_would() {
        // 500 there: a write, two reads each, at 100 requests a second in all: 15 s, 1500 pages.
        let pages = pages_worth(40, 20, 1_000, &RateLimits::WORKOS);
        assert_eq!(pages, Some(1_500));
        // Writes alone are limited: a page is free, and each request as good as another.
        let writes = RateLimits {
            reads: None,
            total: None,
            ..RateLimits::WORKOS
        };
        assert_eq!(pages_worth(40, 20, 1_000, &writes), Some(1_500));
        assert_eq!(pages_worth(40, 40, 10, &RateLimits::default()), Some(30));
        assert_eq!(pages_worth(40, 1, 1, &RateLimits::WORKOS), None);
    }
}
