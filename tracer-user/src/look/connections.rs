//! What each connection of an HTTP client is busy with, told by the goroutines that belong to it.
//!
//! A connection of HTTP/1 has a goroutine that reads and one that writes, started one after the other. The one that writes
//! waits on channels that only goroutines of this connection know. If the one that reads waits on one of them as well, it
//! has a response whose body is not read to its end; if it waits for I/O, it waits for a response or for nothing. Which of
//! both is told by the goroutine of the request, which waits on these channels, too, until the response comes. Those that
//! read and those that write are brought together by who started them and in which order.
//! A stream of HTTP/2 has a goroutine until its response is read; until the response comes, it shares a channel with the
//! goroutine of the request: `type persistConn` in
//! <https://cs.opensource.google/go/go/+/master:src/net/http/transport.go>, `type clientStream` in
//! <https://cs.opensource.google/go/go/+/master:src/net/http/internal/http2/transport.go>.

use std::collections::{HashMap, HashSet};

use crate::go::Activity;
use crate::inspect::{Goroutine, Queues, Snapshot, StackId};
use crate::report::Connection;
use crate::verdict::waits::HttpClients;

/// What a goroutine does for a client's connection, told by the functions that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It reads from a connection of HTTP/1.
    Reads,
    /// It writes to a connection of HTTP/1.
    Writes,
    /// It waits for the response to a request.
    Asks,
    /// It is the goroutine of a stream of HTTP/2.
    Stream,
}

const ROLES: [(&str, Role); 7] = [
    ("net/http.(*persistConn).readLoop", Role::Reads),
    ("net/http.(*persistConn).writeLoop", Role::Writes),
    ("net/http.(*persistConn).roundTrip", Role::Asks),
    ("net/http.(*http2ClientConn).roundTrip", Role::Asks),
    ("net/http/internal/http2.(*ClientConn).roundTrip", Role::Asks),
    ("net/http.(*http2clientStream).writeRequest", Role::Stream),
    ("net/http/internal/http2.(*clientStream).writeRequest", Role::Stream),
];

/// What the connection is busy with that a goroutine belongs to, by the goroutine's index in the snapshot.
pub(super) fn find(snapshot: &Snapshot, queues: &Queues) -> HashMap<usize, HttpClients> {
    let stacks = &snapshot.stacks;
    let role = |id: StackId| {
        stacks.frames(id).find_map(|frame| {
            let known = ROLES.iter().find(|(function, _)| frame.function == *function);
            known.map(|(_, role)| *role)
        })
    };
    let roles: Vec<Option<Role>> = stacks.ids().map(role).collect();
    if roles.iter().all(Option::is_none) {
        return HashMap::new();
    }
    let mut with_roles: Vec<(usize, &Goroutine, Role)> = Vec::new();
    for (index, goroutine) in snapshot.goroutines.iter().enumerate() {
        if let Some(role) = goroutine.stack.and_then(|stack| roles[stack.index()]) {
            with_roles.push((index, goroutine, role));
        }
    }
    with_roles.sort_unstable_by_key(|(_, goroutine, _)| goroutine.goid);
    let channels = |goroutine: &Goroutine| -> Vec<u64> {
        snapshot.objects(goroutine).iter().map(|object| object.address()).collect()
    };
    let mut found: HashMap<usize, HttpClients> = HashMap::new();
    let mut writers: HashMap<u64, usize> = HashMap::new();
    for &(index, goroutine, _) in with_roles.iter().filter(|(.., role)| *role == Role::Writes) {
        let own = channels(goroutine);
        if !own.is_empty() {
            found.insert(index, HttpClients::Idle);
            writers.extend(own.into_iter().map(|channel| (channel, index)));
        }
    }
    // The channel of a context may be shared by many requests, so only one that two goroutines wait on tells that both
    // belong to the same stream.
    let mut asked: HashSet<u64> = HashSet::new();
    for &(_, goroutine, _) in with_roles.iter().filter(|(.., role)| *role == Role::Asks) {
        for channel in channels(goroutine) {
            if let Some(writer) = writers.get(&channel) {
                found.insert(*writer, HttpClients::Asking);
            }
            if queues.waiters(channel) == 2 {
                asked.insert(channel);
            }
        }
    }
    // Those that read and wait for I/O, by who started them: that is another goroutine for each connection, or for a few.
    let mut readers: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut started: HashMap<u64, Vec<usize>> = HashMap::new();
    for &(index, goroutine, role) in &with_roles {
        let own = channels(goroutine);
        match role {
            Role::Reads if Activity::of(goroutine.state()) == Activity::Select => {
                found.insert(index, HttpClients::Unread);
                found.extend(own.iter().filter_map(|of| Some((*writers.get(of)?, HttpClients::Unread))));
            }
            Role::Reads => readers.entry(goroutine.parent).or_default().push(index),
            Role::Stream if !own.is_empty() => {
                let is_asked = own.iter().any(|channel| asked.contains(channel));
                found.insert(index, if is_asked { HttpClients::Asking } else { HttpClients::Unread });
            }
            Role::Writes => started.entry(goroutine.parent).or_default().push(index),
            Role::Stream | Role::Asks => {}
        }
    }
    for (parent, readers) in readers {
        let of_parent = started.remove(&parent).unwrap_or_default();
        let writers: Vec<usize> =
            of_parent.into_iter().filter(|writer| found.get(writer) != Some(&HttpClients::Unread)).collect();
        if readers.len() == writers.len() {
            let states = writers.iter().map(|writer| found.get(writer).copied());
            let told: Vec<_> = readers
                .into_iter()
                .zip(states)
                .filter_map(|(reader, state)| Some((reader, state?)))
                .collect();
            found.extend(told);
        }
    }
    found
}

/// A number for what a connection is busy with, to keep groups apart; and back.
pub(super) fn number(state: HttpClients) -> u8 {
    1 + state as u8
}

/// The reverse of [`number`]; `None` for any other number.
pub(super) fn of_number(number: u8) -> Option<HttpClients> {
    [HttpClients::Idle, HttpClients::Asking, HttpClients::Unread]
        .into_iter()
        .find(|state| self::number(*state) == number)
}

/// What a connection is busy with, as a report has it.
pub(super) fn reported(state: HttpClients) -> Connection {
    match state {
        HttpClients::Idle => Connection::Idle,
        HttpClients::Asking => Connection::Asking,
        HttpClients::Unread => Connection::Unread,
    }
}
