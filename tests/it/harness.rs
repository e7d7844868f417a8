//! Folders and processes of one test. Judges nothing.

use crate::http;
use crate::judge::World;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The key every command has in its environment, unless a test says otherwise.
pub const KEY: &str = "sk_test_it_0123456789";

/// Longest wait for anything: far above what a loaded machine needs, so only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many ports were tried for sandboxes that others follow.
static PORTS: AtomicU16 = AtomicU16::new(0);

/// Where nobody listens.
pub const NOBODY: &str = "127.0.0.1:1";

/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(3);

/// What makes a test another one: `FAULT_SEED`, 0 if it is not set. It moves moments by a few
/// writes, delays answers, and chooses the workers where a test leaves them open.
pub fn seed() -> u64 {
    let text = std::env::var("FAULT_SEED").unwrap_or_default();
    text.parse().unwrap_or_default()
}

/// A number below `bound` that depends on the seed and on `salt`; 0 without a seed.
fn chance(salt: u64, bound: u64) -> u64 {
    let mixed = (seed() ^ (salt << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 33) % bound * u64::from(seed() != 0)
}

/// The words of a command, with what the seed adds to them.
fn seeded(line: &str) -> String {
    let (option, value) = match line.split_whitespace().next() {
        Some("import") => ("--workers", (1 + chance(1, 4)).to_string()),
        Some("resume" | "retry") => ("--workers", (1 + chance(2, 4)).to_string()),
        Some("sandbox") => ("--latency", format!("{}ms~50%", 1 + chance(3, 5))),
        _ => return line.to_owned(),
    };
    if seed() == 0 || line.contains(option) {
        line.to_owned()
    } else {
        format!("{line} {option} {value}")
    }
}

/// Waits until `look` returns something; fails with `what` when it never does.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::park_timeout(TICK);
    }
}

/// A folder of its own that every command of a test runs in.
pub struct Work {
    folder: TempDir,
    commands: AtomicU32,
}

impl Work {
    pub fn new() -> Self {
        Self {
            folder: tempfile::Builder::new()
                .prefix("userferry-it-")
                .tempdir()
                .unwrap(),
            commands: AtomicU32::new(0),
        }
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Copies a fixture under its own name.
    pub fn fixture(&self, name: &str) -> &Self {
        let file = Path::new(name).file_name().unwrap();
        std::fs::copy(fixtures().join(name), self.folder.path().join(file)).unwrap();
        self
    }

    /// A command in this folder, with nothing of the caller's environment that could matter.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("WORKOS_API_KEY", KEY)
            .stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// `userferry` with the words of `line`.
    pub fn userferry(&self, line: &str) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_userferry"));
        command.args(seeded(line).split_whitespace());
        command
    }

    /// Starts `userferry` with the words of `line`.
    pub fn start(&self, line: &str) -> Running {
        self.spawn(self.userferry(line))
    }

    /// Runs `userferry` with the words of `line` to its end.
    pub fn run(&self, line: &str) -> Done {
        self.start(line).wait()
    }

    /// Starts a command whose output goes to files, so that no full pipe can hold it up.
    pub fn spawn(&self, mut command: Command) -> Running {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let [out, err] = ["out", "err"].map(|name| self.path(&format!("{number}.{name}")));
        command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        let child = until("nobody writes the program any more", || {
            match command.spawn() {
                // A child of another test has inherited what this one wrote it with.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
                started => Some(started.unwrap()),
            }
        });
        Running {
            line: format!("{command:?}"),
            child,
            out,
            err,
        }
    }

    /// Starts a sandbox of its own with these options.
    pub fn sandbox(&self, options: &str) -> Server {
        self.sandbox_at("127.0.0.1:0", options)
    }

    /// Starts a sandbox where another one can be started when it is gone: at a port that no other
    /// test is given meanwhile.
    pub fn sandbox_to_follow(&self, options: &str) -> Server {
        // Below those that the system gives to who asks for any.
        let first = u16::try_from(std::process::id() % 9000).unwrap();
        let port = until("a port is free", || {
            let port = 20_000 + (first + PORTS.fetch_add(1, Ordering::Relaxed)) % 9000;
            TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
        });
        self.sandbox_at(&format!("127.0.0.1:{port}"), options)
    }

    /// Starts a sandbox where another one was.
    pub fn sandbox_at(&self, address: &str, options: &str) -> Server {
        let process = self.start(&format!("sandbox --listen {address} {options}"));
        let url = until("the sandbox prints its address", || {
            let out = std::fs::read_to_string(&process.out).unwrap();
            let line = out.strip_suffix('\n')?;
            Some(line.strip_prefix("sandbox listening on ")?.to_owned())
        });
        Server { process, url }
    }

    /// The names of the jobs here.
    pub fn jobs(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("checkpoints")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    /// The events of a kind that were written to `events.jsonl` so far.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read(self.path("events.jsonl")).unwrap_or_default();
        // The last line may be half written.
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["event"] == kind)
            .collect()
    }

    /// The pids of the workers that said hello, the latest last.
    pub fn workers(&self) -> Vec<u32> {
        self.events("worker_ready")
            .iter()
            .map(|event| u32::try_from(event["pid"].as_u64().unwrap()).unwrap())
            .collect()
    }

    /// Waits until this many workers have said hello; returns the pids of all that have.
    pub fn workers_ready(&self, count: usize) -> Vec<u32> {
        until(&format!("{count} workers are ready"), || {
            Some(self.workers()).filter(|pids| pids.len() >= count)
        })
    }

    /// The records of `results`, each by column name.
    pub fn results(&self) -> Vec<Record> {
        let done = self.run("results").expect(0);
        let mut reader = csv::Reader::from_reader(done.stdout.as_bytes());
        reader.deserialize().map(Result::unwrap).collect()
    }
}

/// A record by column name.
pub type Record = std::collections::BTreeMap<String, String>;

/// The folder of the fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A command that runs. Dropping it kills it; its workers and its sandbox end by themselves then.
pub struct Running {
    line: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Done {
        let line = self.line.clone();
        let status = until(&format!("the end of {line}"), || {
            self.child.try_wait().unwrap()
        });
        Done {
            line,
            code: status.code(),
            stdout: std::fs::read_to_string(&self.out).unwrap(),
            stderr: std::fs::read_to_string(&self.err).unwrap(),
        }
    }

    pub fn signal(&self, signal: Signal) {
        signal_to(self.pid(), signal);
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Sends a signal to a process that may have ended.
pub fn signal_to(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _gone = kill_process(pid, signal);
}

/// What a command left behind.
pub struct Done {
    line: String,
    /// `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{self}", self.line);
        self
    }

    /// The one object on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not one object: {error}\n{}\n{self}", self.line))
    }

    /// Fails unless stderr says all of this.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for words in words {
            assert!(self.stderr.contains(words), "no `{words}` in\n{self}");
        }
        self
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stdout: {}\nstderr: {}", self.stdout, self.stderr)
    }
}

/// A sandbox of its own.
pub struct Server {
    process: Running,
    url: String,
}

impl Server {
    /// The options that send an import here, as fast as it goes.
    pub fn target(&self) -> String {
        format!("{} --rate none", self.destination())
    }

    /// The options that send an import here at this many writes a second: slow enough to strike.
    pub fn paced(&self, writes: u32) -> String {
        format!("{} --rate {writes}/1s", self.destination())
    }

    /// The options that send an import here, with the limits of the target.
    pub fn destination(&self) -> String {
        format!("--target workos --base-url {}", self.url)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Every request it received, in order.
    pub fn history(&self) -> Vec<Value> {
        let text = http::get(&self.url, "/_sandbox/history");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub fn stats(&self) -> Value {
        serde_json::from_str(&http::get(&self.url, "/_sandbox/stats")).unwrap()
    }

    /// How many requests it received.
    pub fn received(&self) -> u64 {
        self.stats()["requests"]["received"].as_u64().unwrap()
    }

    /// Waits until it has applied this many writes, and as many more as the seed says.
    pub fn has_applied(&self, writes: u64) {
        let writes = writes + chance(writes, 12);
        until("enough writes are applied", || {
            let applied = self.stats()["requests"]["applied"].as_u64().unwrap();
            (applied >= writes).then_some(())
        });
    }

    /// How many requests of a kind it received.
    pub fn count(&self, kind: &str) -> u64 {
        self.stats()["by_kind"][kind].as_u64().unwrap_or_default()
    }

    /// Everything it holds.
    pub fn world(&self) -> World {
        World::of_dump(&self.dump())
    }

    pub fn dump(&self) -> Value {
        serde_json::from_str(&http::get(&self.url, "/_sandbox/dump")).unwrap()
    }

    /// Makes something through the API, as somebody else would, and returns it.
    pub fn make(&self, path: &str, body: &Value) -> Value {
        http::send(&self.url, "POST", path, body)
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}
