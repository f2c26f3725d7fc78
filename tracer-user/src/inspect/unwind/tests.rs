//! Tests the stacks of goroutines that were interrupted and wait for their turn, which Go's own traceback never shows
//! as they are. The stacks of blocked goroutines are compared with that traceback in the tests of whole scans.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::go::Status;
use crate::go::testing::{FOREIGN, NEWEST, OLDEST, PLAIN, Program};
use crate::inspect::{Depth, ProcessMemory, WalkLimits, scan};

const SPINNING: &str = include_str!("../../go/testdata/spinning.go");

/// Scans until goroutines were seen to be interrupted in each of the wanted functions, and checks that each of their
/// stacks is whole. With `signal in ` before the function's name, a signal must have interrupted them.
fn interrupted(program: &Program, environment: &[(&str, &str)], wanted: &[&str]) {
    let binary = program.binary();
    let running = program.start_with(environment);
    let start = Instant::now();
    let mut missing = wanted.to_vec();
    while !missing.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "never seen: {missing:?}");
        let memory = ProcessMemory::new(running.pid());
        let snapshot = scan(&memory, &binary, 0, WalkLimits::default(), Depth::Stacks).unwrap();
        for goroutine in &snapshot.goroutines {
            let entry = binary.function_at(snapshot.site(goroutine).startpc).unwrap().name;
            let is_ours = ["main.asking", "main.signalled"].contains(&entry.as_str());
            if !is_ours || goroutine.status != Status::Runnable || goroutine.stack_is_old {
                continue;
            }
            let frames: Vec<&str> = snapshot
                .stacks
                .frames(goroutine.stack.unwrap())
                .map(|frame| frame.function.as_str())
                .collect();
            // The stack must reach its outermost function, and may hold only functions that call each other.
            assert_eq!(frames.last(), Some(&entry.as_str()), "{frames:?}");
            let program: Vec<&str> =
                frames.iter().copied().filter(|frame| frame.starts_with("main.")).collect();
            let outer = if entry == "main.signalled" { "main.leaf" } else { "main.deeper" };
            assert!(program.iter().rev().skip(1).all(|frame| *frame == outer), "{frames:?}");
            let runtimes = frames.len() - program.len();
            assert!(frames[..runtimes].iter().all(|frame| frame.starts_with("runtime.")), "{frames:?}");
            let by_signal = frames.contains(&"runtime.asyncPreempt");
            let innermost = program[0];
            missing.retain(|wanted| match wanted.strip_prefix("signal in ") {
                Some(function) => !(by_signal && innermost == function),
                None => by_signal || innermost != *wanted || program.len() < 2,
            });
        }
    }
}

#[test]
fn interrupted_goroutines_have_whole_stacks() {
    for toolchain in [OLDEST, NEWEST] {
        for cpu in [&[][..], FOREIGN] {
            let program = Program::build_source(toolchain, SPINNING, PLAIN, cpu);
            interrupted(&program, &[], &["signal in main.leaf"]);
            interrupted(&program, &[("GODEBUG", "asyncpreemptoff=1")], &["main.deeper"]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_stack_is_unwound_without_a_panic(
        pc: u64,
        lr: u64,
        bias: u64,
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0..3u8), 0..200),
    ) {
        static BINARIES: LazyLock<[Binary; 2]> =
            LazyLock::new(|| [&[], FOREIGN].map(|cpu| Program::build_for(NEWEST, PLAIN, cpu).binary()));
        for binary in BINARIES.iter() {
            let text = binary.text_range();
            let address = |index: prop::sample::Index, any: u64, kind: u8| match kind {
                0 => any,
                _ => (text.start + index.index((text.end - text.start) as usize) as u64).wrapping_add(bias),
            };
            let stack: Vec<u8> = words
                .iter()
                .flat_map(|&(index, any, kind)| address(index, any, kind).to_le_bytes())
                .collect();
            let mut unwinder = Unwinder::new(binary, bias);
            for pc in [pc, text.start.wrapping_add(pc % 0x1000).wrapping_add(bias)] {
                let mut pcs = Vec::new();
                unwinder.unwind(pc, lr, &stack, &mut pcs);
                prop_assert!(pcs.len() <= MOST_CALLS);
            }
        }
    }
}
