//! The advice to the user of a library, for goroutines of which no call is the program's: it points to the program's line,
//! and to the method that ends what was made there. The library's own line comes second, since its author is not asked.

use super::closing::{Type, exported, opposite_of};
use super::owner::{Owner, owner};
use super::{Code, Start, position};
use crate::go::Activity;
use crate::go::standard::package_path;
use crate::human::{clean, imported, short_function};
use crate::verdict::waits::Wait;

/// A sentence with gaps, as a row of the table has it. `close` is the method that is known to end it. `None` where the
/// program's own code is among the calls, or it is not known what the program's own code is.
pub(super) fn sentence(wait: &Wait, code: Code, start: &Start, close: Option<&str>) -> Option<String> {
    code.module?;
    let of = |function: &str| owner(function, code.module);
    let functions = || wait.frames.iter().map(|frame| frame.function.as_str());
    if functions().any(|function| of(function) == Owner::Program) {
        return None;
    }
    let outside = || functions().rev().filter(|function| of(function) != Owner::Runtime);
    let nearest =
        outside().find(|function| of(function) == Owner::Dependency).or_else(|| outside().next())?;
    let typed = outside().find_map(Type::of_method);
    let at = match wait.activity() {
        Activity::Running | Activity::Runnable | Activity::Preempted => "it runs at {place}",
        _ => "it waits at {place}",
    };
    let short = |function: &str| clean(&short_function(function));
    let call = |method: Option<&str>, otherwise: &str| {
        method.map_or_else(|| otherwise.to_owned(), |method| format!("call {}", short(method)))
    };
    if let Some(own) = start.statement.filter(|frame| of(&frame.function) == Owner::Program) {
        // The program has started a library's function itself, so there is nothing that the library made for it.
        if of(nearest) != Owner::Dependency {
            return None;
        }
        let method = close.or_else(|| typed?.closed_by(code.methods));
        let end = call(method, "end it");
        return Some(format!(
            "{}, started at {}, does not end: {end} when its work is done; {at}",
            short(nearest),
            position(own)
        ));
    }
    // Where the line is not known, the verb stands alone.
    let verb = |verb: &str| match start.blamed {
        Some(_) => format!("{{{verb}}}"),
        None => format!(" {verb}"),
    };
    let statement = start.statement.map(|frame| frame.function.as_str());
    let called = start.called.or(statement.and_then(exported));
    if let Some((called, opposite)) =
        called.and_then(|called| Some((called, opposite_of(called, code.methods)?)))
    {
        let (called, opposite) = (short(called), short(close.unwrap_or(opposite)));
        return Some(format!(
            "what is{} with {called} is not given back: call {opposite} on every path; {at}",
            verb("taken")
        ));
    }
    let made = || called.and_then(|called| Type::of_constructor(called).or(Type::of_method(called)));
    let started =
        || statement.and_then(|function| Type::of_method(function).or(Type::of_constructor(function)));
    let by_type = |found: Option<Type<'_>>| found.and_then(|found| found.closed_by(code.methods));
    let method = close.or_else(|| by_type(made()).or_else(|| by_type(typed)).or_else(|| by_type(started())));
    let what = called.map_or_else(|| clean(&imported(package_path(statement.unwrap_or(nearest)))), short);
    let end = call(method, "close it");
    let made = verb("made");
    Some(format!("what is{made} with {what} is not closed, or made too often: {end} or share one; {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Frame;
    use crate::verdict::cause::Patterns;
    use crate::verdict::cause::advice::fill_in;

    fn frame(function: &str, line: u32) -> Frame {
        Frame { function: function.into(), file: Some("/src/main.go".into()), line: Some(line) }
    }

    /// What is said of goroutines with these calls, innermost first, which were created in `statement` after the program
    /// called `called`.
    fn said(calls: &[&str], statement: &str, called: Option<&str>, close: Option<&str>) -> Option<String> {
        let methods = ["x.io/kafka.(*producer).Close", "x.io/pool.(*Resource).Release", "net.(*conn).Close"];
        let mut methods = methods.map(str::to_owned);
        methods.sort();
        let code =
            Code { module: Some("example.com/api"), patterns: &Patterns::default(), methods: &methods };
        let statement = frame(statement, 50);
        let start = Start { statement: Some(&statement), called, blamed: None };
        let frames = calls.iter().map(|call| frame(call, 7)).collect();
        let wait = Wait { reason: "select", frames, ..Wait::default() };
        sentence(&wait, code, &start, close).map(|sentence| fill_in(&sentence, "lib.go:7", None))
    }

    #[test]
    fn what_a_constructor_made_is_to_be_closed_by_its_own_method() {
        let run = &["runtime.gopark", "net.(*conn).Read", "x.io/kafka.(*worker).run", "x.io/kafka.start"];
        let end = "is not closed, or made too often: call kafka.(*producer).Close or share one; it waits at lib.go:7";
        assert_eq!(
            said(run, "x.io/kafka.open", Some("x.io/kafka.NewProducer"), None).unwrap(),
            format!("what is made with kafka.NewProducer {end}")
        );
        assert_eq!(
            said(run, "x.io/kafka.(*producer).start", None, None).unwrap(),
            format!("what is made with x.io/kafka {end}")
        );
        let nats = &["runtime.gopark", "github.com/nats-io/nats%2ego.(*Conn).readLoop"];
        let said_of_nats = said(nats, "github.com/nats-io/nats%2ego.(*Conn).start", None, None).unwrap();
        assert!(
            said_of_nats.starts_with("what is made with github.com/nats-io/nats.go is"),
            "{said_of_nats}"
        );
        // A connection that a worker reads from is not what the program made.
        let none = said(run, "x.io/kafka.Dial.func1", None, None).unwrap();
        assert_eq!(
            none,
            "what is made with kafka.Dial is not closed, or made too often: close it or share one; it waits at lib.go:7"
        );
        assert!(
            said(run, "x.io/kafka.open", None, Some("Producer.End"))
                .unwrap()
                .contains("call Producer.End or")
        );
    }

    #[test]
    fn what_was_taken_is_to_be_given_back() {
        let wait = &["sync.(*Cond).Wait", "x.io/pool.(*Pool).Acquire.func1"];
        assert_eq!(
            said(wait, "x.io/pool.(*Pool).Acquire", None, None).unwrap(),
            "what is taken with pool.(*Pool).Acquire is not given back: call pool.(*Resource).Release on every path; it waits at lib.go:7"
        );
    }

    #[test]
    fn what_the_program_started_itself_does_not_end() {
        let run = &["runtime.gopark", "x.io/kafka.(*producer).loop", "x.io/kafka.(*producer).Run"];
        assert_eq!(
            said(run, "main.main", None, None).unwrap(),
            "kafka.(*producer).Run, started at main.go:50, does not end: call kafka.(*producer).Close when its work is done; it waits at lib.go:7"
        );
        assert_eq!(said(&["time.Sleep"], "main.main", None, None), None);
    }

    #[test]
    fn the_programs_own_waits_are_its_own_affair() {
        assert_eq!(said(&["x.io/kafka.Get", "example.com/api.f"], "x.io/kafka.start", None, None), None);
        assert_eq!(said(&[], "x.io/kafka.start", None, None), None);
        assert_eq!(said(&["runtime.gopark"], "x.io/kafka.start", None, None), None);
    }
}
