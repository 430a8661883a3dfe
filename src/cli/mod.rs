//! The command line: `tskv serve` and the tools around it.
//!
//! Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 the store is damaged, 141 when the reader of the
//! output went away. What a command prints for its caller goes to stdout, everything else to stderr.
#![forbid(unsafe_code)]

pub mod admin;
mod args;
mod backup;
mod bench;
mod check;
mod connect;
pub mod csv;
mod dump;
mod error;
mod export;
#[cfg(test)]
mod fake_server;
mod format;
mod import;
mod keys;
mod log_writer;
mod output;
mod repair;
pub mod serve;
mod shards;
mod simulate;
mod slowlog;
mod top;

pub use args::ServeArgs;

use crate::server;
use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => return serve::serve(args, run_server),
        Command::Ping(connect) => keys::ping(&connect),
        Command::Put(args) => keys::put(&args),
        Command::Get(args) => keys::get(&args),
        Command::Delete(args) => keys::delete(&args),
        Command::Scan(args) => keys::scan(&args),
        Command::Stats(args) => keys::stats(&args),
        Command::Shards(args) => shards::shards(&args),
        Command::Top(args) => top::run(&args),
        Command::Slowlog(args) => slowlog::run(&args),
        Command::Flush(connect) => keys::flush(&connect),
        Command::Compact(connect) => keys::compact(&connect),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Simulate(args) => simulate::run(&args),
    };
    outcome.map_or_else(|error| error.report(), |()| ExitCode::SUCCESS)
}

/// Runs the server and tells the command line when it serves and when it goes down.
fn run_server(config: crate::config::Config, hooks: serve::ServeHooks) -> Result<(), server::ServeError> {
    let (ready, stopping) = (hooks.clone(), hooks);
    let is_ready = move |running: server::Running| {
        let server::Running { listen, backend, cores, metrics } = running;
        ready.ready(serve::Ready { listen, backend, cores, metrics });
    };
    server::run(config, is_ready, move || stopping.stopping())
}
