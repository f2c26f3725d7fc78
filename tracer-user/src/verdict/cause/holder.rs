//! Writes who keeps others waiting at a lock or a `sync.WaitGroup`, or which the alternatives are where nobody is known.

use super::position;
use crate::human::{clean, count};
use crate::report::Served;
use crate::verdict::waits::{Contended, Holder};

/// The advice for goroutines that want a lock at `at`.
pub(super) fn of_lock(at: &str, lock: Option<&Contended>) -> String {
    let unknown = Contended::default();
    let lock = lock.unwrap_or(&unknown);
    if let Some(served) = lock.served.filter(|served| served.served > 0) {
        // Who is just getting it looks as if it held and wanted it.
        let is_getting = |holder: &&Holder| {
            holder.wants_it_too || holder.at.as_ref().is_some_and(|frame| position(frame) == at)
        };
        let holders: Vec<Holder> =
            lock.held_by.iter().filter(|holder| !is_getting(holder)).cloned().collect();
        let holder = match &holders[..] {
            [] => String::new(),
            holders => format!(", now held by {}", list(holders)),
        };
        return format!(
            "the lock wanted at {at} changes hands, but too slowly: {}{holder}: hold it for less time, do not wait while holding it, or let fewer want it",
            rates(&served, "get it")
        );
    }
    match (&lock.held_by[..], &lock.may_be_held_by[..]) {
        ([], []) => format!(
            "the lock wanted at {at} is either not released, or its holder does not come on: defer Unlock right after every Lock, and do not wait while holding it"
        ),
        ([], may) => format!(
            "the lock wanted at {at} is either not released, or held by {}: defer Unlock right after every Lock, and do not wait while holding it",
            some_of(may)
        ),
        (holders, _) if holders.iter().any(|holder| holder.wants_it_too) => format!(
            "the lock wanted at {at} is held by {}, which wants it once more: do not lock twice",
            list(holders)
        ),
        (holders, _) => format!(
            "the lock wanted at {at} is held by {}: do not wait while holding it, or give that wait an end (a deadline, ctx.Done())",
            list(holders)
        ),
    }
}

/// The advice for goroutines that wait for a `sync.WaitGroup` at `at`.
pub(super) fn of_group(at: &str, group: Option<&Contended>) -> String {
    let unknown = Contended::default();
    let group = group.unwrap_or(&unknown);
    let left = match group.taken.filter(|taken| *taken > 0) {
        Some(taken) => format!("is {}", count(taken)),
        None => "stays above zero".into(),
    };
    let start = format!("the count of the WaitGroup waited for at {at} {left}");
    match (&group.held_by[..], &group.may_be_held_by[..]) {
        ([], []) => format!(
            "{start}: either Done is not called, or who should call it does not come on: defer Done first thing in every goroutine, and Add one for each"
        ),
        ([], may) => format!(
            "{start}: either Done is not called, or it is still to be called by {}: defer Done first thing in every goroutine, and end what they wait for",
            some_of(may)
        ),
        (members, _) => format!(
            "{start}: Done is still to be called by {}: give that wait an end (a deadline, ctx.Done())",
            list(members)
        ),
    }
}

/// A part of a sentence that names the holders of a lock behind another advice; empty if none is certain.
pub(super) fn behind(lock: Option<&Contended>) -> String {
    match lock.map(|lock| &lock.held_by[..]) {
        None | Some([]) => String::new(),
        Some(holders) => format!(" (held up by {})", list(holders)),
    }
}

/// Says how many a lock or a channel serves and how many come, in goroutines a second. `get` is what the former do.
pub(super) fn rates(served: &Served, get: &str) -> String {
    let rate = |goroutines: u64| {
        let a_second = goroutines as f64 * 1e9 / served.span_ns.max(1) as f64;
        match a_second {
            0.95.. => format!("{}/s", count(a_second.round() as u64)),
            _ => format!("{:.1}/s", a_second),
        }
    };
    // Who came and got it between two looks is not seen, unless the queue is so long that some have waited all the time.
    let about = if served.still > 0 { "about" } else { "at least" };
    format!("{about} {} {get}, {about} {} come", rate(served.served), rate(served.came))
}

/// Names goroutines of which one is, or some are, what they may be.
fn some_of(holders: &[Holder]) -> String {
    let all: u64 = holders.iter().map(|holder| holder.count).sum();
    match all {
        1 => format!("{}, which goes on to release such a lock", list(holders)),
        _ => format!("one of {} goroutines that go on to release such a lock: {}", count(all), list(holders)),
    }
}

/// Says what goroutines do: `a goroutine in select at hub.go:9`, `4 goroutines in sleep at a.go:1 and one in …`.
fn list(holders: &[Holder]) -> String {
    let one = |(index, holder): (usize, &Holder)| {
        let who = match (holder.count, index) {
            (1, 0) => "a goroutine".into(),
            (1, _) => "one".into(),
            (n, 0) => format!("{} goroutines", count(n)),
            (n, _) => count(n),
        };
        let at = holder.at.as_ref().map(|frame| format!(" at {}", position(frame))).unwrap_or_default();
        let doing = match holder.doing {
            "running" => "that runs".into(),
            "runnable" => "about to run".into(),
            "syscall" => "in a system call".into(),
            doing => format!("in {}", clean(doing)),
        };
        format!("{who} {doing}{at}")
    };
    holders.iter().enumerate().map(one).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Frame;

    fn holder(doing: &'static str, line: u32, count: u64) -> Holder {
        let at = Frame { function: "main.send".into(), file: Some("/src/hub.go".into()), line: Some(line) };
        Holder { doing, at: Some(at), count, wants_it_too: false }
    }

    #[test]
    fn a_holder_is_named_with_what_it_does() {
        let held = Contended { held_by: vec![holder("select", 33, 1)], ..Contended::default() };
        assert_eq!(
            of_lock("a.go:1", Some(&held)),
            "the lock wanted at a.go:1 is held by a goroutine in select at hub.go:33: \
             do not wait while holding it, or give that wait an end (a deadline, ctx.Done())"
        );
        assert_eq!(behind(Some(&held)), " (held up by a goroutine in select at hub.go:33)");
        let twice = Holder { wants_it_too: true, ..holder("sync.Mutex.Lock", 33, 1) };
        let twice = Contended { held_by: vec![twice], ..Contended::default() };
        assert!(of_lock("a.go:1", Some(&twice)).ends_with("which wants it once more: do not lock twice"));
    }

    #[test]
    fn who_is_not_known_is_not_named() {
        let text = of_lock("a.go:1", None);
        assert!(text.contains("is either not released, or its holder does not come on"), "{text}");
        assert_eq!(behind(None), "");
        let may = vec![holder("sleep", 7, 4), holder("running", 9, 1)];
        let text = of_lock("a.go:1", Some(&Contended { may_be_held_by: may, ..Contended::default() }));
        assert!(
            text.contains(
                "either not released, or held by one of 5 goroutines that go on to release such a lock: \
                 4 goroutines in sleep at hub.go:7 and one that runs at hub.go:9"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_lock_that_changes_hands_is_released() {
        let served = |served, came, still| {
            let served = Some(Served { span_ns: 10_000_000_000, served, came, still });
            of_lock("a.go:1", Some(&Contended { served, ..Contended::default() }))
        };
        let text = served(10, 30, 15);
        assert!(text.contains("changes hands, but too slowly: about 1/s get it, about 3/s come"), "{text}");
        assert!(served(2, 30, 0).contains("at least 0.2/s get it"));
        assert!(served(0, 30, 15).contains("either not released"), "nobody got it");
    }

    #[test]
    fn members_of_a_group() {
        let group =
            Contended { held_by: vec![holder("IO wait", 5, 2)], taken: Some(2), ..Contended::default() };
        assert_eq!(
            of_group("a.go:1", Some(&group)),
            "the count of the WaitGroup waited for at a.go:1 is 2: Done is still to be called by \
             2 goroutines in IO wait at hub.go:5: give that wait an end (a deadline, ctx.Done())"
        );
        let text = of_group("a.go:1", Some(&Contended { taken: Some(1), ..Contended::default() }));
        assert!(
            text.contains("is 1: either Done is not called, or who should call it does not come on"),
            "{text}"
        );
    }
}
