//! Is it a context that a goroutine waits for? A channel does not say whose it is, but the code does: it is what a call
//! of `Done` has returned, on every path to the wait. Nothing of the process is read for it. Code that was compiled without
//! optimisation keeps the list of a `select`'s cases in more places than are followed: nothing is said of those.

use std::collections::BTreeSet;
use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::image::u32_at;
use super::plan::{self, Body};
use super::{Architecture, Binary, FrameSize, Function};

/// Where the methods of an interface begin in its `abi.ITab`, and the place of `Done` among those of `context.Context`:
/// they are sorted by name (Deadline, Done, Err, Value).
const DONE: u64 = 24 + 8;
/// Instructions from a call's preparation to the call.
const NEAR: usize = 16;
/// Size of `runtime.scase`: the channel, and where its element is.
const CASE: i64 = 16;
/// A `select` with more cases is one that `reflect` makes, or none.
const MOST_CASES: i64 = 1 << 16;
/// `abi.FUNCDATA_StackObjects`
const FUNCDATA_STACK_OBJECTS: u8 = 2;
/// Size of a `stackObjectRecord`: <https://cs.opensource.google/go/go/+/master:src/runtime/stack.go>.
const STACK_OBJECT: usize = 16;
/// More variables than a frame has.
const MOST_OBJECTS: usize = 4096;

impl Binary {
    /// Whether the wait that returns to this link-time address is on what a call of `Done` on a context has returned.
    /// `many`: it is a `select`, so it is enough if one of the channels that it receives from is. Always false on
    /// processors other than x86-64, and where the code cannot be followed.
    pub fn asked_done(&self, pc: u64, many: bool) -> bool {
        let (owner, at) = self.owner(pc);
        if !self.is_same_file(owner) {
            return owner.asked_done(at, many);
        }
        let function = self.function_at(pc).filter(|_| self.image().architecture() == Architecture::Amd64);
        function.is_some_and(|function| self.waits_for_done(&function, pc, many).unwrap_or(false))
    }

    fn waits_for_done(&self, function: &Function, pc: u64, many: bool) -> Option<bool> {
        let code = self.code(function.entry..function.end);
        if code.len() > plan::MAX_CODE {
            return None;
        }
        let instructions: Vec<Instruction> =
            Decoder::with_ip(64, code, function.entry, DecoderOptions::NONE).into_iter().collect();
        let is_call = |instruction: &Instruction| {
            matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
        };
        let asks = |at: usize| {
            let call = &instructions[at];
            is_call(call) && (self.calls_done(call) || calls_second_method(&instructions[..=at]))
        };
        let sources: BTreeSet<u64> =
            (0..instructions.len()).filter(|&at| asks(at)).map(|at| instructions[at].ip()).collect();
        if sources.is_empty() {
            return None;
        }
        let wait = instructions.iter().position(|instruction| instruction.next_ip() == pc)?;
        let (before, wait) = (&instructions[..wait], &instructions[wait]);
        let callee = self.callee(wait)?;
        let body = Body { function: &function.name, entry: function.entry, code, inlined: &[] };
        let exposed = self.exposed(function, pc)?;
        let named = |target| self.name_of(target);
        let held = plan::before(&body, &sources, &exposed, wait.ip(), &named)?;
        // As `chanrecv1(c *hchan, elem unsafe.Pointer)` and `selectgo(cas0 *scase, order0 *uint16, pc0 *uintptr, nsends,
        // nrecvs int, block bool)` get their arguments.
        match callee.as_str() {
            "runtime.chanrecv1" | "runtime.chanrecv2" if !many => Some(held.register(RAX)),
            "runtime.selectgo" if many => {
                let cases = held.address(RAX)?;
                let sends = constant(before, Register::EDI)?;
                let receives = constant(before, Register::ESI)?;
                let last = sends.checked_add(receives).filter(|last| *last <= MOST_CASES)?;
                Some((sends..last).any(|case| held.slot(cases + CASE * case)))
            }
            _ => None,
        }
    }

    /// The parts of the frame that are written to through pointers, as distances from the stack pointer: variables whose
    /// address is taken, and what is the caller's. Spilled registers are in none.
    fn exposed(&self, function: &Function, pc: u64) -> Option<Vec<Range<i64>>> {
        let Some(FrameSize::Bytes(size)) = self.frame_size(pc) else { return None };
        // The saved frame pointer is the outermost word; offsets of variables count from it.
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

    fn callee(&self, call: &Instruction) -> Option<String> {
        self.name_of(Some(call.near_branch_target()).filter(|target| *target != 0)?)
    }

    fn calls_done(&self, call: &Instruction) -> bool {
        self.callee(call).is_some_and(|name| name.starts_with("context.") && name.ends_with(").Done"))
    }
}

/// `mov rcx, [rax+20h]`, …, `call rcx`, or at once `call [rax+20h]`.
fn calls_second_method(until: &[Instruction]) -> bool {
    let is_done = |instruction: &Instruction| {
        instruction.memory_displacement64() == DONE
            && instruction.memory_index() == Register::None
            && !matches!(instruction.memory_base(), Register::None | Register::RSP | Register::RIP)
    };
    let Some((call, before)) = until.split_last() else { return false };
    if call.flow_control() != FlowControl::IndirectCall {
        return false;
    }
    if call.op0_kind() == OpKind::Memory {
        return is_done(call);
    }
    let method = call.op0_register();
    let load = before.iter().rev().take(NEAR).find(|instruction| {
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == method
    });
    load.is_some_and(|load| load.op_count() == 2 && load.op1_kind() == OpKind::Memory && is_done(load))
}

/// RAX, as [`plan`] numbers it.
const RAX: u8 = 0;

/// The number that the last instructions put into a register, with no jump between.
fn constant(before: &[Instruction], register: Register) -> Option<i64> {
    let near = before.iter().rev().take(NEAR);
    let mut straight = near.take_while(|instruction| instruction.flow_control() == FlowControl::Next);
    let is_it =
        |kind: OpKind, operand: Register| kind == OpKind::Register && operand.full_register32() == register;
    let set = straight.find(|instruction| is_it(instruction.op0_kind(), instruction.op0_register()))?;
    match set.code() {
        Code::Mov_r32_imm32 | Code::Mov_r64_imm64 => i64::try_from(set.immediate(1)).ok(),
        Code::Xor_r32_rm32 | Code::Xor_rm32_r32 if is_it(set.op1_kind(), set.op1_register()) => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::testing::{PLAIN, Program, STRIPPED_PIE, toolchains};

    fn decode(code: &[u8]) -> Vec<Instruction> {
        Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).into_iter().collect()
    }

    #[test]
    fn a_call_of_the_second_method() {
        // mov rcx, [rax+20h]; mov rax, rbx; call rcx
        assert!(calls_second_method(&decode(b"\x48\x8b\x48\x20\x48\x89\xd8\xff\xd1")));
        // call [rax+20h]
        assert!(calls_second_method(&decode(b"\xff\x50\x20")));
        // The third method; a closure; a field of the frame; a direct call.
        assert!(!calls_second_method(&decode(b"\x48\x8b\x48\x28\x48\x89\xd8\xff\xd1")));
        assert!(!calls_second_method(&decode(b"\x48\x8b\x0a\xff\xd1")));
        assert!(!calls_second_method(&decode(b"\x48\x8b\x4c\x24\x20\xff\xd1")));
        assert!(!calls_second_method(&decode(b"\xe8\x00\x00\x00\x00")));
        assert!(!calls_second_method(&[]));
    }

    #[test]
    fn numbers_of_cases() {
        // xor edi, edi; mov esi, 2; mov r8d, 1
        let code = decode(b"\x31\xff\xbe\x02\x00\x00\x00\x41\xb8\x01\x00\x00\x00");
        assert_eq!((constant(&code, Register::EDI), constant(&code, Register::ESI)), (Some(0), Some(2)));
        assert_eq!(constant(&code, Register::EDX), None);
        // mov esi, 2; jmp; mov rsi, rax
        assert_eq!(constant(&decode(b"\xbe\x02\x00\x00\x00\xeb\x00"), Register::ESI), None);
        assert_eq!(constant(&decode(b"\xbe\x02\x00\x00\x00\x48\x89\xc6"), Register::ESI), None);
    }

    #[test]
    fn waits_of_real_code() {
        let ways = [PLAIN, STRIPPED_PIE];
        let each = toolchains().into_iter().flat_map(|toolchain| ways.map(|flags| (toolchain, flags)));
        for (toolchain, flags) in each {
            let program = Program::build_source(toolchain, include_str!("testdata/contexts.go"), flags, &[]);
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
                assert_eq!(of_function, is_done, "{function} of {toolchain} {flags:?}");
            }
        }
    }

    /// The function of each wait in package main, in the order of the code, and whether it is a `select` and on a context.
    fn waits(binary: &Binary) -> Vec<(String, bool, bool)> {
        let mut waits = Vec::new();
        for function in (0..).map_while(|index| binary.table().function(index)) {
            if !function.name.starts_with("main.") {
                continue;
            }
            let code = binary.code(function.entry..function.end);
            for call in Decoder::with_ip(64, code, function.entry, DecoderOptions::NONE) {
                let many = match binary.callee(&call).as_deref() {
                    Some("runtime.chanrecv1" | "runtime.chanrecv2") => false,
                    Some("runtime.selectgo") => true,
                    _ => continue,
                };
                let is_done = binary.asked_done(call.next_ip(), many);
                waits.push((function.name.clone(), many, is_done));
            }
        }
        waits
    }
}
