//! Who led to goroutines: a line, for how many of them, and how that is known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::Frame;

/// A line that led to goroutines of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlamedFrame {
    /// The place in the source code.
    #[serde(flatten)]
    pub frame: Frame,
    /// Number of living goroutines that go back to the place.
    pub count: u64,
    /// Additive: how many of them at most were created in the time that the report covers; 0 where nobody has seen any
    /// creation.
    #[serde(default)]
    pub came: u64,
    /// Additive: how it is known that the place led to them; where several ways told, the most exact one.
    #[serde(default)]
    pub by: LedBy,
}

/// How it is known that a line led to goroutines, the most exact way first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LedBy {
    /// The line is a call on the creator's stack at the `go` statement.
    Call,
    /// The line is a call that the creator was in when golife looked, and within which it was still in the function of
    /// the `go` statement. It may have come there a second time, on another way.
    Look,
    /// The line is a `go` statement that created one of the creators, or the way is one that only a newer golife knows.
    #[default]
    #[serde(other)]
    Statement,
}
