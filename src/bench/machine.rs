//! The machine and the build that were measured.

use serde::{Deserialize, Serialize};

/// What the numbers were measured on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: u32,
    /// The processor's own name.
    pub cpu: String,
    /// Memory in bytes, if the system tells.
    pub memory_bytes: Option<u64>,
    /// The operating system.
    pub os: String,
    /// `release` or `debug`.
    pub build: String,
    /// The program's version.
    pub version: String,
}

/// How busy the machine was: the load average of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Before the first measurement, if the system tells.
    pub before: Option<f64>,
    /// After the last one.
    pub after: Option<f64>,
}

impl Machine {
    /// Asks the system.
    pub fn ask() -> Self {
        let release = rustix::system::uname();
        Self {
            cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_bytes: field("/proc/meminfo", "MemTotal")
                .and_then(|words| words.split(' ').next()?.parse::<u64>().ok())
                .map(|kib| kib.saturating_mul(1024)),
            os: format!(
                "{} {}",
                release.sysname().to_string_lossy(),
                release.release().to_string_lossy()
            ),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
            .to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Returns the load average of the last minute, if the system tells.
pub fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Returns the value of the first `name : value` line of a file of the system.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_knows_itself() {
        let machine = Machine::ask();
        assert!(machine.cores >= 1);
        assert!(!machine.os.trim().is_empty());
        if cfg!(target_os = "linux") {
            assert!(machine.memory_bytes > Some(1 << 20));
            assert!(load().is_some());
        }
    }
}
