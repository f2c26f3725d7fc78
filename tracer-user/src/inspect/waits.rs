//! What the goroutines of each creation site wait for, and which of them have not moved since an earlier scan.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::snapshot::{CreationSite, Goroutine, Snapshot};
use super::stacks::{StackId, Stacks};
use crate::go::{Binary, Status};

/// A `go` statement with an entry function, by their link-time addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteKey {
    /// Where the call of the `go` statement returns to; 0 where no `go` statement made the goroutine.
    pub gopc: u64,
    /// The entry of the function; 0 likewise.
    pub startpc: u64,
}

/// Groups of one site that are kept.
const MOST_GROUPS: usize = 10;
/// Stacks of one group that are kept.
const MOST_STACKS: usize = 16;
/// Goroutines that are named of each group.
const EXAMPLES: usize = 10;

/// Who has not run for so long is idle, in ns.
const IDLE_NS: u64 = 5_000_000_000;

/// Which goroutines a scan found, where each of them was blocked, and since when it was seen there and did not run: 24
/// bytes each, for a comparison with a later scan.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<Seen>);

/// A goroutine at a place.
#[derive(Clone, Copy, Debug)]
struct Seen {
    goid: u64,
    place: u64,
    /// `CLOCK_MONOTONIC` in ns.
    since_ns: u64,
}

impl Places {
    /// Of all goroutines of a scan. Those that an earlier one has seen, and that have not run, have been there since then.
    pub fn of(snapshot: &Snapshot, earlier: Option<&Places>) -> Places {
        let hashes = hashes(&snapshot.stacks);
        let seen = snapshot.by_goid().map(|goroutine| {
            let (goid, place) = (goroutine.goid, place(goroutine, &hashes));
            let before = earlier.and_then(|earlier| earlier.of_goroutine(goid));
            let since_ns = before.filter(|before| before.place == place).map(|before| before.since_ns);
            Seen { goid, place, since_ns: since_ns.unwrap_or(snapshot.taken_ns) }
        });
        Places(seen.collect())
    }

    /// Keeps so many, the oldest goroutines: what waits for ever is among them sooner or later.
    pub fn truncate(&mut self, most: usize) {
        self.0.truncate(most);
        self.0.shrink_to_fit();
    }

    fn of_goroutine(&self, goid: u64) -> Option<Seen> {
        let found = self.0.binary_search_by_key(&goid, |seen| seen.goid).ok()?;
        Some(self.0[found])
    }
}

/// It does not wait, or where is not known.
const NOWHERE: u64 = 0;

/// What tells two places apart, with no more doubt than 64 bits leave: the stack and the wait reason. Who has been elsewhere
/// meanwhile is not at the same place either.
fn place(goroutine: &Goroutine, hashes: &[u64]) -> u64 {
    let stack = goroutine.stack.filter(|_| goroutine.waits());
    let Some(stack) = stack.and_then(|stack| hashes.get(stack.index())) else { return NOWHERE };
    let mut hasher = DefaultHasher::new();
    (stack, goroutine.reason, goroutine.runs).hash(&mut hasher);
    hasher.finish().max(NOWHERE + 1)
}

fn hashes(stacks: &Stacks) -> Vec<u64> {
    let hash = |id: StackId| {
        let mut hasher = DefaultHasher::new();
        stacks.pcs(id).hash(&mut hasher);
        hasher.finish()
    };
    stacks.ids().map(hash).collect()
}

/// Goroutines of one site that are in the same state at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// [`Goroutine::state`].
    pub state: &'static str,
    /// The garbage collector of Go 1.26 and newer has found that nothing can end their waits.
    pub leaked: bool,
    /// Their stacks, which may differ in who called the line where they are, and how many have each: most first, and the
    /// rarest are left out.
    pub stacks: Vec<(StackId, u64)>,
    /// How many.
    pub count: u64,
    /// How many of them were blocked at the same place in an earlier scan and have not run since; none without one.
    pub unmoved: Option<u64>,
    /// How many of them an earlier scan has seen, and how many of those have not run for some seconds.
    pub known: Known,
    /// For how long at least all of these have been there, in ns; none where there is none.
    pub unmoved_ns: Option<u64>,
    /// The first of them.
    pub goids: Vec<u64>,
}

/// Goroutines that an earlier scan has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// All of them.
    pub all: u64,
    /// Those that have not run for five seconds.
    pub idle: u64,
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
    // By site, state, mark and place; with how many have which stack.
    let mut groups: HashMap<_, (Group, HashMap<StackId, u64>)> = HashMap::new();
    let mut sites: HashMap<SiteKey, SiteWaits> = HashMap::new();
    for goroutine in snapshot.by_goid() {
        let CreationSite { gopc, startpc, .. } = snapshot.site(goroutine);
        let key = SiteKey { gopc, startpc };
        let site = sites.entry(key).or_default();
        site.live += 1;
        site.stack_bytes = site.stack_bytes.saturating_add(goroutine.stack_bytes);
        site.longest_wait_ns = site.longest_wait_ns.max(goroutine.waits_at_least_ns());
        let at = goroutine.stack.map(|stack| places[stack.index()]);
        let before = earlier.map(|earlier| earlier.of_goroutine(goroutine.goid));
        let now = place(goroutine, &hashes);
        let unmoved = before.map(|before| before.filter(|before| now != NOWHERE && before.place == now));
        if let Some(before) = before {
            *site.new.get_or_insert(0) += u64::from(before.is_none());
        }
        if let Some(unmoved) = unmoved {
            *site.unmoved.get_or_insert(0) += u64::from(unmoved.is_some());
        }
        let leaked = goroutine.status == Status::Leaked;
        let new = || Group {
            leaked,
            state: goroutine.state(),
            stacks: Vec::new(),
            count: 0,
            unmoved: earlier.map(|_| 0),
            known: Known::default(),
            unmoved_ns: None,
            goids: Vec::new(),
        };
        let (group, stacks) =
            groups.entry((key, goroutine.state(), leaked, at)).or_insert_with(|| (new(), HashMap::new()));
        if let Some(stack) = goroutine.stack {
            *stacks.entry(stack).or_default() += 1;
        }
        group.count += 1;
        if let (Some(sum), Some(unmoved)) = (&mut group.unmoved, unmoved) {
            *sum += u64::from(unmoved.is_some());
        }
        group.known.all += u64::from(now != NOWHERE && before.flatten().is_some());
        if let Some(before) = unmoved.flatten() {
            let ns = snapshot.taken_ns.saturating_sub(before.since_ns);
            group.known.idle += u64::from(ns >= IDLE_NS);
            group.unmoved_ns = Some(group.unmoved_ns.map_or(ns, |least| least.min(ns)));
        }
        if group.goids.len() < EXAMPLES {
            group.goids.push(goroutine.goid);
        }
    }
    for ((key, ..), (mut group, stacks)) in groups {
        group.stacks = stacks.into_iter().collect();
        group.stacks.sort_unstable_by_key(|&(stack, count)| (std::cmp::Reverse(count), stack));
        group.stacks.truncate(MOST_STACKS);
        group.stacks.shrink_to_fit();
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
    let number = |id: StackId| {
        let at = snapshot.stacks.waits_at(id, binary);
        let line = at.map(|frame| (frame.function.as_str(), frame.file.as_str(), frame.line));
        let next = numbers.len() as u32;
        *numbers.entry(line).or_insert(next)
    };
    snapshot.stacks.ids().map(number).collect()
}

impl Goroutine {
    /// What Go's traceback shows in brackets: the wait reason, or the status where it does not wait.
    pub fn state(&self) -> &'static str {
        match (self.reason(), self.status) {
            (Some(reason), _) => reason,
            (None, Status::Leaked) => "leaked",
            (None, status) => status.name(),
        }
    }
}
