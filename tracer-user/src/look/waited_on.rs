//! Describes the channels and locks that goroutines wait on, as a report has them.

use crate::go::Binary;
use crate::go::versions::Lock;
use crate::inspect::Turnover;
use crate::inspect::queues::{self, Kind, Queue};
use crate::report::{Frame, Others, Served, WaitedOn, WaitedOnKind};

/// An object that goroutines wait on.
pub(super) fn named(queue: &Queue, binary: &Binary) -> WaitedOn {
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
        others: queue.others.iter().map(others).collect(),
        known_to: queue.known_to.iter().map(others).collect(),
        held_by: queue.holders.certain.iter().map(others).collect(),
        may_be_held_by: queue.holders.possible.iter().map(others).collect(),
        taken: queue.holders.taken,
        served: queue.turnover.map(served),
    }
}

/// How the queue at a lock or a channel has moved.
pub(super) fn served(Turnover { span_ns, before, still, now }: Turnover) -> Served {
    Served { span_ns, served: before.saturating_sub(still), came: now.saturating_sub(still), still }
}

fn others(others: &queues::OtherWaiters) -> Others {
    Others { doing: others.state.to_owned(), count: others.count, at: others.at.map(Frame::from) }
}
