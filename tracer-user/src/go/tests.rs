//! What is read of real Go programs, compared with what their symbol tables and Go itself say.

#![allow(clippy::unwrap_used)]

mod hostile;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::testing::{FOREIGN, PIE, PLAIN, Program, STRIPPED, STRIPPED_PIE, toolchains};
use super::{Binary, GoError, GoErrorKind, Layout, LayoutSource, pclntab, symbols};
use crate::go::file::image::{Architecture, Image};
use crate::go::functions::header::Header;
use crate::go::plan::{self, Cost, Kernel, Next, Purpose, TestPoint};
use crate::go::probe_sites::{self, Placement};
use crate::go::runtime::dwarf;

/// Each toolchain, for this machine's CPU and for the other one, as environment of `go build`.
fn targets() -> impl Iterator<Item = (&'static str, &'static [(&'static str, &'static str)])> {
    toolchains().into_iter().flat_map(|toolchain| [(toolchain, &[][..]), (toolchain, FOREIGN)])
}

#[test]
fn debug_information_and_table_agree() {
    for (toolchain, cpu) in targets() {
        let program = Program::build_for(toolchain, PLAIN, cpu);
        let layout = dwarf::layout(&program.image()).expect(toolchain).expect(toolchain);
        let binary = program.binary();
        assert_eq!(Some(layout), Layout::measured(binary.build_info()), "{toolchain} {cpu:?}");
        assert_eq!(binary.layout_source(), LayoutSource::Dwarf, "{toolchain} {cpu:?}");
        assert_eq!(*binary.layout(), layout);
        let stripped = Program::build_for(toolchain, STRIPPED, cpu).binary();
        assert_eq!(stripped.layout_source(), LayoutSource::Table);
        assert_eq!(*stripped.layout(), layout);
    }
}

#[test]
fn build_info_is_read() {
    for (toolchain, cpu) in targets() {
        for flags in [PLAIN, STRIPPED_PIE] {
            let binary = Program::build_for(toolchain, flags, cpu).binary();
            assert_eq!(binary.build_info().version_text, toolchain);
            assert_eq!(binary.version().to_string(), toolchain);
            assert_eq!(binary.build_info().module.as_deref(), Some("example.com/goroutines"));
            let goarch = match binary.image().architecture() {
                Architecture::Amd64 => "amd64",
                Architecture::Arm64 => "arm64",
            };
            assert_eq!(binary.build_info().setting("GOARCH"), Some(goarch));
            assert_eq!(cpu.is_empty(), Some(binary.image().architecture()) == Architecture::HOST);
            assert!(binary.build_id().is_some(), "{toolchain} {flags:?}");
            assert_eq!(binary.is_stripped(), flags == STRIPPED_PIE);
        }
    }
}

/// Where the trap is not cheap, a test costs its program many times as much.
#[test]
fn points_of_tests_have_cheap_probes() {
    let source = "package main\n\nimport (\n\t\"os/exec\"\n\t\"regexp\"\n\t\"testing\"\n)\n\n\
        func main() {\n\texec.Command(\"true\").Run()\n\ttesting.Main(regexp.MatchString, nil, nil, nil)\n}\n";
    for (toolchain, cpu) in targets() {
        for flags in [PLAIN, STRIPPED_PIE] {
            let binary = Program::build_source(toolchain, source, flags, cpu).binary();
            assert!(binary.is_test());
            let sites = probe_sites::of(&binary, Kernel::from_version(6, 1), Placement::Cheapest).unwrap();
            let of_tests = sites.iter().filter_map(|site| match site.purpose {
                Purpose::Test(point) => Some((point, site)),
                _ => None,
            });
            let (points, sites): (Vec<_>, Vec<_>) = of_tests.unzip();
            assert_eq!(points, TestPoint::FUNCTIONS.map(|(_, point)| point), "{toolchain} {cpu:?}");
            for site in sites {
                assert_eq!(site.cost, Cost::Emulated, "{toolchain} {cpu:?}: {site:#x?}");
                let function = binary.function_at(site.address).unwrap();
                assert!(site.address - function.entry < 32, "{toolchain} {cpu:?}: {site:#x?} {function:#x?}");
            }
        }
    }
}

#[test]
fn functions_are_those_of_the_symbol_table() {
    for (toolchain, cpu) in targets() {
        let binary = Program::build_for(toolchain, PLAIN, cpu).binary();
        let text = binary.text_range();
        let mut compared = 0;
        for (symbol, address) in symbols::all(binary.image()) {
            let symbol = symbol.strip_suffix(b".abi0").unwrap_or(symbol);
            let marker = [&b"runtime.text"[..], b"runtime.etext"].contains(&symbol);
            if !text.contains(&address) || marker {
                continue;
            }
            // Some versions write a middle dot into one of the two tables.
            let name = pclntab::printed(symbol).replace('·', ".");
            let function = binary.function_at(address).unwrap_or_else(|| panic!("{toolchain}: {name}"));
            assert_eq!((function.entry, function.name.replace('·', ".")), (address, name), "{toolchain}");
            compared += 1;
        }
        assert!(compared > 1000, "{toolchain}: {compared}");
    }
}

#[test]
fn the_list_of_goroutines_is_found_without_symbols() {
    for (toolchain, cpu) in targets() {
        for (flags, stripped) in [(PLAIN, STRIPPED), (PIE, STRIPPED_PIE)] {
            let binary = Program::build_for(toolchain, flags, cpu).binary();
            let names = ["runtime.allgptr", "runtime.allglen"];
            let [allgptr, allglen] = symbols::addresses(binary.image(), names).map(Option::unwrap);
            let found = binary.globals_from_code().unwrap();
            assert_eq!((found.allgptr, found.allglen), (allgptr, allglen), "{toolchain} {cpu:?} {flags:?}");
            Program::build_for(toolchain, stripped, cpu).binary().globals().unwrap();
        }
    }
}

#[test]
fn inlined_copies_are_found() {
    for (toolchain, cpu) in targets() {
        let binary = Program::build_for(toolchain, STRIPPED, cpu).binary();
        assert!(
            binary.functions_named("main.inner").is_empty()
                || !binary.inlined_into("main.inner").unwrap().is_empty()
        );
        let copies = binary.inlined_into("main.inner").unwrap();
        assert!(!copies.is_empty(), "{toolchain}");
        for copy in copies {
            for range in copy.ranges {
                assert!(copy.into.entry <= range.start && range.end <= copy.into.end);
                for pc in range {
                    let frames = binary.frames_at(pc);
                    let at = frames.iter().position(|frame| frame.function == "main.inner").expect(toolchain);
                    assert!(frames[at].inlined && !frames.last().unwrap().inlined);
                    assert_eq!(frames.last().unwrap().function, copy.into.name);
                }
            }
        }
    }
}

#[test]
fn go_statements_and_what_they_start_are_named() {
    let source: Vec<&str> = include_str!("testdata/goroutines.go").lines().collect();
    for (toolchain, cpu) in targets() {
        let binary = Program::build_for(toolchain, STRIPPED_PIE, cpu).binary();
        let newproc = binary.functions_named("runtime.newproc")[0].entry;
        let mut lines = Vec::new();
        for name in ["main.main", "main.spawn", "main.main.func1", "main.main.func2"] {
            let Some(function) = binary.functions_named(name).pop() else { continue };
            let code = binary.code(function.entry..function.end);
            let (cpu, kernel) = (binary.image().architecture(), Kernel::default());
            for step in plan::decode(cpu, function.entry, code, &|_| None, kernel) {
                if step.next == Next::Call(Some(newproc)) {
                    let statement = binary.go_statement(step.address + step.size).unwrap();
                    assert_eq!(statement.function, name);
                    lines.push(statement.line as usize);
                }
            }
        }
        lines.sort_unstable();
        let is_go = |line: &&str| line.trim_start().starts_with("go ");
        let expected: Vec<usize> =
            (1..).zip(&source).filter(|(_, line)| is_go(line)).map(|(line, _)| line).collect();
        assert_eq!(lines, expected, "{toolchain} {cpu:?}");

        let entry = |name: &str| binary.functions_named(name)[0].entry;
        // What `go s.serve(80)` makes calls what it is to run.
        let wrapper = if toolchain < "go1.22" { "main.main.func1" } else { "main.main.gowrap1" };
        let named = binary.entry_function(entry(wrapper)).unwrap();
        assert!(named.function.starts_with("main.") && !named.function.contains("wrap"), "{named:?}");
        assert!(binary.is_system(entry("runtime.forcegchelper")) && !binary.is_system(entry("runtime.main")));
    }
}

#[test]
fn a_program_for_another_cpu_is_refused_and_still_understood() {
    let toolchain = toolchains()[0];
    let program = Program::build_for(toolchain, PLAIN, FOREIGN);
    let file = std::fs::File::open(&program.path).unwrap();
    let error = Binary::open(&file, &program.path).map(|_| ()).unwrap_err();
    assert!(matches!(error.kind, GoErrorKind::OtherArchitecture { .. }), "{error}");
    let binary = program.binary();
    assert_eq!(Some(*binary.layout()), Layout::measured(binary.build_info()));
    assert_eq!(binary.functions_named("runtime.newproc1").len(), 1);

    let program = Program::build_for(toolchain, PLAIN, &[("GOARCH", "386"), ("CGO_ENABLED", "0")]);
    let file = std::fs::File::open(&program.path).unwrap();
    let error = Binary::open(&file, &program.path).map(|_| ()).unwrap_err();
    assert!(matches!(error.kind, GoErrorKind::Bits32), "{error}");
}

#[test]
fn what_is_no_go_program_is_refused_with_the_reason() {
    let open = |path: &str| {
        let file = std::fs::File::open(path).unwrap();
        Binary::open(&file, path.as_ref()).map(|_| ()).unwrap_err()
    };
    assert!(matches!(open("/bin/ls").kind, GoErrorKind::NotGo), "{}", open("/bin/ls"));
    assert!(matches!(open("/etc/passwd").kind, GoErrorKind::NotElf));
    assert!(matches!(open("/dev/null").kind, GoErrorKind::NotElf));
    assert!(matches!(open("/").kind, GoErrorKind::NotElf));
    assert_eq!(open("/etc/passwd").to_string(), "cannot trace /etc/passwd: not an ELF file");
}

/// Everything that golife asks of a program.
fn exercise(data: &[u8]) -> Result<(), GoError> {
    let binary = Binary::from_image(Image::from_bytes(data, "damaged".as_ref())?)?;
    for name in ["runtime.newproc1", "runtime.goexit1"] {
        for function in binary.functions_named(name) {
            let _ = binary.code(function.entry..function.end);
            let _ = (binary.frames_at(function.entry + 40), binary.go_statement(function.end));
        }
    }
    let _ = binary.inlined_into("runtime.goexit1");
    for function in binary.functions_named("main.main") {
        for pc in (function.entry..function.end).step_by(16).take(100) {
            let _ = (binary.frames_at(pc), binary.entry_function(pc), binary.vaddr_to_file_offset(pc));
        }
    }
    let _ = binary.globals();
    Ok(())
}

#[test]
fn damaged_programs_cost_a_message() {
    let program = Program::build(toolchains()[0], STRIPPED_PIE);
    let good = std::fs::read(&program.path).unwrap();
    exercise(&good).unwrap();
    let start = Instant::now();

    for step in 0..150 {
        let error = exercise(&good[..good.len() * step / 150]).unwrap_err();
        let expected = matches!(error.kind, GoErrorKind::NotElf | GoErrorKind::Truncated { .. });
        assert!(expected, "cut at {step}/150: {error}");
    }

    // xorshift, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let image = program.image();
    let binary = program.binary();
    let at = |vaddr| binary.vaddr_to_file_offset(vaddr).unwrap() as usize;
    let table = image.section(".data.rel.ro.gopclntab").unwrap().file.clone();
    let places = [
        0..4096,
        at(binary.module_data().vaddr)..at(binary.module_data().vaddr) + 352,
        image.section(".go.buildinfo").unwrap().file.clone(),
        image.section(".dynamic").unwrap().file.clone(),
        image.section(".rela").unwrap().file.clone(),
        table.clone(),
        table.start..table.start + 80,
        0..good.len(),
    ];
    let mut refused = HashSet::new();
    for _ in 0..400 {
        let mut bad = good.clone();
        for _ in 0..1 + random(4) {
            let place = &places[random(places.len())];
            bad[place.start + random(place.len())] ^= 1 << random(8);
        }
        if let Err(error) = exercise(&bad) {
            refused.insert(std::mem::discriminant(&error.kind));
        }
    }
    assert!(refused.len() > 2, "few of the damages were noticed");
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}
