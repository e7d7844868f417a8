//! Holds a measurement against an earlier one: pure.
//!
//! A measure is a regression when its median is worse by more than the threshold *and* no run of
//! now is as good as any run of then: what noise explains is not reported.

use super::{Better, Measure, Report, stats};
use std::collections::BTreeMap;

/// One measure then and now.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    /// Its suite.
    pub suite: &'a str,
    /// Then.
    pub then: &'a Measure,
    /// Now.
    pub now: &'a Measure,
    /// By which share of then it is worse; negative: better.
    pub worse: f64,
    /// What to call it.
    pub verdict: Verdict,
}

/// What to call a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Worse than noise explains.
    Regression,
    /// Better than noise explains.
    Gain,
    /// Neither.
    Same,
}

/// Everything that was measured both times.
#[derive(Clone, Debug, Default)]
pub struct Comparison<'a> {
    /// In the order of now.
    pub changes: Vec<Change<'a>>,
    /// Measures that only one of them has.
    pub unmatched: usize,
    /// Why the two may not be comparable.
    pub doubts: Vec<String>,
}

impl<'a> Comparison<'a> {
    /// Returns what noise does not explain.
    pub fn changed(&self) -> impl Iterator<Item = &Change<'a>> {
        let changes = self.changes.iter();
        changes.filter(|change| change.verdict != Verdict::Same)
    }

    /// Returns how many measures became worse.
    pub fn regressions(&self) -> usize {
        let changes = self.changes.iter();
        changes
            .filter(|change| change.verdict == Verdict::Regression)
            .count()
    }
}

/// Compares; `threshold` is a share, such as 0.15.
pub fn compare<'a>(then: &'a Report, now: &'a Report, threshold: f64) -> Comparison<'a> {
    let mut earlier: BTreeMap<(&str, &str), &Measure> = then
        .measures()
        .map(|(suite, measure)| ((suite, measure.name.as_str()), measure))
        .collect();
    let mut comparison = Comparison {
        doubts: doubts(then, now),
        ..Comparison::default()
    };
    for (suite, measure) in now.measures() {
        match earlier.remove(&(suite, measure.name.as_str())) {
            Some(old) if old.unit == measure.unit && old.better == measure.better => {
                if measure.judged && old.judged {
                    let change = change(suite, old, measure, threshold);
                    comparison.changes.push(change);
                }
            }
            _ => comparison.unmatched += 1,
        }
    }
    comparison.unmatched += earlier.len();
    let doubt = single_runs(&comparison);
    comparison.doubts.extend(doubt);
    comparison
}

/// One run beside one run says nothing of noise.
fn single_runs(comparison: &Comparison<'_>) -> Option<String> {
    let is_single =
        |change: &&Change<'_>| change.then.values.len().min(change.now.values.len()) == 1;
    let mut single = comparison.changed().filter(is_single);
    let first = single.next()?;
    let more = match single.count() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Some(format!(
        "{}{more} changed and ran once: measure again before you believe it",
        first.now.name
    ))
}

fn change<'a>(suite: &'a str, then: &'a Measure, now: &'a Measure, threshold: f64) -> Change<'a> {
    let (old, new) = (then.median(), now.median());
    let sign = match now.better {
        Better::Higher => -1.0,
        Better::Lower => 1.0,
    };
    // From or to nothing is no share of anything: such a change counts as one whole.
    let worse = if old.abs() > f64::MIN_POSITIVE {
        sign * (new - old) / old.abs()
    } else if (new - old).abs() > f64::MIN_POSITIVE {
        sign * (new - old).signum()
    } else {
        0.0
    };
    let (then_low, then_high) = stats::range(&then.values);
    let (now_low, now_high) = stats::range(&now.values);
    let apart = now_low > then_high || now_high < then_low;
    let verdict = match (apart, worse) {
        (true, worse) if worse > threshold => Verdict::Regression,
        (true, worse) if worse < -threshold => Verdict::Gain,
        _ => Verdict::Same,
    };
    Change {
        suite,
        then,
        now,
        worse,
        verdict,
    }
}

fn doubts(then: &Report, now: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    let (old, new) = (&then.machine, &now.machine);
    if (&old.cpu, old.cores) != (&new.cpu, new.cores) {
        doubts.push(format!(
            "the earlier figures are of another machine ({} cores, {})",
            old.cores, old.cpu
        ));
    }
    if old.build != new.build {
        doubts.push(format!(
            "the earlier figures are of a {} build, these of a {} build",
            old.build, new.build
        ));
    }
    if let (Some(old), Some(new)) = (&then.asked, &now.asked)
        && old != new
    {
        doubts.push(format!(
            "the earlier figures are of `bench {old}`, these of `bench {new}`: sizes may differ"
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Unit;
    use crate::bench::report::tests::report_of;

    fn verdict(unit: Unit, then: &[f64], now: &[f64]) -> Verdict {
        let report = |values: &[f64]| report_of(vec![Measure::new("m", unit, values.to_vec())]);
        let (then, now) = (report(then), report(now));
        compare(&then, &now, 0.15).changes[0].verdict
    }

    #[test]
    fn only_what_noise_does_not_explain_is_a_regression() {
        let rate = Unit::RowsPerSecond;
        let then = [95.0, 100.0, 105.0];
        for (now, expected) in [
            ([75.0, 80.0, 85.0], Verdict::Regression),
            // Worse by a fifth, but one run was as good as one of then.
            ([70.0, 80.0, 96.0], Verdict::Same),
            // Apart, but by less than the threshold.
            ([88.0, 90.0, 94.0], Verdict::Same),
            ([120.0, 130.0, 140.0], Verdict::Gain),
            (then, Verdict::Same),
        ] {
            assert_eq!(verdict(rate, &then, &now), expected, "{now:?}");
        }
    }

    #[test]
    fn less_is_better_for_times_and_sizes() {
        assert_eq!(verdict(Unit::Seconds, &[1.0], &[1.2]), Verdict::Regression);
        assert_eq!(verdict(Unit::Seconds, &[1.0], &[0.8]), Verdict::Gain);
        assert_eq!(verdict(Unit::Bytes, &[1.0], &[1.1]), Verdict::Same);
        assert_eq!(verdict(Unit::Count, &[0.0], &[3.0]), Verdict::Regression);
        assert_eq!(verdict(Unit::Count, &[0.0], &[0.0]), Verdict::Same);
    }

    #[test]
    fn what_cannot_be_compared_is_counted_and_told() {
        let measure = |name: &str, unit| Measure::new(name, unit, vec![1.0]);
        let then = report_of(vec![
            measure("gone", Unit::Count),
            measure("other", Unit::Bytes),
            measure("both", Unit::Count),
            measure("disk", Unit::Seconds).circumstance(),
        ]);
        let mut now = report_of(vec![
            measure("new", Unit::Count),
            measure("other", Unit::Seconds),
            measure("both", Unit::Count),
            measure("disk", Unit::Seconds).circumstance(),
        ]);
        now.machine.cores = 8;
        now.asked = Some("workers --rows 40".to_owned());
        let comparison = compare(&then, &now, 0.15);
        assert_eq!(comparison.changes.len(), 1);
        assert_eq!(comparison.unmatched, 3);
        assert_eq!(comparison.regressions(), 0);
        assert_eq!(comparison.doubts.len(), 1);
        let then = Report {
            asked: Some("workers --rows 20".to_owned()),
            ..then.clone()
        };
        let doubts = compare(&then, &now, 0.15).doubts;
        assert!(
            doubts.iter().any(|it| it.contains("--rows 20`")),
            "{doubts:?}"
        );
    }

    #[test]
    fn what_ran_once_and_changed_is_doubted() {
        let report = |values: &[f64]| {
            let names = ["a", "b"];
            let measure = |name| Measure::new(name, Unit::RowsPerSecond, values.to_vec());
            report_of(names.map(measure).to_vec())
        };
        let doubts = |then: &[f64], now: &[f64]| compare(&report(then), &report(now), 0.15).doubts;
        assert_eq!(
            doubts(&[9.0], &[5.0]),
            ["a and 1 more changed and ran once: measure again before you believe it"]
        );
        assert!(doubts(&[9.0], &[9.1]).is_empty());
        assert!(doubts(&[9.0, 9.2], &[5.0, 5.1]).is_empty());
    }
}
