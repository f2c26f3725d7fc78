//! What `golife run` alone can be asked for.

use clap::ValueEnum;

/// How `golife run` sees what processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// By probes; where the kernel refuses them, by looks, which is said
    Auto,
    /// By probes, or not at all
    Traced,
    /// By looks into their memory, without probes
    Scanned,
}
