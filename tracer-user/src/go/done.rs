//! Whether a goroutine waits for a context. A channel does not say whose it is, but the code does: if the channel of a
//! context is waited for, it is what a call of `Done` has returned, on every path to the wait. So only the executable is
//! read, not the process. Code that was compiled without optimisation keeps the list of a `select`'s cases in more places
//! than are followed here, so the answer for it is no.

use std::collections::BTreeSet;
use std::ops::Range;

use super::binary::Binary;
use crate::go::file::image::u32_at;
use crate::go::functions::pclntab::{FrameSize, Function};
use crate::go::plan::{self, Body, Convention, Kernel, Next, Operand, Step, Value};

/// Offset in bytes of `Done` in the method table of a `context.Context`: behind 24 bytes of `abi.ITab`
/// (<https://cs.opensource.google/go/go/+/master:src/internal/abi/iface.go>) the methods are sorted by name (Deadline,
/// Done, Err, Value).
const DONE: i64 = 24 + 8;
/// Instructions before a call in which its arguments are looked for.
const NEAR: usize = 16;
/// Size of `runtime.scase` in bytes, which is a pointer to the channel and one to the element:
/// <https://cs.opensource.google/go/go/+/master:src/runtime/select.go>.
const CASE: i64 = 16;
/// Cases of the largest `select` that is believed: `selectgo` takes no more.
const MOST_CASES: i64 = 1 << 16;
/// `abi.FUNCDATA_StackObjects`
const FUNCDATA_STACK_OBJECTS: u8 = 2;
/// Size of a `stackObjectRecord` in bytes: <https://cs.opensource.google/go/go/+/master:src/runtime/stack.go>.
const STACK_OBJECT: usize = 16;
/// More variables than a frame has whose address is taken.
const MOST_OBJECTS: usize = 4096;

impl Binary {
    /// Whether a goroutine whose wait returns to this link-time address waits for what a call of `Done` on a context has
    /// returned. `many` says that it waits in a `select`, where it is enough if one of the channels that it receives from
    /// is a context's. False where the code cannot be followed.
    pub fn asked_done(&self, pc: u64, many: bool) -> bool {
        let (owner, at) = self.owner(pc);
        if !self.is_same_file(owner) {
            return owner.asked_done(at, many);
        }
        let function = self.function_at(pc);
        function.is_some_and(|function| self.waits_for_done(&function, pc, many).unwrap_or(false))
    }

    fn waits_for_done(&self, function: &Function, pc: u64, many: bool) -> Option<bool> {
        let code = self.code(function.entry..function.end);
        if code.len() > plan::MAX_CODE {
            return None;
        }
        let architecture = self.image().architecture();
        let named = |target| self.name_of(target);
        let steps = plan::decode(architecture, function.entry, code, &named, Kernel::default());
        let asks = |at: usize| {
            matches!(steps[at].next, Next::Call(_))
                && (self.calls_done(&steps[at]) || calls_second_method(&steps[..=at]))
        };
        let sources: BTreeSet<u64> =
            (0..steps.len()).filter(|&at| asks(at)).map(|at| steps[at].address).collect();
        if sources.is_empty() {
            return None;
        }
        let wait = steps.iter().position(|step| step.address + step.size == pc)?;
        let (before, wait) = (&steps[..wait], &steps[wait]);
        let callee = self.callee(wait)?;
        let body = Body { architecture, function: &function.name, entry: function.entry, code, inlined: &[] };
        let exposed = self.exposed(function, pc)?;
        let held = plan::before(&body, &steps, &sources, &exposed, wait.address, &named)?;
        // The functions are `chanrecv1(c *hchan, elem unsafe.Pointer)` and `selectgo(cas0 *scase, order0 *uint16, pc0
        // *uintptr, nsends, nrecvs int, block bool)`.
        let &[first, _, _, sends, receives, ..] = Convention::of(architecture).arguments else { return None };
        match callee.as_str() {
            "runtime.chanrecv1" | "runtime.chanrecv2" if !many => Some(held.register(first)),
            "runtime.selectgo" if many => {
                let cases = held.address(first)?;
                let sends = constant(before, sends)?;
                let receives = constant(before, receives)?;
                let last = sends.checked_add(receives).filter(|last| *last <= MOST_CASES)?;
                Some((sends..last).any(|case| held.slot(cases + CASE * case)))
            }
            _ => None,
        }
    }

    /// The parts of the frame that may be written to through pointers, as distances from the stack pointer: variables
    /// whose address is taken, and all that belongs to the caller. The compiler saves registers in none of them.
    fn exposed(&self, function: &Function, pc: u64) -> Option<Vec<Range<i64>>> {
        let Some(FrameSize::Bytes(size)) = self.frame_size(pc) else { return None };
        // The outermost word is a saved frame pointer (on arm64 that of the function which is called next), and offsets
        // of variables count from there.
        let variables_end = i64::from(size) - 8;
        let callers = variables_end..i64::MAX;
        let mut exposed = Vec::from([callers]);
        if let Some(list) = self.table().data_of(function, FUNCDATA_STACK_OBJECTS) {
            let count = usize::try_from(u32_at(list, 0)?).ok().filter(|count| *count <= MOST_OBJECTS)?;
            // The number of objects is a `uintptr`.
            let objects = list.get(8..)?.get(..count * STACK_OBJECT)?;
            for object in objects.chunks_exact(STACK_OBJECT) {
                let (offset, size) = (u32_at(object, 0)?.cast_signed(), u32_at(object, 4)?);
                let start = variables_end + i64::from(offset);
                exposed.push(start..start + i64::from(size));
            }
        }
        Some(exposed)
    }

    fn name_of(&self, target: u64) -> Option<String> {
        self.function_at(target).map(|function| function.name)
    }

    fn callee(&self, call: &Step) -> Option<String> {
        let Next::Call(Some(target)) = call.next else { return None };
        self.name_of(target)
    }

    fn calls_done(&self, call: &Step) -> bool {
        self.callee(call).is_some_and(|name| name.starts_with("context.") && name.ends_with(").Done"))
    }
}

/// Whether the last of these instructions calls the second method of an interface: `mov rcx, [rax+20h]`, …, `call rcx`,
/// or at once `call [rax+20h]`.
fn calls_second_method(until: &[Step]) -> bool {
    let is_done = |operand| matches!(operand, Operand::Memory(_, DONE));
    let Some((call, before)) = until.split_last() else { return false };
    let method = match call.through {
        Some(Operand::Register(method)) => method,
        Some(operand) => return is_done(operand),
        None => return false,
    };
    let load = before.iter().rev().take(NEAR).find(|step| step.effect.registers() & 1 << method != 0);
    load.and_then(|step| step.load).is_some_and(|(_, from)| is_done(from))
}

/// The number that one of the last instructions has put into a register, with no jump since.
fn constant(before: &[Step], register: u8) -> Option<i64> {
    let near = before.iter().rev().take(NEAR);
    let mut straight = near.take_while(|step| step.next == Next::Following);
    let set = straight.find(|step| step.effect.registers() & 1 << register != 0)?;
    match set.value {
        Some((_, Value::Constant(value))) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::Architecture::{self, Amd64, Arm64};
    use crate::go::testing::{PLAIN, Program, STRIPPED_PIE, toolchains};

    fn decode(architecture: Architecture, code: &[u8]) -> Vec<Step> {
        plan::decode(architecture, 0x1000, code, &|_| None, Kernel::default())
    }

    #[test]
    fn a_call_of_the_second_method() {
        let calls = |code: &[u8]| calls_second_method(&decode(Amd64, code));
        // mov rcx, [rax+20h]; mov rax, rbx; call rcx
        assert!(calls(b"\x48\x8b\x48\x20\x48\x89\xd8\xff\xd1"));
        // call [rax+20h]
        assert!(calls(b"\xff\x50\x20"));
        // The third method; a closure; a field of the frame; a direct call.
        assert!(!calls(b"\x48\x8b\x48\x28\x48\x89\xd8\xff\xd1"));
        assert!(!calls(b"\x48\x8b\x0a\xff\xd1"));
        assert!(!calls(b"\x48\x8b\x4c\x24\x20\xff\xd1"));
        assert!(!calls(b"\xe8\x00\x00\x00\x00"));
        assert!(!calls(&[]));

        let calls = |words: &[u32]| {
            calls_second_method(&decode(
                Arm64,
                &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>(),
            ))
        };
        // ldr x2, [x0, #32]; mov x0, x1; blr x2
        assert!(calls(&[0xf940_1002, 0xaa01_03e0, 0xd63f_0040]));
        // The third method; a field of the frame; a direct call.
        assert!(!calls(&[0xf940_1402, 0xaa01_03e0, 0xd63f_0040]));
        assert!(!calls(&[0xf940_13e2, 0xaa01_03e0, 0xd63f_0040]));
        assert!(!calls(&[0x9400_0000]));
    }

    #[test]
    fn numbers_of_cases() {
        let (edx, esi, edi) = (2, 6, 7);
        // xor edi, edi; mov esi, 2; mov r8d, 1
        let code = decode(Amd64, b"\x31\xff\xbe\x02\x00\x00\x00\x41\xb8\x01\x00\x00\x00");
        assert_eq!((constant(&code, edi), constant(&code, esi)), (Some(0), Some(2)));
        assert_eq!(constant(&code, edx), None);
        // mov esi, 2; jmp; mov rsi, rax
        assert_eq!(constant(&decode(Amd64, b"\xbe\x02\x00\x00\x00\xeb\x00"), esi), None);
        assert_eq!(constant(&decode(Amd64, b"\xbe\x02\x00\x00\x00\x48\x89\xc6"), esi), None);
        // mov x3, xzr; orr x4, xzr, #2; mov x5, #1
        let code = decode(Arm64, b"\xe3\x03\x1f\xaa\xe4\x03\x7f\xb2\x25\x00\x80\xd2");
        assert_eq!([3, 4, 5].map(|register| constant(&code, register)), [Some(0), Some(2), Some(1)]);
    }

    #[test]
    fn waits_of_real_code() {
        let ways = [(PLAIN, "amd64"), (STRIPPED_PIE, "amd64"), (PLAIN, "arm64"), (STRIPPED_PIE, "arm64")];
        let each = toolchains().into_iter().flat_map(|toolchain| ways.map(|way| (toolchain, way)));
        for (toolchain, (flags, cpu)) in each {
            let source = include_str!("testdata/contexts.go");
            let environment = [("GOARCH", cpu), ("CGO_ENABLED", "0")];
            let program = Program::build_source(toolchain, source, flags, &environment);
            let binary = program.binary();
            let found = waits(&binary);
            for (function, many, is_done) in [
                ("main.at", false, vec![true]),
                ("main.before", false, vec![true]),
                ("main.other", false, vec![false, true]),
                ("main.either", false, vec![false]),
                ("main.both", false, vec![true]),
                ("main.reset", false, vec![false]),
                ("main.changed", false, vec![false]),
                ("main.field", false, vec![false]),
                ("main.loop", true, vec![true]),
                ("main.sends", true, vec![true]),
                ("main.nested", true, vec![false, true]),
                ("main.without", true, vec![false]),
                ("main.inCase", true, vec![true]),
            ] {
                let of_function: Vec<bool> = (found.iter())
                    .filter(|(name, is_select, _)| name == function && *is_select == many)
                    .map(|(.., is_done)| *is_done)
                    .collect();
                assert_eq!(of_function, is_done, "{function} of {toolchain} {cpu} {flags:?}");
            }
        }
    }

    /// The function of each wait in package main, in the order of the code, and whether it is a `select` and on a
    /// context.
    fn waits(binary: &Binary) -> Vec<(String, bool, bool)> {
        let mut waits = Vec::new();
        for function in (0..).map_while(|index| binary.table().function(index)) {
            if !function.name.starts_with("main.") {
                continue;
            }
            let code = binary.code(function.entry..function.end);
            let architecture = binary.image().architecture();
            for call in plan::decode(architecture, function.entry, code, &|_| None, Kernel::default()) {
                let many = match binary.callee(&call).as_deref() {
                    Some("runtime.chanrecv1" | "runtime.chanrecv2") => false,
                    Some("runtime.selectgo") => true,
                    _ => continue,
                };
                let is_done = binary.asked_done(call.address + call.size, many);
                waits.push((function.name.clone(), many, is_done));
            }
        }
        waits
    }
}
