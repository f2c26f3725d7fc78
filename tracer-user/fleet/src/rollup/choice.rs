//! Which roll-ups a query may read. A roll-up stands for certain files of hosts. What else its hour has, such as a file that came
//! late, is read beside it, so that each sweep counts once.

use std::collections::{BTreeMap, HashSet};

use crate::listing::SweepObject;

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// One for each hour that has any that fits.
    pub rollups: Vec<SweepObject>,
    /// The files of sweeps that none of them stands for.
    pub rest: Vec<SweepObject>,
    /// Roll-ups in the place of which there is one of more files, each with that.
    pub replaced: Vec<(SweepObject, SweepObject)>,
}

/// Chooses among roll-ups for these files of sweeps. Of compacted files in hours that have roll-ups, the footers say what they
/// stand for. A roll-up that has a part of a compacted file is of no use: the other part cannot be read alone.
pub fn choose(files: &[SweepObject], compacted: &[SweepObject], rollups: &[SweepObject]) -> Choice {
    let mut by_hour: BTreeMap<i64, Vec<&SweepObject>> = BTreeMap::new();
    for rollup in rollups {
        by_hour.entry(rollup.hour).or_default().push(rollup);
    }
    let mut choice = Choice::default();
    let mut covered: HashSet<&str> = HashSet::new();
    for (hour, mut of_hour) in by_hour {
        of_hour.sort_by_key(|rollup| (std::cmp::Reverse(rollup.sources().count()), rollup.path().to_owned()));
        let compacted: Vec<&SweepObject> = compacted.iter().filter(|file| file.hour == hour).collect();
        let mut chosen: Option<(&SweepObject, HashSet<&str>)> = None;
        for rollup in of_hour {
            let sources: HashSet<&str> = rollup.sources().collect();
            match &chosen {
                Some((by, all)) if sources.is_subset(all) => {
                    choice.replaced.push((rollup.clone(), (*by).clone()));
                }
                Some(_) => {}
                None if compacted.iter().all(|file| share(file, &sources) != Share::Part) => {
                    chosen = Some((rollup, sources));
                }
                None => {}
            }
        }
        let Some((rollup, sources)) = chosen else { continue };
        choice.rollups.push(rollup.clone());
        covered.extend(
            compacted.iter().filter(|file| share(file, &sources) == Share::All).map(|file| file.path()),
        );
        let raw = files.iter().filter(|file| file.hour == hour && file.is_raw());
        covered.extend(raw.map(SweepObject::path).filter(|path| sources.contains(path)));
    }
    let rest = files.iter().filter(|file| !covered.contains(file.path()));
    choice.rest = rest.cloned().collect();
    choice
}

/// How much of what a compacted file stands for is in a roll-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    None,
    Part,
    All,
}

fn share(compacted: &SweepObject, of: &HashSet<&str>) -> Share {
    let (mut within, mut without) = (false, false);
    for source in compacted.sources() {
        if of.contains(source) {
            within = true;
        } else {
            without = true;
        }
    }
    match (within, without) {
        (true, false) => Share::All,
        (true, true) => Share::Part,
        (false, _) => Share::None,
    }
}
