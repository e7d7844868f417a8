//! The page of `report`: everything in one file, nothing fetched, no script, nobody's data but row
//! numbers and ids.

mod chart;
mod parts;

use super::Summary;
use super::words;
use crate::ledger::{Organizations, Problem, RunSeries};
use crate::model::RowNumber;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

pub(crate) const STYLE: &str = include_str!("html/style.css");

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Page {
    /// The same object as `status --json`.
    pub summary: Summary,
    /// The source file.
    pub source: PathBuf,
    /// 1, and one more with every `retry`.
    pub generation: u32,
    /// When the job was made, wall clock in milliseconds.
    pub made_ms: i64,
    /// When the page was made.
    pub now_ms: i64,
    /// What went wrong, the largest group first.
    pub problems: Vec<Problem>,
    /// Physical lines of the rows that are named.
    pub lines: BTreeMap<RowNumber, u64>,
    /// Where rows went.
    pub organizations: Organizations,
    /// How the last runs went.
    pub runs: Vec<RunSeries>,
    /// Whether every row up to the job's limit is settled.
    pub stopped_at_limit: bool,
}

/// Returns the page.
pub fn render(page: &Page) -> String {
    let name = escaped(page.summary.job.as_deref().unwrap_or("dry run"));
    let mut out = String::with_capacity(64 * 1024);
    let _infallible = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\"><title>{name} · userferry</title>\
         <style>{STYLE}</style></head><body><main>"
    );
    out.push_str(&parts::head(page));
    out.push_str(&parts::cards(page));
    out.push_str(&parts::rows(page));
    out.push_str(&parts::problems(page));
    out.push_str(&chart::charts(&page.runs, page.summary.rate.writes_per_s));
    out.push_str(&parts::organizations(page));
    out.push_str(&parts::runs(page));
    let _infallible = writeln!(
        out,
        "<footer>made {} by userferry {} · row numbers, ids and codes only: no addresses, names \
         or passwords</footer></main></body></html>",
        words::wall_time(page.now_ms),
        env!("CARGO_PKG_VERSION"),
    );
    out
}

/// Returns text that cannot be taken for markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Example, OrgRows, RunSnapshot, RunState, Sample};
    use crate::model::tally::OrgCacheTally;
    use crate::model::{
        MembershipTally, OrgTally, RequestTally, RowState, RowTally, Step, TargetKind,
    };
    use crate::report::SummaryFacts;

    fn snapshot() -> RunSnapshot {
        RunSnapshot {
            state: RunState::Completed,
            exit: Some(1),
            requests: RequestTally::default(),
            org_cache: OrgCacheTally::default(),
            latency_ms: [1.0, 2.0, 3.0],
            recent_ms: [1.0, 3.0],
            writes_per_s: Some(50.0),
            rate_used: Some(0.99),
            auto_rate: None,
            workers: 2,
            restarts: 0,
            settled: 12,
            elapsed_s: 12.0,
        }
    }

    fn page() -> Page {
        let mut rows = RowTally::of(12);
        (0..7).for_each(|_| rows.settle(RowState::Created));
        (0..3).for_each(|_| rows.settle(RowState::Failed));
        rows.settle(RowState::Parked);
        let samples = (0..12).map(|at_s| Sample {
            at_s,
            settled: at_s,
            writes: at_s * 2,
            reads: at_s,
            throttled: u64::from(at_s > 6),
            p50_ms: 1.0,
            p99_ms: 3.0,
        });
        Page {
            summary: Summary::new(SummaryFacts {
                job: Some("a<b>"),
                target: TargetKind::Sandbox,
                base_url: None,
                resume: None,
                state: RunState::Completed,
                rows,
                memberships: MembershipTally::default(),
                organizations: OrgTally::default(),
                failures: Vec::new(),
                run: 1,
                snapshot: &snapshot(),
            }),
            source: PathBuf::from("/data/<script>.csv"),
            generation: 1,
            made_ms: 0,
            now_ms: 0,
            problems: vec![Problem {
                state: RowState::Failed,
                step: Some(Step::Membership),
                code: "invalid_role".to_owned(),
                rows: 3,
                examples: vec![Example {
                    row: RowNumber(4),
                    message: "=no such \"role\" <img src=x>".to_owned(),
                    http_status: Some(422),
                    request_id: None,
                }],
            }],
            lines: BTreeMap::from([(RowNumber(4), 5)]),
            organizations: Organizations {
                top: vec![OrgRows {
                    id: "org_1".to_owned(),
                    key: Some("acme".to_owned()),
                    rows: 9,
                    problems: 3,
                }],
                others: 2,
                others_rows: 1,
                without: 1,
                unreached: 2,
                unreached_problems: 1,
            },
            runs: vec![RunSeries {
                run: 1,
                started_ms: 0,
                last: Some(snapshot()),
                samples: samples.collect(),
            }],
            stopped_at_limit: false,
        }
    }

    #[test]
    fn every_state_is_on_the_page_and_they_add_up() {
        let html = render(&page());
        let mut sum = 0;
        for part in html.split("data-rows=\"").skip(1) {
            sum += part.split('"').next().unwrap().parse::<u64>().unwrap();
        }
        assert_eq!(sum, 12);
        assert!(html.contains("data-total=\"12\""));
    }

    #[test]
    fn nothing_of_a_job_is_markup_and_nothing_is_fetched() {
        let html = render(&page());
        for bad in ["<img", "<script", "a<b>", "http://", "https://", "url("] {
            assert!(!html.contains(bad), "{bad}");
        }
        assert!(html.contains("&lt;img src=x&gt;"));
    }

    #[test]
    fn the_head_says_where_the_target_is() {
        let mut page = page();
        page.summary.base_url = Some("http://127.0.0.1:4100".to_owned());
        let html = render(&page);
        assert!(html.contains(".csv → sandbox at http://127.0.0.1:4100 · begun"));
        assert!(!html.contains("href"));
    }

    #[test]
    fn causes_come_with_rows_lines_and_advice() {
        let html = render(&page());
        for words in [
            "invalid_role",
            "row 4 (line 5)",
            "make the role at the target",
            "acme",
        ] {
            assert!(html.contains(words), "{words}");
        }
        // Copied into a spreadsheet, a cell must not run.
        assert!(html.contains("&#39;=no such"));
        assert_eq!(html.matches("<svg").count(), 4);
    }

    #[test]
    fn rows_that_reached_no_organization_are_not_said_to_ask_for_none() {
        let html = render(&page());
        let row = |name: &str| {
            let at = html.find(name).unwrap();
            html[at..].split("</tr>").next().unwrap().to_owned()
        };
        assert!(row("settled well without an organization").contains(">1<"));
        let unreached = row("failed, parked or skipped before reaching an organization");
        assert!(
            unreached.contains(">2<") && unreached.contains(">1<"),
            "{unreached}"
        );
    }

    #[test]
    fn counts_of_a_killed_run_are_the_least() {
        let mut page = page();
        assert!(!render(&page).contains("at least"));
        let killed = RunSnapshot {
            state: RunState::Running,
            ..snapshot()
        };
        page.runs[0].last = Some(killed);
        // On top, for requests and 429s, and in the line of the run, for rows and requests.
        let html = render(&page);
        assert_eq!(html.matches("at least ").count(), 4);
        assert!(html.contains("<td>killed</td>"));
        page.runs[0].last = None;
        assert_eq!(render(&page).matches("at least ").count(), 2);
    }

    #[test]
    fn rows_that_the_file_decided_before_any_run_are_in_the_table_of_runs() {
        let mut page = page();
        assert!(!render(&page).contains("before the first run"));
        page.problems[0].code = "external_id_conflict_in_file".to_owned();
        let html = render(&page);
        let at = html.find("before the first run").unwrap();
        assert!(html[at..].split("</tr>").next().unwrap().contains(">3<"));
    }

    #[test]
    fn an_unfinished_job_says_how_it_goes_on() {
        let mut page = page();
        page.summary.resume = Some("userferry resume it".to_owned());
        for state in [RunState::Interrupted, RunState::Paused] {
            page.summary.state = state;
            assert!(render(&page).contains("<code>userferry resume it</code>"));
        }
        page.stopped_at_limit = true;
        assert!(render(&page).contains("<code>userferry resume it --limit 0</code>"));
        page.summary.state = RunState::Running;
        assert!(!render(&page).contains("userferry resume"));
        page.summary.state = RunState::Completed;
        page.summary.rows.pending = 0;
        assert!(!render(&page).contains("userferry resume"));
    }

    #[test]
    fn a_run_without_samples_has_no_charts() {
        let mut page = page();
        page.runs.clear();
        assert!(render(&page).contains("too short"));
    }
}
