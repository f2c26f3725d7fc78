//! Lifetimes of many hosts are put together as if one had seen them all.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;

use common::{HOUR_MS, START_MS, ask, ask_json, write};
use golife::stats::native;
use golife::store::{Counts, Row};

fn row(host: u32, hour: i64, function: &str, lifetimes: &[u64]) -> Row {
    let mut buckets = BTreeMap::new();
    for ns in lifetimes {
        *buckets.entry(native::bucket(*ns)).or_default() += 1;
    }
    Row {
        sweep_time_ms: START_MS + hour * HOUR_MS,
        host: format!("h{host}"),
        service: "it's".into(),
        function: function.into(),
        ordinal: Some(1),
        // A deploy moves lines.
        line: Some(10 + hour as u32),
        created: lifetimes.len() as u64,
        exited: lifetimes.len() as u64,
        lifetime: buckets.into_iter().collect(),
        lifetime_count: lifetimes.len() as u64,
        lifetime_sum_s: lifetimes.iter().sum::<u64>() as f64 / 1e9,
        window_ns: 3_600_000_000_000,
        ..Row::default()
    }
}

#[test]
fn merged_quantiles_are_those_of_the_whole() {
    let store = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut all = Vec::new();
    for (host, hour) in (0..5).flat_map(|host| (0..3).map(move |hour| (host, hour))) {
        // Hosts differ: a mean of their quantiles would be another number.
        let lifetimes: Vec<u64> =
            (0..400).map(|_| (1e6 * 4f64.powi(host) * (random.f64() * 6.0).exp()) as u64).collect();
        all.extend(&lifetimes);
        write(
            store.path(),
            vec![row(host as u32, hour, "main.a", &lifetimes), row(host as u32, hour, "main.b", &[5])],
        );
    }
    all.sort_unstable();
    let found = ask_json("hist", store.path(), &["--by", "site", "--service", "it's"]);
    assert_eq!(found["schema"], "golife.fleet-hist/1");
    let (a, b) = (&found["groups"][0], &found["groups"][1]);
    assert_eq!((&a["function"], &a["hosts"], &a["ended"]), (&"main.a".into(), &5.into(), &6000.into()));
    assert_eq!((&b["function"], &b["ended"], &b["at_least"]), (&"main.b".into(), &15.into(), &false.into()));
    let mut whole = BTreeMap::new();
    all.iter().for_each(|ns| *whole.entry(native::bucket(*ns)).or_insert(0) += 1);
    let whole: Vec<(i32, u64)> = whole.into_iter().collect();
    for (q, name) in [(0.5, "p50_s"), (0.9, "p90_s"), (0.99, "p99_s"), (0.999, "p999_s")] {
        let (got, exact) = (a[name].as_f64().unwrap(), all[(q * 6000.0) as usize] as f64 / 1e9);
        let of_whole = native::quantile_s(&whole, q).unwrap();
        assert!((got / of_whole - 1.0).abs() < 1e-9, "{name}: {got} s, not {of_whole} s");
        assert!((got / exact).log2().abs() <= 1.0 / 8.0, "{name}: {got} s of {exact} s");
    }
    assert_eq!(ask_json("hist", store.path(), &["--service", "other"])["groups"], serde_json::json!([]));
}

#[test]
fn every_form_shows_what_is_known() {
    let store = tempfile::tempdir().unwrap();
    let counts = Counts::Incomplete;
    write(store.path(), vec![Row { counts, ..row(0, 0, "main.a", &[1_000_000_000]) }]);
    let text = ask("hist", store.path(), &[]);
    assert!(text.contains("it's") && text.contains('█') && text.contains("incomplete"), "{text}");
    for (format, has) in [("csv", "it's,1,1,1,1,"), ("markdown", "| it's |"), ("html", "<td>it&#39;s</td>")] {
        let text = ask("hist", store.path(), &["--format", format]);
        assert!(text.contains(has), "{text}");
    }
    assert_eq!(ask_json("hist", store.path(), &[])["groups"][0]["at_least"], true);
}
