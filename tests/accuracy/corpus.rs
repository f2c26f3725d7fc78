//! The corpus of leaks as its programs describe it: cases, marked lines, how it is built. Programs with libraries
//! describe themselves alike.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A case of the corpus, as a line of `corpus -list` describes it.
pub struct Case {
    pub name: String,
    pub cause: String,
    pub level: String,
    /// The function of a library that makes the goroutine; `None` if the corpus makes it itself.
    pub within: Option<String>,
    /// A function whose goroutines pile up as a consequence of the leak.
    pub also: Option<String>,
    /// What the advice must say.
    pub advice: Option<String>,
    pub alone: bool,
}

impl Case {
    /// All cases of a program of the corpus, leaks and healthy ones.
    pub fn all(binary: &Path) -> Vec<Case> {
        let list = Command::new(binary).arg("-list").output().unwrap();
        String::from_utf8(list.stdout).unwrap().lines().map(Case::parse).collect()
    }

    fn parse(line: &str) -> Case {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| case[field].as_str().map(str::to_owned);
        Case {
            name: text("name").unwrap(),
            cause: text("cause").unwrap(),
            level: text("level").unwrap(),
            within: text("within"),
            also: text("also"),
            advice: text("advice"),
            alone: case["alone"] == true,
        }
    }

    pub fn leaks(&self) -> bool {
        self.level != "healthy"
    }
}

/// The programs that make up the corpus.
pub const PROGRAMS: [&str; 2] = ["corpus", "modules"];

fn directory(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(program)
}

/// Builds a program of the corpus with its C code. `GOLIFE_ACCURACY_GO` may name another toolchain; `None` if that one
/// is too old for the program's modules.
pub fn build(program: &str) -> Option<PathBuf> {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
    let mut go = Command::new("go");
    go.args(["build", "-buildvcs=false", "-o"]).arg(&binary).arg(".").current_dir(directory(program));
    if let Some(toolchain) = std::env::var_os("GOLIFE_ACCURACY_GO") {
        go.env("GOTOOLCHAIN", toolchain);
    }
    let output = go.env("CGO_ENABLED", "1").output().expect("cannot run go: `cargo xtask test` installs it");
    let errors = String::from_utf8_lossy(&output.stderr);
    if std::env::var_os("GOLIFE_ACCURACY_GO").is_some() && errors.contains("requires go >=") {
        println!("NOT JUDGED: {program}: {errors}");
        return None;
    }
    assert!(output.status.success(), "cannot compile {program}: {errors}");
    Some(binary)
}

/// For each name, the files and line numbers of the lines that are marked with `// KIND: NAME`.
pub type Marks = BTreeMap<String, Vec<(String, u64)>>;

/// The marks of the corpus.
pub fn marked(kind: &str) -> Marks {
    marked_in(&PROGRAMS.map(directory), kind)
}

/// The marks of programs with these directories.
pub fn marked_in(directories: &[PathBuf], kind: &str) -> Marks {
    let mut found = Marks::new();
    let entries = directories.iter().flat_map(|directory| {
        let program = directory.file_name().unwrap().to_string_lossy().into_owned();
        fs::read_dir(directory).unwrap().map(move |entry| (program.clone(), entry.unwrap().path()))
    });
    for (program, path) in entries.filter(|(_, path)| path.extension().is_some_and(|kind| kind == "go")) {
        let file = format!("/{program}/{}", path.file_name().unwrap().to_string_lossy());
        for (at, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if let Some((_, name)) = line.split_once(&format!("// {kind}: ")) {
                found.entry(name.trim().into()).or_default().push((file.clone(), at as u64 + 1));
            }
        }
    }
    found
}
