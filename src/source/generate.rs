//! Writes a realistic users CSV for rehearsals: the same arguments and seed give the same bytes.
//!
//! A user is a pure function of the seed and its number, so rows that repeat a user need no
//! memory of its cells. Emails lie in domains that can never be registered.

mod names;
mod people;
mod plan;

use people::{BadKind, People};
use plan::{Kind, Plan};
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 128 << 10;

/// A share of the rows, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percent(u32);

impl Percent {
    const WHOLE: u32 = 10_000;

    /// Returns this share of `rows`, rounded down.
    fn of(self, rows: u32) -> u32 {
        let share = u64::from(rows) * u64::from(self.0) / u64::from(Self::WHOLE);
        u32::try_from(share).unwrap_or(rows)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().strip_suffix('%').unwrap_or(text.trim());
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part)
        {
            return Err("write a share of the rows such as 5% or 0.25%".to_owned());
        }
        let whole: u32 = whole.parse().map_err(|_| "not a number".to_owned())?;
        let part: u32 = format!("{part:0<2}")
            .parse()
            .map_err(|_| "not a number".to_owned())?;
        match whole * 100 + part {
            share if share <= Self::WHOLE => Ok(Self(share)),
            _ => Err("at most 100% of the rows".to_owned()),
        }
    }
}

/// Writes a realistic users CSV.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArgs {
    /// How many rows to write
    #[arg(long, value_name = "N")]
    pub rows: u32,
    /// How many organizations the users belong to; 0 writes no organization columns
    #[arg(long, value_name = "M", default_value_t = 0)]
    pub orgs: u32,
    /// The share of the rows that repeat an earlier user in another organization
    #[arg(long, value_name = "P%", default_value = "0%")]
    pub multi_org: Percent,
    /// The share of the rows that repeat an earlier row
    #[arg(long, value_name = "P%", default_value = "0%")]
    pub duplicates: Percent,
    /// The share of the rows that break a rule, each kind in turn
    #[arg(long, value_name = "P%", default_value = "0%")]
    pub bad: Percent,
    /// The same seed gives the same bytes
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Replace the file of --out if it is there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// The file to write instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(String),
    /// The file given by `--out` cannot be made.
    #[error("cannot write {}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing stopped.
    #[error("cannot write the rows")]
    Write(#[from] io::Error),
}

/// Writes the rows to the file of `--out`, or to `stdout`.
pub fn generate(args: &GenerateArgs, stdout: &mut dyn Write) -> Result<(), GenerateError> {
    let plan = Plan::new(args)?;
    match &args.out {
        None => write_rows(args, plan, stdout),
        Some(path) => {
            let failed = |source| GenerateError::Create {
                path: path.clone(),
                source,
            };
            let mut file = std::fs::File::create(path).map_err(failed)?;
            write_rows(args, plan, &mut file)
        }
    }
}

fn write_rows(
    args: &GenerateArgs,
    mut plan: Plan,
    out: &mut dyn Write,
) -> Result<(), GenerateError> {
    let people = People::new(args.seed, args.orgs);
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + 4096);
    people.header(&mut buffer);
    let mut bad_kinds = BadKind::all(args.orgs > 0).iter().cycle();
    let mut bad_rows = 0;
    while let Some(kind) = plan.next_row() {
        match kind {
            Kind::Member { user, membership } => people.member(&mut buffer, user, membership),
            Kind::Bad => {
                if let Some(kind) = bad_kinds.next() {
                    people.bad(&mut buffer, bad_rows, *kind);
                }
                bad_rows += 1;
            }
        }
        if buffer.len() >= BUFFER_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
