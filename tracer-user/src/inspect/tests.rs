//! Tests whole scans: of processes whose goroutines Go prints as well, and of a process that lies about its goroutines.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::go::releases::release_of;
use crate::go::testing::{FOREIGN, NEWEST, OLDEST, PLAIN, Program, STRIPPED, STRIPPED_PIE, TracedFrame};
use crate::go::{Binary, CodeFrame, Status};

/// The oldest release, one in the middle, the last one before `runtime.sudog` changed, and the newest.
fn toolchains() -> [&'static str; 4] {
    [OLDEST, release_of(22), release_of(25), NEWEST]
}

/// Scans until the program's main function blocks in a read, which it does when all is ready.
fn scan_of(binary: &Binary, pid: i32, bias: u64) -> Snapshot {
    loop {
        let memory = ProcessMemory::new(pid);
        let snapshot = scan(&memory, binary, bias, WalkLimits::default(), Depth::Objects).unwrap();
        let main = snapshot.goroutine(1).unwrap().stack;
        if main
            .is_some_and(|stack| snapshot.stacks.frames(stack).any(|frame| frame.function == "syscall.Read"))
        {
            return snapshot;
        }
    }
}

fn as_traced(frame: &CodeFrame, offset: u64) -> TracedFrame {
    let (function, file) = (frame.function.clone(), frame.file.clone());
    TracedFrame { function, file, line: frame.line, offset: (!frame.inlined).then_some(offset) }
}

#[test]
fn stacks_are_what_go_prints() {
    compare_stacks([PLAIN, STRIPPED_PIE], &[]);
}

/// Another CPU's frames are laid out in another way. A PIE is not tested, since it would need the other CPU's dynamic
/// loader.
#[test]
fn stacks_of_another_cpu_are_what_go_prints() {
    compare_stacks([PLAIN, STRIPPED], FOREIGN);
}

fn compare_stacks(ways: [&[&str]; 2], environment: &[(&str, &str)]) {
    let mut kinds = [0; 2];
    for toolchain in toolchains() {
        for flags in ways {
            let program = Program::build_for(toolchain, flags, environment);
            let binary = program.binary();
            let running = program.start();
            let bias = running.load_bias(&program, binary.image());
            let snapshot = scan_of(&binary, running.pid(), bias);
            let traced = running.traceback();
            let mut compared = 0;
            for expected in &traced {
                let Some(goroutine) = snapshot.goroutine(expected.goid) else { continue };
                // The signal that asks for the traceback wakes goroutines that receive signals, and some goroutine runs
                // when it comes. These are not compared.
                if snapshot.site(goroutine).is_system
                    || !(goroutine.waits() || goroutine.status == Status::Syscall)
                {
                    continue;
                }
                let label = format!("{toolchain} {flags:?} {expected:?} {goroutine:?}");
                let stack = goroutine.stack.expect(&label);
                let outermost = |frame: &&TracedFrame| frame.function == "runtime.goexit";
                // For some goroutines Go shows all frames, depending on where the signal finds it.
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
                    assert_eq!(goroutine.reason(), Some(expected.reason.as_str()), "{label}");
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
    let programs =
        toolchains().into_iter().flat_map(|toolchain| [(toolchain, &[][..]), (toolchain, FOREIGN)]);
    for (toolchain, cpu) in programs {
        let program = Program::build_for(toolchain, PLAIN, cpu);
        let binary = program.binary();
        let running = program.start();
        let snapshot = scan_of(&binary, running.pid(), 0);
        let mut by_function: HashMap<&str, Vec<&Goroutine>> = HashMap::new();
        for goroutine in snapshot.goroutines.iter().filter(|goroutine| !snapshot.site(goroutine).is_system) {
            let at = goroutine.stack.and_then(|stack| snapshot.stacks.waits_at(stack, &binary));
            by_function.entry(at.map_or("", |at| at.function.as_str())).or_default().push(goroutine);
        }
        let channel = |goroutine: &Goroutine| match snapshot.objects(goroutine) {
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
        // `main.mutex` is a global variable. Its semaphore is its second half, after 32 bits of state.
        let data = [&binary.module_data().noptrbss, &binary.module_data().bss];
        assert!(
            address % 8 == 4 && data.iter().any(|data| data.contains(address)),
            "{toolchain}: {address:#x}"
        );
        assert_eq!(binary.type_name(never.element).as_deref(), Some("int"), "{toolchain}");
        // Goroutines in a `select` are not searched for pointers, and `main.inner` has pointers to nothing but its own
        // channel.
        let inner = snapshot.index_of(by_function["main.inner"][0].goid).unwrap();
        assert!(snapshot.mentions(inner).all(|address| address != full.address), "{toolchain}");
        let main = snapshot.goroutine(1).unwrap();
        assert_eq!((main.status, main.locked_to_thread), (Status::Syscall, false));
    }
}

/// A process that can claim anything about its goroutines. It is this test's own process, which plays the program.
struct Liar {
    binary: Binary,
    /// The addresses of what it claims to be goroutines.
    list: Vec<u64>,
    /// How many goroutines it claims to have.
    length: u64,
    /// The memory that plays the runtime's two variables: the address of the list, and its length.
    variables: Box<[u64; 2]>,
}

impl Liar {
    fn new(program: &Program) -> Liar {
        let mut binary = program.binary();
        binary.set_globals(0, 8);
        Liar { binary, list: Vec::new(), length: 0, variables: Box::new([0; 2]) }
    }

    /// The load bias that moves the runtime's two variables onto `variables`.
    fn bias(&self) -> u64 {
        self.variables.as_ptr() as u64
    }

    fn scan(&mut self) -> Result<Snapshot, WalkError> {
        *self.variables = [self.list.as_ptr() as u64, self.length];
        let limits = WalkLimits { listed: 100_000, time: Duration::from_secs(5) };
        let memory = ProcessMemory::new(std::process::id() as i32);
        scan(&memory, &self.binary, self.bias(), limits, Depth::Objects)
    }

    /// The bytes of a `runtime.g` that waits, with the fields that a scan follows.
    fn goroutine(&self, goid: u64, stack: &[u64], pc: u64, waiting: u64) -> Vec<u8> {
        let layout = self.binary.layout();
        let mut g = vec![0; usize::from(layout.g_size)];
        let mut put = |offset: u16, word: u64| {
            g[usize::from(offset)..usize::from(offset) + 8].copy_from_slice(&word.to_le_bytes());
        };
        let sp = stack.as_ptr() as u64;
        put(layout.stack_lo, sp);
        put(layout.stack_hi, sp + 8 * stack.len() as u64);
        put(layout.sched_sp, sp);
        put(layout.sched_pc, pc);
        put(layout.goid, goid);
        put(layout.waiting, waiting);
        put(layout.atomicstatus, 4);
        g
    }
}

#[test]
fn a_list_of_anything_is_walked_within_bounds() {
    let program = Program::build(NEWEST, STRIPPED_PIE);
    let mut liar = Liar::new(&program);
    let start = Instant::now();
    liar.list = (0..100_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    for length in [100_000, 1 << 63, u64::MAX] {
        liar.length = length;
        let snapshot = liar.scan().unwrap();
        assert!(snapshot.goroutines.is_empty() && snapshot.unreadable > 99_000);
        assert_eq!((snapshot.listed, snapshot.cut_short.is_some()), (length, length > 100_000));
        let refused = snapshot.checked().map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("is a living one"), "{refused}");
    }
    // The list itself is at an address where nothing is mapped.
    let nowhere = [8, 1u64 << 40];
    let (memory, limits) = (ProcessMemory::new(std::process::id() as i32), WalkLimits::default());
    let refused = scan(&memory, &liar.binary, nowhere.as_ptr() as u64, limits, Depth::Objects).unwrap_err();
    assert!(refused.to_string().contains("nothing is mapped"), "{refused}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_list_that_lists_itself_ends() {
    let program = Program::build(NEWEST, STRIPPED_PIE);
    let mut liar = Liar::new(&program);
    // First the list has the same goroutine a million times; then each entry points to the list itself.
    let stack = vec![0u64; 64];
    let g = liar.goroutine(1, &stack, 0, 0);
    liar.list = vec![g.as_ptr() as u64; 1 << 20];
    liar.length = 1 << 20;
    let start = Instant::now();
    let snapshot = liar.scan().unwrap();
    assert!((1..32).contains(&snapshot.goroutines.len()), "{}", snapshot.goroutines.len());
    assert_eq!(snapshot.goroutine(1).map(|goroutine| goroutine.address), Some(g.as_ptr() as u64));
    assert!(snapshot.checked().is_ok());
    let own = liar.list.as_ptr() as u64;
    liar.list.fill(own);
    assert!(liar.scan().unwrap().goroutines.len() < 32);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn labels_of_anything_are_read_within_bounds() {
    // In the oldest release labels are a map, in the newest a slice.
    for toolchain in [OLDEST, NEWEST] {
        let program = Program::build(toolchain, STRIPPED_PIE);
        let mut liar = Liar::new(&program);
        let at = usize::from(liar.binary.layout().labels);
        // Read as a slice, this is longer than anything, and so are its strings. Read as a map, it has sixteen buckets,
        // each of which goes on in the first one.
        let mut labels = vec![0u64; 1024];
        let own = labels.as_ptr() as u64;
        labels.fill(own);
        labels[1] = 1 << 63 | 4 << 8;
        let stack = vec![0u64; 64];
        let mut gs = Vec::new();
        for (goid, pointer) in [own, own, 8, u64::MAX - 4, own + 4096].into_iter().enumerate() {
            let mut g = liar.goroutine(goid as u64 + 1, &stack, 0, 0);
            g[at..at + 8].copy_from_slice(&pointer.to_le_bytes());
            gs.push(g);
        }
        liar.list = gs.iter().map(|g| g.as_ptr() as u64).collect();
        liar.length = gs.len() as u64;
        let snapshot = liar.scan().unwrap();
        let of = |goid| snapshot.labels(snapshot.goroutine(goid).unwrap());
        assert!((1..=64).contains(&of(1).len()), "{toolchain}: {}", of(1).len());
        assert_eq!((of(1), of(3).len(), of(4).len()), (of(2), 0, 0));
        assert!(snapshot.goroutines.iter().all(|goroutine| snapshot.labels(goroutine).len() <= 64));
        let longest = of(1).iter().map(|label| label.key.len().max(label.value.len())).max();
        // Each byte may have become a replacement character of three bytes.
        assert!(longest <= Some(3 * 1024), "{toolchain}: {longest:?}");
    }
}

#[test]
fn cycles_and_endless_stacks_end() {
    let program = Program::build(NEWEST, STRIPPED_PIE);
    let mut liar = Liar::new(&program);
    let layout = *liar.binary.layout();
    // Each word of this stack is a return address into the same call, and the stack is longer than what is looked at.
    let recursive = liar.binary.functions_named("main.main")[0].entry + 40 + liar.bias();
    let stack = vec![recursive; 1 << 20];
    // Each `sudog` is its own next. The channel of the first one is at an address where nothing is mapped; that of the
    // second one is the `sudog` itself.
    let mut sudogs: Vec<Vec<u64>> = vec![vec![0; 32]; 2];
    let gs: Vec<Vec<u8>> =
        (0..2).map(|n| liar.goroutine(n as u64 + 1, &stack, recursive, sudogs[n].as_ptr() as u64)).collect();
    for (n, sudog) in sudogs.iter_mut().enumerate() {
        let own = sudog.as_ptr() as u64;
        sudog[0] = gs[n].as_ptr() as u64;
        sudog[usize::from(layout.sudog_waitlink) / 8] = own;
        sudog[usize::from(layout.sudog_c) / 8 + 1] = if n == 0 { 16 } else { own };
    }
    liar.list = gs.iter().map(|g| g.as_ptr() as u64).collect();
    liar.length = 2;
    let snapshot = liar.scan().unwrap();
    assert_eq!(snapshot.goroutines.len(), 2);
    for goroutine in &snapshot.goroutines {
        assert_eq!(snapshot.stacks.pcs(goroutine.stack.unwrap()).len(), 512);
    }
    // Their addresses may have either order, so they are taken in the order of their ids.
    let goroutines: Vec<_> = snapshot.by_goid().collect();
    let [nowhere, itself] = goroutines[..] else { panic!("{snapshot:?}") };
    assert_eq!(snapshot.objects(nowhere), []);
    assert!((1..=256).contains(&snapshot.objects(itself).len()));
}

#[test]
fn a_process_that_ends_while_it_is_read_is_said_to_have_ended() {
    let program = Program::build(NEWEST, PLAIN);
    let binary = program.binary();
    let running = program.start();
    let memory = ProcessMemory::new(running.pid());
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        drop(running);
    });
    let start = Instant::now();
    let error = loop {
        assert!(start.elapsed() < Duration::from_secs(20));
        match scan(&memory, &binary, 0, WalkLimits::default(), Depth::Objects) {
            Ok(snapshot) => assert!(snapshot.goroutines.len() < 60),
            Err(error) => break error,
        }
    };
    killer.join().unwrap();
    let message = error.to_string();
    assert!(message.contains("has ended") || message.contains("nothing is mapped"), "{message}");
}

#[test]
fn a_process_that_executes_something_else_is_refused() {
    let program = Program::build(NEWEST, PLAIN);
    let binary = program.binary();
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let memory = ProcessMemory::new(other.id() as i32);
    let refused = scan(&memory, &binary, 0, WalkLimits::default(), Depth::Objects);
    other.kill().unwrap();
    other.wait().unwrap();
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("nothing is mapped") || message.contains("has ended"), "{message}");
}

#[test]
fn any_goroutine_and_any_stack_are_read_without_a_panic() {
    let program = Program::build(NEWEST, STRIPPED_PIE);
    let liar = std::cell::RefCell::new(Liar::new(&program));
    let (text, bias) = (liar.borrow().binary.text_range(), liar.borrow().bias());
    let text = text.start + bias..text.end + bias;
    // The words are random, small, or addresses of code.
    let word = prop_oneof![any::<u64>(), 0u64..4096, text.clone()];
    let random_g = proptest::collection::vec(any::<u8>(), 512);
    let stack = proptest::collection::vec(word, 1..200);
    let mut runner = proptest::test_runner::TestRunner::default();
    let test =
        runner.run(&(random_g, stack, text, any::<bool>(), 0u32..12), |(bytes, stack, pc, wild, status)| {
            let mut liar = liar.borrow_mut();
            let mut g = if wild { bytes } else { liar.goroutine(7, &stack, pc, stack.as_ptr() as u64) };
            let at = usize::from(liar.binary.layout().atomicstatus);
            g[at..at + 4].copy_from_slice(&status.to_le_bytes());
            liar.list = vec![g.as_ptr() as u64, stack.as_ptr() as u64];
            liar.length = 2;
            let snapshot = liar.scan().unwrap();
            prop_assert!(snapshot.goroutines.len() <= 2);
            for goroutine in &snapshot.goroutines {
                let frames = goroutine.stack.map_or(0, |stack| snapshot.stacks.frames(stack).count());
                prop_assert!(frames < 512 * 256);
                let _ = snapshot.objects(goroutine);
            }
            Ok(())
        });
    test.unwrap();
}

#[test]
fn stacks_have_a_limit() {
    let mut stacks = Stacks::default();
    let interned = (0..1_000_000u64).filter(|n| stacks.intern(&[*n, 1, 2]).is_some()).count();
    assert!((100_000..1_000_000).contains(&interned), "{interned}");
    assert_eq!(stacks.intern(&[5, 1, 2]), stacks.id_of(&[5, 1, 2]));
    assert_eq!(stacks.len(), interned);
}
