//! The tapline command: arguments in, text out, exit codes.
//!
//! Exit: 0 done (also by `-c`, SIGINT, SIGTERM), 1 could not, 2 usage, 3 packets lost with
//! `--fail-on-drop`. Human text goes to standard error, data to standard output.

mod archive;
mod archiving;
mod broker;
mod capture;
mod check;
mod cli;
mod completions;
mod demo;
mod diag;
mod doctor;
#[cfg(test)]
mod documented;
mod failure;
mod filter;
mod fit;
mod health;
mod identity;
mod inline;
mod l2tp;
mod listeners;
mod local;
mod loops;
mod man;
mod mirror;
mod opened;
mod print;
mod receive;
mod search;
mod service;
mod session;
mod stores;
mod targets;
mod times;
mod top;
mod workers;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    session::log_to_stderr(&cli.verbosity);
    let result = match cli.command {
        Command::Broker(options) => broker::run(*options, &cli.verbosity),
        Command::Capture(options) => capture::run(options, &cli.verbosity),
        Command::Mirror(options) => mirror::run(options, &cli.verbosity),
        Command::Receive(options) => receive::run(options, &cli.verbosity),
        Command::Search(options) => search::run(options, &cli.verbosity),
        Command::Inline(options) => inline::run(&options, &cli.verbosity),
        Command::L2tp(command) => l2tp::run(command, &cli.verbosity),
        Command::Filter(command) => filter::run(command),
        Command::Archive(command) => archive::run(*command, &cli.verbosity),
        Command::Diag(command) => diag::run(command, &cli.verbosity),
        Command::Doctor(options) => doctor::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Demo => demo::run(),
        Command::Man(options) => man::run(&options),
        Command::Completions(options) => completions::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                session::say(&format!("tapline: {message}\n"));
            }
            failure.exit_code()
        }
    }
}
