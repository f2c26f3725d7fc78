//! Tests on real programs who is found to hold a lock, and who is not.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::go::testing::{FOREIGN, PLAIN, Program, STRIPPED_PIE, toolchains};
use crate::inspect::{Depth, scan};

const SOURCE: &str = include_str!("../../go/testdata/holders.go");

/// For each function of the program, the kind of lock that a goroutine in it holds, and whether that is certain.
fn holders(program: &Program) -> (BTreeMap<String, Vec<(Lock, bool)>>, Snapshot) {
    let binary = program.binary();
    let running = program.start();
    let bias = running.load_bias(program, binary.image());
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(60), "the program is not ready");
        std::thread::sleep(Duration::from_millis(100));
        let memory = ProcessMemory::new(running.pid());
        let snapshot = scan(&memory, &binary, bias, WalkLimits::default(), Depth::Objects).unwrap();
        let functions = |index: usize| -> Vec<String> {
            let stack = snapshot.goroutines[index].stack.into_iter();
            let frames = stack.flat_map(|stack| snapshot.stacks.frames(stack));
            frames.map(|frame| frame.function.clone()).collect()
        };
        let main = snapshot.index_of(1).unwrap();
        if !functions(main).iter().any(|function| function == "syscall.Read") {
            continue;
        }
        let mut found: BTreeMap<String, Vec<(Lock, bool)>> = BTreeMap::new();
        for index in 0..snapshot.goroutines.len() {
            let of_main = functions(index).into_iter().find(|name| name.starts_with("main."));
            let Some(function) = of_main.filter(|name| name != "main.main") else { continue };
            let held = snapshot.holdings.iter().filter(|of| of.goroutine == index as u32);
            found.entry(function).or_default().extend(held.map(|of| (of.lock, of.certain)));
        }
        return (found, snapshot);
    }
}

fn check(environment: &[(&str, &str)]) {
    for toolchain in toolchains() {
        for flags in [PLAIN, STRIPPED_PIE] {
            if flags == STRIPPED_PIE && !environment.is_empty() {
                continue;
            }
            let program = Program::build_source(toolchain, SOURCE, flags, environment);
            let (found, snapshot) = holders(&program);
            for (function, expected) in [
                ("main.(*backend).deferred", vec![(Lock::Mutex, true)]),
                ("main.(*backend).closure", vec![(Lock::Mutex, false)]),
                ("main.(*backend).plain", vec![(Lock::Mutex, false)]),
                ("main.(*backend).reads", vec![(Lock::RwMutex, false)]),
                ("main.(*backend).inLoop", vec![(Lock::RwMutex, true)]),
                ("main.(*backend).sleeps", vec![(Lock::RwMutex, true)]),
                ("main.member", vec![(Lock::WaitGroup, true)]),
                ("main.(*backend).before", vec![]),
                ("main.(*backend).again", vec![]),
                ("main.(*backend).once", vec![]),
                ("main.(*backend).bystander", vec![]),
                ("main.(*backend).want", vec![]),
            ] {
                let mut held =
                    found.get(function).cloned().unwrap_or_else(|| panic!("{function}: {found:?}"));
                held.dedup();
                assert_eq!(held, expected, "{function} of {toolchain} {flags:?}");
            }
            let waited: Vec<u64> = snapshot.locks.keys().copied().collect();
            assert_eq!(waited.len(), 11, "{toolchain}");
        }
    }
}

#[test]
fn who_holds_a_lock_and_who_only_knows_it() {
    check(&[]);
}

#[test]
fn holders_on_another_cpu() {
    check(FOREIGN);
}
