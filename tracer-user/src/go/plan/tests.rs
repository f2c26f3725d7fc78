//! The traps, one by one, on code small enough to see them. Real runtimes are covered by `tests/plan.rs`.

#![allow(clippy::single_range_in_vec_init, reason = "an inlined copy often is one range")]

mod arm64;
mod asm;
mod random;

use std::ops::Range;

use super::*;
use crate::go::file::image::Architecture;
use asm::*;

const GO_1_22: crate::go::GoVersion = crate::go::GoVersion { major: 1, minor: 22, patch: 0 };
const GOID: u16 = 152;
const PARENT: u16 = 272;
const GOPC: u16 = 280;
const STARTPC: u16 = 296;
/// An instruction that loses the g in rcx and is no site itself.
const INC_RCX: &[u8] = &[0x48, 0xff, 0xc1];
const OLD: Kernel = Kernel { emulates_long_nops: false, optimises_nop5: false };

/// All that makes a goroutine of the g in a register, up to the store of its goid.
fn make(asm: Asm, g: u8) -> Asm {
    asm.store(g, PARENT, RDX).store(g, GOPC, RDX).store(g, STARTPC, RDX).store(g, GOID, RDX)
}

fn layout() -> Layout {
    Layout { goid: GOID, parent: Some(PARENT), gopc: GOPC, startpc: STARTPC, ..Layout::nearest(GO_1_22) }
}

fn plan(code: &[u8]) -> Result<Vec<ProbeSite>, PlanError> {
    creation(&[standing_alone(code)], &layout(), &functions, OLD)
}

/// The one site: distance from the entry, register, instruction.
fn site_in(code: &[u8]) -> (u64, u8, String) {
    let sites = plan(code).expect("a plan");
    assert_eq!(sites.len(), 1, "{sites:?}");
    (sites[0].address - ENTRY, sites[0].register, sites[0].instruction.clone())
}

/// `site_in`, with the address at which a site is expected.
#[track_caller]
fn assert_site(code: &[u8], address: u64, register: u8, instruction: &str) {
    assert_eq!(site_in(code), (address - ENTRY, register, instruction.to_owned()));
}

#[test]
fn a_nop_after_the_stores_is_better_than_the_return() {
    let asm = make(Asm::new().nop(), RCX);
    let at = asm.here();
    assert_site(&asm.nop().mov(RAX, RCX).ret().done(), at, RCX, "nop");
}

#[test]
fn every_store_has_to_come_first() {
    let asm = Asm::new().store(RCX, GOPC, RDX).store(RCX, STARTPC, RDX).store(RCX, GOID, RDX).nop();
    let missing = plan(&asm.ret().done());
    assert!(matches!(missing, Err(PlanError::NoGoidStore { .. })), "{missing:?}");

    let without_parent = Layout { parent: None, ..layout() };
    let asm = Asm::new().store(RCX, GOPC, RDX).store(RCX, STARTPC, RDX).store(RCX, GOID, RDX).nop();
    let code = asm.ret().done();
    let sites = creation(&[standing_alone(&code)], &without_parent, &functions, OLD).expect("a plan");
    assert_eq!(sites[0].instruction, "nop");

    let two_objects = Asm::new().store(RBX, PARENT, RDX).store(RBX, GOPC, RDX).store(RBX, STARTPC, RDX);
    let wrong = plan(&two_objects.store(RCX, GOID, RDX).nop().ret().done());
    assert!(matches!(wrong, Err(PlanError::NoGoidStore { .. })), "{wrong:?}");
}

#[test]
fn the_g_is_followed_through_moves_and_the_stack() {
    let asm = Asm::new().mov(R9, RCX).spill(0x18, R9).store(RCX, PARENT, RDX).store(R9, GOPC, RDX);
    let asm = asm.call("runtime.casgstatus").reload(RBX, 0x18).store(RBX, STARTPC, RDX);
    let asm = asm.call("runtime.casgstatus").reload(RDX, 0x18).store(RDX, GOID, RAX).zero(RDX);
    let asm = asm.call("runtime.casgstatus").reload(RAX, 0x18);
    let at = asm.here();
    assert_site(&asm.nop().ret().done(), at, RAX, "nop");
}

#[test]
fn a_call_is_a_site_but_leaves_no_register() {
    let asm = make(Asm::new(), RCX).mov(RAX, RCX);
    let at = asm.here();
    assert_site(&asm.call("runtime.casgstatus").nop().ret().done(), at, RAX, "call runtime.casgstatus");
}

#[test]
fn write_barriers_keep_registers() {
    let asm = make(Asm::new(), RCX).call("runtime.gcWriteBarrier2");
    let at = asm.here();
    assert_site(&asm.nop().ret().done(), at, RCX, "nop");
    // … but for the one they answer in.
    let asm = make(Asm::new(), 11);
    let at = asm.here();
    assert_site(
        &asm.call("runtime.gcWriteBarrier2").nop().ret().done(),
        at,
        11,
        "call runtime.gcWriteBarrier2",
    );
}

#[test]
fn writing_half_a_register_loses_it() {
    let asm = make(Asm::new(), RCX);
    let at = asm.here();
    assert_site(&asm.nop().zero(RCX).nop().ret().done(), at, RCX, "nop");
    for lose in [&[0xb1, 1][..], &[0x66, 0xb9, 1, 0], &[0x0f, 0x45, 0xca], INC_RCX] {
        // mov cl, 1; mov cx, 1; cmovne ecx, edx; inc rcx
        let asm = make(Asm::new(), RCX).raw(lose).nop();
        let sites = plan(&asm.ret().done()).expect("falls back");
        assert_eq!(sites[0].cost, Cost::SingleStepped, "{lose:x?}");
    }
}

#[test]
fn an_exchange_moves_the_g() {
    let asm = make(Asm::new(), RCX).raw(&[0x48, 0x87, 0xd1]); // xchg rcx, rdx
    let at = asm.here();
    assert_site(&asm.nop().ret().done(), at, RDX, "nop");
}

#[test]
fn only_what_every_path_passes_once_counts() {
    // One arm has a nop, then both meet.
    let asm = make(Asm::new(), RCX).raw(&[0x84, 0xc0]);
    let jne = asm.here();
    let code = asm.jne("meet").nop().label("meet").ret().done();
    assert_site(&code, jne, RCX, "jne");
    // A loop.
    let asm = make(Asm::new(), RCX).label("again").nop().jne("again").mov(RAX, RCX);
    let sites = plan(&asm.ret().done()).expect("a plan");
    assert_eq!((&*sites[0].instruction, sites[0].cost), ("ret", Cost::SingleStepped));
}

#[test]
fn a_register_that_differs_between_paths_is_not_the_g() {
    let asm = make(Asm::new(), RCX).raw(&[0x84, 0xc0]);
    let jne = asm.here();
    let code = asm.jne("meet").zero(RCX).label("meet").nop().ret().done();
    assert_site(&code, jne, RCX, "jne");
    // The same value along two ways is fine.
    let asm = make(Asm::new(), RCX).spill(8, RCX).raw(&[0x84, 0xc0]).jne("keep");
    let asm =
        asm.call("runtime.casgstatus").reload(RAX, 8).jmp("meet").label("keep").mov(RAX, RCX).label("meet");
    let at = asm.here();
    assert_site(&asm.nop().ret().done(), at, RAX, "nop");
}

#[test]
fn throw_and_the_way_back_to_the_entry_are_no_paths() {
    let asm = Asm::new().label("entry").jne("grow");
    let asm = make(asm, RCX).jne("crash");
    let at = asm.here();
    let asm = asm.nop().mov(RAX, RCX).ret();
    // The compiler puts nothing after a call that cannot return, so this falls through.
    let asm = asm.label("crash").call("runtime.throw");
    let asm = asm.label("grow").call("runtime.morestack_noctxt").jmp("entry");
    assert_site(&asm.done(), at, RCX, "nop");
    // Nor where the function that throws is not known: the path ends at the jump to the entry.
    let asm = make(Asm::new().label("entry").jne("grow"), RCX).jne("crash");
    let at = asm.here();
    let asm = asm.nop().mov(RAX, RCX).ret().label("crash").raw(&[0xe8, 0, 0, 0, 0]);
    let code = asm.label("grow").raw(&[0xe8, 0, 0, 0, 0]).jmp("entry").done();
    assert_site(&code, at, RCX, "nop");
}

#[test]
fn overwritten_slots_are_forgotten() {
    let good = make(Asm::new(), RCX).spill(0x18, RCX).call("runtime.casgstatus");
    let at = good.here() + 5;
    assert_site(&good.reload(RAX, 0x18).nop().ret().done(), at, RAX, "nop");
    for lose in [
        &[0xc7, 0x44, 0x24, 0x1c, 0, 0, 0, 0][..], // mov dword [rsp+0x1c], 0
        &[0x44, 0x0f, 0x11, 0x7c, 0x24, 0x10],     // movups [rsp+0x10], xmm15
        &[0x48, 0xc7, 0x04, 0xc4, 0, 0, 0, 0],     // mov qword [rsp+rax*8], 0
        &[0x48, 0x83, 0xec, 8, 0x48, 0x83, 0xc4, 8], // sub rsp, 8; add rsp, 8
        &[0x48, 0x89, 0x45, 0xf8],                 // mov [rbp-8], rax
        &[0x48, 0xff, 0x44, 0x24, 0x18],           // inc qword [rsp+0x18]
        &[0x48, 0x8d, 0x44, 0x24, 0x18],           // lea rax, [rsp+0x18]
    ] {
        let asm = make(Asm::new(), RCX).spill(0x18, RCX).zero(RCX).raw(lose).reload(RAX, 0x18).nop();
        let sites = plan(&asm.ret().done()).expect("falls back");
        assert_eq!(sites[0].cost, Cost::SingleStepped, "{lose:x?}");
    }
}

#[test]
fn without_a_cheap_instruction_every_return_is_a_site() {
    let asm = make(Asm::new(), RCX).raw(INC_RCX).jne("other").ret().label("other").ret();
    let sites = plan(&asm.done()).expect("falls back");
    assert_eq!(sites.len(), 2);
    for site in sites {
        assert_eq!((site.register, site.cost, &*site.instruction), (RAX, Cost::SingleStepped, "ret"));
    }
    let endless = plan(&make(Asm::new(), RCX).raw(INC_RCX).label("x").jmp("x").done());
    assert!(matches!(endless, Err(PlanError::NoSite { .. })), "{endless:?}");
}

#[test]
fn an_inlined_copy_keeps_to_its_own_instructions() {
    let asm = make(Asm::new().nop(), RCX);
    let (inside, asm) = (asm.here(), asm.nop().mov(RAX, RCX));
    let (end, asm) = (asm.here(), asm.nop().nop());
    let code = asm.ret().done();
    let body = |inlined| Body { function: "runtime.newproc.func1", inlined, ..standing_alone(&code) };
    let ranges = [ENTRY + 1..end];
    let sites = creation(&[body(&ranges)], &layout(), &functions, OLD).expect("a plan");
    assert_eq!((sites[0].address, &*sites[0].function), (inside, "runtime.newproc.func1"));
    // Without such an instruction there is no return to fall back to.
    let ranges = [ENTRY + 1..inside];
    let none = creation(&[body(&ranges)], &layout(), &functions, OLD);
    assert!(matches!(none, Err(PlanError::NoSite { .. })), "{none:?}");
}

#[test]
fn two_copies_in_one_function_have_a_site_each() {
    let asm = Asm::new().raw(&[0x84, 0xc0]).jne("second");
    let start = asm.here();
    let asm = make(asm, RCX);
    let (first, asm) = (asm.here(), asm.nop());
    let (middle, asm) = (asm.here() + 5, asm.jmp("end").label("second"));
    let asm = make(asm, RBX);
    let (second, asm) = (asm.here(), asm.nop());
    let end = asm.here();
    let code = asm.label("end").nop().ret().done();
    let (one, two) = ([start..middle], [middle..end]);
    let bodies = [&one, &two].map(|inlined| Body { inlined, ..standing_alone(&code) });
    let sites = creation(&bodies, &layout(), &functions, OLD).expect("a plan");
    let found: Vec<_> = sites.iter().map(|site| (site.address, site.register)).collect();
    assert_eq!(found, [(first, RCX), (second, RBX)]);
}

#[test]
fn what_cannot_be_followed_is_said() {
    let jump_table = make(Asm::new(), RCX).nop().raw(&[0xff, 0xe2]); // jmp rdx
    let code = jump_table.ret().done();
    let sites = plan(&code).expect("falls back to the return");
    assert_eq!(sites[0].cost, Cost::SingleStepped);
    let ranges = [ENTRY..ENTRY + code.len() as u64];
    let inlined = Body { inlined: &ranges, ..standing_alone(&code) };
    let error = creation(&[inlined], &layout(), &functions, OLD);
    assert!(matches!(error, Err(PlanError::IndirectJump { .. })), "{error:?}");

    let middle = [0xeb, 0xff, 0xc0]; // jumps into itself
    assert!(matches!(plan(&middle), Err(PlanError::Undecodable { .. })));
    assert!(matches!(plan(&[0x90]), Err(PlanError::Undecodable { .. })), "runs off its end");
    assert_eq!(plan(&[]), Err(PlanError::NoBody));
    assert_eq!(creation(&[], &layout(), &functions, OLD), Err(PlanError::NoBody));
    assert!(matches!(plan(&vec![0x90; MAX_CODE + 1]), Err(PlanError::TooLarge { .. })));
}

#[test]
fn kernels_differ_in_long_nops() {
    let recent = Kernel::from_version(6, 18);
    assert_eq!(Kernel::from_version(6, 1), OLD);
    let cost = |nop: &[u8], kernel| {
        let code = make(Asm::new(), RCX).raw(nop).mov(RAX, RCX).ret().done();
        let sites = creation(&[standing_alone(&code)], &layout(), &functions, kernel).expect("a plan");
        sites[0].cost
    };
    let nop5 = [0x0f, 0x1f, 0x44, 0, 0];
    assert_eq!(cost(&nop5, recent), Cost::Nop5Optimised);
    assert_eq!(cost(&nop5, OLD), Cost::SingleStepped);
    assert_eq!(cost(&[0x66, 0x90], recent), Cost::Emulated);
    assert_eq!(cost(&[0x66, 0x90], OLD), Cost::SingleStepped);
    assert_eq!(cost(&[0x90], OLD), Cost::Emulated);
    // The call that replaces it must not cross a page.
    let mut code = make(Asm::new(), RCX).mov(RAX, RCX);
    code.code.extend([0xf9].repeat(4094 - code.code.len())); // stc
    let code = code.raw(&nop5).ret().done();
    let sites = creation(&[standing_alone(&code)], &layout(), &functions, recent).expect("a plan");
    assert_eq!((sites[0].cost, sites[0].address % 4096), (Cost::Emulated, 4094));
}

#[test]
fn prefixed_instructions_are_left_alone() {
    for doubtful in [
        &[0x66, 0xe8, 0, 0, 0, 0][..], // callw: refused, and CPUs disagree
        &[0xf2, 0xe9, 0, 0, 0, 0],     // bnd jmp
        &[0x2e, 0x75, 0],              // jne with a hint
        &[0xf3, 0x90],                 // pause
        &[0x66, 0x50],                 // push ax
    ] {
        let code = make(Asm::new(), RCX).raw(doubtful).ret().done();
        let sites = plan(&code).expect("falls back");
        assert_ne!(sites[0].cost, Cost::Emulated, "{doubtful:x?}");
    }
    for emulated in [&[0x50][..], &[0x41, 0x57], &[0x75, 0], &[0xeb, 0]] {
        let asm = make(Asm::new(), RCX);
        let at = asm.here();
        let sites = plan(&asm.raw(emulated).ret().done()).expect("a plan");
        assert_eq!((sites[0].address, sites[0].cost), (at, Cost::Emulated), "{emulated:x?}");
    }
}

#[test]
fn the_exit_is_the_one_call_of_mcall() {
    let exits = |code: &[u8]| exit(&[standing_alone(code)], Purpose::Exit, &functions, OLD);
    let asm = Asm::new().label("entry").jne("grow").call("runtime.casgstatus");
    let at = asm.here();
    let asm = asm.call("runtime.mcall").ret().label("grow").call("runtime.morestack_noctxt").jmp("entry");
    let code = asm.done();
    let sites = exits(&code).expect("a plan");
    assert_eq!(sites.len(), 1);
    assert_eq!((sites[0].address, sites[0].register, sites[0].cost), (at, R14, Cost::Emulated));
    assert_eq!((sites[0].purpose, &*sites[0].instruction), (Purpose::Exit, "call runtime.mcall"));

    let twice = exits(&Asm::new().call("runtime.mcall").call("runtime.mcall").ret().done());
    assert!(matches!(twice, Err(PlanError::Mcall { count: 2, .. })), "{twice:?}");
    let never = exits(&Asm::new().ret().done());
    assert!(matches!(never, Err(PlanError::Mcall { count: 0, .. })), "{never:?}");
    let lost = exits(&Asm::new().zero(R14).call("runtime.mcall").ret().done());
    assert!(matches!(lost, Err(PlanError::NoG { .. })), "{lost:?}");
    let looping = exits(&Asm::new().nop().label("x").call("runtime.mcall").jmp("x").done());
    assert!(matches!(looping, Err(PlanError::NoSite { .. })), "{looping:?}");
    // mov r14, fs:[-8]: how assembly finds g
    let reloaded = Asm::new().raw(&[0x64, 0x4c, 0x8b, 0x34, 0x25, 0xf8, 0xff, 0xff, 0xff]);
    assert!(exits(&reloaded.call("runtime.mcall").ret().done()).is_ok());
}

#[test]
fn a_wrapper_of_the_same_name_is_not_probed() {
    let wrapper = Asm::new().raw(&[0xe8, 0, 0, 0, 0]).ret().done();
    let code = Asm::new().nop().call("runtime.mcall").ret().done();
    let goexit1 = |code| Body { function: "runtime.goexit1", ..standing_alone(code) };
    let bodies = [Body { entry: ENTRY + 0x1000, ..goexit1(&wrapper) }, goexit1(&code)];
    let sites = exit(&bodies, Purpose::Exit, &functions, OLD).expect("a plan");
    assert_eq!(sites.iter().map(|site| site.address).collect::<Vec<_>>(), [ENTRY + 1]);
    let naive = single_stepped_exit(&bodies, Purpose::Exit, &functions, OLD).expect("a plan");
    assert_eq!(naive.iter().map(|site| (site.address, site.register)).collect::<Vec<_>>(), [(ENTRY, R14)]);
}

#[test]
fn the_obvious_creation_sites_are_the_returns() {
    let code = make(Asm::new(), RCX).nop().ret().done();
    let sites = single_stepped_creation(&[standing_alone(&code)], &functions, OLD).expect("a plan");
    assert_eq!((sites.len(), sites[0].register, sites[0].cost), (1, RAX, Cost::SingleStepped));
}
