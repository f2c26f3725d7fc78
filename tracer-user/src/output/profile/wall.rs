//! Makes the profile of samples over a time: how much of it goroutines spent where, be it running or waiting.

use super::dump::Names;
use super::{Kind, ProcessName, Profile, SAMPLES, Sample};
use crate::human::{count, duration};
use crate::look::wall::{self, Wall};

const KINDS: [Kind; 2] = [
    Kind { name: SAMPLES, unit: "count", about: "how often goroutines were seen, by stack" },
    Kind {
        name: "wall",
        unit: "nanoseconds",
        about: "time that goroutines spent there, running or waiting, by stack",
    },
];

impl Profile {
    /// Makes the profile of the goroutines that were asked for.
    pub fn of_wall(wall: &Wall) -> Profile {
        let names = Names { binary: &wall.subject.binary, stacks: &wall.stacks };
        let each_ns = wall.each_ns();
        let sample = |(kind, labels, count): (wall::Kind, &[_], u64)| Sample {
            process: 0,
            stack: names.stack(kind.stack, kind.startpc),
            values: vec![count, count.saturating_mul(each_ns)],
            reason: Some(kind.state.to_owned()),
            labels: names.labels(kind.gopc, kind.stack_is_old, labels),
            ..Sample::default()
        };
        let took = duration(wall.duration.as_nanos().try_into().unwrap_or(u64::MAX));
        Profile {
            kinds: KINDS.into(),
            processes: vec![ProcessName::of(&wall.subject.describe())],
            samples: wall.kinds().into_iter().map(sample).collect(),
            start: Some(wall.start),
            duration: wall.duration,
            tool: concat!("golife ", env!("CARGO_PKG_VERSION")).into(),
            gaps: vec![format!(
                "{} samples in {took}, which took {:.1} % of one CPU",
                count(wall.samples),
                wall.share()
            )],
            period: Some(each_ns),
            shown: 1,
        }
    }
}
