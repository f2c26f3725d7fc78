//! What no host is sure of, all hosts show together.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{HOUR_MS, START_MS, ask_json, write};
use golife::report::Level;
use golife::store::{Counts, Row};

/// What a host sees of a site in an hour: so many live, the oldest since the process began.
fn row(host: usize, hour: i64, function: &str, live: u64) -> Row {
    let time = START_MS + hour * HOUR_MS + 60_000 * (host as i64 % 7);
    let started = START_MS - HOUR_MS / 10;
    Row {
        sweep_time_ms: time,
        host: format!("h{host}"),
        service: "api".into(),
        version: Some("v1".into()),
        module: Some("example.com/api".into()),
        function: function.into(),
        ordinal: Some(1),
        entry: format!("{function}.func1"),
        created: 400,
        exited: 399,
        live,
        oldest_ns: Some((time - started) as u64 * 1_000_000),
        level: Level::Watch,
        cause: Some("chan-receive".into()),
        waits: vec![("chan receive".into(), live)],
        lifetime: vec![(-16, 399)],
        lifetime_count: 399,
        lifetime_sum_s: 399.0 * 0.25,
        counts: Counts::Exact,
        pid: 7,
        processes: 1,
        started_ms: Some(started),
        window_ns: 3_600_000_000_000,
        ..Row::default()
    }
}

#[test]
fn one_an_hour_on_each_of_many_hosts_is_a_leak_and_a_pool_is_none() {
    let folder = tempfile::tempdir().unwrap();
    for host in 0..60 {
        for hour in 0..7 {
            let pool = [4, 8, 8, 8, 7, 8, 8][hour as usize] + host as u64 % 3;
            let rows = vec![
                row(host, hour, "main.leak", 2 + hour as u64),
                row(host, hour, "main.pool", pool),
                row(host, hour, "main.heartbeat", 1),
            ];
            write(folder.path(), rows);
        }
    }
    let of_then = ["--read-only", "--since", "2026-11-02", "--until", "2026-11-02T07:00:00Z"];
    let answer = ask_json("leaks", folder.path(), &of_then);
    let findings = answer["findings"].as_array().unwrap();
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(
        (&finding["site"]["function"], &finding["hosts"]),
        (&"main.leak".into(), &60.into()),
        "{finding}"
    );
    let growth = finding["growth_per_h"].as_f64().unwrap();
    assert!((growth - 1.0).abs() < 0.1, "{finding}");
}
