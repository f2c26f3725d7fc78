//! Code that nobody wrote: whatever the bytes are, planning ends without a panic, and where it finds a site the claim
//! holds in every run of the program.

use proptest::prelude::*;

use super::*;

/// One instruction of a made-up program, and what it does.
#[derive(Clone, Copy, Debug)]
enum Op {
    Move(u8, u8),
    Spill(u8, u8),
    Reload(u8, u8),
    Overwrite(u8),
    Store(u8, u16),
    Nop,
    Call,
    /// To the operation with this number, or on.
    Branch(usize),
    Return,
}

const LABELS: [&str; 24] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
    "19", "20", "21", "22", "23",
];

fn op() -> impl Strategy<Value = Op> {
    let register = || 0..3u8;
    let slot = || 0..2u8;
    prop_oneof![
        2 => (register(), register()).prop_map(|(to, from)| Op::Move(to, from)),
        2 => (slot(), register()).prop_map(|(slot, from)| Op::Spill(slot, from)),
        2 => (register(), slot()).prop_map(|(to, slot)| Op::Reload(to, slot)),
        1 => register().prop_map(Op::Overwrite),
        2 => register().prop_map(|base| Op::Store(base, GOPC)),
        2 => register().prop_map(|base| Op::Store(base, STARTPC)),
        3 => Just(Op::Nop),
        1 => Just(Op::Call),
        3 => (0..LABELS.len()).prop_map(Op::Branch),
        1 => Just(Op::Return),
    ]
}

/// Code of the program, and the address of each operation.
fn assemble(ops: &[Op]) -> (Vec<u8>, Vec<u64>) {
    let (mut asm, mut addresses) = (Asm::new().raw(&[0xf9]), Vec::new()); // so that nothing jumps to the entry
    for (number, op) in ops.iter().enumerate() {
        asm = asm.label(LABELS[number]);
        addresses.push(asm.here());
        asm = match *op {
            Op::Move(to, from) => asm.mov(to, from),
            Op::Spill(slot, from) => asm.spill(8 * slot, from),
            Op::Reload(to, slot) => asm.reload(to, 8 * slot),
            Op::Overwrite(register) => asm.zero(register),
            Op::Store(base, offset) => asm.store(base, offset, RBX),
            Op::Nop => asm.nop(),
            Op::Call => asm.call("runtime.casgstatus"),
            Op::Branch(to) => asm.jne(LABELS[to.min(ops.len() - 1)]),
            Op::Return => asm.ret(),
        };
    }
    (asm.done(), addresses)
}

/// Runs the program with made-up branches: the site must see, once for each store of a goid, an object that has all
/// of its fields.
fn check(ops: &[Op], site: usize, register: usize, mut turns: u64) -> Result<(), TestCaseError> {
    let mut values: [u32; 5] = [1, 2, 3, 4, 5]; // registers, then slots
    let mut fresh = 6;
    let mut stored: Vec<(u32, u16)> = Vec::new();
    let (mut at, mut branches, mut owed) = (0, 0, false);
    loop {
        if at == site {
            prop_assert!(owed, "the site is passed without a store of goid, or twice");
            owed = false;
            for field in [GOID, GOPC, STARTPC] {
                prop_assert!(stored.contains(&(values[register], field)), "no such g in the register");
            }
        }
        match ops[at] {
            Op::Move(to, from) => values[to as usize] = values[from as usize],
            Op::Spill(slot, from) => values[3 + slot as usize] = values[from as usize],
            Op::Reload(to, slot) => values[to as usize] = values[3 + slot as usize],
            Op::Overwrite(register) => {
                values[register as usize] = fresh;
                fresh += 1;
            }
            Op::Call => {
                for register in &mut values[..3] {
                    *register = fresh;
                    fresh += 1;
                }
            }
            Op::Store(base, field) => {
                if field == GOID {
                    prop_assert!(!owed, "a goroutine passes no site");
                    owed = true;
                }
                stored.push((values[base as usize], field));
            }
            Op::Nop => {}
            Op::Branch(to) => {
                let taken = turns & 1 == 1;
                (turns, branches) = (turns >> 1, branches + 1);
                if branches > u64::BITS {
                    return Ok(()); // does not end
                }
                if taken {
                    at = to.min(ops.len() - 1);
                    continue;
                }
            }
            Op::Return => {
                prop_assert!(!owed, "a goroutine passes no site");
                return Ok(());
            }
        }
        at += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_site_is_what_it_claims_to_be(
        mut ops in prop::collection::vec(op(), 4..LABELS.len() - 4),
        goid in 0..LABELS.len(),
        base in 0..3u8,
        runs in prop::collection::vec(any::<u64>(), 32),
    ) {
        // A start that the compiler might make, so that most programs have a plan.
        let goid = goid % ops.len();
        ops.insert(goid, Op::Store(base, GOID));
        ops.insert(0, Op::Store(base, STARTPC));
        ops.insert(0, Op::Store(base, GOPC));
        ops.push(Op::Return);
        let (code, addresses) = assemble(&ops);
        let layout = Layout { parent: None, ..layout() };
        let body = standing_alone(&code);
        if let Ok(sites) = creation_in(&body, &layout, &functions, OLD) {
            prop_assert_eq!(sites.len(), 1);
            let site = addresses.iter().position(|at| *at == sites[0].address).expect("an operation");
            for turns in runs {
                check(&ops, site, sites[0].register as usize, turns)?;
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(code in prop::collection::vec(any::<u8>(), 0..600), entry in any::<u64>()) {
        for architecture in [Architecture::Amd64, Architecture::Arm64] {
            let body = Body { architecture, entry, ..standing_alone(&code) };
            let _ = creation(&[body], &layout(), &functions, OLD);
            let _ = exit(&[body], Purpose::Exit, &functions, OLD);
            let ranges = [entry..u64::MAX];
            let inlined = Body { inlined: &ranges, ..body };
            let _ = creation(&[inlined], &layout(), &functions, Kernel::from_version(7, 0));
        }
    }

    #[test]
    fn damaged_code_does_not_make_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let asm = make(Asm::new().label("entry").jne("grow").spill(8, RCX), RCX).jne("meet").zero(RCX).label("meet");
        let asm = asm.reload(RAX, 8).nop().ret().label("grow").call("runtime.morestack_noctxt").jmp("entry");
        let mut code = asm.done();
        let at = at.index(code.len());
        code[at] = byte;
        let _ = plan(&code);
        let _ = plan(&code[at..]);
    }
}
