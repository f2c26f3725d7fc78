//! Writes the advice: the sentence that a reviewer would write under the line.

use super::patterns::{self, Remedy};
use super::{Blamed, Code, Owner, Start, holder, library, owner, place, position};
use crate::go::Activity;
use crate::human::count;
use crate::report::Cause;
use crate::verdict::waits::{Serves, Wait, WaitedChannel, WaitsFor};

/// What to do about goroutines that wait like this and come from `start`.
pub(super) fn of(cause: Cause, wait: &Wait, code: Code, start: &Start) -> String {
    let blamed = start.blamed;
    let place = place(wait, code.module);
    let here = place.map_or_else(|| "a place that is not known".into(), position);
    let mut at = here.clone();
    let is_own = place.is_some_and(|frame| owner(&frame.function, code.module) == Owner::Program);
    if let Some(blamed) = blamed.filter(|_| !is_own) {
        at = format!("{at} ({})", blamed.started());
    }
    if cause != Cause::Cycle {
        let remedy = patterns::find(code.patterns, wait, code.module);
        let close = remedy.and_then(|remedy| remedy.close);
        if let Some(Remedy { advice, .. }) = remedy.filter(|remedy| !remedy.advice.is_empty()) {
            let close = close.map(|method| format!("; call {method} once it is done with"));
            let held_up = holder::behind(wait.lock.as_ref());
            return fill_in(advice, &at, blamed) + &held_up + &close.unwrap_or_default();
        }
        if let Some(sentence) = library::sentence(wait, code, start, close) {
            return fill_in(&sentence, &here, blamed) + &holder::behind(wait.lock.as_ref());
        }
    }
    let channel = wait.channels.first();
    match cause {
        Cause::ChanReceive => format!(
            "nothing closes or sends on the channel received from at {at}: close it when the work ends, or select on ctx.Done()"
        ),
        Cause::ChanSend => match channel {
            Some(WaitedChannel { served: Some(served), .. }) if served.served > 0 => format!(
                "what is sent at {at} is received, but too slowly: {}: let more goroutines receive, or send less",
                holder::rates(served, "get through")
            ),
            Some(full) if full.capacity > 0 => format!(
                "nobody receives from the channel sent on at {at}, and its buffer of {} is full: receive until it is closed, or select on ctx.Done()",
                count(full.capacity)
            ),
            _ => format!(
                "nobody receives from the channel sent on at {at}: make it with a buffer for what is sent, or select on ctx.Done()"
            ),
        },
        Cause::Select if wait.activity() == Activity::SelectNoCases => {
            format!("select {{}} at {at} never ends: return instead, or wait for ctx.Done()")
        }
        Cause::Select => format!(
            "no case of the select at {at} can proceed: close one of its channels when the work ends, or add a case for ctx.Done()"
        ),
        Cause::NilChan => {
            format!("the channel used at {at} is nil: make it before the goroutine starts")
        }
        Cause::Context => context(&at, wait.serves),
        Cause::Mutex => holder::of_lock(&at, wait.lock.as_ref()),
        Cause::WaitGroup => holder::of_group(&at, wait.lock.as_ref()),
        Cause::Cond => format!(
            "nobody wakes the Cond waited on at {at}: call Signal or Broadcast after every change of what it waits for"
        ),
        Cause::Semaphore => format!(
            "the places of the semaphore wanted at {at} are taken and not given back: release with defer right after acquiring"
        ),
        Cause::Cycle => {
            let others = wait.cycle.iter().flatten().map(|member| (member.waits_for, position(&member.at)));
            cycle(&std::iter::once((wait.waits_for(), at)).chain(others).collect::<Vec<_>>())
        }
        Cause::Timer => format!(
            "the wait for a timer at {at} goes on for ever: add a case for ctx.Done(), cancel it when the work ends, and Stop the timer"
        ),
        Cause::Sleep => {
            format!(
                "the loop that sleeps at {at} has no end: bound it, or wait for ctx.Done() beside a timer"
            )
        }
        Cause::Io => format!(
            "the I/O at {at} has no deadline and nobody closes it: set one (SetDeadline), or close it when its user is gone"
        ),
        Cause::HttpBody => "close the response's body".into(),
        Cause::SqlRows => "close what was opened of the database".into(),
        Cause::Process => "wait for the command, and end it".into(),
        Cause::Syscall => format!(
            "the system call at {at} does not return: use an *os.File or net.Conn with a deadline, or close the descriptor"
        ),
        Cause::Cgo => format!("the C function called at {at} does not return: give it a way to be told to"),
        Cause::Running => format!("the loop at {at} has no end: bound it, or check ctx.Err() in it"),
        Cause::Other => format!("nothing ends the wait at {at}"),
    }
}

/// The advice for goroutines that wait for a context. Whoever made a context cancels it: for that of a request, that is
/// the server.
fn context(at: &str, serves: Option<Serves>) -> String {
    let is_not = format!("the context waited for at {at} is not cancelled");
    match serves {
        Some(Serves::Http { body_read: Some(false) }) => format!(
            "{is_not}. If it comes from the request, net/http does that when the client goes away, but notices only once the body was read: read or discard r.Body before waiting, or derive a context with a timeout"
        ),
        Some(Serves::Http { body_read }) => {
            let read = if body_read.is_none() { "read or discard r.Body before waiting, and " } else { "" };
            format!(
                "{is_not}. If it comes from the request, net/http does that when the client goes away, which may be never: {read}derive one with a timeout (context.WithTimeout)"
            )
        }
        Some(Serves::Grpc) => format!(
            "{is_not}. If it is the call's, gRPC does that when the client ends the call or its deadline passes: derive one with a timeout (context.WithTimeout), and let clients set deadlines"
        ),
        None => format!(
            "{is_not}: where the program makes it, defer its cancel function; where it is handed in, derive one that ends (context.WithTimeout)"
        ),
    }
}

/// The advice for goroutines that wait for each other. `members` says what each of them waits for, and where.
fn cycle(members: &[(WaitsFor, String)]) -> String {
    let at = |wanted: &[WaitsFor]| {
        let mut places: Vec<&str> = Vec::new();
        for (waits_for, place) in members {
            if wanted.contains(waits_for) && !places.contains(&place.as_str()) {
                places.push(place);
            }
        }
        (!places.is_empty()).then(|| places.join(" and at "))
    };
    let (receive, send) = (at(&[WaitsFor::Receive]), at(&[WaitsFor::Send]));
    let channel = at(&[WaitsFor::Receive, WaitsFor::Send]);
    let (lock, group, other) = (at(&[WaitsFor::Lock]), at(&[WaitsFor::Group]), at(&[WaitsFor::Other]));
    match (channel, lock, group, other) {
        (None, Some(lock), None, None) => format!(
            "goroutines blocked at {lock} hold the locks that the others want: take locks in the same order everywhere"
        ),
        (Some(channel), None, None, None) => match (receive, send) {
            (Some(receive), None) => format!(
                "goroutines that receive at {receive} wait for each other to send: let one of them send before it receives"
            ),
            (None, Some(send)) => format!(
                "goroutines that send at {send} wait for each other to receive: let one of them receive before it sends, or give the channels buffers"
            ),
            _ => format!(
                "goroutines blocked at {channel} wait for each other at different channels: use these in the same order on both sides, or give the one sent on a buffer"
            ),
        },
        (Some(channel), Some(lock), None, None) => format!(
            "the lock wanted at {lock} is held where a channel is waited for at {channel}, and the one waits for the other: unlock before the channel is used"
        ),
        (Some(_), None, Some(group), None) => match (receive, send) {
            (None, Some(send)) => format!(
                "who should receive what is sent at {send} waits at {group} for the sender to be done: receive before Wait, or let a goroutine of its own Wait and close the channel"
            ),
            (Some(receive), None) => format!(
                "who should send or close what is received from at {receive} waits at {group} for the receiver to be done: send or close before Wait"
            ),
            (receive, send) => format!(
                "who serves the channels used at {} waits at {group} for their users to be done: call Wait after that, or in a goroutine of its own",
                [receive, send].into_iter().flatten().collect::<Vec<_>>().join(" and at ")
            ),
        },
        (None, Some(lock), Some(group), None) => format!(
            "the lock wanted at {lock} is held by who waits at {group} for that goroutine to be done: unlock before Wait"
        ),
        (None, None, Some(group), None) => {
            format!("goroutines that wait at {group} wait for each other to be done: call Done before Wait")
        }
        _ => {
            let mut all: Vec<&str> = members.iter().map(|(_, place)| place.as_str()).collect();
            all.dedup();
            format!(
                "goroutines blocked at {} wait for each other: give one of these waits a way out, such as ctx.Done()",
                all.join(" and at ")
            )
        }
    }
}

/// Fills the gaps of a sentence. `{place}` is replaced by the place `at`. Any other gap is a verb, and is replaced by that
/// verb and who is `blamed`, or by nothing if that is not known.
pub(super) fn fill_in(sentence: &str, at: &str, blamed: Option<&Blamed>) -> String {
    let mut text = String::new();
    let mut rest = sentence;
    while let Some((before, (verb, after))) =
        rest.split_once('{').and_then(|(before, gap)| Some((before, gap.split_once('}')?)))
    {
        text += before;
        match blamed {
            _ if verb == "place" => text += at,
            Some(blamed) => text += &blamed.did(verb),
            None => {}
        }
        rest = after;
    }
    text + rest
}
