//! The probes. Each does as little as it can: the target pays for every instruction here.
//!
//! - What differs between Go versions stands in [`CONSTANTS`], which golife writes before it loads a program; no version is
//!   known in this file.
//! - A birth costs one read of user memory, a death none: its record names the goroutine by the address of its g.
//! - Records go into a ring of this CPU, without a lock, or into the kernel's ring buffer where that is not possible. The
//!   reader is not woken for each; it is woken as a ring fills up, and also has a timer.
//! - A record that does not fit is counted: loss is data. Each record says how many were lost before it.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(
    internal_features,
    reason = "this target has these atomic operations, but not the types that offer them"
)]
#![allow(missing_docs, reason = "the probe macros make public functions without any")]

mod registers;

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg},
    mem::MaybeUninit,
    ops::Range,
};

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, pt_regs,
    },
    btf_maps,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_user,
        generated::bpf_probe_read_user as read_user_raw,
    },
    macros::{btf_map, map, raw_tracepoint, tracepoint, uprobe},
    maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf},
    programs::{ProbeContext, RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::warn;
use registers::{ARGUMENTS, G_REGISTER, register};
use tracer_ebpf::{
    CUT, Constants, Counter, Facts, GROWN, Kind, LAP, NAME_BYTES, Process, RecordHead, RingHead, SPAN,
    STACK_CALLS, Stack, StackCode, Test, TestPoint, UNIT_WORDS, hash_call,
};

/// A unit in a ring of one CPU.
type Unit = [u64; UNIT_WORDS];

/// How far the rings of each CPU are written and may be written. golife makes this map and the next two anew, with the size that
/// suits the machine.
#[map]
static RING_HEADS: Array<RingHead> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The rings that CPUs begin with.
#[map]
static FIRST_RINGS: Array<Unit> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Larger rings for CPUs that needed them.
#[btf_map]
static GROWN_RINGS: btf_maps::ArrayOfMaps<btf_maps::Array<Unit, 1, { BPF_F_MMAPABLE as usize }>, 1> =
    btf_maps::ArrayOfMaps::new();

/// The number of units less one in a ring of each of the two kinds.
#[unsafe(no_mangle)]
static RING_MASKS: [u64; 2] = [0; 2];

/// Records of all CPUs, in the order of their reservation. User space sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Stacks of creators, each once. User space makes room where they are wanted.
#[map]
static STACKS: HashMap<u32, Stack> = HashMap::with_max_entries(1, 0);

/// Where a stack is put together.
#[map]
static SCRATCH: PerCpuArray<Stack> = PerCpuArray::with_max_entries(1, 0);

/// Nothing is ever in it: see [`keep_kernel_stack`].
#[map]
static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static CONSTANTS: Constants = Constants {
    register: 0,
    goid: 0,
    parent: 0,
    gopc: 0,
    startpc: 0,
    m: 0,
    curg: 0,
    bp: 0,
    pid: 0,
    point: 0,
    name: 0,
};

#[unsafe(no_mangle)]
static CREATION_STACKS: u32 = 0;

#[unsafe(no_mangle)]
static FORK_CHILD_OFFSET: u32 = 44;

#[unsafe(no_mangle)]
static EXIT_SAYS_GROUP_DEAD: u32 = 0;

#[unsafe(no_mangle)]
static WAKE_BYTES: u64 = 1 << 20;

/// Records that were lost on all CPUs: see [`RecordHead::losses`].
static mut LOSSES: u32 = 0;

/// So many unreadable goroutines on each CPU are told with their address; the rest is only counted.
const FAULTS_TOLD: u64 = 4;

/// One record in 128 asks how full the ring buffer is: asking at each would cost more than the record. These bits of the clock
/// choose; the lowest are 0 on some machines.
const ASKS: u64 = 127 << 4;

/// What golife wrote into a global before it loaded the program. The verifier knows the value and drops the code that others
/// would need; the compiler must not fold the initial one.
macro_rules! known {
    ($global:ident $(. $field:ident)? $([$index:expr])?) => {
        // SAFETY: a global that nobody writes to any more.
        unsafe { core::ptr::read_volatile(&raw const $global $(. $field)? $([$index])?) }
    };
}

/// A goroutine is created, somewhere inside `runtime.newproc1`, where a register holds the finished `*g`. The record goes into
/// this CPU's ring.
#[uprobe]
pub fn created(ctx: ProbeContext) -> u32 {
    if let Some([a, b, c, d, e, f]) = creation(&ctx)
        && !put([[a, b, c], [d, e, f]])
    {
        count(Counter::DroppedCreated);
    }
    0
}

/// A goroutine ends, at the call of `runtime.mcall` in `runtime.goexit1` or `runtime.coroexit`, where g is in its own register.
#[uprobe]
pub fn exited(ctx: ProbeContext) -> u32 {
    if !put([exit(&ctx)]) {
        count(Counter::DroppedExited);
    }
    0
}

/// The same as [`created`] with the kernel's ring buffer.
#[uprobe]
pub fn created_shared(ctx: ProbeContext) -> u32 {
    if let Some(record) = creation(&ctx)
        && !share(record)
    {
        count(Counter::DroppedCreated);
    }
    0
}

/// The same as [`exited`] with the kernel's ring buffer.
#[uprobe]
pub fn exited_shared(ctx: ProbeContext) -> u32 {
    if !share(exit(&ctx)) {
        count(Counter::DroppedExited);
    }
    0
}

/// The record of a creation: [`tracer_ebpf::Created`] as words.
#[inline(always)]
fn creation(ctx: &ProbeContext) -> Option<[u64; 6]> {
    keep_kernel_stack(ctx);
    let g = register(ctx.regs, known!(CONSTANTS.register));
    let goid = known!(CONSTANTS.goid);
    let mut span = MaybeUninit::<[u64; SPAN / 8]>::uninit();
    // SAFETY: the helper fills all of `span`, or fails and it is not looked at.
    let failed = unsafe { read_user_raw(span.as_mut_ptr().cast(), SPAN as u32, (g + goid) as *const _) };
    if failed != 0 {
        if count(Counter::ReadFault) <= FAULTS_TOLD {
            warn!(ctx, "cannot read the new goroutine at {:x}", g);
        }
        return None;
    }
    // SAFETY: filled above.
    let span = unsafe { span.assume_init_ref() };
    let word = |offset: u64| {
        let index = (offset.wrapping_sub(goid) / 8) as usize;
        // One word short of the end: the verifier takes an offset of 8 × index to be off by up to 7.
        if index < SPAN / 8 - 1 { span[index] } else { 0 }
    };
    let parent = match known!(CONSTANTS.parent) {
        0 => current_goid(ctx.regs),
        offset => word(offset),
    };
    let stack = match known!(CREATION_STACKS) {
        0 => StackCode::NONE,
        _ => creation_stack(ctx.regs),
    };
    let (gopc, startpc) = (word(known!(CONSTANTS.gopc)), word(known!(CONSTANTS.startpc)));
    let facts = Facts { g, goid: span[0], parent, gopc, startpc, stack };
    let [a, b, c, d] = facts.pack();
    let [time, what] = head(Kind::Created, known!(CONSTANTS.pid));
    Some([time, what, a, b, c, d])
}

/// The record of an exit: [`tracer_ebpf::Exited`] as words.
#[inline(always)]
fn exit(ctx: &ProbeContext) -> Unit {
    let g = register(ctx.regs, known!(CONSTANTS.register));
    let [time, what] = head(Kind::Exited, known!(CONSTANTS.pid));
    [time, what, g]
}

/// Keeps what a creation reads on the kernel's own stack. From Linux 6.13 on, a program with 64 bytes of stack or more has them
/// in memory of its own (`bpf_enable_private_stack` in
/// <https://github.com/torvalds/linux/blob/v6.13/kernel/bpf/verifier.c>), and to copy a goroutine there takes half as long again.
/// A program that could call another in its place has no such memory. This one never does: there is no such register.
#[inline(always)]
fn keep_kernel_stack(ctx: &ProbeContext) {
    if known!(CONSTANTS.register) == u64::MAX {
        // SAFETY: the context is the one this program was called with.
        let _ = unsafe { NOWHERE.tail_call(ctx, 0) };
    }
}

/// Writes a record into this CPU's ring, and says whether there was room. All that a record says has been read before this: so
/// its place in the order may be anywhere between its time and the end of this function.
#[inline(always)]
fn put<const UNITS: usize>(units: [Unit; UNITS]) -> bool {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(head) = RING_HEADS.get_ptr_mut(cpu) else { return false };
    // Another thread would have to take this CPU away, each time within the same few instructions.
    for _ in 0..3 {
        // SAFETY: a word that golife and programs on this CPU write to in one piece.
        let produced = unsafe { core::ptr::read_volatile(&raw const (*head).produced) };
        let at = produced & !GROWN;
        let end = at + UNITS as u64;
        let ring = (produced >> 63) as usize & 1;
        // SAFETY: a word that golife alone writes to, in one piece.
        let limit = unsafe { core::ptr::read_volatile(&raw const (*head).limit[ring]) };
        if end > limit {
            return false;
        }
        // SAFETY: this is how all programs take room here.
        let (_, taken) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                &raw mut (*head).produced,
                produced,
                produced + UNITS as u64,
            )
        };
        if taken {
            // Two calls, since the verifier must know at each which map is meant.
            return if ring == 0 {
                fill(FIRST_RINGS.get_ptr_mut(cpu), known!(RING_MASKS[0]), at, units)
            } else {
                fill(GROWN_RINGS.get_value_ptr_mut(cpu, &0), known!(RING_MASKS[1]), at, units)
            };
        }
    }
    false
}

/// Writes units from number `at` on. golife takes a record for written when it finds the first word written, which is
/// therefore the last one here, and written so that no CPU can see it before the others.
#[inline(always)]
fn fill<const UNITS: usize>(ring: Option<*mut Unit>, mask: u64, at: u64, units: [Unit; UNITS]) -> bool {
    let Some(ring) = ring else { return false };
    let place = |number: u64| {
        let lap = if number & (mask + 1) == 0 { LAP } else { 0 };
        // SAFETY: the ring has this many units and one more.
        (unsafe { ring.add((number & mask) as usize) }.cast::<u64>(), lap)
    };
    for (index, [first, second, third]) in units.into_iter().enumerate().skip(1) {
        let (unit, lap) = place(at + index as u64);
        // SAFETY: nobody else writes to a unit that was given to this program, or reads it yet.
        unsafe {
            core::ptr::write_volatile(unit, first | lap);
            core::ptr::write_volatile(unit.add(1), second);
            core::ptr::write_volatile(unit.add(2), third);
        }
    }
    let [first, second, third] = units[0];
    let (unit, lap) = place(at);
    // SAFETY: as above.
    unsafe {
        core::ptr::write_volatile(unit.add(1), second);
        core::ptr::write_volatile(unit.add(2), third);
        atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(unit, first | lap);
    }
    let quarter = mask >> 2;
    if (at ^ (at + UNITS as u64)) & !quarter != 0 {
        wake_reader();
    }
    true
}

/// Wakes the reader, which waits for the kernel's ring buffer, by a record there that is none.
#[inline(never)]
fn wake_reader() {
    if let Some(slot) = EVENTS.reserve::<u64>(0) {
        slot.discard(BPF_RB_FORCE_WAKEUP as u64);
    }
}

/// Writes a record into the kernel's ring buffer, and says whether there was room.
#[inline(always)]
fn share<const WORDS: usize>(record: [u64; WORDS]) -> bool {
    let Some(mut slot) = EVENTS.reserve::<[u64; WORDS]>(0) else { return false };
    slot.write(record);
    slot.submit(wake_flags(record[0]));
    true
}

/// A test binary is at the entry of a function of package `testing`, with the arguments in registers. This is hit a few times for
/// each test, so it may cost more than the others.
#[uprobe]
pub fn tested(ctx: ProbeContext) -> u32 {
    let goid = follow(register(ctx.regs, G_REGISTER) + known!(CONSTANTS.goid));
    let point = known!(CONSTANTS.point) as u32;
    let first = register(ctx.regs, ARGUMENTS[0]);
    let [name, length] = if point == TestPoint::Example as u32 {
        // It is passed by value, and begins with its name.
        [first, register(ctx.regs, ARGUMENTS[1])]
    } else if known!(CONSTANTS.name) != 0 {
        let at = first + known!(CONSTANTS.name);
        [follow(at), follow(at + 8)]
    } else {
        [0, 0]
    };
    let [time_ns, what] = head(Kind::Test, known!(CONSTANTS.pid));
    let Some(mut slot) = EVENTS.reserve::<Test>(0) else {
        count(Counter::DroppedProcess);
        return 0;
    };
    let record = slot.as_mut_ptr();
    let head = RecordHead { time_ns, kind_pid: what as u32, losses: (what >> 32) as u32 };
    let thread = bpf_get_current_pid_tgid() as u32;
    let bytes = if length < NAME_BYTES as u64 { length } else { NAME_BYTES as u64 } & NAME_BYTES as u64;
    // SAFETY: the record is this program's until it submits it, and has room for so many bytes; the helper checks the address.
    unsafe {
        let failed = read_user_raw((&raw mut (*record).name).cast(), bytes as u32, name as *const _);
        (&raw mut (*record).head).write(head);
        (&raw mut (*record).goid).write(goid);
        (&raw mut (*record).point).write(point);
        (&raw mut (*record).thread).write(thread);
        (&raw mut (*record).length).write(if failed == 0 { length } else { 0 });
    }
    slot.submit(wake_flags(time_ns));
    0
}

/// Nothing: what the trap alone costs. Benchmarks and the calibration of `overhead` measure against it.
#[uprobe]
pub fn floor(_ctx: ProbeContext) -> u32 {
    0
}

/// A process replaced its image: the goroutines it had are gone.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(_ctx: RawTracePointContext) -> i32 {
    process(Kind::Exec, bpf_get_current_pid_tgid() as u32)
}

/// A task was cloned.
#[tracepoint]
pub fn process_fork(ctx: TracePointContext) -> u32 {
    let offset = known!(FORK_CHILD_OFFSET) as usize;
    // SAFETY: the offset is from this kernel's own description of the record.
    match unsafe { ctx.read_at::<u32>(offset) } {
        Ok(child) => process(Kind::Fork, child) as u32,
        Err(_) => {
            count(Counter::ReadFault);
            0
        }
    }
}

/// A task ended. Reported when the whole process did; kernels whose tracepoint does not say so report the end of the
/// thread group's leader, with which Go programs end.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    // The second argument is a bool where the loader says that there is one.
    let ended = if known!(EXIT_SAYS_GROUP_DEAD) != 0 {
        ctx.arg::<u64>(1) as u8 != 0
    } else {
        pid_tgid as u32 == (pid_tgid >> 32) as u32
    };
    if ended { process(Kind::ProcessExit, pid_tgid as u32) } else { 0 }
}

fn process(kind: Kind, other: u32) -> i32 {
    let [time_ns, what] = head(kind, 0);
    let Some(mut slot) = EVENTS.reserve::<Process>(0) else {
        count(Counter::DroppedProcess);
        return 0;
    };
    let head = RecordHead { time_ns, kind_pid: what as u32, losses: (what >> 32) as u32 };
    slot.write(Process { head, other, thread: bpf_get_current_pid_tgid() as u32 });
    slot.submit(BPF_RB_FORCE_WAKEUP as u64);
    0
}

/// The head of a record as words. `pid` is the process, or 0 to have the kernel asked.
#[inline(always)]
fn head(kind: Kind, pid: u64) -> [u64; 2] {
    let pid = if pid != 0 { pid } else { bpf_get_current_pid_tgid() >> 32 };
    // SAFETY: a helper without arguments, and a word that is only ever added to in one piece.
    let (time_ns, losses) = unsafe { (bpf_ktime_get_ns(), core::ptr::read_volatile(&raw const LOSSES)) };
    let head = RecordHead::new(kind, pid as u32, time_ns, losses);
    [time_ns, head.kind_pid as u64 | (losses as u64) << 32]
}

#[inline(always)]
fn wake_flags(time_ns: u64) -> u64 {
    if time_ns & ASKS == 0 && EVENTS.query(BPF_RB_AVAIL_DATA as u64) > known!(WAKE_BYTES) {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    }
}

/// Counts a record that is lost, and returns how many that makes on this CPU.
#[inline(never)]
fn count(counter: Counter) -> u64 {
    // SAFETY: every access to this word is one instruction.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(&raw mut LOSSES, 1) };
    let Some(value) = COUNTERS.get_ptr_mut(counter as u32) else { return u64::MAX };
    // SAFETY: this CPU's own slot.
    unsafe {
        *value += 1;
        *value
    }
}

/// Keeps the stack of the goroutine that creates another, and says where. newproc1 runs on the system stack; before
/// `runtime.systemstack` went there, it saved the goroutine's frame pointer (`gosave_systemstack_switch` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/asm_amd64.s> and its like for arm64). Not the kernel's own walk:
/// it does not get over from one stack to the other everywhere.
#[inline(never)]
fn creation_stack(regs: *const pt_regs) -> StackCode {
    let creator = creator(regs);
    if creator == 0 {
        return StackCode::NONE;
    }
    let Some(stack) = SCRATCH.get_ptr_mut(0) else { return StackCode::LOST };
    // SAFETY: this CPU's own, and as good as: see `calls_of`.
    let stack = unsafe { &mut *stack };
    let bounds = bounds(creator);
    let mut frame = follow(creator + known!(CONSTANTS.bp));
    let mut hash = 0;
    let mut calls = 0;
    while calls < STACK_CALLS - 1 && bounds.contains(&frame) {
        // SAFETY: the helper checks the address.
        let Ok([callers_frame, pc]) = (unsafe { bpf_probe_read_user(frame as *const [u64; 2]) }) else {
            break;
        };
        stack[2 + calls] = pc;
        hash = hash_call(hash, pc);
        frame = callers_frame;
        calls += 1;
    }
    if calls == 0 {
        return StackCode::LOST;
    }
    // There is always room for it; an index would have the compiler call what panics.
    if frame != 0
        && let Some(last) = stack.get_mut(2 + calls)
    {
        *last = CUT;
        hash = hash_call(hash, CUT);
        calls += 1;
    }
    (stack[0], stack[1]) = (hash, calls as u64);
    for number in 0..StackCode::CHOICES {
        let code = StackCode::choice(hash, number);
        let key = code.0 as u32;
        match STACKS.get_ptr(key) {
            // SAFETY: entries are never removed, and the first word never changes.
            Some(kept) if unsafe { (*kept)[0] } == hash => return code,
            Some(_) => {}
            None if STACKS.insert(key, &*stack, BPF_NOEXIST as u64).is_ok() => return code,
            None => {}
        }
    }
    StackCode::LOST
}

/// Where frames of a goroutine can be. Go before 1.21 does not adjust the frame pointers on a stack that it copies on arm64
/// (`adjustframe` in <https://cs.opensource.google/go/go/+/refs/tags/go1.20.14:src/runtime/stack.go>): they lead to where the
/// stack was. A g begins with the bounds of its stack, which assembly relies on.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn bounds(g: u64) -> Range<u64> {
    follow(g)..follow(g + 8)
}

/// On other CPUs all frame pointers are right.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn bounds(_g: u64) -> Range<u64> {
    1..u64::MAX
}

/// Before Go 1.21 a new g does not name its parent.
#[inline(never)]
fn current_goid(regs: *const pt_regs) -> u64 {
    let creator = creator(regs);
    if creator == 0 { 0 } else { follow(creator + known!(CONSTANTS.goid)) }
}

/// The g of the goroutine that creates another: newproc1 runs on g0, whose m knows whom it serves. 0 where there is none.
#[inline(always)]
fn creator(regs: *const pt_regs) -> u64 {
    let of_m = known!(CONSTANTS.m);
    if of_m == 0 {
        return 0;
    }
    match follow(register(regs, G_REGISTER) + of_m) {
        0 => 0,
        m => follow(m + known!(CONSTANTS.curg)),
    }
}

/// The word at an address of user space; 0 where it cannot be read.
#[inline(always)]
fn follow(address: u64) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const u64) }.unwrap_or(0)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
