//! Numbers that stand for what the tracker knows: process instances, and within one its sites, lineages and stacks.

/// A process instance. Its serial number is never used again while golife runs; its slot is, once it is forgotten.
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

/// A site within its process instance: an index, never reused while the instance lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// A lineage within its process instance: an index, never reused while the instance lasts. Creators' are smaller than
/// those of what they created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageId(pub u32);

/// A creation stack, by the number that the probes gave it. The same stack has the same number as long as they run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

impl StackId {
    /// Nobody looked: creation stacks were not asked for, or the creation was not seen.
    pub const NONE: StackId = StackId(0);
    /// It could not be read, or there was no room for it.
    pub const LOST: StackId = StackId(u16::MAX as u32);
}
