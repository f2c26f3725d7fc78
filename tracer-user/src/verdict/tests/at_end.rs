//! Tests what is said of goroutines that lived when their process ended.

use super::*;
use crate::verdict::waits::WaitedChannel;

/// A statement of a process that ran for 4 s and ended; so many of its goroutines lived then, with these ages in ms.
fn ended(exited: u64, waits: Vec<Wait>, ages_ms: impl IntoIterator<Item = u64>) -> Case {
    let ages_ms: Vec<u64> = ages_ms.into_iter().collect();
    let live = ages_ms.len() as u64;
    let born_s = |age: Option<&u64>| 4 - age.map_or(0, |age| age / 1_000);
    let (first, last) = (born_s(ages_ms.iter().max()), born_s(ages_ms.iter().min()));
    let case =
        Case::new(live + exited, exited, [0, live, live, live, live]).lifetimes(exited, S / 100).at_end();
    Case { ages_ms, waits, ..case.created_between(first, last) }
}

#[test]
fn what_was_made_all_through_the_run_and_never_ended_is_suspect() {
    let waits = || vec![stuck("chan receive", 1_182)];
    let ages = || (0..1_182).map(|at| at * 3);
    let verdict = ended(0, waits(), ages()).judge();
    assert_eq!((verdict.level, verdict.cause), (Level::Suspect, Some(Cause::ChanReceive)));
    assert!(
        said(&verdict).starts_with("none of the 1,182 had ended when the process did, 3 s after the first"),
        "{}",
        said(&verdict)
    );
    // Also where nobody could look.
    assert_eq!(ended(0, Vec::new(), ages()).judge().level, Level::Suspect);
    // And where others of the statement end soon.
    let verdict = ended(5_000, waits(), ages()).judge();
    assert_eq!(verdict.level, Level::Suspect);
}

#[test]
fn what_a_program_keeps_until_its_end_is_no_leak() {
    let receive = |count| vec![stuck("chan receive", count)];
    // A pool of workers, made at the start.
    let pool = ended(0, receive(200), (0..200).map(|at| 3_900 + at / 4)).judge();
    assert_eq!(pool.level, Level::Healthy, "{}", said(&pool));
    // One that filled in the first third of the run.
    let filled = ended(0, receive(20), (0..20).map(|at| 2_600 + at * 60)).judge();
    assert_eq!(filled.level, Level::Healthy, "{}", said(&filled));
    // Unless each waits on a channel of its own.
    let alone = |waiters| {
        let channels = vec![WaitedChannel { waiters, ..WaitedChannel::default() }];
        let waits = vec![Wait { channels, ..stuck("chan receive", 20) }];
        ended(0, waits, (0..20).map(|at| 2_600 + at * 60)).judge()
    };
    assert_eq!((alone(1).level, alone(20).level), (Level::Watch, Level::Healthy));
    // A few that were made now and then.
    let few = ended(0, receive(4), [3_900, 2_900, 1_900, 900]).judge();
    assert_eq!(few.level, Level::Healthy, "{}", said(&few));
    // Those that were at work.
    let busy = ended(900, vec![stuck("chan send", 40)], (0..40).map(|at| at / 3)).judge();
    assert_eq!(busy.level, Level::Healthy, "{}", said(&busy));
    // Connections that are kept open look like that, too.
    let read = vec![stuck("IO wait", 30)];
    let connections = ended(0, read, (0..30).map(|at| at * 130)).judge();
    assert_eq!(connections.level, Level::Watch, "{}", said(&connections));
}

#[test]
fn who_has_work_and_cannot_go_on_is_told_however_short_the_run() {
    let at_once = |reason, live| ended(0, vec![stuck(reason, live)], (0..live).map(|_| 5)).judge();
    let verdict = at_once("chan send", 100);
    assert_eq!((verdict.level, verdict.cause), (Level::Suspect, Some(Cause::ChanSend)));
    assert!(said(&verdict).contains("100 want to send"), "{}", said(&verdict));
    // As many may be a pool that reads ahead.
    assert_eq!(at_once("chan send", 8).level, Level::Watch);
    assert_eq!(at_once("chan send", 2).level, Level::Healthy);
    assert_eq!(at_once("chan receive", 100).level, Level::Healthy);
}

#[test]
fn a_longer_window_is_not_asked_for_when_the_process_has_ended() {
    for live in [1, 8, 300] {
        let verdict = ended(0, Vec::new(), (0..live).map(|_| 5)).judge();
        assert_eq!(verdict.needs_ns, None);
        let known = if live < 5 { Level::Healthy } else { Level::Unknown };
        assert_eq!(verdict.level, known, "{}", said(&verdict));
    }
}
