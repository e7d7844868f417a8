//! Everything the server shares between connections, and what is decided at the door: the key,
//! the fault of a request, the limits.

use super::api::error::ApiError;
use super::api::route::{Query, Route};
use super::api::{Answer, Call, handle};
use super::directory::{Directory, Trace};
use super::faults::{self, Fault};
use super::history::{Arrival, Epoch, History, Method};
use super::limit::Budgets;
use super::server::SandboxConfig;
use super::stats::{Arrived, Stats};
use crate::model::Mono;
use crate::model::clock::wall_ms;
use secrecy::ExposeSecret;
use std::time::{Duration, UNIX_EPOCH};

/// How much later a `slow` answer comes.
const SLOW: Duration = Duration::from_secs(3);

/// Shared by all connections; one thread, never borrowed across an await.
#[derive(Debug)]
pub struct State {
    pub directory: Directory,
    pub history: History,
    pub stats: Stats,
    pub epoch: Epoch,
    config: SandboxConfig,
    budgets: Budgets,
    /// The second for which `date` was formatted, and the header.
    date: (i64, String),
}

/// A request whose head has arrived.
#[derive(Debug)]
pub struct Received {
    pub sequence: u64,
    pub request_id: String,
    pub route: Route,
    pub plan: Plan,
    /// How long the answer takes.
    pub latency: Duration,
}

/// What will be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// 401.
    Unauthorized,
    /// 429.
    Throttle {
        /// `Retry-After`, in seconds.
        retry_after_s: u32,
    },
    /// Handled, with this fault if any.
    Serve(Option<Fault>),
}

impl State {
    /// Opens the doors.
    pub fn new(config: SandboxConfig, directory: Directory) -> Self {
        let epoch = Epoch {
            wall_ms: wall_ms(),
            mono: Mono::now(),
        };
        // Request ids must differ between runs even with one seed.
        let salt = config.seed ^ epoch.mono.0;
        Self {
            directory,
            history: History::new(config.history_cap, salt),
            stats: Stats::default(),
            epoch,
            budgets: Budgets::new(config.limits),
            config,
            date: (i64::MIN, String::new()),
        }
    }

    /// Judges a request the moment its head arrives.
    pub fn receive(&mut self, head: &hyper::http::request::Parts) -> Received {
        let received = Mono::now();
        let route = Route::parse(&head.method, head.uri.path());
        let sequence = self.history.next_sequence();
        let plan = self.plan(head, &route, sequence, received);
        let fault = match plan {
            Plan::Serve(fault) => fault,
            Plan::Throttle { .. } => self
                .fault(sequence)
                .filter(|fault| *fault == Fault::Throttle),
            Plan::Unauthorized => None,
        };
        self.history.arrive(&Arrival {
            received,
            method: Method::from_http(&head.method),
            op: route.op,
            path: head.uri.path_and_query().map_or("", |path| path.as_str()),
            fault,
        });
        self.stats.arrive(Arrived {
            at: received,
            op: route.op,
            scope: route.scope,
            is_write: head.method != hyper::Method::GET,
            fault,
            is_refused: !matches!(plan, Plan::Serve(_)),
        });
        let mut latency = self.config.latency.draw(self.config.seed, sequence);
        if fault == Some(Fault::Slow) {
            latency += SLOW;
        }
        Received {
            sequence,
            request_id: self.history.request_id(sequence),
            route,
            plan,
            latency,
        }
    }

    fn plan(
        &mut self,
        head: &hyper::http::request::Parts,
        route: &Route,
        sequence: u64,
        now: Mono,
    ) -> Plan {
        if !self.is_authorized(head) {
            return Plan::Unauthorized;
        }
        let fault = self.fault(sequence);
        if fault == Some(Fault::Throttle) {
            return Plan::Throttle {
                retry_after_s: self.config.faults.retry_after_s,
            };
        }
        match self.budgets.admit(now, route.scope) {
            Ok(()) => Plan::Serve(fault),
            Err(refused) => Plan::Throttle {
                retry_after_s: refused.retry_after_s,
            },
        }
    }

    fn fault(&self, sequence: u64) -> Option<Fault> {
        self.config.faults.draw(self.config.seed, sequence)
    }

    /// Returns the coin of a request that hangs: whether it is applied.
    pub fn coin(&self, sequence: u64) -> bool {
        faults::coin(self.config.seed, sequence)
    }

    fn is_authorized(&self, head: &hyper::http::request::Parts) -> bool {
        let header = head.headers.get(hyper::header::AUTHORIZATION);
        let key = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        match (key, &self.config.api_key) {
            (Some(key), Some(only)) => key == only.expose_secret(),
            (Some(key), None) => !key.trim().is_empty(),
            (None, _) => false,
        }
    }

    /// Handles a complete request: decides, logs and applies in one go.
    pub fn serve(&mut self, received: &Received, query: &str, body: &[u8]) -> Answer {
        let mut trace = Trace::default();
        let answer = match Query::parse(query) {
            Err(error) => error.into_answer(),
            Ok(query) => handle(
                Call {
                    directory: &mut self.directory,
                    route: &received.route,
                    query: &query,
                    now_ms: self.epoch.ms(Mono::now()),
                    trace: &mut trace,
                },
                body,
            ),
        };
        if trace.applied {
            self.stats.apply();
        }
        self.history
            .describe(received.sequence, &trace, Mono::now());
        answer
    }

    /// Notes that an answer is handed over, and returns its `Date`.
    pub fn answer(&mut self, received: &Received, status: u16, retry_after_s: Option<u32>) -> &str {
        let now = Mono::now();
        self.history
            .answer(received.sequence, now, status, retry_after_s);
        self.stats.answer(received.route.op, status);
        self.date(now)
    }

    /// Returns the `Date` header: the clock of `created_at`, cut to seconds.
    pub fn date(&mut self, now: Mono) -> &str {
        let second = self.epoch.ms(now).div_euclid(1000);
        if self.date.0 != second {
            let since = Duration::from_secs(u64::try_from(second).unwrap_or_default());
            self.date = (second, httpdate::fmt_http_date(UNIX_EPOCH + since));
        }
        &self.date.1
    }
}

/// The answer to a request that is refused at the door.
pub fn refusal(plan: Plan) -> Option<(Answer, Option<u32>)> {
    match plan {
        Plan::Unauthorized => Some((ApiError::plain(401, "Unauthorized").into_answer(), None)),
        Plan::Throttle { retry_after_s } => {
            let error = ApiError::plain(429, "Rate limit exceeded.");
            Some((error.into_answer(), Some(retry_after_s)))
        }
        Plan::Serve(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::faults::FaultSpec;
    use hyper::Request;

    fn state(faults: &str, key: Option<&str>) -> State {
        let config = SandboxConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            limits: crate::model::RateLimits {
                writes: Some(crate::model::RateLimit::per_seconds(1, 60)),
                ..Default::default()
            },
            latency: "10ms".parse().unwrap(),
            faults: faults.parse().unwrap(),
            seed: 1,
            state: None,
            api_key: key.map(Into::into),
            history_cap: 100,
        };
        State::new(config, Directory::in_memory(1))
    }

    fn receive(state: &mut State, key: &str) -> Received {
        let request = Request::post("/user_management/users")
            .header("authorization", key)
            .body(())
            .unwrap();
        state.receive(&request.into_parts().0)
    }

    #[test]
    fn a_slow_answer_takes_seconds_longer() {
        let received = receive(&mut state("slow=100%", None), "Bearer any");
        assert_eq!(received.plan, Plan::Serve(Some(Fault::Slow)));
        assert_eq!(received.latency, SLOW + Duration::from_millis(10));
    }

    #[test]
    fn an_injected_429_takes_no_room_of_the_limit() {
        let mut state = state("429=100%:9", None);
        for _ in 0..3 {
            let received = receive(&mut state, "Bearer any");
            assert_eq!(received.plan, Plan::Throttle { retry_after_s: 9 });
        }
        state.config.faults = FaultSpec::default();
        assert_eq!(receive(&mut state, "Bearer any").plan, Plan::Serve(None));
        let refused = receive(&mut state, "Bearer any").plan;
        assert_eq!(refused, Plan::Throttle { retry_after_s: 60 });
    }

    #[test]
    fn a_wrong_key_is_refused_before_anything_counts() {
        let mut state = state("", Some("sk_right"));
        for wrong in [
            "",
            "Bearer ",
            "Bearer sk_wrong",
            "sk_right",
            "Basic sk_right",
        ] {
            assert_eq!(
                receive(&mut state, wrong).plan,
                Plan::Unauthorized,
                "{wrong}"
            );
        }
        assert_eq!(
            receive(&mut state, "Bearer sk_right").plan,
            Plan::Serve(None)
        );
    }

    #[test]
    fn the_date_is_the_clock_of_created_at() {
        let mut state = state("", None);
        state.epoch = Epoch {
            wall_ms: 784_111_777_900,
            mono: Mono(0),
        };
        assert_eq!(state.date(Mono(0)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            state.date(Mono(100_000_000)),
            "Sun, 06 Nov 1994 08:49:38 GMT"
        );
    }
}
