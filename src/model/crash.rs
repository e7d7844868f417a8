//! What a panic does to a process of ours: it says where, never what, and ends everything at once.
//!
//! A panic is a crash: whoever goes on after one may be wrong, and whoever waits for a thread or a
//! task that panicked waits for ever. Its words may quote a row, so only the place is told; and no
//! image of its memory is left, which holds the key and people.
#![expect(
    clippy::disallowed_methods,
    clippy::exit,
    clippy::print_stderr,
    reason = "a process that crashed has no main left to return to"
)]

use rustix::process::{Resource, Rlimit, setrlimit};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

/// The exit code of an internal error, as `cli` documents it.
const INTERNAL: i32 = 70;

/// From now on a panic of any thread prints what `words` makes of its place, and ends the process.
/// A later call replaces an earlier one.
pub fn end_on_panic(words: fn(place: &str) -> String) {
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        // Names of functions and places only; RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            eprintln!("{trace}");
        }
        let place = panic.location().map(ToString::to_string);
        eprintln!("{}", words(place.as_deref().unwrap_or("an unknown place")));
        std::process::exit(INTERNAL);
    }));
}

/// From now on a crash of this process, and of those it starts, leaves no core file.
pub fn leave_no_core() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering a limit is always allowed; where it is not, nothing else would be, either.
    if let Err(error) = setrlimit(Resource::Core, none) {
        eprintln!("warning: core files cannot be switched off: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const CRASHES: &str = "USERFERRY_TEST_CRASHES";

    /// Not a test of its own unless the next one starts it.
    #[test]
    fn crashing() {
        if std::env::var(CRASHES).is_ok() {
            end_on_panic(|place| format!("crashed at {place}"));
            let thread = std::thread::spawn(|| panic!("ada@example.com is in this row"));
            // Without the hook this would be an error, and the process would go on to exit 0.
            let _ended = thread.join();
        }
    }

    #[test]
    fn a_panic_of_any_thread_ends_the_process_and_tells_the_place_only() {
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "model::crash::tests::crashing", "--nocapture"])
            .env(CRASHES, "1")
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(70), "{said}");
        assert!(said.contains("crashed at src/model/crash.rs:"), "{said}");
        assert!(!said.contains("ada"), "{said}");
    }
}
