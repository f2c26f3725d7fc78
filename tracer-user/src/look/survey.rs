//! Makes the [`Wait`]s of each site, which verdicts are based on, from a scan of a process.

use std::collections::{HashMap, HashSet};

use super::{connections, serves, waited_on};
use crate::go::{Activity, Binary};
use crate::inspect::queues::{Kind, OtherWaiters, Queue};
use crate::inspect::{Direction, Goroutine, Group, Places, Queues, Snapshot, WaitObject};
use crate::report::Frame;
use crate::verdict::cycle::{self, Waiter};
use crate::verdict::waits::{Contended, Holder, HttpClients, Member, WaitedChannel};
use crate::verdict::{Wait, cause};

/// What a whole scan tells about all of its goroutines. It is made once for each scan.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// For each goroutine that waits in a cycle, by its index in the snapshot, the indices of the others in that cycle.
    cycles: HashMap<usize, Vec<usize>>,
    /// Which goroutines wait on which object.
    queues: Queues,
    /// What the connection of an HTTP client is busy with to which a goroutine belongs, by its index in the snapshot.
    connections: HashMap<usize, HttpClients>,
    /// What most of these connections are busy with.
    most_connections: Option<HttpClients>,
    /// The ids of the goroutines that serve an HTTP request whose body was read to its end: each has started a goroutine
    /// that waits for the client to go away.
    body_read: HashSet<u64>,
}

impl Survey {
    /// Finds cycles of goroutines that wait for each other, the goroutines at each object, and what the connections of
    /// HTTP clients are busy with. The `earlier` look tells how the queues at locks have moved.
    pub fn of(snapshot: &Snapshot, binary: &Binary, earlier: Option<&Places>) -> Survey {
        let queues = Queues::of(snapshot, earlier);
        let connections = connections::find(snapshot, &queues);
        let mut counts: HashMap<HttpClients, u64> = HashMap::new();
        for state in connections.values() {
            *counts.entry(*state).or_insert(0) += 1;
        }
        let most = counts.into_iter().map(|(state, count)| (count, state)).max();
        Survey {
            cycles: cycles(snapshot),
            queues,
            connections,
            most_connections: most.map(|(_, state)| state),
            body_read: serves::with_body_read(snapshot, binary),
        }
    }

    /// Numbers that keep goroutines apart that wait at the same line, by their index in the snapshot.
    pub fn apart(&self) -> HashMap<usize, u8> {
        self.connections.iter().map(|(index, state)| (*index, connections::number(*state))).collect()
    }

    /// The objects that the goroutines of a group wait on, as far as its examples tell; those with most waiters first.
    pub fn queues<'a>(&self, group: &Group, snapshot: &'a Snapshot, binary: &Binary) -> Vec<Queue<'a>> {
        self.queues.of_group(group, snapshot, binary)
    }

    /// What the goroutines of a group do, which wait on these objects.
    pub fn wait(&self, group: &Group, queues: &[Queue], snapshot: &Snapshot, binary: &Binary) -> Wait {
        let examples = || group.goids.iter().filter_map(|&goid| snapshot.index_of(goid));
        // The best example is one with a timer's channel, and of those the one with most objects. If a goroutine was
        // woken meanwhile, only a part of what it waited on is known, and this often happens to those with timers.
        let known = |&index: &usize| {
            let channels = self.channels(snapshot, binary, &snapshot.goroutines[index]);
            let has_timer = channels.iter().any(WaitedChannel::is_timer);
            std::cmp::Reverse((has_timer, snapshot.objects(&snapshot.goroutines[index]).len()))
        };
        let first = examples().min_by_key(known);
        let first = first.and_then(|index| snapshot.goroutines.get(index));
        let member = |&other: &usize| member(snapshot, binary, snapshot.goroutines.get(other)?);
        Wait {
            reason: group.state,
            leaked: group.leaked,
            count: group.count,
            frames: first.map(|of| frames(snapshot, binary, of)).unwrap_or_default(),
            http_clients: connections::of_number(group.apart).or(self.most_connections),
            channels: first.map(|of| self.channels(snapshot, binary, of)).unwrap_or_default(),
            on_nothing: first.is_some_and(|goroutine| goroutine.waits_on_nothing),
            asked_done: first.is_some_and(|goroutine| asked_done(snapshot, binary, goroutine)),
            unmoved: group.unmoved,
            seen_before: group.known.all,
            idle: group.known.idle,
            unmoved_ns: group.unmoved_ns,
            grown: group.grown.map(|grown| (grown.by, grown.new)),
            lock: queues.iter().find_map(|queue| contended(queue, snapshot, binary)),
            serves: first.and_then(|goroutine| serves::of(snapshot, goroutine, &self.body_read)),
            cycle: self.cycle_of(examples()).map(|others| others.iter().filter_map(member).collect()),
        }
    }

    /// The others in the cycle, if more than half of the examples are in one. A single goroutine may only seem to be in
    /// a cycle, because its stack still holds a pointer that an ended call left there.
    fn cycle_of(&self, examples: impl Iterator<Item = usize>) -> Option<&Vec<usize>> {
        let found: Vec<_> = examples.map(|index| self.cycles.get(&index)).collect();
        let in_cycles = || found.iter().copied().flatten();
        (in_cycles().count() * 2 > found.len()).then(|| in_cycles().next())?
    }

    fn channels(&self, snapshot: &Snapshot, binary: &Binary, goroutine: &Goroutine) -> Vec<WaitedChannel> {
        let channel = |object: &WaitObject| match object {
            WaitObject::Channel(channel) => Some(WaitedChannel {
                address: channel.address,
                capacity: channel.capacity,
                length: channel.length,
                sends: channel.direction == Some(Direction::Send),
                element: binary.type_name(channel.element),
                waiters: self.queues.waiters(channel.address).max(1),
                served: self.queues.turnover(channel.address).map(waited_on::served),
            }),
            WaitObject::Semaphore { .. } | WaitObject::Cond { .. } => None,
        };
        snapshot.objects(goroutine).iter().filter_map(channel).collect()
    }
}

fn cycles(snapshot: &Snapshot) -> HashMap<usize, Vec<usize>> {
    let waiting = snapshot.goroutines.iter().enumerate();
    let (indices, waiters): (Vec<usize>, Vec<Waiter>) = waiting
        .filter_map(|(index, goroutine)| {
            let [object] = snapshot.objects(goroutine) else { return None };
            // A `select` may wait for more than was found, so a cycle through it would not be certain.
            if Activity::of(goroutine.state()) == Activity::Select {
                return None;
            }
            // A goroutine that waits on a Cond has released the Cond's lock, so it blocks nobody.
            if matches!(object, WaitObject::Cond { .. }) {
                return None;
            }
            let mentions: Vec<u64> = snapshot.mentions(index).collect();
            if mentions.is_empty() {
                // Without a pointer to what others wait on, it blocks nobody either.
                return None;
            }
            let is_channel = matches!(object, WaitObject::Channel(_));
            let entry = snapshot.site(goroutine).startpc;
            Some((index, Waiter { on: object.address(), is_channel, entry, mentions }))
        })
        .unzip();
    let found = cycle::find(&waiters).into_iter().enumerate().filter(|(_, others)| !others.is_empty());
    found
        .map(|(at, others)| (indices[at], others.into_iter().map(|other| indices[other]).collect()))
        .collect()
}

fn frames(snapshot: &Snapshot, binary: &Binary, goroutine: &Goroutine) -> Vec<Frame> {
    let all = goroutine.stack.into_iter().flat_map(|stack| snapshot.stacks.written(stack, binary));
    all.map(Frame::from).collect()
}

/// What a goroutine in a cycle waits for, and where: in the program's own code, or as close to it as there is a frame.
fn member(snapshot: &Snapshot, binary: &Binary, goroutine: &Goroutine) -> Option<Member> {
    let wait =
        Wait { reason: goroutine.state(), frames: frames(snapshot, binary, goroutine), ..Wait::default() };
    let at = cause::place(&wait, binary.module())?.clone();
    Some(Member { waits_for: wait.waits_for(), at })
}

/// Bytes from the start of a lock to the end of its last semaphore.
const SEMAPHORES: u64 = 16;

/// What is known of a lock that goroutines wait for; `None` if the object is none.
fn contended(queue: &Queue, snapshot: &Snapshot, binary: &Binary) -> Option<Contended> {
    let Kind::Lock(_) = queue.kind else { return None };
    let module = binary.module();
    let holder = |of: &OtherWaiters| {
        let goroutine = snapshot.goroutines.get(of.example)?;
        let wait = Wait { reason: of.state, frames: frames(snapshot, binary, goroutine), ..Wait::default() };
        // It may be elsewhere by now than where it last stopped.
        let at = cause::place(&wait, module).filter(|_| !goroutine.stack_is_old).cloned();
        let wants_it_too = snapshot.objects(goroutine).iter().any(|object| {
            let within = object.address().wrapping_sub(queue.address);
            within < SEMAPHORES && matches!(object, WaitObject::Semaphore { .. })
        });
        Some(Holder { doing: of.state, at, count: of.count, wants_it_too })
    };
    let all = |of: &[OtherWaiters]| of.iter().filter_map(holder).collect();
    Some(Contended {
        held_by: all(&queue.holders.certain),
        may_be_held_by: all(&queue.holders.possible),
        taken: queue.holders.taken,
        served: queue.turnover.map(waited_on::served),
    })
}

/// Whether the innermost call outside the runtime waits for a channel that `Done` of a context has returned.
fn asked_done(snapshot: &Snapshot, binary: &Binary, goroutine: &Goroutine) -> bool {
    let many = match goroutine.reason().map(Activity::of) {
        Some(Activity::ChanReceive) => false,
        Some(Activity::Select) => true,
        _ => return false,
    };
    let pcs = goroutine.stack.map(|stack| snapshot.stacks.pcs(stack)).unwrap_or_default();
    let waits_at = pcs
        .iter()
        .find(|&&pc| binary.function_at(pc).is_some_and(|function| !function.name.starts_with("runtime.")));
    waits_at.is_some_and(|&pc| binary.asked_done(pc, many))
}
