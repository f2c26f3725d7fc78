//! Measures what the tracker keeps by an allocator that counts: bytes for each living goroutine, and bytes for each
//! site.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use golife::event::{Event, StackCode, What};
use golife::stats::durations::{Durations, HIGHEST_NS};
use golife::tracker::{Limits, Tracker};

/// Counts what the thread holds, so that tests can run beside each other.
struct Scales;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn weigh(bytes: isize) {
    HELD.with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: it hands everything to the system's allocator, and its counters are plain numbers of the thread.
unsafe impl GlobalAlloc for Scales {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        weigh(layout.size() as isize);
        // SAFETY: the caller has promised what the system's allocator demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        weigh(-(layout.size() as isize));
        // SAFETY: the caller has promised what the system's allocator demands.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static SCALES: Scales = Scales;

/// The bytes that this thread holds now, and the most since the last call.
fn held() -> (isize, isize) {
    HELD.with(|held| {
        let (now, most) = held.get();
        held.set((now, now));
        (now, most)
    })
}

/// The address of a goroutine's `runtime.g`. As in a Go program, 17 of them are in each 8 KiB.
fn g_of(goid: u64) -> u64 {
    0xc000_0000_0000 + 8192 * (goid / 17) + 480 * (goid % 17)
}

fn create(tracker: &mut Tracker, goid: u64) {
    let what = What::Created {
        g: g_of(goid),
        goid,
        parent: 1,
        gopc: 0x1000 + goid % 50,
        startpc: 0x2000,
        stack: StackCode::NONE,
    };
    tracker.apply(&Event { time_ns: goid, pid: 7, losses: 0, what });
}

#[test]
fn a_million_goroutines_take_at_most_64_bytes_each() {
    let mut tracker = Tracker::new(Limits::default());
    create(&mut tracker, 1);
    let (empty, _) = held();
    let mut worst = 0.0f64;
    for goid in 2..=1_000_000u64 {
        create(&mut tracker, goid);
        if goid >= 100_000 {
            worst = worst.max((held().1 - empty) as f64 / goid as f64);
        }
    }
    let each = (held().0 - empty) as f64 / 1e6;
    println!("{each:.1} bytes a goroutine at a million, {worst:.1} at the worst moment of growth");
    assert!(each <= 64.0 && worst <= 128.0, "{each} bytes a goroutine, {worst} while growing");

    let before = held().0;
    tracker.instances().for_each(|instance| drop(instance.living(2_000_000)));
    let report = (held().1 - before) as f64 / 1e6;
    println!("{report:.1} bytes a goroutine more for a moment while a report is made");
    assert!(each + report <= 64.0, "{report} bytes a goroutine more for a report");

    for goid in 1..1_000_000u64 {
        tracker.apply(&Event { time_ns: 2_000_000, pid: 7, losses: 0, what: What::Exited { g: g_of(goid) } });
    }
    let left = held().0 - empty;
    assert!(left < 1_000_000, "{left} bytes left for one goroutine");
}

#[test]
fn the_ancestry_of_a_process_takes_at_most_12_megabytes() {
    let mut tracker = Tracker::new(Limits::default());
    let mut apply = |goid: u64, parent: u64, gopc: u64, ends: bool| {
        let (g, startpc, stack) = (480 * goid, 7, StackCode::NONE);
        let what = What::Created { g, goid, parent, gopc, startpc, stack };
        tracker.apply(&Event { time_ns: goid, pid: 7, losses: 0, what });
        if ends {
            tracker.apply(&Event { time_ns: goid, pid: 7, losses: 0, what: What::Exited { g } });
        }
    };
    // The 300 sites are known before the measurement, so that only the pairs of a creator's site and a site are new.
    (1..=300).for_each(|site| apply(site, 0, site, true));
    let (before, _) = held();
    let mut goid = 1_000;
    for first in 1..=300 {
        goid += 1;
        apply(goid, 0, first, false);
        let parent = goid;
        for second in 1..=300 {
            goid += 1;
            apply(goid, parent, second, true);
        }
    }
    let (after, most) = held();
    println!(
        "{:.1} MB for the ancestry, {:.1} MB at most",
        (after - before) as f64 / 1e6,
        (most - before) as f64 / 1e6
    );
    assert!(most - before <= 12_000_000, "{} bytes", most - before);
    let cut: u64 = tracker.instances().map(|instance| instance.lineages().cut()).sum();
    assert!(cut > 20_000, "{cut} of 90,000 pairs are too many");
}

#[test]
fn ten_thousand_sites_with_all_lifetimes_take_at_most_128_megabytes() {
    let (before, _) = held();
    let mut sites = vec![Durations::default(); 10_000];
    for (at, site) in sites.iter_mut().enumerate() {
        // Each site has lifetimes from 30 days down to 64 ns. Every hundredth site has more in one bin than its counter
        // can hold.
        let mut ns = HIGHEST_NS;
        while ns >= 64 {
            site.record(ns);
            ns /= 2;
        }
        if at % 100 == 0 {
            (0..70_000).for_each(|_| site.record(1_000_000));
        }
    }
    let (after, most) = held();
    println!(
        "{:.1} MB for 10,000 sites, {:.1} MB at most",
        (after - before) as f64 / 1e6,
        (most - before) as f64 / 1e6
    );
    assert!(most - before <= 128_000_000, "{} bytes", most - before);
    assert!(sites.iter().step_by(100).all(|site| site.count() > 70_000));
}
