//! Numbers that stand for what the tracker knows: process instances and, within one, its sites, lineages and stacks.

/// A process instance. Its serial number is never used again while golife runs; its slot is, once the instance is
/// forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// How many instances there were before it.
    serial: u64,
    /// Where the tracker keeps it.
    slot: u32,
}

impl InstanceId {
    pub(super) fn new(serial: u64, slot: usize) -> InstanceId {
        InstanceId { serial, slot: slot as u32 }
    }

    pub(super) fn slot(self) -> usize {
        self.slot as usize
    }
}

/// A site within its process instance: an index that is never reused while the instance lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// A lineage within its process instance: an index that is never reused while the instance lasts. The index of a
/// creator's lineage is smaller than that of the goroutines it created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageId(pub u32);

/// A creation stack: the number that the probes gave it, which is the same for the same stack as long as they run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

impl StackId {
    /// There is no stack, because creation stacks were not asked for or the creation was not seen.
    pub const NONE: StackId = StackId(0);
    /// The stack could not be read, or there was no room for it.
    pub const LOST: StackId = StackId(u16::MAX as u32);
}
