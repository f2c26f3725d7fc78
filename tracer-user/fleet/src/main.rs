//! The program `golife-fleet`: reads the command line, runs the command, and turns how that ended into a message and an
//! exit code.

use std::process::ExitCode;

use clap::Parser;
use golife_fleet::{arguments::Cli, commands};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            commands::say(&format!("golife-fleet: {}", golife::commands::message(&error)));
            ExitCode::FAILURE
        }
    }
}
