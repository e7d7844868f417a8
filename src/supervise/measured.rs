//! A command of this program that is run to its end while its time and memory are counted.
//!
//! Processor time comes from the kernel's accounts, read between a process's end and its burial;
//! peaks of memory are looked at while it lives, because they go with it. Where there is no
//! `/proc`, both are unknown.
#![expect(
    clippy::disallowed_methods,
    reason = "this room is the door to processes"
)]

use crate::model::Mono;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often memory is looked at: peaks only grow, so the last look before the end is near them.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How often a process must have been looked at for its peak to be known: one that lives for a few
/// looks may never have been seen with more than its first pages.
const LOOKS_MIN: u32 = 5;

/// Longest output that is kept.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Clock ticks per second in `/proc`: 100 on every Linux whose kernel is not patched.
const TICKS_PER_S: f64 = 100.0;

/// What to run.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; no secrets.
    pub arguments: Vec<OsString>,
    /// What it reads from stdin.
    pub input: Vec<u8>,
}

/// What it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// From its start to its end.
    pub wall: Duration,
    /// Its own processor time in seconds, user and system.
    pub cpu_s: Option<f64>,
    /// That of the processes it started and waited for.
    pub children_cpu_s: Option<f64>,
    /// Its largest resident memory in bytes. Unknown of a process that lived for less than some
    /// fifty milliseconds.
    pub peak_bytes: Option<u64>,
    /// The largest of one of its children that lived as long.
    pub child_peak_bytes: Option<u64>,
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit.
    pub status: ExitStatus,
    /// What it wrote to stdout, at most a mebibyte.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr, at most a mebibyte.
    pub stderr: Vec<u8>,
    /// What it took.
    pub usage: Usage,
}

/// A measured command under way. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    reaped: bool,
    started: Mono,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    own: Looks,
    children: BTreeMap<u32, Looks>,
}

/// What was seen of the memory of a process.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    count: u32,
    /// Its peak at the latest look.
    bytes: u64,
}

impl Looks {
    fn add(&mut self, bytes: u64) {
        self.count = self.count.saturating_add(1);
        // A peak only grows, so the latest is it. An earlier, larger one was that of the parent,
        // whose memory a child shares until it runs its own program.
        self.bytes = bytes;
    }

    fn peak(self) -> Option<u64> {
        (self.count >= LOOKS_MIN).then_some(self.bytes)
    }
}

impl Measured {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started or does not take its input.
    pub fn start(&self) -> io::Result<Running> {
        let started = Mono::now();
        let mut child = Command::new(&self.program)
            .arg0("userferry")
            .args(&self.arguments)
            .env_remove("WORKOS_API_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a pipe to the measured command is missing");
        let stdout = drained(child.stdout.take().ok_or_else(missing)?);
        let stderr = drained(child.stderr.take().ok_or_else(missing)?);
        let mut input = child.stdin.take().ok_or_else(missing)?;
        let running = Running {
            child,
            reaped: false,
            started,
            stdout,
            stderr,
            own: Looks::default(),
            children: BTreeMap::new(),
        };
        input.write_all(&self.input)?;
        Ok(running)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or waited for.
    pub fn run(&self) -> io::Result<Ended> {
        self.start()?.end()
    }
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn end(mut self) -> io::Result<Ended> {
        let stdout = loop {
            match self.stdout.recv_timeout(LOOK_EVERY) {
                Ok(bytes) => break bytes,
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => break Vec::new(),
            }
        };
        let stderr = self.stderr.recv().unwrap_or_default();
        let pid = self.child.id();
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // Ended and not yet buried: its accounts are complete and still there.
            waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )?;
        }
        let wall = Mono::now().since(self.started);
        let (cpu_s, children_cpu_s) = cpu_of(pid).unzip();
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(Ended {
            status,
            stdout,
            stderr,
            usage: Usage {
                wall,
                cpu_s,
                children_cpu_s,
                peak_bytes: self.own.peak(),
                child_peak_bytes: self
                    .children
                    .values()
                    .filter_map(|looks| looks.peak())
                    .max(),
            },
        })
    }

    fn look(&mut self) {
        let pid = self.child.id();
        if let Some(peak) = peak_of(pid) {
            self.own.add(peak);
        }
        for child in children_of(pid) {
            if let Some(peak) = peak_of(child) {
                self.children.entry(child).or_default().add(peak);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
    }
}

/// Reads a stream to its end on a thread of its own; the text arrives when it has ended.
fn drained(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut stream = stream;
        let mut bytes = Vec::new();
        let _rest_is_lost = (&mut stream).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        let _drained = io::copy(&mut stream, &mut io::sink());
        let _nobody_waits = send.send(bytes);
    });
    receive
}

/// Returns the processor time of a process, and of the children it has waited for, in seconds.
pub fn cpu_of(pid: u32) -> Option<(f64, f64)> {
    cpu_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the line of `/proc/PID/stat`: the name in it may hold anything, also brackets.
fn cpu_in(stat: &str) -> Option<(f64, f64)> {
    let (_, after) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> = after
        .split_whitespace()
        .skip(11)
        .take(4)
        .map_while(|word| word.parse().ok())
        .collect();
    match ticks.as_slice() {
        [user, system, children_user, children_system] => Some((
            (user + system) / TICKS_PER_S,
            (children_user + children_system) / TICKS_PER_S,
        )),
        _ => None,
    }
}

/// Returns the largest resident memory of a live process in bytes.
pub fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

fn children_of(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Ended {
        let measured = Measured {
            program: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            input: b"hello\n".to_vec(),
        };
        measured.run().unwrap()
    }

    #[test]
    fn what_it_said_and_how_it_ended_is_known() {
        let ended = shell("read word; echo $word; echo oops >&2; exit 3");
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.stdout, b"hello\n");
        assert_eq!(ended.stderr, b"oops\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn its_own_time_and_that_of_its_children_are_told_apart() {
        let busy = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done";
        let ended = shell(&format!("{busy}; ( {busy}; {busy}; {busy} ); :"));
        let usage = ended.usage;
        let (own, children) = (usage.cpu_s.unwrap(), usage.children_cpu_s.unwrap());
        assert!(own > 0.0 && children > own, "{own} {children}");
        assert!(usage.wall.as_secs_f64() > 0.0);
        assert!(usage.peak_bytes.unwrap() > 100_000, "{usage:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_child_had_of_its_parent_is_not_its_own() {
        let large = "x=$(head -c 30000000 /dev/zero | tr '\\0' a)";
        let busy = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";
        let usage = shell(&format!("{large}; ( {busy}; exec sleep 2 ); :")).usage;
        let (own, child) = (usage.peak_bytes.unwrap(), usage.child_peak_bytes.unwrap());
        assert!(own > 30_000_000 && child < 10_000_000, "{own} {child}");
    }

    #[test]
    fn the_peak_of_what_was_hardly_seen_is_unknown() {
        let mut looks = Looks::default();
        for seen in 1..=LOOKS_MIN {
            assert_eq!(looks.peak(), None);
            looks.add(u64::from(seen) * 4096);
        }
        assert_eq!(looks.peak(), Some(u64::from(LOOKS_MIN) * 4096));
    }

    #[test]
    fn a_name_with_brackets_is_no_number() {
        let line = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 150 50 300 100 20 0";
        let (own, children) = cpu_in(line).unwrap();
        assert!((own - 2.0).abs() < 1e-9 && (children - 4.0).abs() < 1e-9);
        assert_eq!(cpu_in("7 (sh) S 1 2"), None);
    }
}
