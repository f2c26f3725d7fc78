//! The probes. Each does as little as it can: the target pays for every instruction here.
//!
//! - What differs between Go versions arrives in the attach cookie; no version is known in this file.
//! - A birth costs one read of user memory, a death none: its record names the goroutine by the address of its g.
//! - Records are submitted without waking the reader, unless the ring fills up; the reader also has a timer.
//! - A record that does not fit is counted: loss is data. Each record says how many were lost before it.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "this target has the atomic addition, but no `AtomicU32::fetch_add`")]
#![allow(missing_docs, reason = "the probe macros make public functions without any")]

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    mem::MaybeUninit,
    ops::Range,
};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, pt_regs},
    helpers::{
        bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_probe_read_user,
        generated::bpf_probe_read_user as read_user_raw,
    },
    macros::{map, raw_tracepoint, tracepoint, uprobe},
    maps::{Array, HashMap, PerCpuArray, RingBuf},
    programs::{ProbeContext, RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::warn;
use tracer_ebpf::{
    CUT, Cookie, Counter, Created, Exited, Facts, Head, Kind, Process, SLOTS, SPAN, STACK_CALLS, Stack,
    StackCode, hash_call,
};

/// All records of all CPUs, in the order of their reservation. User space sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// What the attach cookie says, by slot, on kernels without attach cookies.
#[map]
static COOKIES: Array<u64> = Array::with_max_entries(SLOTS as u32, 0);

/// Stacks of creators, each once. User space makes room where they are wanted.
#[map]
static STACKS: HashMap<u32, Stack> = HashMap::with_max_entries(1, 0);

/// Where a stack is put together.
#[map]
static SCRATCH: PerCpuArray<Stack> = PerCpuArray::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static CREATION_STACKS: u32 = 0;

#[unsafe(no_mangle)]
static FORK_CHILD_OFFSET: u32 = 44;

#[unsafe(no_mangle)]
static EXIT_SAYS_GROUP_DEAD: u32 = 0;

#[unsafe(no_mangle)]
static WAKE_BYTES: u64 = 1 << 20;

/// Records that were lost on all CPUs: see [`Head::losses`].
static mut LOSSES: u32 = 0;

/// So many unreadable goroutines on each CPU are told with their address; the rest is only counted.
const FAULTS_TOLD: u64 = 4;

/// One record in 128 asks how full the ring is: asking at each would cost more than the record. These bits of the clock
/// choose; the lowest are 0 on some machines.
const ASKS: u64 = 127 << 4;

/// A goroutine is created, somewhere inside `runtime.newproc1`, where the cookie's register holds the finished `*g`; or
/// it ends, at the call of `runtime.mcall` in `runtime.goexit1` or `runtime.coroexit`, where g is in its own register.
/// One program for both, so that all probes of a binary are one link, put in place and taken off at once.
#[uprobe]
pub fn goroutine(ctx: ProbeContext) -> u32 {
    // SAFETY: the context is the one this program was called with.
    let bits = unsafe { bpf_get_attach_cookie(ctx.regs.cast()) };
    born_or_ended(&ctx, bits);
    0
}

/// For kernels without attach cookies: one program for each cookie that is in use.
macro_rules! by_slot {
    ($($name:ident = $slot:literal),*) => {
        $(
            #[uprobe]
            pub fn $name(ctx: ProbeContext) -> u32 {
                slot(ctx.regs, $slot);
                0
            }
        )*
    };
}

by_slot!(
    goroutine_0 = 0,
    goroutine_1 = 1,
    goroutine_2 = 2,
    goroutine_3 = 3,
    goroutine_4 = 4,
    goroutine_5 = 5,
    goroutine_6 = 6,
    goroutine_7 = 7,
    goroutine_8 = 8,
    goroutine_9 = 9,
    goroutine_10 = 10,
    goroutine_11 = 11,
    goroutine_12 = 12,
    goroutine_13 = 13,
    goroutine_14 = 14,
    goroutine_15 = 15
);

/// All of them share this, so that the object stays small.
#[inline(never)]
fn slot(regs: *mut pt_regs, slot: u32) -> u32 {
    if let Some(bits) = COOKIES.get(slot) {
        born_or_ended(&ProbeContext::new(regs.cast()), *bits);
    }
    0
}

#[inline(always)]
fn born_or_ended(ctx: &ProbeContext, bits: u64) {
    let cookie = Cookie::unpack(bits);
    let g = register(ctx.regs, cookie.register);
    if cookie.ends {
        exited(g);
    } else {
        created(ctx, bits, g);
    }
}

#[inline(always)]
fn created(ctx: &ProbeContext, bits: u64, g: u64) {
    let cookie = Cookie::unpack(bits);
    let mut span = MaybeUninit::<[u64; SPAN / 8]>::uninit();
    // SAFETY: the helper fills all of `span`, or fails and it is not looked at.
    let failed =
        unsafe { read_user_raw(span.as_mut_ptr().cast(), SPAN as u32, (g + cookie.goid as u64) as *const _) };
    if failed != 0 {
        if count(Counter::ReadFault) <= FAULTS_TOLD {
            warn!(ctx, "cannot read the new goroutine at {:x}", g);
        }
        return;
    }
    // SAFETY: filled above.
    let span = unsafe { span.assume_init_ref() };
    let word = |offset: u16| {
        let index = (offset.wrapping_sub(cookie.goid) / 8) as usize;
        // One word short of the end: the verifier takes an offset of 8 × index to be off by up to 7.
        if index < SPAN / 8 - 1 { span[index] } else { 0 }
    };
    let parent = if cookie.parent != 0 { word(cookie.parent) } else { current_goid(ctx.regs, bits) };
    // SAFETY: as for FORK_CHILD_OFFSET. The verifier knows the value and drops what is not wanted.
    let stack = match unsafe { core::ptr::read_volatile(&CREATION_STACKS) } {
        0 => StackCode::NONE,
        _ => creation_stack(ctx.regs, bits),
    };
    let Some(mut slot) = EVENTS.reserve::<Created>(0) else {
        count(Counter::DroppedCreated);
        return;
    };
    let head = head(Kind::Created);
    let (gopc, startpc) = (word(cookie.gopc), word(cookie.startpc));
    let facts = Facts { g, goid: span[0], parent, gopc, startpc, stack };
    slot.write(Created { head, facts: facts.pack() });
    slot.submit(wake_flags(&head));
}

#[inline(always)]
fn exited(g: u64) {
    let Some(mut slot) = EVENTS.reserve::<Exited>(0) else {
        count(Counter::DroppedExited);
        return;
    };
    let head = head(Kind::Exited);
    slot.write(Exited { head, g });
    slot.submit(wake_flags(&head));
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
    // SAFETY: a global that the loader may have replaced; the compiler must not fold its initial value.
    let offset = unsafe { core::ptr::read_volatile(&FORK_CHILD_OFFSET) } as usize;
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
    // SAFETY: as for FORK_CHILD_OFFSET; the second argument is a bool where the loader says that there is one.
    let ended = if unsafe { core::ptr::read_volatile(&EXIT_SAYS_GROUP_DEAD) } != 0 {
        ctx.arg::<u64>(1) as u8 != 0
    } else {
        pid_tgid as u32 == (pid_tgid >> 32) as u32
    };
    if ended { process(Kind::ProcessExit, pid_tgid as u32) } else { 0 }
}

fn process(kind: Kind, other: u32) -> i32 {
    let Some(mut slot) = EVENTS.reserve::<Process>(0) else {
        count(Counter::DroppedProcess);
        return 0;
    };
    slot.write(Process { head: head(kind), other, pad: 0 });
    slot.submit(BPF_RB_FORCE_WAKEUP as u64);
    0
}

#[inline(always)]
fn head(kind: Kind) -> Head {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a helper without arguments, and a word that is only ever added to in one piece.
    let (time_ns, losses) = unsafe { (bpf_ktime_get_boot_ns(), core::ptr::read_volatile(&raw const LOSSES)) };
    Head::new(kind, pid, time_ns, losses)
}

#[inline(always)]
fn wake_flags(head: &Head) -> u64 {
    // SAFETY: as for FORK_CHILD_OFFSET.
    if head.time_ns & ASKS == 0
        && EVENTS.query(BPF_RB_AVAIL_DATA as u64) > unsafe { core::ptr::read_volatile(&WAKE_BYTES) }
    {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    }
}

/// Counts a record that is lost, and returns how many that makes on this CPU.
#[cold]
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
#[cold]
#[inline(never)]
fn creation_stack(regs: *const pt_regs, bits: u64) -> StackCode {
    let creator = creator(regs, bits);
    if creator == 0 {
        return StackCode::NONE;
    }
    let Some(stack) = SCRATCH.get_ptr_mut(0) else { return StackCode::LOST };
    // SAFETY: this CPU's own, and as good as: see `calls_of`.
    let stack = unsafe { &mut *stack };
    let bounds = bounds(creator);
    let mut frame = follow(creator + Cookie::unpack(bits).bp as u64);
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
#[cold]
#[inline(never)]
fn current_goid(regs: *const pt_regs, bits: u64) -> u64 {
    let creator = creator(regs, bits);
    if creator == 0 { 0 } else { follow(creator + Cookie::unpack(bits).goid as u64) }
}

/// The g of the goroutine that creates another: newproc1 runs on g0, whose m knows whom it serves. 0 where there is none.
#[inline(always)]
fn creator(regs: *const pt_regs, bits: u64) -> u64 {
    let cookie = Cookie::unpack(bits);
    if cookie.m == 0 {
        return 0;
    }
    match follow(register(regs, G_REGISTER) + cookie.m as u64) {
        0 => 0,
        m => follow(m + cookie.curg as u64),
    }
}

/// The word at an address of user space; 0 where it cannot be read.
#[inline(always)]
fn follow(address: u64) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const u64) }.unwrap_or(0)
}

/// Where Go keeps the current g (ABIInternal): R14 on x86-64, R28 on arm64.
#[cfg(bpf_target_arch = "x86_64")]
const G_REGISTER: u8 = 14;
#[cfg(bpf_target_arch = "aarch64")]
const G_REGISTER: u8 = 28;

/// A general register by its number in the instruction set. `read_volatile` keeps each access a plain load at a
/// constant offset: the verifier refuses a computed one in the context.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn register(regs: *const pt_regs, number: u8) -> u64 {
    macro_rules! load {
        ($field:ident) => {
            // SAFETY: the context of a uprobe is the interrupted registers.
            unsafe { core::ptr::read_volatile(&raw const (*regs).$field) }
        };
    }
    match number {
        0 => load!(rax),
        1 => load!(rcx),
        2 => load!(rdx),
        3 => load!(rbx),
        5 => load!(rbp),
        6 => load!(rsi),
        7 => load!(rdi),
        8 => load!(r8),
        9 => load!(r9),
        10 => load!(r10),
        11 => load!(r11),
        12 => load!(r12),
        13 => load!(r13),
        14 => load!(r14),
        15 => load!(r15),
        _ => 0,
    }
}

/// The same: `regs[number]` would be a computed offset.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn register(regs: *const pt_regs, number: u8) -> u64 {
    macro_rules! load {
        ($($index:literal)*) => {
            match number {
                // SAFETY: the context of a uprobe is the interrupted registers.
                $($index => unsafe { core::ptr::read_volatile(&raw const (*regs).regs[$index]) },)*
                _ => 0,
            }
        };
    }
    load!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
