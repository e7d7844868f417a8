//! The `userferry` command: see the library for everything it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    userferry::cli::main()
}
