//! Describes the file descriptors that goroutines wait for, as a report has them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::host::clock;
use crate::inspect::{Polled, Snapshot};
use crate::report::Io;
use crate::targets::Subject;

/// What those of these goroutines wait for that are in `IO wait`, by their ids. Others, and those whose descriptor is not
/// known, are left out.
pub(super) fn of(
    subject: &Subject,
    snapshot: &Snapshot,
    goids: impl Iterator<Item = u64>,
) -> HashMap<u64, Io> {
    let polled = |goid: u64| Some((goid, snapshot.polled(snapshot.index_of(goid)?)?));
    let (goids, polled): (Vec<u64>, Vec<Polled>) = goids.filter_map(polled).unzip();
    if polled.is_empty() {
        return HashMap::new();
    }
    // What cannot be read any more waits for nothing that could be named.
    let descriptors = subject.descriptors(&polled).unwrap_or_default();
    let (now, now_ns) = (SystemTime::now(), clock::monotonic_ns());
    let io = |((goid, polled), descriptor)| {
        let descriptor: crate::host::sockets::Descriptor = Option::unwrap_or_default(descriptor);
        let Polled { fd, deadline_ns, .. } = polled;
        let io = Io {
            fd: Some(fd),
            kind: Some(descriptor.kind).filter(|kind| !kind.is_empty()),
            local: descriptor.local,
            remote: descriptor.remote,
            deadline: (deadline_ns > 0).then(|| calendar(deadline_ns, now, now_ns)),
        };
        (goid, io)
    };
    goids.into_iter().zip(polled).zip(descriptors).map(io).collect()
}

/// The calendar time of a time of the runtime's clock, as RFC 3339 in UTC. One that no calendar has becomes the last second
/// of the year 9999.
fn calendar(ns: u64, now: SystemTime, now_ns: u64) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let last = SystemTime::UNIX_EPOCH + LAST;
    let time = match ns.checked_sub(now_ns) {
        Some(ahead) => now.checked_add(Duration::from_nanos(ahead)).unwrap_or(last),
        None => now.checked_sub(Duration::from_nanos(now_ns - ns)).unwrap_or(SystemTime::UNIX_EPOCH),
    };
    humantime::format_rfc3339_millis(time.min(last)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_time_of_the_calendar() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(calendar(12_000_000_000, now, 10_000_000_000), "1970-01-01T00:01:42.000Z");
        assert_eq!(calendar(1, now, 10_000_000_001), "1970-01-01T00:01:30.000Z");
        assert!(calendar(u64::MAX, now, 0).starts_with("2554-"));
    }
}
