//! Real Go programs for tests, built on the spot.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::binary::Binary;
use crate::go::file::image::{Architecture, Image};
use crate::go::runtime::releases::RELEASES;

/// The oldest toolchain that golife supports.
pub(crate) const OLDEST: &str = RELEASES[0];
/// The newest toolchain that golife knows.
pub(crate) const NEWEST: &str = RELEASES[RELEASES.len() - 1];

/// The toolchains to build with: the oldest and the newest, or with `GOLIFE_GO_VERSIONS=all` in the environment all of
/// them.
pub(crate) fn toolchains() -> Vec<&'static str> {
    if std::env::var("GOLIFE_GO_VERSIONS").is_ok_and(|versions| versions == "all") {
        return RELEASES.to_vec();
    }
    vec![OLDEST, NEWEST]
}

/// Environment for [`Program::build_for`] that makes a program for the other CPU that golife knows.
pub(crate) const FOREIGN: &[(&str, &str)] =
    &[("GOARCH", if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" }), ("CGO_ENABLED", "0")];

/// Ways to link, as flags of `go build`.
pub(crate) const PLAIN: &[&str] = &[];
pub(crate) const STRIPPED: &[&str] = &["-ldflags=-s -w"];
pub(crate) const PIE: &[&str] = &["-buildmode=pie"];
pub(crate) const STRIPPED_PIE: &[&str] = &["-buildmode=pie", "-ldflags=-s -w"];

/// A Go executable that is deleted when this is dropped.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

impl Program {
    /// Builds `testdata/goroutines.go`.
    pub(crate) fn build(toolchain: &str, flags: &[&str]) -> Program {
        Program::build_for(toolchain, flags, &[])
    }

    pub(crate) fn build_for(toolchain: &str, flags: &[&str], environment: &[(&str, &str)]) -> Program {
        Program::build_source(toolchain, include_str!("testdata/goroutines.go"), flags, environment)
    }

    /// Builds a program of one file.
    pub(crate) fn build_source(
        toolchain: &str,
        source: &str,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Program {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("go.mod"), "module example.com/goroutines\n\ngo 1.18\n")
            .unwrap();
        std::fs::write(directory.path().join("main.go"), source).unwrap();
        let path = directory.path().join("program");
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&path)
            .args(flags)
            .current_dir(directory.path())
            .envs([("GOFLAGS", ""), ("GOWORK", "off"), ("GOTOOLCHAIN", toolchain)])
            .envs(environment.iter().copied())
            .output()
            .expect("these tests need Go: install it and have `go` in PATH");
        assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
        Program { path, _directory: directory }
    }

    pub(crate) fn image(&self) -> Image {
        Image::open(&File::open(&self.path).unwrap(), &self.path).unwrap()
    }

    pub(crate) fn binary(&self) -> Binary {
        Binary::from_image(self.image()).unwrap()
    }

    /// Starts it, in emulation where it is for another CPU, and waits until all its goroutines are blocked.
    pub(crate) fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// As [`Program::start`], with more variables in its environment.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Running {
        let architecture = self.image().architecture();
        let mut command = if Some(architecture) == Architecture::HOST {
            Command::new(&self.path)
        } else {
            let mut emulator = Command::new(emulator(architecture));
            emulator.arg(&self.path);
            emulator
        };
        let mut child = command
            .env("GOTRACEBACK", "all")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Running { child }
    }
}

/// QEMU's emulation of programs of another CPU. It maps the program where the program's own addresses say, so that the
/// emulator's memory can be read as if it were the program's.
fn emulator(architecture: Architecture) -> String {
    let name = format!("qemu-{}", architecture.name());
    let found = [format!("{name}-static"), name].into_iter().find(|name| {
        let asked = Command::new(name).arg("--version").stdout(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    });
    found.expect(
        "this test runs a program of another CPU: install qemu-user-static, as `cargo xtask test` does",
    )
}

/// A running program, killed when this is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// How far it is loaded above its link-time addresses.
    pub(crate) fn load_bias(&self, program: &Program, image: &Image) -> u64 {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap();
        let first = maps.lines().find(|line| line.ends_with(program.path.to_str().unwrap())).unwrap();
        let words: Vec<&str> = first.split_whitespace().collect();
        let address = u64::from_str_radix(words[0].split('-').next().unwrap(), 16).unwrap();
        image.load_bias(address, u64::from_str_radix(words[2], 16).unwrap()).unwrap()
    }

    /// Ends it with SIGQUIT, upon which Go prints the stacks of the program's goroutines.
    pub(crate) fn traceback(mut self) -> Vec<Traced> {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), nix::sys::signal::SIGQUIT).unwrap();
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text.split("\n\n").filter_map(Traced::parse).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of a traceback and the next: `main.f(0x1)`, `\t/src/main.go:12 +0x1d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TracedFrame {
    pub(crate) function: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    /// Offset of the return address from the function's entry; none for inlined calls.
    pub(crate) offset: Option<u64>,
}

/// One goroutine of a traceback.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) goid: u64,
    pub(crate) reason: String,
    pub(crate) frames: Vec<TracedFrame>,
    pub(crate) created_by: Option<TracedFrame>,
}

impl Traced {
    fn parse(text: &str) -> Option<Traced> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("goroutine "));
        let (goid, reason) = lines.next()?.strip_prefix("goroutine ")?.split_once(' ')?;
        // Since Go 1.23 `goroutine 1 gp=0xc000002380 m=nil [chan receive]:` in some modes.
        let reason = reason.split_once('[')?.1.split([',', ']']).next()?.to_owned();
        let mut traced = Traced { goid: goid.parse().ok()?, reason, frames: Vec::new(), created_by: None };
        while let (Some(call), Some(place)) = (lines.next(), lines.next()) {
            let Some((place, offset)) = place.trim_start().rsplit_once(':').map(|(file, rest)| {
                let (line, offset) = rest.split_once(" +0x").map_or((rest, None), |(l, o)| (l, Some(o)));
                ((file, line), offset)
            }) else {
                break;
            };
            let mut frame = TracedFrame {
                function: String::new(),
                file: place.0.into(),
                line: place.1.parse().ok()?,
                offset: offset.and_then(|offset| u64::from_str_radix(offset.split(' ').next()?, 16).ok()),
            };
            if let Some(creator) = call.strip_prefix("created by ") {
                frame.function = creator.split(" in goroutine").next()?.into();
                traced.created_by = Some(frame);
            } else {
                frame.function = call.rsplit_once('(')?.0.into();
                traced.frames.push(frame);
            }
        }
        Some(traced)
    }
}
