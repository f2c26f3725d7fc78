//! `golife`: parse, run, say how it ended.

use std::process::ExitCode;

use clap::Parser;
use golife::commands::{self, arguments::Cli};

/// Memory blocks from this size on are the system's own: when a table grows, moves or shrinks, its old memory is given
/// back. Left to itself, glibc keeps up to 32 MB of each for later (`M_MMAP_THRESHOLD` in mallopt(3)).
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's, before there is another thread. Where it fails, memory is kept longer.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
    let cli = Cli::parse();
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("golife: {}", commands::message(&error));
            commands::exit_code(&error)
        }
    }
}
