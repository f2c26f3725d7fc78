//! How old those are that still live. Of some the birth was seen; of others only that they were there at some time.

/// The ages of the living of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ages {
    /// Ages of those whose birth was seen: (ns, count), youngest first, to 1 %.
    pub exact: Vec<(u64, u64)>,
    /// Ages of those whose birth was not seen, who are at least this old: (ns, count), youngest first, to 1 %.
    pub at_least: Vec<(u64, u64)>,
    /// The oldest of all; `None` where nobody lives.
    pub eldest: Option<Eldest>,
}

/// The age of the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eldest {
    /// In ns, exact.
    pub age_ns: u64,
    /// Whether it may be older: its birth was not seen.
    pub at_least: bool,
}

impl Ages {
    /// How many are older than this, those counted at their least age.
    pub fn older_than(&self, age_ns: u64) -> u64 {
        self.exact.iter().chain(&self.at_least).filter(|&&(age, _)| age > age_ns).map(|&(_, n)| n).sum()
    }
}
