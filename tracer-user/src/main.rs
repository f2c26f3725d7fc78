//! `golife`: parse, run, say how it ended.

use std::process::ExitCode;

use clap::Parser;
use golife::{cli::Cli, commands};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("golife: {}", commands::message(&error));
            commands::exit_code(&error)
        }
    }
}
