//! Programs: ELF files with damaged headers, sections and function tables.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use golife::targets::Binaries;
use object::{Object, ObjectSection};

use super::driver::{Target, fuzz};

/// Builds a Go program with these arguments of `go build`.
pub fn build(fixture: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{fixture}-{name}"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(fixture);
    let mut go = Command::new("go");
    go.arg("build").args(arguments).arg("-o").arg(&out).arg(".").current_dir(source);
    assert!(go.env("CGO_ENABLED", "0").env("GOFLAGS", "").status().unwrap().success());
    out
}

/// Where what is read of a file begins: its headers, and the first bytes of each section. What the function table refers
/// to is all through its section.
fn hot(bytes: &[u8]) -> Vec<Range<usize>> {
    let file = object::File::parse(bytes).unwrap();
    let sections = bytes.len() - 64 * (file.sections().count() + 1);
    let mut hot = vec![0..64, 64..64 + 56 * 16, sections.min(bytes.len() - 1)..bytes.len()];
    for section in file.sections() {
        if let Some((start, size)) = section.file_range().filter(|(_, size)| *size > 0) {
            let start = start as usize;
            let first = if section.name() == Ok(".gopclntab") { size } else { size.min(256) };
            hot.extend([start..start + size.min(256) as usize, start..start + first as usize]);
        }
    }
    hot
}

#[test]
fn programs() {
    let ways: [(&str, &[&str]); 3] =
        [("stripped", &["-ldflags=-s -w"]), ("dwarf", &[]), ("pie", &["-buildmode=pie", "-ldflags=-s -w"])];
    let seeds: Vec<Vec<u8>> =
        ways.iter().map(|(name, arguments)| fs::read(build("tiny", name, arguments)).unwrap()).collect();
    let hot = seeds.iter().map(|seed| hot(seed)).collect();
    let run = |input: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input).unwrap();
        let Ok(planned) = Binaries::default().plan(file, Path::new("damaged")) else { return };
        let binary = &planned.binary;
        let text = binary.text_range();
        let step = (text.end.saturating_sub(text.start) / 200).max(1) as usize;
        for pc in text.step_by(step).take(200) {
            let _ = (binary.frames_at(pc), binary.go_statement(pc), binary.is_system(pc));
        }
        let _ = binary.globals();
    };
    fuzz(&Target { name: "programs", seeds, hot, run: &run });
}
