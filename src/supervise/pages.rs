//! The size of memory's pages, where the system leaves that to the program.
//!
//! Large ones (2 MiB) take less of a processor's time once they are in use, and some milliseconds
//! each to be made ready: whoever uses memory once is quicker without, and smaller by a quarter.
//! Linux alone has the switch. It belongs to the whole process, and those it starts inherit it.

#[cfg(target_os = "linux")]
use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// From now on memory of this process comes in large pages, or not.
#[cfg(target_os = "linux")]
pub fn allow_large(allow: bool) {
    // A kernel that knows no such switch gives what it gives: nothing depends on it but speed.
    if let Err(error) = disable_transparent_huge_pages(!allow) {
        tracing::debug!(%error, "the size of pages stays as it is");
    }
}

/// Does `start`; a process that is started meanwhile has large pages, or not.
#[cfg(target_os = "linux")]
pub(super) fn with_large<T>(allow: bool, start: impl FnOnce() -> T) -> T {
    let allowed = transparent_huge_pages_are_disabled().is_ok_and(|disabled| !disabled);
    if allowed == allow {
        return start();
    }
    allow_large(allow);
    let started = start();
    allow_large(allowed);
    started
}

/// Does nothing: there is no switch.
#[cfg(not(target_os = "linux"))]
pub fn allow_large(_allow: bool) {}

#[cfg(not(target_os = "linux"))]
pub(super) fn with_large<T>(_allow: bool, start: impl FnOnce() -> T) -> T {
    start()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    /// One test: the switch is one for all threads.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stderr,
        reason = "no worker, only something with a status; and who skips says so"
    )]
    fn a_process_has_the_pages_it_was_started_with_and_the_starter_keeps_its_own() {
        if !Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            eprintln!("skipped: this kernel has no large pages to choose");
            return;
        }
        let starter = || transparent_huge_pages_are_disabled().unwrap();
        let before = starter();
        for allow in [true, false] {
            let mut status = Command::new("cat");
            status.arg("/proc/self/status");
            let status = with_large(allow, || status.output()).unwrap();
            let status = String::from_utf8(status.stdout).unwrap();
            let line = format!("THP_enabled:\t{}", u8::from(allow));
            assert!(status.lines().any(|it| it == line), "{allow}: {status}");
            assert_eq!(starter(), before);
        }
    }
}
