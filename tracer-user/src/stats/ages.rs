//! The ages of those that live. For some, the birth was seen; for others it is only known that they existed at some
//! time.

/// The ages of those that live in one group, such as a creation site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ages {
    /// Ages of those whose birth was seen, as (age in ns, count), youngest first. The ages are accurate to 1 %.
    pub exact: Vec<(u64, u64)>,
    /// Least ages of those whose birth was not seen, as (age in ns, count), youngest first. The ages are accurate to 1
    /// %.
    pub at_least: Vec<(u64, u64)>,
    /// The oldest of all; `None` if none lives.
    pub eldest: Option<Eldest>,
}

/// The age of the oldest that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eldest {
    /// Its age in ns, exact.
    pub age_ns: u64,
    /// Whether it may be older, because its birth was not seen.
    pub at_least: bool,
}

impl Ages {
    /// Counts those that are older than this age in ns. Those whose birth was not seen count with their least age.
    pub fn older_than(&self, age_ns: u64) -> u64 {
        self.exact.iter().chain(&self.at_least).filter(|&&(age, _)| age > age_ns).map(|&(_, n)| n).sum()
    }
}
