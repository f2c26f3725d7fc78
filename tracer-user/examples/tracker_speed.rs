//! Measures how long the tracker takes for an event: `cargo run --release --example tracker_speed`.

use std::time::Instant;

use golife::event::{Event, StackCode, TestNames, What, decode, encode};
use golife::tracker::{Limits, Tracker};

/// The address of a goroutine's `runtime.g`. As in a Go program, 17 of them are in each 8 KiB.
fn g_of(goid: u64) -> u64 {
    0xc000_0000_0000 + 8192 * (goid / 17) + 480 * (goid % 17)
}

fn main() {
    for live in [0, 1_000, 100_000, 1_000_000] {
        let mut tracker = Tracker::new(Limits::default());
        let created = |g: u64, goid: u64| Event {
            time_ns: 1_000 * goid,
            pid: 7,
            losses: 0,
            what: What::Created {
                g,
                goid,
                parent: 1,
                gopc: 0x1000 + goid % 7,
                startpc: 0x2000,
                stack: StackCode::NONE,
            },
        };
        (1..=live + 1).for_each(|goid| tracker.apply(&created(g_of(goid), goid)));
        let pairs = 5_000_000;
        let first = live + 2;
        // Each goroutine lives as long as it takes to create a hundred others, then its g is used again. The records
        // are words, as the ring hands them out.
        let g = |at: u64| g_of(first + at % 101);
        let records: Vec<u64> =
            (0..1_000).flat_map(|at| encode(&created(g(at), first + at), &TestNames::default())).collect();
        let mut names = TestNames::default();
        let begin = Instant::now();
        let mut seen = 0u64;
        for at in 0..pairs {
            let record = &records[(at as usize % 1_000) * 6..][..6];
            let Ok(mut event) = decode(record, &mut names) else { continue };
            if let What::Created { g: of, goid, .. } = &mut event.what {
                (*of, *goid) = (g(at), first + at);
            }
            event.time_ns = at * 500;
            tracker.apply(&event);
            if at >= 100 {
                tracker.apply(&Event { what: What::Exited { g: g(at - 100) }, ..event });
                seen += 1;
            }
            seen += 1;
        }
        let ns = begin.elapsed().as_nanos() as f64 / seen as f64;
        println!("{ns:6.1} ns an event beside {live} that live on ({} live at the end)", tracker.live());
        let begin = Instant::now();
        let sites: usize = tracker.instances().map(|instance| instance.living(u64::MAX).len()).sum();
        println!(
            "{:6.1} ms for the ages of the living at {sites} sites",
            begin.elapsed().as_secs_f64() * 1e3
        );
    }
}
