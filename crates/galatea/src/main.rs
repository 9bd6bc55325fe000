//! The `galatea` command line: `galatea help` lists what it does.
#![forbid(unsafe_code)]

mod automatic;
mod cli;
mod commands;
mod failure;
mod machine;
mod plans;
mod settings;
mod spelling;
mod stop;
mod template;
mod ui;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
