//! Checks that golife says what went wrong: what failed, on what, why, and what to do, with the exit code of the
//! contract.

use crate::support::*;
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Exit code if nothing could be traced.
const NOTHING: i32 = 4;
/// Exit code of wrong usage.
const USAGE: i32 = 2;
/// Exit code of every other failure.
const FAILED: i32 = 1;

#[test]
fn no_such_process() {
    run(&["trace", "--pid", "999999999", "--for", "1s"])
        .expect_error(NOTHING, &["999999999", "no such process"]);
}

#[test]
fn no_target_at_all() {
    run(&["trace"]).expect_error(USAGE, &["--pid"]);
}

#[test]
fn an_unknown_option() {
    run(&["trace", "--pdi", "1"]).expect_error(USAGE, &["--pdi"]);
}

#[test]
fn no_process_of_that_name() {
    need_root();
    run(&["trace", "--name", "^no-such-program-anywhere$", "--for", "1s"])
        .expect_error(NOTHING, &["no-such-program"]);
}

#[test]
fn a_pattern_that_is_none() {
    run(&["trace", "--name", "(", "--for", "1s"]).expect_error(USAGE, &["("]);
}

#[test]
fn a_file_of_patterns_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("team.toml");
    let name = file.to_str().unwrap();
    // The program of `golife run` must not have been started.
    let started = directory.path().join("started");
    let on_every_command = |wanted: &str| {
        for command in ["trace", "leaks", "hist", "sweep"] {
            run(&[command, "--pid", "1", "--patterns", name]).expect_error(USAGE, &[wanted]);
        }
        run(&["run", "--patterns", name, "--", "touch", started.to_str().unwrap()])
            .expect_error(USAGE, &[wanted]);
        assert!(!started.exists());
    };
    on_every_command("No such file");
    fs::write(&file, "\n[[pattern]]\nfunction = 'f'\ncause = 'gone'\nadvice = 'a'\n").unwrap();
    on_every_command("team.toml:4: no such cause: gone");
}

#[test]
fn no_such_binary() {
    need_root();
    run(&["trace", "--exe", "/no/such/file", "--for", "1s"])
        .expect_error(NOTHING, &["/no/such/file", "no such file"]);
}

#[test]
fn not_a_go_program() {
    need_root();
    let sleep = Running::start(Command::new("sleep").arg("60"));
    let pid = sleep.pid().to_string();
    // On some systems several programs are one file, so its name is not that of the program. The kernel wakes the
    // parent of a process a moment before the process has its new image, so this waits for that.
    let exe = || fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let ours = fs::read_link("/proc/self/exe").unwrap();
    eventually("sleep is executed", || exe() != ours);
    let exe = exe();
    run(&["trace", "--pid", &pid, "--for", "1s"])
        .expect_error(NOTHING, &[exe.to_str().unwrap(), "not a Go program"]);
}

#[test]
fn not_an_elf_file() {
    need_root();
    let (_directory, path) = broken("text", |file| file.set_len(0).unwrap());
    fs::write(&path, "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    let path = path.to_str().unwrap();
    run(&["trace", "--exe", path, "--for", "1s"]).expect_error(NOTHING, &[path, "ELF"]);
}

/// A changed copy of a Go binary.
fn broken(name: &str, change: impl FnOnce(&mut fs::File)) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::copy(fixture("tiny", Build::default()), &path).unwrap();
    change(&mut fs::OpenOptions::new().write(true).open(&path).unwrap());
    (directory, path)
}

/// Traces a binary that is not running, and expects these words and the path in the error.
#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let path = path.to_str().unwrap();
    let mut all = vec![path];
    all.extend(words);
    run(&["trace", "--exe", path, "--for", "1s"]).expect_error(NOTHING, &all);
}

#[test]
fn truncated_elf() {
    need_root();
    let (_directory, path) = broken("truncated", |file| file.set_len(5000).unwrap());
    refused(&path, &[]);
    let (_directory, path) = broken("empty", |file| file.set_len(0).unwrap());
    refused(&path, &[]);
}

#[test]
fn elf_of_another_width_or_architecture() {
    need_root();
    let (_directory, path) = broken("width", |file| {
        file.seek(SeekFrom::Start(4)).unwrap();
        file.write_all(&[1]).unwrap();
    });
    refused(&path, &["32-bit"]);
    let (machine, name) = if cfg!(target_arch = "x86_64") { (183u16, "aarch64") } else { (62, "x86_64") };
    let (_directory, path) = broken("architecture", |file| {
        file.seek(SeekFrom::Start(18)).unwrap();
        file.write_all(&machine.to_le_bytes()).unwrap();
    });
    refused(&path, &[name]);
}

#[test]
fn a_real_32_bit_go_program() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("main.go");
    fs::write(&source, "package main\nfunc main() { select {} }\n").unwrap();
    let binary = directory.path().join("i386");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).args([&binary, &source]).env("GOARCH", "386").env("CGO_ENABLED", "0");
    assert!(go.status().unwrap().success());
    refused(&binary, &["32-bit"]);
}

/// Runs golife as a user without any capability.
pub fn as_nobody(args: &[&str]) -> Ended {
    with_capabilities("-all", args)
}

/// Runs golife as a user who has only these capabilities (`+bpf,+perfmon`).
fn with_capabilities(capabilities: &str, args: &[&str]) -> Ended {
    // The test's own directories may be closed to others, so a copy is run.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("golife");
    fs::copy(env!("CARGO_BIN_EXE_golife"), &copy).unwrap();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for set in ["inh-caps", "ambient-caps", "bounding-set"] {
        setpriv.arg(format!("--{set}=-all,{capabilities}"));
    }
    let mut golife = Running::start(setpriv.arg(copy).args(args).current_dir("/"));
    golife.close_stdin();
    golife.wait()
}

#[test]
fn without_permission() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    as_nobody(&["trace", "--pid", &pid, "--for", "1s"]).expect_error(NOTHING, &["permi", "root", "CAP_"]);
}

/// The capability that is also needed where maps count as locked memory.
fn for_locked_memory() -> &'static str {
    let limited = golife::host::kernel::running() < golife::host::kernel::UNLIMITED_SINCE;
    if limited { ",+sys_resource" } else { "" }
}

#[test]
fn the_missing_capability_is_named() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    let trace = ["trace", "--pid", &pid, "--for", "300ms"];
    let run = ["run", "--", "/bin/true"];
    let ptrace = "run as root or grant CAP_SYS_PTRACE";
    let also = for_locked_memory();
    for (capabilities, arguments, missing) in [
        ("+bpf,+sys_ptrace", &trace[..], "CAP_PERFMON"),
        ("+perfmon,+sys_ptrace", &trace, "CAP_BPF"),
        ("+sys_admin", &trace, ptrace),
        ("+sys_admin,+sys_ptrace", &run, "run as root or grant CAP_DAC_READ_SEARCH"),
    ] {
        let capabilities = format!("{capabilities}{also}");
        with_capabilities(&capabilities, arguments).expect_error(NOTHING, &["permission denied", missing]);
    }
    let enough = "+sys_admin,+dac_read_search,+sys_ptrace";
    if !also.is_empty() {
        with_capabilities(enough, &trace).expect_error(NOTHING, &["run as root or grant CAP_SYS_RESOURCE"]);
    }
    let ended = with_capabilities(&format!("{enough}{also}"), &trace);
    assert_eq!(ended.status.code(), Some(0), "these are enough: {ended:?}");
}

/// Where golife is root already, that it should be is no help.
#[test]
fn root_without_a_capability_is_not_told_to_be_root() {
    need_root();
    let refused = |args: &[&str]| {
        let mut setpriv = Command::new("setpriv");
        setpriv.arg("--bounding-set=-sys_ptrace").arg(env!("CARGO_BIN_EXE_golife")).args(args);
        let mut golife = Running::start(&mut setpriv);
        golife.close_stdin();
        golife.wait()
    };
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    for args in [&["leaks", "--for", "300ms", "--pid", &pid][..], &["sweep", "--name", "^tiny$"]] {
        let ended = refused(args);
        ended.expect_error(NOTHING, &["permission denied; this root lacks CAP_SYS_PTRACE"]);
        assert!(!ended.stderr.contains("run as root"), "{ended:?}");
    }
}

#[test]
fn processes_that_cannot_be_looked_at_are_counted() {
    need_root();
    let _fixture = ready(&fixture("tiny", Build::default()), &[]);
    let find = ["trace", "--name", "^no-such-program-anywhere$", "--for", "300ms"];
    with_capabilities(&format!("+sys_admin,+dac_read_search{}", for_locked_memory()), &find)
        .expect_error(NOTHING, &["cannot look at", "processes: permission denied", "CAP_SYS_PTRACE"]);
}

#[test]
fn doctor_without_permission_names_each_capability() {
    need_root();
    let ended = as_nobody(&["doctor"]);
    assert_eq!(ended.status.code(), Some(FAILED), "{ended:?}");
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"] {
        assert!(ended.stdout.contains(capability), "{capability} in {ended:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    // This must be said at the start, not after a long trace.
    run(&["trace", "--pid", &pid, "--for", "30s", "--output", "/no/such/directory/report"])
        .expect_error(FAILED, &["/no/such/directory/report", "no such file or directory"]);
}

#[test]
fn run_of_a_program_that_does_not_exist() {
    need_root();
    let ended = run(&["run", "--", "/no/such/program"]);
    assert!(matches!(ended.status.code(), Some(NOTHING | 127)), "{ended:?}");
    assert!(ended.stderr.contains("/no/such/program"), "{ended:?}");
}

#[test]
fn run_of_a_program_that_is_no_go_program() {
    need_root();
    let line = "tracing what /bin/true starts (it is no Go program itself)";
    run(&["run", "--", "/bin/true"]).expect_error(NOTHING, &[line, "/bin/true is not a Go program"]);
    let ended = run(&["run", "--", "/bin/false"]);
    assert_eq!(ended.status.code(), Some(1), "what the program says comes first: {ended:?}");
}

#[test]
fn a_thread_is_not_a_process() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let threads = fs::read_dir(format!("/proc/{}/task", fixture.pid())).unwrap();
    let ids = threads.map(|thread| thread.unwrap().file_name().into_string().unwrap());
    let thread = ids.into_iter().find(|id| *id != fixture.pid().to_string()).expect("Go has several threads");
    run(&["trace", "--pid", &thread, "--for", "1s"])
        .expect_error(NOTHING, &["is a thread", &format!("--pid {}", fixture.pid())]);
}

/// A copy of a Go binary with other bytes in its build info.
fn rebuilt(name: &str, build: Build, from: &[u8], to: &[u8]) -> (tempfile::TempDir, PathBuf) {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(fixture("tiny", build)).unwrap();
    let find =
        |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what).unwrap();
    let info = find(&bytes, MAGIC);
    let at = info + find(&bytes[info..], from);
    bytes[at..at + to.len()].copy_from_slice(to);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, path)
}

const OLD: Build = Build {
    toolchain: Some(OLDEST),
    stripped: false,
    pie: false,
    unoptimised: false,
    experiment: "",
    way: Way::Usual,
};

#[test]
fn built_with_a_go_that_is_too_old() {
    need_root();
    let (_directory, path) = rebuilt("old", OLD, b"go1.18.10", b"go1.17.10");
    refused(&path, &["go1.17.10", "Go 1.18 or newer"]);
}

#[test]
fn a_version_that_makes_no_sense_is_shown_escaped() {
    need_root();
    let (_directory, path) = rebuilt("strange", OLD, b"go1.18.10", b"\x1b[31mred!");
    refused(&path, &["Go version", "\\u{1b}"]);
}

#[test]
fn without_any_version() {
    need_root();
    let (_directory, path) = rebuilt("bare", OLD, b"Go buildinf:", b"No buildinf:");
    let mut bytes = fs::read(&path).unwrap();
    while let Some(at) = bytes.windows(9).position(|text| text == b"go1.18.10") {
        bytes[at] = b'G';
    }
    fs::write(&path, bytes).unwrap();
    refused(&path, &["build info was removed"]);
}

/// The version in the build info decides about the layout of a stripped binary. Here it is the wrong version.
#[test]
fn a_layout_that_does_not_fit_is_refused() {
    need_root();
    let stripped = Build { toolchain: Some(NEWEST), stripped: true, ..Build::default() };
    let (_directory, path) = rebuilt("liar", stripped, b"go1.27.3", b"go1.20.3");
    refused(&path, &["layout does not match"]);
    let fixture = ready(&path, &[]);
    let pid = fixture.pid().to_string();
    run(&["trace", "--pid", &pid, "--for", "1s"]).expect_error(NOTHING, &["layout does not match"]);
}

/// For a program of a Go that nobody knows yet, the memory of the process decides whether the newest layout fits.
#[test]
fn newer_than_golife_knows() {
    need_root();
    let stripped = Build { toolchain: Some(NEWEST), stripped: true, ..Build::default() };
    let (_directory, path) = rebuilt("newer", stripped, b"go1.27.3", b"go1.99.0");
    let mut fixture = ready(&path, &[]);
    let pid = fixture.pid().to_string();
    let golife = attach(&["trace", "--format", "json", "--pid", &pid]);
    fixture.write("go");
    let truth = truth("tiny", &fixture.line());
    let ended = stop(golife);
    assert!(ended.stderr.contains("go1.99.0 is newer than this golife knows"), "{ended:?}");
    assert_eq!(reported("tiny", only_process(&ended.report())), truth);
    // This program is from the oldest Go, which the newest layout does not fit.
    let stripped = Build { toolchain: Some(OLDEST), stripped: true, ..Build::default() };
    let (_directory, path) = rebuilt("stranger", stripped, b"go1.18.10", b"go1.99.10");
    let fixture = ready(&path, &[]);
    let pid = fixture.pid().to_string();
    run(&["trace", "--pid", &pid, "--for", "1s"]).expect_error(NOTHING, &["layout"]);
}

/// UPX leaves a loader of two segments, its mark after their headers, no section, and packed bytes.
#[test]
fn packed_by_upx() {
    need_root();
    let (_directory, path) = broken("packed", |file| {
        let mut bytes = vec![0u8; 64 * 1024];
        bytes[..64].copy_from_slice(&fs::read("/proc/self/exe").unwrap()[..64]);
        bytes[16] = 2; // ET_EXEC
        bytes[24..32].copy_from_slice(&0x40_1000u64.to_le_bytes()); // e_entry
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes()); // e_phoff
        bytes[40..48].fill(0); // e_shoff
        bytes[56..64].copy_from_slice(&[2, 0, 64, 0, 0, 0, 0, 0]); // e_phnum; no sections
        for (at, flags, address) in [(64, 5u32, 0x40_0000u64), (120, 6, 0x80_0000)] {
            bytes[at..at + 4].copy_from_slice(&1u32.to_le_bytes()); // PT_LOAD
            bytes[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            bytes[at + 16..at + 24].copy_from_slice(&address.to_le_bytes());
            let size = if flags & 1 == 1 { bytes.len() as u64 } else { 0 };
            for field in [32, 40] {
                bytes[at + field..at + field + 8].copy_from_slice(&size.to_le_bytes());
            }
        }
        bytes[180..184].copy_from_slice(b"UPX!");
        file.set_len(0).unwrap();
        file.write_all(&bytes).unwrap();
    });
    refused(&path, &["unsupported, because", "UPX", "upx -d"]);
}

/// Binaries as garble writes them have no Go version, or a function table that does not begin like one.
#[test]
fn obfuscated() {
    need_root();
    let (_directory, path) = rebuilt("nameless", OLD, b"\x09go1.18.10", b"\x07unknown\0\0");
    refused(&path, &["unsupported, because", "obfuscated", "garble"]);
    let (_directory, path) = rebuilt("scrambled", OLD, b"Go buildinf:", b"No buildinf:");
    let mut bytes = fs::read(&path).unwrap();
    let quantum = if cfg!(target_arch = "aarch64") { 4 } else { 1 };
    let header = [0xf0, 0xff, 0xff, 0xff, 0, 0, quantum, 8]; // abi.Go118PCLnTabMagic, instruction and pointer size
    while let Some(at) = bytes.windows(8).position(|word| word == header) {
        bytes[at] = 0x17;
        bytes[at + 1] = 0x42;
    }
    fs::write(&path, bytes).unwrap();
    refused(&path, &["unsupported, because", "obfuscated", "garble"]);
}

/// Some programs are released without build info. The runtime has its version in a variable as well.
#[test]
fn build_info_that_was_removed() {
    need_root();
    for build in [OLD, Build { stripped: true, pie: true, ..Build::default() }] {
        let (_directory, path) = rebuilt("anonymous", build, b"Go buildinf:", b"No buildinf:");
        let mut fixture = ready(&path, &[]);
        let golife = attach(&["trace", "--format", "json", "--pid", &fixture.pid().to_string()]);
        fixture.write("go");
        let truth = truth("tiny", &fixture.line());
        let report = interrupt(golife);
        let process = only_process(&report);
        assert_eq!(reported("tiny", process), truth);
        assert!(process["go"]["version"].as_str().unwrap().starts_with("go1."), "{process:#}");
    }
}

#[test]
fn headers_that_lie() {
    need_root();
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    // These are the offsets of e_phoff, and of p_offset and p_filesz of the first segments.
    for at in [32, 64 + 8, 64 + 32, 64 + 56 + 8, 64 + 56 + 32] {
        let (_directory, path) = broken("lying", |file| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&huge).unwrap();
        });
        let ended = run(&["trace", "--exe", path.to_str().unwrap(), "--for", "100ms"]);
        // golife does not need all segments, so it may succeed.
        assert!(matches!(ended.status.code(), Some(0 | NOTHING)), "byte {at}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "byte {at}: {ended:?}");
    }
}

#[test]
fn a_process_that_ends_while_golife_attaches() {
    need_root();
    // Whenever the process ends, there must be a clear error or a report, and never a panic or a hang.
    for wait in [0, 2, 5, 10, 20, 40] {
        let mut fixture = ready(&fixture("tiny", Build::default()), &[]);
        let pid = fixture.pid().to_string();
        let golife = Running::start(golife().args(["trace", "--pid", &pid, "--for", "2s"]));
        std::thread::sleep(std::time::Duration::from_millis(wait));
        fixture.close_stdin();
        fixture.wait();
        let ended = golife.wait();
        assert!(matches!(ended.status.code(), Some(0 | NOTHING)), "after {wait} ms: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "after {wait} ms: {ended:?}");
    }
}

#[test]
fn a_saved_report_that_is_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "{\"schema\": 7").unwrap();
    let path = file.path().to_str().unwrap();
    run(&["hist", path]).expect_error(FAILED, &[path]);
    run(&["hist", "/no/such/report"]).expect_error(FAILED, &["/no/such/report", "no such file"]);
}

/// The less memory golife may have, the earlier it ends, but never by a signal.
#[test]
fn without_memory_golife_says_so() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    let mut said = 0;
    // With less, the loader has no room for the program itself.
    for kilobytes in (120_000..400_000).step_by(40_000) {
        let limited = format!("ulimit -v {kilobytes}; exec \"$0\" trace --for 20ms --pid {pid}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_golife")]);
        let output = shell.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some(), "{kilobytes} kB: {:?} {stderr}", output.status);
        if stderr.contains("golife: out of memory: ") {
            assert_eq!(output.status.code(), Some(FAILED), "{stderr}");
            assert!(stderr.contains("raise the limit"), "{stderr}");
            said += 1;
        }
    }
    assert!(said > 0, "it had enough each time");
}
