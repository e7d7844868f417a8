//! x
use super::args::GenerateArgs;
use super::error::CliResult;
use super::exit::Exit;
/// x
pub fn run(_: &GenerateArgs) -> CliResult<Exit> {
    Ok(Exit::Success)
}
