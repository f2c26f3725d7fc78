//! `golife fleet`: another program does it, so that the one on the nodes stays small.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::bail;

use super::arguments::Fleet;

/// The program that does it.
const PROGRAM: &str = "golife-fleet";

/// Becomes `golife-fleet`, from beside this program or else from PATH.
///
/// # Errors
/// It is not there, or cannot be started.
pub fn run(arguments: &Fleet) -> anyhow::Result<ExitCode> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(PROGRAM));
    let error = Command::new(&program).args(&arguments.arguments).exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        bail!(
            "{PROGRAM} is neither beside golife nor on PATH: put the one of the same release there, or build it with `cargo build \
             --release -p {PROGRAM}`"
        );
    }
    bail!("cannot start {}: {error}", program.display())
}
