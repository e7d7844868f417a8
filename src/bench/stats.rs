//! Statistics of a few runs and of many operations: pure.

use serde::{Deserialize, Serialize};

/// Single operations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of them were below.
    pub p50: f64,
    /// 95 % of them were below.
    pub p95: f64,
    /// 99 % of them were below.
    pub p99: f64,
    /// None was above.
    pub max: f64,
    /// How many there were.
    pub count: u64,
}

impl Percentiles {
    /// Sorts operations and takes their percentiles (nearest rank); none of none.
    pub fn of(operations: &mut [f64]) -> Option<Self> {
        operations.sort_by(f64::total_cmp);
        Some(Self {
            p50: rank(operations, 50)?,
            p95: rank(operations, 95)?,
            p99: rank(operations, 99)?,
            max: *operations.last()?,
            count: operations.len() as u64,
        })
    }
}

/// Returns the value that this many percent of sorted values do not exceed.
fn rank(sorted: &[f64], percent: usize) -> Option<f64> {
    let at = (sorted.len() * percent).div_ceil(100);
    sorted.get(at.saturating_sub(1)).copied()
}

/// Returns the median; of an even number, the mean of the middle two; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (
        sorted.get(middle.wrapping_sub(1)),
        sorted.get(middle),
        sorted.len() % 2,
    ) {
        (Some(low), Some(high), 0) => f64::midpoint(*low, *high),
        (_, Some(value), _) => *value,
        _ => f64::NAN,
    }
}

/// Returns the smallest and the largest value; NaN of none.
pub fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::NAN, f64::min);
    let high = values.iter().copied().fold(f64::NAN, f64::max);
    (low, high)
}

/// Returns how far apart runs lie: (largest - smallest) ÷ median; 0 of fewer than two.
pub fn scatter(values: &[f64]) -> f64 {
    let (low, high) = range(values);
    let middle = median(values);
    if values.len() < 2 || middle.abs() < f64::MIN_POSITIVE {
        return 0.0;
    }
    (high - low) / middle.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!(near(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(near(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(near(median(&[7.0]), 7.0));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let spread = Percentiles::of(&mut hundred).unwrap();
        assert_eq!(
            [spread.p50, spread.p95, spread.p99, spread.max].map(f64::to_bits),
            [50.0, 95.0, 99.0, 100.0].map(f64::to_bits)
        );
        assert_eq!(spread.count, 100);
        let one = Percentiles::of(&mut [5.0]).unwrap();
        assert!(near(one.p50, 5.0) && near(one.p99, 5.0));
        assert!(Percentiles::of(&mut []).is_none());
    }

    #[test]
    fn runs_that_lie_apart_scatter() {
        assert!(near(scatter(&[9.0, 10.0, 11.0]), 0.2));
        assert!(near(scatter(&[10.0]), 0.0));
        assert!(near(scatter(&[0.0, 0.0]), 0.0));
        assert!(range(&[]).0.is_nan());
    }
}
