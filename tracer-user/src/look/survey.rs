//! Makes the [`Wait`]s of each site, which verdicts are based on, from a scan of a process.

use std::collections::HashMap;

use crate::go::{Activity, Binary};
use crate::inspect::{Direction, Goroutine, Group, Queues, SiteWaits, Snapshot, StackId, WaitObject};
use crate::report::Frame;
use crate::verdict::cycle::{self, Waiter};
use crate::verdict::waits::{HttpClients, Member, WaitedChannel};
use crate::verdict::{Wait, cause};

/// What a whole scan tells about all of its goroutines. It is made once for each scan.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// For each goroutine that waits in a cycle, by its index in the snapshot, the indices of the others in that cycle.
    cycles: HashMap<usize, Vec<usize>>,
    /// Which goroutines wait on which object.
    queues: Queues,
    /// What most connections of HTTP clients are busy with.
    http_clients: Option<HttpClients>,
}

impl Survey {
    /// Finds cycles of goroutines that wait for each other, the goroutines at each object, and what HTTP clients do.
    pub fn of(snapshot: &Snapshot) -> Survey {
        Survey {
            cycles: cycles(snapshot),
            queues: Queues::of(snapshot),
            http_clients: http_clients(snapshot),
        }
    }

    /// Which goroutines wait on which object.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// What the goroutines of a site do, with one wait for each of its groups, in their order.
    pub fn waits(&self, site: &SiteWaits, snapshot: &Snapshot, binary: &Binary) -> Vec<Wait> {
        site.groups.iter().map(|group| self.wait(group, snapshot, binary)).collect()
    }

    fn wait(&self, group: &Group, snapshot: &Snapshot, binary: &Binary) -> Wait {
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
            http_clients: self.http_clients,
            channels: first.map(|of| self.channels(snapshot, binary, of)).unwrap_or_default(),
            on_nothing: first.is_some_and(|goroutine| goroutine.waits_on_nothing),
            asked_done: first.is_some_and(|goroutine| asked_done(snapshot, binary, goroutine)),
            unmoved: group.unmoved,
            seen_before: group.known.all,
            idle: group.known.idle,
            unmoved_ns: group.unmoved_ns,
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

/// The functions of the goroutines that read what comes back to an HTTP client. HTTP/1 has one such goroutine for each
/// connection, HTTP/2 one for each request.
const READS: [&str; 3] = [
    "net/http.(*persistConn).readLoop",
    "net/http.(*http2clientStream).writeRequest",
    "net/http/internal/http2.(*clientStream).writeRequest",
];
/// The functions of the goroutines that wait for a response from such a reader.
const ASKS: [&str; 3] = [
    "net/http.(*persistConn).roundTrip",
    "net/http.(*http2ClientConn).roundTrip",
    "net/http/internal/http2.(*ClientConn).roundTrip",
];

/// What most connections of HTTP clients are busy with. In HTTP/1 the wait of the reader tells whether a response is
/// being read. Whether a response has yet to come is told by the goroutine that waits for it.
fn http_clients(snapshot: &Snapshot) -> Option<HttpClients> {
    let stacks = &snapshot.stacks;
    let role = |id: StackId| {
        stacks.frames(id).find_map(|frame| {
            let function = frame.function.as_str();
            let reads = READS.contains(&function);
            (reads || ASKS.contains(&function)).then_some(reads)
        })
    };
    let reads: Vec<Option<bool>> = stacks.ids().map(role).collect();
    let (mut idle, mut unread, mut asking) = (0, 0, 0);
    for goroutine in &snapshot.goroutines {
        match goroutine.stack.and_then(|stack| reads[stack.index()]) {
            Some(true) if Activity::of(goroutine.state()) == Activity::IoWait => idle += 1,
            Some(true) => unread += 1,
            Some(false) => asking += 1,
            None => {}
        }
    }
    // Each goroutine that asks has a reader, which was counted as idle or unread above.
    let of_idle = asking.min(idle);
    idle -= of_idle;
    unread -= unread.min(asking - of_idle);
    let most = [(idle, HttpClients::Idle), (asking, HttpClients::Asking), (unread, HttpClients::Unread)];
    most.into_iter().filter(|&(n, _)| n > 0).max().map(|(_, state)| state)
}

fn frames(snapshot: &Snapshot, binary: &Binary, goroutine: &Goroutine) -> Vec<Frame> {
    let all = goroutine.stack.into_iter().flat_map(|stack| snapshot.stacks.written(stack, binary));
    all.map(Frame::from).collect()
}

/// What a goroutine in a cycle waits for, and where: in the program's own code, or as close to it as there is a frame.
fn member(snapshot: &Snapshot, binary: &Binary, goroutine: &Goroutine) -> Option<Member> {
    let wait =
        Wait { reason: goroutine.state(), frames: frames(snapshot, binary, goroutine), ..Wait::default() };
    let at = cause::place(&wait, binary.build_info().module.as_deref())?.clone();
    Some(Member { waits_for: wait.waits_for(), at })
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
