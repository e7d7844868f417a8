//! What every row task of this worker shares: the client, the gate, the cache, the outbox.
//!
//! One thread, so cells instead of locks; nothing is borrowed across an await.

use super::cache::{Asked, OrgCache};
use super::gate::{Gate, Pass, Turn};
use super::known::{KnownKey, KnownUsers};
use super::outbox::Outbox;
use super::roles::RoleBook;
use super::steps::Recall;
use crate::model::event::{CallRecord, WorkerGauge};
use crate::model::rng::Rng;
use crate::model::{Mono, OrgKey, RowNumber};
use crate::protocol::{FromWorker, OrgAnswer, StatsDelta, WorkerConfig};
use crate::target::classify::{INVALID_ROLE, NotApplied};
use crate::target::http::{Client, Exchange, Reply};
use crate::target::{
    DryClient, Entity, ListPage, Op, Rejection, RequestClass, StopReason, TransportError, Verdict,
};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// After a refused connection the next try of this row waits this long.
const CONNECT_AGAIN: Duration = Duration::from_millis(250);

/// Until the coordinator speaks, an alarm holds this worker back at most this long.
const HOLD_MAX: Duration = Duration::from_secs(5);

/// `Retry-After: 0` still means "not now": the coordinator's pause takes a moment to arrive.
const HOLD_MIN: Duration = Duration::from_millis(50);

/// A drain turned the row away before anything was sent for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnedAway;

/// What the tasks of one worker share.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) config: WorkerConfig,
    pub(super) outbox: Outbox,
    client: RefCell<Rc<Client>>,
    /// The machine has slept: what is under way is given up.
    woke: Notify,
    gate: RefCell<Gate>,
    /// The gate has to be looked at.
    gate_changed: Notify,
    cache: RefCell<OrgCache>,
    /// Which roles the target knows.
    roles: RefCell<RoleBook>,
    /// What a listing of the target found.
    known: RefCell<Option<KnownUsers>>,
    rng: RefCell<Rng>,
    /// Successes seen by class, here or by a probe: what makes a failed attempt count.
    alive_writes: Cell<u64>,
    alive_reads: Cell<u64>,
    /// The body of the latest request of a dry run: memory for the next one's.
    body: Room,
}

/// Memory for bodies that are thrown away. They may hold passwords: nothing prints it.
#[derive(Default)]
struct Room(RefCell<Vec<u8>>);

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

impl Shell {
    pub(super) fn new(config: WorkerConfig, client: Client) -> Self {
        Self {
            outbox: Outbox::default(),
            client: RefCell::new(Rc::new(client)),
            woke: Notify::new(),
            gate: RefCell::new(Gate::new(config.paced_writes, config.paced_reads)),
            gate_changed: Notify::new(),
            cache: RefCell::new(OrgCache::new(config.org_cache)),
            roles: RefCell::default(),
            known: RefCell::new(None),
            rng: RefCell::new(Rng::new(config.seed)),
            alive_writes: Cell::new(0),
            alive_reads: Cell::new(0),
            body: Room::default(),
            config,
        }
    }

    /// Sends one request when its turn comes and says what the answer means. The answer stays here:
    /// it is large, and every level that returned it would move it.
    pub(super) async fn call(
        &self,
        op: &Op,
        row: Option<RowNumber>,
        turn: Turn,
    ) -> Result<Verdict, TurnedAway> {
        let pass = self.pass_gate(op.class(), turn).await?;
        let exchange = self.send(op).await;
        Ok(self.conclude(op, row, pass, &exchange).await)
    }

    /// As [`Shell::call`]; returns the page of a list too, if the answer is one.
    pub(super) async fn call_for_page(
        &self,
        op: &Op,
    ) -> Result<(Verdict, Option<ListPage>), TurnedAway> {
        let pass = self.pass_gate(op.class(), Turn::Fresh).await?;
        let exchange = self.send(op).await;
        let verdict = self.conclude(op, None, pass, &exchange).await;
        Ok((verdict, exchange.page()))
    }

    /// As [`Shell::call`]; returns the roles of a list too, if the answer is one.
    pub(super) async fn call_for_roles(
        &self,
        op: &Op,
    ) -> Result<(Verdict, Option<Vec<String>>), TurnedAway> {
        let pass = self.pass_gate(op.class(), Turn::Fresh).await?;
        let exchange = self.send(op).await;
        let verdict = self.conclude(op, None, pass, &exchange).await;
        Ok((verdict, exchange.roles()))
    }

    /// Says what an answer means, once everybody whom it concerns knows.
    async fn conclude(
        &self,
        op: &Op,
        row: Option<RowNumber>,
        pass: Pass,
        exchange: &Exchange,
    ) -> Verdict {
        let verdict = exchange.verdict(op);
        self.note(op, row, exchange, &verdict);
        self.with_gate(|gate| gate.on_answer(pass, exchange.ended, is_good(&verdict)));
        self.react(op.class(), &verdict);
        if matches!(verdict, Verdict::NotApplied(NotApplied::Connect(_))) {
            self.back_off(CONNECT_AGAIN).await;
        }
        verdict
    }

    /// Opens what a listing found, to be looked up from now on.
    pub(super) fn open_known(&self, number: u32) {
        let key = KnownKey(self.config.known_key);
        match KnownUsers::open(&self.config.known_in, number, key) {
            Ok(known) => *self.known.borrow_mut() = Some(known),
            Err(error) => {
                tracing::warn!(%error, "the list of known users cannot be read; every row asks for itself");
            }
        }
    }

    /// Returns whether there is something to recall.
    pub(super) fn recalls(&self) -> bool {
        self.known.borrow().is_some()
    }

    /// Looks something up in what was listed.
    pub(super) fn recall(&self, what: &Recall) -> Option<Entity> {
        let known = self.known.borrow();
        let known = known.as_ref()?;
        let found = match what {
            Recall::User {
                email_norm,
                external_id,
            } => known.user(email_norm, external_id.as_deref()),
            Recall::Membership { user_id, org_id } => known.membership(user_id, org_id),
        };
        // What cannot be read is asked of the target.
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the list of known users cannot be read");
            None
        })
    }

    /// Sends one request past the gate: a probe.
    pub(super) async fn send_past_gate(&self, op: &Op) -> (Exchange, Verdict) {
        let exchange = self.send(op).await;
        let verdict = exchange.verdict(op);
        self.note(op, None, &exchange, &verdict);
        (exchange, verdict)
    }

    /// Returns whether the organization behind `key` is in the cache.
    pub(super) fn knows_org(&self, key: &OrgKey) -> bool {
        self.cache.borrow().knows(key)
    }

    /// Returns the organization behind `key`, from the cache or from the coordinator.
    pub(super) async fn org(&self, key: &OrgKey) -> Result<OrgAnswer, TurnedAway> {
        let asked = self.with_cache(|cache, delta| cache.ask(key, &mut delta.org_cache));
        match asked {
            Asked::Hit(id) => Ok(OrgAnswer::Ready { id }),
            Asked::Wait { answer, ask } => {
                if ask {
                    self.outbox.say(FromWorker::AskOrg(key.clone()));
                }
                answer.await.map_err(|_| TurnedAway)
            }
        }
    }

    /// Returns whether rows wait for no answer of a target: a dry run that does not look at it.
    pub(super) const fn rehearses(&self) -> bool {
        self.config.dry_run && !self.config.check_target
    }

    /// Returns the organization behind `key` if it is known already.
    pub(super) fn known_org(&self, key: &OrgKey) -> Option<OrgAnswer> {
        let id = self.with_cache(|cache, delta| cache.known(key, &mut delta.org_cache))?;
        Some(OrgAnswer::Ready { id })
    }

    /// Builds one request of a dry run and says what the answer of an empty target means. There is
    /// no limit to keep and no connection to wait for.
    pub(super) fn rehearse(&self, op: &Op, row: RowNumber) -> Verdict {
        let (status, verdict) = DryClient::default().answer(op, &mut self.body.0.borrow_mut());
        self.note_unsent(op, row, Some(status), &verdict);
        verdict
    }

    /// Says of a membership that is not sent what the target says of one with a role that it does
    /// not know.
    pub(super) fn refuse_role(&self, op: &Op, row: RowNumber, slug: &str) -> Verdict {
        let verdict = Verdict::Rejected(Rejection {
            code: INVALID_ROLE.to_owned(),
            message: format!(
                "this organization has no role {slug:?}; make it at the target, or correct \
                 role_slugs in the file"
            ),
            http_status: None,
            request_id: None,
        });
        self.note_unsent(op, row, None, &verdict);
        verdict
    }

    fn note_unsent(&self, op: &Op, row: RowNumber, status: Option<u16>, verdict: &Verdict) {
        if self.config.record_calls {
            self.outbox.record(CallRecord {
                row: Some(row),
                op: op.name().to_owned(),
                verdict: name_of(verdict).to_owned(),
                status,
                request_id: None,
                micros: 0,
            });
        }
        self.bump(op.class());
    }

    /// Works on the cache; what it counts goes out with the next report.
    pub(super) fn with_cache<T>(
        &self,
        work: impl FnOnce(&mut OrgCache, &mut StatsDelta) -> T,
    ) -> T {
        let mut result = None;
        self.outbox
            .count(|delta| result = Some(work(&mut self.cache.borrow_mut(), delta)));
        result.unwrap_or_else(|| unreachable!("count calls its argument once"))
    }

    /// Works on what is known of roles.
    pub(super) fn with_roles<T>(&self, work: impl FnOnce(&mut RoleBook) -> T) -> T {
        work(&mut self.roles.borrow_mut())
    }

    /// Works on the gate; it is looked at afterwards if anybody waits there or a limit is kept.
    pub(super) fn with_gate<T>(&self, work: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gate = self.gate.borrow_mut();
        let result = work(&mut gate);
        // Without a limit there is nothing to ask for ahead of time.
        let paced = self.config.paced_writes || self.config.paced_reads;
        let matters = paced || gate.waiting() > 0;
        drop(gate);
        if matters {
            self.gate_changed.notify_one();
        }
        result
    }

    /// Lets requests through as their time comes, for the whole life of the worker.
    pub(super) async fn run_gate(&self) {
        loop {
            let now = Mono::now();
            let look = self.gate.borrow_mut().look(now);
            let generation = self.gate.borrow().generation();
            for (class, count) in look.wants {
                self.outbox.say(FromWorker::Want {
                    generation,
                    class,
                    count,
                });
            }
            match look.again_at {
                Some(at) => {
                    let wait = at.since(now);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.gate_changed.notified() => {}
                    }
                }
                None => self.gate_changed.notified().await,
            }
        }
    }

    /// Counts a request that follows one whose answer settled nothing.
    pub(super) fn count_retry(&self, is_one: bool) {
        if is_one {
            self.outbox.count(|delta| delta.requests.retried += 1);
        }
    }

    /// Waits out a backoff: scaled, with equal jitter (half of it is certain).
    pub(super) async fn back_off(&self, wait: Duration) {
        let share = 0.5 + self.rng.borrow_mut().unit() / 2.0;
        tokio::time::sleep(wait.mul_f64(share * self.config.time_scale)).await;
    }

    /// Waits until this time, scaled, has passed since an instant, or since now.
    pub(super) async fn wait_out(&self, wait: Duration, since: Option<Mono>) {
        let now = Mono::now();
        let until = since
            .unwrap_or(now)
            .after(wait.mul_f64(self.config.time_scale));
        tokio::time::sleep(until.since(now)).await;
    }

    /// The target answered a probe; after an outage requests start one by one.
    pub(super) fn on_alive(&self, writes: bool, ramp: bool) {
        self.bump(RequestClass::Read);
        if writes {
            self.bump(RequestClass::Write);
        }
        if ramp {
            self.with_gate(Gate::ramp);
        }
    }

    /// Returns how many requests of a class succeeded.
    pub(super) fn alive(&self, class: RequestClass) -> u64 {
        self.alive_of(class).get()
    }

    fn bump(&self, class: RequestClass) {
        let alive = self.alive_of(class);
        alive.set(alive.get() + 1);
    }

    const fn alive_of(&self, class: RequestClass) -> &Cell<u64> {
        match class {
            RequestClass::Write => &self.alive_writes,
            RequestClass::Read => &self.alive_reads,
        }
    }

    /// After a sleep no connection is worth anything: new ones are made, and what was under way on
    /// the old ones may or may not have been applied.
    pub(super) fn wake(&self) {
        let renewed = self.client.borrow().renewed();
        match renewed {
            Ok(client) => *self.client.borrow_mut() = Rc::new(client),
            // The old one notices by itself, later.
            Err(error) => tracing::warn!(%error, "connections could not be renewed"),
        }
        self.woke.notify_waiters();
    }

    /// Stops everything and tells the coordinator why.
    pub(super) fn halt(&self, reason: StopReason) {
        self.hold(HOLD_MAX);
        self.outbox.say(FromWorker::Halt(reason));
    }

    /// Turns away rows that have sent nothing.
    pub(super) fn drain(&self) {
        self.with_gate(Gate::drain);
        self.cache.borrow_mut().drain();
        self.roles.borrow_mut().drain();
    }

    /// Returns what is on the wire and what waits.
    pub(super) fn gauge(&self) -> WorkerGauge {
        let gate = self.gate.borrow();
        WorkerGauge {
            in_flight: gate.in_flight(),
            waiting: u32::try_from(gate.waiting()).unwrap_or(u32::MAX),
            ..WorkerGauge::default()
        }
    }

    async fn pass_gate(&self, class: RequestClass, turn: Turn) -> Result<Pass, TurnedAway> {
        let passed = self.gate.borrow_mut().try_pass(class, Mono::now(), turn);
        if let Some(pass) = passed {
            return Ok(pass);
        }
        let pass = self.with_gate(|gate| gate.wait(class, turn));
        pass.await.map_err(|_| TurnedAway)
    }

    async fn send(&self, op: &Op) -> Exchange {
        // Counted as it is sent: a run that ends before the answer has sent it all the same.
        let now = Mono::now();
        let client = Rc::clone(&self.client.borrow());
        if client.sends(op) {
            self.outbox.count(|delta| count_sent(delta, op, now));
        }
        tokio::select! {
            // An answer that is there counts, whatever else happened.
            biased;
            exchange = client.send(op) => exchange,
            () = self.woke.notified() => lost_in_sleep(now),
        }
    }

    fn note(&self, op: &Op, row: Option<RowNumber>, exchange: &Exchange, verdict: &Verdict) {
        let micros = u32::try_from(exchange.latency().as_micros()).unwrap_or(u32::MAX);
        let dry = !self.client.borrow().sends(op);
        self.outbox.count(|delta| {
            count_finish(delta, op, verdict);
            // A dry run asks nobody anything.
            if !dry {
                count_answer(delta, exchange, verdict, micros);
            }
        });
        if self.config.record_calls {
            self.outbox.record(CallRecord {
                row,
                op: op.name().to_owned(),
                verdict: name_of(verdict).to_owned(),
                status: exchange.status(),
                request_id: exchange.request_id(),
                micros,
            });
        }
    }

    fn react(&self, class: RequestClass, verdict: &Verdict) {
        match verdict {
            Verdict::Ok(_)
            | Verdict::Made(_)
            | Verdict::Absent
            | Verdict::Rejected(_)
            | Verdict::Exists(_)
            | Verdict::OddEcho(_) => {
                self.bump(class);
                self.outbox.health(class, true);
            }
            Verdict::Ambiguous(_) | Verdict::NotApplied(NotApplied::Connect(_)) => {
                self.outbox.health(class, false);
            }
            Verdict::NotApplied(NotApplied::Throttled(wait)) => {
                // Stop at once; the coordinator's pause follows and says for how long.
                self.hold(wait.unwrap_or(HOLD_MAX).max(HOLD_MIN));
                let wait = *wait;
                self.outbox.say(FromWorker::Throttled { class, wait });
            }
            Verdict::NotApplied(NotApplied::Unauthorized) => {
                self.hold(HOLD_MAX);
                self.outbox.say(FromWorker::Unauthorized);
            }
            Verdict::Stop(_) => {}
        }
    }

    fn hold(&self, wait: Duration) {
        let until = Mono::now().after(wait.min(HOLD_MAX));
        self.with_gate(|gate| gate.hold(until));
    }
}

fn lost_in_sleep(started: Mono) -> Exchange {
    let words = "the machine slept before the answer came".to_owned();
    Exchange {
        reply: Reply::Transport(TransportError::Lost(words)),
        started,
        ended: Mono::now(),
    }
}

fn count_sent(delta: &mut StatsDelta, op: &Op, at: Mono) {
    delta.requests.total += 1;
    match op.class() {
        RequestClass::Write => {
            delta.requests.writes += 1;
            let (first, last) = delta.writes_between.unwrap_or((at, at));
            delta.writes_between = Some((first.min(at), last.max(at)));
        }
        RequestClass::Read => delta.requests.reads += 1,
    }
}

fn count_answer(delta: &mut StatsDelta, exchange: &Exchange, verdict: &Verdict, micros: u32) {
    match verdict {
        Verdict::NotApplied(NotApplied::Throttled(_)) => delta.requests.throttled += 1,
        Verdict::Ambiguous(_) => delta.requests.ambiguous += 1,
        _ => {}
    }
    if exchange.status().is_some() {
        delta.latencies_us.push(micros);
    }
}

/// Returns whether an answer shows the target at work.
pub(crate) const fn is_good(verdict: &Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::NotApplied(_) | Verdict::Ambiguous(_) | Verdict::Stop(_)
    )
}

fn count_finish(delta: &mut StatsDelta, op: &Op, verdict: &Verdict) {
    match (op, verdict) {
        (Op::SetLocale { .. }, Verdict::Ok(_)) => delta.finish.locales += 1,
        (Op::CreateFactor(_), Verdict::Ok(_)) => delta.finish.factors += 1,
        _ => {}
    }
}

/// Returns the stable word of a verdict.
pub(super) const fn name_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ok(_) | Verdict::Made(_) => "ok",
        Verdict::Absent => "absent",
        Verdict::NotApplied(NotApplied::Throttled(_)) => "throttled",
        Verdict::NotApplied(NotApplied::Unauthorized) => "unauthorized",
        Verdict::NotApplied(NotApplied::Connect(_)) => "no_connection",
        Verdict::Stop(_) => "stop",
        Verdict::Rejected(_) => "rejected",
        Verdict::Exists(_) => "exists",
        Verdict::Ambiguous(_) => "ambiguous",
        Verdict::OddEcho(_) => "odd_echo",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{TargetClient, Timeouts};
    use secrecy::SecretString;
    use tokio::net::TcpListener;

    fn config(base_url: &str) -> WorkerConfig {
        use crate::model::{ExistingPolicy, OrgMode};
        WorkerConfig {
            source: "users.csv".into(),
            columns: crate::source::Columns::default(),
            known_in: ".".into(),
            known_key: [1, 2, 3, 4],
            base_url: base_url.to_owned(),
            org_mode: OrgMode::Columns,
            on_existing: ExistingPolicy::Link,
            reactivate: false,
            require_membership: false,
            dry_run: false,
            check_target: false,
            assume_orgs: false,
            record_calls: false,
            concurrency: 1,
            prefetch_rows: 1,
            reads_ahead: false,
            org_cache: 1,
            paced_writes: false,
            paced_reads: false,
            time_scale: 1.0,
            seed: 1,
        }
    }

    #[tokio::test]
    async fn what_was_under_way_during_a_sleep_is_given_up_and_its_connection_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = SecretString::from("sk_test_1");
        let client = TargetClient::new(&url, &key, Timeouts::STANDARD).unwrap();
        let shell = Shell::new(config(&url), Client::Http(client));
        let (_silent, verdict) = tokio::join!(
            async {
                // It is under way once it has a connection, on which nobody will ever answer.
                let silent = listener.accept().await.unwrap();
                shell.wake();
                silent
            },
            shell.call(&Op::Probe, None, Turn::Fresh)
        );
        assert!(matches!(verdict, Ok(Verdict::Ambiguous(_))), "{verdict:?}");
    }
}
