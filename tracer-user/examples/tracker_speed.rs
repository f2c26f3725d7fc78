//! How long the tracker takes for an event: `cargo run --release --example tracker_speed`.

use std::time::Instant;

use golife::decode::{Event, StackCode, What, decode, encode};
use golife::tracker::{Limits, Tracker};

fn main() {
    for live in [0, 1_000, 100_000, 1_000_000] {
        let mut tracker = Tracker::new(Limits::default());
        let created = |goid: u64| Event {
            time_ns: 1_000 * goid,
            pid: 7,
            what: What::Created {
                goid,
                parent: 1,
                gopc: 0x1000 + goid % 7,
                startpc: 0x2000,
                stack: StackCode::NONE,
            },
        };
        (1..=live + 1).for_each(|goid| tracker.apply(&created(goid)));
        let pairs = 5_000_000;
        let first = live + 2;
        // Each lives as long as it takes to create a hundred others, as bytes, the way they come.
        let records: Vec<u8> = (first..first + 1_000).flat_map(|goid| encode(&created(goid))).collect();
        let begin = Instant::now();
        let mut seen = 0u64;
        for at in 0..pairs {
            let record = &records[(at as usize % 1_000) * 48..][..48];
            let Ok(mut event) = decode(record) else { continue };
            if let What::Created { goid, .. } = &mut event.what {
                *goid = first + at;
            }
            event.time_ns = at * 500;
            tracker.apply(&event);
            if at >= 100 {
                tracker.apply(&Event { what: What::Exited { goid: first + at - 100 }, ..event });
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
