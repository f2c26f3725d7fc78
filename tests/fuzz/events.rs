//! Records from the ring, and sequences of events that no kernel would send.

use golife::event::{Decoder, Event, StackCode, TestName, TestNames, TestPoint, What, encode};
use golife::output::sources::Sources;
use golife::output::text::{self, Text};
use golife::output::{json, junit, pprof, profile::Profile, sarif, vet};
use golife::report::{Report, Sort};
use golife::tracker::{Existing, Limits, Lost, Tracker};

use super::driver::{Target, corpus, fuzz};
use super::record::Recording;

/// Writes a report in every form that needs no terminal.
pub fn show(report: &Report) {
    let sink = &mut std::io::sink();
    text::write(report, &Text { width: 80, table: true, sort: Sort::Verdict }, sink).unwrap();
    json::write_line(report, sink).unwrap();
    pprof::write(&Profile::of_reports(std::slice::from_ref(report)), sink).unwrap();
    let sources = Sources::find(report, None, None);
    for write in [sarif::write, vet::write, junit::write] {
        write(report, &sources, sink).unwrap();
    }
}

#[test]
fn records() {
    let (g, goid, parent, gopc, startpc, stack) = (480, 7, 1, 4096, 8192, StackCode::NONE);
    let what = [
        What::Created { g, goid, parent, gopc, startpc, stack },
        What::Exited { g },
        What::Exec,
        What::Fork { child: 9, thread: 1 },
        What::ProcessExit,
        What::Test { point: TestPoint::Test, goid, thread: 3, name: TestName::UNKNOWN },
    ];
    // Each record comes after a byte with its length; the longest are longer than a byte can say.
    const LONG: usize = 37 * 8;
    let with_length = |event: Event| {
        let record: Vec<u8> =
            encode(&event, &TestNames::default()).into_iter().flat_map(u64::to_le_bytes).collect();
        [&[record.len().min(255) as u8], &record[..]].concat()
    };
    let all = what.map(|what| with_length(Event { time_ns: 5, pid: 7, losses: 0, what })).concat();
    let run = |input: &[u8]| {
        let (mut decoder, mut tracker, mut rest) =
            (Decoder::default(), Tracker::new(Limits::default()), input);
        while let [length, after @ ..] = rest {
            let (record, next) = {
                let length = if *length == u8::MAX { LONG } else { usize::from(*length) };
                after.split_at(after.len().min(length))
            };
            let record: Vec<u64> =
                record.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
            if let Some(event) = decoder.decode(&record) {
                let is_whole = encode(&event, decoder.test_names()).len() <= record.len();
                assert!(is_whole || matches!(event.what, What::Test { .. }));
                tracker.apply(&event);
            }
            rest = next;
        }
        tracker.tick(u64::MAX);
    };
    let seeds = corpus("records").into_iter().chain([all.repeat(3)]).collect();
    fuzz(&Target { name: "records", seeds, hot: Vec::new(), run: &run });
}

/// What happens at a time, as seven numbers of eight bytes each: what, when, and five of which each step takes some.
fn step(run: &mut Recording, words: [u64; 7]) {
    let [what, at, a, b, c, d, e] = words;
    let at = at % 100_000_000_000;
    run.of((e % 3) as u32);
    let list = || {
        let one = |goid: u64| Existing {
            g: c.wrapping_add(goid.wrapping_mul(480)),
            goid,
            parent: d,
            gopc: e,
            startpc: b,
        };
        (a..a.saturating_add(b % 20)).map(one).collect()
    };
    // The kernel's counters are no one else's, and rise by what was lost since.
    let [exited, process, read_faults, undecodable] = [b, c, d, e].map(|n| n % (1 << 40));
    let lost = Lost { created: a % 9, exited, process, read_faults, undecodable };
    match what % 10 {
        0..3 => run.create(at, a, b, c),
        3 => run.exit(at, a),
        4 => run.late_exit(at, b % (1 << 62), a),
        5 => run.exec(at),
        6 => run.process_exit(at),
        7 => run.adopt(at, at.saturating_add(d % 1_000), list()),
        8 => run.reconcile(at, at.saturating_add(d % 1_000), list()),
        _ => run.lost(at, lost),
    }
}

#[test]
fn events() {
    let run = |input: &[u8]| {
        let mut run = Recording::new(1).limits(Limits { max_goroutines: 50, ..Limits::default() });
        let words: Vec<u64> = input.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        words.as_chunks::<7>().0.iter().take(300).for_each(|words| step(&mut run, *words));
        show(&run.report(words.first().copied().unwrap_or(0) % 200_000_000_000));
    };
    let ordinary = |n: u64| [n % 10, n * 1_000_000_000, n % 30, 1, 4096 + n % 3, 8192, n % 2];
    let seed: Vec<u8> = (0..90).flat_map(ordinary).flat_map(u64::to_le_bytes).collect();
    let seeds = corpus("events").into_iter().chain([seed]).collect();
    fuzz(&Target { name: "events", seeds, hot: Vec::new(), run: &run });
}
