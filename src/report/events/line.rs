//! An event as a line of JSON: the wire form of `--events` and `--progress json`. Row numbers, ids
//! and codes; never an email, a name or the target's words.
//!
//! Written straight into the output: a run without limits has more than a million of these a
//! minute.

use crate::model::event::{CallRecord, Progress, RunEvent, WorkerGauge};
use crate::model::scan::{RoleScope, ScanNews};
use crate::model::{OrgKey, RowOutcome, Step};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// One event and the local wall clock in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct EventLine<'a> {
    /// When it was seen, in milliseconds since the Unix epoch.
    pub ts: i64,
    /// What happened.
    pub event: &'a RunEvent,
}

/// Writes `key: value` pairs into a JSON object.
macro_rules! entries {
    ($map:expr, $($key:literal: $value:expr),+ $(,)?) => {{
        $($map.serialize_entry($key, &$value)?;)+
    }};
}

impl Serialize for EventLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        entries!(map, "ts": self.ts, "event": name_of(self.event));
        fields(self.event, &mut map)?;
        map.end()
    }
}

const fn name_of(event: &RunEvent) -> &'static str {
    match event {
        RunEvent::Started { .. } => "started",
        RunEvent::Connected => "connected",
        RunEvent::Existing(_) => "existing_scan",
        RunEvent::WorkerReady { .. } => "worker_ready",
        RunEvent::WorkerGone { .. } => "worker_gone",
        RunEvent::Worker { .. } => "worker",
        RunEvent::Leased { .. } => "leased",
        RunEvent::Settled(_) => "settled",
        RunEvent::Organization { .. } => "organization",
        RunEvent::Roles { .. } => "roles",
        RunEvent::Call { .. } => "call",
        RunEvent::Throttled { .. } => "throttled",
        RunEvent::Rate { .. } => "rate",
        RunEvent::NotConnected { .. } => "not_connected",
        RunEvent::OutageBegan { .. } => "outage_began",
        RunEvent::OutageEnded => "outage_ended",
        RunEvent::Draining { .. } => "draining",
        RunEvent::Progress(_) => "progress",
    }
}

fn fields<M: SerializeMap>(event: &RunEvent, map: &mut M) -> Result<(), M::Error> {
    match event {
        RunEvent::Connected | RunEvent::OutageEnded => {}
        RunEvent::Existing(news) => scan_fields(news, map)?,
        RunEvent::Started {
            rows,
            settled,
            workers,
        } => entries!(map, "rows": rows, "settled": settled, "workers": workers),
        RunEvent::WorkerReady { slot, worker, pid } => {
            entries!(map, "slot": slot, "worker": worker, "pid": pid);
        }
        RunEvent::WorkerGone {
            slot,
            worker,
            how,
            suspects,
            expected,
        } => entries!(map, "slot": slot, "worker": worker, "how": how, "suspects": suspects,
                      "expected": expected),
        RunEvent::Worker { slot, gauge } => worker_fields(*slot, gauge, map)?,
        RunEvent::Leased {
            chunk,
            rows,
            worker,
        } => entries!(map, "chunk": chunk, "rows": rows, "worker": worker),
        RunEvent::Settled(outcomes) => entries!(map, "rows": SettledRows(outcomes)),
        RunEvent::Organization { key, result, made } => {
            entries!(map, "key": OrgName(key), "org_id": result.as_ref().ok(), "made": made,
                     "error": result.as_ref().err());
        }
        RunEvent::Roles { scope, result } => {
            let org_id = match scope {
                RoleScope::Environment => None,
                RoleScope::Organization(id) => Some(id),
            };
            entries!(map, "org_id": org_id, "found": result.as_ref().ok(),
                     "error": result.as_ref().err());
        }
        RunEvent::Call { worker, call } => call_fields(worker.0, call, map)?,
        RunEvent::Throttled { wait_ms } => entries!(map, "wait_ms": wait_ms),
        RunEvent::Rate {
            class,
            per_s,
            reason,
        } => entries!(map, "class": class, "per_s": per_s, "reason": reason),
        RunEvent::OutageBegan {
            reason,
            probe_in_ms,
        } => entries!(map, "reason": reason, "probe_in_ms": probe_in_ms),
        RunEvent::NotConnected { reason } | RunEvent::Draining { reason } => {
            entries!(map, "reason": reason);
        }
        RunEvent::Progress(progress) => progress_fields(progress, map)?,
    }
    Ok(())
}

fn scan_fields<M: SerializeMap>(news: &ScanNews, map: &mut M) -> Result<(), M::Error> {
    match news {
        ScanNews::Sampled {
            asked,
            found,
            pages_max,
        } => entries!(map, "phase": "sampled", "asked": asked, "found": found,
                      "pages_max": pages_max),
        ScanNews::Listing(tally) => entries!(map, "phase": "listing", "found": tally),
        ScanNews::Listed(tally) => entries!(map, "phase": "listed", "found": tally),
        ScanNews::Failed(reason) => entries!(map, "phase": "failed", "reason": reason),
    }
    Ok(())
}

fn worker_fields<M: SerializeMap>(
    slot: u32,
    gauge: &WorkerGauge,
    map: &mut M,
) -> Result<(), M::Error> {
    entries!(map, "slot": slot, "active": gauge.active, "queued": gauge.queued,
             "in_flight": gauge.in_flight, "waiting": gauge.waiting, "done": gauge.done);
    Ok(())
}

fn call_fields<M: SerializeMap>(
    worker: u32,
    call: &CallRecord,
    map: &mut M,
) -> Result<(), M::Error> {
    entries!(map, "worker": worker, "row": call.row, "op": call.op, "verdict": call.verdict,
             "status": call.status, "request_id": call.request_id, "micros": call.micros);
    Ok(())
}

fn progress_fields<M: SerializeMap>(progress: &Progress, map: &mut M) -> Result<(), M::Error> {
    entries!(map,
        "rows": progress.rows,
        "memberships": progress.memberships,
        "organizations": progress.organizations,
        "requests": progress.requests,
        "org_cache": progress.org_cache,
        "settled": progress.settled,
        "rows_per_s": progress.rows_per_s,
        "writes_per_s": progress.writes_per_s,
        "writes_allowed_per_s": progress.writes_allowed_per_s,
        "writes_current_per_s": progress.auto.map(|auto| auto.current),
        "restarts": progress.restarts,
    );
    Ok(())
}

/// What became of some rows.
struct SettledRows<'a>(&'a [RowOutcome]);

impl Serialize for SettledRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(SettledRow))
    }
}

/// What became of a row.
struct SettledRow<'a>(&'a RowOutcome);

impl Serialize for SettledRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcome = self.0;
        let user = outcome.user.as_ref();
        let membership = outcome.membership.as_ref();
        let error = outcome.error.as_ref();
        let mut map = serializer.serialize_map(None)?;
        entries!(map,
            "row": outcome.row,
            "state": outcome.state.as_str(),
            "step": outcome.step.map(Step::as_str),
            "user_id": user.map(|user| &user.id),
            "user_origin": user.map(|user| user.origin.as_str()),
            "org_id": outcome.org_id,
            "membership_id": membership.and_then(|membership| membership.id.as_ref()),
            "membership_state": membership.map(|membership| membership.state.as_str()),
            "attempts": outcome.attempts,
            "error_code": error.map(|error| &error.code),
            "http_status": error.and_then(|error| error.http_status),
            "request_id": error.and_then(|error| error.request_id.as_ref()),
        );
        map.end()
    }
}

/// What names an organization in the file.
struct OrgName<'a>(&'a OrgKey);

impl Serialize for OrgName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match self.0 {
            OrgKey::Id(_) => "id",
            OrgKey::External(_) => "external_id",
            OrgKey::Name(_) => "name",
        };
        let mut map = serializer.serialize_map(Some(2))?;
        entries!(map, "kind": kind, "value": self.0.as_str());
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Evidence, MembershipOutcome, MembershipState, Origin, RowError, RowNumber, UserOutcome,
        WorkerId,
    };
    use serde_json::{Value, json};

    fn event_json(ts: i64, event: &RunEvent) -> Value {
        serde_json::to_value(EventLine { ts, event }).unwrap()
    }

    #[test]
    fn an_outcome_is_told_by_numbers_and_ids_only() {
        let mut outcome = RowOutcome::failed(
            RowNumber(7),
            Step::Membership,
            RowError::local("membership_inactive", "words that stay in the ledger"),
        );
        outcome.user = Some(UserOutcome {
            id: "user_1".to_owned(),
            origin: Origin::Made(Evidence::Answered),
        });
        outcome.membership = Some(MembershipOutcome {
            id: None,
            state: MembershipState::Failed,
            repeat: false,
        });
        let value = event_json(12, &RunEvent::Settled([outcome].into()));
        assert_eq!(
            value,
            json!({"ts": 12, "event": "settled", "rows": [{
                "row": 7, "state": "failed", "step": "membership", "user_id": "user_1",
                "user_origin": "answered", "org_id": null, "membership_id": null,
                "membership_state": "failed", "attempts": 0, "error_code": "membership_inactive",
                "http_status": null, "request_id": null,
            }]})
        );
        assert!(!value.to_string().contains("words that stay"));
    }

    #[test]
    fn a_call_keeps_its_outcome() {
        let call = CallRecord {
            row: Some(RowNumber(3)),
            op: "create_user".to_owned(),
            verdict: "ok".to_owned(),
            status: Some(201),
            request_id: Some("req_1".to_owned()),
            micros: 1500,
        };
        let event = RunEvent::Call {
            worker: WorkerId(2),
            call,
        };
        assert_eq!(
            event_json(1, &event),
            json!({"ts": 1, "event": "call", "worker": 2, "row": 3, "op": "create_user",
                   "verdict": "ok", "status": 201, "request_id": "req_1", "micros": 1500})
        );
    }
}
