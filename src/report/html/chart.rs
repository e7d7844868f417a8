//! Charts over the time at work, as inline SVG: the runs one after the other.

use super::super::words;
use crate::ledger::{RunSeries, Sample};
use std::fmt::Write as _;
use std::time::Duration;

/// Size of a chart in its own units.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 200.0;
/// Room for the labels of the axes.
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 20.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 8.0;

/// Points drawn at most: more cannot be told apart.
const POINTS_MAX: usize = 600;

/// One interval of the time at work.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// Its middle, in seconds at work.
    at: f64,
    rows_per_s: f64,
    writes_per_s: f64,
    throttled: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// What happened over the runs.
#[derive(Debug, Default)]
struct Timeline {
    points: Vec<Point>,
    /// Where a run ended and another began.
    cuts: Vec<f64>,
    seconds: f64,
}

/// Returns the charts; a sentence when there is nothing to draw.
pub(super) fn charts(runs: &[RunSeries], writes_allowed: Option<f64>) -> String {
    let time = Timeline::of(runs);
    if time.points.len() < 2 {
        return "<h2>Over time</h2><div class=\"box soft\">The runs were too short to draw: there \
                is one point a second.</div>"
            .to_owned();
    }
    let line = |label: &'static str, color: &'static str, value: fn(&Point) -> f64| Line {
        label,
        color,
        value,
    };
    let mut out = "<h2>Over time</h2><section class=\"charts\">".to_owned();
    let charts = [
        Chart {
            title: "Rows settled",
            unit: "per second",
            lines: vec![line("rows", "--good", |point| point.rows_per_s)],
            limit: None,
            bars: false,
        },
        Chart {
            title: "Writes",
            unit: "per second",
            lines: vec![line("writes", "--a", |point| point.writes_per_s)],
            limit: writes_allowed,
            bars: false,
        },
        Chart {
            title: "Latency",
            unit: "ms",
            lines: vec![
                line("p99", "--b", |point| point.p99_ms),
                line("p50", "--a", |point| point.p50_ms),
            ],
            limit: None,
            bars: false,
        },
        Chart {
            title: "Throttled",
            unit: "answers 429",
            lines: vec![line("429", "--warn", |point| point.throttled)],
            limit: None,
            bars: true,
        },
    ];
    for chart in charts {
        out.push_str(&chart.draw(&time));
    }
    out + "</section>"
}

impl Timeline {
    fn of(runs: &[RunSeries]) -> Self {
        let mut time = Self::default();
        for run in runs.iter().filter(|run| !run.samples.is_empty()) {
            if time.seconds > 0.0 {
                time.cuts.push(time.seconds);
            }
            time.add(run);
        }
        let group = time.points.len().div_ceil(POINTS_MAX).max(1);
        time.points = time.points.chunks(group).filter_map(merged).collect();
        time
    }

    fn add(&mut self, run: &RunSeries) {
        let base = self.seconds;
        let end = run.last.as_ref().map_or(0.0, |last| last.elapsed_s);
        let mut before = Sample::default();
        for (at, sample) in run.samples.iter().enumerate() {
            let from = sample.at_s as f64;
            let until = match run.samples.get(at + 1) {
                Some(next) => next.at_s as f64,
                // The last interval ends with the run, and may be a sliver: too short to measure.
                None => end.max(from),
            };
            let seconds = until - from;
            if seconds >= 0.5 {
                let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
                self.points.push(Point {
                    at: base + from + seconds / 2.0,
                    rows_per_s: rate(sample.settled, before.settled),
                    writes_per_s: rate(sample.writes, before.writes),
                    throttled: sample.throttled.saturating_sub(before.throttled) as f64,
                    p50_ms: sample.p50_ms,
                    p99_ms: sample.p99_ms,
                });
                before = *sample;
            }
            self.seconds = base + until;
        }
    }
}

/// Makes one point of several.
fn merged(points: &[Point]) -> Option<Point> {
    let n = points.len() as f64;
    let mean = |value: fn(&Point) -> f64| points.iter().map(value).sum::<f64>() / n;
    let highest = |value: fn(&Point) -> f64| points.iter().map(value).fold(0.0, f64::max);
    points.first().map(|_| Point {
        at: mean(|point| point.at),
        rows_per_s: mean(|point| point.rows_per_s),
        writes_per_s: mean(|point| point.writes_per_s),
        throttled: mean(|point| point.throttled) * n,
        p50_ms: mean(|point| point.p50_ms),
        p99_ms: highest(|point| point.p99_ms),
    })
}

struct Line {
    label: &'static str,
    color: &'static str,
    value: fn(&Point) -> f64,
}

struct Chart {
    title: &'static str,
    unit: &'static str,
    lines: Vec<Line>,
    limit: Option<f64>,
    bars: bool,
}

impl Chart {
    fn draw(&self, time: &Timeline) -> String {
        let values = self
            .lines
            .iter()
            .flat_map(|line| time.points.iter().map(line.value));
        let top = nice(values.chain(self.limit).fold(0.0, f64::max));
        let scale = Scale {
            seconds: time.seconds.max(1.0),
            top,
        };
        let mut out = format!(
            "<div class=\"box\"><h3>{}{}</h3><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{} over time\">",
            self.title,
            self.legend(time),
            self.title
        );
        out.push_str(&scale.axes());
        for cut in &time.cuts {
            let x = scale.x(*cut);
            let _infallible = write!(
                out,
                "<line class=\"cut\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
                HEIGHT - BOTTOM
            );
        }
        if let Some(limit) = self.limit {
            let y = scale.y(limit);
            let _infallible = write!(
                out,
                "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            );
        }
        for line in &self.lines {
            out.push_str(&if self.bars {
                scale.bars(time, line)
            } else {
                scale.polyline(time, line)
            });
        }
        out + "</svg></div>"
    }

    /// Names the lines, with their highest values.
    fn legend(&self, time: &Timeline) -> String {
        let mut out = format!("<span>{}</span>", self.unit);
        for line in &self.lines {
            let highest = time.points.iter().map(line.value).fold(0.0, f64::max);
            let _infallible = write!(
                out,
                "<span><i class=\"dot\" style=\"background:var({})\"></i>{} ≤ {}</span>",
                line.color,
                line.label,
                words::rate(highest)
            );
        }
        if let Some(limit) = self.limit {
            let _infallible = write!(out, "<span>limit {}</span>", words::rate(limit));
        }
        out
    }
}

struct Scale {
    seconds: f64,
    top: f64,
}

impl Scale {
    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (second / self.seconds).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let height = HEIGHT - BOTTOM - TOP;
        TOP + height * (1.0 - (value / self.top).clamp(0.0, 1.0))
    }

    fn axes(&self) -> String {
        let mut out = String::new();
        for step in 0..=4 {
            let value = self.top * f64::from(step) / 4.0;
            let y = self.y(value);
            let _infallible = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                label(value)
            );
        }
        for (part, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
            let second = self.seconds * part;
            let time = Duration::try_from_secs_f64(second.round()).unwrap_or_default();
            let words = if second < 60.0 {
                format!("{second:.0} s")
            } else {
                words::duration(time)
            };
            let _infallible = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>",
                self.x(second),
                HEIGHT - 4.0
            );
        }
        out
    }

    /// Draws a line that is interrupted where a run ended.
    fn polyline(&self, time: &Timeline, line: &Line) -> String {
        let mut path = String::new();
        let mut cuts = time.cuts.iter().copied().peekable();
        let mut pen = 'M';
        for point in &time.points {
            while cuts.next_if(|cut| *cut <= point.at).is_some() {
                pen = 'M';
            }
            let (x, y) = (self.x(point.at), self.y((line.value)(point)));
            let _infallible = write!(path, "{pen}{x:.1} {y:.1}");
            pen = 'L';
        }
        format!(
            "<path d=\"{path}\" fill=\"none\" stroke-width=\"1.6\" stroke-linejoin=\"round\" \
             stroke-linecap=\"round\" style=\"stroke:var({})\"/>",
            line.color
        )
    }

    fn bars(&self, time: &Timeline, line: &Line) -> String {
        let width = ((WIDTH - LEFT - RIGHT) / time.points.len() as f64 * 0.8).clamp(1.0, 14.0);
        let mut out = String::new();
        for point in &time.points {
            let value = (line.value)(point);
            if value > 0.0 {
                let y = self.y(value);
                let _infallible = write!(
                    out,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
                     style=\"fill:var({})\"/>",
                    self.x(point.at) - width / 2.0,
                    HEIGHT - BOTTOM - y,
                    line.color
                );
            }
        }
        out
    }
}

/// Returns the next number of the form 1, 2, 4, 5, 8 or 10 times a power of ten: quarters of it
/// are easy to read.
fn nice(highest: f64) -> f64 {
    if !highest.is_finite() || highest <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(highest.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    let step = steps
        .into_iter()
        .find(|step| step * power >= highest * 0.999);
    step.unwrap_or(10.0) * power
}

fn label(value: f64) -> String {
    if value >= 1000.0 {
        words::count(words::whole(value))
    } else if value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}").trim_end_matches('0').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: u64, rows_per_s: u64) -> RunSeries {
        let samples = (0..seconds).map(|at_s| Sample {
            at_s,
            settled: (at_s + 1) * rows_per_s,
            writes: (at_s + 1) * 50,
            throttled: at_s / 10,
            ..Sample::default()
        });
        RunSeries {
            run: 1,
            started_ms: 0,
            last: None,
            samples: samples.collect(),
        }
    }

    #[test]
    fn runs_follow_each_other_and_speeds_are_per_second() {
        let time = Timeline::of(&[run(10, 7), run(5, 3)]);
        assert_eq!(time.cuts, [9.0]);
        assert_eq!(time.points.len(), 9 + 4);
        assert!(
            time.points
                .iter()
                .take(9)
                .all(|point| (point.rows_per_s - 7.0).abs() < 1e-9)
        );
        assert!(
            time.points
                .iter()
                .skip(9)
                .all(|point| (point.rows_per_s - 3.0).abs() < 1e-9)
        );
    }

    #[test]
    fn many_points_become_few_and_no_429_is_lost() {
        let time = Timeline::of(&[run(5000, 7)]);
        assert!(time.points.len() <= POINTS_MAX, "{}", time.points.len());
        let throttled: f64 = time.points.iter().map(|point| point.throttled).sum();
        assert!((throttled - 499.0).abs() < 1.5, "{throttled}");
    }

    #[test]
    fn axes_end_at_numbers_people_like() {
        for (highest, top) in [
            (0.0, 1.0),
            (49.9, 50.0),
            (51.0, 80.0),
            (0.3, 0.4),
            (1200.0, 2000.0),
        ] {
            assert!((nice(highest) - top).abs() < 1e-9, "{highest}");
        }
        assert_eq!(
            [0.0, 12.5, 250.0, 2500.0].map(label),
            ["0", "12.5", "250", "2,500"]
        );
    }
}
