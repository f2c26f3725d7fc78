//! Where the runtime keeps its list of goroutines. The code that adds to the list says it, which takes 0.1 ms for a
//! program of any size. Only where that fails the symbol table is searched, which took 12 ms for a program of 156 MB.

use std::ops::Range;

use crate::go::file::error::GoErrorKind;
use crate::go::file::symbols;
use crate::go::functions::pclntab::Pclntab;
use crate::go::plan::{self, Kernel, Operand, Step, Value};

/// Link-time addresses of the two variables that make the runtime's list of all goroutines. The runtime itself reads them
/// without a lock, first the length and then the array: `atomicAllG` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/proc.go>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Globals {
    /// `runtime.allgptr`: address of the array of `*g`.
    pub allgptr: u64,
    /// `runtime.allglen`: how many entries the array has. The number never falls, and the array moves as it grows.
    pub allglen: u64,
}

impl Globals {
    /// Finds both variables.
    ///
    /// # Errors
    /// [`GoErrorKind::Missing`] where a stripped program's code is not as expected.
    pub(crate) fn find(table: &Pclntab) -> Result<Globals, GoErrorKind> {
        Globals::from_code(table).or_else(|missing| {
            let names = ["runtime.allgptr", "runtime.allglen"];
            // Programs that open plugins export their variables, stripped or not.
            let found = [symbols::addresses(&table.image, names), symbols::exported(&table.image, names)];
            let both =
                |[allgptr, allglen]: [Option<u64>; 2]| Some(Globals { allgptr: allgptr?, allglen: allglen? });
            found.into_iter().find_map(both).ok_or(missing)
        })
    }

    /// Finds both variables in the code of `runtime.allgadd`, which stores atomically to them and to no other variable.
    /// The array is among the variables with pointers, the length among those without.
    pub(crate) fn from_code(table: &Pclntab) -> Result<Globals, GoErrorKind> {
        let missing =
            |why: String| GoErrorKind::Missing { what: "runtime.allgptr and runtime.allglen".into(), why };
        let function = (table.functions_named("runtime.allgadd").into_iter())
            .max_by_key(|function| function.size())
            .ok_or_else(|| missing("it has neither symbols nor a function runtime.allgadd".into()))?;
        let code = table.image.bytes(function.entry..function.end).unwrap_or_default();
        let module = &table.module;
        let pointers = module.data.start..module.bss.end;
        let unique = |area: &Range<u64>, published: &[u64]| {
            let mut inside = published.iter().filter(|address| area.contains(address));
            inside.next().filter(|first| inside.all(|other| other == *first)).copied()
        };
        let architecture = table.image.architecture();
        let published = published(&plan::decode(
            architecture,
            function.entry,
            code.get(..plan::MAX_CODE).unwrap_or(code),
            &|_| None,
            Kernel::default(),
        ));
        match (unique(&pointers, &published), unique(&module.noptrbss, &published)) {
            (Some(allgptr), Some(allglen)) => Ok(Globals { allgptr, allglen }),
            _ => Err(missing(format!("{} is not as expected in a program without symbols", function.name))),
        }
    }
}

/// The addresses of the variables that code stores to atomically. The address is in the instruction, or in a register
/// that the instructions before have set: `lea r, [rip+x]`, or `adrp r, x` and `add r, r, #y`.
fn published(steps: &[Step]) -> Vec<u64> {
    let mut addresses = [None; 32];
    let mut published = Vec::new();
    for step in steps {
        match step.publishes {
            Some(Operand::Variable(address)) => published.push(address),
            Some(Operand::Memory(base, offset)) => {
                let base: Option<u64> = addresses[usize::from(base)];
                published.extend(base.map(|base| base.wrapping_add_signed(offset)));
            }
            Some(Operand::Register(_)) | None => {}
        }
        let known = step.value.and_then(|(to, value)| match value {
            Value::Constant(value) => Some((to, value.cast_unsigned())),
            Value::Sum(base, more) => Some((to, addresses[usize::from(base)]?.wrapping_add_signed(more))),
        });
        let written = step.effect.registers();
        for (register, address) in addresses.iter_mut().enumerate() {
            *address = address.filter(|_| written & 1 << register == 0);
        }
        if let Some((to, value)) = known {
            addresses[usize::from(to)] = Some(value);
        }
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::Architecture::{self, Amd64, Arm64};

    fn published_by(architecture: Architecture, code: &[u8]) -> Vec<u64> {
        published(&plan::decode(architecture, 0x1000, code, &|_| None, Kernel::default()))
    }

    #[test]
    fn an_address_is_forgotten_when_its_register_changes() {
        // lea rcx, [rip+0x10]; xchg [rcx], rbx
        assert_eq!(published_by(Amd64, b"\x48\x8d\x0d\x10\0\0\0\x48\x87\x19"), [0x1017]);
        // lea rcx, [rip+0x10]; inc ecx; xchg [rcx], rbx
        assert_eq!(published_by(Amd64, b"\x48\x8d\x0d\x10\0\0\0\xff\xc1\x48\x87\x19"), [0; 0]);
        // adrp x2, the next page; add x2, x2, #0x10; stlr x1, [x2]
        let (address, store) = (b"\x02\0\0\xb0\x42\x40\0\x91", b"\x41\xfc\x9f\xc8");
        assert_eq!(published_by(Arm64, &[&address[..], store].concat()), [0x2010]);
        // ldr x2, [x2], or bl, before the store
        for lose in [b"\x42\0\x40\xf9", b"\0\0\0\x94"] {
            assert_eq!(published_by(Arm64, &[&address[..], lose, store].concat()), [0; 0]);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_code_is_read_without_a_panic(code: Vec<u8>, entry: u64) {
            for architecture in [Amd64, Arm64] {
                published(&plan::decode(architecture, entry, &code, &|_| None, Kernel::default()));
            }
        }
    }
}
