//! The command line of `userferry sandbox`.

use super::faults::{FaultSpec, Latency};
use super::server::SandboxConfig;
use crate::model::rate::RateParseError;
use crate::model::{RateLimit, RateLimits};
use clap::Args;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Requests the history keeps by default: a run of a million rows with two writes each, twice.
pub const HISTORY_CAP_DEFAULT: usize = 5_000_000;

/// Options of the rehearsal directory.
#[derive(Clone, Debug, Args)]
pub struct SandboxArgs {
    /// Loopback address to listen on; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4100")]
    pub listen: SocketAddr,

    /// Limit of writes such as 500/10s, or `workos` for all three published limits.
    #[arg(long, value_name = "N/D|workos", value_parser = parse_rate)]
    pub rate: Option<RateLimits>,

    /// How long answers take, with a jitter if wanted: 200ms or 200ms~50%.
    #[arg(long, value_name = "TIME[~P%]")]
    pub latency: Option<Latency>,

    /// Shares of requests that go wrong, such as drop-after=2%,500=1%,429=5%:3
    /// (drop-after, drop-before, 500, 500-after, 429, hang, malformed, slow).
    #[arg(long, value_name = "SPEC")]
    pub faults: Option<FaultSpec>,

    /// Repeats the same faults and latencies for the same order of requests.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Keeps the data in this log, across restarts.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// The only API key accepted; without it, any is.
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<SecretString>,

    /// Reads the API key as the first line of stdin and ends when stdin does.
    #[arg(long, hide = true, conflicts_with = "api_key")]
    pub child: bool,

    /// Requests the history keeps.
    #[arg(long, hide = true, value_name = "N", default_value_t = HISTORY_CAP_DEFAULT)]
    pub history_cap: usize,
}

impl SandboxArgs {
    /// Returns what the server needs to know; `key` is the one read from stdin, if any.
    pub(super) fn into_config(self, key: Option<SecretString>) -> SandboxConfig {
        SandboxConfig {
            listen: self.listen,
            limits: self.rate.unwrap_or_default(),
            latency: self.latency.unwrap_or_default(),
            faults: self.faults.unwrap_or_default(),
            seed: self.seed,
            state: self.state,
            api_key: key.or(self.api_key),
            history_cap: self.history_cap,
        }
    }
}

fn parse_rate(text: &str) -> Result<RateLimits, RateParseError> {
    if text == "workos" {
        return Ok(RateLimits::WORKOS);
    }
    let writes: RateLimit = text.parse()?;
    Ok(RateLimits {
        writes: Some(writes),
        ..RateLimits::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SandboxArgs,
    }

    fn parse(words: &[&str]) -> Result<SandboxArgs, String> {
        let line = std::iter::once(&"sandbox").chain(words);
        Line::try_parse_from(line)
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn rates_are_one_limit_or_all_three() {
        assert_eq!(
            parse(&["--rate", "workos"]).unwrap().rate,
            Some(RateLimits::WORKOS)
        );
        let own = parse(&["--rate", "50/1s"]).unwrap().rate.unwrap();
        assert_eq!(own.writes, Some(RateLimit::per_seconds(50, 1)));
        assert_eq!((own.reads, own.total), (None, None));
        assert!(parse(&["--rate", "fast"]).is_err());
    }

    #[test]
    fn the_key_is_not_printed() {
        let args = parse(&["--api-key", "sk_canary"]).unwrap();
        assert!(!format!("{args:?}").contains("canary"));
        assert!(parse(&["--api-key", "sk_canary", "--child"]).is_err());
    }

    #[test]
    fn wrong_values_are_explained() {
        assert!(
            parse(&["--faults", "boom=1%"])
                .unwrap_err()
                .contains("unknown fault `boom`")
        );
        assert!(
            parse(&["--latency", "soon"])
                .unwrap_err()
                .contains("200ms~50%")
        );
        assert!(parse(&["--listen", "nowhere"]).is_err());
    }
}
