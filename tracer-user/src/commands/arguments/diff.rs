//! The arguments of `golife diff`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::commands::completion;

/// `golife diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The saved report to compare with (golife trace --format json --output FILE)
    #[arg(value_name = "OLD", value_hint = ValueHint::FilePath, add = completion::reports())]
    pub old: PathBuf,
    /// The saved report to compare
    #[arg(value_name = "NEW", value_hint = ValueHint::FilePath, add = completion::reports())]
    pub new: PathBuf,
    /// Form of the comparison
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,
    /// Write the comparison to this file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Exit with code 3 if a statement is worse, or new and judged watch or worse
    #[arg(long, value_enum, value_name = "CHANGE")]
    pub fail_on: Option<FailOnChange>,
}

/// Form of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people
    Text,
    /// One document
    Json,
    /// For a pull request on GitHub
    Markdown,
}

/// What makes a comparison fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOnChange {
    /// A statement is worse, or new and leaks
    Worse,
}
