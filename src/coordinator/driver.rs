//! The only loop that gathers events and performs effects. It decides nothing.

use super::config::{EndReason, RunConfig, RunEnd};
use super::core::{Core, CoreConfig, Effect, Event, SCAN_ROWS_MIN, state_of};
use super::noticed::Noticed;
use super::signals::Signals;
use crate::ledger::writer::{Request, Writer, WriterError};
use crate::ledger::{CommitReply, JobImage, Ledger, LedgerError};
use crate::model::clock::{slept, wall_ms};
use crate::model::event::RunEvent;
use crate::model::plant;
use crate::model::rng::entropy;
use crate::model::{Mono, ServerMs, WorkerId};
use crate::pace::Pacer;
use crate::protocol::{BUILD, HelloToWorker, PROTOCOL_VERSION, WorkerConfig};
use crate::supervise::{Input, Spawner, WorkerHandle};
use crate::target::RequestClass;
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Messages of workers that wait for the driver; beyond that, workers wait.
const INBOX_MAX: usize = 4096;

/// Events taken in one go before effects are performed.
const BATCH_MAX: usize = 512;

/// A run that waits for answers asks for more when about as many rows are left as a worker can have
/// in flight; a rehearsal finishes a row in a microsecond and needs more of them at hand: as many as
/// pass while a lease waits for company and is committed.
const DRY_PREFETCH_ROWS: u32 = 12_000;

/// More workers than this share what a user may have in pipes.
const WIDE_PIPES_MAX: u32 = 32;

/// Shorter sleeps do no harm, and two clocks are never read at the very same time.
const SLEEP_MIN: Duration = Duration::from_millis(500);

type Reply = (u64, Result<CommitReply, Arc<LedgerError>>);

/// Runs a job until it is over.
///
/// `lock` is the descriptor every worker inherits. `observer` sees every event, in order.
pub fn run(
    config: &RunConfig,
    image: JobImage,
    ledger: Ledger,
    lock: Option<OwnedFd>,
    observer: &mut dyn FnMut(&RunEvent),
) -> RunEnd {
    let (rows, memberships, organizations) = (image.rows, image.memberships, image.organizations);
    let started = RunEvent::Started {
        rows: u32::try_from(image.rows.total).unwrap_or(u32::MAX),
        settled: image.rows.settled(),
        workers: config.tuning.workers,
    };
    observer(&started);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let now = Mono::now();
            let core = Core::new(core_config(config), image, now);
            let why = EndReason::Internal(format!("no runtime: {error}"));
            let snapshot = core.snapshot(now, state_of(&why));
            return RunEnd {
                why,
                snapshot,
                rows,
                memberships,
                organizations,
                finish: core.finish_tally(),
                noticed: Noticed::default(),
            };
        }
    };
    LocalSet::new().block_on(&runtime, async {
        Driver::start(config, image, ledger, lock)
            .run(observer)
            .await
    })
}

fn core_config(config: &RunConfig) -> CoreConfig {
    CoreConfig {
        started: config.started,
        workers: config.tuning.workers,
        at_work_max: at_work_max(config),
        concurrency: config.tuning.concurrency,
        limits: config.tuning.limits,
        auto_rate: config.tuning.auto_rate,
        create_orgs: config.options.create_orgs,
        // With a target to look at, there is something to connect to and a limit to keep.
        dry_run: config.dry_run && !config.check_target,
        any_environment: config.any_environment,
        max_outage: config.tuning.max_outage,
        max_failures: config.tuning.max_failures,
        limit: config.tuning.limit,
        existing_scan: config.tuning.existing_scan,
        scan_rows_min: SCAN_ROWS_MIN,
        time_scale: config.time_scale,
        seed: config.seed,
        wall: ServerMs(wall_ms()),
    }
}

/// Returns whether nobody waits for an answer: a dry run that does not look at its target.
const fn rehearses(config: &RunConfig) -> bool {
    config.dry_run && !config.check_target
}

/// Rows that are not sent wait for a processor and for nothing else: given to more workers than there
/// are of them they pass no sooner, and every worker pushes what the others need out of the caches.
fn at_work_max(config: &RunConfig) -> usize {
    if rehearses(config) {
        thread::available_parallelism().map_or(1, NonZeroUsize::get)
    } else {
        usize::MAX
    }
}

/// Returns whether there is a processor for a second thread of every worker whose rows wait for one.
fn reads_ahead(config: &RunConfig) -> bool {
    let threads = config.tuning.workers.saturating_mul(2) as usize;
    rehearses(config) && threads <= at_work_max(config)
}

struct Driver<'a> {
    config: &'a RunConfig,
    core: Core,
    workers: BTreeMap<WorkerId, WorkerHandle>,
    spawner: Spawner,
    inbox: mpsc::Receiver<(WorkerId, Input)>,
    replies: mpsc::UnboundedReceiver<Reply>,
    writer: Option<Writer>,
    /// Events that performing effects gave rise to.
    own: Vec<Event>,
    paced: (bool, bool),
    /// What workers of a dry run say of rows.
    noticed: Option<Noticed>,
    /// Of the hashes of what a listing finds: on no disk, so they mean nothing to anybody later.
    known_key: [u64; 4],
    /// How long the machine has slept since it was started, as of the last look.
    slept: Duration,
}

impl<'a> Driver<'a> {
    fn start(
        config: &'a RunConfig,
        image: JobImage,
        ledger: Ledger,
        lock: Option<OwnedFd>,
    ) -> Self {
        let (mouth, inbox) = mpsc::channel(INBOX_MAX);
        let (replied, replies) = mpsc::unbounded_channel();
        let on_replies = Box::new(move |batch| {
            for reply in batch {
                // The driver ends after the last reply; a late one changes nothing.
                drop(replied.send(reply));
            }
        });
        let now = Mono::now();
        let pacer = Pacer::new(config.tuning.limits, now);
        // What is not sent does not have to wait.
        let reads = !config.dry_run || config.check_target;
        let paced = (
            !config.dry_run && pacer.paces(RequestClass::Write),
            reads && pacer.paces(RequestClass::Read),
        );
        Self {
            paced,
            noticed: config.dry_run.then(|| Noticed::up_to(image.rows.total)),
            core: Core::new(core_config(config), image, now),
            workers: BTreeMap::new(),
            spawner: Spawner {
                program: config.program.clone(),
                lock,
                inbox: mouth,
                // A rehearsal is soon over. And under a limit processor time is no matter, but a
                // large page that is made ready holds up requests whose slots pass meanwhile.
                large_pages: !rehearses(config) && !paced.0,
                wide_pipes: rehearses(config) && config.tuning.workers <= WIDE_PIPES_MAX,
                threads: config.threads,
            },
            inbox,
            replies,
            writer: Writer::start(ledger, on_replies)
                .map_err(|error| {
                    tracing::error!(%error, "the ledger's writer could not be started");
                })
                .ok(),
            own: Vec::new(),
            known_key: [(); 4].map(|()| entropy()),
            slept: slept(),
            config,
        }
    }

    async fn run(mut self, observer: &mut dyn FnMut(&RunEvent)) -> RunEnd {
        let mut signals = Signals::install();
        let mut effects = Vec::new();
        let mut events = vec![Event::Tick];
        loop {
            for event in events.drain(..) {
                if let (Some(noticed), Event::WorkerSaid { message, .. }) =
                    (&mut self.noticed, &event)
                {
                    noticed.on_said(message);
                }
                self.core.on_event(Mono::now(), event, &mut effects);
            }
            while !effects.is_empty() {
                for effect in std::mem::take(&mut effects) {
                    if let Some(why) = self.perform(effect, observer) {
                        return self.finish(why);
                    }
                }
                for event in std::mem::take(&mut self.own) {
                    self.core.on_event(Mono::now(), event, &mut effects);
                }
            }
            self.gather(&mut signals, &mut events).await;
        }
    }

    /// Waits for something to happen, then takes what else has happened.
    async fn gather(&mut self, signals: &mut Signals, events: &mut Vec<Event>) {
        let now = Mono::now();
        let wait = self.core.deadline(now).since(now);
        tokio::select! {
            signal = signals.next() => events.push(Event::Signal(signal)),
            Some(reply) = self.replies.recv() => events.push(event_of_reply(reply)),
            Some((worker, input)) = self.inbox.recv() => events.push(event_of_input(worker, input)),
            () = tokio::time::sleep(wait) => events.push(Event::Tick),
        }
        self.notice_sleep(events);
        while events.len() < BATCH_MAX {
            if let Ok(reply) = self.replies.try_recv() {
                events.push(event_of_reply(reply));
            } else if let Ok((worker, input)) = self.inbox.try_recv() {
                events.push(event_of_input(worker, input));
            } else {
                break;
            }
        }
    }

    /// A machine that slept says so before anything that happened since.
    fn notice_sleep(&mut self, events: &mut Vec<Event>) {
        let total = slept();
        let since = total.saturating_sub(self.slept);
        if since >= SLEEP_MIN {
            self.slept = total;
            events.insert(0, Event::Slept(since));
        }
    }

    /// Performs one effect; returns why the run is over if it is.
    fn perform(
        &mut self,
        effect: Effect,
        observer: &mut dyn FnMut(&RunEvent),
    ) -> Option<EndReason> {
        match effect {
            Effect::Spawn { worker } => self.spawn(worker),
            Effect::Send { worker, message } => {
                let sent = self
                    .workers
                    .get(&worker)
                    .is_none_or(|handle| handle.send(message));
                if !sent {
                    let reason = "it does not take what it is told".to_owned();
                    self.own.push(Event::WorkerBroken {
                        worker,
                        reason,
                        stranger: false,
                    });
                }
            }
            Effect::CloseInput { worker } => {
                if let Some(handle) = self.workers.get_mut(&worker) {
                    handle.close_input();
                }
            }
            Effect::Terminate { worker } => self.with(worker, WorkerHandle::terminate),
            Effect::Kill { worker } => self.with(worker, WorkerHandle::kill),
            Effect::Commit {
                ticket,
                changes,
                alone,
            } => {
                let request = Request {
                    ticket,
                    changes,
                    alone,
                };
                let sent = self
                    .writer
                    .as_ref()
                    .is_some_and(|writer| writer.send(request).is_ok());
                if !sent {
                    let error = LedgerError::Panicked("its thread is gone".into());
                    self.own.push(Event::CommitFailed {
                        ticket,
                        error: Arc::new(error),
                    });
                }
            }
            Effect::Emit(event) => {
                let crashes = plant::is(101) && matches!(event, RunEvent::Settled(_));
                assert!(!crashes, "planted: {event:?}");
                if let RunEvent::WorkerGone { worker, .. } = &event {
                    self.workers.remove(worker);
                }
                observer(&event);
            }
            Effect::Finish(why) => return Some(why),
        }
        None
    }

    fn with(&self, worker: WorkerId, act: impl Fn(&WorkerHandle)) {
        if let Some(handle) = self.workers.get(&worker) {
            act(handle);
        }
    }

    fn spawn(&mut self, worker: WorkerId) {
        let hello = HelloToWorker {
            protocol: PROTOCOL_VERSION,
            build: BUILD.to_owned(),
            nonce: entropy(),
            worker,
            config: self.worker_config(worker),
            api_key: self.config.api_key.expose_secret().to_owned(),
        };
        match self.spawner.spawn(worker, hello) {
            Ok(handle) => {
                self.workers.insert(worker, handle);
            }
            Err(error) => {
                let how = format!("it could not be started: {error}");
                self.own.push(Event::WorkerGone { worker, how });
            }
        }
    }

    fn worker_config(&self, worker: WorkerId) -> WorkerConfig {
        let RunConfig {
            options, tuning, ..
        } = self.config;
        let dry_run = self.config.dry_run;
        WorkerConfig {
            source: self.config.source.clone(),
            columns: self.config.columns.clone(),
            known_in: self.config.known_in.clone(),
            known_key: self.known_key,
            base_url: self.config.base_url.clone(),
            org_mode: options.org_mode.clone(),
            on_existing: options.on_existing,
            reactivate: options.reactivate,
            require_membership: options.require_membership,
            dry_run,
            check_target: self.config.check_target,
            assume_orgs: self.config.assumes_orgs(),
            record_calls: self.config.record_calls,
            concurrency: tuning.concurrency,
            prefetch_rows: match (rehearses(self.config), self.paced.0) {
                (true, _) => DRY_PREFETCH_ROWS,
                (false, true) => tuning.concurrency,
                // It is done with what it has before it gets more, if it asks as late as that.
                (false, false) => tuning.concurrency.saturating_mul(2),
            },
            reads_ahead: reads_ahead(self.config),
            org_cache: tuning.org_cache,
            paced_writes: self.paced.0,
            paced_reads: self.paced.1,
            time_scale: self.config.time_scale,
            seed: self.config.seed ^ u64::from(worker.0).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Joins the writer and enters the end of the run; a failure of that is why the run ended,
    /// unless the ledger was known to have failed.
    fn finish(mut self, why: EndReason) -> RunEnd {
        let (rows, memberships, organizations) = self.core.tallies();
        let finish = self.core.finish_tally();
        let snapshot = self.core.snapshot(Mono::now(), state_of(&why));
        let closed = self.writer.take().map_or(Ok(()), |writer| {
            let mut ledger = writer.finish()?;
            ledger
                .end_run(&snapshot, wall_ms())
                .map_err(WriterError::from)
        });
        let why = match closed {
            Err(WriterError::Ledger(error)) if !matches!(why, EndReason::Ledger(_)) => {
                EndReason::Ledger(Arc::new(error))
            }
            Err(WriterError::Panicked(words)) if !matches!(why, EndReason::Ledger(_)) => {
                EndReason::Ledger(Arc::new(LedgerError::Panicked(words)))
            }
            Ok(()) | Err(_) => why,
        };
        RunEnd {
            why,
            snapshot,
            rows,
            memberships,
            organizations,
            finish,
            noticed: self.noticed.unwrap_or_default(),
        }
    }
}

fn event_of_input(worker: WorkerId, input: Input) -> Event {
    match input {
        Input::Ready { pid } => Event::WorkerReady { worker, pid },
        Input::Said(message) => Event::WorkerSaid { worker, message },
        Input::Broken { reason, stranger } => Event::WorkerBroken {
            worker,
            reason,
            stranger,
        },
        Input::Gone { how } => Event::WorkerGone { worker, how },
    }
}

fn event_of_reply((ticket, result): Reply) -> Event {
    match result {
        Ok(reply) => Event::Committed { ticket, reply },
        Err(error) => Event::CommitFailed { ticket, error },
    }
}
