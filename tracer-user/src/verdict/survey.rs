//! From a scan of a process to the [`Wait`]s of its sites.

use std::collections::HashMap;

use super::cycle::{self, Waiter};
use super::waits::{Channel, Member, Wait};
use crate::go::Binary;
use crate::inspect::{Blocked, Direction, Group, Queues, SiteWaits, Snapshot, StackId, WaitObject};
use crate::report::Frame;

/// What a whole scan tells about its goroutines; made once for each scan.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// By index of a goroutine that waits in a cycle, the others of it.
    cycles: HashMap<usize, Vec<usize>>,
    /// Who waits on what.
    queues: Queues,
    /// What most readers of HTTP clients' connections do.
    http_reader: &'static str,
}

impl Survey {
    /// Looks for who waits for whom.
    pub fn of(snapshot: &Snapshot) -> Survey {
        Survey { cycles: cycles(snapshot), queues: Queues::of(snapshot), http_reader: http_reader(snapshot) }
    }

    /// Who waits on what.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// What the goroutines of a site do, in the order of its groups.
    pub fn waits(&self, site: &SiteWaits, snapshot: &Snapshot, binary: &Binary) -> Vec<Wait> {
        site.groups.iter().map(|group| self.wait(group, snapshot, binary)).collect()
    }

    fn wait(&self, group: &Group, snapshot: &Snapshot, binary: &Binary) -> Wait {
        let examples = || group.goids.iter().filter_map(|&goid| snapshot.index_of(goid));
        // Of one that has been woken meanwhile, only a part of what it waited on is known, and those with timers often are.
        let known = |&index: &usize| {
            let channels = self.channels(snapshot, binary, &snapshot.goroutines[index]);
            let has_timer = channels.iter().any(Channel::is_timer);
            std::cmp::Reverse((has_timer, snapshot.objects(&snapshot.goroutines[index]).len()))
        };
        let first = examples().min_by_key(known);
        let first = first.and_then(|index| snapshot.goroutines.get(index));
        let others = examples().find_map(|index| self.cycles.get(&index));
        let member = |&other: &usize| member(snapshot, binary, snapshot.goroutines.get(other)?);
        Wait {
            reason: group.state,
            leaked: group.leaked,
            count: group.count,
            frames: first.map(|of| frames(snapshot, of)).unwrap_or_default(),
            reader: self.http_reader,
            channels: first.map(|of| self.channels(snapshot, binary, of)).unwrap_or_default(),
            on_nothing: first.is_some_and(|goroutine| goroutine.waits_on_nothing),
            asked_done: first.is_some_and(|goroutine| asked_done(snapshot, binary, goroutine)),
            unmoved: group.unmoved,
            known: group.known,
            unmoved_ns: group.unmoved_ns,
            cycle: others.map(|others| others.iter().filter_map(member).collect()),
        }
    }

    fn channels(&self, snapshot: &Snapshot, binary: &Binary, goroutine: &Blocked) -> Vec<Channel> {
        let channel = |object: &WaitObject| match object {
            WaitObject::Channel(channel) => Some(Channel {
                address: channel.address,
                capacity: channel.capacity,
                length: channel.length,
                sends: channel.direction == Some(Direction::Send),
                element: binary.type_name(channel.element),
                waiters: self.queues.waiters(channel.address).max(1),
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
            // It has let its lock go.
            if matches!(object, WaitObject::Cond { .. }) {
                return None;
            }
            let mentions: Vec<u64> = snapshot.mentions(index).collect();
            // Whoever holds nothing that others want is in nobody's way.
            (!mentions.is_empty()).then(|| (index, Waiter { on: object.address(), mentions }))
        })
        .unzip();
    let found = cycle::find(&waiters).into_iter().enumerate().filter(|(_, others)| !others.is_empty());
    found
        .map(|(at, others)| (indices[at], others.into_iter().map(|other| indices[other]).collect()))
        .collect()
}

/// A connection has two goroutines; the writer's wait does not tell whether it is idle or a body is unread, the reader's
/// does.
fn http_reader(snapshot: &Snapshot) -> &'static str {
    let is_reader = |id: StackId| {
        snapshot.stacks.frames(id).any(|frame| frame.function == "net/http.(*persistConn).readLoop")
    };
    let readers: Vec<bool> = snapshot.stacks.ids().map(is_reader).collect();
    let mut states: HashMap<&'static str, u64> = HashMap::new();
    for goroutine in &snapshot.goroutines {
        if goroutine.stack.is_some_and(|stack| readers.get(stack.index()) == Some(&true)) {
            *states.entry(goroutine.state()).or_default() += 1;
        }
    }
    states.into_iter().max_by_key(|&(state, n)| (n, state)).map_or("", |(state, _)| state)
}

fn frames(snapshot: &Snapshot, goroutine: &Blocked) -> Vec<Frame> {
    let all = goroutine.stack.into_iter().flat_map(|stack| snapshot.stacks.frames(stack));
    all.map(Frame::from).collect()
}

/// What a goroutine of a cycle does, where the program's code is, or what is closest to it.
fn member(snapshot: &Snapshot, binary: &Binary, goroutine: &Blocked) -> Option<Member> {
    let wait = Wait { reason: goroutine.state(), frames: frames(snapshot, goroutine), ..Wait::default() };
    let at = super::cause::place(&wait, binary.build_info().module.as_deref())?.clone();
    Some(Member { waits_for: wait.waits_for(), at })
}

/// Whether the innermost call outside the runtime waits for a context.
fn asked_done(snapshot: &Snapshot, binary: &Binary, goroutine: &Blocked) -> bool {
    let many = match goroutine.reason() {
        Some(reason) if reason.starts_with("chan receive") => false,
        Some(reason) if reason.starts_with("select") => true,
        _ => return false,
    };
    let pcs = goroutine.stack.map(|stack| snapshot.stacks.pcs(stack)).unwrap_or_default();
    let waits_at = pcs
        .iter()
        .find(|&&pc| binary.function_at(pc).is_some_and(|function| !function.name.starts_with("runtime.")));
    waits_at.is_some_and(|&pc| binary.asked_done(pc, many))
}
