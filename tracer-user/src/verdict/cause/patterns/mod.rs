//! Stacks that tell more than their wait reason: rows that name functions, the cause of a wait in them, and the remedy.
//! Each library has its rows in a module of its own, and users may bring rows of theirs. The first row that fits wins,
//! the user's before the built-in.
//!
//! A row fits if its function is in the part of the stack between the wait and the program's own code, or is the
//! program's own. Functions of libraries that called the program's code do not count: also in a goroutine that
//! `net/http` has started, what the program itself waits for is not due to `net/http`.

mod client_go;
mod context;
mod cron;
mod crypto_tls;
mod database_sql;
mod etcd;
mod file;
mod franz_go;
mod fsnotify;
mod go_redis;
mod grpc;
mod http2;
mod io_pipe;
mod mongodb;
mod nats;
mod net;
mod net_http;
mod opentelemetry;
mod os_exec;
mod os_signal;
mod pgx;
mod runtime;
mod sarama;
mod sync;

use super::owner::{Owner, owner};
use crate::go::Activity;
use crate::report::Cause;
use crate::verdict::waits::{HttpClients, Wait};
pub use file::{PatternError, Patterns};

/// All libraries that there are rows for, in the order in which they are asked. A library comes before those that it is
/// built on.
const LIBRARIES: &[&Library] = &[
    &etcd::LIBRARY,
    &client_go::LIBRARY,
    &grpc::LIBRARY,
    &sarama::LIBRARY,
    &franz_go::LIBRARY,
    &go_redis::LIBRARY,
    &nats::LIBRARY,
    &pgx::LIBRARY,
    &mongodb::LIBRARY,
    &opentelemetry::LIBRARY,
    &fsnotify::LIBRARY,
    &cron::LIBRARY,
    &http2::LIBRARY,
    &net_http::LIBRARY,
    &crypto_tls::LIBRARY,
    &net::LIBRARY,
    &database_sql::LIBRARY,
    &os_exec::LIBRARY,
    &os_exec::PROCESS,
    &io_pipe::LIBRARY,
    &os_signal::LIBRARY,
    &context::LIBRARY,
    &sync::EXTENDED,
    &sync::LIBRARY,
    &runtime::LIBRARY,
];

/// A library and the rows about its functions.
struct Library {
    /// The paths of its module or packages, without a major version such as `/v5` at the end. In the last part of a
    /// package's path Go writes `%2e` for a dot.
    paths: &'static [&'static str],
    /// Beginnings of functions that stand elsewhere, and what stands for them in the rows: a copy of the library under
    /// other names.
    copies: &'static [(&'static str, &'static str)],
    /// What is known of its functions, in the order in which they are asked.
    rows: &'static [Row],
}

/// What is known about the goroutines that are in a function.
struct Row {
    /// What the goroutine does; `None` fits anything.
    activity: Option<Activity>,
    /// What most connections of HTTP clients are busy with; `None` fits anything.
    http_clients: Option<HttpClients>,
    /// The function's name without the path of its library, or the beginning of it if this ends in `*`.
    function: &'static str,
    /// The cause that a wait in it has; `None` is what the wait itself tells.
    cause: Option<Cause>,
    /// What to do about it: see [`Remedy::advice`].
    advice: &'static str,
    /// The method that ends what the goroutines belong to.
    close: Option<&'static str>,
}

/// A row for all goroutines in a function. With empty `advice` the general one for the cause is given.
const fn row(function: &'static str, cause: Cause, advice: &'static str) -> Row {
    Row { cause: Some(cause), ..remedy(function, advice) }
}

/// A row that says what to do, and leaves the cause to what the goroutines wait for.
const fn remedy(function: &'static str, advice: &'static str) -> Row {
    Row { activity: None, http_clients: None, function, cause: None, advice, close: None }
}

/// A row that only names the method which ends what the goroutines belong to, where the type of the goroutines' own
/// method has none, or one that the program cannot call.
const fn closed(function: &'static str, method: &'static str) -> Row {
    Row { close: Some(method), ..remedy(function, "") }
}

impl Row {
    /// The same only for goroutines that do this.
    const fn while_in(self, activity: Activity) -> Row {
        Row { activity: Some(activity), ..self }
    }

    /// The same only while most connections of HTTP clients are in this state.
    const fn where_clients(self, are: HttpClients) -> Row {
        Row { http_clients: Some(are), ..self }
    }

    fn fits(&self, wait: &Wait) -> bool {
        self.activity.is_none_or(|wanted| wanted == wait.activity())
            && (self.http_clients.is_none() || self.http_clients == wait.http_clients)
    }

    /// Whether it is about the function whose name in its library is `begin` and `rest` together.
    fn names(&self, begin: &str, rest: &str) -> bool {
        let (function, is_whole) = match self.function.strip_suffix('*') {
            Some(function) => (function, false),
            None => (self.function, true),
        };
        match function.strip_prefix(begin) {
            Some(function) if is_whole => rest == function,
            Some(function) => rest.starts_with(function),
            None => !is_whole && begin.starts_with(function),
        }
    }
}

impl Library {
    /// What a function is called in the rows, in two parts; `None` if it is not of this library.
    fn own_name<'name>(&self, function: &'name str) -> Option<(&'static str, &'name str)> {
        let copied = |&(begin, stands_for): &(&str, &'static str)| {
            function.strip_prefix(begin).map(|rest| (stands_for, rest))
        };
        if let Some(name) = self.copies.iter().find_map(copied) {
            return Some(name);
        }
        let rest = self.paths.iter().find_map(|path| function.strip_prefix(path))?;
        let rest = without_version(rest);
        rest.starts_with(['.', '/']).then_some(("", rest))
    }

    fn find(&'static self, wait: &Wait, functions: &[&str]) -> Option<&'static Row> {
        let names: Vec<_> = functions.iter().filter_map(|function| self.own_name(function)).collect();
        let is_named = |row: &Row| names.iter().any(|(begin, rest)| row.names(begin, rest));
        self.rows.iter().filter(|_| !names.is_empty()).find(|row| row.fits(wait) && is_named(row))
    }
}

/// What follows a major version such as `/v5`, if there is one.
fn without_version(rest: &str) -> &str {
    let Some(version) = rest.strip_prefix("/v") else { return rest };
    let after = version.trim_start_matches(|digit: char| digit.is_ascii_digit());
    if after.len() < version.len() && after.starts_with(['.', '/']) { after } else { rest }
}

/// What a row says of a wait that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remedy<'patterns> {
    /// The cause that such a wait has; `None` is what the wait itself tells.
    pub(super) cause: Option<Cause>,
    /// What to do about it. `{place}` is replaced by the place in the program's code, a verb such as `{made}` by the verb
    /// and the place where the program did so (`advice::fill_in`). If this is empty, the general advice for the cause is
    /// given.
    pub(super) advice: &'patterns str,
    /// The method that ends what the goroutines belong to.
    pub(super) close: Option<&'patterns str>,
}

/// What the first row that fits says, if there is one. `patterns` are the user's own.
pub(super) fn find<'patterns>(
    patterns: &'patterns Patterns,
    wait: &Wait,
    module: Option<&str>,
) -> Option<Remedy<'patterns>> {
    let is_own = |function: &str| owner(function, module) == Owner::Program;
    let functions = || wait.frames.iter().map(|frame| frame.function.as_str());
    let own = functions().position(is_own).unwrap_or(wait.frames.len());
    let counts = |&(at, function): &(usize, &str)| at < own || is_own(function);
    let functions: Vec<&str> = functions().enumerate().filter(counts).map(|(_, function)| function).collect();
    patterns.find(wait, &functions).or_else(|| {
        let row = LIBRARIES.iter().find_map(|library| library.find(wait, &functions))?;
        Some(Remedy { cause: row.cause, advice: row.advice, close: row.close })
    })
}

/// The advice of all built-in rows.
#[cfg(test)]
pub(super) fn built_in() -> impl Iterator<Item = &'static str> {
    LIBRARIES.iter().flat_map(|library| library.rows).map(|row| row.advice)
}

#[cfg(test)]
mod tests;
