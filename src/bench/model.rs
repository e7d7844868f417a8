//! What a run should reach, and how many workers to recommend: pure.

/// A worker count and what it reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// Worker processes.
    pub workers: u32,
    /// Rows per second.
    pub rows_per_s: f64,
}

/// What bounds a run, apart from the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Writes allowed per second, if limited.
    pub writes_per_s: Option<f64>,
    /// How long an answer takes, in seconds.
    pub latency_s: f64,
    /// Rows in flight per worker.
    pub concurrency: u32,
    /// Writes per row, one after the other.
    pub calls_per_row: f64,
}

/// What decides a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decides {
    /// The limit of the target.
    Limit,
    /// How long answers take, and how many rows are in flight.
    Latency,
}

impl Bounds {
    /// Predicts rows per second, and says what decides: `min(rate ÷ calls, workers × concurrency ÷
    /// (calls × latency))`. The machine itself is not in it: infinite without a limit and without
    /// a latency.
    pub fn predict(&self, workers: u32) -> (f64, Decides) {
        let calls = self.calls_per_row.max(f64::MIN_POSITIVE);
        let by_limit = self.writes_per_s.map_or(f64::INFINITY, |rate| rate / calls);
        let in_flight = f64::from(workers) * f64::from(self.concurrency);
        let by_latency = if self.latency_s > 0.0 {
            in_flight / (calls * self.latency_s)
        } else {
            f64::INFINITY
        };
        if by_limit <= by_latency {
            (by_limit, Decides::Limit)
        } else {
            (by_latency, Decides::Latency)
        }
    }
}

/// Within this share of the best, a count is as good as the best.
pub const AS_GOOD: f64 = 0.95;

/// Returns the smallest count that is as good as the best one.
pub fn recommended(reached: &[Reached]) -> Option<Reached> {
    let best = best(reached)?;
    let good = |one: &&Reached| one.rows_per_s >= AS_GOOD * best.rows_per_s;
    reached
        .iter()
        .filter(good)
        .min_by_key(|one| one.workers)
        .copied()
}

/// Returns the count that reached most.
pub fn best(reached: &[Reached]) -> Option<Reached> {
    let order = |one: &&Reached, other: &&Reached| one.rows_per_s.total_cmp(&other.rows_per_s);
    reached.iter().max_by(order).copied()
}

/// A run that uses this share of a limit is decided by it: the rest is its start and its last
/// rows.
const LIMIT_DECIDES: f64 = 0.85;

/// Says in a sentence how many workers to use, and why; `place` begins it, such as `in a dry run`,
/// and `used` is the share of the limit that the recommended count used, with a limit.
pub fn sentence(place: &str, reached: &[Reached], used: Option<f64>) -> Option<String> {
    use crate::report::words::{counted, rate};
    let chosen = recommended(reached)?;
    let best = best(reached)?;
    let workers = counted(u64::from(chosen.workers), "worker");
    if let Some(used) = used.filter(|used| *used >= LIMIT_DECIDES) {
        return Some(format!(
            "{place}: use {workers}. The limit decides, not the workers: {:.0} % of it is used \
             while rows are sent, and more workers do not help.",
            used * 100.0
        ));
    }
    let why = if reached.len() == 1 {
        "no other count was measured".to_owned()
    } else if chosen.workers == best.workers {
        let second = reached.iter().filter(|one| one.workers < chosen.workers);
        let fewer = second.map(|one| one.rows_per_s).fold(0.0, f64::max);
        if fewer > 0.0 {
            format!(
                "fewer reach {:.0} % of that",
                100.0 * fewer / best.rows_per_s
            )
        } else {
            "more do not make it faster".to_owned()
        }
    } else {
        format!(
            "{} workers reach {}, which is no difference worth a process",
            best.workers,
            rate(best.rows_per_s)
        )
    };
    Some(format!(
        "{place}: use {workers}, {} rows/s; {why}.",
        rate(chosen.rows_per_s)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(pairs: &[(u32, f64)]) -> Vec<Reached> {
        let one = |(workers, rows_per_s): &(u32, f64)| Reached {
            workers: *workers,
            rows_per_s: *rows_per_s,
        };
        pairs.iter().map(one).collect()
    }

    const WORKOS: Bounds = Bounds {
        writes_per_s: Some(50.0),
        latency_s: 0.2,
        concurrency: 64,
        calls_per_row: 2.0,
    };

    #[test]
    fn the_smaller_of_limit_and_latency_is_predicted() {
        let (rows, decides) = WORKOS.predict(1);
        assert!((rows - 25.0).abs() < 1e-9);
        assert_eq!(decides, Decides::Limit);
        let slow = Bounds {
            latency_s: 10.0,
            ..WORKOS
        };
        let (rows, decides) = slow.predict(2);
        assert!((rows - 6.4).abs() < 1e-9, "{rows}");
        assert_eq!(decides, Decides::Latency);
        assert_eq!(slow.predict(8).1, Decides::Limit);
        let free = Bounds {
            writes_per_s: None,
            latency_s: 0.0,
            ..WORKOS
        };
        assert!(free.predict(1).0.is_infinite());
    }

    #[test]
    fn the_smallest_count_near_the_best_is_recommended() {
        let sweep = reached(&[(1, 100.0), (2, 190.0), (4, 197.0), (8, 200.0)]);
        assert_eq!(recommended(&sweep).unwrap().workers, 2);
        assert_eq!(best(&sweep).unwrap().workers, 8);
        let worse = reached(&[(4, 90.0), (1, 100.0)]);
        assert_eq!(recommended(&worse).unwrap().workers, 1);
        assert_eq!(recommended(&[]), None);
    }

    #[test]
    fn the_reason_is_said() {
        let same = reached(&[(1, 24.6), (2, 24.7), (4, 24.7)]);
        let words = sentence("at 500/10s", &same, Some(0.98)).unwrap();
        assert!(words.contains("use 1 worker. The limit decides"), "{words}");
        let scaling = reached(&[(1, 100.0), (2, 190.0), (4, 197.0)]);
        let words = sentence("dry", &scaling, None).unwrap();
        assert!(words.contains("4 workers reach 197.0"), "{words}");
        let best = reached(&[(1, 100.0), (2, 190.0)]);
        let words = sentence("dry", &best, None).unwrap();
        assert!(words.contains("fewer reach 53 %"), "{words}");
        // Far below what the limit allows, something else decides.
        let short = reached(&[(1, 5.0), (2, 10.0)]);
        let words = sentence("x", &short, Some(0.3)).unwrap();
        assert!(!words.contains("limit decides"), "{words}");
    }
}
