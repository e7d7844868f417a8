//! Runs the program's own `import` as a process, against a server of its own or none.

use super::{BenchError, Budget};
use crate::model::RateLimits;
use crate::source::{GenerateArgs, generate};
use crate::supervise::measured::cpu_of;
use crate::supervise::{Measured, SandboxChild, SandboxOptions, Usage};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A stuck server is not waited for longer.
const STATS_WITHIN: Duration = Duration::from_secs(10);

/// The organizations of generated rows: few enough that making them costs nothing, and enough
/// that rows of one wait for nobody.
const ORGS: u32 = 50;
/// Rows of one organization, at least.
const ROWS_PER_ORG: u32 = 20;

/// One import.
#[derive(Clone, Debug, Default)]
pub(super) struct Import {
    /// The rows.
    pub csv: PathBuf,
    /// Worker processes.
    pub workers: u32,
    /// Rows in flight per worker, unless the default.
    pub concurrency: Option<u32>,
    /// Rows per chunk, unless the default.
    pub chunk_size: Option<u32>,
    /// `--rate`, if any.
    pub rate: Option<String>,
    /// How many of the rows, unless all.
    pub limit: Option<u32>,
    /// Workers on threads of the coordinator's process instead of processes of their own.
    pub threads: bool,
}

/// What an import took.
#[derive(Clone, Debug)]
pub(super) struct Took {
    /// Rows settled per second, from the start of the process to its summary.
    pub rows_per_s: f64,
    /// Requests per second over the same time.
    pub requests_per_s: f64,
    /// Rows settled.
    pub rows: f64,
    /// Writes per row.
    pub writes_per_row: f64,
    /// Share of the limit used, with one.
    pub used: Option<f64>,
    /// Answers 429.
    pub throttled: f64,
    /// Half of the requests were faster, in seconds.
    pub latency_s: f64,
    /// The coordinator's own processor time and that of its workers, and their memory.
    pub usage: Usage,
    /// The server's processor time in seconds.
    pub server_cpu_s: Option<f64>,
    /// The most writes that came in any sliding 10 s, by the server's count.
    pub window_10s: Option<f64>,
}

impl Took {
    /// Returns the processor time of a row in seconds: coordinator and workers.
    pub fn cpu_per_row(&self) -> Option<f64> {
        let usage = &self.usage;
        Some((usage.cpu_s? + usage.children_cpu_s?) / self.rows.max(1.0))
    }

    /// Returns the coordinator's share of all processor time of the run, the server's included.
    pub fn coordinator_share(&self) -> Option<f64> {
        let own = self.usage.cpu_s?;
        let all = own + self.usage.children_cpu_s? + self.server_cpu_s.unwrap_or(0.0);
        (all > 0.0).then(|| own / all)
    }
}

/// Writes rows to measure with; `percent` of them repeat an earlier one.
pub(super) fn rows_file(
    budget: &Budget,
    name: &str,
    rows: u32,
    percent: u32,
) -> Result<PathBuf, BenchError> {
    let path = budget.folder.join(format!("{name}.csv"));
    let share = |text: String| text.parse().map_err(BenchError::Wrong);
    let args = GenerateArgs {
        rows,
        orgs: ORGS.min(rows.div_ceil(ROWS_PER_ORG)),
        multi_org: share("0%".to_owned())?,
        duplicates: share(format!("{percent}%"))?,
        bad: share("0%".to_owned())?,
        seed: 7,
        force: false,
        out: Some(path.clone()),
    };
    generate(&args, &mut std::io::sink())?;
    Ok(path)
}

/// Starts a server of its own that keeps its data in memory.
pub(super) fn server(budget: &Budget, options: &[&str]) -> Result<SandboxChild, BenchError> {
    Ok(SandboxChild::start(&SandboxOptions {
        program: budget.program.clone(),
        state: None,
        limits: RateLimits::default(),
        more: options.iter().map(OsString::from).collect(),
    })?)
}

/// Runs an import without sending anything.
pub(super) fn dry_run(budget: &Budget, import: &Import) -> Result<Took, BenchError> {
    run(budget, import, &["--dry-run".into()])
}

/// Runs an import into a fresh server that was started with `options`.
pub(super) fn into_server(
    budget: &Budget,
    import: &Import,
    options: &[&str],
) -> Result<Took, BenchError> {
    let server = server(budget, options)?;
    let before = cpu_of(server.pid()).map(|(own, _)| own);
    let key = budget.folder.join("key");
    write_key(&key, server.key.expose_secret())?;
    let more: Vec<OsString> = vec![
        "--target".into(),
        "sandbox".into(),
        "--base-url".into(),
        server.base_url.clone().into(),
        "--api-key-file".into(),
        key.into(),
        "--create-orgs".into(),
    ];
    let mut took = run(budget, import, &more)?;
    let after = cpu_of(server.pid()).map(|(own, _)| own);
    took.server_cpu_s = before.zip(after).map(|(before, after)| after - before);
    let stats = stats_of(&server.base_url)?;
    took.window_10s = stats
        .pointer("/largest_windows/writes/10s")
        .and_then(Value::as_f64);
    Ok(took)
}

fn write_key(path: &Path, key: &str) -> Result<(), BenchError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(key.as_bytes()))
        .map_err(BenchError::io("the key file of the measurement"))
}

fn arguments(import: &Import, jobs: &Path, more: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![
        "import".into(),
        import.csv.clone().into(),
        "--json".into(),
        "--progress".into(),
        "none".into(),
        "--checkpoints".into(),
        jobs.into(),
        "--workers".into(),
        import.workers.to_string().into(),
    ];
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([OsString::from(name), value.into()]);
        }
    };
    option("--concurrency", import.concurrency.map(|n| n.to_string()));
    option("--chunk-size", import.chunk_size.map(|n| n.to_string()));
    option("--limit", import.limit.map(|n| n.to_string()));
    option("--rate", import.rate.clone());
    if import.threads {
        words.push("--worker-threads".into());
    }
    words.extend(more.iter().cloned());
    words
}

fn run(budget: &Budget, import: &Import, more: &[OsString]) -> Result<Took, BenchError> {
    let jobs = tempfile::Builder::new()
        .prefix("jobs-")
        .tempdir_in(&budget.folder)
        .map_err(BenchError::io("the jobs folder of the measurement"))?;
    let ended = Measured {
        program: budget.program.clone(),
        arguments: arguments(import, jobs.path(), more),
        input: Vec::new(),
    }
    .run()
    .map_err(BenchError::io("the import under measurement"))?;
    let summary: Value = serde_json::from_slice(&ended.stdout).unwrap_or_default();
    // Rows of a file that was brought along may fail; the time is right all the same.
    if !matches!(ended.status.code(), Some(0 | 1)) || !summary.is_object() {
        let words = String::from_utf8_lossy(&ended.stderr);
        let words: String = words.trim().chars().take(600).collect();
        return Err(BenchError::Wrong(format!(
            "an import that was measured did not complete ({}): {words}",
            ended.status
        )));
    }
    Ok(took(&summary, ended.usage))
}

fn took(summary: &Value, usage: Usage) -> Took {
    let number = |path: &str| summary.pointer(path).and_then(Value::as_f64);
    let known = |path: &str| number(path).unwrap_or(0.0);
    let rows_per_s = known("/rows_per_s");
    let rows = known("/rows/total") - known("/rows/pending");
    Took {
        rows_per_s,
        // From outside, like whatever it is compared with.
        requests_per_s: known("/requests/total") / usage.wall.as_secs_f64().max(0.001),
        rows,
        writes_per_row: known("/requests/writes") / rows.max(1.0),
        used: number("/rate/used"),
        throttled: known("/requests/throttled"),
        latency_s: known("/latency_ms/p50") / 1000.0,
        usage,
        server_cpu_s: None,
        window_10s: None,
    }
}

/// Asks the server what it counted.
fn stats_of(base_url: &str) -> Result<Value, BenchError> {
    let failed = || BenchError::io("the counts of the server under measurement");
    let address = base_url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).map_err(failed())?;
    let patience = stream.set_read_timeout(Some(STATS_WITHIN));
    patience.map_err(failed())?;
    let request =
        format!("GET /_sandbox/stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body)
        .map_err(|error| BenchError::Wrong(format!("the server's counts cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_as_it_is_printed() {
        let summary = serde_json::json!({
            "elapsed_s": 2.0, "rows_per_s": 50.0,
            "rows": {"total": 120, "pending": 20},
            "requests": {"total": 210, "writes": 200, "throttled": 1},
            "rate": {"used": 0.98}, "latency_ms": {"p50": 200.0},
        });
        let usage = Usage {
            wall: Duration::from_millis(2100),
            cpu_s: Some(0.25),
            children_cpu_s: Some(0.75),
            ..Usage::default()
        };
        let mut took = took(&summary, usage);
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(near(took.requests_per_s, 100.0) && near(took.writes_per_row, 2.0));
        assert!(near(took.latency_s, 0.2) && near(took.throttled, 1.0));
        assert!(near(took.cpu_per_row().unwrap(), 0.01));
        assert!(near(took.coordinator_share().unwrap(), 0.25));
        took.server_cpu_s = Some(1.0);
        assert!(near(took.coordinator_share().unwrap(), 0.125));
    }
}
