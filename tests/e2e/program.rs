//! Checks golife as a program: formats, verdicts, exit codes, signals, and what `run` passes through.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;

use crate::support::*;
use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::Value;

#[test]
fn leaks_names_the_line_and_fail_on_ends_with_3() {
    need_root();
    let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", "20", "-for", "20s"]);
    fixture.write("go");
    let pid = fixture.pid().to_string();
    let patterns = tempfile::NamedTempFile::new().unwrap();
    let text = r"[[pattern]]
        function = '^main\.main\.func'
        waits = 'chan receive'
        cause = 'other'
        advice = 'ask the team about {place}'
        close = 'Hub.End'";
    std::fs::write(patterns.path(), text).unwrap();
    let (fail_on, file) = (["--fail-on", "suspect"], patterns.path().to_str().unwrap());
    let common = ["leaks", "--format", "json", "--for", "8s", "--pid", &pid, "--patterns", file];
    let ended = run(&[&common[..], &fail_on].concat());
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let report = ended.report();
    let finding = &only_process(&report)["findings"][0];
    let advice = format!(
        "ask the team about main.go:{}; call Hub.End once it is done with",
        line_of("leaky", "leak") + 1
    );
    assert_eq!((&finding["cause"], &finding["advice"]), (&"other".into(), &advice.into()), "{report:#}");
    assert_eq!(report["summary"]["findings"]["suspect"], 1);
    let found = |report: &Value, site: &str| {
        let line = line_of("leaky", site);
        let sites = only_process(report)["sites"].as_array().unwrap();
        let is_it = |site: &&Value| site["site"]["line"] == line && site["site"]["function"] == "main.main";
        sites.iter().find(is_it).cloned()
    };
    let level =
        |site: &str| found(&report, site).map(|site| site["verdict"]["level"].as_str().unwrap().to_owned());
    assert_eq!(level("leak").as_deref(), Some("suspect"), "{report:#}");
    let swept = run(&["sweep", "--format", "json", "--pid", &pid]).report();
    for (site, ordinal) in [("pool", 1), ("leak", 2)] {
        assert_eq!(found(&swept, site).unwrap()["ordinal"], ordinal, "{swept:#}");
    }
    assert_eq!(found(&report, "healthy").unwrap()["ordinal"], 3, "{report:#}");
    for healthy in ["healthy", "pool"] {
        let level = level(healthy);
        assert!(!matches!(level.as_deref(), Some("suspect" | "proven")), "{healthy} is {level:?}");
    }
}

#[test]
fn ignored_sites_stay_in_the_report_and_are_no_findings() {
    need_root();
    let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", "20", "-for", "40s"]);
    fixture.write("go");
    let pid = fixture.pid().to_string();
    let line = line_of("leaky", "leak");
    let site = format!("leaky/main.go:{line}$");
    let common = ["--pid", &pid, "--fail-on", "watch", "--ignore", &site];
    let json = ["leaks", "--format", "json", "--for", "8s", "--ignore", "no such function", "--strict"];
    let ended = run(&[&json[..], &common].concat());
    let report = ended.report();
    assert_eq!(ended.status.code(), Some(0), "{report:#}");
    assert!(ended.stderr.contains("note: no site matches --ignore 'no such function'\n"), "{ended:?}");
    let last = only_process(&report)["sites"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["site"]["line"], &last["ignored"]), (&line.into(), &true.into()), "{report:#}");
    assert_eq!(last["verdict"]["level"], "suspect", "{last:#}");
    assert_eq!(only_process(&report)["findings"], serde_json::json!([]));
    let ignored =
        serde_json::json!([{"pattern": "no such function", "sites": 0}, {"pattern": site, "sites": 1}]);
    assert_eq!((&report["ignored"], &report["summary"]["ignored"]), (&ignored, &1.into()));

    let said = "\n1 site is silenced by --ignore\n";
    let trace = run(&[&["trace", "--for", "1s"], &common[..]].concat());
    assert!(trace.stdout.ends_with(said) && trace.stdout.contains("  ignored\n"), "{trace:?}");
    let twice = ["sweep", "--twice", "1s"];
    let sweep = run(&[&twice, &common[..]].concat());
    assert_eq!(sweep.status.code(), Some(0), "{sweep:?}");
    assert!(sweep.stdout.ends_with(said) && sweep.stdout.contains("watch, but ignored"), "{sweep:?}");
    assert_eq!(run(&[&twice, &common[..4]].concat()).status.code(), Some(3), "it is watched");
    run(&["leaks", "--pid", &pid, "--ignore", "("]).expect_error(2, &["--ignore", "regex parse error"]);
}

#[test]
fn until_ends_when_enough_is_known() {
    need_root();
    let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", "20", "-for", "50s"]);
    fixture.write("go");
    let pid = fixture.pid().to_string();
    let report =
        run(&["leaks", "--format", "json", "--for", "50s", "--until", "suspect", "--pid", &pid]).report();
    assert_eq!(report["summary"]["suspect"], 1, "{report:#}");
    let duration = report["window"]["duration_ns"].as_u64().unwrap();
    assert!(duration < 40_000_000_000, "{duration} ns");
}

#[test]
fn doctor_is_also_a_document() {
    need_root();
    let ended = run(&["doctor", "--format", "json"]);
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&found["schema"], &found["works"]), (&"golife.doctor/1".into(), &true.into()), "{found:#}");
    let kernel = found["checks"].as_array().unwrap().iter().find(|check| check["name"] == "kernel").unwrap();
    assert_eq!(kernel["state"], "good", "{kernel}");
}

#[test]
fn a_locale_without_utf_8_gets_ascii() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let mut golife = golife();
    golife.args(["trace", "--for", "300ms", "--pid", &fixture.pid().to_string()]).env("LC_ALL", "C");
    let ended = Running::start(&mut golife).wait();
    assert!(ended.stdout.contains(">= ") && ended.stdout.is_ascii() && ended.stderr.is_ascii(), "{ended:?}");
}

#[test]
fn nothing_to_fail_on_ends_with_0() {
    need_root();
    let mut fixture = ready(&fixture("tiny", Build::default()), &[]);
    fixture.write("go");
    fixture.line();
    let pid = fixture.pid().to_string();
    let ended = run(&["leaks", "--for", "1s", "--fail-on", "suspect", "--pid", &pid]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    // Its goroutine waits in a select without cases, which is worth a look but no leak.
    assert!(ended.stdout.contains("watch 1") && !ended.stdout.contains("suspect"), "{ended:?}");
}

#[test]
fn a_stopped_process_is_no_good_news() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    fixture.signal(Signal::SIGSTOP);
    let pid = fixture.pid().to_string();
    let ended = run(&["leaks", "--for", "300ms", "--pid", &pid]);
    assert!(ended.stderr.contains(&format!("process {pid} is stopped")), "{ended:?}");
    assert!(ended.stdout.contains(&format!("process {pid} is stopped")), "{ended:?}");
    assert!(!ended.stdout.contains("no leak found"), "{ended:?}");
}

#[test]
fn undecided_is_said_and_fails_only_if_strict() {
    need_root();
    let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", "2", "-for", "20s"]);
    fixture.write("go");
    let pid = fixture.pid().to_string();
    let short = ["leaks", "--for", "2s", "--fail-on", "suspect", "--pid", &pid];
    let ended = run(&short);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("cannot tell yet") && !ended.stdout.contains("no leak"), "{ended:?}");
    assert!(ended.stderr.contains("--fail-on suspect is undecided"), "{ended:?}");
    let strict = run(&[&short[..], &["--strict"]].concat());
    assert_eq!(strict.status.code(), Some(3), "{strict:?}");
}

#[test]
fn for_ends_by_itself_with_a_report_of_that_length() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let ended = run(&["trace", "--format", "json", "--for", "1s", "--pid", &fixture.pid().to_string()]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let duration = ended.report()["window"]["duration_ns"].as_u64().unwrap();
    assert!((1_000_000_000..3_000_000_000).contains(&duration), "{duration} ns");
}

#[test]
fn the_cost_is_compared_with_what_the_target_used() {
    need_root();
    let mut fixture = ready(&fixture("burst", Build::default()), &["-n", "50000"]);
    let golife = attach(&["trace", "--format", "json", "--pid", &fixture.pid().to_string()]);
    fixture.write("go");
    fixture.line();
    let report = interrupt(golife);
    let used = report["overhead"]["targets_used_cpu_ns"].as_u64().unwrap();
    // Each goroutine has two traps of more than 0.2 µs each, and four threads have 60 s at most.
    assert!((20_000_000..240_000_000_000).contains(&used), "{used} ns");
    let binary = crate::support::fixture("burst", Build::default());
    let ended = run(&["run", "--format", "json", "--", binary.to_str().unwrap(), "-now", "-n", "50000"]);
    let begin = ended.stderr.find('{').unwrap_or_else(|| panic!("no report: {ended:?}"));
    let report: Value = serde_json::from_str(&ended.stderr[begin..]).unwrap();
    let used = report["overhead"]["targets_used_cpu_ns"].as_u64().unwrap();
    assert!((20_000_000..240_000_000_000).contains(&used), "{used} ns of a program that has ended");
}

#[test]
fn run_says_what_it_traces() {
    need_root();
    let binary = fixture("tiny", Build::default());
    let ended = run(&["run", "--", binary.to_str().unwrap(), "-now"]);
    let line = ended.stderr.lines().find(|line| line.starts_with("tracing ")).unwrap();
    let begin = format!("tracing {} from its first instruction (go1.", binary.display());
    assert!(line.starts_with(&begin) && line.ends_with("golife.test/fixtures (devel))"), "{line}");
    // A shell is no Go program, but starts one. It starts a copy, into which no other test puts probes.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("tiny");
    std::fs::copy(&binary, &copy).unwrap();
    let command = format!("{}; true", copy.display());
    let mut golife = Running::start(golife().args(["run", "--format", "json", "--", "sh", "-c", &command]));
    golife.wait_for_error_line("tracing what sh starts (it is no Go program itself)");
    assert_eq!(golife.line(), "ready");
    golife.wait_for_error_line(&format!("tracing {}, too (go1.", copy.display()));
    golife.write("go");
    golife.close_stdin();
    let ended = golife.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains("golife.report/1") && ended.stderr.contains("main.main.func1"),
        "{ended:?}"
    );
}

#[test]
fn jsonl_is_one_report_a_tick() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    let ended = run(&["trace", "--format", "jsonl", "--for", "1s", "--interval", "200ms", "--pid", &pid]);
    let reports: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((4..=7).contains(&reports.len()), "{} reports in 1 s", reports.len());
    assert!(reports.iter().all(|report| report["schema"] == "golife.report/1"));
}

/// Ends as programs do in a pipe whose reader has seen enough, whether there was something to write just then or not.
#[test]
fn it_ends_when_its_reader_is_gone() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    for (format, lines) in [("jsonl", 1), ("text", 0)] {
        let mut golife = golife();
        golife.args(["trace", "--format", format, "--for", "1h", "--pid", &pid]);
        let mut golife = golife.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(golife.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().starts_with("tracing ")));
        let read = BufReader::new(golife.stdout.take().unwrap()).lines().take(lines).count();
        assert_eq!(read, lines);
        let mut status = None;
        eventually("it ends", || {
            status = golife.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().signal(), Some(Signal::SIGPIPE as i32), "{format}");
        assert!(said.next().is_none(), "{format}: it says nothing");
        assert_eq!(patched_bytes(fixture.pid()), 0);
    }
}

/// What a closed terminal ends with is a report in the file, though nobody can read what else is said.
#[test]
fn a_closed_terminal_leaves_the_report() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    // A terminal is closed when nobody holds its other side any more: neither golife nor what other tests start.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let terminal = posix_openpt(flags).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let slave = open(ptsname_r(&terminal).unwrap().as_str(), flags, Mode::empty()).unwrap();
    let side = || Stdio::from(slave.try_clone().unwrap());
    let mut golife = golife();
    golife.args([
        "trace",
        "--format",
        "json",
        "--for",
        "1h",
        "--pid",
        &fixture.pid().to_string(),
        "--output",
    ]);
    golife.arg(&path).stdin(side()).stdout(side()).stderr(side());
    let lead = || {
        nix::unistd::setsid()?;
        // SAFETY: the request takes a number and no pointer.
        nix::errno::Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls.
    let mut golife = unsafe { golife.pre_exec(lead) }.spawn().unwrap();
    let mut lines = BufReader::new(terminal).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("tracing ")));
    drop((lines, slave));
    let mut status = None;
    eventually("it ends", || {
        status = golife.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(only_process(&report)["pid"], fixture.pid());
}

#[test]
fn run_says_that_its_program_runs_on() {
    need_root();
    let binary = fixture("tiny", Build::default());
    let mut golife = Running::start(golife().args(["run", "--for", "200ms", "--"]).arg(&binary));
    assert_eq!(golife.line(), "ready");
    let line = golife.wait_for_error_line(&format!("note: {} runs on", binary.display()));
    let (_, end) = line.split_once("kill ").unwrap_or_else(|| panic!("{line}"));
    let pid = Pid::from_raw(end.split(' ').next().unwrap().parse().unwrap());
    kill(pid, None).expect("it does run on");
    kill(pid, Signal::SIGKILL).unwrap();
    assert_eq!(golife.wait().status.code(), Some(0));
}

#[test]
fn output_goes_to_the_file() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let (path, pid) = (file.path().to_str().unwrap(), fixture.pid().to_string());
    let ended = run(&["trace", "--format", "json", "--for", "300ms", "--output", path, "--pid", &pid]);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(only_process(&report)["pid"], fixture.pid());
}

#[test]
fn system_goroutines_are_shown_when_asked_for() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    let entries = |more: &[&str]| {
        let mut args = vec!["run", "--format", "json"];
        args.extend(more);
        let binary = crate::support::fixture("tiny", Build::default());
        args.extend(["--", binary.to_str().unwrap(), "-now"]);
        let ended = run(&args);
        ended.stderr + &ended.stdout
    };
    assert!(entries(&["--include-system"]).contains("runtime.bgsweep"), "process {pid}");
    assert!(!entries(&[]).contains("runtime.bgsweep"));
}

#[test]
fn run_passes_output_input_and_exit_code_through() {
    need_root();
    let report = tempfile::NamedTempFile::new().unwrap();
    let binary = fixture("tiny", Build::default());
    let mut golife = Running::start(
        golife().args(["run", "--output"]).arg(report.path()).arg("--").arg(binary).args(["-code", "7"]),
    );
    assert_eq!(golife.line(), "ready", "the child's output");
    golife.write("go");
    assert!(golife.line().starts_with('{'), "the child got its input");
    golife.close_stdin();
    // At the end of its input, tiny ends with 0. It ends with its code only after work that -now begins.
    assert_eq!(golife.wait().status.code(), Some(0));

    let binary = fixture("tiny", Build::default());
    let path = report.path().to_str().unwrap();
    let ended = run(&["run", "--output", path, "--", binary.to_str().unwrap(), "-now", "-code", "7"]);
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
}

#[test]
fn run_passes_signals_through() {
    need_root();
    let report = tempfile::NamedTempFile::new().unwrap();
    let binary = fixture("tiny", Build::default());
    let mut golife =
        Running::start(golife().args(["run", "--output"]).arg(report.path()).arg("--").arg(binary));
    assert_eq!(golife.line(), "ready");
    golife.signal(Signal::SIGTERM);
    let ended = golife.wait();
    // Go programs die of SIGTERM, for which a shell has the exit code 128 + 15.
    assert_eq!(ended.status.code(), Some(143), "{ended:?}");
    assert!(!std::fs::read(report.path()).unwrap().is_empty(), "the report was written all the same");
}

#[test]
fn run_writes_its_report_to_standard_error_by_default() {
    need_root();
    let binary = fixture("tiny", Build::default());
    let ended = run(&["run", "--format", "json", "--", binary.to_str().unwrap(), "-now"]);
    assert!(ended.stderr.contains("golife.report/1"), "{ended:?}");
    assert!(!ended.stdout.contains("golife.report/1"), "{ended:?}");
}

#[test]
fn hist_draws_from_saved_reports() {
    need_root();
    let file = tempfile::NamedTempFile::new().unwrap();
    let (binary, path) = (fixture("counts", Build::default()), file.path().to_str().unwrap());
    let ended = run(&[
        "run",
        "--format",
        "json",
        "--output",
        path,
        "--",
        binary.to_str().unwrap(),
        "-now",
        "-n",
        "40",
    ]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let once = run(&["hist", path]);
    assert_eq!(once.status.code(), Some(0), "{once:?}");
    let place = format!("main.go:{}", line_of("counts", "end"));
    assert!(once.stdout.contains(&place) && once.stdout.contains("p99"), "{place} in {once:?}");
    let twice = run(&["hist", path, path, "--scale", "2x"]);
    assert_eq!(twice.status.code(), Some(0), "{twice:?}");
    assert!(twice.stderr.contains("is the same report as"), "{twice:?}");
    assert!(twice.stdout.starts_with(&once.stdout[..once.stdout.find('\n').unwrap()]), "{twice:?}");
    let document = run(&["hist", path, "--scale", "2x", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&document.stdout).unwrap();
    assert_eq!((&document["schema"], &document["scale"]), (&"golife.hist/1".into(), &2.0.into()));
    let site = &document["sites"].as_array().unwrap().iter().find(|site| site["created"] == 40).unwrap();
    let rate = &site["little"]["rate_per_s"];
    assert!(rate["low"].as_f64() < rate["value"].as_f64() && rate["value"].as_f64() < rate["high"].as_f64());
    let end = site["survival"].as_array().unwrap().last().unwrap();
    assert!(end["low"].as_f64() <= end["fraction"].as_f64(), "{end}");
}

#[test]
fn doctor_is_content_with_a_machine_that_runs_these_tests() {
    need_root();
    let ended = run(&["doctor"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    for word in ["kernel", "BTF", "tracefs", "uprobe", "ring buffer", "CAP_BPF", "CAP_PERFMON", "self-test"] {
        assert!(ended.stdout.to_lowercase().contains(&word.to_lowercase()), "`{word}` in {}", ended.stdout);
    }
}

/// Features that a kernel lacks are named, with what golife does instead.
#[test]
fn doctor_names_what_golife_does_without() {
    need_root();
    let running = golife::host::kernel::running();
    // golife can only pretend an older kernel than this one.
    let older = [(5, 10), (6, 1), (6, 12)].into_iter().filter(|kernel| *kernel < running);
    for kernel in older.chain([running]) {
        let mut doctor = golife();
        doctor.arg("doctor").env("GOLIFE_KERNEL", format!("{}.{}", kernel.0, kernel.1));
        let ended = Running::start(&mut doctor).wait();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        for (feature, since, instead) in [
            ("rings without a lock", (5, 12), "one with a lock for all CPUs"),
            ("uprobe-multi links", (6, 10), "each probe by itself"),
            ("calls as probes", (6, 18), "every probe is a trap"),
        ] {
            let mut lines = ended.stdout.lines().skip_while(|line| !line.contains(feature));
            let (line, next) = (lines.next().unwrap(), lines.next().unwrap());
            // Other architectures than x86-64 have no calls as probes on any kernel.
            let lacks = kernel < since && (cfg!(target_arch = "x86_64") || since != (6, 18));
            assert_eq!(line.starts_with("note"), lacks, "{kernel:?}: {line}");
            assert_eq!(next.contains(instead), lacks, "{kernel:?}: {next}");
        }
        // Between these two it is the CPU architecture that decides.
        let has_rings = ended.stdout.contains("in rings of single CPUs");
        assert!(has_rings || kernel < (6, 1), "{kernel:?}: {}", ended.stdout);
        assert!(!has_rings || kernel >= (5, 12), "{kernel:?}: {}", ended.stdout);
    }
}

#[test]
fn completions_and_man_page_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["completions", shell]);
        assert!(ended.status.success() && ended.stdout.contains("golife"), "{ended:?}");
    }
    let man = run(&["man"]);
    assert!(man.status.success() && man.stdout.contains(".TH golife"), "{man:?}");
}

/// A shell that asks is told which Go processes there are, with their commands, and nothing of hidden commands.
#[test]
fn completions_know_processes_states_reports_and_programs() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let offered = |words: &[&str]| {
        let mut golife = golife();
        golife.env("COMPLETE", "fish").args(["--", "golife"]).args(words);
        let mut golife = Running::start(&mut golife);
        golife.close_stdin();
        golife.wait().stdout
    };
    let pids = offered(&["leaks", "--pid", ""]);
    let own = pids.lines().find(|line| line.starts_with(&format!("{}\t", fixture.pid())));
    assert!(own.is_some_and(|line| line.ends_with("/tiny")), "{pids}");
    assert!(!pids.lines().any(|line| line.starts_with("1\t")), "{pids}");
    let this = std::process::id();
    assert!(!pids.lines().any(|line| line.starts_with(&format!("{this}\t"))), "a program in Rust: {pids}");
    assert!(offered(&["dump", "--waiting", "chan rec"]).lines().any(|state| state == "chan receive"));
    assert!(offered(&["run", "--", "setpri"]).lines().any(|program| program == "setpriv"));
    let directory = tempfile::tempdir().unwrap();
    for name in ["saved.json", "saved.txt"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    let reports = offered(&["hist", &format!("{}/sa", directory.path().display())]);
    assert!(reports.contains("saved.json") && !reports.contains("saved.txt"), "{reports}");
    let commands = offered(&[""]);
    assert!(commands.contains("leaks") && !commands.contains("selftest"), "{commands}");
}

/// What the README tells people to type must exist.
#[test]
fn commands_in_the_readme_exist() {
    let readme = include_str!("../../README.md");
    let mut commands = 0;
    for line in readme.split("```").skip(1).step_by(2).flat_map(str::lines) {
        let line = line.trim_start_matches("$ ").trim_start_matches("sudo ");
        let Some(command) = line.strip_prefix("golife ").and_then(|rest| rest.split_whitespace().next())
        else {
            continue;
        };
        let ended = run(&[command, "--help"]);
        assert!(ended.status.success(), "`golife {command}` in the README: {ended:?}");
        commands += 1;
    }
    assert!(commands > 0, "the README shows no golife command");
}
