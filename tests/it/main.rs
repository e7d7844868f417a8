//! The program from outside: the real executable, real workers, a real server, real signals.
//!
//! What happened is read from the server's own history and data, never from the importer's report.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests start, watch and kill processes themselves"
)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod access;
mod bench;
mod bench_parts;
mod check;
mod corpus;
mod crash;
mod dialects;
mod documents;
mod existing;
mod faults;
mod faults_answers;
mod faults_ledger;
mod faults_process;
mod faults_target;
mod faults_workers;
mod files;
mod finish;
mod harness;
mod http;
mod jobs;
mod judge;
mod listing;
mod outputs;
mod profiles;
mod proxy;
mod rates;
mod roles;
mod rows;
mod secrets;
mod security;
mod signals;
mod valves;
