//! `bench`: what this machine can do, measured through the product's own parts.
//!
//! # Owns
//! The suites, how often they repeat, what is made of the numbers, the file of an earlier run they
//! are compared with, and how all that is shown.
//! # Never
//! Measures a copy of the product: a suite runs the program itself, or the very function the
//! program uses. Prints, reads the environment, or leaves anything behind: `cli` gives it a folder
//! that goes afterwards.
//! # See
//! `measure.rs` for the words suites report in; a file per suite.

mod bare;
mod chart;
pub mod compare;
mod drive;
pub mod events;
mod http;
pub mod index;
pub mod ledger;
pub mod machine;
pub mod measure;
mod model;
pub mod page;
pub mod pipe;
pub mod report;
pub mod stats;
pub mod text;
mod timing;
pub mod workers;

pub use bare::main as bare_loop;
pub use machine::{Load, Machine};
pub use measure::{
    Align, Better, Chart, ChartKind, Column, Measure, Section, Series, SuiteReport, Table, Unit,
};
pub use report::{BaselineError, Report};
pub use stats::Percentiles;

use crate::ledger::LedgerError;
use crate::source::{GenerateError, SourceError};
use crate::supervise::SandboxChildError;
use std::io;
use std::path::PathBuf;

/// How much a suite may do, and where.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Every size, however long it takes; otherwise a suite ends within 40 s on 2 cores.
    pub full: bool,
    /// Repetitions that are kept, at least 1. A suite whose single run is long may do fewer and
    /// then says so in a note.
    pub runs: u32,
    /// Rows (or items) of every measurement instead of the suite's own sizes: for tests of the
    /// frame and for looking at one size. At least 1.
    pub rows: Option<u32>,
    /// A private folder of this suite on the disk that is to be measured; removed afterwards.
    pub folder: PathBuf,
    /// The program, to be started as itself.
    pub program: PathBuf,
    /// What only the suite `workers` heeds.
    pub sweep: workers::Sweep,
}

impl Budget {
    /// Makes the default one: three runs of the suites' own sizes.
    pub fn new(folder: PathBuf, program: PathBuf) -> Self {
        Self {
            full: false,
            runs: 3,
            rows: None,
            folder,
            program,
            sweep: workers::Sweep::default(),
        }
    }

    /// Returns `rows` if they were asked for, else the size for `--full`, else the default one.
    pub fn size(&self, quick: u32, full: u32) -> u32 {
        self.rows.unwrap_or(if self.full { full } else { quick })
    }

    /// Returns the default or the full one of a pair of sizes that are no rows.
    pub fn size_of(&self, (quick, full): (u32, u32)) -> u32 {
        if self.full { full } else { quick }
    }

    /// Measures once without keeping it, then `runs` times; `once` gets 0 for the warm-up and
    /// then the number of the run.
    ///
    /// # Errors
    /// The first one of `once`.
    pub fn repeat(
        &self,
        mut once: impl FnMut(u32) -> Result<f64, BenchError>,
    ) -> Result<Vec<f64>, BenchError> {
        once(0)?;
        (1..=self.runs.max(1)).map(once).collect()
    }
}

/// Who hears what is being measured right now.
pub trait Progress {
    /// Says it: one line, such as `leases: 1,000,000 rows, run 2 of 3`.
    fn say(&mut self, words: &str);
}

/// A suite as the command line knows it.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// The word on the command line.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// Measures.
    pub run: fn(&Budget, &mut dyn Progress) -> Result<SuiteReport, BenchError>,
}

/// Every suite, in the order in which all of them run.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "workers",
        about: "how many worker processes pay, with and without a limit and a latency",
        run: workers::run,
    },
    Suite {
        name: "http",
        about: "requests per second beside a bare client",
        run: http::run,
    },
    Suite {
        name: "ledger",
        about: "the job's memory: leases, settled rows, status, up to 1,000,000 chunks",
        run: ledger::run,
    },
    Suite {
        name: "pipe",
        about: "messages between coordinator and worker",
        run: pipe::run,
    },
    Suite {
        name: "events",
        about: "the writer of --events",
        run: events::run,
    },
    Suite {
        name: "index",
        about: "the one pass over a file before the first request",
        run: index::run,
    },
];

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file or folder of the measurement cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The ledger refused.
    #[error("the ledger under measurement failed")]
    Ledger(#[from] LedgerError),
    /// The rows cannot be read.
    #[error("the rows under measurement cannot be read")]
    Source(#[from] Box<SourceError>),
    /// The rows cannot be made.
    #[error("the rows to measure with cannot be made")]
    Generate(#[from] GenerateError),
    /// There is no server to measure against.
    #[error("the server to measure against cannot be used")]
    Sandbox(#[from] SandboxChildError),
    /// What was measured did not do what it had to, so that its time means nothing.
    #[error("{0}")]
    Wrong(String),
}

impl From<SourceError> for BenchError {
    fn from(error: SourceError) -> Self {
        Self::Source(Box::new(error))
    }
}

impl BenchError {
    /// Makes the error of a file or folder, for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
