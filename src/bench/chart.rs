//! Charts of a section as inline SVG.

use super::{Chart, ChartKind, Series, Unit};
use crate::report::html::escaped;
use std::fmt::Write as _;

/// Size of a chart in its own units.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 220.0;
/// Room for the labels of the axes.
const LEFT: f64 = 92.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 12.0;

/// Lines across.
const STEPS: u32 = 4;

/// Share of a label's place that its bars fill.
const FILL: f64 = 0.7;

/// Colours of the style sheet, in order of use.
const COLORS: [&str; 4] = ["--a", "--good", "--b", "--warn"];

/// Where values and labels lie.
struct Scale {
    top: f64,
    labels: f64,
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value / self.top).clamp(0.0, 1.0)
    }

    /// Width of a label's place.
    fn place(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.labels
    }

    /// The middle of a label's place.
    fn x(&self, at: usize) -> f64 {
        LEFT + self.place() * (at as f64 + 0.5)
    }
}

/// Returns a box with the chart in it.
pub(super) fn draw(chart: &Chart) -> String {
    let values = chart.series.iter().flat_map(|series| &series.values);
    let highest = values.flatten().copied().fold(0.0, f64::max);
    let scale = Scale {
        top: nice(highest),
        labels: chart.labels.len().max(1) as f64,
    };
    let title = escaped(&chart.title);
    let mut out = format!(
        "<div class=\"box\"><h3>{title}{}</h3><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}\">",
        legend(chart)
    );
    out.push_str(&axes(chart, &scale));
    let bars = chart.series.iter().filter(|series| !series.dashed).count();
    let mut bar = 0;
    for (series, color) in chart.series.iter().zip(COLORS.iter().cycle()) {
        if chart.kind == ChartKind::Bars && !series.dashed {
            out.push_str(&bars_of(chart, series, &scale, (bar, bars, color)));
            bar += 1;
        } else {
            out.push_str(&line_of(chart, series, &scale, color));
        }
    }
    out + "</svg></div>"
}

fn legend(chart: &Chart) -> String {
    if chart.series.len() < 2 {
        return String::new();
    }
    let series = chart.series.iter().zip(COLORS.iter().cycle());
    series.fold(String::new(), |mut out, (series, color)| {
        let _infallible = write!(
            out,
            "<span><span class=\"dot\" style=\"background:var({color})\"></span>{}</span>",
            escaped(&series.name)
        );
        out
    })
}

fn axes(chart: &Chart, scale: &Scale) -> String {
    let mut out = String::new();
    for step in 0..=STEPS {
        let value = scale.top * f64::from(step) / f64::from(STEPS);
        let y = scale.y(value);
        let _infallible = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            escaped(&axis_value(chart.unit, value))
        );
    }
    for (at, label) in chart.labels.iter().enumerate() {
        let _infallible = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            scale.x(at),
            HEIGHT - BOTTOM + 15.0,
            escaped(label)
        );
    }
    let _infallible = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 4.0,
        escaped(&chart.x)
    );
    out
}

fn axis_value(unit: Unit, value: f64) -> String {
    if value.abs() < f64::MIN_POSITIVE {
        "0".to_owned()
    } else {
        unit.shown(value)
    }
}

fn bars_of(
    chart: &Chart,
    series: &Series,
    scale: &Scale,
    (bar, bars, color): (usize, usize, &str),
) -> String {
    let width = scale.place() * FILL / bars.max(1) as f64;
    let mut out = String::new();
    for (at, value) in series.values.iter().enumerate() {
        let Some(value) = value else { continue };
        let x = scale.x(at) - scale.place() * FILL / 2.0 + width * bar as f64;
        let y = scale.y(*value);
        let _infallible = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" \
             style=\"fill:var({color})\"><title>{}</title></rect>",
            (width - 2.0).max(1.0),
            (HEIGHT - BOTTOM - y).max(0.5),
            tooltip(chart, series, at, *value)
        );
    }
    out
}

fn line_of(chart: &Chart, series: &Series, scale: &Scale, color: &str) -> String {
    let (mut path, mut dots) = (String::new(), String::new());
    let mut pen = 'M';
    for (at, value) in series.values.iter().enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let (x, y) = (scale.x(at), scale.y(*value));
        let _infallible = write!(path, "{pen}{x:.1} {y:.1}");
        let _infallible = write!(
            dots,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" style=\"fill:var({color})\">\
             <title>{}</title></circle>",
            tooltip(chart, series, at, *value)
        );
        pen = 'L';
    }
    let dash = if series.dashed {
        ";stroke-dasharray:6 4"
    } else {
        ""
    };
    format!(
        "<path d=\"{path}\" style=\"fill:none;stroke-width:2;stroke:var({color}){dash}\"/>{dots}"
    )
}

fn tooltip(chart: &Chart, series: &Series, at: usize, value: f64) -> String {
    let label = chart.labels.get(at).map_or("", String::as_str);
    escaped(&format!(
        "{} {label}, {}: {}",
        chart.x,
        series.name,
        chart.unit.shown(value)
    ))
}

/// Returns the next number above that divides well into steps.
fn nice(highest: f64) -> f64 {
    if !highest.is_finite() || highest <= 0.0 {
        return 1.0;
    }
    let magnitude = 10f64.powf(highest.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    let step = steps.iter().find(|step| **step * magnitude >= highest);
    step.unwrap_or(&10.0) * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_ends_a_little_above_its_highest_value() {
        for (highest, top) in [(0.0, 1.0), (7.0, 8.0), (20_001.0, 24_000.0), (0.97, 1.0)] {
            assert!((nice(highest) - top).abs() < 1e-9, "{highest}");
        }
    }

    #[test]
    fn a_gap_is_not_drawn_across() {
        let chart = Chart {
            title: "t".to_owned(),
            unit: Unit::Count,
            kind: ChartKind::Lines,
            x: "n".to_owned(),
            labels: ["1", "2", "3"].map(str::to_owned).to_vec(),
            series: vec![Series {
                name: "s".to_owned(),
                values: vec![Some(1.0), None, Some(2.0)],
                dashed: false,
            }],
        };
        let svg = draw(&chart);
        assert_eq!(svg.matches("<circle").count(), 2);
        let path = svg.split("<path d=\"").nth(1).unwrap();
        assert_eq!(path.split('"').next().unwrap().matches('M').count(), 2);
    }
}
