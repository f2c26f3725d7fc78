//! A table of stacks that tell more than their wait reason. The first row that fits wins.
//!
//! A row fits if its function is in the part of the stack between the wait and the program's own code. Functions that
//! called the program's code do not count: also in a goroutine that `net/http` has started, what the program itself
//! waits for is not due to `net/http`.

use super::{Owner, owner};
use crate::go::Activity;
use crate::report::Cause;
use crate::verdict::waits::{HttpClients, Wait};

/// A row of the table.
pub(super) struct Pattern {
    /// What the goroutine does; `None` fits anything.
    activity: Option<Activity>,
    /// What most connections of HTTP clients are busy with; `None` fits anything.
    http_clients: Option<HttpClients>,
    /// The function's name, or the beginning of it if this ends in `*`. Empty fits any stack.
    function: &'static str,
    /// The cause that a stack like this has.
    pub cause: Cause,
    /// What to do about it. `{at}` is replaced by the place in the program's code; a verb such as `{made}` by the verb
    /// and the place where the program did so (`advice::fill_in`). If this is empty, the general advice for the cause
    /// is given.
    pub advice: &'static str,
}

const fn row(
    activity: Option<Activity>,
    function: &'static str,
    cause: Cause,
    advice: &'static str,
) -> Pattern {
    Pattern { activity, http_clients: None, function, cause, advice }
}

const BODY: &str = "a request{made} got a response whose body is neither read to its end nor closed: defer response.Body.Close() after every successful request";
const NO_ANSWER: &str =
    "a request{made} gets no answer: set http.Client.Timeout, or give it a context with a deadline";
const ASKED: &str =
    "the request made at {at} gets no answer: set http.Client.Timeout, or give it a context with a deadline";
const NO_CONNECTION: &str = "the request made at {at} gets no connection: close the bodies of those before where MaxConnsPerHost is set, and give it a context with a deadline";
const DIAL: &str = "nobody answers the connection dialled at {at}: dial with a Timeout, or with a context that has a deadline";
const LISTENER: &str = "the listener that accepts at {at} is not closed: close it when its server ends";
const NOTIFY: &str = "a context of signal.NotifyContext{made} is not stopped: defer its stop function";
const IDLE_CLIENT: &str = "connections{opened} stay open after their requests: share one http.Transport instead of making one a request, or set its IdleConnTimeout";
const IDLE_SERVER: &str = "clients keep their connections open: set ReadTimeout, WriteTimeout and IdleTimeout of the http.Server{started}";
const PIPE_READ: &str = "nobody writes to or closes the other end of the io.Pipe read at {at}: close the writer (CloseWithError) on every path";
const PIPE_WRITE: &str =
    "nobody reads the other end of the io.Pipe written at {at}: read it to its end, or close the reader";
const ROWS: &str = "a query{made} has rows that are not closed: defer rows.Close() right after the query, and check rows.Err()";
const TRANSACTION: &str =
    "a transaction{begun} is neither committed nor rolled back: defer tx.Rollback() right after BeginTx";
const DATABASE: &str = "a sql.DB{opened} is not closed, one after the other: open one and share it";
const POOL: &str = "all connections of the sql.DB wanted at {at} are taken and not given back: close the rows of every query, and end every transaction";
const TEST_SERVER: &str = "an httptest.Server{started} is not closed: defer its Close right after NewServer";
const COMMAND: &str = "a command{started} is not waited for: call Wait after Start, and cancel its context";
const OUTPUT: &str = "the output of a command{started} stays open: end it (exec.CommandContext), and where what it starts lives longer than it, set its WaitDelay";
const OUTPUT_AWAITED: &str = "the command waited for at {at} has ended, but what it started keeps its output open: set its WaitDelay, or give it files for its output";
const CHILD: &str =
    "the child process waited for at {at} does not end: start it with exec.CommandContext and a deadline";
const ONCE: &str = "sync.Once.Do at {at} waits for itself or for a function that never returns: do not call Do within its own function";
const STREAM: &str =
    "a gRPC stream{opened} is neither drained nor cancelled: cancel its context, or receive until an error";
const CHANNEL: &str = "a gRPC client connection{opened} is not closed: share one, or defer conn.Close()";
const GROUP: &str =
    "a function of the errgroup waited for at {at} does not return: let each end with the group's context";
const PULL: &str = "an iterator{pulled} was not told to stop: defer the stop function that iter.Pull returns";
const FOREIGN: &str = "a context{made} derives from one of another type and is never cancelled: defer its cancel function where it is made";

const fn asking(activity: Option<Activity>, function: &'static str) -> Pattern {
    Pattern { http_clients: Some(HttpClients::Asking), ..row(activity, function, Cause::Io, NO_ANSWER) }
}

const ANY: Option<Activity> = None;
const IO_WAIT: Option<Activity> = Some(Activity::IoWait);
const SELECT: Option<Activity> = Some(Activity::Select);
const RECEIVE: Option<Activity> = Some(Activity::ChanReceive);
const SEMACQUIRE: Option<Activity> = Some(Activity::Semacquire);
const SYSCALL: Option<Activity> = Some(Activity::Syscall);
const COROUTINE: Option<Activity> = Some(Activity::Coroutine);

const TABLE: &[Pattern] = &[
    // net/http: the two goroutines of a client's connection, and those of a server's connection.
    asking(IO_WAIT, "net/http.(*persistConn).readLoop"),
    row(IO_WAIT, "net/http.(*persistConn).readLoop", Cause::Io, IDLE_CLIENT),
    row(ANY, "net/http.(*persistConn).readLoop", Cause::HttpBody, BODY),
    asking(ANY, "net/http.(*persistConn).writeLoop"),
    Pattern {
        http_clients: Some(HttpClients::Idle),
        ..row(ANY, "net/http.(*persistConn).writeLoop", Cause::Io, IDLE_CLIENT)
    },
    row(ANY, "net/http.(*persistConn).writeLoop", Cause::HttpBody, BODY),
    row(SELECT, "net/http.(*persistConn).roundTrip", Cause::Io, ASKED),
    row(SELECT, "net/http.(*Transport).getConn", Cause::Io, NO_CONNECTION),
    // HTTP/2 is in another package from Go 1.27 on. A stream has a goroutine until its response is read.
    row(SELECT, "net/http.(*http2ClientConn).roundTrip", Cause::Io, ASKED),
    row(SELECT, "net/http/internal/http2.(*ClientConn).roundTrip", Cause::Io, ASKED),
    row(IO_WAIT, "net/http.(*http2ClientConn).*", Cause::Io, IDLE_CLIENT),
    row(IO_WAIT, "net/http/internal/http2.(*ClientConn).*", Cause::Io, IDLE_CLIENT),
    asking(ANY, "net/http.(*http2clientStream).*"),
    asking(ANY, "net/http/internal/http2.(*clientStream).*"),
    row(ANY, "net/http.(*http2clientStream).*", Cause::HttpBody, BODY),
    row(ANY, "net/http/internal/http2.(*clientStream).*", Cause::HttpBody, BODY),
    row(ANY, "net/http.(*body).*", Cause::Io, ""),
    row(IO_WAIT, "net/http/httptest.(*Server).*", Cause::Io, TEST_SERVER),
    row(IO_WAIT, "net/http.(*conn).serve", Cause::Io, IDLE_SERVER),
    row(IO_WAIT, "net/http.(*connReader).backgroundRead", Cause::Io, IDLE_SERVER),
    row(IO_WAIT, "net.(*netFD).connect", Cause::Io, DIAL),
    row(IO_WAIT, "net.(*netFD).accept", Cause::Io, LISTENER),
    // database/sql
    row(ANY, "database/sql.(*Rows).*", Cause::SqlRows, ROWS),
    row(ANY, "database/sql.(*Tx).*", Cause::SqlRows, TRANSACTION),
    row(ANY, "database/sql.(*DB).connectionOpener", Cause::SqlRows, DATABASE),
    row(ANY, "database/sql.(*DB).connectionCleaner", Cause::SqlRows, DATABASE),
    row(ANY, "database/sql.(*DB).conn", Cause::SqlRows, POOL),
    // os/exec
    row(RECEIVE, "os/exec.(*Cmd).Wait", Cause::Process, OUTPUT_AWAITED),
    row(ANY, "os/exec.(*Cmd).Wait", Cause::Process, CHILD),
    row(ANY, "os.(*Process).Wait", Cause::Process, CHILD),
    row(ANY, "os.(*Process).wait", Cause::Process, CHILD),
    row(IO_WAIT, "os/exec.*", Cause::Process, OUTPUT),
    row(ANY, "os/exec.*", Cause::Process, COMMAND),
    // io.Pipe
    row(ANY, "io.(*pipe).read", Cause::Io, PIPE_READ),
    row(ANY, "io.(*pipe).write", Cause::Io, PIPE_WRITE),
    row(ANY, "os/signal.NotifyContext*", Cause::Context, NOTIFY),
    // context: the goroutine that waits for the end of a parent context whose type the package does not know.
    row(ANY, "context.(*cancelCtx).propagateCancel.*", Cause::Context, FOREIGN),
    row(ANY, "context.propagateCancel.*", Cause::Context, FOREIGN),
    // gRPC
    row(ANY, "google.golang.org/grpc.newClientStream*", Cause::Context, STREAM),
    row(ANY, "google.golang.org/grpc.(*clientStream).*", Cause::Context, STREAM),
    row(ANY, "google.golang.org/grpc/internal/transport.(*http2Client).*", Cause::Io, CHANNEL),
    row(ANY, "google.golang.org/grpc/internal/transport.(*controlBuffer).get", Cause::Io, CHANNEL),
    row(ANY, "google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run", Cause::Io, CHANNEL),
    // Other synchronisation. Locks before Go 1.20 and wait groups before Go 1.25 have the wait reason `semacquire`.
    row(ANY, "golang.org/x/sync/semaphore.(*Weighted).Acquire", Cause::Semaphore, ""),
    row(ANY, "golang.org/x/sync/errgroup.(*Group).Wait", Cause::WaitGroup, GROUP),
    row(ANY, "golang.org/x/sync/errgroup.(*Group).Go", Cause::Semaphore, ""),
    row(ANY, "sync.(*Once).*", Cause::Mutex, ONCE),
    row(SEMACQUIRE, "sync.(*Mutex).*", Cause::Mutex, ""),
    row(SEMACQUIRE, "sync.(*RWMutex).*", Cause::Mutex, ""),
    row(SEMACQUIRE, "sync.(*WaitGroup).Wait", Cause::WaitGroup, ""),
    row(SEMACQUIRE, "internal/poll.(*fdMutex).*", Cause::Io, ""),
    row(SYSCALL, "runtime.cgocall", Cause::Cgo, ""),
    row(COROUTINE, "", Cause::Other, PULL),
];

impl Pattern {
    fn names(&self, function: &str) -> bool {
        match self.function.strip_suffix('*') {
            Some(begin) => function.starts_with(begin),
            None => function == self.function,
        }
    }
}

/// The whole table.
#[cfg(test)]
pub(super) fn all() -> &'static [Pattern] {
    TABLE
}

/// The first row that fits a wait, if there is one.
pub(super) fn find(wait: &Wait, module: Option<&str>) -> Option<&'static Pattern> {
    let own = wait.frames.iter().position(|frame| owner(&frame.function, module) == Owner::Program);
    let library = &wait.frames[..own.unwrap_or(wait.frames.len())];
    let activity = wait.activity();
    TABLE.iter().find(|pattern| {
        pattern.activity.is_none_or(|wanted| wanted == activity)
            && (pattern.http_clients.is_none() || pattern.http_clients == wait.http_clients)
            && (pattern.function.is_empty() || library.iter().any(|frame| pattern.names(&frame.function)))
    })
}
