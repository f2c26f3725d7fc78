//! Describes the channels and locks that goroutines wait on, as a report has them.

use crate::go::Binary;
use crate::go::versions::Lock;
use crate::inspect::queues::{self, Kind, Queue};
use crate::inspect::{Group, Queues, Snapshot};
use crate::report::{Frame, Others, WaitedOn, WaitedOnKind};

/// The objects that the goroutines of a group wait on, as far as its examples tell; those with most waiters first.
pub(super) fn of_group(
    queues: &Queues,
    group: &Group,
    snapshot: &Snapshot,
    binary: &Binary,
) -> Vec<WaitedOn> {
    let queues = queues.of_group(group, snapshot, binary);
    queues.into_iter().map(|queue| named(queue, binary)).collect()
}

fn named(queue: Queue, binary: &Binary) -> WaitedOn {
    let channel = match queue.kind {
        Kind::Channel(channel) => Some(channel),
        Kind::Cond | Kind::Lock(_) | Kind::Semaphore => None,
    };
    WaitedOn {
        kind: match queue.kind {
            Kind::Channel(_) => WaitedOnKind::Channel,
            Kind::Cond => WaitedOnKind::Cond,
            Kind::Lock(Lock::Mutex) => WaitedOnKind::Mutex,
            Kind::Lock(Lock::RwMutex) => WaitedOnKind::RwMutex,
            Kind::Lock(Lock::WaitGroup) => WaitedOnKind::WaitGroup,
            Kind::Semaphore => WaitedOnKind::Semaphore,
        },
        address: format!("{:#x}", queue.address),
        len: channel.map(|channel| channel.length),
        cap: channel.map(|channel| channel.capacity),
        closed: channel.map(|channel| channel.closed),
        element: channel.and_then(|channel| binary.type_name(channel.element)),
        count: queue.count,
        waiters: queue.waiters,
        others: queue.others.into_iter().map(others).collect(),
        known_to: queue.known_to.into_iter().map(others).collect(),
    }
}

fn others(others: queues::OtherWaiters) -> Others {
    Others { doing: others.state.to_owned(), count: others.count, at: others.at.map(Frame::from) }
}
