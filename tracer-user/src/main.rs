//! The program `golife`: reads the command line, runs the subcommand, and turns how that ended into a message and an
//! exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use golife::commands::{self, arguments::Cli, completion, launcher, memory::Memory};

/// Size in bytes from which on glibc gets each block of memory from the kernel and gives it back when it is freed.
/// Without this, glibc raises the size up to 32 MB as it goes, and keeps the old memory of tables that have grown
/// (`M_MMAP_THRESHOLD` in mallopt(3)).
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

/// Where there is no more, golife says so.
#[global_allocator]
static MEMORY: Memory = Memory;

fn main() -> ExitCode {
    // This comes before all else, since a program waits for it.
    if let Some(failed) = launcher::become_program() {
        return failed;
    }
    Memory::watch();
    #[cfg(target_env = "gnu")]
    // SAFETY: this only sets a number of the allocator, before there is another thread. If it fails, freed memory is
    // merely kept for longer.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
    completion::answer(Cli::command);
    let cli = Cli::parse();
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            commands::say(&format!("golife: {}", commands::message(&error)));
            commands::exit_code(&error)
        }
    }
}
