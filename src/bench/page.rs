//! A measurement as one HTML page: everything in one file, nothing fetched, no script.

use super::compare::{Change, Comparison, Verdict};
use super::{Align, Report, Section, SuiteReport, Table, Unit, chart, text};
use crate::report::html::{STYLE, escaped};
use crate::report::words;
use std::fmt::Write as _;

/// Rules beside those of the page of a job.
const MORE_STYLE: &str = ".about{color:var(--soft);margin:0 0 10px;max-width:75ch}\
    .advice-box{border-left:4px solid var(--a);margin:20px 0}\
    .advice-box p{margin:4px 0}.doubt{border-left-color:var(--warn)}\
    h2 small{font-weight:400;color:var(--soft)}.box+.charts,.charts+.box{margin-top:12px}\
    .charts>.box:only-child{max-width:540px}td.bad{color:var(--bad)}td.good{color:var(--good)}";

/// Returns the page.
pub fn render(report: &Report, comparison: Option<(&Comparison<'_>, f64)>) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let names: Vec<&str> = report.suites.iter().map(|s| s.suite.as_str()).collect();
    let name = escaped(&names.join(", "));
    let _infallible = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\"><title>bench {name} · userferry</title>\
         <style>{STYLE}{MORE_STYLE}</style></head><body><main>"
    );
    out.push_str(&head(report, &name));
    out.push_str(&sentences(report));
    if let Some((comparison, threshold)) = comparison {
        out.push_str(&compared(comparison, threshold));
    }
    for suite in &report.suites {
        out.push_str(&suite_html(suite));
    }
    let _infallible = writeln!(
        out,
        "<footer>measured {} by userferry {} · {} runs each, the median shown unless said \
         otherwise</footer></main></body></html>",
        words::wall_time(report.at_ms),
        escaped(&report.machine.version),
        report.runs
    );
    out
}

fn head(report: &Report, name: &str) -> String {
    let machine = &report.machine;
    let memory = machine
        .memory_bytes
        .map_or_else(|| "-".to_owned(), |bytes| Unit::Bytes.shown(bytes as f64));
    let load = |load: Option<f64>| load.map_or_else(|| "-".to_owned(), |load| format!("{load:.2}"));
    let cards = [
        (machine.cores.to_string(), "cores"),
        (memory, "memory"),
        (machine.build.clone(), "build"),
        (load(report.load.before), "load before"),
        (load(report.load.after), "load after"),
    ];
    let mut out = format!(
        "<h1>bench {name}</h1><p class=\"sub\">{} · {}</p><section class=\"cards\">",
        escaped(&machine.cpu),
        escaped(&machine.os)
    );
    for (figure, words) in cards {
        let _infallible = write!(
            out,
            "<div class=\"card\"><b>{}</b><span>{words}</span></div>",
            escaped(&figure)
        );
    }
    out + "</section>"
}

/// What to do, and why to doubt it.
fn sentences(report: &Report) -> String {
    let advice = report.suites.iter().flat_map(|suite| suite.advice.iter());
    boxed("", advice) + &boxed("doubt", report.doubts().iter())
}

/// Nothing without sentences.
fn boxed<'a>(class: &str, sentences: impl Iterator<Item = &'a String>) -> String {
    let inner = sentences.fold(String::new(), |mut all, sentence| {
        let _infallible = write!(all, "<p>{}</p>", escaped(sentence));
        all
    });
    if inner.is_empty() {
        inner
    } else {
        format!("<div class=\"box advice-box {class}\">{inner}</div>")
    }
}

/// What changed, why to doubt it, and everything else for who unfolds it.
fn compared(comparison: &Comparison<'_>, threshold: f64) -> String {
    let changes = &comparison.changes;
    format!(
        "<h2>Compared with before</h2>{}<div class=\"box wide\"><p class=\"about\">{} measures, {} \
         worse by more than {:.0} % and beyond every earlier run.</p>{}<details>\
         <summary>all measures</summary>{}</details></div>",
        boxed("doubt", comparison.doubts.iter()),
        changes.len(),
        comparison.regressions(),
        threshold * 100.0,
        changes_table(comparison.changed()),
        changes_table(changes.iter())
    )
}

/// Nothing without changes.
fn changes_table<'a>(changes: impl Iterator<Item = &'a Change<'a>>) -> String {
    let rows = changes.fold(String::new(), |mut rows, change| {
        let tone = match change.verdict {
            Verdict::Regression => "bad",
            Verdict::Gain => "good",
            Verdict::Same => "",
        };
        let unit = change.now.unit;
        let (then, now) = (change.then.median(), change.now.median());
        let _infallible = write!(
            rows,
            "<tr><td>{} <code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n {tone}\">{}</td></tr>",
            escaped(change.suite),
            escaped(&change.now.name),
            escaped(&unit.shown(then)),
            escaped(&unit.shown(now)),
            text::percent(then, now)
        );
        rows
    });
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<table><tr><th></th><th class=\"n\">then</th><th class=\"n\">now</th>\
         <th class=\"n\">change</th></tr>{rows}</table>"
    )
}

fn suite_html(suite: &SuiteReport) -> String {
    let mut out = String::new();
    for section in &suite.sections {
        let _infallible = write!(
            out,
            "<h2>{} <small>{}</small></h2><p class=\"about\">{}</p>",
            escaped(&section.title),
            escaped(&suite.suite),
            escaped(&section.about)
        );
        out.push_str(&section_html(section));
    }
    out
}

fn section_html(section: &Section) -> String {
    let mut out = String::new();
    if !section.charts.is_empty() {
        out.push_str("<section class=\"charts\">");
        for chart in &section.charts {
            out.push_str(&chart::draw(chart));
        }
        out.push_str("</section>");
    }
    out.push_str("<div class=\"box wide\">");
    out.push_str(&table_html(&text::table_of(section)));
    if let Some(spread) = text::spread_table(section) {
        out.push_str("<p class=\"soft\">Single operations</p>");
        out.push_str(&table_html(&spread));
    }
    for measure in &section.measures {
        if let Some(note) = &measure.note {
            let name = escaped(&measure.name);
            let _infallible = write!(
                out,
                "<p class=\"soft\"><code>{name}</code> {}</p>",
                escaped(note)
            );
        }
    }
    out + "</div>"
}

fn table_html(table: &Table) -> String {
    let class = |align| match align {
        Align::Left => "",
        Align::Right => " class=\"n\"",
    };
    let mut out = "<table><tr>".to_owned();
    for column in &table.columns {
        let title = escaped(&column.title);
        let _infallible = write!(out, "<th{}>{title}</th>", class(column.align));
    }
    out.push_str("</tr>");
    for row in &table.rows {
        out.push_str("<tr>");
        for (column, cell) in table.columns.iter().zip(row) {
            let _infallible = write!(out, "<td{}>{}</td>", class(column.align), escaped(cell));
        }
        out.push_str("</tr>");
    }
    out + "</table>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report_of;
    use crate::bench::{Chart, ChartKind, Measure, Series};

    /// Checks that elements are closed in the order in which they were opened.
    fn assert_well_formed(html: &str) {
        let mut open = Vec::new();
        for tag in html.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{html}");
            } else if !tag.starts_with('!') && !tag.ends_with('/') && name != "meta" {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_page_is_whole_and_nothing_in_it_is_markup() {
        let mut report = report_of(vec![
            Measure::new("dry/<b>", Unit::RowsPerSecond, vec![1.0, 2.0]).note("a & b"),
        ]);
        report.machine.cpu = "<script>".to_owned();
        for kind in [ChartKind::Bars, ChartKind::Lines] {
            report.suites[0].sections[0].charts.push(Chart {
                title: "Rows <i>".to_owned(),
                unit: Unit::RowsPerSecond,
                kind,
                x: "workers".to_owned(),
                labels: vec!["1".to_owned(), "2".to_owned()],
                series: vec![
                    Series::new("measured", [10.0, 20.0]),
                    Series {
                        name: "predicted".to_owned(),
                        values: vec![None, Some(19.0)],
                        dashed: true,
                    },
                ],
            });
        }
        let then = report.clone();
        let comparison = crate::bench::compare::compare(&then, &report, 0.15);
        let html = render(&report, Some((&comparison, 0.15)));
        assert_well_formed(&html);
        for bad in ["<script", "<b>d", "<i>", "http://", "https://", "url("] {
            assert!(!html.contains(bad), "{bad}");
        }
        assert_eq!(html.matches("<svg").count(), 2);
        assert!(html.contains("Use 2 workers."));
    }

    #[test]
    fn what_changed_comes_first_with_its_doubts_and_the_rest_is_folded() {
        let report = |rate: f64| {
            report_of(vec![
                Measure::new("dry/1", Unit::RowsPerSecond, vec![rate]),
                Measure::new("dry/2", Unit::RowsPerSecond, vec![5.0]),
            ])
        };
        let (then, now) = (report(10.0), report(5.0));
        let page = |then: &Report| {
            let comparison = crate::bench::compare::compare(then, &now, 0.15);
            let html = render(&now, Some((&comparison, 0.15)));
            assert_well_formed(&html);
            let (shown, folded) = html.split_once("<details>").unwrap();
            let named = |html: &str, name| html.matches(&format!("<code>{name}</code>")).count();
            assert_eq!((named(folded, "dry/1"), named(folded, "dry/2")), (1, 1));
            let doubted = shown.contains("dry/1 changed and ran once");
            (named(shown, "dry/1"), named(shown, "dry/2"), doubted)
        };
        assert_eq!(page(&then), (1, 0, true));
        assert_eq!(page(&now), (0, 0, false));
    }
}
