//! How much the tracker may keep, and how much of that is used.

/// The most removals, and the most ends, that late records of a process can take back.
pub(super) const MOST_TAKEN_BACK: usize = 1 << 16;

/// How much the tracker may keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most sites of all processes together. Beyond that, each process has one overflow row.
    pub max_sites: usize,
    /// The most living goroutines of all processes together. Beyond that, new ones are counted but not followed.
    pub max_goroutines: usize,
    /// The most lineages of all processes together. Beyond that, goroutines are known by their site, not by their
    /// creators.
    pub max_lineages: usize,
    /// The most ended instances that are kept for the report. Beyond that, the oldest are forgotten.
    pub max_gone: usize,
    /// The most exits that are remembered from the begin of a scan until its list is applied.
    pub max_remembered: usize,
    /// For how long in ns a goroutine must outlive its test to be remembered when it ends.
    pub grace_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_sites: 10_000,
            max_goroutines: 16 << 20,
            max_lineages: 1 << 18,
            max_gone: 256,
            max_remembered: 4 << 20,
            grace_ns: 1_000_000_000,
        }
    }
}

/// How much of the [`Limits`] is used.
pub(super) struct Budget {
    pub limits: Limits,
    pub sites: usize,
    pub goroutines: usize,
    pub lineages: usize,
}

impl Budget {
    /// A budget of which nothing is used yet.
    pub fn new(limits: Limits) -> Budget {
        Budget { limits, sites: 0, goroutines: 0, lineages: 0 }
    }

    pub fn has_room_for_site(&self) -> bool {
        self.sites < self.limits.max_sites
    }

    pub fn take_site(&mut self) -> bool {
        let room = self.has_room_for_site();
        self.sites += usize::from(room);
        room
    }

    pub fn has_room_for_lineage(&self) -> bool {
        self.lineages < self.limits.max_lineages
    }

    #[inline]
    pub fn has_room_for_goroutine(&self) -> bool {
        self.goroutines < self.limits.max_goroutines
    }
}
