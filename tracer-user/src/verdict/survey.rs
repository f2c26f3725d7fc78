//! From a scan of a process to the [`Wait`]s of its sites.

use std::collections::HashMap;

use super::cycle::{self, Waiter};
use super::still::Sightings;
use super::waits::{Channel, Still, Wait};
use crate::go::Binary;
use crate::inspect::{self, Blocked, Direction, Snapshot, StackId, WaitObject};
use crate::report::Frame;

/// Who has been seen at the same place for less than this may have come there by chance.
const STILL_NS: u64 = 1_000_000_000;

/// Return address of the `go` statement and entry of the function, as link-time addresses.
pub type SiteKey = (u64, u64);

/// What goroutines have in common to be one [`Wait`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Alike {
    site: SiteKey,
    reason: &'static str,
    leaked: bool,
    stack: Option<StackId>,
}

/// What the goroutines of each site do, most goroutines first. `sightings` has seen this snapshot already, at `now_ns`.
pub fn by_site(
    snapshot: &Snapshot,
    binary: &Binary,
    sightings: &Sightings,
    now_ns: u64,
) -> HashMap<SiteKey, Vec<Wait>> {
    let waiters = waiters_by_object(snapshot);
    let cycles = cycles(snapshot);
    let mut found: HashMap<Alike, Wait> = HashMap::new();
    for (index, goroutine) in snapshot.goroutines.iter().enumerate() {
        let alike = Alike {
            site: (goroutine.gopc, goroutine.startpc),
            reason: goroutine.reason.unwrap_or_else(|| Wait::state_name(goroutine.status)),
            leaked: goroutine.status == crate::go::Status::Leaked,
            stack: goroutine.stack,
        };
        let wait = found.entry(alike).or_insert_with(|| Wait {
            reason: alike.reason.into(),
            leaked: alike.leaked,
            frames: frames(snapshot, goroutine),
            channels: channels(snapshot, binary, goroutine, &waiters),
            asked_done: asked_done(snapshot, binary, goroutine),
            ..Wait::default()
        });
        wait.count += 1;
        if wait.goids.len() < Wait::EXAMPLES {
            wait.goids.push(goroutine.goid);
        }
        let still_ns = sightings.still_ns(goroutine.goid, now_ns);
        if still_ns >= STILL_NS {
            let still = wait.still.get_or_insert(Still { count: 0, longest_ns: 0 });
            still.count += 1;
            still.longest_ns = still.longest_ns.max(still_ns);
        }
        if wait.cycle.is_none()
            && let Some(others) = cycles.get(&index)
        {
            let blocked_at = |&other: &usize| program_frame(snapshot, binary, snapshot.goroutines.get(other)?);
            wait.cycle = Some(others.iter().filter_map(blocked_at).collect());
        }
    }
    let mut sites: HashMap<SiteKey, Vec<Wait>> = HashMap::new();
    for (alike, wait) in found {
        sites.entry(alike.site).or_default().push(wait);
    }
    for waits in sites.values_mut() {
        waits.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.goids.cmp(&b.goids)));
    }
    sites
}

fn waiters_by_object(snapshot: &Snapshot) -> HashMap<u64, u64> {
    let mut waiters = HashMap::new();
    for goroutine in &snapshot.goroutines {
        for object in snapshot.objects(goroutine) {
            *waiters.entry(object.address()).or_default() += 1;
        }
    }
    waiters
}

/// By index of a goroutine, the others of its cycle.
fn cycles(snapshot: &Snapshot) -> HashMap<usize, Vec<usize>> {
    let waiting = snapshot.goroutines.iter().enumerate();
    let (indices, waiters): (Vec<usize>, Vec<Waiter>) = waiting
        .filter_map(|(index, goroutine)| {
            let [object] = snapshot.objects(goroutine) else { return None };
            Some((index, Waiter { on: object.address(), mentions: snapshot.mentions(index).collect() }))
        })
        .unzip();
    let found = cycle::find(&waiters).into_iter().enumerate().filter(|(_, others)| !others.is_empty());
    found.map(|(at, others)| (indices[at], others.into_iter().map(|other| indices[other]).collect())).collect()
}

fn frames(snapshot: &Snapshot, goroutine: &Blocked) -> Vec<Frame> {
    let all = goroutine.stack.into_iter().flat_map(|stack| snapshot.stacks.frames(stack));
    all.map(|frame| Frame {
        function: frame.function.clone(),
        file: Some(frame.file.clone()),
        line: Some(frame.line),
    })
    .collect()
}

/// Where the program's code, or what is closest to it, waits.
fn program_frame(snapshot: &Snapshot, binary: &Binary, goroutine: &Blocked) -> Option<Frame> {
    let wait = Wait { frames: frames(snapshot, goroutine), ..Wait::default() };
    super::cause::place(&wait, binary.build_info().module.as_deref()).cloned()
}

fn channels(
    snapshot: &Snapshot,
    binary: &Binary,
    goroutine: &Blocked,
    waiters: &HashMap<u64, u64>,
) -> Option<Vec<Channel>> {
    if !goroutine.waits() || !matches!(goroutine.reason, Some(reason) if is_on_channel(reason)) {
        return None;
    }
    let channel = |object: &WaitObject| match object {
        WaitObject::Channel(inspect::Channel { address, length, capacity, direction, element, .. }) => {
            Some(Channel {
                address: *address,
                capacity: *capacity,
                length: *length,
                sends: *direction == Some(Direction::Send),
                element: binary.type_name(*element),
                waiters: waiters.get(address).copied().unwrap_or(1),
            })
        }
        WaitObject::Semaphore { .. } => None,
    };
    Some(snapshot.objects(goroutine).iter().filter_map(channel).collect())
}

fn is_on_channel(reason: &str) -> bool {
    reason.starts_with("chan ") || reason.starts_with("select")
}

/// Whether the innermost call outside the runtime waits for a context.
fn asked_done(snapshot: &Snapshot, binary: &Binary, goroutine: &Blocked) -> bool {
    let many = match goroutine.reason {
        Some(reason) if reason.starts_with("chan receive") => false,
        Some(reason) if reason.starts_with("select") => true,
        _ => return false,
    };
    let pcs = goroutine.stack.map(|stack| snapshot.stacks.pcs(stack)).unwrap_or_default();
    let waits_at = pcs.iter().find(|&&pc| {
        binary.function_at(pc).is_some_and(|function| !function.name.starts_with("runtime."))
    });
    waits_at.is_some_and(|&pc| binary.asked_done(pc, many))
}
