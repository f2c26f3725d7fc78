//! (to come)
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// x
    Suspect,
}
