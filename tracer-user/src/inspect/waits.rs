//! What the goroutines of each creation site wait for, and which of them have not moved since an earlier scan.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::blocked::{Blocked, Snapshot};
use super::stacks::{StackId, Stacks};
use crate::go::{Binary, Status};

/// A `go` statement with an entry function: link-time `gopc` and `startpc`.
pub type SiteKey = (u64, u64);

/// Groups of one site that are kept.
const MOST_GROUPS: usize = 10;
/// Goroutines that are named of each group.
const EXAMPLES: usize = 10;

/// Which goroutines a scan found, and where each of them was blocked: 16 bytes each, for a comparison with a later scan.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<(u64, u64)>);

impl Places {
    /// Of all goroutines.
    pub fn of(snapshot: &Snapshot) -> Places {
        let hashes = hashes(&snapshot.stacks);
        let goroutines = snapshot.by_goid();
        Places(goroutines.map(|goroutine| (goroutine.goid, place(goroutine, &hashes))).collect())
    }

    fn of_goroutine(&self, goid: u64) -> Option<u64> {
        let found = self.0.binary_search_by_key(&goid, |(goid, _)| *goid).ok()?;
        Some(self.0[found].1)
    }
}

/// It does not wait, or where is not known.
const NOWHERE: u64 = 0;

/// What tells two places apart, with no more doubt than 64 bits leave: the stack and the wait reason.
fn place(goroutine: &Blocked, hashes: &[u64]) -> u64 {
    let stack = goroutine.stack.filter(|_| goroutine.waits());
    let Some(stack) = stack.and_then(|stack| hashes.get(stack.0 as usize)) else { return NOWHERE };
    let mut hasher = DefaultHasher::new();
    (stack, goroutine.reason).hash(&mut hasher);
    hasher.finish().max(NOWHERE + 1)
}

fn hashes(stacks: &Stacks) -> Vec<u64> {
    let hash = |id: u32| {
        let mut hasher = DefaultHasher::new();
        stacks.pcs(StackId(id)).hash(&mut hasher);
        hasher.finish()
    };
    (0..stacks.len() as u32).map(hash).collect()
}

/// Goroutines of one site that are in the same state at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// [`Blocked::state`].
    pub state: &'static str,
    /// The stack of one of them; the others' may differ in calls that are not shown.
    pub stack: Option<StackId>,
    /// How many.
    pub count: u64,
    /// How many of them were blocked at the same place in the earlier scan; none without one.
    pub unmoved: Option<u64>,
    /// The first of them.
    pub goids: Vec<u64>,
}

/// What the goroutines of one site do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteWaits {
    /// How many were found.
    pub live: u64,
    /// How many of them were blocked at the same place in the earlier scan; none without one.
    pub unmoved: Option<u64>,
    /// How many the earlier scan did not find; none without one.
    pub new: Option<u64>,
    /// Size of their stacks in bytes.
    pub stack_bytes: u64,
    /// It waits at least this long, in ns, the one that waits longest; none where the runtime does not say.
    pub longest_wait_ns: Option<u64>,
    /// Most goroutines first; the smallest are left out.
    pub groups: Vec<Group>,
}

/// Groups the goroutines of a scan.
pub fn by_site(
    snapshot: &Snapshot,
    binary: &Binary,
    earlier: Option<&Places>,
) -> HashMap<SiteKey, SiteWaits> {
    let places = places(snapshot, binary);
    let hashes = if earlier.is_some() { hashes(&snapshot.stacks) } else { Vec::new() };
    let mut groups: HashMap<(SiteKey, &'static str, Option<u32>), Group> = HashMap::new();
    let mut sites: HashMap<SiteKey, SiteWaits> = HashMap::new();
    for goroutine in snapshot.by_goid() {
        let key = (goroutine.gopc, goroutine.startpc);
        let site = sites.entry(key).or_default();
        site.live += 1;
        site.stack_bytes = site.stack_bytes.saturating_add(goroutine.stack_bytes);
        site.longest_wait_ns = site.longest_wait_ns.max(goroutine.waits_at_least_ns);
        let at = goroutine.stack.map(|stack| places[stack.0 as usize]);
        let before = earlier.map(|earlier| earlier.of_goroutine(goroutine.goid));
        let unmoved = before.map(|before| {
            let now = place(goroutine, &hashes);
            u64::from(now != NOWHERE && before == Some(now))
        });
        if let Some(before) = before {
            *site.new.get_or_insert(0) += u64::from(before.is_none());
        }
        if let Some(unmoved) = unmoved {
            *site.unmoved.get_or_insert(0) += unmoved;
        }
        let group = groups.entry((key, goroutine.state(), at)).or_insert_with(|| Group {
            state: goroutine.state(),
            stack: goroutine.stack,
            count: 0,
            unmoved: earlier.map(|_| 0),
            goids: Vec::new(),
        });
        group.count += 1;
        if let (Some(sum), Some(unmoved)) = (&mut group.unmoved, unmoved) {
            *sum += unmoved;
        }
        if group.goids.len() < EXAMPLES {
            group.goids.push(goroutine.goid);
        }
    }
    for ((key, _, _), group) in groups {
        sites.entry(key).or_default().groups.push(group);
    }
    for site in sites.values_mut() {
        site.groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.goids.cmp(&b.goids)));
        site.groups.truncate(MOST_GROUPS);
    }
    sites
}

/// For each stack a number, the same for those whose goroutines wait at the same line.
fn places(snapshot: &Snapshot, binary: &Binary) -> Vec<u32> {
    let mut numbers = HashMap::new();
    let number = |id: u32| {
        let at = snapshot.stacks.waits_at(StackId(id), binary);
        let line = at.map(|frame| (frame.function.as_str(), frame.file.as_str(), frame.line));
        let next = numbers.len() as u32;
        *numbers.entry(line).or_insert(next)
    };
    (0..snapshot.stacks.len() as u32).map(number).collect()
}

impl Blocked {
    /// What Go's traceback shows in brackets: the wait reason, or the status where it does not wait.
    pub fn state(&self) -> &'static str {
        match (self.reason, self.status) {
            (Some(reason), _) => reason,
            (None, Status::Leaked) => "leaked",
            (None, status) => status.name(),
        }
    }
}
