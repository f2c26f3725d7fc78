//! A few x86-64 instructions by name, so that tests read like what the compiler makes.

use std::collections::HashMap;

use crate::go::{Architecture, plan::Body};

pub(super) const RAX: u8 = 0;
pub(super) const RCX: u8 = 1;
pub(super) const RDX: u8 = 2;
pub(super) const RBX: u8 = 3;
pub(super) const R9: u8 = 9;
pub(super) const R14: u8 = 14;

/// Where the code of all tests starts.
pub(super) const ENTRY: u64 = 0x40_1000;

/// Functions that can be called.
const FUNCTIONS: [&str; 6] = [
    "runtime.mcall",
    "runtime.throw",
    "runtime.morestack_noctxt",
    "runtime.gcWriteBarrier2",
    "runtime.casgstatus",
    "runtime.panicIndex",
];

/// The names of their entries.
pub(super) fn functions(entry: u64) -> Option<String> {
    let number = usize::try_from(entry.checked_sub(0x50_0000)? / 0x100).ok()?;
    FUNCTIONS.get(number).map(|name| (*name).to_owned())
}

/// Machine code in the making. Labels may be used before they are set.
#[derive(Default)]
pub(super) struct Asm {
    pub code: Vec<u8>,
    labels: HashMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
}

impl Asm {
    pub fn new() -> Asm {
        Asm::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Asm {
        self.code.extend(bytes);
        self
    }

    pub fn label(mut self, name: &'static str) -> Asm {
        self.labels.insert(name, self.code.len());
        self
    }

    /// `mov to, from`
    pub fn mov(self, to: u8, from: u8) -> Asm {
        self.raw(&[0x48 | (from >> 3) << 2 | to >> 3, 0x89, 0xc0 | (from & 7) << 3 | to & 7])
    }

    /// `mov [base+offset], value`
    pub fn store(self, base: u8, offset: u16, value: u8) -> Asm {
        assert_ne!(base & 7, 4, "would need a SIB byte");
        let modrm = 0x80 | (value & 7) << 3 | base & 7;
        self.raw(&[0x48 | (value >> 3) << 2 | base >> 3, 0x89, modrm]).raw(&i32::from(offset).to_le_bytes())
    }

    /// `mov [rsp+slot], register`
    pub fn spill(self, slot: u8, register: u8) -> Asm {
        self.raw(&[0x48 | (register >> 3) << 2, 0x89, 0x44 | (register & 7) << 3, 0x24, slot])
    }

    /// `mov register, [rsp+slot]`
    pub fn reload(self, register: u8, slot: u8) -> Asm {
        self.raw(&[0x48 | (register >> 3) << 2, 0x8b, 0x44 | (register & 7) << 3, 0x24, slot])
    }

    /// `xor register32, register32`
    pub fn zero(self, register: u8) -> Asm {
        self.raw(&[0x40 | ((register >> 3) * 5), 0x31, 0xc0 | ((register & 7) * 9)])
    }

    pub fn nop(self) -> Asm {
        self.raw(&[0x90])
    }

    pub fn ret(self) -> Asm {
        self.raw(&[0xc3])
    }

    pub fn call(mut self, function: &str) -> Asm {
        let number = FUNCTIONS.iter().position(|name| *name == function).expect("known function") as u64;
        let next = ENTRY + self.code.len() as u64 + 5;
        let distance = (0x50_0000 + number * 0x100).wrapping_sub(next) as i32;
        self.code.push(0xe8);
        self.raw(&distance.to_le_bytes())
    }

    pub fn jmp(self, label: &'static str) -> Asm {
        self.raw(&[0xe9]).distance(label)
    }

    pub fn jne(self, label: &'static str) -> Asm {
        self.raw(&[0x0f, 0x85]).distance(label)
    }

    /// Where the next instruction will be.
    pub fn here(&self) -> u64 {
        ENTRY + self.code.len() as u64
    }

    /// Fills in the jumps.
    pub fn done(mut self) -> Vec<u8> {
        for (at, label) in &self.jumps {
            let distance = self.labels[label] as i32 - (*at as i32 + 4);
            self.code[*at..*at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.code
    }

    fn distance(mut self, label: &'static str) -> Asm {
        self.jumps.push((self.code.len(), label));
        self.raw(&[0; 4])
    }
}

/// A function of its own.
pub(super) fn standing_alone(code: &[u8]) -> Body<'_> {
    Body { architecture: Architecture::Amd64, function: "runtime.newproc1", entry: ENTRY, code, inlined: &[] }
}
