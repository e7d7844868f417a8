//! The parts of the page that are words and tables.

use super::super::advice::advice;
use super::super::results::defused;
use super::super::words::{self, count, counted};
use super::{Page, escaped};
use crate::ledger::{CONFLICT_IN_FILE, Problem, RunSeries, RunSnapshot, RunState};
use crate::model::{RowState, RowTally, Step};
use std::fmt::Write as _;
use std::time::Duration;

/// Returns name, state and file.
pub(super) fn head(page: &Page) -> String {
    let summary = &page.summary;
    let (tone, state) = standing(summary.state, &summary.rows);
    let again = match page.generation {
        0 | 1 => String::new(),
        n => format!(" · retried {}", times(n - 1)),
    };
    let at = match &summary.base_url {
        Some(url) => format!(" at {}", escaped(url)),
        None => String::new(),
    };
    format!(
        "<h1>{}<span class=\"pill {tone}\">{state}</span></h1>\
         <p class=\"sub\">{} → {}{at} · begun {}{again}</p>",
        escaped(summary.job.as_deref().unwrap_or("dry run")),
        escaped(&page.source.to_string_lossy()),
        summary.target,
        words::wall_time(page.made_ms),
    ) + &next_step(page)
}

/// Returns how an unfinished job goes on; one that is at work does by itself.
fn next_step(page: &Page) -> String {
    let summary = &page.summary;
    let rests = summary.rows.pending > 0 && summary.state != RunState::Running;
    let Some(resume) = summary.resume.as_ref().filter(|_| rests) else {
        return String::new();
    };
    // A plain resume of a job that stopped at its limit would stop there again.
    let lifts = if page.stopped_at_limit {
        " --limit 0"
    } else {
        ""
    };
    format!(
        "<p>{} pending: continue with <code>{}{lifts}</code></p>",
        counted(summary.rows.pending, "row"),
        escaped(resume)
    )
}

fn times(n: u32) -> String {
    if n == 1 {
        "once".to_owned()
    } else {
        format!("{n} times")
    }
}

/// Returns the tone and the words of a state: completed says little when rows failed.
fn standing(state: RunState, rows: &RowTally) -> (&'static str, String) {
    let bad = rows.failed + rows.parked;
    let words = match state {
        RunState::Completed if bad > 0 => format!("completed, {} to look at", counted(bad, "row")),
        _ => state.as_str().to_owned(),
    };
    let tone = match state {
        RunState::Completed if rows.failed > 0 => "bad",
        RunState::Completed if rows.parked > 0 => "warn",
        RunState::Completed => "good",
        RunState::Failed => "bad",
        RunState::Running => "",
        RunState::Interrupted | RunState::Paused | RunState::Cancelled => "warn",
    };
    (tone, words)
}

/// Returns the figures that matter first.
pub(super) fn cards(page: &Page) -> String {
    let summary = &page.summary;
    let rows = &summary.rows;
    let good = rows.settled() - rows.failed - rows.parked;
    let memberships = &summary.memberships;
    let joined = memberships.created
        + memberships.recovered
        + memberships.existing
        + memberships.reactivated;
    let organizations = summary.organizations.created + summary.organizations.found;
    let runs = page.runs.iter().filter_map(|run| run.last.as_ref());
    let (mut seconds, mut requests, mut throttled) = (0.0, 0, 0);
    let at_least = if misses_counts(page) { "at least " } else { "" };
    for run in runs {
        seconds += run.elapsed_s;
        requests += run.requests.total;
        throttled += run.requests.throttled;
    }
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let tone = |n: u64, tone| if n > 0 { tone } else { "" };
    let cards = [
        ("", count(rows.total), "rows in the file"),
        (tone(good, "good"), count(good), "settled well"),
        (tone(rows.failed, "bad"), count(rows.failed), "failed"),
        (tone(rows.parked, "warn"), count(rows.parked), "parked"),
        ("", count(rows.pending), "pending"),
        ("", count(joined), "memberships"),
        ("", count(organizations), "organizations"),
        ("", format!("{at_least}{}", count(requests)), "requests"),
        (
            tone(throttled, "warn"),
            format!("{at_least}{}", count(throttled)),
            "throttled (429)",
        ),
        ("", words::duration(time), "at work"),
    ];
    let mut out = "<section class=\"cards\">".to_owned();
    for (tone, figure, words) in cards {
        let _infallible = write!(
            out,
            "<div class=\"card {tone}\"><b>{figure}</b><span>{words}</span></div>"
        );
    }
    out + "</section>"
}

/// Returns whether a run was killed: what it sent in its last second is in no count. One that is
/// still at work will say.
fn misses_counts(page: &Page) -> bool {
    let at_work = page.summary.state == RunState::Running;
    let ended = page.runs.len().saturating_sub(usize::from(at_work));
    let killed = |run: &RunSeries| run.last.as_ref().is_none_or(RunSnapshot::lacks_its_end);
    page.runs.iter().take(ended).any(killed)
}

/// Returns what each state means and how many rows are in it; they add up to the file's.
pub(super) fn rows(page: &Page) -> String {
    let rows = &page.summary.rows;
    let states = [
        ("created", rows.created, "--good", "a new user of this job"),
        (
            "recovered",
            rows.recovered,
            "--good",
            "ours: the answer was lost and looked up",
        ),
        ("linked", rows.linked, "--a", "the user was there before"),
        (
            "updated",
            rows.updated,
            "--a",
            "the user was there before and got the file's values",
        ),
        (
            "merged",
            rows.merged,
            "--b",
            "a further row of the same user",
        ),
        ("skipped", rows.skipped, "--wait", "left alone by policy"),
        (
            "failed",
            rows.failed,
            "--bad",
            "refused, with a reason below",
        ),
        (
            "parked",
            rows.parked,
            "--warn",
            "unclear: nothing was guessed",
        ),
        ("pending", rows.pending, "--line", "not settled yet"),
    ];
    let share = |n: u64| 100.0 * n as f64 / rows.total.max(1) as f64;
    let shown = || states.iter().filter(|(_, n, ..)| *n > 0);
    let mut out = "<h2>Rows</h2><div class=\"box\"><div class=\"bar\">".to_owned();
    for (state, n, color, _) in shown() {
        let _infallible = write!(
            out,
            "<i style=\"width:{:.3}%;background:var({color})\" title=\"{} {state}\"></i>",
            share(*n),
            count(*n)
        );
    }
    out.push_str("</div><div class=\"wide\"><table>");
    for (state, n, color, meaning) in shown() {
        let _infallible = write!(
            out,
            "<tr data-state=\"{state}\" data-rows=\"{n}\"><td><span class=\"dot\" \
             style=\"background:var({color})\"></span>{state}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{:.1} %</td><td class=\"soft\">{meaning}</td></tr>",
            count(*n),
            share(*n)
        );
    }
    let _infallible = write!(
        out,
        "<tr class=\"sum\" data-total=\"{}\"><td>rows</td><td class=\"n\">{}</td>\
         <td class=\"n\">100 %</td><td></td></tr></table></div></div>",
        rows.total,
        count(rows.total)
    );
    out
}

/// Returns what went wrong, why, where, and what to do.
pub(super) fn problems(page: &Page) -> String {
    if page.problems.is_empty() {
        return "<h2>Causes</h2><div class=\"box soft\">No row failed, was parked or skipped.</div>"
            .to_owned();
    }
    let mut out = "<h2>Causes</h2><div class=\"box wide\"><table class=\"causes\"><tr><th class=\"n\">rows</th>\
                   <th>what</th><th>example and advice</th></tr>"
        .to_owned();
    for problem in &page.problems {
        out.push_str(&problem_row(page, problem));
    }
    out + "</table></div>"
}

fn problem_row(page: &Page, problem: &Problem) -> String {
    let color = match problem.state {
        RowState::Failed => "--bad",
        RowState::Parked => "--warn",
        _ => "--wait",
    };
    let step = problem.step.map_or("", Step::as_str);
    let examples: Vec<String> = problem
        .examples
        .iter()
        .map(|example| match page.lines.get(&example.row) {
            Some(line) => format!("row {} (line {line})", example.row),
            None => format!("row {}", example.row),
        })
        .collect();
    let message = problem
        .examples
        .first()
        .map_or_else(String::new, |example| {
            let status = example.http_status.map_or_else(String::new, |status| {
                format!(" <span class=\"soft\">HTTP {status}</span>")
            });
            escaped(&defused(&example.message)) + &status
        });
    let more = if problem.rows > problem.examples.len() as u64 {
        ", …"
    } else {
        ""
    };
    let advice = if problem.state == RowState::Skipped {
        "skipped by policy: nothing is to do"
    } else {
        advice(&problem.code)
    };
    format!(
        "<tr><td class=\"n\">{}</td><td><span class=\"dot\" style=\"background:var({color})\"></span>\
         {} <span class=\"soft\">{step}</span><br><code>{}</code></td>\
         <td>{message}<br><span class=\"soft\">{}{more}</span>\
         <span class=\"advice\">→ {}</span></td></tr>",
        count(problem.rows),
        problem.state,
        escaped(&defused(&problem.code)),
        examples.join(", "),
        with_code(advice),
    )
}

/// Shows what stands between backticks as code.
fn with_code(words: &str) -> String {
    let mut out = String::new();
    for (at, part) in words.split('`').enumerate() {
        let part = escaped(part);
        if at % 2 == 1 {
            let _infallible = write!(out, "<code>{part}</code>");
        } else {
            out.push_str(&part);
        }
    }
    out
}

/// Returns where rows went.
pub(super) fn organizations(page: &Page) -> String {
    let orgs = &page.organizations;
    if orgs.top.is_empty() {
        return String::new();
    }
    let widest = orgs.top.first().map_or(1, |org| org.rows).max(1);
    let mut out = "<h2>Rows per organization</h2><div class=\"box wide\"><table>\
                   <tr><th>organization</th><th class=\"n\">rows</th><th class=\"n\">to look at</th>\
                   <th style=\"width:45%\"></th></tr>"
        .to_owned();
    for org in &orgs.top {
        let name = match &org.key {
            Some(key) => format!(
                "<code>{}</code> <span class=\"soft\">{}</span>",
                escaped(&defused(key)),
                escaped(&org.id)
            ),
            None => format!("<code>{}</code>", escaped(&defused(&org.id))),
        };
        let width = 100.0 * org.rows as f64 / widest as f64;
        out.push_str(&org_row(&name, org.rows, &some(org.problems), width));
    }
    if orgs.others > 0 {
        let name = format!("{} more", counted(orgs.others, "organization"));
        out.push_str(&org_row(&name, orgs.others_rows, "", 0.0));
    }
    let pending = page.summary.rows.pending;
    for (name, n, problems) in [
        ("settled well without an organization", orgs.without, 0),
        // Most of them break a rule of the file. They may name one that nobody has looked up.
        (
            "failed, parked or skipped before reaching an organization",
            orgs.unreached,
            orgs.unreached_problems,
        ),
        ("pending", pending, 0),
    ] {
        if n > 0 {
            let name = format!("<span class=\"soft\">{name}</span>");
            out.push_str(&org_row(&name, n, &some(problems), 0.0));
        }
    }
    out + "</table></div>"
}

fn some(n: u64) -> String {
    if n == 0 { String::new() } else { count(n) }
}

fn org_row(name: &str, rows: u64, bad: &str, width: f64) -> String {
    let bar = if width > 0.0 {
        format!("<div class=\"orgbar\" style=\"width:{width:.2}%\"></div>")
    } else {
        String::new()
    };
    format!(
        "<tr><td>{name}</td><td class=\"n\">{}</td><td class=\"n\">{bad}</td><td>{bar}</td></tr>",
        count(rows)
    )
}

/// Returns a line for every run.
pub(super) fn runs(page: &Page) -> String {
    let mut out = "<h2>Runs</h2><div class=\"box wide\"><table><tr><th>run</th><th>began</th>\
                   <th>ended</th><th class=\"n\">took</th><th class=\"n\">rows</th>\
                   <th class=\"n\">requests</th><th class=\"n\">429</th>\
                   <th class=\"n\">p50</th><th class=\"n\">p99</th><th class=\"n\">limit used</th></tr>"
        .to_owned();
    let before = settled_before_any_run(page);
    if before > 0 {
        let _infallible = write!(
            out,
            "<tr><td colspan=\"4\" class=\"soft\">before the first run, by the file alone</td>\
             <td class=\"n\">{}</td><td colspan=\"5\"></td></tr>",
            count(before)
        );
    }
    let at_work = page.summary.state == RunState::Running;
    for (n, run) in page.runs.iter().enumerate() {
        out.push_str(&run_row(run, at_work && n + 1 == page.runs.len()));
    }
    out + "</table></div>"
}

/// Returns rows that the file decided when the job was made: no run settled them, none opens them.
fn settled_before_any_run(page: &Page) -> u64 {
    let made = |problem: &&Problem| problem.code == CONFLICT_IN_FILE;
    page.problems.iter().filter(made).map(|it| it.rows).sum()
}

fn run_row(run: &RunSeries, at_work: bool) -> String {
    let began = words::wall_time(run.started_ms);
    let Some(last) = &run.last else {
        return format!(
            "<tr><td>{}</td><td>{began}</td><td class=\"soft\">before its first commit</td>\
             <td colspan=\"7\"></td></tr>",
            run.run
        );
    };
    let [p50, _, p99] = last.latency_ms;
    let used = last
        .rate_used
        .map_or_else(String::new, |used| format!("{:.1} %", used * 100.0));
    let allowed = last.writes_per_s.unwrap_or_default();
    let lowest = last.auto_rate.map(|auto| auto.lowest);
    let lowest = lowest
        .filter(|lowest| *lowest < allowed)
        .map_or_else(String::new, |lowest| {
            format!(", at the lowest {} writes/s", words::rate(lowest))
        });
    // A run that never entered its end was killed.
    let ended = match last.state {
        RunState::Running if at_work => "at work",
        RunState::Running => "killed",
        state => state.as_str(),
    };
    let at_least = if last.lacks_its_end() {
        "at least "
    } else {
        ""
    };
    format!(
        "<tr><td>{}</td><td>{began}</td><td>{ended}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{at_least}{}</td><td class=\"n\">{at_least}{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{p50:.1} ms</td><td class=\"n\">{p99:.1} ms</td><td class=\"n\">{used}{lowest}</td></tr>",
        run.run,
        words::duration(Duration::try_from_secs_f64(last.elapsed_s).unwrap_or_default()),
        count(last.settled),
        count(last.requests.total),
        some(last.requests.throttled),
    )
}
