//! Times as values, and the one door to the clocks.
#![expect(
    clippy::disallowed_methods,
    reason = "this module is the door to the clocks"
)]

use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant of `CLOCK_MONOTONIC`, in nanoseconds: the same number in every process of this
/// machine since boot, which is why the coordinator may send it to a worker.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// Reads the clock. Only driver loops call this; decisions take the instant as an argument.
    pub fn now() -> Self {
        Self(read(ClockId::Monotonic))
    }

    /// Returns this instant moved into the future.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// Returns this instant moved into the past, not before the clock's origin.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// Returns the time from `earlier` to this instant, zero when it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Returns how long this machine has slept since it was started: its monotonic clock stands still
/// meanwhile, the one since boot does not. Always zero where the system has no such clock.
pub fn slept() -> Duration {
    #[cfg(target_os = "linux")]
    return Duration::from_nanos(read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic)));
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

fn read(clock: ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Returns how much of a core all threads of this process have used so far: what a measurement is
/// not lied to about by whatever else the machine does.
pub fn process_cpu() -> Duration {
    Duration::from_nanos(read(ClockId::ProcessCPUTime))
}

/// Returns a duration in whole nanoseconds, saturating.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An instant of the target's wall clock, in milliseconds since the Unix epoch.
///
/// Derived from the `Date` of a run's first answer plus monotonic time; the local wall clock
/// takes part in no decision.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ServerMs(pub i64);

impl ServerMs {
    /// Returns this instant moved into the future.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// Returns the local wall clock in milliseconds since the Unix epoch: for showing and for the
/// sandbox's own answers, never for a decision of the importer.
pub fn wall_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
