//! Which check of source code would have caught a mistake: whoever has found it in a running program can find the next one
//! before it runs.

use super::owner::{Owner, owner};
use super::{Code, Start, patterns};
use crate::report::{Cause, StaticCheck};
use crate::verdict::waits::Wait;

/// The check that reports mistakes with this cause, of goroutines that wait like this; `None` if none is known. A context
/// that a server or a library has made is none of the program's to cancel, and a library's ticker none of its to stop.
pub(super) fn of(cause: Cause, wait: &Wait, code: Code, start: &Start) -> Option<StaticCheck> {
    let functions = || wait.frames.iter().map(|frame| frame.function.as_str());
    let is_own = || functions().any(|function| owner(function, code.module) == Owner::Program);
    let is_of_library = || patterns::find(code.patterns, wait, code.module).is_some();
    let is_made = || start.called.is_some_and(|called| called.starts_with("context.With"));
    match cause {
        Cause::Context if is_made() => Some(StaticCheck::LostCancel),
        Cause::Context if wait.serves.is_none() && is_own() && !is_of_library() => {
            Some(StaticCheck::LostCancel)
        }
        Cause::HttpBody => Some(StaticCheck::BodyClose),
        Cause::SqlRows if functions().any(is_of_rows) => Some(StaticCheck::SqlCloseCheck),
        Cause::Timer if is_own() => Some(StaticCheck::Sa1015),
        _ => None,
    }
}

/// Whether a goroutine in this function has rows open, or waits for the connection of others that have.
fn is_of_rows(function: &str) -> bool {
    function.starts_with("database/sql.(*Rows).") || function == "database/sql.(*DB).conn"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Frame;
    use crate::verdict::cause::Patterns;
    use crate::verdict::waits::Serves;

    fn check(cause: Cause, functions: &[&str], serves: Option<Serves>) -> Option<StaticCheck> {
        checked(cause, functions, serves, &Start::default())
    }

    fn checked(
        cause: Cause,
        functions: &[&str],
        serves: Option<Serves>,
        start: &Start,
    ) -> Option<StaticCheck> {
        let frame = |function: &&str| Frame { function: (*function).into(), ..Frame::default() };
        let wait = Wait { frames: functions.iter().map(frame).collect(), serves, ..Wait::default() };
        let patterns = Patterns::default();
        of(cause, &wait, Code { module: Some("example.com/api"), patterns: &patterns, methods: &[] }, start)
    }

    #[test]
    fn what_a_check_cannot_see_it_does_not_report() {
        let own = ["example.com/api/hub.(*Hub).Run"];
        assert_eq!(check(Cause::Context, &own, None), Some(StaticCheck::LostCancel));
        assert_eq!(check(Cause::Context, &own, Some(Serves::Grpc)), None, "the server cancels it");
        assert_eq!(check(Cause::Context, &["github.com/x/y.(*Client).loop"], None), None);
        let derived = ["context.(*cancelCtx).propagateCancel.func2"];
        assert_eq!(check(Cause::Context, &derived, None), None, "it is not known who made it");
        let made = Start { called: Some("context.WithCancel"), ..Start::default() };
        assert_eq!(checked(Cause::Context, &derived, None, &made), Some(StaticCheck::LostCancel));
        assert_eq!(check(Cause::Timer, &own, None), Some(StaticCheck::Sa1015));
        assert_eq!(
            check(Cause::HttpBody, &["net/http.(*persistConn).readLoop"], None),
            Some(StaticCheck::BodyClose)
        );
        let (rows, transaction) = ("database/sql.(*Rows).awaitDone", "database/sql.(*Tx).awaitDone");
        assert_eq!(check(Cause::SqlRows, &[rows], None), Some(StaticCheck::SqlCloseCheck));
        assert_eq!(check(Cause::SqlRows, &[transaction], None), None, "no check knows of those");
        assert_eq!(check(Cause::ChanReceive, &own, None), None);
    }
}
