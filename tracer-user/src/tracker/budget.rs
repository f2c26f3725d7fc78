//! How much the tracker may keep, and how much of that is used.

/// How much the tracker may keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sites of all processes; beyond, each process has one overflow row.
    pub max_sites: usize,
    /// Living goroutines of all processes; beyond, new ones are counted, not followed.
    pub max_goroutines: usize,
    /// Lineages of all processes; beyond, goroutines are known by their site, not by their creators.
    pub max_lineages: usize,
    /// Ended instances that are kept for the report; beyond, the oldest are forgotten.
    pub max_gone: usize,
    /// Exits remembered from the begin of a scan until its list is applied.
    pub max_remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_sites: 10_000,
            max_goroutines: 16 << 20,
            max_lineages: 1 << 18,
            max_gone: 256,
            max_remembered: 4 << 20,
        }
    }
}

/// What is used of the [`Limits`].
pub(super) struct Budget {
    pub limits: Limits,
    pub sites: usize,
    pub goroutines: usize,
    pub lineages: usize,
}

impl Budget {
    /// Nothing is used yet.
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
