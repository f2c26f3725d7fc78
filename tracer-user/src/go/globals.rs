//! Addresses of the runtime's variables: from the code that uses them, which takes 0.1 ms for a program of any size,
//! else from the symbol table, which took 12 ms for one of 156 MB.

use std::collections::HashMap;
use std::ops::Range;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::error::ErrorKind;
use super::image::Architecture;
use super::pclntab::Pclntab;
use super::symbols;

/// Where the runtime keeps its list of all goroutines, as link-time addresses. The runtime itself reads this pair
/// without a lock: first the length, then the array
/// (<https://cs.opensource.google/go/go/+/master:src/runtime/proc.go>, `atomicAllG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Globals {
    /// `runtime.allgptr`: address of the array of `*g`.
    pub allgptr: u64,
    /// `runtime.allglen`: how many it has. Never falls; the array moves as it grows.
    pub allglen: u64,
}

impl Globals {
    /// Finds both variables.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] where a stripped program's code is not as expected.
    pub(crate) fn find(table: &Pclntab) -> Result<Globals, ErrorKind> {
        Globals::from_code(table).or_else(|missing| {
            let names = ["runtime.allgptr", "runtime.allglen"];
            let [Some(allgptr), Some(allglen)] = symbols::addresses(&table.image, names) else {
                return Err(missing);
            };
            Ok(Globals { allgptr, allglen })
        })
    }

    /// `runtime.allgadd` stores to both atomically, to one pointer and to one number: no other instruction of it
    /// exchanges a variable's value.
    pub(crate) fn from_code(table: &Pclntab) -> Result<Globals, ErrorKind> {
        let missing =
            |why: String| ErrorKind::Missing { what: "runtime.allgptr and runtime.allglen".into(), why };
        if table.image.architecture() != Architecture::Amd64 {
            return Err(missing(
                "it has no symbols, and only x86-64 code can be searched for them so far".into(),
            ));
        }
        let function = (table.functions_named("runtime.allgadd").into_iter())
            .max_by_key(|function| function.size())
            .ok_or_else(|| missing("it has neither symbols nor a function runtime.allgadd".into()))?;
        let code = table.image.bytes(function.entry..function.end).unwrap_or_default();
        let module = &table.module;
        let pointers = module.data.start..module.bss.end;
        let unique = |area: &Range<u64>, exchanged: &[u64]| {
            let mut inside = exchanged.iter().filter(|address| area.contains(address));
            inside.next().filter(|first| inside.all(|other| other == *first)).copied()
        };
        let exchanged = exchanged_variables(code, function.entry);
        match (unique(&pointers, &exchanged), unique(&module.noptrbss, &exchanged)) {
            (Some(allgptr), Some(allglen)) => Ok(Globals { allgptr, allglen }),
            _ => Err(missing(format!("{} is not as expected in a program without symbols", function.name))),
        }
    }
}

/// The addresses of the variables that x86-64 code exchanges atomically: `lea r, [rip+x]`, `xchg [r], s`.
fn exchanged_variables(code: &[u8], entry: u64) -> Vec<u64> {
    let mut addresses: HashMap<Register, u64> = HashMap::new();
    let mut exchanged = Vec::new();
    let mut factory = InstructionInfoFactory::new();
    for instruction in &mut Decoder::with_ip(64, code, entry, DecoderOptions::NONE) {
        let memory = instruction.op0_kind() == OpKind::Memory || instruction.op1_kind() == OpKind::Memory;
        if instruction.mnemonic() == Mnemonic::Xchg && memory {
            if instruction.is_ip_rel_memory_operand() {
                exchanged.push(instruction.ip_rel_memory_address());
            } else if instruction.memory_index() == Register::None && instruction.memory_displacement64() == 0
            {
                exchanged.extend(addresses.get(&instruction.memory_base()));
            }
        }
        if instruction.flow_control() == FlowControl::Call {
            addresses.clear();
        }
        for used in factory.info(&instruction).used_registers() {
            if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None) {
                addresses.remove(&used.register().full_register());
            }
        }
        if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
            addresses.insert(instruction.op0_register().full_register(), instruction.ip_rel_memory_address());
        }
    }
    exchanged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_forgotten_when_its_register_changes() {
        // lea rcx, [rip+0x10]; xchg [rcx], rbx
        assert_eq!(
            exchanged_variables(&[0x48, 0x8d, 0x0d, 0x10, 0, 0, 0, 0x48, 0x87, 0x19], 0x1000),
            [0x1017]
        );
        // lea rcx, [rip+0x10]; xor ecx, ecx; xchg [rcx], rbx
        let code = [0x48, 0x8d, 0x0d, 0x10, 0, 0, 0, 0x31, 0xc9, 0x48, 0x87, 0x19];
        assert_eq!(exchanged_variables(&code, 0x1000), [0u64; 0]);
    }

    proptest::proptest! {
        #[test]
        fn any_code_is_read_without_a_panic(code: Vec<u8>, entry: u64) {
            exchanged_variables(&code, entry);
        }
    }
}
