//! What is different on arm64: pairs of words, a return address in a register, and instructions that must not be
//! interrupted.

use super::*;

const X0: u32 = 0;
const X1: u32 = 1;
const X2: u32 = 2;
const X25: u32 = 25;
const X28: u32 = 28;
const SP: u32 = 31;

const RET: u32 = 0xd65f_03c0;
const NOP: u32 = 0xd503_201f;
/// `str x30, [sp, #-96]!`
const ENTER: u32 = 0xf81a_0ffe;
/// `ldr x30, [sp], #96`
const LEAVE: u32 = 0xf846_07fe;
/// `ldaxr w5, [x4]`
const LOAD_EXCLUSIVE: u32 = 0x885f_fc85;
/// `stlxr w27, w5, [x4]`
const STORE_EXCLUSIVE: u32 = 0x881b_fc85;

fn str(value: u32, base: u32, offset: u16) -> u32 {
    0xf900_0000 | u32::from(offset / 8) << 10 | base << 5 | value
}

fn ldr(to: u32, base: u32, offset: u16) -> u32 {
    0xf940_0000 | u32::from(offset / 8) << 10 | base << 5 | to
}

fn stp(first: u32, second: u32, base: u32, offset: u16) -> u32 {
    0xa900_0000 | u32::from(offset / 8) << 15 | second << 10 | base << 5 | first
}

fn mov(to: u32, from: u32) -> u32 {
    0xaa00_03e0 | from << 16 | to
}

/// `cbz x5` to the second instruction from here.
const SKIP_ONE: u32 = 0xb400_0045;

/// All that makes a goroutine of the g in a register, up to the store of its goid.
fn make(g: u32) -> Vec<u32> {
    vec![stp(X2, X2, g, PARENT), str(X2, g, STARTPC), str(X2, g, GOID)]
}

/// Calls a function that `asm` knows.
fn call(code: &mut Vec<u32>, function: &str) {
    let target = (0..).map(|n| 0x50_0000 + 0x100 * n).find(|at| functions(*at).as_deref() == Some(function));
    let distance = target.expect("a known function").wrapping_sub(ENTRY + 4 * code.len() as u64);
    code.push(0x9400_0000 | (distance >> 2) as u32 & 0x03ff_ffff);
}

fn bytes(code: &[u32]) -> Vec<u8> {
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn planned(code: &[u32], inlined: &[Range<u64>]) -> Result<(usize, u8, String, Cost), PlanError> {
    let code = bytes(code);
    let body = Body { architecture: Architecture::Arm64, inlined, ..standing_alone(&code) };
    let sites = creation(&[body], &layout(), &functions, OLD)?;
    assert_eq!(sites.len(), 1, "{sites:?}");
    let ProbeSite { address, register, cost, .. } = sites[0];
    Ok((((address - ENTRY) / 4) as usize, register, sites[0].instruction.clone(), cost))
}

#[track_caller]
fn assert_site(code: &[u32], inlined: &[Range<u64>], at: usize, register: u32, instruction: &str) {
    let expected = (at, register as u8, instruction.to_owned(), Cost::Emulated);
    assert_eq!(planned(code, inlined), Ok(expected));
}

#[test]
fn the_return_is_the_site() {
    let code = [vec![ENTER], make(X1), vec![NOP, mov(X0, X1), NOP, LEAVE, RET]].concat();
    assert_site(&code, &[], code.len() - 1, X0, "ret");
}

#[test]
fn a_pair_is_two_stores() {
    // gopc is the second of a pair with the parent; alone it is not enough.
    let alone = [str(X2, X1, PARENT), str(X2, X1, STARTPC), str(X2, X1, GOID), RET];
    assert!(matches!(planned(&alone, &[]), Err(PlanError::NoGoidStore { .. })));
    let pair = [stp(X2, X2, X1, PARENT), str(X2, X1, STARTPC), str(X2, X1, GOID), RET];
    assert_site(&pair, &[], 3, X1, "ret");
}

#[test]
fn the_g_is_followed_through_calls() {
    let code = |between: &[u32]| {
        let mut code = [vec![ENTER, str(X1, SP, 72)], make(X1), between.to_vec()].concat();
        call(&mut code, "runtime.casgstatus");
        code.extend([ldr(X0, SP, 72), LEAVE, RET]);
        code
    };
    assert_site(&code(&[]), &[], 8, X0, "ret");
    // Saved once more, with another; `ldp x2, x1, [sp, #80]` has it back in another register.
    let mut pair = code(&[stp(X2, X1, SP, 80)]);
    pair[7] = 0xa945_07e2;
    assert_site(&pair, &[], 9, X1, "ret");
    // Overwritten as one of a pair, and by half.
    for lose in [stp(X2, X2, SP, 64), 0xb900_4be2] {
        assert_site(&code(&[lose]), &[], 6, X1, "bl runtime.casgstatus");
    }
}

#[test]
fn write_barriers_keep_registers_but_theirs() {
    let mut code = make(X1);
    call(&mut code, "runtime.gcWriteBarrier2");
    code.push(RET);
    let at = code.len() - 1;
    assert_site(&code, &[], at, X1, "ret");

    let mut code = make(X25);
    call(&mut code, "runtime.gcWriteBarrier2");
    code.push(RET);
    assert_site(&code, &[], 3, X25, "bl runtime.gcWriteBarrier2");
}

#[test]
fn a_copy_has_no_return_and_takes_a_branch() {
    let code = [make(X1), vec![NOP, SKIP_ONE, NOP, mov(X1, X2), RET]].concat();
    let all_but_return = [ENTRY..ENTRY + 4 * (code.len() as u64 - 1)];
    assert_site(&code, &all_but_return, 4, X1, "cbz x5");
}

#[test]
fn nothing_between_exclusive_load_and_store_is_a_site() {
    // What is claimed by the load is lost by an exception: the store would fail for ever.
    let inside = [make(X1), vec![LOAD_EXCLUSIVE, SKIP_ONE, NOP, STORE_EXCLUSIVE, mov(X1, X2), RET]].concat();
    let copy = [ENTRY..ENTRY + 4 * (inside.len() as u64 - 2)];
    assert!(
        matches!(planned(&inside, &copy), Err(PlanError::NoSite { .. })),
        "{:?}",
        planned(&inside, &copy)
    );
    let after = [make(X1), vec![LOAD_EXCLUSIVE, STORE_EXCLUSIVE, SKIP_ONE, NOP, mov(X1, X2), RET]].concat();
    assert_site(&after, &copy, 5, X1, "cbz x5");
}

#[test]
fn the_exit_is_the_call_of_mcall() {
    let exits = |code: &[u32]| {
        let code = bytes(code);
        let body = Body { architecture: Architecture::Arm64, ..standing_alone(&code) };
        exit(&[body], Purpose::Exit, &functions, OLD)
    };
    let mut code = vec![ENTER];
    call(&mut code, "runtime.mcall");
    code.extend([LEAVE, RET]);
    let sites = exits(&code).expect("a plan");
    assert_eq!((sites[0].address, sites[0].register, sites[0].cost), (ENTRY + 4, 28, Cost::Emulated));
    assert_eq!(sites[0].instruction, "bl runtime.mcall");
    let changed = [vec![mov(X28, X0)], code].concat();
    assert!(exits(&changed).is_err());
}
