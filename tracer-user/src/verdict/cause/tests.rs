//! Tests causes and advice for waits that are made by hand.

use super::*;
use crate::report::{BlamedFrame, LedBy, Served};
use crate::verdict::waits::{HttpClients, Member, Serves, WaitedChannel};

/// A goroutine that waits with this reason in these functions, innermost first, each in a file of its own.
fn wait(reason: &'static str, functions: &[&str]) -> Wait {
    let frame = |(at, function): (usize, &&str)| Frame {
        function: (*function).into(),
        file: Some(format!("/src/f{at}.go")),
        line: Some(10 + at as u32),
    };
    Wait { reason, count: 1, frames: functions.iter().enumerate().map(frame).collect(), ..Wait::default() }
}

fn explained(waits: &[Wait], blamed: Option<&Blamed>) -> Option<Explanation> {
    let code = Code { module: Some("example.com/api"), patterns: &Patterns::default(), methods: &[] };
    of(waits, code, &Start { blamed, ..Start::default() })
}

fn named(wait: Wait) -> (Cause, String) {
    let Explanation { cause, advice, .. } = explained(&[wait], None).unwrap();
    (cause, advice)
}

fn cause(reason: &'static str, functions: &[&str]) -> Cause {
    named(wait(reason, functions)).0
}

fn channel(capacity: u64, element: &str) -> Vec<WaitedChannel> {
    vec![WaitedChannel {
        capacity,
        length: capacity,
        element: Some(element.into()),
        ..WaitedChannel::default()
    }]
}

#[test]
fn every_reason_has_its_cause() {
    let expected = [
        ("chan receive", Cause::ChanReceive),
        ("chan receive (durable)", Cause::ChanReceive),
        ("chan receive (nil chan)", Cause::NilChan),
        ("chan send", Cause::ChanSend),
        ("chan send (nil chan)", Cause::NilChan),
        ("select", Cause::Select),
        ("select (no cases)", Cause::Select),
        ("sync.Mutex.Lock", Cause::Mutex),
        ("sync.RWMutex.RLock", Cause::Mutex),
        ("sync.RWMutex.Lock", Cause::Mutex),
        ("sync.WaitGroup.Wait", Cause::WaitGroup),
        ("sync.Cond.Wait", Cause::Cond),
        ("semacquire", Cause::Semaphore),
        ("sleep", Cause::Sleep),
        ("IO wait", Cause::Io),
        ("syscall", Cause::Syscall),
        ("running", Cause::Running),
        ("coroutine", Cause::Other),
        ("GC assist wait", Cause::Other),
    ];
    for (reason, cause) in expected {
        let (named, advice) = named(wait(reason, &["runtime.gopark", "main.f"]));
        assert_eq!(named, cause, "{reason}");
        assert!(advice.contains("f1.go:11") || reason == "coroutine", "{reason}: {advice}");
        assert!(!advice.contains('{') || reason == "select (no cases)", "{advice}");
    }
}

#[test]
fn locks_before_they_had_reasons_of_their_own() {
    assert_eq!(
        cause("semacquire", &["sync.runtime_SemacquireMutex", "sync.(*Mutex).lockSlow", "main.f"]),
        Cause::Mutex
    );
    assert_eq!(
        cause("semacquire", &["sync.runtime_Semacquire", "sync.(*WaitGroup).Wait", "main.f"]),
        Cause::WaitGroup
    );
    assert_eq!(
        cause("semacquire", &["sync.runtime_SemacquireMutex", "sync.(*RWMutex).RLock", "main.f"]),
        Cause::Mutex
    );
}

#[test]
fn the_standard_library_is_known_by_its_functions() {
    assert_eq!(cause("select", &["net/http.(*persistConn).readLoop"]), Cause::HttpBody);
    assert_eq!(
        cause("IO wait", &["internal/poll.(*FD).Read", "net/http.(*persistConn).readLoop"]),
        Cause::Io
    );
    assert_eq!(cause("select", &["database/sql.(*Rows).awaitDone"]), Cause::SqlRows);
    assert_eq!(cause("chan receive", &["database/sql.(*Tx).awaitDone"]), Cause::SqlRows);
    assert_eq!(cause("select", &["os/exec.(*Cmd).watchCtx"]), Cause::Process);
    assert_eq!(
        cause("IO wait", &["internal/poll.(*FD).Read", "os/exec.(*Cmd).writerDescriptor.func1"]),
        Cause::Process
    );
    let (cause_of_wait, advice) = named(wait("chan receive", &["os/exec.(*Cmd).Wait", "main.f"]));
    assert_eq!(cause_of_wait, Cause::Process);
    assert!(advice.contains("WaitDelay"), "{advice}");
    assert_eq!(cause("select", &["os/signal.NotifyContext.func1"]), Cause::Context);
    assert_eq!(cause("select", &["context.(*cancelCtx).propagateCancel.func2"]), Cause::Context);
    assert_eq!(cause("select", &["io.(*pipe).read", "io.(*PipeReader).Read", "main.f"]), Cause::Io);
    assert_eq!(cause("syscall", &["runtime.cgocall", "main._Cfunc_wait", "main.f"]), Cause::Cgo);
    assert_eq!(
        cause("select", &["golang.org/x/sync/semaphore.(*Weighted).Acquire", "main.f"]),
        Cause::Semaphore
    );
    assert_eq!(
        cause(
            "semacquire",
            &["sync.(*WaitGroup).Wait", "golang.org/x/sync/errgroup.(*Group).Wait", "main.f"]
        ),
        Cause::WaitGroup
    );
    assert_eq!(cause("select", &["google.golang.org/grpc.newClientStreamWithParams.func4"]), Cause::Context);
}

#[test]
fn a_connection_is_what_most_are() {
    let writer = wait("select", &["net/http.(*persistConn).writeLoop"]);
    let when = |http_clients| named(Wait { http_clients, ..writer.clone() });
    assert_eq!(when(None).0, Cause::HttpBody);
    assert_eq!(when(Some(HttpClients::Unread)).0, Cause::HttpBody);
    let (idle, asking) = (when(Some(HttpClients::Idle)), when(Some(HttpClients::Asking)));
    assert_eq!((idle.0, asking.0), (Cause::Io, Cause::Io));
    assert!(idle.1.contains("stay open") && asking.1.contains("gets no answer"), "{idle:?} {asking:?}");
}

#[test]
fn a_request_without_an_answer() {
    for function in ["(*persistConn).roundTrip", "(*http2ClientConn).roundTrip"] {
        let (cause, advice) = named(wait("select", &[&format!("net/http.{function}"), "main.f"]));
        assert_eq!(cause, Cause::Io);
        assert!(advice.starts_with("the request made at f1.go:11 gets no answer"), "{advice}");
    }
}

#[test]
fn a_handler_is_the_programs_own_affair() {
    let stack = ["example.com/api/users.handle", "net/http.HandlerFunc.ServeHTTP", "net/http.(*conn).serve"];
    assert_eq!(cause("chan receive", &stack), Cause::ChanReceive);
    assert_eq!(
        cause("IO wait", &["net.(*conn).Read", "example.com/api.ask", "net/http.(*conn).serve"]),
        Cause::Io
    );
}

#[test]
fn channels_tell_timers_and_semaphores() {
    let receive = wait("chan receive", &["main.f"]);
    assert_eq!(named(Wait { channels: channel(1, "time.Time"), ..receive.clone() }).0, Cause::Timer);
    assert_eq!(
        named(Wait { asked_done: true, channels: channel(0, "struct {}"), ..receive }).0,
        Cause::Context
    );
    let send = wait("chan send", &["main.f"]);
    assert_eq!(named(Wait { channels: channel(4, "struct {}"), ..send.clone() }).0, Cause::Semaphore);
    let (cause, advice) = named(Wait { channels: channel(4, "int"), ..send });
    assert_eq!(cause, Cause::ChanSend);
    assert!(advice.contains("its buffer of 4 is full"), "{advice}");
}

#[test]
fn the_place_is_in_the_programs_code() {
    let place_in = |functions: &[&str]| {
        place(&wait("chan receive", functions), Some("example.com/api")).unwrap().function.clone()
    };
    assert_eq!(
        place_in(&[
            "runtime.gopark",
            "sync.(*Mutex).Lock",
            "github.com/x/y.F",
            "example.com/api/db.Get",
            "main.f"
        ]),
        "example.com/api/db.Get"
    );
    assert_eq!(place_in(&["runtime.gopark", "io.ReadAll", "github.com/x/y.F"]), "github.com/x/y.F");
    assert_eq!(
        place_in(&["runtime.gopark", "net/http.(*persistConn).addTLS", "net/http.dial.func1"]),
        "net/http.(*persistConn).addTLS",
        "where it waits, not the closure of the go statement"
    );
    assert_eq!(place_in(&["runtime.gopark", "sync.runtime_Wait", "sync.(*Cond).Wait"]), "sync.runtime_Wait");
    assert_eq!(owner("example.com/apis.F", Some("example.com/api")), Owner::Dependency);
    assert_eq!(owner("mainframe.F", None), Owner::Standard);
}

#[test]
fn most_goroutines_decide_and_moving_ones_do_not_count() {
    let waits = [
        Wait { count: 30, ..wait("running", &["main.f"]) },
        Wait { count: 20, ..wait("chan send", &["main.f"]) },
        Wait { count: 15, ..wait("chan send", &["main.g"]) },
        Wait { count: 30, ..wait("select", &["main.f"]) },
    ];
    assert_eq!(explained(&waits, None).unwrap().cause, Cause::ChanSend);
    assert_eq!(explained(&waits[..1], None).unwrap().cause, Cause::Running);
    assert_eq!(explained(&[], None), None);
}

#[test]
fn what_grows_stands_out_from_what_is_most() {
    let idle =
        Wait { count: 300, grown: Some((0, 0)), ..wait("IO wait", &["net/http.(*persistConn).readLoop"]) };
    let idle = Wait { http_clients: Some(HttpClients::Idle), ..idle };
    let unread = |count, grown| Wait {
        count,
        grown,
        http_clients: Some(HttpClients::Unread),
        ..wait("select", &["net/http.(*persistConn).readLoop"])
    };
    let found = explained(&[idle.clone(), unread(34, Some((34, 34)))], None).unwrap();
    assert_eq!(found.cause, Cause::HttpBody);
    assert_eq!(
        found.beside.unwrap(),
        "34 in select (http-body) grew by 34 since the look before; beside them 300 in IO wait (io, idle connections)"
    );
    // Without an earlier look, and where as many go as come, most decide.
    for grown in [None, Some((4, 40))] {
        let found = explained(&[idle.clone(), unread(34, grown)], None).unwrap();
        assert_eq!((found.cause, found.beside), (Cause::Io, None), "{grown:?}");
    }
}

#[test]
fn a_context_belongs_to_who_made_it() {
    let advice = |serves| {
        named(Wait { asked_done: true, serves, ..wait("select", &["main.poll", "net/http.(*conn).serve"]) }).1
    };
    let unread = advice(Some(Serves::Http { body_read: Some(false) }));
    assert!(unread.contains("read or discard r.Body before waiting, or derive a context"), "{unread}");
    let read = advice(Some(Serves::Http { body_read: Some(true) }));
    assert!(!read.contains("r.Body") && read.contains("derive one with a timeout"), "{read}");
    for serves in [Serves::Grpc, Serves::Http { body_read: None }, Serves::Http { body_read: Some(false) }] {
        assert!(!advice(Some(serves)).contains("defer its cancel"), "{serves:?}");
    }
    let unknown = advice(None);
    assert!(unknown.contains("defer its cancel") && unknown.contains("derive one that ends"), "{unknown}");
}

#[test]
fn a_cycle_names_all_places() {
    use crate::verdict::waits::WaitsFor::{Group, Lock, Other, Receive, Send};
    let advice = |reason, functions: &[&str], waits_for| {
        let at = Frame { function: "main.g".into(), file: Some("/src/g.go".into()), line: Some(7) };
        let cycle = Some(vec![Member { waits_for, at }]);
        let (cause, advice) = named(Wait { cycle, ..wait(reason, functions) });
        assert_eq!(cause, Cause::Cycle);
        advice
    };
    let lock = &["sync.(*Mutex).Lock", "main.f"];
    let group = &["sync.(*WaitGroup).Wait", "golang.org/x/sync/errgroup.(*Group).Wait", "main.f"];
    let expected = [
        (
            advice("sync.Mutex.Lock", lock, Lock),
            "goroutines blocked at f1.go:11 and at g.go:7 hold the locks that the others want: take locks in the same order everywhere",
        ),
        (
            advice("semacquire", lock, Send),
            "the lock wanted at f1.go:11 is held where a channel is waited for at g.go:7, and the one waits for the other: unlock before the channel is used",
        ),
        (
            advice("chan send", &["main.f"], Group),
            "who should receive what is sent at f0.go:10 waits at g.go:7 for the sender to be done: receive before Wait, or let a goroutine of its own Wait and close the channel",
        ),
        (
            advice("sync.WaitGroup.Wait", group, Receive),
            "who should send or close what is received from at g.go:7 waits at f2.go:12 for the receiver to be done: send or close before Wait",
        ),
        (
            advice("semacquire", group, Lock),
            "the lock wanted at g.go:7 is held by who waits at f2.go:12 for that goroutine to be done: unlock before Wait",
        ),
        (
            advice("chan receive", &["main.f"], Receive),
            "goroutines that receive at f0.go:10 and at g.go:7 wait for each other to send: let one of them send before it receives",
        ),
        (
            advice("chan receive", &["main.f"], Send),
            "goroutines blocked at f0.go:10 and at g.go:7 wait for each other at different channels: use these in the same order on both sides, or give the one sent on a buffer",
        ),
        (
            advice("chan receive", &["main.f"], Other),
            "goroutines blocked at f0.go:10 and at g.go:7 wait for each other: give one of these waits a way out, such as ctx.Done()",
        ),
    ];
    for (got, expected) in expected {
        assert_eq!(got, expected);
    }
}

#[test]
fn whom_to_blame_stands_in_the_advice() {
    let frame = Frame { function: "main.fetch".into(), file: Some("/src/fetch.go".into()), line: Some(12) };
    let blamed = |by| {
        let lines = vec![BlamedFrame { frame: frame.clone(), count: 1, came: 0, by }];
        Blamed { lines, known: 1, live: 1 }
    };
    let (call, started) = (blamed(LedBy::Call), blamed(LedBy::Statement));
    let advice =
        |functions: &[&str], blamed| explained(&[wait("select", functions)], Some(blamed)).unwrap().advice;
    let body = &["net/http.(*persistConn).readLoop"];
    assert!(advice(body, &call).starts_with("a request made at fetch.go:12 got a response whose body"));
    assert!(
        advice(body, &started).starts_with("a request made by goroutines from fetch.go:12 got a response")
    );
    let pool = &["github.com/x/pool.(*Pool).run"];
    assert_eq!(
        advice(pool, &started),
        "what is made by goroutines from fetch.go:12 with github.com/x/pool is not closed, or made too often: \
         close it or share one; it waits at f0.go:10"
    );
    let own = &["example.com/api.wait", "github.com/x/pool.(*Pool).run"];
    assert!(!advice(own, &call).contains("fetch.go"), "its own place says it");
}

#[test]
fn no_gap_is_left_in_any_sentence() {
    for sentence in patterns::built_in() {
        let text = advice::fill_in(sentence, "f.go:1", None);
        assert!(!text.contains(['{', '}']) && !text.contains("  "), "{text}");
        assert!(!sentence.contains("{place}") || text.contains("f.go:1"), "{text}");
    }
}

#[test]
fn names_are_those_of_the_contract() {
    for cause in Cause::ALL {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
    }
}

#[test]
fn a_channel_that_is_received_from_too_slowly_is_not_called_abandoned() {
    let sends = |served| {
        let served = Some(Served { span_ns: 10_000_000_000, served, came: 50, still: 20 });
        let channel = WaitedChannel { sends: true, served, ..WaitedChannel::default() };
        named(Wait { channels: vec![channel], ..wait("chan send", &["main.f"]) }).1
    };
    assert!(
        sends(10).contains("is received, but too slowly: about 1/s get through, about 5/s come"),
        "{}",
        sends(10)
    );
    assert!(sends(0).starts_with("nobody receives from the channel"), "{}", sends(0));
}
