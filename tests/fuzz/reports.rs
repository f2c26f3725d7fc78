//! Saved reports, as somebody may have written or damaged them.

use golife::assemble::merged;
use golife::output::hist::{self, Hist};
use golife::output::{json, saved};

use super::driver::{Target, corpus, fuzz};
use super::events::show;
use super::record::{MS, Recording, S};

fn seed() -> Vec<u8> {
    let mut run = Recording::new(4242);
    for n in 0..60 {
        run.create(n * 100 * MS, n + 2, 1, 0x1000 + n % 2);
        if n % 2 == 0 {
            run.exit(n * 100 * MS + 7 * MS, n + 2);
        }
    }
    let mut text = Vec::new();
    json::write_line(&run.report(10 * S), &mut text).unwrap();
    text
}

#[test]
fn reports() {
    let run = |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(report) = saved::read(text) else { return };
        show(&report);
        let reports = [report.clone(), report];
        if let Ok(sites) = merged::merge(&reports) {
            let hist = Hist { width: 80, top: 10, scale: Some(2.0) };
            hist::write(&sites, &hist, &mut std::io::sink()).unwrap();
        }
    };
    let seeds = corpus("reports").into_iter().chain([seed()]).collect();
    fuzz(&Target { name: "reports", seeds, hot: Vec::new(), run: &run });
}
