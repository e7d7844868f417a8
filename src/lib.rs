//! userferry carries a large users CSV into an identity provider.

pub mod bench;
pub mod cli;
pub mod coordinator;
#[cfg(test)]
mod fuzz;
pub mod ledger;
pub mod model;
pub mod pace;
pub mod protocol;
pub mod report;
pub mod sandbox;
#[cfg(test)]
mod sim;
pub mod source;
pub mod supervise;
pub mod target;
pub mod worker;
