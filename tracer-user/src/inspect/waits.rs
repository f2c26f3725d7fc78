//! Groups the goroutines of each creation site by what they wait for, and finds those that have not moved since an
//! earlier scan.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::snapshot::{CreationSite, Direction, Goroutine, Snapshot, WaitObject};
use super::stacks::{StackId, Stacks};
use crate::go::{Binary, Status};

/// A `go` statement with its entry function, identified by their link-time addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteKey {
    /// The return address of the `go` statement's call; 0 if no `go` statement created the goroutine.
    pub gopc: u64,
    /// The entry address of the function; 0 if no `go` statement created the goroutine.
    pub startpc: u64,
}

impl SiteKey {
    /// The key of a site.
    pub fn of(CreationSite { gopc, startpc, .. }: CreationSite) -> SiteKey {
        SiteKey { gopc, startpc }
    }
}

/// Most groups of one site that are kept.
const MOST_GROUPS: usize = 10;
/// Most stacks of one group that are kept.
const MOST_STACKS: usize = 16;
/// Most locks and most groups whose numbers are kept for a later look.
const MOST_KEPT: usize = 1 << 16;
/// Most goroutines of one group whose ids are kept as examples.
const EXAMPLES: usize = 10;

/// A goroutine that has not run for this many ns is idle.
const IDLE_NS: u64 = 5_000_000_000;

/// Which goroutines a scan found, where each of them was blocked, and since when it has been seen there without
/// running. This is kept to be compared with a later scan, and takes 24 bytes for each goroutine.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// By id.
    seen: Vec<Seen>,
    /// When the scan began, in ns of `CLOCK_MONOTONIC`.
    taken_ns: u64,
    /// How many goroutines waited for each lock, by the address of its semaphore.
    queues: HashMap<u64, u32>,
    /// How many goroutines were in each group, by [`Group::key`].
    groups: HashMap<u64, u64>,
    /// The highest id of all goroutines.
    newest: u64,
    /// Some goroutines were left out.
    truncated: bool,
}

/// A goroutine, and the place where it was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Id of the goroutine.
    goid: u64,
    /// Hash of the place, as [`place`] computes it; [`NOWHERE`] if it does not wait.
    place: u64,
    /// Since when it has been at this place without running, in ns of `CLOCK_MONOTONIC`.
    since_ns: u64,
}

impl Places {
    /// The places of all goroutines of a scan. A goroutine that was at the same place in the earlier scan and has not
    /// run since keeps the time from there.
    pub fn of(snapshot: &Snapshot, earlier: Option<&Places>) -> Places {
        let hashes = hashes(&snapshot.stacks);
        let seen = snapshot.by_goid().map(|goroutine| {
            let (goid, place) = (goroutine.goid, place(goroutine, &hashes));
            let before = earlier.and_then(|earlier| earlier.of_goroutine(goid));
            let since_ns = before.filter(|before| before.place == place).map(|before| before.since_ns);
            Seen { goid, place, since_ns: since_ns.unwrap_or(snapshot.taken_ns) }
        });
        Places {
            seen: seen.collect(),
            taken_ns: snapshot.taken_ns,
            queues: queues(snapshot),
            groups: HashMap::new(),
            newest: snapshot.by_goid().last().map_or(0, |goroutine| goroutine.goid),
            truncated: false,
        }
    }

    /// The same with the numbers of these groups, so that a later scan can tell by how many they have grown.
    pub fn with_groups(mut self, sites: &HashMap<SiteKey, SiteWaits>) -> Places {
        let groups = sites.values().flat_map(|site| &site.groups).map(|group| (group.key, group.count));
        self.groups = groups.take(MOST_KEPT).collect();
        self
    }

    /// Keeps at most this many of the goroutines, the oldest ones: what waits for ever is among them sooner or later.
    pub fn truncate(&mut self, most: usize) {
        self.truncated |= self.seen.len() > most;
        self.seen.truncate(most);
        self.seen.shrink_to_fit();
    }

    /// The ids of the goroutines that have been at one place without running since `since_ns` or before, in ns of
    /// `CLOCK_MONOTONIC`.
    pub fn unmoved_since(&self, since_ns: u64) -> impl Iterator<Item = u64> {
        let unmoved = self.seen.iter().filter(move |seen| seen.place != NOWHERE && seen.since_ns <= since_ns);
        unmoved.map(|seen| seen.goid)
    }

    fn of_goroutine(&self, goid: u64) -> Option<Seen> {
        let found = self.seen.binary_search_by_key(&goid, |seen| seen.goid).ok()?;
        Some(self.seen[found])
    }
}

/// The address of the semaphore that a goroutine waits for, or of the channel that it wants to send on, if it waits for
/// nothing else.
fn queues_at(snapshot: &Snapshot, goroutine: &Goroutine) -> Option<u64> {
    match *snapshot.objects(goroutine) {
        [WaitObject::Semaphore { address }] => Some(address),
        [WaitObject::Channel(channel)] if channel.direction == Some(Direction::Send) => Some(channel.address),
        _ => None,
    }
}

/// How many goroutines wait for each lock, and to send on each channel, by the address of its semaphore or its own.
fn queues(snapshot: &Snapshot) -> HashMap<u64, u32> {
    let mut queues = HashMap::new();
    for goroutine in &snapshot.goroutines {
        if let Some(address) = queues_at(snapshot, goroutine)
            && (queues.len() < MOST_KEPT || queues.contains_key(&address))
        {
            *queues.entry(address).or_insert(0) += 1;
        }
    }
    queues
}

/// What has become, since an earlier look, of the goroutines that waited for a lock, or to send on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turnover {
    /// How long ago the earlier look was, in ns.
    pub span_ns: u64,
    /// How many waited then.
    pub before: u64,
    /// How many of them have waited all the time since.
    pub still: u64,
    /// How many wait now.
    pub now: u64,
}

/// The turnover of each lock and channel for which goroutines have waited at the earlier look and wait now, by the
/// address of its semaphore or its own. Nothing is known if the earlier look was not kept as a whole.
pub(super) fn turnover(snapshot: &Snapshot, earlier: &Places) -> HashMap<u64, Turnover> {
    let span_ns = snapshot.taken_ns.saturating_sub(earlier.taken_ns);
    let mut all: HashMap<u64, Turnover> = HashMap::new();
    if earlier.truncated || earlier.queues.is_empty() || snapshot.cut_short.is_some() {
        return all;
    }
    let hashes = hashes(&snapshot.stacks);
    for goroutine in &snapshot.goroutines {
        let Some(address) = queues_at(snapshot, goroutine) else { continue };
        let Some(&before) = earlier.queues.get(&address) else { continue };
        let turnover = Turnover { span_ns, before: before.into(), still: 0, now: 0 };
        let turnover = all.entry(address).or_insert(turnover);
        turnover.now += 1;
        let now = place(goroutine, &hashes);
        let was = earlier.of_goroutine(goroutine.goid).map(|seen| seen.place);
        turnover.still += u64::from(now != NOWHERE && was == Some(now));
    }
    all
}

/// The place of a goroutine that does not wait, or of which it is not known where it waits.
const NOWHERE: u64 = 0;

/// A hash that tells two places apart, except for the rare collision of 64 bits. It covers the stack and the wait
/// reason, and also the goroutine's counter of runs: one that has been elsewhere and came back is not at the same
/// place.
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
    /// A number that is the same for this group in all looks, except for the rare collision.
    pub key: u64,
    /// What tells them from others in the same state at the same place: the number that [`by_site`] was given for them.
    pub apart: u8,
    /// What they do, as [`Goroutine::state`] says it.
    pub state: &'static str,
    /// Whether the garbage collector has found that nothing can end their waits, which it can from Go 1.26 on.
    pub leaked: bool,
    /// Their stacks, and how many goroutines have each; most frequent first, and the rarest are left out. The stacks
    /// may differ in what called the line at which all of them wait.
    pub stacks: Vec<(StackId, u64)>,
    /// Number of goroutines in the group.
    pub count: u64,
    /// How many of them were blocked at the same place in an earlier scan and have not run since; none if there is no
    /// earlier scan.
    pub unmoved: Option<u64>,
    /// By how many goroutines that no earlier scan has seen the group has grown since the last one; none if there is no
    /// earlier scan.
    pub grown: Option<Grown>,
    /// How many of them an earlier scan has seen as well.
    pub known: Known,
    /// For how long at least each of the unmoved goroutines has been there, in ns; none if there is no such goroutine.
    pub unmoved_ns: Option<u64>,
    /// The ids of some of them, lowest first, as examples.
    pub goids: Vec<u64>,
}

/// Numbers of goroutines that wait and that an earlier scan has seen, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Number of all such goroutines.
    pub all: u64,
    /// Number of those that have been at their place without running for five seconds.
    pub idle: u64,
}

/// How a group has grown since an earlier look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grown {
    /// By how many goroutines. Those that have only come from another group of their site do not count.
    pub by: u64,
    /// How many of its goroutines have been created since. If these are many more, others have gone meanwhile.
    pub new: u64,
}

/// What the goroutines of one site do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteWaits {
    /// Number of goroutines that were found.
    pub live: u64,
    /// How many of them were blocked at the same place in the earlier scan and have not run since; none if there is no
    /// earlier scan.
    pub unmoved: Option<u64>,
    /// How many of them the earlier scan did not find; none if there is no earlier scan.
    pub new: Option<u64>,
    /// Size of all their stacks together, in bytes.
    pub stack_bytes: u64,
    /// For how long at least the goroutine that waits longest has been waiting, in ns; none if the runtime does not
    /// say.
    pub longest_wait_ns: Option<u64>,
    /// The groups, largest first; the smallest are left out.
    pub groups: Vec<Group>,
}

/// Groups the goroutines of a scan by creation site, and compares them with an earlier scan if there is one. `apart` has
/// numbers for goroutines, by their index, that keep them apart though they wait at the same line.
pub fn by_site(
    snapshot: &Snapshot,
    binary: &Binary,
    earlier: Option<&Places>,
    apart: &HashMap<usize, u8>,
) -> HashMap<SiteKey, SiteWaits> {
    let (places, lines) = places(snapshot, binary);
    let hashes = if earlier.is_some() { hashes(&snapshot.stacks) } else { Vec::new() };
    // The key is site, state, whether it is leaked, and the number of the line. The value has the number of goroutines
    // for each stack.
    let mut groups: HashMap<_, (Group, HashMap<StackId, u64>)> = HashMap::new();
    let mut sites: HashMap<SiteKey, SiteWaits> = HashMap::new();
    for index in snapshot.indices_by_goid() {
        let goroutine = &snapshot.goroutines[index];
        let key = SiteKey::of(snapshot.site(goroutine));
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
        let apart = apart.get(&index).copied().unwrap_or(0);
        let new = || Group {
            key: hash_of((key, goroutine.state(), leaked, apart, at.map(|at| lines[at as usize]))),
            apart,
            grown: earlier.map(|_| Grown::default()),
            leaked,
            state: goroutine.state(),
            stacks: Vec::new(),
            count: 0,
            unmoved: earlier.map(|_| 0),
            known: Known::default(),
            unmoved_ns: None,
            goids: Vec::new(),
        };
        let (group, stacks) = groups
            .entry((key, goroutine.state(), leaked, at, apart))
            .or_insert_with(|| (new(), HashMap::new()));
        if let Some(stack) = goroutine.stack {
            *stacks.entry(stack).or_default() += 1;
        }
        group.count += 1;
        if let (Some(grown), Some(earlier), Some(None)) = (&mut group.grown, earlier, before) {
            // Of one that was left out it is not known, but ids rise: those of a processor are taken sixteen at a time.
            grown.new += u64::from(!earlier.truncated || goroutine.goid > earlier.newest);
        }
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
        if let (Some(grown), Some(earlier)) = (&mut group.grown, earlier) {
            let before = earlier.groups.get(&group.key).copied().unwrap_or(0);
            grown.by = group.count.saturating_sub(before).min(grown.new);
        }
        sites.entry(key).or_default().groups.push(group);
    }
    for site in sites.values_mut() {
        site.groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.goids.cmp(&b.goids)));
        site.groups.truncate(MOST_GROUPS);
    }
    sites
}

fn hash_of(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A number for each stack, which is equal for stacks whose goroutines wait at the same line, and for each of these
/// numbers a hash of the line.
fn places(snapshot: &Snapshot, binary: &Binary) -> (Vec<u32>, Vec<u64>) {
    let (mut numbers, mut lines) = (HashMap::new(), Vec::new());
    let number = |id: StackId| {
        let at = snapshot.stacks.waits_at(id, binary);
        let line = at.map(|frame| (frame.function.as_str(), frame.file.as_str(), frame.line));
        *numbers.entry(line).or_insert_with(|| {
            lines.push(hash_of(line));
            lines.len() as u32 - 1
        })
    };
    let of_stacks = snapshot.stacks.ids().map(number).collect();
    (of_stacks, lines)
}

impl Goroutine {
    /// What Go's traceback shows in brackets: the wait reason, or the status if it does not wait.
    pub fn state(&self) -> &'static str {
        match (self.reason(), self.status) {
            (Some(reason), _) => reason,
            (None, Status::Leaked) => "leaked",
            (None, status) => status.name(),
        }
    }
}
