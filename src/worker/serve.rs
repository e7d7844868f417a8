//! The life of a worker: take grants, run rows, answer questions, end with its input.

mod ahead;
mod asking;
mod granted;
mod judge;
mod rehearse;
mod scanning;

use self::ahead::{ReadAhead, ReadGrant};
use self::granted::GrantedRows;
use self::judge::{JudgedRow, judge_row};
use super::gate::Turn;
use super::org_steps::{OrgAction, OrgMachine};
use super::outbox::OUTCOMES_WAIT;
use super::shell::{Shell, TurnedAway};
use super::steps::{Action, RowMachine, RowPolicy};
use crate::model::event::WorkerGauge;
use crate::model::{ChunkSpec, LeaseId, Mono, OrgKey, RowNumber, RowOutcome, RowState, ServerMs};
use crate::protocol::{
    BUILD, Decoder, FrameError, FromWorker, Grant, HelloFromWorker, HelloToWorker, NameAt,
    OrgVerdict, PROTOCOL_VERSION, ProbeResult, RowContext, ToWorker, encode,
};
use crate::source::{CsvRecord, NewNames, RowRules, SourceError, SourceRow, find_records};
use crate::target::classify::NotApplied;
use crate::target::http::{Client, ClientError, Exchange, TargetClient, Timeouts};
use crate::target::{DryClient, Op, StopReason, Verdict};
use secrecy::SecretString;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes read from the coordinator at once.
const READ_BYTES: usize = 64 * 1024;

/// After its input ended, a worker hands in what it knows within this long.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

/// Chunks asked for and not yet granted, at most.
const CREDITS_MAX: usize = 8;

/// The same in a dry run, where a chunk is gone in less than a millisecond.
const DRY_CREDITS_MAX: usize = 64;

/// Why a worker ends before its input does.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The coordinator's stream is no stream of frames.
    #[error("the coordinator cannot be understood: {0}")]
    Frame(#[from] FrameError),
    /// The pipe broke.
    #[error("the pipe to the coordinator broke: {0}")]
    Pipe(#[from] io::Error),
    /// The first frame was no hello, or one of another version.
    #[error("this worker belongs to another build of userferry")]
    Stranger,
    /// The source file cannot be opened.
    #[error("the source file cannot be opened: {0}")]
    Source(io::Error),
    /// There is no client for this address and key.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A row that starts.
struct Job {
    lease: LeaseId,
    number: RowNumber,
    /// The row, or what became of it before any step.
    row: Result<Arc<SourceRow>, Box<RowOutcome>>,
    context: RowContext,
}

/// One worker at work.
struct Server {
    shell: Shell,
    file: File,
    rules: RowRules,
    policy: RowPolicy,
    /// Names of organizations that rows of a dry run gave so far.
    names: RefCell<NewNames>,
    queue: RefCell<GrantedRows>,
    /// Rows that were granted and are not begun, counted beside the queue: somebody asks while it is
    /// read.
    queued: Cell<usize>,
    /// Reads whole grants ahead, where it was told to.
    ahead: OnceCell<ReadAhead>,
    /// What it has read.
    read: RefCell<VecDeque<ReadGrant>>,
    /// The record of the row that starts.
    record: RefCell<CsvRecord>,
    /// Chunks that the next listing is about.
    scan_chunks: RefCell<Vec<ChunkSpec>>,
    /// Lanes: tasks that run rows one after the other.
    active: Cell<u32>,
    /// Organization flights in a task of their own.
    flights: Cell<u32>,
    /// A dry run's rows wait for their next turn.
    rests: Cell<bool>,
    done: Cell<u64>,
    credits: Cell<usize>,
    /// Rows of the largest grant so far: what a credit may bring.
    grant_rows: Cell<usize>,
    draining: Cell<bool>,
    drained: Cell<bool>,
    /// Its input has ended: what it knows is said, and then nothing more.
    ending: Cell<bool>,
}

/// Serves until `input` ends.
///
/// # Errors
/// A [`ServeError`]; the caller exits and the coordinator takes the worker for dead.
pub async fn serve<R, W>(mut input: R, output: W) -> Result<(), ServeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + 'static,
{
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    let Some(first) = next_message(&mut input, &mut decoder, &mut buffer).await? else {
        return Ok(());
    };
    let ToWorker::Hello(hello) = first else {
        return Err(ServeError::Stranger);
    };
    if hello.protocol != PROTOCOL_VERSION || hello.build != BUILD {
        return Err(ServeError::Stranger);
    }
    let nonce = hello.nonce;
    let server = Server::new(*hello);
    let hello = FromWorker::Hello(HelloFromWorker {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        nonce,
        pid: std::process::id(),
    });
    let server = match server {
        Ok(server) => Rc::new(server),
        Err(error) => {
            say_last(output, &[hello, last_words_of(&error)]).await?;
            return Err(error);
        }
    };
    let mut writing = tokio::task::spawn_local(Rc::clone(&server).write(output, hello));
    let gating = {
        let server = Rc::clone(&server);
        tokio::task::spawn_local(async move { server.shell.run_gate().await })
    };
    let reading_ahead = server.read_ahead();
    server.ask_for_work();
    let reading = async {
        while let Some(message) = next_message(&mut input, &mut decoder, &mut buffer).await? {
            let many = server.on_message(message);
            if many {
                // What became of a whole chunk of a dry run goes out before the next one is begun.
                tokio::task::yield_now().await;
            }
        }
        Ok::<(), ServeError>(())
    };
    // Whichever side ends first ends the worker: rows under way are the coordinator's to recover.
    let result = tokio::select! {
        read = reading => {
            server.ending.set(true);
            server.shell.outbox.wake_now();
            // A coordinator that is gone takes nothing any more, and need not.
            let _unheard = tokio::time::timeout(LAST_WORDS_WITHIN, &mut writing).await;
            read
        }
        written = &mut writing => match written {
            Ok(written) => written.map_err(ServeError::from),
            Err(panicked) => Err(ServeError::Pipe(io::Error::other(panicked))),
        },
    };
    gating.abort();
    if let Some(reading_ahead) = reading_ahead {
        reading_ahead.abort();
    }
    result
}

/// Says why there will be no work, for a worker that cannot begin.
async fn say_last<W: AsyncWrite + Unpin>(
    mut output: W,
    messages: &[FromWorker],
) -> Result<(), ServeError> {
    let mut bytes = Vec::new();
    for (sequence, message) in (0..).zip(messages) {
        encode(sequence, message, &mut bytes)?;
    }
    output.write_all(&bytes).await?;
    Ok(())
}

fn last_words_of(error: &ServeError) -> FromWorker {
    match error {
        ServeError::Source(_) => FromWorker::SourceUnreadable(error.to_string()),
        _ => FromWorker::Halt(StopReason::NotThisApi(error.to_string())),
    }
}

async fn next_message<R: AsyncRead + Unpin>(
    input: &mut R,
    decoder: &mut Decoder,
    buffer: &mut [u8],
) -> Result<Option<ToWorker>, ServeError> {
    loop {
        if let Some(message) = decoder.message()? {
            return Ok(Some(message));
        }
        let count = input.read(buffer).await?;
        if count == 0 {
            decoder.finish()?;
            return Ok(None);
        }
        decoder.push(buffer.get(..count).unwrap_or_default());
    }
}

impl Server {
    fn new(hello: HelloToWorker) -> Result<Self, ServeError> {
        let config = hello.config;
        let client = || {
            let key = SecretString::from(hello.api_key);
            let timeouts = Timeouts::STANDARD.scaled(config.time_scale);
            TargetClient::new(&config.base_url, &key, timeouts)
        };
        let client = match (config.dry_run, config.check_target) {
            (true, false) => Client::Dry(DryClient {
                orgs_are_there: config.assume_orgs,
            }),
            (true, true) => Client::Check(client()?),
            (false, _) => Client::Http(client()?),
        };
        let record = RefCell::new(CsvRecord::blank(&config.columns));
        Ok(Self {
            file: File::open(&config.source).map_err(ServeError::Source)?,
            rules: RowRules {
                org_mode: config.org_mode.clone(),
                require_membership: config.require_membership,
            },
            policy: RowPolicy {
                on_existing: config.on_existing,
                reactivate: config.reactivate,
            },
            shell: Shell::new(config, client),
            names: RefCell::default(),
            queue: RefCell::default(),
            queued: Cell::new(0),
            ahead: OnceCell::new(),
            read: RefCell::default(),
            record,
            scan_chunks: RefCell::default(),
            active: Cell::new(0),
            flights: Cell::new(0),
            rests: Cell::new(false),
            done: Cell::new(0),
            credits: Cell::new(0),
            grant_rows: Cell::new(usize::MAX),
            draining: Cell::new(false),
            drained: Cell::new(false),
            ending: Cell::new(false),
        })
    }

    /// Takes a message; returns whether it may have made rows go all their way.
    fn on_message(self: &Rc<Self>, message: ToWorker) -> bool {
        let shell = &self.shell;
        match message {
            // Said once, before this loop; a second one changes nothing.
            ToWorker::Hello(_) => {}
            ToWorker::Probe { probe, sentinels } => {
                self.spawn_flight(async move |server| server.probe(probe, sentinels).await);
            }
            ToWorker::ScanChunks(chunks) => self.scan_chunks.borrow_mut().extend(chunks),
            ToWorker::Sample { scan, picks } => self.fly_sample(scan, picks),
            ToWorker::Scan { scan, pages_max } => {
                let chunks = self.scan_chunks.take();
                self.fly_scan(scan, pages_max, chunks);
            }
            ToWorker::Known { scan } => shell.open_known(scan),
            ToWorker::Grant(grant) => {
                self.on_grant(*grant);
                return self.shell.rehearses();
            }
            ToWorker::Slots(lease) => shell.with_gate(|gate| gate.on_slots(&lease)),
            ToWorker::Pause { generation, until } => {
                shell.with_gate(|gate| gate.on_pause(generation, until));
            }
            ToWorker::Org { key, answer } => {
                shell.with_cache(|cache, delta| {
                    cache.on_answer(&key, &answer, &mut delta.org_cache);
                });
            }
            ToWorker::OrgHints(hints) => {
                shell.with_cache(|cache, delta| cache.on_hints(hints, &mut delta.org_cache));
            }
            ToWorker::LookUpOrg { key } => {
                self.fly(key.clone(), OrgMachine::lookup(key));
            }
            ToWorker::CreateOrg {
                key,
                name_at,
                intent,
                suspect,
            } => {
                self.create_org(key, name_at.as_ref(), intent, suspect);
            }
            ToWorker::ReadRoles(scope) => self.fly_roles(scope),
            ToWorker::Roles { scope, roles } => {
                shell.with_roles(|book| book.on_answer(scope, roles));
            }
            ToWorker::Alive { writes, ramp } => shell.on_alive(writes, ramp),
            ToWorker::Woke => shell.wake(),
            ToWorker::Ping { nonce } => shell.outbox.say(FromWorker::Pong { nonce }),
            ToWorker::Drain => self.drain(),
        }
        false
    }

    fn on_grant(self: &Rc<Self>, grant: Grant) {
        self.credits.set(self.credits.get().saturating_sub(1));
        let rows = grant.row_count();
        if let Err(error) = self.take_grant(grant) {
            return self.shell.outbox.say(no_chunk(&error));
        }
        self.queued.set(self.queued.get() + rows);
        self.note_grant(rows);
        self.start_rows();
    }

    fn take_grant(&self, grant: Grant) -> Result<(), SourceError> {
        let columns = &self.shell.config.columns;
        match self.ahead.get() {
            Some(ahead) => ahead.ask(grant),
            None => self.queue.borrow_mut().add(&self.file, columns, grant)?,
        }
        Ok(())
    }

    /// Remembers how many rows a credit may bring.
    fn note_grant(&self, rows: usize) {
        let seen = Some(self.grant_rows.get()).filter(|rows| *rows != usize::MAX);
        self.grant_rows.set(rows.max(seen.unwrap_or(1)));
    }

    /// Starts rows up to the concurrency, and asks for more before it runs dry.
    fn start_rows(self: &Rc<Self>) {
        if self.shell.rehearses() {
            self.rehearse_rows();
        } else {
            while self.may_start()
                && let Some(job) = self.next_job()
            {
                self.open_lane(job);
            }
        }
        self.ask_for_work();
    }

    fn may_start(&self) -> bool {
        self.active.get() < self.shell.config.concurrency
    }

    fn next_job(&self) -> Option<Job> {
        let mut job = None;
        self.read_on(|next| {
            job = Some(next);
            false
        });
        job
    }

    /// Reads one row after another that was granted and holds it against the rules, as long as
    /// `visit` says to go on.
    fn read_on(&self, mut visit: impl FnMut(Job) -> bool) {
        if self.draining.get() {
            return;
        }
        let mut record = self.record.borrow_mut();
        let columns = &self.shell.config.columns;
        let visit = |lease, record: &CsvRecord, context| {
            self.queued.set(self.queued.get().saturating_sub(1));
            visit(Job {
                lease,
                number: record.number,
                row: self.judge(record),
                context,
            })
        };
        let read = self.queue.borrow_mut().read_on(columns, &mut record, visit);
        if let Err(error) = read {
            // The coordinator ends the run.
            self.forget_queue();
            self.shell.outbox.say(no_chunk(&error));
        }
    }

    fn forget_queue(&self) {
        self.queue.borrow_mut().clear();
        self.read.borrow_mut().clear();
        self.queued.set(0);
    }

    /// Runs a row, then one waiting row after the other in the same task: a task is some kilobytes
    /// of memory, and making it costs as much as reading an answer.
    fn open_lane(self: &Rc<Self>, first: Job) {
        self.active.set(self.active.get() + 1);
        let server = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut next = Some(first);
            while let Some(job) = next {
                let lease = job.lease;
                if let Ok(outcome) = server.run_row(job).await {
                    server.settle(lease, outcome);
                }
                // Rows that break a rule wait for nothing, and others want their turn too.
                tokio::task::consume_budget().await;
                next = server.next_job();
                server.ask_for_work();
            }
            server.active.set(server.active.get() - 1);
            server.say_drained();
        });
    }

    /// Gives a row a task of its own.
    fn spawn_row<R>(self: &Rc<Self>, lease: LeaseId, run: R)
    where
        R: AsyncFnOnce(&Self) -> Result<RowOutcome, TurnedAway> + 'static,
    {
        self.active.set(self.active.get() + 1);
        let server = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Ok(outcome) = run(&server).await {
                server.settle(lease, outcome);
            }
            server.active.set(server.active.get() - 1);
            server.start_rows();
            server.say_drained();
        });
    }

    fn settle(&self, lease: LeaseId, outcome: RowOutcome) {
        self.done.set(self.done.get() + 1);
        // The lane of this one is still open; a dry run's rows have none.
        let left = (self.active.get() as usize + self.queued.get()).saturating_sub(1);
        self.shell.outbox.settle(lease, outcome, left);
    }

    fn ask_for_work(&self) {
        let prefetch = self.shell.config.prefetch_rows as usize;
        let credits_max = if self.shell.rehearses() {
            DRY_CREDITS_MAX
        } else {
            CREDITS_MAX
        };
        loop {
            let credits = self.credits.get();
            let coming = credits.saturating_mul(self.grant_rows.get());
            let queued = self.queued.get();
            if self.draining.get()
                || credits >= credits_max
                || queued.saturating_add(coming) >= prefetch
            {
                return;
            }
            self.credits.set(credits + 1);
            self.shell.outbox.say(FromWorker::Credit);
        }
    }

    /// Holds a row against the rules, and says so if there is something to tell of it.
    #[inline]
    fn judge(&self, record: &CsvRecord) -> Result<Arc<SourceRow>, Box<RowOutcome>> {
        let config = &self.shell.config;
        let mut names = self.names.borrow_mut();
        let names = config.dry_run.then_some(&mut *names);
        let judged = judge_row(record, &config.columns, &self.rules, names);
        self.notice(&judged);
        judged.row
    }

    /// Makes what takes a row through its steps.
    #[inline]
    fn machine(&self, row: Arc<SourceRow>, context: RowContext) -> RowMachine {
        let mut machine = RowMachine::new(row, context, self.policy);
        if self.shell.recalls() {
            machine.recall_first();
        }
        if self.shell.config.check_target {
            machine.look_first();
        }
        machine
    }

    /// Says so if there is something to tell of a row that was held against the rules.
    #[inline]
    fn notice(&self, judged: &JudgedRow) {
        if judged.is_noticed {
            self.shell.outbox.notice(judged.number);
        }
    }

    async fn run_row(&self, job: Job) -> Result<RowOutcome, TurnedAway> {
        let mut machine = match job.row {
            Ok(row) => self.machine(row, job.context),
            Err(outcome) => return Ok(*outcome),
        };
        let action = machine.start();
        self.drive(machine, action, Turn::Fresh).await
    }

    /// Takes a row from `action` to its outcome.
    async fn drive(
        &self,
        mut machine: RowMachine,
        mut action: Action,
        mut turn: Turn,
    ) -> Result<RowOutcome, TurnedAway> {
        let number = machine.row();
        let mut unsettled = false;
        let mut unknown_role = None;
        loop {
            action = match action {
                Action::AskOrg(key) => {
                    let waits = machine.may_look_first() && !self.shell.knows_org(&key);
                    match waits.then(|| machine.user_before_org()).flatten() {
                        Some(user_first) => user_first,
                        None => machine.on_org(self.shell.org(&key).await?),
                    }
                }
                Action::Send(op) => {
                    self.shell.count_retry(unsettled);
                    let (verdict, role) = self.send_for_row(&op, number, turn).await?;
                    // A row in doubt looks once more before it fails.
                    unknown_role = role.or(unknown_role);
                    turn = Turn::Started;
                    unsettled = settles_nothing(&verdict);
                    machine.on_verdict(verdict, self.shell.alive(op.class()))
                }
                Action::Recall(what) => machine.on_recalled(self.shell.recall(&what).as_ref()),
                Action::Backoff(wait) => {
                    self.shell.back_off(wait).await;
                    machine.on_timer()
                }
                Action::WaitOut { wait, since } => {
                    self.shell.wait_out(wait, since).await;
                    machine.on_timer()
                }
                Action::Settle => {
                    let mut outcome = settled(machine);
                    let failed = outcome.state == RowState::Failed;
                    outcome.unknown_role = unknown_role.filter(|_| failed);
                    return Ok(outcome);
                }
                Action::Halt(reason) => {
                    self.shell.halt(reason);
                    // The coordinator ends the run; this row stays as it is.
                    std::future::pending().await
                }
            };
        }
    }

    fn create_org(
        self: &Rc<Self>,
        key: OrgKey,
        name_at: Option<&NameAt>,
        intent: ServerMs,
        suspect: bool,
    ) {
        let name = match self.org_name(&key, name_at) {
            Ok(name) => name,
            Err(error) => return self.shell.outbox.say(no_chunk(&error)),
        };
        self.fly(key.clone(), OrgMachine::create(key, name, intent, suspect));
    }

    /// Reads the name of an organization where it stands; its external id is the default.
    fn org_name(&self, key: &OrgKey, name_at: Option<&NameAt>) -> Result<String, SourceError> {
        use crate::model::OrgMode;
        let default = key.as_str().to_owned();
        if let OrgMode::Single { name, .. } = &self.rules.org_mode {
            return Ok(name.clone().unwrap_or(default));
        }
        let Some(NameAt { chunk, row }) = name_at else {
            // The external id, or the name when that is the key.
            return Ok(default);
        };
        let columns = &self.shell.config.columns;
        let found = find_records(&self.file, chunk, columns, |number| number == *row)?;
        let cell = |column: Option<usize>| {
            let cell = found.first()?.fields.get(column?).map(str::trim);
            cell.filter(|cell| !cell.is_empty())
        };
        // Two keys with one hash are not worth a wrong name.
        let is_it = cell(columns.org_external_id) == Some(key.as_str());
        let name = cell(columns.org_name).filter(|_| is_it).map(str::to_owned);
        Ok(name.unwrap_or(default))
    }

    fn fly(self: &Rc<Self>, key: OrgKey, machine: OrgMachine) {
        self.shell.with_cache(|cache, _| cache.on_flight(&key));
        self.spawn_flight(async move |server| {
            if let Some(verdict) = server.run_flight(machine).await {
                server
                    .shell
                    .outbox
                    .say(FromWorker::OrgDone { key, verdict });
            }
        });
    }

    async fn run_flight(&self, mut machine: OrgMachine) -> Option<OrgVerdict> {
        let mut turn = Turn::Fresh;
        let mut unsettled = false;
        let mut action = machine.start();
        loop {
            action = match action {
                OrgAction::Send(op) => {
                    self.shell.count_retry(unsettled);
                    let verdict = self.shell.call(&op, None, turn).await.ok()?;
                    turn = Turn::Started;
                    unsettled = settles_nothing(&verdict);
                    machine.on_verdict(verdict, self.shell.alive(op.class()))
                }
                OrgAction::Backoff(wait) => {
                    self.shell.back_off(wait).await;
                    machine.on_timer()
                }
                OrgAction::Done(verdict) => return Some(verdict),
                OrgAction::Halt(reason) => {
                    self.shell.halt(reason);
                    return None;
                }
            };
        }
    }

    async fn probe(&self, probe: u32, sentinels: Vec<String>) {
        let (exchange, verdict) = self.shell.send_past_gate(&Op::Probe).await;
        let mut result = probe_result(&exchange, verdict);
        if matches!(result, ProbeResult::Ok { .. }) && !sentinels.is_empty() {
            result = self.look_for(sentinels, result).await;
        }
        self.shell.outbox.say(FromWorker::Probed { probe, result });
    }

    /// One user that is there, or an answer that leaves it open, is enough to go on.
    async fn look_for(&self, sentinels: Vec<String>, found: ProbeResult) -> ProbeResult {
        for id in sentinels {
            let (_, verdict) = self.shell.send_past_gate(&Op::GetUser(id)).await;
            if !matches!(verdict, Verdict::Absent) {
                return found;
            }
        }
        ProbeResult::OtherEnvironment
    }

    fn spawn_flight(self: &Rc<Self>, flight: impl AsyncFnOnce(&Self) + 'static) {
        self.flights.set(self.flights.get() + 1);
        let server = Rc::clone(self);
        tokio::task::spawn_local(async move {
            flight(&server).await;
            server.flights.set(server.flights.get() - 1);
            server.say_drained();
        });
    }

    fn drain(&self) {
        self.draining.set(true);
        self.forget_queue();
        self.shell.drain();
        self.say_drained();
    }

    fn say_drained(&self) {
        let idle = self.active.get() == 0 && self.flights.get() == 0;
        if self.draining.get() && idle && !self.drained.replace(true) {
            self.shell.outbox.say(FromWorker::Drained);
        }
    }

    /// Writes what the outbox holds, for the whole life of the worker and once more at its end.
    async fn write<W: AsyncWrite + Unpin>(
        self: Rc<Self>,
        mut output: W,
        hello: FromWorker,
    ) -> io::Result<()> {
        let outbox = &self.shell.outbox;
        let (mut sequence, mut bytes) = (1_u32, Vec::new());
        encode(0, &hello, &mut bytes).map_err(io::Error::other)?;
        output.write_all(&bytes).await?;
        bytes.clear();
        loop {
            outbox.any.notified().await;
            if !outbox.is_urgent() && !self.ending.get() {
                tokio::select! {
                    () = tokio::time::sleep(OUTCOMES_WAIT) => {}
                    () = outbox.now.notified() => {}
                }
            }
            let ending = self.ending.get();
            let last = ending || self.draining.get();
            for message in outbox.take(Mono::now(), self.gauge(), last) {
                encode(sequence, &message, &mut bytes).map_err(io::Error::other)?;
                sequence = sequence.wrapping_add(1);
            }
            output.write_all(&bytes).await?;
            bytes.clear();
            if ending {
                return Ok(());
            }
        }
    }

    fn gauge(&self) -> WorkerGauge {
        WorkerGauge {
            active: self.active.get(),
            queued: u32::try_from(self.queued.get()).unwrap_or(u32::MAX),
            done: self.done.get(),
            ..self.shell.gauge()
        }
    }
}

fn probe_result(exchange: &Exchange, verdict: Verdict) -> ProbeResult {
    match verdict {
        Verdict::Ok(_) | Verdict::Made(_) | Verdict::Absent | Verdict::OddEcho(_) => {
            ProbeResult::Ok {
                date: exchange.server_time(),
                empty: exchange.page().is_some_and(|page| page.items.is_empty()),
            }
        }
        Verdict::NotApplied(NotApplied::Unauthorized) => ProbeResult::Unauthorized,
        Verdict::NotApplied(NotApplied::Throttled(wait)) => ProbeResult::Throttled(wait),
        Verdict::NotApplied(NotApplied::Connect(words)) => ProbeResult::Connect(words),
        Verdict::Stop(reason) => ProbeResult::Stop(reason),
        Verdict::Rejected(why) | Verdict::Exists(why) | Verdict::Ambiguous(why) => {
            let status = why.http_status.map(|status| format!(" ({status})"));
            ProbeResult::Trouble(format!("{}{}", why.code, status.unwrap_or_default()))
        }
    }
}

/// A file that cannot be read is the disk's fault; one that reads differently was changed.
fn no_chunk(error: &SourceError) -> FromWorker {
    match error {
        SourceError::Open { .. } | SourceError::Read(_) => {
            FromWorker::SourceUnreadable(in_full(error))
        }
        _ => FromWorker::SourceChanged(in_full(error)),
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Returns what became of a row whose machine says that it is settled.
#[inline]
fn settled(machine: RowMachine) -> RowOutcome {
    let outcome = machine.into_outcome();
    outcome.unwrap_or_else(|| unreachable!("a row that is settled has an outcome"))
}

/// Returns whether a request after this answer is one more try.
const fn settles_nothing(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::NotApplied(_) | Verdict::Ambiguous(_))
}
