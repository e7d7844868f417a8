//! The writer thread: the one place from which a running job's ledger is written.
//!
//! Requests queue up while a commit waits for the disk and share the next one: a sync costs the
//! same for one change and for thousands. Leases and organizations are waited for by workers and
//! commit at once; outcomes may gather for a moment, and in a rehearsal leases with them.

use super::error::LedgerError;
use super::store::Ledger;
use super::types::{Change, CommitReply};
use crate::model::Mono;
use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests that may wait; the sender is held back beyond.
const QUEUE_REQUESTS: usize = 1024;

/// Outcomes in one transaction: more would make a lease behind it wait.
const GROUP_OUTCOMES: usize = 4096;

/// What may wait for company, and how long.
#[derive(Clone, Copy, Debug)]
struct Patience {
    wait: Duration,
    /// Leases may, too: their workers have more at hand than passes meanwhile.
    for_leases: bool,
}

impl Patience {
    /// A commit waits for the disk.
    const DISK: Self = Self {
        wait: Duration::from_millis(10),
        for_leases: false,
    };
    /// It does not. But every one wakes two threads, where one processor is a worker's. Four times as
    /// long, and the threads of a dry run took turns: 9 % of the time nothing was at work.
    const REHEARSAL: Self = Self {
        wait: Duration::from_micros(500),
        for_leases: true,
    };
}

/// Changes that belong together, and the sender's name for them.
#[derive(Debug)]
pub struct Request {
    /// Comes back with the reply.
    pub ticket: u64,
    /// Committed in one transaction, in order.
    pub changes: Vec<Change>,
    /// Nothing will come that could share its commit: it does not wait for company.
    pub alone: bool,
}

/// Replies to every request of one commit, in the order of the requests.
pub type Replies = Vec<(u64, Result<CommitReply, Arc<LedgerError>>)>;

/// Called on the writer's thread after every commit, also after one that failed.
pub type OnReplies = Box<dyn FnMut(Replies) + Send>;

/// Why the writer is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The thread ended without being asked to.
    #[error("the ledger's writer stopped on an internal error: {0}")]
    Panicked(String),
    /// The last step failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What the thread writes to.
trait Store: Send + 'static {
    fn commit(&mut self, group: &[&[Change]]) -> Result<Vec<CommitReply>, LedgerError>;

    fn patience(&self) -> Patience {
        Patience::DISK
    }
}

impl Store for Ledger {
    fn patience(&self) -> Patience {
        if self.is_rehearsal() {
            Patience::REHEARSAL
        } else {
            Patience::DISK
        }
    }

    fn commit(&mut self, group: &[&[Change]]) -> Result<Vec<CommitReply>, LedgerError> {
        self.commit_group(group)
    }
}

/// The handle of the thread.
pub struct Writer {
    requests: SyncSender<Request>,
    thread: JoinHandle<Ledger>,
}

impl Writer {
    /// Starts the thread; it owns the ledger until [`Writer::finish`].
    pub fn start(ledger: Ledger, on_replies: OnReplies) -> io::Result<Self> {
        let (requests, queue) = sync_channel(QUEUE_REQUESTS);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || serve(ledger, &queue, on_replies))?;
        Ok(Self { requests, thread })
    }

    /// Queues a request; waits while the queue is full. Gives it back when the thread is gone:
    /// [`Writer::finish`] says why.
    pub fn send(&self, request: Request) -> Result<(), Request> {
        self.requests.send(request).map_err(|refused| refused.0)
    }

    /// Queues a request unless the queue is full or the thread is gone.
    pub fn try_send(&self, request: Request) -> Result<(), TrySendError<Request>> {
        self.requests.try_send(request)
    }

    /// Commits what is queued, ends the thread, empties the log and gives the ledger back. After
    /// a commit that failed on the disk it is [`LedgerError::Poisoned`]: nothing more is written.
    pub fn finish(self) -> Result<Ledger, WriterError> {
        drop(self.requests);
        let mut ledger = self
            .thread
            .join()
            .map_err(|panic| WriterError::Panicked(words(panic.as_ref())))?;
        ledger.checkpoint()?;
        Ok(ledger)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

/// Commits group after group until every sender is gone; returns the store.
fn serve<S: Store>(mut store: S, queue: &Receiver<Request>, mut on_replies: OnReplies) -> S {
    let mut failed: Option<Arc<LedgerError>> = None;
    let patience = store.patience();
    while let Ok(first) = queue.recv() {
        let group = gather(queue, first, patience);
        let done = match &failed {
            Some(error) => Err(Arc::clone(error)),
            None => commit(&mut store, &group).map_err(Arc::new),
        };
        let replies = match done {
            Ok(replies) => group
                .iter()
                .zip(replies)
                .map(|(request, reply)| (request.ticket, Ok(reply)))
                .collect(),
            Err(error) => {
                failed = Some(Arc::clone(&error));
                group
                    .iter()
                    .map(|request| (request.ticket, Err(Arc::clone(&error))))
                    .collect()
            }
        };
        on_replies(replies);
    }
    store
}

/// Commits one group. A panic becomes an error: whoever waits for the replies must hear of it.
fn commit<S: Store>(store: &mut S, group: &[Request]) -> Result<Vec<CommitReply>, LedgerError> {
    let changes: Vec<&[Change]> = group
        .iter()
        .map(|request| request.changes.as_slice())
        .collect();
    let replies = catch_unwind(AssertUnwindSafe(|| store.commit(&changes)))
        .unwrap_or_else(|panic| Err(LedgerError::Panicked(words(panic.as_ref()))))?;
    if replies.len() == group.len() {
        Ok(replies)
    } else {
        let detail = format!("{} replies for {} requests", replies.len(), group.len());
        Err(LedgerError::Invariant { id: "I14", detail })
    }
}

/// Takes what shares a commit with `first`.
fn gather(queue: &Receiver<Request>, first: Request, patience: Patience) -> Vec<Request> {
    let mut weight = Weight::default();
    weight.add(&first, patience);
    let mut group = vec![first];
    let full_at = Mono::now().after(patience.wait);
    while weight.outcomes < GROUP_OUTCOMES {
        let wait = if weight.is_urgent {
            Duration::ZERO
        } else {
            full_at.since(Mono::now())
        };
        let next = if wait.is_zero() {
            queue.try_recv().ok()
        } else {
            queue.recv_timeout(wait).ok()
        };
        let Some(request) = next else { break };
        weight.add(&request, patience);
        group.push(request);
    }
    group
}

/// What a group holds.
#[derive(Debug, Default)]
struct Weight {
    outcomes: usize,
    /// Somebody waits for something in it: an intent, what became of an organization, or a
    /// snapshot, the last of which ends the run. Or nobody will bring anything more.
    is_urgent: bool,
}

impl Weight {
    fn add(&mut self, request: &Request, patience: Patience) {
        self.is_urgent |= request.alone;
        for change in &request.changes {
            match change {
                Change::Settle(outcomes) => self.outcomes += outcomes.len(),
                Change::Lease { .. } => self.is_urgent |= !patience.for_leases,
                Change::OrgIntent { .. } | Change::Org { .. } | Change::Run(_) => {
                    self.is_urgent = true;
                }
            }
        }
    }
}

/// Returns the words of a panic.
fn words(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without words".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ChunkId, LeaseId, OrgKey, RowError, RowNumber, RowOutcome, ServerMs, Step, WorkerId,
    };
    use std::sync::Mutex;

    /// Remembers the groups; fails or panics at the `n`-th commit.
    struct Fake {
        groups: Arc<Mutex<Vec<usize>>>,
        fail_at: usize,
        panic_at: usize,
    }

    impl Store for Fake {
        fn commit(&mut self, group: &[&[Change]]) -> Result<Vec<CommitReply>, LedgerError> {
            let nth = {
                let mut groups = self.groups.lock().unwrap();
                groups.push(group.len());
                groups.len()
            };
            assert!(nth != self.panic_at, "planted");
            if nth == self.fail_at {
                return Err(LedgerError::Full { path: "/l".into() });
            }
            Ok(vec![CommitReply::default(); group.len()])
        }
    }

    fn outcomes(ticket: u64, n: u32) -> Request {
        let error = RowError::local("x", "x");
        let outcome = |row| RowOutcome::failed(RowNumber(row), Step::User, error.clone());
        Request {
            ticket,
            changes: vec![Change::settle((0..n).map(outcome).collect::<Vec<_>>())],
            alone: false,
        }
    }

    fn intent(ticket: u64) -> Request {
        let key = OrgKey::Id("o".into());
        Request {
            ticket,
            changes: vec![Change::OrgIntent {
                key,
                at: ServerMs(1),
            }],
            alone: false,
        }
    }

    /// Serves a queue that is full from the start and then closed; returns groups and replies.
    fn served(requests: Vec<Request>, fail_at: usize, panic_at: usize) -> (Vec<usize>, Replies) {
        let (send, queue) = sync_channel(requests.len());
        for request in requests {
            send.send(request).unwrap();
        }
        drop(send);
        let groups = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&replies);
        let fake = Fake {
            groups: Arc::clone(&groups),
            fail_at,
            panic_at,
        };
        serve(
            fake,
            &queue,
            Box::new(move |some| heard.lock().unwrap().extend(some)),
        );
        let groups = groups.lock().unwrap().clone();
        let replies = std::mem::take(&mut *replies.lock().unwrap());
        (groups, replies)
    }

    fn tickets(replies: &Replies) -> Vec<u64> {
        replies.iter().map(|(ticket, _)| *ticket).collect()
    }

    #[test]
    fn what_is_queued_shares_a_commit_and_every_request_is_answered_in_order() {
        let (groups, replies) = served((0..5).map(|n| outcomes(n, 3)).collect(), 0, 0);
        assert_eq!(groups, [5]);
        assert_eq!(tickets(&replies), [0, 1, 2, 3, 4]);
        assert!(replies.iter().all(|(_, reply)| reply.is_ok()));
    }

    #[test]
    fn a_group_is_bounded() {
        let (groups, replies) = served((0..5).map(|n| outcomes(n, 2000)).collect(), 0, 0);
        assert_eq!(groups, [3, 2]);
        assert_eq!(replies.len(), 5);
    }

    /// So long that no busy machine takes it for what waits for nothing.
    const ENDLESS: Patience = Patience {
        wait: Duration::from_secs(30),
        for_leases: false,
    };

    #[test]
    fn an_intent_waits_for_nothing_and_takes_the_queue_along() {
        let (send, queue) = sync_channel(8);
        for request in [outcomes(1, 1), outcomes(2, 1)] {
            send.send(request).unwrap();
        }
        let before = Mono::now();
        // The sender lives: without urgency this would wait for more.
        let group = gather(&queue, intent(0), ENDLESS);
        assert_eq!(group.len(), 3);
        assert!(Mono::now().since(before) < ENDLESS.wait);
    }

    #[test]
    fn outcomes_that_nothing_will_join_wait_for_nothing() {
        let (send, queue) = sync_channel(8);
        send.send(outcomes(1, 1)).unwrap();
        let before = Mono::now();
        let last = Request {
            alone: true,
            ..outcomes(0, 1)
        };
        assert_eq!(gather(&queue, last, ENDLESS).len(), 2);
        assert!(Mono::now().since(before) < ENDLESS.wait);
    }

    #[test]
    fn outcomes_wait_a_moment_and_no_longer() {
        let (send, queue) = sync_channel::<Request>(8);
        let before = Mono::now();
        assert_eq!(gather(&queue, outcomes(0, 1), Patience::DISK).len(), 1);
        assert!(Mono::now().since(before) >= Patience::DISK.wait);
        drop(send);
    }

    #[test]
    fn leases_of_a_rehearsal_wait_like_outcomes_and_intents_do_not() {
        let lease = |ticket| Request {
            ticket,
            changes: vec![Change::Lease {
                id: LeaseId(1),
                chunk: ChunkId(0),
                worker: WorkerId(1),
                at: ServerMs(0),
                rows: None,
                followers: Vec::new(),
            }],
            alone: false,
        };
        let (send, queue) = sync_channel::<Request>(8);
        let took = |first, patience| {
            let before = Mono::now();
            assert_eq!(gather(&queue, first, patience).len(), 1);
            Mono::now().since(before)
        };
        assert!(took(lease(0), Patience::REHEARSAL) >= Patience::REHEARSAL.wait);
        assert!(took(lease(0), ENDLESS) < ENDLESS.wait);
        let patient = Patience {
            for_leases: true,
            ..ENDLESS
        };
        assert!(took(intent(0), patient) < ENDLESS.wait);
        drop(send);
    }

    #[test]
    fn after_an_error_nothing_is_written_and_everybody_hears_the_same() {
        let requests = (0..4).map(|n| outcomes(n, 4096)).collect();
        let (groups, replies) = served(requests, 2, 0);
        assert_eq!(groups, [1, 1], "no commit after the one that failed");
        assert!(replies[0].1.is_ok());
        for (_, reply) in &replies[1..] {
            assert!(matches!(
                reply.as_ref().unwrap_err().as_ref(),
                LedgerError::Full { .. }
            ));
        }
        assert_eq!(tickets(&replies), [0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_answers_everybody() {
        let requests = (0..3).map(|n| outcomes(n, 4096)).collect();
        let (groups, replies) = served(requests, 0, 1);
        assert_eq!(groups, [1]);
        for (_, reply) in &replies {
            let error = reply.as_ref().unwrap_err();
            assert!(error.to_string().contains("planted"), "{error}");
        }
        assert_eq!(replies.len(), 3);
    }
}
