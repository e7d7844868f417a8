//! How many cases the property tests run: each its own number, and all of them more or fewer by
//! one variable. Judges nothing.

use proptest::test_runner::Config;

/// The number of cases proptest runs by itself.
const USUAL: u64 = 256;

/// Returns a configuration of `usual` cases, times what `PROPTEST_CASES` is of 256.
pub fn cases(usual: u32) -> Config {
    let config = Config::default();
    let scaled = u64::from(usual) * u64::from(config.cases) / USUAL;
    let cases = u32::try_from(scaled).unwrap_or(u32::MAX).max(1);
    Config {
        cases,
        // Some properties pass over cases that say nothing: as many as there are more of them.
        max_global_rejects: config.max_global_rejects.max(cases),
        ..config
    }
}
