//! `golife doctor`: what this machine offers, line by line, and what to do about what it lacks.

use std::{fs, io::Write, path::Path};

use anstyle::{AnsiColor, Style};
use aya::{maps::MapType, sys::is_map_supported};
use caps::Capability;
use serde::Serialize;

use crate::host::capabilities::Need;
use crate::host::kernel::NoTracefs;
use crate::host::{capabilities, kernel, process};
use crate::probes::ring::RingKind;
use crate::probes::selftest;

/// The oldest kernel that golife is made for.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Name and version of the JSON document.
const SCHEMA: &str = "golife.doctor/1";

/// What was found about the machine: the document of `--format json`.
#[derive(Serialize)]
pub(super) struct Findings {
    schema: &'static str,
    /// Whether golife can trace here, which the self-test has tried.
    pub(super) works: bool,
    checks: Vec<Check>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    /// Works, with a limit.
    Limited,
    Bad,
}

/// One line of the report.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What to do, where something is to be done.
    remedy: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, state: State::Good, found: found.into(), remedy: None }
    }

    fn limited(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, state: State::Limited, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn bad(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, state: State::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Checks the machine.
pub(super) fn run() -> Findings {
    let mut checks = vec![kernel_version()];
    checks.extend(FEATURES.iter().map(feature));
    checks.extend([btf(), tracefs(), uprobes(), ring_buffer(), jit(), lockdown()]);
    checks.extend(capabilities::that_matter().map(capability));
    checks.extend([paranoid(), ptrace_scope(), pid_namespace()]);
    let self_test = self_test();
    let works = self_test.state != State::Bad;
    checks.push(self_test);
    Findings { schema: SCHEMA, works, checks }
}

/// Writes a line for each finding, and what follows from them.
pub(super) fn write(findings: &Findings, out: &mut dyn Write) -> std::io::Result<()> {
    for check in &findings.checks {
        let (mark, color) = match check.state {
            State::Good => ("ok  ", AnsiColor::Green),
            State::Limited => ("note", AnsiColor::Yellow),
            State::Bad => ("FAIL", AnsiColor::Red),
        };
        let style = Style::new().fg_color(Some(color.into()));
        writeln!(out, "{style}{mark}{style:#}  {:<24} {}", check.name, check.found)?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "      {:<24} → {remedy}", "")?;
        }
    }
    let verdict = match findings.works {
        true => "golife can trace on this machine",
        false => {
            "golife cannot trace on this machine yet; golife run looks at what it starts instead, without probes (--mode scanned)"
        }
    };
    writeln!(out, "\n{verdict}")
}

fn kernel_version() -> Check {
    const NAME: &str = "kernel";
    let release = read("/proc/sys/kernel/osrelease");
    let found = format!("Linux {release}");
    if kernel::running() < OLDEST_KERNEL {
        Check::bad(NAME, found, "golife needs Linux 5.10 or newer")
    } else {
        Check::good(NAME, found)
    }
}

/// Something that kernels have from a release on, and that golife does without on older ones.
struct Feature {
    name: &'static str,
    since: (u32, u32),
    /// What golife does on other CPU architectures than x86-64, where no kernel has it; `None` if all have.
    elsewhere: Option<&'static str>,
    /// What golife does with it.
    with: &'static str,
    /// What golife does instead, and what that means for its user.
    without: &'static str,
}

const FEATURES: [Feature; 3] = [
    Feature {
        name: "rings without a lock",
        since: kernel::RINGS_SINCE,
        elsewhere: None,
        with: "each CPU has its own: see the self-test for whether they work",
        without: "golife uses one with a lock for all CPUs instead: on many, each hit waits for others",
    },
    Feature {
        name: "uprobe-multi links",
        since: kernel::MULTI_SINCE,
        elsewhere: None,
        with: "all probes of a binary come and go at once",
        without: "golife places each probe by itself instead: they take about 0.1 s to come off",
    },
    Feature {
        name: "calls as probes",
        since: (6, 18),
        elsewhere: Some("not on this CPU architecture: every probe is a trap"),
        with: "on five-byte nops; all other probes are traps",
        without: "every probe is a trap instead: some cost their target a third more",
    },
];

fn feature(feature: &Feature) -> Check {
    let Feature { name, since, elsewhere, with, without } = *feature;
    if let Some(elsewhere) = elsewhere.filter(|_| !cfg!(target_arch = "x86_64")) {
        Check::good(name, elsewhere)
    } else if kernel::running() >= since {
        Check::good(name, with)
    } else {
        Check::limited(
            name,
            format!("none that golife can use before Linux {}.{}", since.0, since.1),
            without,
        )
    }
}

fn btf() -> Check {
    const NAME: &str = "BTF";
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Check::good(NAME, "the kernel describes its types")
    } else {
        Check::limited(
            NAME,
            "absent: golife does not need it",
            "CONFIG_DEBUG_INFO_BTF=y gives clearer verifier messages",
        )
    }
}

fn tracefs() -> Check {
    const NAME: &str = "tracefs";
    match kernel::tracefs() {
        Ok(root) => Check::good(NAME, root),
        Err(NoTracefs { found, remedy }) => {
            Check::limited(NAME, format!("{found}: golife run cannot follow forks"), remedy)
        }
    }
}

fn uprobes() -> Check {
    const NAME: &str = "uprobes";
    if Path::new(kernel::UPROBES).exists() {
        Check::good(NAME, "the kernel has them")
    } else {
        Check::bad(NAME, "the kernel has none", "use a kernel with CONFIG_UPROBE_EVENTS=y")
    }
}

fn ring_buffer() -> Check {
    const NAME: &str = "BPF ring buffer";
    match is_map_supported(MapType::RingBuf) {
        Ok(true) => Check::good(NAME, "the kernel has it"),
        Ok(false) => Check::bad(NAME, "the kernel has none", "golife needs Linux 5.10 or newer"),
        Err(_) => Check::limited(NAME, "this user may not ask", "run golife doctor as root"),
    }
}

fn jit() -> Check {
    const NAME: &str = "BPF JIT";
    match read("/proc/sys/net/core/bpf_jit_enable").as_str() {
        "0" => Check::limited(
            NAME,
            "off: each hit costs the target several times as much",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        "" => Check::limited(NAME, "cannot be read by this user", "run golife doctor as root"),
        _ => Check::good(NAME, "on"),
    }
}

fn lockdown() -> Check {
    const NAME: &str = "lockdown";
    let text = read("/sys/kernel/security/lockdown");
    let mode = text.split(['[', ']']).nth(1).unwrap_or("none");
    if mode == "confidentiality" {
        Check::bad(
            NAME,
            mode,
            "kernel lockdown in confidentiality mode forbids BPF from reading memory: boot with lockdown=integrity",
        )
    } else {
        Check::good(NAME, mode)
    }
}

fn paranoid() -> Check {
    const NAME: &str = "perf_event_paranoid";
    let value = read("/proc/sys/kernel/perf_event_paranoid");
    let level: i32 = value.parse().unwrap_or(2);
    let privileged = capabilities::has(Capability::CAP_PERFMON);
    if privileged || level < 0 {
        Check::good(NAME, format!("{value}: does not matter with these capabilities"))
    } else {
        Check::bad(
            NAME,
            format!("{value}: this user may not place probes"),
            "run as root or grant CAP_PERFMON",
        )
    }
}

fn capability(&Need { capability, name, purpose }: &Need) -> Check {
    if capabilities::has(capability) {
        Check::good(name, purpose)
    } else if capabilities::is_needed(capability) {
        Check::bad(name, format!("missing: cannot {purpose}"), format!("run as root or grant {name}"))
    } else {
        Check::limited(name, format!("missing: cannot {purpose}"), "only needed where that matters")
    }
}

fn ptrace_scope() -> Check {
    const NAME: &str = "ptrace_scope";
    let (scope, remedy) =
        (capabilities::ptrace_scope(), "sysctl kernel.yama.ptrace_scope=1, or grant CAP_SYS_PTRACE");
    match scope {
        0 => Check::good(NAME, "the same user's processes may be looked at"),
        1 if capabilities::lacks_ptrace() => Check::limited(
            NAME,
            "1: of processes without probes, only what golife run starts may be looked at",
            "sysctl kernel.yama.ptrace_scope=0, or grant CAP_SYS_PTRACE",
        ),
        2 if capabilities::lacks_ptrace() => Check::bad(NAME, "2: no process may be looked at", remedy),
        1 | 2 => Check::good(NAME, format!("{scope}: does not matter with CAP_SYS_PTRACE")),
        _ => Check::bad(
            NAME,
            format!("{scope}: nobody may look at a process"),
            "start the machine without that setting",
        ),
    }
}

fn pid_namespace() -> Check {
    const NAME: &str = "pid namespace";
    match process::sees_host_ids() {
        true => Check::good(NAME, "the host's"),
        false => Check::bad(
            NAME,
            "another than the host's: golife takes processes for others",
            "run it on the host, or as docker run --pid=host and hostPID: true do; golife dump and sweep work here",
        ),
    }
}

fn self_test() -> Check {
    const NAME: &str = "self-test";
    if !process::sees_host_ids() {
        return Check::bad(NAME, "not tried", "mend what fails above, then run golife doctor again");
    }
    match selftest::run() {
        Ok(outcome) => {
            let found = format!(
                "{} of {} hits arrived {}; a hit costs the target {:.2} µs",
                outcome.hits,
                outcome.hits,
                match outcome.ring {
                    RingKind::PerCpu => "in rings of single CPUs",
                    RingKind::Shared => "in one ring for all CPUs",
                },
                outcome.ns_per_hit / 1e3
            );
            if outcome.ring == RingKind::Shared && kernel::running() >= kernel::RINGS_SINCE {
                Check::limited(NAME, found, "this kernel refuses programs that share a ring without a lock")
            } else {
                Check::good(NAME, found)
            }
        }
        Err(error) => {
            Check::bad(NAME, error.to_string(), "mend what fails above, then run golife doctor again")
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}
