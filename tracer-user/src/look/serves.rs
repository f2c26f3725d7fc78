//! Whether a goroutine serves a request, so that the context of that request belongs to the server that called it.

use std::collections::{HashMap, HashSet};

use crate::go::Binary;
use crate::inspect::{Goroutine, Snapshot};
use crate::verdict::waits::Serves;

/// The functions of `net/http` that call a handler.
const HTTP: [&str; 3] = [
    "net/http.(*conn).serve",
    "net/http.(*http2serverConn).runHandler",
    "net/http/internal/http2.(*serverConn).runHandler",
];
/// How the functions of gRPC begin that call one.
const GRPC: &str = "google.golang.org/grpc.(*Server).process";
/// The goroutine that looks out for the client's end while a handler runs. It is started where the body of the request
/// has been read to its end, by whoever has read it: `startBackgroundRead` in
/// <https://cs.opensource.google/go/go/+/master:src/net/http/server.go>. HTTP/2 needs none.
const LOOKS_OUT: &str = "net/http.(*connReader).backgroundRead";

/// The ids of the goroutines that have started one that looks out for the end of their client.
pub(super) fn with_body_read(snapshot: &Snapshot, binary: &Binary) -> HashSet<u64> {
    if binary.functions_named(LOOKS_OUT).is_empty() {
        return HashSet::new();
    }
    let mut known: HashMap<u64, bool> = HashMap::new();
    let look_out = snapshot.goroutines.iter().filter(|goroutine| {
        let startpc = snapshot.site(goroutine).startpc;
        let is_it = || binary.entry_function(startpc).is_some_and(|entry| entry.function == LOOKS_OUT);
        *known.entry(startpc).or_insert_with(is_it)
    });
    look_out.map(|goroutine| goroutine.parent).filter(|parent| *parent != 0).collect()
}

/// Whose requests a goroutine serves; `None` if it serves none.
pub(super) fn of(snapshot: &Snapshot, goroutine: &Goroutine, body_read: &HashSet<u64>) -> Option<Serves> {
    let frames = goroutine.stack.into_iter().flat_map(|stack| snapshot.stacks.frames(stack));
    let called = frames.filter_map(|frame| {
        let function = frame.function.as_str();
        if function == HTTP[0] {
            // Before Go 1.21 goroutines do not say who has started them.
            let knows = goroutine.parent != 0;
            return Some(Serves::Http { body_read: knows.then(|| body_read.contains(&goroutine.goid)) });
        }
        if HTTP.contains(&function) {
            return Some(Serves::Http { body_read: Some(true) });
        }
        function.starts_with(GRPC).then_some(Serves::Grpc)
    });
    called.last()
}
