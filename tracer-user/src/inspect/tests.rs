//! Whole scans against what Go says of the same process.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use super::*;
use crate::go::testing::{PLAIN, Program, STRIPPED_PIE, TracedFrame};
use crate::go::{Binary, Frame, Status};

/// The oldest, one in the middle, one before and one after the change of `sudog`, the newest.
const TOOLCHAINS: [&str; 4] = ["go1.18.10", "go1.22.12", "go1.25.5", "go1.27.3"];

/// Scans until main has said that all is ready and blocks in a read.
fn scan_of(binary: &Binary, pid: i32, bias: u64) -> Snapshot {
    loop {
        let memory = ProcessMemory::new(pid);
        let snapshot = scan(&memory, binary, bias, Limits::default(), Depth::Objects).unwrap();
        let main = snapshot.goroutine(1).unwrap().stack;
        if main
            .is_some_and(|stack| snapshot.stacks.frames(stack).any(|frame| frame.function == "syscall.Read"))
        {
            return snapshot;
        }
    }
}

fn as_traced(frame: &Frame, offset: u64) -> TracedFrame {
    let (function, file) = (frame.function.clone(), frame.file.clone());
    TracedFrame { function, file, line: frame.line, offset: (!frame.inlined).then_some(offset) }
}

#[test]
fn stacks_are_what_go_prints() {
    let mut kinds = [0; 2];
    for toolchain in TOOLCHAINS {
        for flags in [PLAIN, STRIPPED_PIE] {
            let program = Program::build(toolchain, flags);
            let binary = program.binary();
            let running = program.start();
            let bias = running.load_bias(&program, binary.image());
            let snapshot = scan_of(&binary, running.pid(), bias);
            let traced = running.traceback();
            let mut compared = 0;
            for expected in &traced {
                let Some(goroutine) = snapshot.goroutine(expected.goid) else { continue };
                // The signal wakes what receives signals, and finds something running.
                if goroutine.is_system || !(goroutine.waits() || goroutine.status == Status::Syscall) {
                    continue;
                }
                let label = format!("{toolchain} {flags:?} {expected:?} {goroutine:?}");
                let stack = goroutine.stack.expect(&label);
                let outermost = |frame: &&TracedFrame| frame.function == "runtime.goexit";
                // Of some goroutines Go shows all frames, depending on where the signal finds it.
                let all = expected.frames.last().is_some_and(|frame| outermost(&frame));
                let frames: Vec<TracedFrame> = if all {
                    let calls = snapshot.stacks.calls(stack);
                    calls
                        .flat_map(|call| call.frames.iter().map(move |frame| as_traced(frame, call.offset)))
                        .collect()
                } else {
                    let shown = snapshot.stacks.shown(stack).into_iter();
                    shown.map(|(frame, offset)| as_traced(frame, offset.unwrap_or(0))).collect()
                };
                let traced: Vec<_> =
                    expected.frames.iter().filter(|frame| !outermost(frame)).cloned().collect();
                assert_eq!(frames, traced, "{label}");
                kinds[usize::from(all)] += 1;
                if goroutine.waits() {
                    assert_eq!(goroutine.reason, Some(expected.reason.as_str()), "{label}");
                }
                assert!(!goroutine.stack_is_old);
                compared += 1;
            }
            assert!(compared > 45, "{toolchain} {flags:?}: {compared} of {}", traced.len());
            assert_eq!((snapshot.torn, snapshot.cut_short), (0, None));
        }
    }
    assert!(kinds[0] > 90 && kinds[1] > 90, "{kinds:?}");
}

#[test]
fn who_waits_on_what() {
    for toolchain in TOOLCHAINS {
        let program = Program::build(toolchain, PLAIN);
        let binary = program.binary();
        let running = program.start();
        let snapshot = scan_of(&binary, running.pid(), 0);
        let mut by_function: HashMap<&str, Vec<&Blocked>> = HashMap::new();
        for goroutine in snapshot.goroutines.iter().filter(|goroutine| !goroutine.is_system) {
            let at = goroutine.stack.and_then(|stack| snapshot.stacks.waits_at(stack, &binary));
            by_function.entry(at.map_or("", |at| at.function.as_str())).or_default().push(goroutine);
        }
        let channel = |goroutine: &Blocked| match snapshot.objects(goroutine) {
            [WaitObject::Channel(channel)] => *channel,
            other => panic!("{toolchain}: {other:?}"),
        };
        let never = channel(by_function["main.(*server).run"][0]);
        let full = channel(by_function["main.inner"][0]);
        let generic = by_function.iter().find(|(function, _)| function.starts_with("main.generic"));
        let mut elements: Vec<_> = generic
            .unwrap()
            .1
            .iter()
            .map(|goroutine| binary.type_name(channel(goroutine).element).unwrap())
            .collect();
        elements.sort_unstable();
        assert!(elements.iter().all(|name| name == "int" || name == "string"), "{toolchain}: {elements:?}");
        assert_eq!(
            (never.direction, never.length, never.capacity, never.closed),
            (Some(Direction::Receive), 0, 0, false)
        );
        assert_eq!(full.direction, Some(Direction::Send));
        let receivers = &by_function["main.spawn.func1"];
        assert_eq!(receivers.len(), 20, "{toolchain}");
        assert!(receivers.iter().all(|goroutine| channel(goroutine) == never));
        let selecting = &by_function["main.spawn.func2"];
        assert_eq!(selecting.len(), 20, "{toolchain}");
        for goroutine in selecting {
            let mut addresses: Vec<u64> =
                snapshot.objects(goroutine).iter().map(WaitObject::address).collect();
            addresses.sort_unstable();
            let mut expected = [never.address, full.address];
            expected.sort_unstable();
            assert_eq!(addresses, expected, "{toolchain}");
        }
        let locking = by_function["main.waitForMutex"][0];
        let [WaitObject::Semaphore { address }] = snapshot.objects(locking) else {
            panic!("{toolchain}: {:?}", snapshot.objects(locking));
        };
        // `main.mutex` is a global variable; its semaphore is its second half, behind 32 bits of state.
        let data = [&binary.module_data().noptrbss, &binary.module_data().bss];
        assert!(
            address % 8 == 4 && data.iter().any(|data| data.contains(address)),
            "{toolchain}: {address:#x}"
        );
        assert_eq!(binary.type_name(never.element).as_deref(), Some("int"), "{toolchain}");
        // Those in a `select` are not looked at; main.inner knows nothing but its own channel.
        let inner = snapshot.index_of(by_function["main.inner"][0].goid).unwrap();
        assert!(snapshot.mentions(inner).all(|address| address != full.address), "{toolchain}");
        let main = snapshot.goroutine(1).unwrap();
        assert_eq!((main.status, main.locked_to_thread), (Status::Syscall, false));
    }
}
