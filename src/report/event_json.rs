//! Events as JSON: the wire form of `--events` and `--progress json`. Row numbers, ids and codes;
//! never an email, a name or the target's words.

use crate::model::event::{CallRecord, Progress, RunEvent, WorkerGauge};
use crate::model::{OrgKey, RowOutcome, Step};
use serde_json::{Value, json};

/// Returns the object of one event; `ts` is the local wall clock in milliseconds.
pub fn event_json(ts: i64, event: &RunEvent) -> Value {
    let (name, body) = named(event);
    let mut object = serde_json::Map::new();
    object.insert("ts".to_owned(), json!(ts));
    object.insert("event".to_owned(), json!(name));
    if let Value::Object(fields) = body {
        object.extend(fields);
    }
    Value::Object(object)
}

fn named(event: &RunEvent) -> (&'static str, Value) {
    match event {
        RunEvent::Started {
            rows,
            settled,
            workers,
        } => (
            "started",
            json!({"rows": rows, "settled": settled, "workers": workers}),
        ),
        RunEvent::Connected => ("connected", json!({})),
        RunEvent::WorkerReady { slot, worker, pid } => (
            "worker_ready",
            json!({"slot": slot, "worker": worker, "pid": pid}),
        ),
        RunEvent::WorkerGone {
            slot,
            worker,
            how,
            suspects,
            expected,
        } => (
            "worker_gone",
            json!({"slot": slot, "worker": worker, "how": how, "suspects": suspects,
                   "expected": expected}),
        ),
        RunEvent::Worker { slot, gauge } => ("worker", worker(*slot, gauge)),
        RunEvent::Leased {
            chunk,
            rows,
            worker,
        } => (
            "leased",
            json!({"chunk": chunk, "rows": rows, "worker": worker}),
        ),
        RunEvent::Settled(outcomes) => (
            "settled",
            json!({"rows": outcomes.iter().map(settled).collect::<Vec<_>>()}),
        ),
        RunEvent::Organization { key, result, made } => {
            ("organization", organization(key, result, *made))
        }
        RunEvent::Call { worker, call } => ("call", call_json(worker.0, call)),
        RunEvent::Throttled { wait_ms } => ("throttled", json!({"wait_ms": wait_ms})),
        RunEvent::OutageBegan {
            reason,
            probe_in_ms,
        } => (
            "outage_began",
            json!({"reason": reason, "probe_in_ms": probe_in_ms}),
        ),
        RunEvent::OutageEnded => ("outage_ended", json!({})),
        RunEvent::Draining { reason } => ("draining", json!({"reason": reason})),
        RunEvent::Progress(progress) => ("progress", progress_json(progress)),
    }
}

fn worker(slot: u32, gauge: &WorkerGauge) -> Value {
    json!({
        "slot": slot,
        "active": gauge.active,
        "queued": gauge.queued,
        "in_flight": gauge.in_flight,
        "waiting": gauge.waiting,
        "done": gauge.done,
    })
}

fn settled(outcome: &RowOutcome) -> Value {
    let user = outcome.user.as_ref();
    let membership = outcome.membership.as_ref();
    let error = outcome.error.as_ref();
    json!({
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
    })
}

fn organization(key: &OrgKey, result: &Result<String, String>, made: bool) -> Value {
    let kind = match key {
        OrgKey::Id(_) => "id",
        OrgKey::External(_) => "external_id",
        OrgKey::Name(_) => "name",
    };
    json!({
        "key": {"kind": kind, "value": key.as_str()},
        "org_id": result.as_ref().ok(),
        "made": made,
        "error": result.as_ref().err(),
    })
}

fn call_json(worker: u32, call: &CallRecord) -> Value {
    json!({
        "worker": worker,
        "row": call.row,
        "op": call.op,
        "verdict": call.verdict,
        "status": call.status,
        "request_id": call.request_id,
        "micros": call.micros,
    })
}

fn progress_json(progress: &Progress) -> Value {
    json!({
        "rows": progress.rows,
        "memberships": progress.memberships,
        "organizations": progress.organizations,
        "requests": progress.requests,
        "org_cache": progress.org_cache,
        "settled": progress.settled,
        "rows_per_s": progress.rows_per_s,
        "writes_per_s": progress.writes_per_s,
        "writes_allowed_per_s": progress.writes_allowed_per_s,
        "restarts": progress.restarts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Evidence, MembershipOutcome, MembershipState, Origin, RowError, RowNumber, UserOutcome,
        WorkerId,
    };

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
