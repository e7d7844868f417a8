//! A measurement as people read it on a terminal 80 characters wide.

use super::compare::{Comparison, Verdict};
use super::{Align, Measure, Report, Section, SuiteReport, Table, Unit, stats};
use crate::report::words;
use std::fmt::Write as _;

/// Width that words are broken to.
const WIDTH: usize = 79;

/// Returns the whole report.
pub fn render(report: &Report) -> String {
    let machine = &report.machine;
    let memory = machine.memory_bytes.map_or_else(String::new, |bytes| {
        format!(" · {}", Unit::Bytes.shown(bytes as f64))
    });
    let mut out = wrapped(
        &format!(
            "{} cores · {}{memory} · {} · userferry {} {}",
            machine.cores, machine.cpu, machine.os, machine.version, machine.build
        ),
        "",
    );
    if let (Some(before), Some(after)) = (report.load.before, report.load.after) {
        let _infallible = writeln!(out, "load {before:.2} before, {after:.2} after");
    }
    for suite in &report.suites {
        out.push_str(&suite_text(suite));
    }
    for doubt in report.doubts() {
        out.push_str(&wrapped(&format!("warning: {doubt}"), "  "));
    }
    for suite in &report.suites {
        for sentence in &suite.advice {
            out.push_str(&wrapped(&format!("advice: {sentence}"), "  "));
        }
    }
    out
}

fn suite_text(suite: &SuiteReport) -> String {
    let mut out = String::new();
    for section in &suite.sections {
        let _infallible = writeln!(out, "\n{} · {}", suite.suite, section.title);
        out.push_str(&wrapped(&section.about, "  "));
        out.push_str(&indented(&aligned(&table_of(section))));
        if let Some(spread) = spread_table(section) {
            out.push_str("\n  single operations\n");
            out.push_str(&indented(&aligned(&spread)));
        }
        for measure in &section.measures {
            if let Some(note) = &measure.note {
                out.push_str(&wrapped(&format!("{}: {note}", measure.name), "    "));
            }
        }
    }
    out.push('\n');
    out
}

/// Returns how people see a section.
pub(super) fn table_of(section: &Section) -> Table {
    section
        .table
        .clone()
        .unwrap_or_else(|| plain_table(&section.measures))
}

/// Returns a line for every measure.
fn plain_table(measures: &[Measure]) -> Table {
    let mut table = Table::new(&["", "median", "min – max", "runs"]);
    for measure in measures {
        let (low, high) = stats::range(&measure.values);
        let shown = |value| measure.unit.shown(value);
        let range = if measure.values.len() > 1 {
            range(&shown(low), &shown(high))
        } else {
            String::new()
        };
        table.row([
            measure.name.clone(),
            shown(measure.median()),
            range,
            measure.values.len().to_string(),
        ]);
    }
    table
}

/// Returns a range; its unit once, if it has one.
fn range(low: &str, high: &str) -> String {
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} – {high}"),
        _ => format!("{low} – {high}"),
    }
}

/// Returns the percentiles of what was timed one by one, if anything was.
pub(super) fn spread_table(section: &Section) -> Option<Table> {
    let mut table = Table::new(&["", "p50", "p95", "p99", "max", "timed"]);
    for measure in &section.measures {
        if let Some(spread) = measure.spread {
            let times = [spread.p50, spread.p95, spread.p99, spread.max];
            let shown = times.map(|value| measure.unit.shown(value));
            let count = words::count(spread.count);
            table.row(
                std::iter::once(measure.name.clone())
                    .chain(shown)
                    .chain([count]),
            );
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// Returns what became of the measures of an earlier run.
pub fn comparison(comparison: &Comparison<'_>, threshold: f64) -> String {
    let mut table = Table::new(&["compared", "then", "now", "change", ""]);
    if let Some(last) = table.columns.last_mut() {
        last.align = Align::Left;
    }
    for change in comparison.changed() {
        let shown = |measure: &Measure| measure.unit.shown(measure.median());
        let verdict = match change.verdict {
            Verdict::Regression => "worse",
            Verdict::Gain => "better",
            Verdict::Same => "",
        };
        table.row([
            format!("{} {}", change.suite, change.now.name),
            shown(change.then),
            shown(change.now),
            percent(change.then.median(), change.now.median()),
            verdict.to_owned(),
        ]);
    }
    let mut out = String::new();
    if !table.rows.is_empty() {
        out.push_str(&aligned(&table));
    }
    let worse = comparison.regressions();
    let all = words::counted(comparison.changes.len() as u64, "measure");
    let _infallible = writeln!(
        out,
        "{all} compared, {worse} worse by more than {:.0} % and beyond every earlier run; {} not in both",
        threshold * 100.0,
        comparison.unmatched
    );
    for doubt in &comparison.doubts {
        out.push_str(&wrapped(&format!("warning: {doubt}"), "  "));
    }
    out
}

/// Returns by how much a value changed, as `+12 %`.
pub(super) fn percent(then: f64, now: f64) -> String {
    if then.abs() > f64::MIN_POSITIVE {
        format!("{:+.0} %", (now - then) / then.abs() * 100.0)
    } else {
        String::new()
    }
}

/// Returns a table, each column as wide as its widest cell.
pub(super) fn aligned(table: &Table) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = table.columns.iter().map(|c| width(&c.title)).collect();
    for row in &table.rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let columns = table.columns.iter().zip(&widths);
        let cells: Vec<String> = columns
            .zip(cells)
            .map(|((column, width), cell)| match column.align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(&mut table.columns.iter().map(|column| column.title.as_str()));
    for row in &table.rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _infallible = writeln!(out, "  {line}");
        out
    })
}

/// Breaks words into lines; the second and later ones begin with `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            out.push_str(indent);
            column = indent.chars().count();
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    if column > 0 {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Percentiles;
    use crate::bench::compare::compare;
    use crate::bench::report::tests::report_of;

    #[test]
    fn a_report_fits_80_columns_and_says_everything() {
        let mut report = report_of(vec![
            Measure::new("lease/1000000/fsync", Unit::Seconds, vec![0.2, 0.3, 0.4])
                .spread(Percentiles::of(&mut [0.1, 0.2, 0.9]))
                .note("what a person should know about this measure, told at such length that it has to be broken"),
        ]);
        report.load.before = Some(3.0);
        report.load.after = Some(3.5);
        let text = render(&report);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        for words in [
            "2 cores",
            "workers · dry run",
            "300 ms",
            "200 – 400 ms",
            "p99",
            "900 ms",
            "busy before",
            "lie apart",
            "advice: Use 2 workers.",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new(&["", "rows/s"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["bb".to_owned(), "1,000".to_owned()]);
        assert_eq!(aligned(&table), "    rows/s\na        1\nbb   1,000\n");
    }

    #[test]
    fn a_comparison_names_what_became_worse() {
        let report = |value: f64| {
            report_of(vec![
                Measure::new("a", Unit::RowsPerSecond, vec![value]),
                Measure::new("b", Unit::RowsPerSecond, vec![5.0]),
            ])
        };
        let (then, now) = (report(10.0), report(5.0));
        let text = comparison(&compare(&then, &now, 0.15), 0.15);
        assert!(text.contains("workers a"), "{text}");
        assert!(text.contains("-50 %  worse"), "{text}");
        assert!(!text.contains("workers b"), "{text}");
        assert!(text.contains("2 measures compared, 1 worse"), "{text}");
    }
}
