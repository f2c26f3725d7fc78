//! `cargo xtask tidy`: checks what no compiler checks.

mod breach;
mod circles;
mod code;
mod conduct;
mod contract;
mod floors;
mod house;
mod imports;

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};
use breach::Breach;
use clap::CommandFactory;
use house::House;

use crate::machine::{self, output, say};

/// Most lines of a Rust file. A longer one is to be split by noun.
const MOST_LINES: usize = 600;

/// What must not be committed. Each is written in two parts, so that this file does not contain what it looks for.
const FORBIDDEN: [(&str, &str); 8] = [
    ("dbg", "!("),
    ("todo", "!("),
    ("unimplemented", "!("),
    ("<<<", "<<<< "),
    (">>>", ">>>> "),
    ("/wo", "rk/"),
    ("/tm", "p/wt"),
    ("/ro", "ot/."),
];

const MUST_EXIST: [&str; 5] =
    ["LICENSE-MIT", "LICENSE-APACHE", "LICENSE-GPL-2.0", "CHANGELOG.md", "README.md"];

/// What `tidy` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// First write what is made from the code: the table of floors in ARCHITECTURE.md, the schemas of documents
    #[arg(long)]
    write: bool,
}

/// Checks every file that is in the repository.
pub fn run(args: Args) -> Result<()> {
    let root = machine::root();
    let listed = output(Command::new("git").arg("-C").arg(&root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut faults = Vec::new();
    let mut texts = Vec::new();
    for name in MUST_EXIST.iter().filter(|name| !root.join(name).is_file()) {
        faults.push(format!("{name}: missing"));
    }
    for name in listed.lines().filter(|name| root.join(name).is_file()) {
        let bytes = fs::read(root.join(name)).with_context(|| format!("cannot read {name}"))?;
        // Files that are no text, such as objects and recorded events, are not checked.
        if let Ok(text) = String::from_utf8(bytes) {
            check(name, &text, &mut faults);
            texts.push((name.to_owned(), text));
        }
    }
    floors::check_document(args.write, &mut faults);
    contract::check(args.write, &mut faults)?;
    faults.extend(breach::faults(&breaches(&texts), breach::KNOWN));
    if !faults.is_empty() {
        bail!("not tidy:\n  {}", faults.join("\n  "));
    }
    say("tidy");
    Ok(())
}

/// Finds what breaks the rules of golife's house. `files` are all files, each with its path from the repository's root
/// and its text.
fn breaches(files: &[(String, String)]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let house = House::of(files, &mut breaches);
    floors::check(&house, &mut breaches);
    circles::check(&house, &mut breaches);
    conduct::check(&house, &mut breaches);
    breaches.sort_by(|a, b| (&a.file, a.line, &a.what).cmp(&(&b.file, b.line, &b.what)));
    breaches
}

/// Adds what is wrong with one file.
fn check(name: &str, text: &str, faults: &mut Vec<String>) {
    let is_rust = name.ends_with(".rs");
    let is_prose = name.ends_with(".md");
    if is_rust && !text.starts_with("//!") {
        faults.push(format!("{name}: does not begin with a `//!` that says why it exists"));
    }
    if is_rust && text.lines().count() > MOST_LINES {
        faults.push(format!(
            "{name}: {} lines, more than {MOST_LINES}: split it by noun",
            text.lines().count()
        ));
    }
    let ours = is_rust || is_prose || name.ends_with(".toml") || name.ends_with(".go");
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        let mut fault = |what: &str| faults.push(format!("{name}:{}: {what}", index + 1));
        if !ours {
            continue;
        }
        if line != line.trim_end() {
            fault("white space at the end");
        }
        if line.contains('\t') && !name.ends_with(".go") {
            fault("a tab");
        }
        for (head, tail) in FORBIDDEN {
            if line.contains(&format!("{head}{tail}")) {
                fault(&format!("`{head}{tail}` must not be committed"));
            }
        }
        if is_prose && line.starts_with("```") {
            in_code = !in_code;
        } else if in_code && let Some(command) = unknown_command(line) {
            fault(&format!("`cargo xtask {command}` does not exist"));
        }
    }
}

/// The xtask command that a line of an example uses, if there is no command of that name.
fn unknown_command(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("cargo xtask ")?;
    let command = rest.split_whitespace().next()?;
    let known = crate::Args::command().get_subcommands().any(|known| known.get_name() == command);
    (!known && !command.starts_with('-')).then_some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check(name, text, &mut faults);
        faults
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        assert_eq!(faults("a.rs", "//! Why.\nfn a() {}\n"), [""; 0]);
        assert_eq!(faults("a.rs", "#![no_std]\n//! Why.\n").len(), 1, "the header comes first");
        assert!(faults("a.rs", "fn a() {}\n")[0].starts_with("a.rs: does not begin"));
        assert_eq!(faults("a.rs", "//! Why.\n\tx \n"), ["a.rs:2: white space at the end", "a.rs:2: a tab"]);
        assert!(faults("a.rs", &format!("//! Why.\ntodo{}", "!()"))[0].starts_with("a.rs:2: `todo"));
        assert!(faults("a.rs", &"//! Why.\n".repeat(601))[0].contains("601 lines"));
    }

    #[test]
    fn commands_in_examples_must_exist() {
        assert_eq!(faults("a.md", "cargo xtask fly\n"), [""; 0]);
        assert_eq!(faults("a.md", "```\ncargo xtask test x\n```\n"), [""; 0]);
        assert_eq!(
            faults("a.md", "```\ncargo xtask fly\n```\n"),
            ["a.md:2: `cargo xtask fly` does not exist"]
        );
    }
}
