//! Times of single operations and of whole runs: what the suites of the parts share.

use super::{BenchError, Measure, Percentiles, Unit};
use crate::model::{Mono, clock};
use std::path::Path;

/// How long something took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    /// Seconds on the clock.
    pub(super) wall: f64,
    /// Seconds of a core that the process used.
    pub(super) cpu: f64,
}

/// Does something and tells how long it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let (wall, cpu) = (Mono::now(), clock::process_cpu());
    let done = work();
    let cpu = clock::process_cpu().saturating_sub(cpu).as_secs_f64();
    let wall = Mono::now().since(wall).as_secs_f64();
    (done, Took { wall, cpu })
}

/// Does something that may fail and returns the seconds it took on the clock.
pub(super) fn seconds<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let before = Mono::now();
    let done = work()?;
    Ok((done, Mono::now().since(before).as_secs_f64()))
}

/// Returns how many per second; 0 of no time at all.
pub(super) fn per_second(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// Makes a measure of operations that were timed one by one: the median of every run, and the
/// spread of all of them. `None` when nothing was timed.
pub(super) fn of_operations(name: impl Into<String>, runs: &[Vec<f64>]) -> Option<Measure> {
    let medians: Vec<f64> = runs
        .iter()
        .filter(|run| !run.is_empty())
        .map(|run| super::stats::median(run))
        .collect();
    let spread = Percentiles::of(&mut runs.concat())?;
    Some(Measure::new(name, Unit::Seconds, medians).spread(Some(spread)))
}

/// Returns the cells `p50`, `p95`, `p99`, the largest and how many, for a table of such measures.
pub(super) fn spread_cells(measure: &Measure) -> [String; 5] {
    let Some(spread) = &measure.spread else {
        return std::array::from_fn(|_| "-".to_owned());
    };
    let shown = |value| Unit::Seconds.shown(value);
    [
        shown(spread.p50),
        shown(spread.p95),
        shown(spread.p99),
        shown(spread.max),
        crate::report::words::count(spread.count),
    ]
}

/// Returns the size of a file.
pub(super) fn size_of(path: &Path) -> Result<u64, BenchError> {
    let meta = std::fs::metadata(path).map_err(BenchError::io(path.display().to_string()))?;
    Ok(meta.len())
}

/// Removes a file that is not needed any more: the next size wants its room.
pub(super) fn remove(path: &Path) -> Result<(), BenchError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BenchError::io(path.display().to_string())(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_all_runs_make_one_spread() {
        let runs = [vec![1.0, 2.0, 3.0], Vec::new(), vec![5.0]];
        let measure = of_operations("x", &runs).unwrap();
        assert_eq!(measure.values, [2.0, 5.0]);
        let spread = measure.spread.unwrap();
        assert_eq!(spread.count, 4);
        assert!((spread.max - 5.0).abs() < f64::EPSILON);
        assert!(of_operations("x", &[Vec::new()]).is_none());
    }

    #[test]
    fn no_time_at_all_is_no_rate() {
        assert!(per_second(5.0, 0.0).abs() < f64::EPSILON);
        assert!((per_second(5.0, 2.0) - 2.5).abs() < f64::EPSILON);
    }
}
