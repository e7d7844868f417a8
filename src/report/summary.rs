//! The summary: one stable object for scripts, a short table for people, from the same facts.

use super::plan::Plan;
use super::words;
use crate::ledger::{FailureGroup, RunSnapshot, RunState};
use crate::model::escape::shown;
use crate::model::tally::OrgCacheTally;
use crate::model::{MembershipTally, OrgTally, RequestTally, RowTally, Step, TargetKind};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// Groups of failures the table shows.
const GROUPS_SHOWN_MAX: usize = 10;

/// Longest example in the table, in characters.
const EXAMPLE_CHARS_MAX: usize = 160;

/// What a summary is made of.
#[derive(Clone, Debug)]
pub struct SummaryFacts<'a> {
    /// The job; none in a dry run.
    pub job: Option<&'a str>,
    /// Where users go.
    pub target: TargetKind,
    /// The target's origin; none for the built-in sandbox.
    pub base_url: Option<&'a str>,
    /// The command that continues it; none in a dry run.
    pub resume: Option<String>,
    /// The state to show: the stored one, or what it became when its process died.
    pub state: RunState,
    /// Rows of the job.
    pub rows: RowTally,
    /// Memberships of the job.
    pub memberships: MembershipTally,
    /// Organizations of the job.
    pub organizations: OrgTally,
    /// Why rows of the job failed or were parked, the largest group first.
    pub failures: Vec<FailureGroup>,
    /// Number of the run, from 1.
    pub run: i64,
    /// The run's own counters.
    pub snapshot: &'a RunSnapshot,
}

/// The object that `--json` prints. Fields are added, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The job; null in a dry run.
    pub job: Option<String>,
    /// Where users go.
    pub target: TargetKind,
    /// The target's origin, for people; none for the built-in sandbox.
    #[serde(skip)]
    pub base_url: Option<String>,
    /// Whether earlier runs did a part of it, so that what is only the run's is told as such.
    #[serde(skip)]
    pub continued: bool,
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// `running`, `completed`, `interrupted`, `paused`, `cancelled` or `failed`.
    pub state: RunState,
    /// The command that continues the job; null in a dry run.
    pub resume: Option<String>,
    /// Rows of the job by state.
    pub rows: RowTally,
    /// Memberships of the job, each counted once.
    pub memberships: MembershipTally,
    /// Organizations of the job.
    pub organizations: OrgTally,
    /// Requests of this run.
    pub requests: RequestTally,
    /// The run was killed: what it sent in its last second is in no count. Absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub requests_at_least: bool,
    /// What the workers' organization caches did in this run.
    pub org_cache: OrgCacheTally,
    /// Latencies of this run's requests.
    pub latency_ms: Latency,
    /// The writes limit and how much of it was used; null without one.
    pub rate: Rate,
    /// Worker subprocesses of this run.
    pub workers: Workers,
    /// Seconds from the start of the process to this summary.
    pub elapsed_s: f64,
    /// Rows settled by this run per second.
    pub rows_per_s: f64,
    /// Why rows of the job failed or were parked, by code.
    pub failures: Failures,
    /// What a real run would take; only of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// What stopped the run; absent unless its state is `failed` or `paused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// The exit code; absent unless `error` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
}

/// Failed and parked rows by code: an object in JSON, the largest group first.
#[derive(Clone, Debug)]
pub struct Failures(pub Vec<FailureGroup>);

/// A group as JSON shows it.
#[derive(Serialize)]
struct Shown<'a> {
    failed: u64,
    parked: u64,
    step: Option<&'static str>,
    row: u32,
    message: &'a str,
}

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for group in &self.0 {
            let shown = Shown {
                failed: group.failed,
                parked: group.parked,
                step: group.step.map(Step::as_str),
                row: group.row.0,
                message: &group.message,
            };
            map.serialize_entry(&group.code, &shown)?;
        }
        map.end()
    }
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of the requests were faster.
    pub p50: f64,
    /// 95 % of the requests were faster.
    pub p95: f64,
    /// 99 % of the requests were faster.
    pub p99: f64,
}

/// The writes limit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Allowed per second.
    pub writes_per_s: Option<f64>,
    /// Writes sent ÷ (limit × seconds from first to last write).
    pub used: Option<f64>,
    /// Allowed per second when the run ended, or now; only with `--rate auto`.
    pub current: Option<f64>,
    /// The fewest per second that were allowed; only with `--rate auto`.
    pub lowest: Option<f64>,
}

/// Worker subprocesses.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Workers {
    /// Asked for.
    pub count: u32,
    /// Restarted.
    pub restarts: u32,
}

impl Summary {
    /// Makes the summary.
    pub fn new(facts: SummaryFacts<'_>) -> Self {
        let snapshot = facts.snapshot;
        let [p50, p95, p99] = snapshot.latency_ms.map(milli);
        let elapsed_s = milli(snapshot.elapsed_s);
        let rows_per_s = if snapshot.elapsed_s > 0.0 {
            milli(snapshot.settled as f64 / snapshot.elapsed_s)
        } else {
            0.0
        };
        Self {
            job: facts.job.map(str::to_owned),
            target: facts.target,
            base_url: facts.base_url.map(shown),
            continued: facts.run > 1,
            dry_run: facts.job.is_none(),
            state: facts.state,
            resume: facts.resume,
            rows: facts.rows,
            memberships: facts.memberships,
            organizations: facts.organizations,
            requests: snapshot.requests,
            requests_at_least: facts.state != RunState::Running && snapshot.lacks_its_end(),
            org_cache: snapshot.org_cache,
            latency_ms: Latency { p50, p95, p99 },
            rate: Rate {
                writes_per_s: snapshot.writes_per_s.map(milli),
                used: snapshot.rate_used.map(milli),
                current: snapshot.auto_rate.map(|auto| milli(auto.current)),
                lowest: snapshot.auto_rate.map(|auto| milli(auto.lowest)),
            },
            workers: Workers {
                count: snapshot.workers,
                restarts: snapshot.restarts,
            },
            elapsed_s,
            rows_per_s,
            failures: Failures(facts.failures),
            plan: None,
            error: None,
            exit: None,
        }
    }

    /// Returns the table for people.
    pub fn table(&self) -> String {
        let mut out = self.headline();
        out.push('\n');
        section(&mut out, "rows", self.rows.total, &rows_lines(&self.rows));
        let m = &self.memberships;
        let lines = [
            ("created", m.created),
            ("recovered", m.recovered),
            ("existing", m.existing),
            ("reactivated", m.reactivated),
            ("failed", m.failed),
        ];
        section(
            &mut out,
            "memberships",
            lines.iter().map(|(_, n)| n).sum(),
            &lines,
        );
        let o = &self.organizations;
        let lines = [
            ("created", o.created),
            ("found", o.found),
            ("failed", o.failed),
        ];
        section(
            &mut out,
            "organizations",
            lines.iter().map(|(_, n)| n).sum(),
            &lines,
        );
        let r = &self.requests;
        let lines = [
            ("writes", r.writes),
            ("reads", r.reads),
            ("throttled", r.throttled),
            ("retried", r.retried),
            ("ambiguous", r.ambiguous),
        ];
        own_section(&mut out, "requests", r.total, self.whose(), &lines);
        if self.requests_at_least && r.total > 0 {
            let _infallible = writeln!(
                out,
                "  {:<14} {:>12}   at least: the run was killed, and its last counts with it",
                "", ""
            );
        }
        failure_lines(&mut out, &self.failures_to_tell());
        self.rate_line(&mut out);
        if let Some(plan) = &self.plan {
            out.push_str(&plan.text());
        }
        out
    }

    /// Returns the failures that the plan does not tell as problems of the file anyway.
    fn failures_to_tell(&self) -> Vec<&FailureGroup> {
        let told = |code: &str| {
            let mut rules = self.plan.iter().flat_map(|plan| &plan.problems);
            rules.any(|group| group.rule == code)
        };
        let groups = self.failures.0.iter();
        groups.filter(|group| !told(&group.code)).collect()
    }

    fn headline(&self) -> String {
        let name = self.job.as_deref().unwrap_or("dry run");
        let time = Duration::try_from_secs_f64(self.elapsed_s).unwrap_or_default();
        format!(
            "{name} → {}: {}{} · {}{} · {} rows/s\n",
            self.destination(),
            self.state.as_str(),
            self.problems_told(),
            self.whose(),
            words::duration(time),
            words::rate(self.rows_per_s),
        )
    }

    /// Names the target, and where it is unless that is where it always is.
    fn destination(&self) -> String {
        let elsewhere = self.base_url.as_deref();
        match elsewhere.filter(|url| self.target.default_origin() != Some(*url)) {
            Some(url) => format!("{} at {url}", self.target),
            None => self.target.to_string(),
        }
    }

    /// Rows are the job's; what only the run knows is told apart from them.
    const fn whose(&self) -> &'static str {
        if self.continued { "this run: " } else { "" }
    }

    /// "completed" alone says nothing about rows that were refused.
    fn problems_told(&self) -> String {
        let Self { rows, .. } = self;
        let parts: Vec<String> = [(rows.failed, "failed"), (rows.parked, "parked")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| match rows.total {
                total if total == n => format!("every row {word}"),
                _ => format!("{} {word}", words::counted(n, "row")),
            })
            .collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!(", but {}", parts.join(" and "))
        }
    }

    fn rate_line(&self, out: &mut String) {
        if let (Some(allowed), Some(used)) = (self.rate.writes_per_s, self.rate.used) {
            let in_it = if self.continued { " in this run" } else { "" };
            let lowest = self.rate.lowest.filter(|lowest| *lowest < allowed);
            let lowest = lowest.map_or_else(String::new, |lowest| {
                format!(", backed off to {} at the lowest", words::rate(lowest))
            });
            let _infallible = writeln!(
                out,
                "  {:<14} {:>12} writes/s allowed, {:.1} % used{in_it}{lowest}",
                "rate",
                words::rate(allowed),
                used * 100.0
            );
        }
        if self.requests.total > 0 {
            let Latency { p50, p95, p99 } = self.latency_ms;
            let _infallible = writeln!(
                out,
                "  {:<14} {}p50 {p50:.1} ms · p95 {p95:.1} ms · p99 {p99:.1} ms",
                "latency",
                self.whose()
            );
        }
        if self.workers.restarts > 0 {
            let restarts = words::counted(u64::from(self.workers.restarts), "restart");
            let _infallible = writeln!(
                out,
                "  {:<14} {}{} · {restarts}",
                "workers",
                self.whose(),
                self.workers.count
            );
        }
    }
}

/// Writes the largest groups of failures, one line each with its example.
fn failure_lines(out: &mut String, groups: &[&FailureGroup]) {
    for (at, group) in groups.iter().take(GROUPS_SHOWN_MAX).enumerate() {
        let name = if at == 0 { "failures" } else { "" };
        let rows = words::count(group.rows());
        let example = words::shortened(&group.message, EXAMPLE_CHARS_MAX);
        // What breaks a rule names its row itself.
        let place = if example.starts_with(&format!("row {}, ", group.row)) {
            String::new()
        } else {
            format!("row {}: ", group.row)
        };
        let code = &group.code;
        let _infallible = writeln!(out, "  {name:<14} {rows:>12}   {code}: {place}{example}");
    }
    if let Some(rest) = groups
        .get(GROUPS_SHOWN_MAX..)
        .filter(|rest| !rest.is_empty())
    {
        let rows = words::count(rest.iter().map(|group| group.rows()).sum());
        let more = words::counted(rest.len() as u64, "more code");
        let more = format!("{more}: `userferry report` shows all");
        let _infallible = writeln!(out, "  {:<14} {rows:>12}   {more}", "");
    }
}

fn rows_lines(rows: &RowTally) -> [(&'static str, u64); 9] {
    [
        ("created", rows.created),
        ("recovered", rows.recovered),
        ("linked", rows.linked),
        ("updated", rows.updated),
        ("merged", rows.merged),
        ("skipped", rows.skipped),
        ("failed", rows.failed),
        ("parked", rows.parked),
        ("pending", rows.pending),
    ]
}

/// Writes one line with a total and, for what is not zero, its parts.
fn section(out: &mut String, name: &str, total: u64, lines: &[(&str, u64)]) {
    own_section(out, name, total, "", lines);
}

/// The same, for what is only the run's: `whose` says so.
fn own_section(out: &mut String, name: &str, total: u64, whose: &str, lines: &[(&str, u64)]) {
    if total == 0 {
        return;
    }
    let parts: Vec<String> = lines
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(word, n)| match word.strip_suffix('s') {
            Some(noun) => words::counted(*n, noun),
            None => format!("{} {word}", words::count(*n)),
        })
        .collect();
    let total = words::count(total);
    let parts = parts.join(" · ");
    let _infallible = writeln!(out, "  {name:<14} {total:>12}   {whose}{parts}");
}

/// Rounds to three decimals, and keeps JSON finite.
fn milli(number: f64) -> f64 {
    if number.is_finite() {
        (number * 1000.0).round() / 1000.0
    } else {
        0.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::AutoRate;
    use serde_json::json;

    pub(crate) fn snapshot() -> RunSnapshot {
        RunSnapshot {
            state: RunState::Completed,
            exit: Some(0),
            requests: RequestTally {
                total: 6,
                writes: 5,
                reads: 1,
                ..RequestTally::default()
            },
            org_cache: OrgCacheTally::default(),
            latency_ms: [1.0, 2.0, 3.000_04],
            recent_ms: [0.0; 2],
            writes_per_s: Some(50.0),
            rate_used: Some(0.98),
            auto_rate: None,
            workers: 2,
            restarts: 0,
            settled: 3,
            elapsed_s: 2.0,
        }
    }

    pub(crate) fn facts(snapshot: &RunSnapshot) -> SummaryFacts<'_> {
        SummaryFacts {
            job: Some("users-1f3a9c"),
            target: TargetKind::Sandbox,
            base_url: None,
            resume: Some("userferry resume users-1f3a9c".to_owned()),
            state: RunState::Completed,
            rows: RowTally {
                total: 3,
                created: 3,
                ..RowTally::default()
            },
            memberships: MembershipTally::default(),
            organizations: OrgTally::default(),
            failures: Vec::new(),
            run: 1,
            snapshot,
        }
    }

    #[test]
    fn the_object_is_the_published_one() {
        let snapshot = snapshot();
        let summary = Summary::new(facts(&snapshot));
        let expected = json!({
            "job": "users-1f3a9c", "target": "sandbox", "dry_run": false, "state": "completed",
            "resume": "userferry resume users-1f3a9c",
            "rows": {"total": 3, "created": 3, "recovered": 0, "linked": 0, "updated": 0,
                     "merged": 0, "skipped": 0, "failed": 0, "parked": 0, "pending": 0},
            "memberships": {"created": 0, "recovered": 0, "existing": 0, "reactivated": 0,
                            "failed": 0},
            "organizations": {"created": 0, "found": 0, "failed": 0},
            "requests": {"total": 6, "writes": 5, "reads": 1, "throttled": 0, "retried": 0,
                         "ambiguous": 0},
            "org_cache": {"hits": 0, "misses": 0, "merged": 0, "evicted": 0},
            "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
            "rate": {"writes_per_s": 50.0, "used": 0.98, "current": null, "lowest": null},
            "workers": {"count": 2, "restarts": 0},
            "elapsed_s": 2.0, "rows_per_s": 1.5, "failures": {},
        });
        // Compared as text: the order of the fields is part of what people see.
        assert_eq!(
            serde_json::to_string_pretty(&summary).unwrap(),
            serde_json::to_string_pretty(&expected).unwrap()
        );
    }

    #[test]
    fn a_dry_run_has_no_job_and_no_way_to_resume() {
        let mut snapshot = snapshot();
        snapshot.writes_per_s = None;
        snapshot.rate_used = None;
        let summary = Summary::new(SummaryFacts {
            job: None,
            resume: None,
            ..facts(&snapshot)
        });
        let value = serde_json::to_value(&summary).unwrap();
        assert_eq!(value["job"], Value::Null);
        assert_eq!(value["resume"], Value::Null);
        assert_eq!(value["dry_run"], true);
        let nothing = json!({"writes_per_s": null, "used": null, "current": null, "lowest": null});
        assert_eq!(value["rate"], nothing);
    }

    #[test]
    fn a_rate_that_was_backed_off_is_told() {
        let mut snapshot = snapshot();
        snapshot.auto_rate = Some(AutoRate {
            current: 50.0,
            lowest: 24.5,
        });
        let summary = Summary::new(facts(&snapshot));
        let value = serde_json::to_value(&summary).unwrap();
        assert_eq!(
            value["rate"],
            json!({"writes_per_s": 50.0, "used": 0.98, "current": 50.0, "lowest": 24.5})
        );
        let told = "50.0 writes/s allowed, 98.0 % used, backed off to 24.5 at the lowest\n";
        assert!(summary.table().contains(told), "{}", summary.table());
    }

    fn group(code: &str, rows: u64, message: &str) -> FailureGroup {
        FailureGroup {
            code: code.to_owned(),
            failed: rows - 1,
            parked: 1,
            step: Some(Step::User),
            row: crate::model::RowNumber(7),
            message: message.to_owned(),
        }
    }

    #[test]
    fn failures_are_told_by_code_with_an_example() {
        let snapshot = snapshot();
        let mut facts = facts(&snapshot);
        facts.failures = vec![
            group("z_first", 3000, "row 7, line 9, column email: no @"),
            group("invalid_role", 2, "no such role"),
        ];
        facts
            .failures
            .extend((0..9).map(|n| group(&format!("c{n}"), 1, "x")));
        let summary = Summary::new(facts);
        let json = serde_json::to_string(&summary).unwrap();
        let wanted = r#""failures":{"z_first":{"failed":2999,"parked":1,"step":"user","row":7,"#;
        assert!(json.contains(wanted), "{json}");
        let table = summary.table();
        for wanted in [
            "  failures              3,000   z_first: row 7, line 9, column email: no @\n",
            "                            2   invalid_role: row 7: no such role\n",
            "                            1   1 more code: `userferry report` shows all\n",
        ] {
            assert!(table.contains(wanted), "{table}");
        }
    }

    #[test]
    fn a_plan_tells_the_problems_of_the_file_and_no_failure_twice() {
        let snapshot = snapshot();
        let mut facts = facts(&snapshot);
        facts.failures = vec![
            group("email_invalid", 2, "row 7, line 9, column email: no @"),
            group("invalid_role", 2, "no such role"),
        ];
        let mut summary = Summary::new(facts);
        let problem = super::super::problems::ProblemGroup {
            rule: "email_invalid",
            severity: "error",
            title: "not an email address",
            count: 2,
            examples: Vec::new(),
        };
        summary.plan = Some(super::super::plan::tests::plan_with(vec![problem]));
        let table = summary.table();
        assert_eq!(table.matches("email_invalid").count(), 1, "{table}");
        assert!(
            table.contains("invalid_role: row 7: no such role"),
            "{table}"
        );
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["failures"]["email_invalid"]["failed"], 1);
        assert_eq!(json["plan"]["problems"][0]["count"], 2);
    }

    #[test]
    fn the_target_is_told_with_its_place_unless_that_is_the_usual_one() {
        let snapshot = snapshot();
        let told = |base_url| {
            let facts = SummaryFacts {
                target: TargetKind::Workos,
                base_url,
                ..facts(&snapshot)
            };
            Summary::new(facts).headline()
        };
        let usual = told(TargetKind::Workos.default_origin());
        assert!(usual.starts_with("users-1f3a9c → workos: completed"));
        let elsewhere = told(Some("http://127.0.0.1:4100"));
        let words = "users-1f3a9c → workos at http://127.0.0.1:4100: completed";
        assert!(elsewhere.starts_with(words), "{elsewhere}");
    }

    #[test]
    fn what_is_only_the_runs_is_told_apart_from_the_jobs_rows() {
        let mut snapshot = snapshot();
        snapshot.restarts = 1;
        let first = Summary::new(facts(&snapshot)).table();
        assert!(!first.contains("this run"), "{first}");
        let second = Summary::new(SummaryFacts {
            run: 2,
            ..facts(&snapshot)
        });
        let table = second.table();
        for line in [
            "completed · this run: 2.0s · 1.50 rows/s\n",
            "  rows                      3   3 created\n",
            "  requests                  6   this run: 5 writes · 1 read\n",
            "50.0 writes/s allowed, 98.0 % used in this run\n",
            "  latency        this run: p50 1.0 ms",
            "  workers        this run: 2 · 1 restart\n",
        ] {
            assert!(table.contains(line), "{line} in {table}");
        }
    }

    #[test]
    fn what_a_killed_run_counted_is_the_least_that_it_sent() {
        let killed = RunSnapshot {
            state: RunState::Running,
            ..snapshot()
        };
        for (state, at_least) in [
            (RunState::Interrupted, true),
            // Its last request was answered, and it was killed before it said so.
            (RunState::Completed, true),
            (RunState::Running, false),
        ] {
            let mut facts = facts(&killed);
            facts.state = state;
            let summary = Summary::new(facts);
            assert_eq!(summary.table().contains("at least"), at_least);
            let json = serde_json::to_value(&summary).unwrap();
            let told = json.get("requests_at_least");
            assert_eq!(told, at_least.then_some(&json!(true)));
        }
        let ended = snapshot();
        assert!(!Summary::new(facts(&ended)).requests_at_least);
    }

    #[test]
    fn the_table_shows_what_is_not_zero() {
        let snapshot = snapshot();
        let table = Summary::new(facts(&snapshot)).table();
        assert!(
            table.contains("users-1f3a9c → sandbox: completed"),
            "{table}"
        );
        assert!(table.contains("3 created"), "{table}");
        assert!(
            !table.contains("parked") && !table.contains("memberships"),
            "{table}"
        );
        assert!(table.contains("98.0 % used"), "{table}");
    }
}
