//! Who holds a job: what a process writes about itself, and whether it still lives.

use crate::model::clock;
use crate::model::escape::shown;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;

/// One process, told apart from every other that ever had its number.
///
/// Informational: the lock itself is the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The machine's name.
    pub host: String,
    /// When it took hold, local wall clock in milliseconds: for showing only.
    pub since_ms: i64,
    /// The kernel's id of this boot; empty where the system has none.
    pub boot_id: String,
    /// When the process started, in clock ticks since boot (`/proc/PID/stat`, field 22); 0 where
    /// the system does not say.
    pub start_time: u64,
    /// Among which processes its number is its own, as the kernel names them (`man 7 pid_namespaces`);
    /// empty where it does not, or nobody wrote it down.
    #[serde(default)]
    pub pid_space: String,
}

impl Holder {
    /// Describes this process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            host: host(),
            since_ms: clock::wall_ms(),
            boot_id: boot_id(),
            start_time: stat_of(pid).map_or(0, |stat| stat.start_time),
            pid_space: pid_space(),
        }
    }

    /// Returns whether the process is gone: absent, a zombie, of another boot, or replaced by
    /// another one with its number.
    pub fn is_dead(&self) -> bool {
        if self.boot_id != boot_id() {
            return true;
        }
        if !cfg!(target_os = "linux") {
            return !answers_to_signals(self.pid);
        }
        match stat_of(self.pid) {
            None => true,
            Some(stat) => stat.is_over || stat.start_time != self.start_time,
        }
    }

    /// Returns whether it certainly is gone. Who is of another machine, or of another container, of
    /// which the folder may be, too, cannot be seen from here.
    pub fn ended_here(&self) -> bool {
        let is_near = self.host == host()
            && self.boot_id == boot_id()
            && self.pid_space == pid_space()
            && (!cfg!(target_os = "linux") || !self.pid_space.is_empty());
        is_near && self.is_dead()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({}", self.pid, shown(&self.host))?;
        if let Ok(since) = jiff::Timestamp::from_millisecond(self.since_ms) {
            write!(f, ", since {since:.0}")?;
        }
        f.write_str(")")
    }
}

fn host() -> String {
    let host = rustix::system::uname();
    host.nodename().to_string_lossy().into_owned()
}

fn pid_space() -> String {
    fs::read_link("/proc/self/ns/pid")
        .map(|space| space.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

fn answers_to_signals(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    match pid.map(rustix::process::test_kill_process) {
        None => false,
        Some(answer) => answer != Err(rustix::io::Errno::SRCH),
    }
}

/// What `/proc/PID/stat` says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// A zombie, or dead.
    is_over: bool,
    start_time: u64,
}

fn stat_of(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&text))
}

/// Reads the fields after the command name, which may itself hold blanks and brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    // The state is field 3 and the start time field 22: 18 lie between.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Stat {
        is_over: matches!(state, "Z" | "X" | "x"),
        start_time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives() {
        assert!(!Holder::current().is_dead());
    }

    #[test]
    fn another_boot_another_start_or_an_absent_number_is_dead() {
        let me = Holder::current();
        assert!(
            Holder {
                boot_id: "another".into(),
                ..me.clone()
            }
            .is_dead()
        );
        assert!(
            Holder {
                pid: u32::MAX - 1,
                ..me.clone()
            }
            .is_dead()
        );
        if cfg!(target_os = "linux") {
            assert!(
                Holder {
                    start_time: me.start_time + 1,
                    ..me
                }
                .is_dead()
            );
        }
    }

    #[test]
    fn a_command_name_may_hold_brackets_and_blanks() {
        let text = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 9";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                is_over: false,
                start_time: 777
            })
        );
        let zombie = text.replace(" S ", " Z ");
        assert!(parse_stat(&zombie).unwrap().is_over);
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat("42 (a) S 1"), None);
    }

    #[test]
    fn it_says_who_where_and_since_when() {
        let holder = Holder {
            pid: 7,
            host: "mill\u{1b}".into(),
            since_ms: 1_000,
            boot_id: String::new(),
            start_time: 0,
            pid_space: String::new(),
        };
        assert_eq!(
            holder.to_string(),
            "pid 7 (mill\\u{1b}, since 1970-01-01T00:00:01Z)"
        );
    }
}
