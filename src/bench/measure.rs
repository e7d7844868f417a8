//! The words suites report in. They are also the file of `--json`, so that fields are added and
//! never renamed.

use super::stats::{self, Percentiles};
use serde::{Deserialize, Serialize};

/// What a number counts. Times are in seconds and sizes in bytes; they are scaled when shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Rows per second.
    RowsPerSecond,
    /// Requests per second.
    RequestsPerSecond,
    /// Events per second.
    EventsPerSecond,
    /// Messages per second.
    MessagesPerSecond,
    /// Operations of another kind per second.
    OperationsPerSecond,
    /// Bytes per second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share: 0.98 is shown as 98.0 %.
    Share,
    /// How many times as much: 1.5 is shown as 1.50 x.
    Ratio,
    /// A number of things.
    Count,
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More of it.
    Higher,
    /// Less of it.
    Lower,
}

/// One thing measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// A stable key, such as `lease/1000000/fsync`: what an earlier run is compared by. Unique in
    /// its suite.
    pub name: String,
    /// What the values count.
    pub unit: Unit,
    /// Which way is good.
    pub better: Better,
    /// A value per run; the warm-up is not among them. Never empty.
    pub values: Vec<f64>,
    /// Single operations in the same unit, where they were timed one by one: of all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Percentiles>,
    /// Whether it says something about the product, so that getting worse is a regression; false
    /// for what only describes the circumstances, such as the speed of the bare disk.
    #[serde(default = "yes")]
    pub judged: bool,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

const fn yes() -> bool {
    true
}

impl Measure {
    /// Makes a measure of these runs; rates and ratios are better higher, the rest lower.
    pub fn new(name: impl Into<String>, unit: Unit, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            better: unit.better(),
            values,
            spread: None,
            judged: true,
            note: None,
        }
    }

    /// Says which way is good, where the unit's own way is not it.
    #[must_use]
    pub fn better(mut self, better: Better) -> Self {
        self.better = better;
        self
    }

    /// Adds the spread of single operations.
    #[must_use]
    pub fn spread(mut self, spread: Option<Percentiles>) -> Self {
        self.spread = spread;
        self
    }

    /// Makes it a circumstance, which an earlier run is not compared by.
    #[must_use]
    pub fn circumstance(mut self) -> Self {
        self.judged = false;
        self
    }

    /// Adds what a person should know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Returns the median of its runs.
    pub fn median(&self) -> f64 {
        stats::median(&self.values)
    }
}

/// What belongs together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// A stable key.
    pub title: String,
    /// What was done and how it is to be read, in a sentence or two.
    pub about: String,
    /// Everything that was measured.
    pub measures: Vec<Measure>,
    /// How people see it; without one, a line for every measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
    /// What the page draws; without one, nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charts: Vec<Chart>,
}

/// Rows and columns for people; 80 characters wide at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// As many cells in each as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its head.
    pub title: String,
    /// Which side its cells keep to.
    pub align: Align,
}

/// Which side cells keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

impl Table {
    /// Makes a table without rows: the first column holds words, the others numbers.
    pub fn new(titles: &[&str]) -> Self {
        let column = |(at, title): (usize, &&str)| Column {
            title: (*title).to_owned(),
            align: if at == 0 { Align::Left } else { Align::Right },
        };
        Self {
            columns: titles.iter().enumerate().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChartKind {
    /// Bars side by side: kinds of things.
    Bars,
    /// Points joined by lines: a size that grows from label to label.
    Lines,
}

/// A picture of a section for the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// Its head.
    pub title: String,
    /// What the values count.
    pub unit: Unit,
    /// How they are drawn.
    pub kind: ChartKind,
    /// What the labels are, such as `workers`.
    pub x: String,
    /// The labels from left to right.
    pub labels: Vec<String>,
    /// What is drawn; at most four of them can be told apart.
    pub series: Vec<Series>,
}

/// One colour of a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// A value per label, or none.
    pub values: Vec<Option<f64>>,
    /// Not measured: a limit or a prediction.
    #[serde(default)]
    pub dashed: bool,
}

impl Series {
    /// Makes a series of measured values.
    pub fn new(name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self {
            name: name.into(),
            values: values.into_iter().map(Some).collect(),
            dashed: false,
        }
    }

    /// Makes it one of values that were not measured.
    #[must_use]
    pub fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }
}

/// What a suite found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SuiteReport {
    /// Its word on the command line.
    pub suite: String,
    /// What was measured.
    pub sections: Vec<Section>,
    /// What a person should do, in whole sentences; the first one is the most important.
    pub advice: Vec<String>,
}

impl Unit {
    /// Returns which way is good, unless a measure says otherwise.
    pub const fn better(self) -> Better {
        match self {
            Self::RowsPerSecond
            | Self::RequestsPerSecond
            | Self::EventsPerSecond
            | Self::MessagesPerSecond
            | Self::OperationsPerSecond
            | Self::BytesPerSecond
            | Self::Ratio => Better::Higher,
            Self::Seconds | Self::Bytes | Self::Share | Self::Count => Better::Lower,
        }
    }

    /// Returns what follows the number of a rate.
    const fn rate_word(self) -> Option<&'static str> {
        match self {
            Self::RowsPerSecond => Some("rows/s"),
            Self::RequestsPerSecond => Some("req/s"),
            Self::EventsPerSecond => Some("events/s"),
            Self::MessagesPerSecond => Some("msg/s"),
            Self::OperationsPerSecond => Some("ops/s"),
            Self::BytesPerSecond
            | Self::Seconds
            | Self::Bytes
            | Self::Share
            | Self::Ratio
            | Self::Count => None,
        }
    }

    /// Returns a value with its unit, three or four digits that matter: `1.23 ms`, `45,678 rows/s`.
    pub fn shown(self, value: f64) -> String {
        use crate::report::words;
        if !value.is_finite() {
            return "-".to_owned();
        }
        if let Some(word) = self.rate_word() {
            return format!("{} {word}", words::rate(value));
        }
        match self {
            Self::BytesPerSecond => format!("{}/s", bytes(value)),
            Self::Bytes => bytes(value),
            Self::Seconds => seconds(value),
            Self::Share => format!("{:.1} %", value * 100.0),
            Self::Ratio => format!("{value:.2} x"),
            _ => words::count(words::whole(value)),
        }
    }
}

fn bytes(value: f64) -> String {
    let scales = [
        (1_073_741_824.0, "GiB"),
        (1_048_576.0, "MiB"),
        (1024.0, "KiB"),
    ];
    match scales.iter().find(|(scale, _)| value >= *scale) {
        Some((scale, word)) => format!("{} {word}", digits(value / scale)),
        None => format!("{} B", digits(value)),
    }
}

fn seconds(value: f64) -> String {
    let scales = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];
    match scales.iter().find(|(scale, _)| value >= *scale) {
        Some((scale, word)) => format!("{} {word}", digits(value / scale)),
        None => format!("{:.0} ns", value * 1e9),
    }
}

/// Returns a number with the digits that matter.
fn digits(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        crate::report::words::count(crate::report::words::whole(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        let shown = [
            (Unit::RowsPerSecond, 45_678.4, "45,678 rows/s"),
            (Unit::Seconds, 0.001_234, "1.23 ms"),
            (Unit::Seconds, 12.34, "12.3 s"),
            (Unit::Seconds, 4e-8, "40 ns"),
            (Unit::Bytes, 33_554_432.0, "32.0 MiB"),
            (Unit::BytesPerSecond, 3.4e9, "3.17 GiB/s"),
            (Unit::Share, 0.976, "97.6 %"),
            (Unit::Ratio, 1.5, "1.50 x"),
            (Unit::Count, 500.0, "500"),
            (Unit::Seconds, f64::NAN, "-"),
        ];
        for (unit, value, words) in shown {
            assert_eq!(unit.shown(value), words);
        }
    }

    #[test]
    fn a_measure_survives_its_file() {
        let measure = Measure::new("lease/1000/fsync", Unit::Seconds, vec![0.25, 0.5, 0.125])
            .spread(Percentiles::of(&mut [0.5, 0.25, 1.0]))
            .note("on a disk");
        let text = serde_json::to_string(&measure).unwrap();
        assert_eq!(serde_json::from_str::<Measure>(&text).unwrap(), measure);
        assert!(text.contains(r#""unit":"seconds""#), "{text}");
        assert!((measure.median() - 0.25).abs() < f64::EPSILON);
    }
}
